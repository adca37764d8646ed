/* Maps of absent memory in a resumed process, of the bulk segment (libos/absent.h) or of an image
 * that is still arriving from another machine: inaccessible until they
 * are touched.
 *
 * Such a map is noted beside its region, with the protection that the region has, and stays noted
 * while it exists: a fault in it loads a chunk and makes that part accessible, which may be done
 * again and loses nothing. Whatever else is done to the map but unmapping it is preceded by loading
 * it all (absent_settle). Notes are added and removed with mm->mutex held; a fault may come to
 * whoever holds that or any other mutex, and takes only absent_lock, under which no note goes away
 * and no address gets another meaning. */
#include "personality/linux/mm/internal.h"

#include "libos/absent.h"

/* What is smaller is loaded when it is mapped. */
#define LAZY_FROM BLY_LOAD_UNIT
enum { PAGE_FAULT_WRITE = 2, PAGE_FAULT_FETCH = 16 }; /* in the CPU's error code */

struct absent_map {
    struct absent_map *next; /* in no order */
    uint64_t start, end;
    uint64_t offset; /* of start, in what it is a map of: */
    uint32_t source; /* enum bly_load_source */
    uint32_t protection;
};
struct range {
    uint64_t from, to;
};

static bool overlaps(const struct absent_map *map, uint64_t start, uint64_t end)
{
    return map->start < end && map->end > start;
}

/* A copy of the lowest one that has part in [start, end). */
static bool lookup(struct mm *mm, uint64_t start, uint64_t end, struct absent_map *out_map)
{
    const struct absent_map *lowest = NULL;

    scoped_lock(&mm->absent_lock);
    for (const struct absent_map *map = mm->absent; map; map = map->next)
        if (overlaps(map, start, end) && (!lowest || map->start < lowest->start))
            lowest = map;
    if (lowest)
        *out_map = *lowest;
    return lowest;
}

static void remove(struct mm *mm, const struct absent_map *copy)
{
    struct absent_map *found = NULL;
    {
        scoped_lock(&mm->absent_lock);
        for (struct absent_map **place = &mm->absent; *place; place = &(*place)->next) {
            if ((*place)->start != copy->start || (*place)->end != copy->end)
                continue;
            found = *place;
            *place = found->next;
            break;
        }
    }
    heap_free(found);
}

/* The part of the map in whole chunks that has [start, end), as far as it lies in the map. */
static struct range in_chunks(const struct absent_map *map, uint64_t start, uint64_t end)
{
    uint64_t mask = absent_chunk_size() - 1;
    uint64_t first = start > map->start ? map->offset + (start - map->start) : map->offset;
    uint64_t last = map->offset + ((end < map->end ? end : map->end) - map->start);
    uint64_t limit = map->offset + (map->end - map->start);

    first &= ~mask;
    last = (last + mask) & ~mask;
    first = first > map->offset ? first : map->offset;
    last = last < limit ? last : limit;
    return (struct range){map->start + (first - map->offset), map->start + (last - map->offset)};
}

static void fetch(const struct absent_map *map, struct range part)
{
    uint64_t offset = map->offset + (part.from - map->start), size = part.to - part.from;

    if (map->source == BLY_LOAD_BULK)
        absent_fetch(offset, size);
    else
        mm_load_image(offset, size);
}

/* Loads the part and lets the program at it. False: the host does not. One that is no longer noted
 * is left as it is. */
static bool make_present(struct mm *mm, const struct absent_map *map, struct range part)
{
    fetch(map, part);
    scoped_lock(&mm->absent_lock);
    for (const struct absent_map *noted = mm->absent; noted; noted = noted->next)
        if (noted->start == map->start && noted->end == map->end && noted->offset == map->offset &&
            noted->protection == map->protection)
            return bly->memory_protect((void *)part.from, part.to - part.from, map->protection) ==
                   0;
    return true;
}

static struct mm *own_mm(void)
{
    return lx_current() && lx_process() ? lx_process()->mm : NULL;
}

/* ---- Faults and host calls ---- */

