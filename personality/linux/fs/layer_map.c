/* Mapping files of the layer: the lower file's host map as long as nobody has written, else the pages in the bulk segment.
 * A file that is mapped keeps its pages at their places (layer_data.c); inode->lock guards node->object. */
#include "personality/linux/fs/layer.h"
#include "personality/linux/mm/bulk.h"

struct layer_object {
    struct memory_object base;
    bool holds_handle;
};

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
}

static int map_memory(struct inode *inode, char *address, uint64_t size, unsigned protection, unsigned flags, uint64_t offset)
{
    struct layer_node *node = layer_node(inode);
    uint64_t end = offset + size, file_end;
    int error;

    scoped_mutex(&inode->content_mutex);
    /* Pages beyond the end of the file are mapped beyond the end of the segment: touching them is a bus error, as it should be, and `covers`
     * says later whether the file has grown. */
    file_end = pages_of(inode->size) * BLY_PAGE_SIZE;
    if (end > file_end) {
        uint64_t from = offset > file_end ? offset : file_end;
        error = bulk_map_nothing(address + (from - offset), end - from, protection, flags & BLY_MAP_SHARED);
        if (error < 0)
            return error;
        end = from;
    }
    if (offset >= end)
        return 0;
    /* Holes get their pages now: what is written through the map or to the file later must be the same. */
    if ((error = layer_reserve(inode, offset / BLY_PAGE_SIZE, pages_of(end) - offset / BLY_PAGE_SIZE)) < 0)
        return -ENOMEM;
    while (offset < end) {
        uint64_t room;
        const char *memory = layer_find(node, offset, &room);
        assert(memory);
        if (room > end - offset)
            room = end - offset;
        error = bulk_map((uint64_t)memory - BLY_BULK_START, address, room, protection, flags & BLY_MAP_SHARED);
        if (error < 0)
            return error;
        address += room;
        offset += room;
    }
    return 0;
}

static int object_map(struct memory_object *base, void *address, size_t size, unsigned protection, bool shared, uint64_t offset)
{
    struct layer_object *object = (struct layer_object *)base;
    struct inode *inode = base->inode;
    struct layer_node *node = layer_node(inode);
    unsigned flags = BLY_MAP_REPLACE | (shared ? BLY_MAP_SHARED : 0);

    if (!layer_reads_lower(node))
        return map_memory(inode, address, size, protection, flags, offset);
    bly_handle handle;
    int error = layer_lower_acquire(inode, &handle);
    if (error < 0)
        return error;
    {
        scoped_lock(&inode->lock);
        if (!object->holds_handle) { /* kept for later maps of the same object, such as those after exec's first */
            object->holds_handle = true;
            handle = BLY_NO_HANDLE;
        }
    }
    error = bly->stream_map(node->handle, address, size, protection, flags, offset);
    if (handle != BLY_NO_HANDLE)
        layer_lower_release(inode);
    return error;
}

static void object_destroy(struct memory_object *base)
{
    struct layer_object *object = (struct layer_object *)base;
    struct inode *inode = base->inode;
    struct layer_node *node = layer_node(inode);
    {
        scoped_lock(&inode->lock);
        if (node->object == base)
            node->object = NULL;
    }
    if (object->holds_handle)
        layer_lower_release(inode);
    if (node->flags & LAYER_UPPER) {
        scoped_mutex(&inode->content_mutex);
        if (!node->object)
            layer_trim(inode, pages_of(inode->size));
    }
    heap_free(object);
    inode_unref(inode);
}

static size_t object_path(struct memory_object *base, char *buffer, size_t size)
{
    return inode_path(base->inode, buffer, size);
}

static int object_flush(struct memory_object *base, uint64_t offset, uint64_t size)
{
    return 0;
}

static int object_punch(struct memory_object *base, uint64_t offset, uint64_t size)
{
    scoped_mutex(&base->inode->content_mutex);
    return layer_allocate(base->inode, BLY_ALLOCATE_PUNCH_HOLE | BLY_ALLOCATE_KEEP_SIZE, offset, size);
}

static bool object_covers(struct memory_object *base, uint64_t offset)
{
    return !layer_reads_lower(layer_node(base->inode)) && offset < base->inode->size;
}

static const struct memory_object_ops layer_object_ops = {
    .map = object_map,
    .destroy = object_destroy,
    .path = object_path,
    .flush = object_flush,
    .punch = object_punch,
    .covers = object_covers,
};

int layer_memory_object(struct inode *inode, struct memory_object **out_object)
{
    struct layer_node *node = layer_node(inode);
    struct layer_object *fresh;

    if (!S_ISREG(inode->mode))
        return -ENODEV;
    fresh = heap_alloc(sizeof(*fresh));
    if (!fresh)
        return -ENOMEM;
    fresh->base.ops = &layer_object_ops;
    fresh->base.references = 1;
    fresh->base.flags = MEMORY_OBJECT_WRITABLE_SHARED;
    fresh->base.inode = inode_ref(inode);
    fresh->base.id = lx_next_id();
    {
        scoped_lock(&inode->lock);
        struct memory_object *known = node->object;
        uint32_t references = known ? known->references : 0;
        while (references && !__atomic_compare_exchange_n((uint32_t *)&known->references, &references, references + 1, true,
                                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            ;
        if (!references) { /* none, or one that is just ending */
            node->object = &fresh->base;
            *out_object = &fresh->base;
            return 0;
        }
        *out_object = known;
    }
    heap_free(fresh);
    inode_unref(inode);
    return 0;
}
