/* Contents of files in memory: extents of the bulk segment, holes between them.
 *
 * Invariants, under the inode's content_mutex: extents are sorted and do not overlap; bytes of an extent at or beyond the file's size
 * are zero (so that growing the file shows zeroes); an extent is never moved, and never given back while something maps the file. */
#include "personality/linux/fs/layer.h"
#include "personality/linux/fs/lower.h"
#include <linux/falloc.h>
#include <linux/fs.h>

/* A file that grows at its end gets as much again as it has, at most this. */
#define GROWTH_MAX_PAGES 2048u
/* A run of this size is backed by the host in one call instead of page by page. */
#define POPULATE_MIN_PAGES 32u

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
}

static void *bulk_address(uint64_t offset)
{
    return (void *)(BLY_BULK_START + offset);
}

/* ---- Extents ---- */

/* Index of the first extent that ends after `page`. */
static uint32_t extent_index(const struct layer_node *node, uint64_t page)
{
    uint32_t low = 0, high = node->extent_count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (node->extents[middle].page + node->extents[middle].count <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *layer_find(const struct layer_node *node, uint64_t offset, uint64_t *out_size)
{
    uint64_t page = offset / BLY_PAGE_SIZE;
    uint32_t index = extent_index(node, page);

    if (index == node->extent_count) {
        *out_size = INT64_MAX - offset;
        return NULL;
    }
    const struct layer_extent *extent = &node->extents[index];
    uint64_t start = extent->page * BLY_PAGE_SIZE;
    if (offset < start) {
        *out_size = start - offset;
        return NULL;
    }
    *out_size = start + extent->count * BLY_PAGE_SIZE - offset;
    return bulk_address(extent->bulk_offset + (offset - start));
}

static int extents_room(struct layer_node *node)
{
    if (node->extent_count < node->extent_room)
        return 0;
    uint32_t room = node->extent_room ? node->extent_room * 2 : 4;
    struct layer_extent *extents = heap_realloc(node->extents, node->extent_count * sizeof(*extents), room * sizeof(*extents));
    if (!extents)
        return -ENOSPC;
    node->extents = extents;
    node->extent_room = room;
    return 0;
}

static void count_pages(struct inode *inode, int64_t pages)
{
    layer_of(inode)->page_count += (uint64_t)pages;
    layer_node(inode)->page_count += (uint64_t)pages;
}

/* Puts a new extent of `count` pages before extents[index]. */
static int extent_add(struct inode *inode, uint32_t index, uint64_t page, uint64_t count)
{
    struct layer_node *node = layer_node(inode);
    uint64_t limit = inode->superblock->limit_bytes;
    int64_t bulk;

    if (limit && (layer_of(inode)->page_count + count) * BLY_PAGE_SIZE > limit)
        return -ENOSPC;
    if (extents_room(node) < 0 || (bulk = bulk_alloc(count)) < 0)
        return -ENOSPC;
    count_pages(inode, (int64_t)count);
    if (index > 0) { /* merge with the one before when the memory lies next to it */
        struct layer_extent *before = &node->extents[index - 1];
        if (before->page + before->count == page && before->bulk_offset + before->count * BLY_PAGE_SIZE == (uint64_t)bulk) {
            before->count += count;
            return 0;
        }
    }
    memmove(&node->extents[index + 1], &node->extents[index], (node->extent_count - index) * sizeof(*node->extents));
    node->extents[index] = (struct layer_extent){ page, count, (uint64_t)bulk };
    node->extent_count++;
    return 0;
}

int layer_reserve(struct inode *inode, uint64_t first, uint64_t count)
{
    struct layer_node *node = layer_node(inode);
    uint64_t page = first, end = first + count;

    while (page < end) {
        uint32_t index = extent_index(node, page);
        uint64_t hole_end = index < node->extent_count ? node->extents[index].page : UINT64_MAX;
        if (page >= hole_end) {
            page = node->extents[index].page + node->extents[index].count;
            continue;
        }
        uint64_t wanted = end - page;
        if (wanted > hole_end - page)
            wanted = hole_end - page;
        int error = -ENOSPC;
        if (hole_end == UINT64_MAX && index > 0 && node->extents[index - 1].page + node->extents[index - 1].count == page) {
            /* Growing at its end: more than asked for, so that extents stay few. */
            uint64_t grown = page < GROWTH_MAX_PAGES ? page : GROWTH_MAX_PAGES;
            if (grown > wanted)
                error = extent_add(inode, index, page, grown);
        }
        if (error < 0 && (error = extent_add(inode, index, page, wanted)) < 0)
            return error;
        if (wanted >= POPULATE_MIN_PAGES) {
            uint64_t size;
            void *memory = layer_find(node, page * BLY_PAGE_SIZE, &size);
            (void)bly->memory_advise(memory, wanted * BLY_PAGE_SIZE, BLY_ADVICE_POPULATE_WRITE);
        }
    }
    return 0;
}

/* Makes [first, first + count) holes; pages that may be mapped somewhere are emptied but kept. */
void layer_punch(struct inode *inode, uint64_t first, uint64_t count)
{
    struct layer_node *node = layer_node(inode);
    uint64_t end = first + count < first ? UINT64_MAX : first + count;
    bool mapped = node->object != NULL;

    for (uint32_t index = extent_index(node, first); index < node->extent_count && node->extents[index].page < end;) {
        struct layer_extent *extent = &node->extents[index];
        uint64_t from = extent->page > first ? extent->page : first;
        uint64_t extent_end = extent->page + extent->count, to = extent_end < end ? extent_end : end;
        uint64_t bulk = extent->bulk_offset + (from - extent->page) * BLY_PAGE_SIZE, pages = to - from;

        if (mapped) {
            (void)bulk_empty(bulk, pages);
            index++;
            continue;
        }
        if (from > extent->page && to < extent_end) { /* in the middle: two extents are left */
            if (extents_room(node) < 0) {
                memset(bulk_address(bulk), 0, pages * BLY_PAGE_SIZE);
                return;
            }
            extent = &node->extents[index];
            memmove(extent + 1, extent, (node->extent_count - index) * sizeof(*extent));
            node->extent_count++;
            extent[0].count = from - extent->page;
            extent[1] = (struct layer_extent){ to, extent_end - to, bulk + pages * BLY_PAGE_SIZE };
            index += 2;
        } else if (from > extent->page) {
            extent->count = from - extent->page;
            index++;
        } else if (to < extent_end) {
            extent->page = to;
            extent->count = extent_end - to;
            extent->bulk_offset = bulk + pages * BLY_PAGE_SIZE;
            index++;
        } else {
            memmove(extent, extent + 1, (node->extent_count - index - 1) * sizeof(*extent));
            node->extent_count--;
        }
        bulk_free(bulk, pages);
        count_pages(inode, -(int64_t)pages);
    }
}

void layer_trim(struct inode *inode, uint64_t first)
{
    layer_punch(inode, first, UINT64_MAX - first);
}

void layer_free_data(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);

    if (node->extent_count)
        layer_trim(inode, 0);
    heap_free(node->extents);
    node->extents = NULL;
    node->extent_count = node->extent_room = 0;
}

/* Zeroes [from, to) where it is in memory. */
static void zero_bytes(struct layer_node *node, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t size;
        void *memory = layer_find(node, from, &size);
        if (size > to - from)
            size = to - from;
        if (memory)
            memset(memory, 0, size);
        from += size;
    }
}

