/* read(2), write(2) and their kin: from descriptors and guest buffers to an open file's operations. */
#include "personality/linux/fs/internal.h"
#include "personality/linux/process/process.h"
#include <linux/fs.h>
#include <linux/uio.h>

#define TRANSFER_MAX 0x7ffff000ull /* as Linux: a page less than 2 GiB */
#define VECTOR_SMALL 8u
#define VECTOR_MAX 1024u

enum direction { READ, WRITE };

/* ---- Guest buffers ---- */

struct vector {
    struct io_buffer buffer;
    struct bly_iovec *list;
    struct bly_iovec small[VECTOR_SMALL];
};

static int vector_from_guest(struct vector *vector, const struct iovec *guest, uint64_t count)
{
    uint64_t total = 0;

    vector->list = vector->small;
    vector->buffer = (struct io_buffer){ 0 };
    if (count > VECTOR_MAX)
        return -EINVAL;
    if (count > VECTOR_SMALL && !(vector->list = heap_alloc(count * sizeof(*vector->list))))
        return -ENOMEM;
    if (count && guest_read(vector->list, guest, count * sizeof(*vector->list)) < 0)
        return -EFAULT;
    for (uint64_t i = 0; i < count; i++) {
        struct bly_iovec *part = &vector->list[i];
        if ((int64_t)part->size < 0)
            return -EINVAL;
        if (!guest_range_valid(part->base, part->size))
            return -EFAULT;
        if (part->size > TRANSFER_MAX - total)
            part->size = TRANSFER_MAX - total;
        total += part->size;
    }
    vector->buffer = (struct io_buffer){ .vector = vector->list, .count = count, .size = total };
    return 0;
}

static void vector_free(struct vector *vector)
{
    if (vector->list != vector->small)
        heap_free(vector->list);
}

/* ---- The two ways: at the file's position, and at a given one ---- */

static int64_t transfer(struct open_file *file, struct io_buffer *buffer, int64_t *position, enum direction direction)
{
    return direction == READ ? file_read(file, buffer, position) : file_write(file, buffer, position);
}

static void notify(struct open_file *file, int64_t result, enum direction direction)
{
    if (result > 0 && (file->inode->watches || file->dentry->parent->inode->watches) && !(file->dentry->flags & DENTRY_ANONYMOUS))
        notify_event(file->inode, file->dentry, direction == READ ? 0x1 /* IN_ACCESS */ : 0x2 /* IN_MODIFY */, 0, NULL, 0);
}

static int64_t at_position(struct open_file *file, struct io_buffer *buffer, enum direction direction)
{
    int64_t result;

    if (file->ops->positionless) {
        result = transfer(file, buffer, &file->position, direction);
    } else {
        mutex_acquire(&file->position_mutex);
        result = transfer(file, buffer, &file->position, direction);
        mutex_release(&file->position_mutex);
    }
    notify(file, result, direction);
    return result;
}

static int64_t at_offset(struct open_file *file, struct io_buffer *buffer, int64_t offset, enum direction direction)
{
    if (file->ops->positionless)
        return -ESPIPE;
    int64_t result = transfer(file, buffer, &offset, direction);
    notify(file, result, direction);
    return result;
}

static int64_t simple(int fd, void *guest, uint64_t size, enum direction direction, const int64_t *offset)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    if (!(direction == READ ? file_can_read(file) : file_can_write(file)))
        return -EBADF;
    if ((int64_t)size < 0)
        return -EINVAL;
    if (!guest_range_valid(guest, size))
        return -EFAULT;
    struct bly_iovec part = { guest, size < TRANSFER_MAX ? size : TRANSFER_MAX };
    struct io_buffer buffer = { .vector = &part, .count = 1, .size = part.size };
    return offset ? at_offset(file, &buffer, *offset, direction) : at_position(file, &buffer, direction);
}

LX_SYSCALL(read, int fd, void *buffer, uint64_t size)
{
    return simple(fd, buffer, size, READ, NULL);
}

LX_SYSCALL(write, int fd, const void *buffer, uint64_t size)
{
    return simple(fd, (void *)buffer, size, WRITE, NULL);
}

LX_SYSCALL(pread64, int fd, void *buffer, uint64_t size, int64_t offset)
{
    return offset < 0 ? -EINVAL : simple(fd, buffer, size, READ, &offset);
}

