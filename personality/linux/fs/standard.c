/* Standard input, output and error as the user of `bailey run` gave them: host streams behind an open file.
 *
 * A pipe is waited for here and O_NONBLOCK is ours alone: the host's descriptor is shared with programs outside. A regular
 * file has the host's own offset, also when the program seeks: the next command of the same shell script goes on where it left
 * off. Only what is opened anew inside, as /dev/stdin, has a position of its own. Terminals do not come this way: they are the tty layer's. */
#include "personality/linux/fs/standard.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/fs/lower.h"
#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include "personality/linux/tty/tty.h"
#include <asm/poll.h>

enum { WHENCE_SET, WHENCE_CURRENT, WHENCE_END, VECTOR_MAX = 1024 };

struct standard_stream {
    bly_handle handle;
    bool own_position; /* file->position counts, not the host's offset */
    struct wait_queue activity; /* woken after each read and write: an edge-triggered epoll may report it again then */
};

static bool vector_valid(const struct io_buffer *io)
{
    for (size_t i = 0; i < io->count && !io->kernel; i++)
        if (!guest_range_valid(io->vector[i].base, io->vector[i].size))
            return false;
    return true;
}

static void advance(struct io_buffer *io, size_t size)
{
    io->size -= size;
    while (size && io->count) {
        size_t step = size < io->vector->size ? size : io->vector->size;
        io->vector->base = (char *)io->vector->base + step;
        io->vector->size -= step;
        size -= step;
        if (io->vector->size)
            break;
        io->vector++;
        io->count--;
    }
}

/* One host call; 0 is end of file (or nothing to move). */
static int64_t move_some(const struct standard_stream *stream, struct io_buffer *io, bool writing, uint64_t offset,
                         unsigned flags)
{
    size_t count = io->count < VECTOR_MAX ? io->count : VECTOR_MAX;
    int64_t moved;

    mm_make_present(io->vector, count);
    if (flags & BLY_STREAM_NO_WAIT)
        moved = writing ? bly->stream_write(stream->handle, io->vector, count, offset, flags)
                        : bly->stream_read(stream->handle, io->vector, count, offset, flags);
    else
        moved = writing ? stream_write_file(stream->handle, io->vector, count, offset, flags)
                        : stream_read_file(stream->handle, io->vector, count, offset);
    if (moved > 0)
        advance(io, (size_t)moved);
    return moved;
}

/* ---- Regular files ---- */

static int64_t file_move(struct open_file *file, struct io_buffer *io, int64_t *position, bool writing)
{
    struct standard_stream *stream = file->object;
    int64_t total = 0, moved = 0;

    if (!vector_valid(io))
        return -EFAULT;
    while (io->size) {
        bool host_offset = position == &file->position && !stream->own_position;
        moved = move_some(stream, io, writing, host_offset ? BLY_AT_CURRENT : (uint64_t)*position, 0);
        if (moved <= 0)
            break;
        *position += moved;
        total += moved;
        if (!writing)
            break;
    }
    if (total > 0 && writing)
        inode_touch(file->inode, INODE_MODIFY | INODE_CHANGE);
    return total ? total : moved;
}

static int64_t file_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return file_move(file, to, position, /*writing=*/false);
}

static int64_t file_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    return file_move(file, from, position, /*writing=*/true);
}

static int64_t file_seek(struct open_file *file, int64_t offset, int whence)
{
    struct standard_stream *stream = file->object;
    struct bly_attributes attributes;
    int result;

    if (!stream->own_position) {
        if (whence < 0 || whence > BLY_SEEK_HOLE)
            return -EINVAL;
        offset = bly->stream_seek(stream->handle, (uint64_t)offset, (unsigned)whence);
        if (offset >= 0)
            file->position = offset;
        return offset;
    }
    if (whence == WHENCE_CURRENT) {
        if (offset == 0)
            return file->position;
        offset += file->position;
    } else if (whence == WHENCE_END) {
        if ((result = bly->stream_query(stream->handle, &attributes)) < 0)
            return result;
        offset += (int64_t)attributes.size;
    } else if (whence == BLY_SEEK_DATA || whence == BLY_SEEK_HOLE) {
        offset = bly->stream_seek(stream->handle, (uint64_t)offset, (unsigned)whence);
        if (offset < 0)
            return offset;
    } else if (whence != WHENCE_SET) {
        return -EINVAL;
    }
    if (offset < 0)
        return -EINVAL;
    file->position = offset;
    return offset;
}

static int file_flush(struct open_file *file, unsigned flags)
{
    struct standard_stream *stream = file->object;

    return bly->stream_flush(stream->handle, flags);
}

/* ---- Pipes, and whatever else has no positions ---- */

static int wait_for(const struct standard_stream *stream, unsigned events)
{
    int result;

    do {
        if (!thread_enter_host_wait())
            return -EINTR;
        result = bly->wait_stream(stream->handle, events, BLY_FOREVER);
        thread_leave_host_wait();
    } while (result == -EINTR && !thread_has_work());
    return result;
}

static int64_t pipe_move(struct open_file *file, struct io_buffer *io, bool writing)
{
    struct standard_stream *stream = file->object;
    int64_t total = 0, moved = 0;

    if (!vector_valid(io))
        return -EFAULT;
    while (io->size) {
        moved = move_some(stream, io, writing, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        if (moved == -EAGAIN && !(file->flags & O_NONBLOCK)) {
            moved = wait_for(stream, writing ? BLY_WAIT_WRITE : BLY_WAIT_READ);
            if (moved >= 0)
                continue;
        }
        if (moved == -EINTR)
            moved = -ERESTARTSYS;
        if (moved <= 0)
            break;
        total += moved;
        if (!writing)
            break;
    }
    wait_queue_wake(&stream->activity, POLLIN | POLLOUT, 1);
    if (moved == -EPIPE)
        signal_send_thread(lx_current(), SIGPIPE, NULL);
    return total ? total : moved;
}

static int64_t pipe_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return pipe_move(file, to, /*writing=*/false);
}