static uint64_t blocks_of(const struct layer_node *node, uint64_t size)
{
    uint64_t pages = node->page_count, last = pages_of(size);

    for (uint32_t i = node->extent_count; i-- > 0;) { /* not those taken in advance */
        uint64_t page = node->extents[i].page, end = page + node->extents[i].count;
        if (end <= last)
            break;
        pages -= end - (page > last ? page : last);
    }
    return pages * (BLY_PAGE_SIZE / 512);
}

static void changed(struct inode *inode, uint64_t size)
{
    int64_t now = (int64_t)lx_realtime_ns();

    scoped_lock(&inode->lock);
    inode->size = size;
    inode->blocks = blocks_of(layer_node(inode), size);
    inode->modify_ns = inode->change_ns = now;
}

int layer_truncate(struct inode *inode, uint64_t size)
{
    struct layer_node *node = layer_node(inode);
    int error;

    if (!S_ISREG(inode->mode))
        return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
    if ((error = layer_copy_up(inode, size)) < 0)
        return error;
    if (size < inode->size) {
        uint64_t keep = pages_of(size);
        zero_bytes(node, size, keep * BLY_PAGE_SIZE);
        layer_trim(inode, keep);
    }
    changed(inode, size);
    return 0;
}

/* ---- fallocate ---- */

