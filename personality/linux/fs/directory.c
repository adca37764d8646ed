/* Open directories: getdents(2) and seeking.
 * The position is the file system's own cookie: 0 and 1 are "." and "..", which the VFS gives for all. */
#include "personality/linux/fs/internal.h"
#include <linux/fs.h>

#define BOUNCE_SIZE 32768u

struct collector {
    struct directory_sink sink;
    unsigned char *buffer;
    size_t size, used;
    size_t last;       /* where the last record begins, for the old layout's offset */
    bool legacy;       /* struct linux_dirent: the type is the record's last byte */
    bool too_small;    /* not even one record fitted */
    int64_t position;  /* after the last record */
};

static bool collect(struct directory_sink *sink, const char *name, size_t size, uint64_t number, unsigned type, int64_t next)
{
    struct collector *collector = container_of(sink, struct collector, sink);
    size_t header = collector->legacy ? 18 : 19;
    size_t record = (header + size + (collector->legacy ? 2u : 1u) + 7) & ~7ull;
    unsigned char *to = collector->buffer + collector->used;

    if (record > collector->size - collector->used) {
        collector->too_small = collector->used == 0;
        return false;
    }
    memset(to, 0, record);
    uint16_t record_size = (uint16_t)record;
    memcpy(to, &number, 8);
    memcpy(to + 8, &next, 8);
    memcpy(to + 16, &record_size, 2);
    if (collector->legacy)
        to[record - 1] = (unsigned char)type;
    else
        to[18] = (unsigned char)type;
    memcpy(to + header, name, size);
    collector->used += record;
    collector->position = next;
    return true;
}

int64_t directory_read(struct open_file *file, struct io_buffer *to, bool legacy)
{
    struct inode *directory = file->inode;
    struct collector collector = { .sink = { collect }, .legacy = legacy };
    int64_t result = 0;

    if (!directory->ops->enumerate)
        return -ENOTDIR;
    collector.size = to->size < BOUNCE_SIZE ? to->size : BOUNCE_SIZE;
    collector.buffer = heap_alloc(collector.size ? collector.size : 1);
    if (!collector.buffer)
        return -ENOMEM;
    mutex_acquire(&file->position_mutex);
    mutex_acquire(&directory->content_mutex);
    collector.position = file->position;
    if (directory->link_count == 0) {
        result = -ENOENT;
        goto out;
    }
    bool more = true;
    if (collector.position == 0)
        more = collect(&collector.sink, ".", 1, directory->number, 4 /* DT_DIR */, 1);
    if (more && collector.position == 1) {
        uint64_t parent;
        {
            scoped_lock(&vfs()->tree_lock);
            struct dentry *up = file->dentry;
            while (up->parent == up && up->mount->mountpoint)
                up = up->mount->mountpoint;
            parent = up->parent->inode->number;
        }
        more = collect(&collector.sink, "..", 2, parent, 4, 2);
    }
    if (more) {
        int64_t offset = collector.position;
        result = directory->ops->enumerate(directory, &offset, &collector.sink);
        /* Names that were skipped after the last record need not be looked at again. */
        if (result == 0 && offset > collector.position)
            collector.position = offset;
    }
    if (collector.used)
        result = 0;
    else if (collector.too_small)
        result = -EINVAL;
out:
    mutex_release(&directory->content_mutex);
    if (result == 0 && collector.used) {
        int64_t copied = io_copy_out(to, collector.buffer, collector.used);
        result = copied < (int64_t)collector.used ? -EFAULT : copied;
    }
    if (result >= 0)
        file->position = collector.position;
    mutex_release(&file->position_mutex);
    heap_free(collector.buffer);
    return result;
}

static int64_t directory_enumerate(struct open_file *file, struct io_buffer *to)
{
    return directory_read(file, to, /*legacy=*/false);
}

static int64_t directory_seek(struct open_file *file, int64_t offset, int whence)
{
    if (whence == SEEK_CUR)
        offset += file->position;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (offset < 0)
        return -EINVAL;
    file->position = offset;
    return offset;
}

static int directory_flush(struct open_file *file, unsigned flags)
{
    return 0;
}

static int64_t directory_file_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return -EISDIR;
}

const struct file_ops directory_file_ops = {
    .name = "directory",
    .read = directory_file_read,
    .seek = directory_seek,
    .enumerate = directory_enumerate,
    .flush = directory_flush,
};
