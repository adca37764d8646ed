/* sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2): from one open file to another through a buffer of ours.
 *
 * What was taken from a pipe must arrive: it is read in pieces that the other side has just said to have room for. */
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/pipe.h"
#include "personality/linux/process/process.h"
#include <asm/poll.h>
#include <linux/fs.h>
#include <linux/uio.h>

long lx_sys_readv(int fd, const struct iovec *list, uint64_t count);

#define BOUNCE_SIZE 65536u
#define TRANSFER_MAX 0x7ffff000ull
#define SPLICE_F_MOVE 1u
#define SPLICE_F_NONBLOCK 2u
#define SPLICE_F_MORE 4u
#define SPLICE_F_GIFT 8u
#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)

static bool is_pipe(const struct open_file *file)
{
    return file->ops == &pipe_ops;
}

static bool ready(struct open_file *file, unsigned events)
{
    return file_poll(file, NULL) & (events | POLLERR | POLLHUP);
}

static int64_t read_kernel(struct open_file *file, void *buffer, size_t size, int64_t *position)
{
    struct bly_iovec part = { buffer, size };
    struct io_buffer to = { .vector = &part, .count = 1, .size = size, .kernel = true };

    return file_read(file, &to, position);
}

static int64_t write_kernel(struct open_file *file, const void *buffer, size_t size, int64_t *position)
{
    struct bly_iovec part = { (void *)buffer, size };
    struct io_buffer from = { .vector = &part, .count = 1, .size = size, .kernel = true };

    return file_write(file, &from, position);
}

/* Everything, waiting where the file makes its writer wait; less only after an error. */
static int64_t write_all(struct open_file *file, const char *buffer, size_t size, int64_t *position)
{
    size_t done = 0;

    while (done < size) {
        int64_t count = write_kernel(file, buffer + done, size - done, position);
        if (count <= 0)
            return done ? (int64_t)done : count;
        done += (size_t)count;
    }
    return (int64_t)done;
}

/* Moves up to `size` bytes. Returns how many arrived, or the first error when none did. */
static int64_t pump(struct open_file *in, int64_t *in_position, struct open_file *out, int64_t *out_position, uint64_t size, bool no_wait)
{
    bool stream_in = in->ops->positionless, stream_out = out->ops->positionless;
    char *bounce = heap_alloc(BOUNCE_SIZE);
    uint64_t done = 0;
    int64_t error = 0;

    if (!bounce)
        return -ENOMEM;
    while (done < size) {
        size_t chunk = size - done < BOUNCE_SIZE ? size - done : BOUNCE_SIZE;
        if (stream_in && stream_out && chunk > PIPE_ATOMIC)
            chunk = PIPE_ATOMIC;
        if (stream_out && (done || no_wait) && !ready(out, POLLOUT)) {
            error = -EAGAIN;
            break;
        }
        if (stream_in && (done || no_wait) && !ready(in, POLLIN)) {
            error = -EAGAIN;
            break;
        }
        int64_t start = *in_position, count = read_kernel(in, bounce, chunk, in_position);
        if (count <= 0) {
            error = count;
            break;
        }
        /* A stream that is not to make us wait takes what fits; the rest is read again from the file. */
        int64_t written = stream_in || !stream_out ? write_all(out, bounce, (size_t)count, out_position)
                                                   : write_kernel(out, bounce, (size_t)count, out_position);
        if (!stream_in)
            *in_position = start + (written > 0 ? written : 0);
        if (written < 0) {
            error = written;
            break;
        }
        done += (uint64_t)written;
        if (written < count || (stream_in && (size_t)count < chunk))
            break;
        if (signal_pending())
            break;
    }
    heap_free(bounce);
    return done ? (int64_t)done : error;
}

/* An offset argument: the guest's, or the file's own position. */
struct offset { int64_t value; int64_t *position; int64_t *guest; struct open_file *file; };

static int offset_begin(struct offset *offset, struct open_file *file, int64_t *guest)
{
    *offset = (struct offset){ .guest = guest, .file = file, .position = &file->position };
    if (!guest)
        return 0;
    offset->position = &offset->value;
    if (guest_read(&offset->value, guest, sizeof(*guest)) < 0)
        return -EFAULT;
    return offset->value < 0 ? -EINVAL : 0;
}

static int offset_end(struct offset *offset)
{
    return offset->guest && guest_write(offset->guest, &offset->value, sizeof(offset->value)) < 0 ? -EFAULT : 0;
}