/* Moves what lies from `from` on to `to`, both page numbers: extents are renumbered, no byte is copied. */
static void shift(struct layer_node *node, uint64_t from, uint64_t to)
{
    for (uint32_t i = extent_index(node, from); i < node->extent_count; i++)
        node->extents[i].page += to - from;
}

/* An extent boundary at `page`, so that what is beyond can be shifted. */
static int split(struct layer_node *node, uint64_t page)
{
    uint32_t index = extent_index(node, page);

    if (index == node->extent_count || node->extents[index].page >= page)
        return 0;
    if (extents_room(node) < 0)
        return -ENOSPC;
    struct layer_extent *extent = &node->extents[index];
    memmove(extent + 1, extent, (node->extent_count - index) * sizeof(*extent));
    node->extent_count++;
    uint64_t before = page - extent->page;
    extent[0].count = before;
    extent[1].page += before;
    extent[1].count -= before;
    extent[1].bulk_offset += before * BLY_PAGE_SIZE;
    return 0;
}

int layer_allocate(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size)
{
    struct layer_node *node = layer_node(inode);
    uint64_t end = offset + size, first = pages_of(offset), last = end / BLY_PAGE_SIZE;
    uint64_t new_size = inode->size;
    int error;

    if (mode & ~(unsigned)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
        return -EOPNOTSUPP;
    if ((error = layer_copy_up(inode, inode->size)) < 0)
        return error;
    if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
        if ((mode & FALLOC_FL_KEEP_SIZE) || offset % BLY_PAGE_SIZE || size % BLY_PAGE_SIZE || node->object)
            return node->object ? -EBUSY : -EINVAL;
        if ((mode & FALLOC_FL_COLLAPSE_RANGE ? end : offset) >= inode->size)
            return -EINVAL;
        layer_trim(inode, pages_of(inode->size));
        if (mode & FALLOC_FL_COLLAPSE_RANGE) {
            layer_punch(inode, first, last - first);
            if ((error = split(node, last)) < 0)
                return error;
            shift(node, last, first);
            new_size -= size;
        } else {
            if (inode->size + size < size || inode->size + size > INT64_MAX)
                return -EFBIG;
            if ((error = split(node, first)) < 0)
                return error;
            shift(node, first, first + size / BLY_PAGE_SIZE);
            new_size += size;
        }
    } else if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        if (last < first || last == first) {
            zero_bytes(node, offset, end);
        } else {
            zero_bytes(node, offset, first * BLY_PAGE_SIZE);
            zero_bytes(node, last * BLY_PAGE_SIZE, end);
            layer_punch(inode, first, last - first);
        }
        if ((mode & FALLOC_FL_ZERO_RANGE) && (error = layer_reserve(inode, offset / BLY_PAGE_SIZE, pages_of(end) - offset / BLY_PAGE_SIZE)) < 0)
            return error;
        if ((mode & FALLOC_FL_ZERO_RANGE) && !(mode & FALLOC_FL_KEEP_SIZE) && end > new_size)
            new_size = end;
    } else {
        if ((error = layer_reserve(inode, offset / BLY_PAGE_SIZE, pages_of(end) - offset / BLY_PAGE_SIZE)) < 0)
            return error;
        if (!(mode & FALLOC_FL_KEEP_SIZE) && end > new_size)
            new_size = end;
    }
    changed(inode, new_size);
    return 0;
}