bool mm_handle_absent(uint64_t address, uint64_t error_code)
{
    struct mm *mm = own_mm();
    struct absent_map map;

    if (!mm || !mm->absent || !lookup(mm, address, address + 1, &map))
        return false;
    unsigned needed = error_code & PAGE_FAULT_WRITE ? BLY_PROT_WRITE
                      : error_code & PAGE_FAULT_FETCH
                          ? BLY_PROT_EXECUTE
                          : BLY_PROT_READ | BLY_PROT_WRITE | BLY_PROT_EXECUTE;
    if (!(map.protection & needed))
        return false;
    /* The host may not allow a further piece: then all is one. */
    return make_present(mm, &map, in_chunks(&map, address, address + 1)) ||
           make_present(mm, &map, (struct range){map.start, map.end});
}

void mm_make_present(const struct bly_iovec *vector, size_t count)
{
    struct mm *mm = own_mm();
    struct absent_map map;

    if (!mm || !mm->absent)
        return;
    for (size_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)vector[i].base, end = at + vector[i].size;
        while (at < end && lookup(mm, at, end, &map)) {
            (void)make_present(mm, &map,
                               in_chunks(&map, at, end)); /* if not, the host call says so */
            at = map.end;
        }
    }
}

/* ---- Changes of the map ---- */

static bool note(struct mm *mm, uint64_t address, uint64_t size, enum bly_load_source source,
                 uint64_t offset, unsigned protection)
{
    struct absent_map *map = heap_alloc(sizeof *map);

    if (!map)
        return false;
    *map = (struct absent_map){.start = address,
                               .end = address + size,
                               .offset = offset,
                               .source = source,
                               .protection = protection};
    scoped_lock(&mm->absent_lock);
    map->next = mm->absent;
    mm->absent = map;
    return true;
}

bool absent_note(struct mm *mm, uint64_t address, uint64_t size, uint64_t bulk_offset,
                 unsigned protection)
{
    return size >= LAZY_FROM && !absent_is_present(bulk_offset, size) &&
           note(mm, address, size, BLY_LOAD_BULK, bulk_offset, protection);
}

bool absent_note_image(struct mm *mm, uint64_t address, uint64_t size, uint64_t offset,
                       unsigned protection)
{
    return note(mm, address, size, BLY_LOAD_IMAGE, offset, protection);
}

void mm_load_image(uint64_t offset, uint64_t size)
{
    int error = bly->memory_load(BLY_LOAD_IMAGE, offset, size, 0);

    if (error < 0)
        panic("memory of the sandbox does not arrive: error %d", -error);
}

void absent_forget(struct mm *mm, uint64_t start, uint64_t end)
{
    struct absent_map *gone = NULL;

    if (!mm || !mm->absent)
        return;
    {
        scoped_lock(&mm->absent_lock);
        for (struct absent_map **place = &mm->absent; *place;) {
            struct absent_map *map = *place;
            if (map->start < start || map->end > end) {
                place = &map->next;
                continue;
            }
            *place = map->next;
            map->next = gone;
            gone = map;
        }
    }
    while (gone) {
        struct absent_map *next = gone->next;
        heap_free(gone);
        gone = next;
    }
}

static void settle(struct mm *mm, const struct absent_map *map)
{
    if (!make_present(mm, map, (struct range){map->start, map->end}))
        panic(
            "a map cannot be made accessible"); /* as one piece it takes less than it did before */
    remove(mm, map);
}

void absent_settle(struct mm *mm, uint64_t start, uint64_t end)
{
    struct absent_map map;

    while (mm->absent && lookup(mm, start, end, &map))
        settle(mm, &map);
}

int absent_split(struct mm *mm, uint64_t address)
{
    struct absent_map *upper = NULL;

    /* Only who holds mm->mutex, as we do, changes notes. */
    for (struct absent_map *map = mm->absent; map; map = map->next) {
        if (map->start >= address || map->end <= address)
            continue;
        if (!(upper = heap_alloc(sizeof *upper)))
            return -ENOMEM;
        *upper = *map;
        upper->start = address;
        upper->offset += address - map->start;
        scoped_lock(&mm->absent_lock);
        map->end = address;
        upper->next = mm->absent;
        mm->absent = upper;
    }
    return 0;
}

int absent_copy(struct mm *to, struct mm *from)
{
    assert(mutex_held(&from->mutex));
    for (const struct absent_map *map = from->absent; map; map = map->next) {
        const struct region *region = mm_find(from, map->start);
        if (!region || (region->flags & REGION_DONT_FORK))
            continue;
        struct absent_map *copy = heap_alloc(sizeof *copy);
        if (!copy)
            return -ENOMEM;
        *copy = *map;
        copy->next = to->absent;
        to->absent = copy;
    }
    return 0;
}