/* The mutex that a transfer at the file's own position holds, or NULL. */
static struct mutex *mutex_of(const struct offset *offset)
{
    return offset->guest || offset->file->ops->positionless ? NULL : &offset->file->position_mutex;
}

static int64_t pump_between(struct offset *from, struct offset *to, uint64_t size, bool no_wait)
{
    struct mutex *first = mutex_of(from), *second = mutex_of(to);
    int error;

    if (first == second)
        second = NULL;
    if (first && second && first > second) {
        struct mutex *other = first;
        first = second;
        second = other;
    }
    if (first)
        mutex_acquire(first);
    if (second)
        mutex_acquire(second);
    int64_t result = pump(from->file, from->position, to->file, to->position, size < TRANSFER_MAX ? size : TRANSFER_MAX, no_wait);
    if (second)
        mutex_release(second);
    if (first)
        mutex_release(first);
    if ((error = offset_end(to)) < 0 || (error = offset_end(from)) < 0)
        return error;
    return result;
}

LX_SYSCALL(sendfile, int out_fd, int in_fd, int64_t *guest_offset, uint64_t size)
{
    scoped_file in = fd_get(in_fd);
    scoped_file out = fd_get(out_fd);
    struct offset from, to;
    int error;

    if (!in || !out || !file_can_read(in) || !file_can_write(out))
        return -EBADF;
    if ((int64_t)size < 0)
        return -EINVAL;
    if (guest_offset && in->ops->positionless)
        return -ESPIPE;
    if (in->ops->positionless || inode_is_directory(in->inode) || (out->flags & O_APPEND))
        return -EINVAL;
    if ((error = offset_begin(&from, in, guest_offset)) < 0)
        return error;
    (void)offset_begin(&to, out, NULL);
    return pump_between(&from, &to, size, out->flags & O_NONBLOCK);
}

LX_SYSCALL(copy_file_range, int in_fd, int64_t *guest_in, int out_fd, int64_t *guest_out, uint64_t size, unsigned flags)
{
    scoped_file in = fd_get(in_fd);
    scoped_file out = fd_get(out_fd);
    struct offset from, to;
    int error;

    if (!in || !out)
        return -EBADF;
    if (flags)
        return -EINVAL;
    if ((error = offset_begin(&from, in, guest_in)) < 0 || (error = offset_begin(&to, out, guest_out)) < 0)
        return error;
    if (inode_is_directory(in->inode) || inode_is_directory(out->inode))
        return -EISDIR;
    if (!S_ISREG(in->inode->mode) || !S_ISREG(out->inode->mode))
        return -EINVAL;
    if (!file_can_read(in) || !file_can_write(out) || (out->flags & O_APPEND))
        return -EBADF;
    if (in->inode->superblock != out->inode->superblock)
        return -EXDEV;
    if (*from.position + (int64_t)size < *from.position || *to.position + (int64_t)size < *to.position)
        return -EOVERFLOW;
    if (in->inode == out->inode && *from.position < *to.position + (int64_t)size && *to.position < *from.position + (int64_t)size)
        return -EINVAL;
    if (size) {
        int64_t allowed = file_size_allowed(out->inode, *to.position, size);
        if (allowed < 0)
            return allowed;
        size = (uint64_t)allowed;
    }
    return pump_between(&from, &to, size, /*no_wait=*/false);
}

LX_SYSCALL(splice, int in_fd, int64_t *guest_in, int out_fd, int64_t *guest_out, uint64_t size, unsigned flags)
{
    scoped_file in = fd_get(in_fd);
    scoped_file out = fd_get(out_fd);
    struct offset from, to;
    int error;

    if (flags & ~SPLICE_FLAGS)
        return -EINVAL;
    if (size == 0)
        return 0;
    if (!in || !out || !file_can_read(in) || !file_can_write(out))
        return -EBADF;
    if (!is_pipe(in) && !is_pipe(out))
        return -EINVAL;
    if ((guest_in && is_pipe(in)) || (guest_out && is_pipe(out)))
        return -ESPIPE;
    if ((guest_in && in->ops->positionless) || (guest_out && out->ops->positionless))
        return -EINVAL;
    if (is_pipe(in) && is_pipe(out) && in->object == out->object)
        return -EINVAL;
    if (!(in->inode->mode & S_IFMT) || !(out->inode->mode & S_IFMT)) /* eventfd and the like */
        return -EINVAL;
    if (inode_is_directory(in->inode) || inode_is_directory(out->inode) || (!is_pipe(out) && (out->flags & O_APPEND)))
        return -EINVAL;
    if ((error = offset_begin(&from, in, guest_in)) < 0 || (error = offset_begin(&to, out, guest_out)) < 0)
        return error;
    bool no_wait = (flags & SPLICE_F_NONBLOCK) || (is_pipe(in) && (in->flags & O_NONBLOCK)) || (is_pipe(out) && (out->flags & O_NONBLOCK));
    return pump_between(&from, &to, size, no_wait);
}