LX_SYSCALL(pwrite64, int fd, const void *buffer, uint64_t size, int64_t offset)
{
    return offset < 0 ? -EINVAL : simple(fd, (void *)buffer, size, WRITE, &offset);
}

/* RWF_NOWAIT on what could make the caller wait. */
static bool would_wait(struct open_file *file, enum direction direction)
{
    return file->ops->positionless && !(file_poll(file, NULL) & (direction == READ ? 0x1u | 0x10u | 0x8u : 0x4u | 0x8u));
}

static int64_t vectored(int fd, const struct iovec *guest, uint64_t count, const int64_t *offset, enum direction direction, int flags)
{
    scoped_file file = fd_get(fd);
    struct vector vector;
    int64_t result;

    if (!file)
        return -EBADF;
    if (offset && file->ops->positionless)
        return -ESPIPE;
    if (!(direction == READ ? file_can_read(file) : file_can_write(file)))
        return -EBADF;
    if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | 0x20 /* RWF_NOAPPEND */))
        return -EOPNOTSUPP;
    if ((flags & RWF_APPEND) && (flags & 0x20))
        return -EINVAL;
    result = vector_from_guest(&vector, guest, count);
    if (result == 0) {
        vector.buffer.flags = (flags & RWF_APPEND ? IO_APPEND : 0) | (flags & (RWF_DSYNC | RWF_SYNC) ? IO_SYNC : 0) | (flags & 0x20 ? IO_NO_APPEND : 0);
        if ((flags & RWF_NOWAIT) && would_wait(file, direction))
            result = -EAGAIN;
        else
            result = offset ? at_offset(file, &vector.buffer, *offset, direction) : at_position(file, &vector.buffer, direction);
    }
    vector_free(&vector);
    return result;
}

LX_SYSCALL(readv, int fd, const struct iovec *list, uint64_t count)
{
    return vectored(fd, list, count, NULL, READ, 0);
}

LX_SYSCALL(writev, int fd, const struct iovec *list, uint64_t count)
{
    return vectored(fd, list, count, NULL, WRITE, 0);
}

LX_SYSCALL(preadv, int fd, const struct iovec *list, uint64_t count, int64_t offset)
{
    return offset < 0 ? -EINVAL : vectored(fd, list, count, &offset, READ, 0);
}

LX_SYSCALL(pwritev, int fd, const struct iovec *list, uint64_t count, int64_t offset)
{
    return offset < 0 ? -EINVAL : vectored(fd, list, count, &offset, WRITE, 0);
}

LX_SYSCALL(preadv2, int fd, const struct iovec *list, uint64_t count, int64_t offset, uint64_t high, int flags)
{
    return offset < -1 ? -EINVAL : vectored(fd, list, count, offset == -1 ? NULL : &offset, READ, flags);
}

LX_SYSCALL(pwritev2, int fd, const struct iovec *list, uint64_t count, int64_t offset, uint64_t high, int flags)
{
    return offset < -1 ? -EINVAL : vectored(fd, list, count, offset == -1 ? NULL : &offset, WRITE, flags);
}

LX_SYSCALL(lseek, int fd, int64_t offset, unsigned whence)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    return whence > SEEK_HOLE ? -EINVAL : file_seek(file, offset, (int)whence);
}

/* ---- Sizes and room ---- */

LX_SYSCALL(ftruncate, int fd, int64_t size)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    if (size < 0)
        return -EINVAL;
    if (!S_ISREG(file->inode->mode) || !file_can_write(file))
        return file->flags & O_PATH ? -EBADF : -EINVAL;
    int error = vfs_truncate(file->inode, (uint64_t)size);
    if (error == 0)
        notify(file, 1, WRITE);
    return error;
}

LX_SYSCALL(truncate, const char *path, int64_t size)
{
    scoped_dentry dentry = NULL;
    int error;

    if (size < 0)
        return -EINVAL;
    if ((error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry)) < 0)
        return error;
    struct inode *inode = dentry->inode;
    if (inode_is_directory(inode))
        return -EISDIR;
    if (!S_ISREG(inode->mode))
        return -EINVAL;
    if ((error = vfs_want_write(dentry)) < 0 || (error = inode_permission(inode, MAY_WRITE)) < 0 || (error = inode_get_write(inode)) < 0)
        return error;
    error = vfs_truncate(inode, (uint64_t)size);
    inode_put_write(inode);
    if (error == 0)
        notify_event(inode, dentry, 0x2 /* IN_MODIFY */, 0, NULL, 0);
    return error;
}