static int64_t pipe_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    return pipe_move(file, from, /*writing=*/true);
}

/* What is ready now. An interrupt would cut even this short; it stays noted for who waits. */
static int look(const struct standard_stream *stream, unsigned events)
{
    struct bly_thread_block *block = thread_block();
    bool interrupted = false;
    int ready;

    while ((ready = bly->wait_stream(stream->handle, events, 0)) == -EINTR) {
        block->interrupt_pending = 0;
        interrupted = true;
    }
    if (interrupted)
        block->interrupt_pending = 1;
    return ready;
}

static uint32_t pipe_poll(struct open_file *file, struct poll_table *table)
{
    struct standard_stream *stream = file->object;
    unsigned access = file->flags & O_ACCMODE;
    unsigned events = (access != O_WRONLY ? BLY_WAIT_READ : 0) | (access != O_RDONLY ? BLY_WAIT_WRITE : 0);

    poll_wait(table, &stream->activity);
    poll_wait_stream(table, stream->handle, events | BLY_WAIT_ERROR | BLY_WAIT_HANG_UP);
    int ready = look(stream, events);
    if (ready < 0)
        return POLLERR;
    uint32_t result = (uint32_t)ready & (POLLIN | POLLOUT | POLLERR | POLLHUP);
    if (result & POLLIN)
        result |= POLLRDNORM;
    if (result & POLLOUT)
        result |= POLLWRNORM;
    return result;
}

static void standard_close(struct open_file *file)
{
    heap_free(file->object); /* the handle is the start information's: exec'd programs may be given it again */
}

static const struct file_ops standard_file_ops = {
    .name = "file",
    .read = file_read,
    .write = file_write,
    .seek = file_seek,
    .flush = file_flush,
    .close = standard_close,
};
static const struct file_ops standard_pipe_ops = {
    .name = "pipe",
    .read = pipe_read,
    .write = pipe_write,
    .poll = pipe_poll,
    .close = standard_close,
    .positionless = true,
};

/* fstat(2) of what the host has. */
static int standard_refresh(struct inode *inode)
{
    struct bly_attributes now;
    int result = bly->stream_query((bly_handle)(uintptr_t)inode->data, &now);

    if (result == -EBADF) /* the monitor keeps no descriptor of a pipe: what is known from the start is all there is */
        return 0;
    if (result < 0)
        return result;
    scoped_lock(&inode->lock);
    inode->size = now.size;
    inode->blocks = now.blocks;
    inode->mode = (inode->mode & S_IFMT) | (now.mode & 07777);
    inode->link_count = now.link_count;
    inode->access_ns = now.access_ns;
    inode->modify_ns = now.modify_ns;
    inode->change_ns = now.change_ns;
    return 0;
}

/* Opened once more, as /dev/stdin or /proc/self/fd/0: a file from its start, a pipe as it is. */
static int standard_open(struct inode *inode, struct open_file *file)
{
    struct standard_stream *stream = heap_alloc(sizeof *stream);

    if (!stream)
        return -ENOMEM;
    stream->handle = (bly_handle)(uintptr_t)inode->data;
    stream->own_position = true;
    wait_queue_init(&stream->activity);
    file->object = stream;
    file->ops = S_ISFIFO(inode->mode) ? &standard_pipe_ops : &standard_file_ops;
    return 0;
}

static const struct inode_ops standard_inode_ops = { .refresh = standard_refresh, .open = standard_open };

bool lx_standard_owns(const struct inode *inode)
{
    return inode->ops == &standard_inode_ops;
}

/* The host's /dev/full and its neighbours are as good as ours of the same name, which need no host call. */
static struct open_file *open_device(uint64_t minor, unsigned flags)
{
    const char *name = minor == 5 ? "/dev/zero" : minor == 7 ? "/dev/full" : minor == 8 ? "/dev/random" : minor == 9 ? "/dev/urandom" : "/dev/null";
    struct open_file *file;

    return vfs_open(NULL, name, flags, 0, &file) < 0 ? NULL : file;
}

struct open_file *lx_standard_stream(const struct bly_start_stream *given)
{
    static const unsigned open_flags[4] = { O_RDWR, O_RDONLY, O_WRONLY, O_RDWR };
    unsigned flags = open_flags[given->access & 3];
    bool is_file = given->kind == BLY_KIND_FILE;
    struct open_file *file;

    if (given->kind == BLY_KIND_TTY)
        return tty_open_terminal(flags);
    if (given->handle == BLY_NO_HANDLE)
        return open_device(/*minor=*/0, O_RDWR);
    if (given->kind == BLY_KIND_CHARACTER)
        return open_device(given->position, flags);

    struct standard_stream *stream = heap_alloc(sizeof *stream);
    if (!stream)
        return NULL;
    stream->handle = given->handle;
    wait_queue_init(&stream->activity);
    file = file_create_anonymous(is_file ? &standard_file_ops : &standard_pipe_ops, stream,
                                 is_file ? S_IFREG | 0600 : S_IFIFO | 0600, flags);
    if (!file) {
        heap_free(stream);
        return NULL;
    }
    file->inode->data = (void *)(uintptr_t)given->handle;
    file->inode->ops = &standard_inode_ops;
    file->inode->owner = start_info->user;
    file->inode->group = start_info->group;
    return file;
}