/* ---- Reading and writing ---- */

/* relatime, as Linux mounts by default: at most once a day unless the contents changed since. */
static void touch_access(struct inode *inode)
{
    int64_t now;

    if (inode->flags & INODE_NO_ATIME)
        return;
    if (inode->access_ns > inode->modify_ns && inode->access_ns > inode->change_ns) {
        now = (int64_t)lx_realtime_ns();
        if (now - inode->access_ns < 86400000000000ll)
            return;
    }
    inode_touch(inode, INODE_ACCESS);
}

static int64_t read_memory(struct inode *inode, struct io_buffer *to, uint64_t offset)
{
    struct layer_node *node = layer_node(inode);
    int64_t done = 0;

    while (to->size && offset < inode->size) {
        uint64_t room;
        const void *memory = layer_find(node, offset, &room);
        if (room > inode->size - offset)
            room = inode->size - offset;
        if (room > to->size)
            room = to->size;
        int64_t count = memory ? io_copy_out(to, memory, room) : io_zero_out(to, room);
        if (count < 0)
            return done ? done : count;
        done += count;
        offset += (uint64_t)count;
        if ((uint64_t)count < room)
            break;
    }
    return done;
}

static int64_t layer_file_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct inode *inode = file->inode;
    struct layer_node *node = layer_node(inode);
    int64_t count;

    if (layer_reads_lower(node) && node->handle != BLY_NO_HANDLE) {
        count = stream_read_file(node->handle, to->vector, to->count, (uint64_t)*position);
        if (count > 0)
            io_skip(to, (size_t)count);
    } else {
        scoped_mutex(&inode->content_mutex);
        count = read_memory(inode, to, (uint64_t)*position);
    }
    if (count > 0)
        *position += count;
    if (!(file->flags & O_NOATIME))
        touch_access(inode);
    return count;
}

static int64_t write_memory(struct inode *inode, struct io_buffer *from, uint64_t offset)
{
    struct layer_node *node = layer_node(inode);
    uint64_t size = from->size;
    int64_t done = 0;
    int error;

    error = layer_reserve(inode, offset / BLY_PAGE_SIZE, pages_of(offset + size) - offset / BLY_PAGE_SIZE);
    if (error < 0) { /* as much as there is room for */
        uint64_t room;
        if (!layer_find(node, offset, &room))
            return error;
        size = room < size ? room : size;
    }
    while (size) {
        uint64_t room;
        void *memory = layer_find(node, offset, &room);
        if (room > size)
            room = size;
        int64_t count = io_copy_in(from, memory, room);
        if (count < 0)
            return done ? done : count;
        done += count;
        offset += (uint64_t)count;
        size -= (uint64_t)count;
        if ((uint64_t)count < room)
            break;
    }
    return done;
}

static int64_t layer_file_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct inode *inode = file->inode;
    struct layer_node *node = layer_node(inode);
    size_t cut = 0;
    int64_t count;
    int error;

    scoped_mutex(&inode->content_mutex);
    if (!(node->flags & LAYER_UPPER) && (error = layer_copy_up(inode, inode->size)) < 0)
        return error;
    if (writes_at_end(file, from))
        *position = (int64_t)inode->size;
    if (from->size == 0)
        return 0;
    int64_t allowed = file_size_allowed(inode, *position, from->size);
    if (allowed < 0)
        return allowed;
    if (*position > INT64_MAX - allowed)
        return -EFBIG;
    cut = from->size - (size_t)allowed;
    from->size -= cut;
    count = write_memory(inode, from, (uint64_t)*position);
    from->size += cut;
    if (count > 0) {
        *position += count;
        uint64_t end = (uint64_t)*position;
        changed(inode, end > inode->size ? end : inode->size);
        inode_remove_privileges(inode);
    }
    return count;
}