/* What lies in the pipe, without taking it. */
static size_t peek(struct pipe *pipe, char *buffer, size_t size)
{
    scoped_lock(&pipe->lock);
    uint64_t available = pipe->tail - pipe->head;
    if (size > available)
        size = available;
    for (size_t done = 0; done < size;) {
        uint32_t at = (uint32_t)(pipe->head + done) & (pipe->capacity - 1);
        size_t part = pipe->capacity - at < size - done ? pipe->capacity - at : size - done;
        memcpy(buffer + done, pipe->ring + at, part);
        done += part;
    }
    return size;
}

static bool has_data_or_end(const struct pipe *pipe)
{
    return pipe->tail != pipe->head || pipe->writers == 0;
}

LX_SYSCALL(tee, int in_fd, int out_fd, uint64_t size, unsigned flags)
{
    scoped_file in = fd_get(in_fd);
    scoped_file out = fd_get(out_fd);
    int64_t result;

    if (flags & ~SPLICE_FLAGS)
        return -EINVAL;
    if (size == 0)
        return 0;
    if (!in || !out || !file_can_read(in) || !file_can_write(out))
        return -EBADF;
    if (!is_pipe(in) || !is_pipe(out) || in->object == out->object)
        return -EINVAL;
    struct pipe *pipe = in->object;
    bool no_wait = (flags & SPLICE_F_NONBLOCK) || (in->flags & O_NONBLOCK) || (out->flags & O_NONBLOCK);
    {
        int error = 0;
        scoped_lock(&pipe->lock);
        if (!has_data_or_end(pipe) && no_wait)
            return -EAGAIN;
        wait_until(&pipe->readable, &pipe->lock, has_data_or_end(pipe), BLY_FOREVER, error);
        if (error < 0)
            return -ERESTARTSYS;
    }
    if (no_wait && !ready(out, POLLOUT))
        return -EAGAIN;
    size_t room = ((struct pipe *)out->object)->capacity;
    if (size > room)
        size = room;
    char *bounce = heap_alloc(size);
    int64_t position = 0;
    if (!bounce)
        return -ENOMEM;
    size_t count = peek(pipe, bounce, size);
    result = count ? write_kernel(out, bounce, count, &position) : 0;
    heap_free(bounce);
    return result;
}

/* As much as fits: it waits until something does, unlike write(2) not until all has gone. */
static long fill_pipe(struct open_file *file, const struct iovec *list, uint64_t count)
{
    struct pipe *pipe = file->object;
    int64_t position = 0, done = 0;

    if (count > UIO_MAXIOV)
        return -EINVAL;
    for (uint64_t i = 0; i < count; i++) {
        struct bly_iovec part;
        if (guest_read(&part, list + i, sizeof(part)) < 0)
            return done ? done : -EFAULT;
        while (part.size) {
            if (done && !ready(file, POLLOUT))
                return done;
            uint32_t room = pipe->capacity - (uint32_t)(pipe->tail - pipe->head);
            size_t size = room > PIPE_ATOMIC ? room : PIPE_ATOMIC;
            struct bly_iovec piece = { part.base, part.size < size ? part.size : size };
            struct io_buffer from = { .vector = &piece, .count = 1, .size = piece.size };
            int64_t written = file_write(file, &from, &position);
            if (written <= 0)
                return done ? done : written;
            done += written;
            part.base = (char *)part.base + written;
            part.size -= (size_t)written;
        }
    }
    return done;
}

LX_SYSCALL(vmsplice, int fd, const struct iovec *list, uint64_t count, unsigned flags)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    if (flags & ~SPLICE_FLAGS)
        return -EINVAL;
    if (!is_pipe(file))
        return -EBADF;
    if (count == 0)
        return 0;
    bool writes = file_can_write(file);
    if ((flags & SPLICE_F_NONBLOCK) && !ready(file, writes ? POLLOUT : POLLIN))
        return -EAGAIN;
    return writes ? fill_pipe(file, list, count) : lx_sys_readv(fd, list, count);
}
