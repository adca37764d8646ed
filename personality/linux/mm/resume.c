/* The memory of a resumed process: what its records tell of is mapped as ever; on that comes what the program had changed, from the image.
 *
 * Large pieces are mapped from the image copy-on-write and so loaded lazily, and shared with whoever else runs from it; small ones are copied,
 * which costs less than the faults. A region with mapped pieces is marked: behind its pages lies the image, so discarding them means mapping
 * it again (host_map_again). */
#include "personality/linux/mm/internal.h"

#define MAPPED_FROM (32ull << 10)
enum { EXTENT_BATCH = 512 };

static int map_records(struct mm *mm, const char **out_what)
{
    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        struct region *region = region_of(node);
        region->flags &= ~(uint32_t)REGION_IMAGE;
        int error = host_map_again(region, region->start, region->end);
        if (error < 0) {
            static char name[256];
            size_t size = region->object && region->object->ops->path ? region->object->ops->path(region->object, name, sizeof name - 1) : 0;
            name[size < sizeof name ? size : sizeof name - 1] = 0;
            *out_what = size ? name : "memory";
            return error;
        }
    }
    return 0;
}

static bool is_arriving(void)
{
    return start_info->flags & BLY_START_ARRIVING;
}

static int read_image(bly_handle image, uint64_t address, uint64_t offset, uint64_t size)
{
    if (is_arriving())
        mm_load_image(offset, size);
    while (size) {
        struct bly_iovec part = {(void *)address, size};
        int64_t got = bly->stream_read(image, &part, 1, offset, 0);
        if (got <= 0)
            return got ? (int)got : -EIO;
        address += (uint64_t)got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return 0;
}

/* A piece of an extent that lies in one region. */
static int load_piece(struct mm *mm, struct region *region, bly_handle image, uint64_t address, uint64_t offset, uint64_t size)
{
    if (region->flags & (REGION_SHARED | REGION_WIPE_ON_FORK))
        return 0;
    if (size >= MAPPED_FROM && !(region->protection & BLY_PROT_EXECUTE)) {
        bool is_absent = is_arriving();
        if (is_absent && !absent_note_image(mm, address, size, offset, region->protection))
            return -ENOMEM;
        int error = bly->stream_map(image, (void *)address, size, is_absent ? 0 : region->protection, BLY_MAP_REPLACE, offset);
        if (error == 0) {
            region->flags |= REGION_IMAGE;
            host_apply_sticky(region, address, address + size);
        }
        return error;
    }
    /* Maps of bulk memory may be inaccessible still. */
    bool writable = (region->protection & BLY_PROT_WRITE) && (region->protection & BLY_PROT_READ) && !region->object;
    int error = writable ? 0 : bly->memory_protect((void *)address, size, BLY_PROT_READ | BLY_PROT_WRITE);
    if (error == 0)
        error = read_image(image, address, offset, size);
    if (error == 0 && !writable)
        error = bly->memory_protect((void *)address, size, region->protection);
    return error;
}

static int load_extent(struct mm *mm, const struct bly_resume_extent *extent)
{
    uint64_t at = extent->address, end = at + extent->size;
    for (struct region *region = mm_find_next(mm, at); region && region->start < end; region = region_next(region)) {
        uint64_t from = region->start > at ? region->start : at, to = region->end < end ? region->end : end;
        int error = load_piece(mm, region, extent->image, from, extent->offset + (from - extent->address), to - from);
        if (error < 0)
            return error;
    }
    return 0; /* what no record tells of had been given up by the program */
}

static int read_list(uint64_t *offset, void *buffer, size_t size)
{
    struct bly_iovec part = {buffer, size};
    int64_t got = bly->stream_read(start_info->extents, &part, 1, *offset, 0);
    if (got != (int64_t)size)
        return got < 0 ? (int)got : got == 0 ? -ENOENT : -EIO;
    *offset += size;
    return 0;
}

static int load_extents(struct mm *mm, uint32_t old_id)
{
    struct bly_resume_space space;
    struct bly_resume_extent *batch;
    uint64_t offset = 0;
    int error;
    while ((error = read_list(&offset, &space, sizeof space)) == 0 && space.process != old_id)
        offset += space.extent_count * sizeof *batch;
    if (error < 0)
        return error == -ENOENT ? 0 : error; /* a process may have no memory of its own */
    if (!(batch = heap_alloc(EXTENT_BATCH * sizeof *batch)))
        return -ENOMEM;
    while (space.extent_count && error == 0) {
        uint64_t count = space.extent_count < EXTENT_BATCH ? space.extent_count : EXTENT_BATCH;
        error = read_list(&offset, batch, count * sizeof *batch);
        for (uint64_t i = 0; i < count && error == 0; i++)
            error = load_extent(mm, &batch[i]);
        space.extent_count -= count;
    }
    heap_free(batch);
    return error;
}

int mm_resume(struct mm *mm, uint32_t old_id, const char **out_what)
{
    if (!mm)
        return 0;
    /* Maps may make further ones, with the mutex held. Whoever had it rests and has it again. */
    struct mutex before = mm->mutex;
    mutex_init(&mm->mutex);
    mutex_acquire(&mm->mutex);
    absent_forget(mm, 0, BLY_GUEST_MAX); /* of a former life */
    int error = mm_own(mm); /* where pages come from is marked in the records */
    if (error < 0)
        *out_what = "memory";
    else
        error = map_records(mm, out_what);
    mutex_release(&mm->mutex);
    mm->mutex = before;
    if (error == 0 && (error = load_extents(mm, old_id)) < 0)
        *out_what = "memory from the image";
    return error;
}