int64_t layer_read_kernel(struct inode *inode, void *buffer, size_t size, uint64_t offset)
{
    struct layer_node *node = layer_node(inode);
    struct bly_iovec vector = { buffer, size };
    struct io_buffer to = { .vector = &vector, .count = 1, .size = size, .kernel = true };

    if (layer_reads_lower(node)) {
        bly_handle handle;
        int error = layer_lower_acquire(inode, &handle);
        if (error < 0)
            return error;
        int64_t count = stream_read_file(handle, &vector, 1, offset);
        layer_lower_release(inode);
        return count;
    }
    scoped_mutex(&inode->content_mutex);
    return read_memory(inode, &to, offset);
}

/* ---- Open files ---- */

int layer_open(struct inode *inode, struct open_file *file)
{
    struct layer_node *node = layer_node(inode);
    bly_handle handle;

    if (!S_ISREG(inode->mode) || !layer_reads_lower(node))
        return 0;
    int error = layer_lower_acquire(inode, &handle);
    if (error == 0)
        file->object = node; /* the mark that a use of the handle is to be given back */
    return error;
}

static void layer_file_close(struct open_file *file)
{
    struct inode *inode = file->inode;
    struct layer_node *node = layer_node(inode);

    if (file->object)
        layer_lower_release(inode);
    if (file_can_write(file) && inode->writers <= 1 && inode->link_count) {
        scoped_mutex(&inode->content_mutex);
        if (!node->object)
            layer_trim(inode, pages_of(inode->size)); /* what growing took in advance */
    }
}

/* SEEK_DATA and SEEK_HOLE in memory. */
static int64_t seek_memory(struct inode *inode, int64_t offset, int whence)
{
    struct layer_node *node = layer_node(inode);
    uint64_t at = (uint64_t)offset, size;

    if (at >= inode->size)
        return -ENXIO;
    for (; at < inode->size; at += size) {
        bool is_data = layer_find(node, at, &size) != NULL;
        if (is_data == (whence == SEEK_DATA))
            return (int64_t)at;
    }
    return whence == SEEK_HOLE ? (int64_t)inode->size : -ENXIO;
}

static int64_t layer_file_seek(struct open_file *file, int64_t offset, int whence)
{
    struct inode *inode = file->inode;
    struct layer_node *node = layer_node(inode);
    int64_t base = 0;

    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = file->position;
        break;
    case SEEK_END:
        base = (int64_t)inode->size;
        break;
    case SEEK_DATA:
    case SEEK_HOLE:
        if (offset < 0)
            return -ENXIO;
        if (layer_reads_lower(node) && node->handle != BLY_NO_HANDLE) {
            offset = bly->stream_seek(node->handle, (uint64_t)offset, (unsigned)whence);
        } else {
            scoped_mutex(&inode->content_mutex);
            offset = seek_memory(inode, offset, whence);
        }
        if (offset < 0)
            return offset;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, offset, &offset) || offset < 0)
        return -EINVAL;
    file->position = offset;
    return offset;
}

static int layer_file_flush(struct open_file *file, unsigned flags)
{
    return 0;
}

static int layer_file_map(struct open_file *file, struct memory_object **out_object)
{
    struct inode *inode = file->inode;

    /* A shared map through a writable file must see writes and be seen: it maps the copy. */
    if (file_can_write(file)) {
        scoped_mutex(&inode->content_mutex);
        int error = layer_copy_up(inode, inode->size);
        if (error < 0)
            return error;
    }
    return layer_memory_object(inode, out_object);
}

const struct file_ops layer_file_ops = {
    .name = "file",
    .read = layer_file_read,
    .write = layer_file_write,
    .seek = layer_file_seek,
    .map = layer_file_map,
    .flush = layer_file_flush,
    .close = layer_file_close,
};
