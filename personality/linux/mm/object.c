/* Memory objects, and the simplest of them: shared anonymous memory, one run of pages of the bulk
 * segment.
 *
 * An object lives as long as a region maps it or its maker holds it. What lies past its end is
 * mapped past the end of the segment, so that touching it is a bus error, as with a file. */
#include "libos/absent.h"
#include "personality/linux/mm/internal.h"
#include "personality/linux/mm/bulk.h"

uint64_t lx_next_id(void)
{
    return ++lx_kernel->next_id;
}

void memory_object_unref(struct memory_object *object)
{
    if (object && --object->references == 0)
        object->ops->destroy(object);
}

int bulk_map(uint64_t bulk_offset, void *address, size_t size, unsigned protection, bool shared)
{
    bool is_absent = absent_note(lx_process()->mm, (uint64_t)address, size, bulk_offset, protection);

    if (!is_absent)
        absent_fetch(bulk_offset, size);
    int error = bly->stream_map(start_info->bulk, address, size, is_absent ? 0 : protection,
                                BLY_MAP_REPLACE | (shared ? BLY_MAP_SHARED : 0), bulk_offset);
    if (error < 0 && is_absent)
        absent_forget(lx_process()->mm, (uint64_t)address, (uint64_t)address + size);
    return error;
}

int bulk_map_nothing(void *address, size_t size, unsigned protection, bool shared)
{
    return bulk_map(BLY_BULK_SIZE, address, size, protection, shared);
}

struct anonymous_object {
    struct memory_object object;
    uint64_t bulk_offset, size;
};

static int anonymous_map(struct memory_object *object, void *address, size_t size,
                         unsigned protection, bool shared, uint64_t offset)
{
    struct anonymous_object *memory = container_of(object, struct anonymous_object, object);
    uint64_t inside = offset >= memory->size         ? 0
                      : size < memory->size - offset ? size
                                                     : memory->size - offset;

    if (inside) {
        int error = bulk_map(memory->bulk_offset + offset, address, inside, protection, shared);
        if (error)
            return error;
    }
    return inside < size
               ? bulk_map_nothing((char *)address + inside, size - inside, protection, shared)
               : 0;
}

static void anonymous_destroy(struct memory_object *object)
{
    struct anonymous_object *memory = container_of(object, struct anonymous_object, object);

    bulk_free(memory->bulk_offset, memory->size / PAGE);
    heap_free(memory);
}

static size_t anonymous_path(struct memory_object *object, char *buffer, size_t size)
{
    return (size_t)format(buffer, size, "/dev/zero (deleted)");
}

static int anonymous_punch(struct memory_object *object, uint64_t offset, uint64_t size)
{
    struct anonymous_object *memory = container_of(object, struct anonymous_object, object);

    if (offset >= memory->size)
        return 0;
    if (size > memory->size - offset)
        size = memory->size - offset;
    return bulk_empty(memory->bulk_offset + offset, size / PAGE);
}

static const struct memory_object_ops anonymous_ops = {
    .map = anonymous_map,
    .destroy = anonymous_destroy,
    .path = anonymous_path,
    .punch = anonymous_punch,
};

struct memory_object *memory_object_create_anonymous(uint64_t size)
{
    struct anonymous_object *memory = heap_alloc(sizeof *memory);

    if (!memory)
        return NULL;
    memory->size = page_up(size);
    int64_t offset = bulk_alloc(memory->size / PAGE);
    if (offset < 0) {
        heap_free(memory);
        return NULL;
    }
    memory->bulk_offset = (uint64_t)offset;
    memory->object = (struct memory_object){
        .ops = &anonymous_ops,
        .references = 1,
        .flags = MEMORY_OBJECT_WRITABLE_SHARED,
        .id = lx_next_id(),
    };
    return &memory->object;
}

int lx_mm_init(void)
{
    return 0; /* everything of mm belongs to a process */
}