LX_SYSCALL(fallocate, int fd, int mode, int64_t offset, int64_t size)
{
    scoped_file file = fd_get(fd);
    unsigned kind = (unsigned)mode & ~1u /* FALLOC_FL_KEEP_SIZE */;

    if (!file)
        return -EBADF;
    if (offset < 0 || size <= 0)
        return -EINVAL;
    if ((unsigned)mode & ~0x7bu)
        return -EOPNOTSUPP;
    /* Only one thing at a time, and a hole only when the size stays. */
    if ((kind & (kind - 1)) || (kind == 2 && !(mode & 1)) || ((kind == 8 || kind == 0x20) && (mode & 1)))
        return kind == 2 ? -EOPNOTSUPP : -EINVAL;
    if (!file_can_write(file))
        return -EBADF;
    struct inode *inode = file->inode;
    if (S_ISFIFO(inode->mode))
        return -ESPIPE;
    if (inode_is_directory(inode))
        return -EISDIR;
    if (!S_ISREG(inode->mode))
        return -ENODEV;
    if (offset > INT64_MAX - size)
        return -EFBIG;
    if (!inode->ops->allocate)
        return -EOPNOTSUPP;
    if (!(mode & 1) && kind != 8) {
        int64_t allowed = file_size_allowed(inode, offset, (uint64_t)size);
        if (allowed < size)
            return -EFBIG;
    }
    int error;
    {
        scoped_mutex(&inode->content_mutex);
        error = inode->ops->allocate(inode, (unsigned)mode, (uint64_t)offset, (uint64_t)size);
    }
    if (error == 0) {
        inode_remove_privileges(inode);
        notify(file, 1, WRITE);
    }
    return error;
}

/* ---- To the disk ---- */

static long flush(int fd, unsigned flags)
{
    scoped_file file = fd_get(fd);

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    return file->ops->flush ? file->ops->flush(file, flags) : -EINVAL;
}

LX_SYSCALL(fsync, int fd)
{
    return flush(fd, 0);
}

LX_SYSCALL(fdatasync, int fd)
{
    return flush(fd, BLY_FLUSH_DATA_ONLY);
}

LX_SYSCALL(sync, void)
{
    vfs_synchronize();
    return 0;
}

LX_SYSCALL(syncfs, int fd)
{
    scoped_file file = fd_get(fd);

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    struct superblock *superblock = file->inode->superblock;
    bool is_written = superblock->type->synchronize && !vfs_is_read_only(file->dentry);
    return is_written ? superblock->type->synchronize(superblock, file->inode) : 0;
}

LX_SYSCALL(sync_file_range, int fd, int64_t offset, int64_t size, unsigned flags)
{
    scoped_file file = fd_get(fd);

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    enum { WAIT_BEFORE = 1, WRITE_OUT = 2, WAIT_AFTER = 4 };
    if (flags & ~7u || offset < 0 || size < 0 || offset + size < offset)
        return -EINVAL;
    if (!S_ISREG(file->inode->mode) && !S_ISBLK(file->inode->mode) && !inode_is_directory(file->inode) && !S_ISLNK(file->inode->mode))
        return -ESPIPE;
    if (!flags || !file->ops->flush)
        return 0;
    return file->ops->flush(file, flags & (WAIT_BEFORE | WAIT_AFTER) ? BLY_FLUSH_DATA_ONLY : BLY_FLUSH_BEGIN);
}

LX_SYSCALL(fadvise64, int fd, int64_t offset, int64_t size, int advice)
{
    scoped_file file = fd_get(fd);

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    if (S_ISFIFO(file->inode->mode))
        return -ESPIPE;
    if (size < 0 || advice < 0 || advice > 5)
        return -EINVAL;
    return 0; /* the page cache is the host's */
}

LX_SYSCALL(readahead, int fd, int64_t offset, uint64_t size)
{
    scoped_file file = fd_get(fd);

    if (!file || !file_can_read(file))
        return -EBADF;
    return S_ISREG(file->inode->mode) || S_ISBLK(file->inode->mode) ? 0 : -EINVAL;
}
