/* Open files: their life, and reading and writing through an io_buffer.
 * open_file.position_mutex makes read, write and seek of one open file atomic towards each other (POSIX, since Linux 3.14). */
#include "personality/linux/fs/internal.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/process.h"
#include <asm/poll.h>
#include <asm/resource.h>
#include <linux/fs.h>

/* ---- Buffers ---- */

static void advance(struct io_buffer *buffer, size_t size)
{
    buffer->vector->base = (char *)buffer->vector->base + size;
    buffer->vector->size -= size;
    buffer->size -= size;
    while (buffer->count && buffer->vector->size == 0) {
        buffer->vector++;
        buffer->count--;
    }
}

void io_skip(struct io_buffer *buffer, size_t size)
{
    while (size && buffer->count) {
        size_t part = size < buffer->vector->size ? size : buffer->vector->size;
        if (part == 0 && buffer->vector->size == 0) {
            buffer->vector++;
            buffer->count--;
            continue;
        }
        advance(buffer, part);
        size -= part;
    }
}

enum copy_direction { COPY_IN, COPY_OUT };

static int64_t copy(struct io_buffer *buffer, void *ours, size_t size, enum copy_direction direction)
{
    size_t done = 0;

    while (done < size && buffer->count) {
        size_t part = buffer->vector->size, moved;
        if (part > size - done)
            part = size - done;
        if (part == 0) {
            buffer->vector++;
            buffer->count--;
            continue;
        }
        void *at = (char *)ours + done;
        if (buffer->kernel) {
            memcpy(direction == COPY_IN ? at : buffer->vector->base, direction == COPY_IN ? buffer->vector->base : at, part);
            moved = part;
        } else {
            moved = direction == COPY_IN ? guest_read_some(at, buffer->vector->base, part)
                                         : guest_write_some(buffer->vector->base, at, part);
        }
        if (moved)
            advance(buffer, moved);
        done += moved;
        if (moved < part)
            return done ? (int64_t)done : -EFAULT;
    }
    return (int64_t)done;
}

int64_t io_copy_in(struct io_buffer *source, void *to, size_t size)
{
    return copy(source, to, size, COPY_IN);
}

int64_t io_copy_out(struct io_buffer *target, const void *from, size_t size)
{
    return copy(target, (void *)from, size, COPY_OUT);
}

int64_t io_zero_out(struct io_buffer *to, size_t size)
{
    static const char zeros[4096];
    size_t done = 0;

    while (done < size) {
        size_t part = size - done < sizeof(zeros) ? size - done : sizeof(zeros);
        int64_t count = io_copy_out(to, zeros, part);
        if (count < 0)
            return done ? (int64_t)done : count;
        done += (size_t)count;
        if ((size_t)count < part)
            break;
    }
    return (int64_t)done;
}

/* ---- Life ---- */

struct open_file *file_create(const struct file_ops *ops, struct dentry *dentry, struct inode *inode, unsigned flags)
{
    struct open_file *file = heap_alloc(sizeof(*file));

    if (!file)
        return NULL;
    file->ops = ops;
    file->references = 1;
    file->flags = flags;
    mutex_init(&file->position_mutex);
    file->dentry = dentry_ref(dentry);
    file->inode = inode_ref(inode);
    file->id = lx_next_id();
    return file;
}

struct open_file *file_create_anonymous(const struct file_ops *ops, void *object, unsigned mode, unsigned flags)
{
    struct inode *inode = anonymous_inode(mode);
    struct dentry *dentry;
    struct open_file *file = NULL;
    char name[64];

    if (!inode)
        return NULL;
    /* "anon_inode:[eventfd]" is the whole name; pipes and sockets are told apart by inode. */
    if (strchr(ops->name, ':'))
        format(name, sizeof(name), "%s", ops->name);
    else
        format(name, sizeof(name), "%s:[%lu]", ops->name, (unsigned long)inode->number);
    dentry = anonymous_dentry(name, inode);
    if (dentry && (file = file_create(ops, dentry, inode, flags)))
        file->object = object;
    dentry_unref(dentry);
    inode_unref(inode);
    return file;
}

void file_unref(struct open_file *file)
{
    if (!file || --file->references)
        return;
    if (file->epoll_items)
        epoll_file_closed(file);
    if (file->internal & FILE_HAS_LOCKS)
        locks_file_closed(file);
    if (!(file->flags & O_PATH) && !(file->dentry->flags & DENTRY_ANONYMOUS))
        notify_event(file->inode, file->dentry, file_can_write(file) ? 0x8 /* IN_CLOSE_WRITE */ : 0x10 /* IN_CLOSE_NOWRITE */, 0, NULL, 0);
    if (file->ops->close)
        file->ops->close(file);
    if (file->internal & FILE_HOLDS_WRITE)
        inode_put_write(file->inode);
    dentry_unref(file->dentry);
    inode_unref(file->inode);
    heap_free(file);
}

size_t file_path(struct open_file *file, char *buffer, size_t size)
{
    int length = dentry_path(file->dentry, NULL, buffer, size, /*mark_deleted=*/true);

    return length < 0 ? 0 : (size_t)length;
}

/* ---- Reading and writing ---- */

int64_t file_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    if (!file_can_read(file))
        return -EBADF;
    if (!file->ops->read)
        return S_ISDIR(file->inode->mode) ? -EISDIR : -EINVAL;
    return file->ops->read(file, to, position);
}

int64_t file_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    if (!file_can_write(file))
        return -EBADF;
    if (!file->ops->write)
        return -EINVAL;
    return file->ops->write(file, from, position);
}

int64_t file_seek(struct open_file *file, int64_t offset, int whence)
{
    if (file->flags & O_PATH)
        return -EBADF;
    if (!file->ops->seek)
        return -ESPIPE;
    scoped_mutex(&file->position_mutex);
    return file->ops->seek(file, offset, whence);
}

int64_t file_size_allowed(const struct inode *inode, int64_t position, size_t size)
{
    struct lx_thread *thread = lx_current();

    if (!thread || !thread->process || !S_ISREG(inode->mode))
        return (int64_t)size;
    uint64_t limit = thread->process->limits[RLIMIT_FSIZE].soft;
    if (limit == ~0ull || (uint64_t)position + size <= limit)
        return (int64_t)size;
    if ((uint64_t)position >= limit) {
        signal_send_thread(thread, SIGXFSZ, NULL);
        return -EFBIG;
    }
    return (int64_t)(limit - (uint64_t)position);
}

/* ---- O_PATH ---- */

const struct file_ops path_file_ops = { .name = "path" };
