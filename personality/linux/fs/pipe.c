/* Pipes: a ring of bytes in the kernel heap.
 *
 * Data is copied between the program and the ring without a lock: who copies sets `reading` (or `writing`) under pipe.lock,
 * copies, and commits by moving `head` (or `tail`) under the lock again. One reader and one writer thus work at the
 * same time, and the invariant is: bytes of [head, tail) belong to the reader that set `reading`, the rest of the ring to the writer
 * that set `writing`.
 *
 * Lock order: pipe.lock, then its queues. */
#include "personality/linux/fs/pipe.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

/* A large transfer is committed in steps of this size, so that both ends copy at the same time. */
#define PIPE_STEP 16384u
#define RING_CACHE_SIZE 8

#define READ_EVENTS (POLLIN | POLLRDNORM)
#define WRITE_EVENTS (POLLOUT | POLLWRNORM)

/* Bytes written with O_DIRECT, to be read as one unit (pipe(2)). */
struct packet {
    struct list node;
    uint64_t start, end;
};

/* Rings of the default size that were given back: a shell makes pipes all the time. */
struct ring_cache {
    struct lock lock;
    uint32_t count;
    char *rings[RING_CACHE_SIZE];
};

int lx_pipe_init(void);
int lx_pipe_init(void)
{
    lx_kernel->pipes = heap_alloc(sizeof(struct ring_cache));
    return lx_kernel->pipes ? 0 : -ENOMEM;
}

static char *ring_take(uint32_t capacity)
{
    struct ring_cache *cache = lx_kernel->pipes;
    char *ring = NULL;

    if (capacity == PIPE_DEFAULT_SIZE) {
        scoped_lock(&cache->lock);
        if (cache->count)
            ring = cache->rings[--cache->count];
    }
    return ring ? ring : heap_alloc(capacity);
}

static void ring_give(char *ring, uint32_t capacity)
{
    struct ring_cache *cache = lx_kernel->pipes;

    if (ring && capacity == PIPE_DEFAULT_SIZE) {
        scoped_lock(&cache->lock);
        if (cache->count < RING_CACHE_SIZE) {
            cache->rings[cache->count++] = ring;
            ring = NULL;
        }
    }
    heap_free(ring);
}

struct pipe *pipe_create(void)
{
    struct pipe *pipe = heap_alloc(sizeof *pipe);

    if (!pipe)
        return NULL;
    wait_queue_init(&pipe->readable);
    wait_queue_init(&pipe->writable);
    wait_queue_init(&pipe->turn);
    wait_queue_init(&pipe->opened);
    list_init(&pipe->packets);
    pipe->capacity = PIPE_DEFAULT_SIZE;
    return pipe;
}

void pipe_free(struct pipe *pipe)
{
    list_for_each_safe(node, after, &pipe->packets)
        heap_free(container_of(node, struct packet, node));
    ring_give(pipe->ring, pipe->capacity);
    heap_free(pipe);
}

static bool reads(unsigned flags) { return (flags & O_ACCMODE) != O_WRONLY; }
static bool writes(unsigned flags) { return (flags & O_ACCMODE) != O_RDONLY; }

/* Whoever waits put itself on the queue under pipe.lock (or tests under it after that), so that a queue found empty after
 * the lock was held has nobody to be woken. */
static void announce(struct wait_queue *queue, uint32_t events)
{
    if (!list_empty(&queue->waiters))
        wait_queue_wake(queue, events, 1);
}

static uint32_t used(const struct pipe *pipe) { return (uint32_t)(pipe->tail - pipe->head); }
static uint32_t room(const struct pipe *pipe) { return pipe->capacity - used(pipe); }

/* pipe(7): POLLOUT promises that PIPE_BUF bytes fit. */
static bool has_room(const struct pipe *pipe, uint32_t size, bool as_packet)
{
    return room(pipe) >= size && (!as_packet || pipe->packet_count < pipe->capacity / PIPE_ATOMIC);
}

/* Waits until nobody copies on our side. pipe.lock is held, and released meanwhile. */
static int wait_turn(struct pipe *pipe, const bool *busy)
{
    int result = 0;

    pipe->turn_waiters++;
    wait_until(&pipe->turn, &pipe->lock, !*busy, BLY_FOREVER, result);
    pipe->turn_waiters--;
    return result < 0 ? -ERESTARTSYS : 0;
}

static void end_turn(struct pipe *pipe, bool *busy)
{
    *busy = false;
    if (pipe->turn_waiters)
        wait_queue_wake_all(&pipe->turn);
}

/* Starting afresh at the ring's begin whenever it runs empty keeps small messages in the same few cache lines. */
static void rewind_if_empty(struct pipe *pipe)
{
    if (pipe->head == pipe->tail && !pipe->reading && !pipe->writing)
        pipe->head = pipe->tail = 0;
}

/* ---- Reading ---- */

static struct packet *first_packet(struct pipe *pipe)
{
    return list_empty(&pipe->packets) ? NULL : container_of(pipe->packets.next, struct packet, node);
}

static int64_t copy_out(const struct pipe *pipe, struct io_buffer *to, uint32_t size)
{
    uint32_t at = (uint32_t)pipe->head & (pipe->capacity - 1);
    uint32_t first = size < pipe->capacity - at ? size : pipe->capacity - at;
    int64_t copied = io_copy_out(to, pipe->ring + at, first), more;

    if (copied == first && size > first && (more = io_copy_out(to, pipe->ring, size - first)) > 0)
        copied += more;
    return copied;
}

/* One reservation, copy and commit; pipe.lock is held, released for the copy, and held again. */
static int64_t read_step(struct pipe *pipe, struct io_buffer *to, bool *out_packet_end)
{
    struct packet *packet = first_packet(pipe);
    uint64_t limit = pipe->tail;
    bool in_packet = packet && packet->start <= pipe->head;

    if (packet)
        limit = in_packet ? packet->end : packet->start;
    uint64_t available = limit - pipe->head;
    uint32_t size = (uint32_t)(to->size < available ? to->size : available);
    if (size > PIPE_STEP && !in_packet)
        size = PIPE_STEP;

    pipe->reading = true;
    lock_release(&pipe->lock);
    int64_t copied = copy_out(pipe, to, size);
    lock_acquire(&pipe->lock);
    end_turn(pipe, &pipe->reading);
    if (copied <= 0)
        return copied;

    bool was_full = room(pipe) < PIPE_ATOMIC || packet;
    pipe->head += (uint64_t)copied;
    if (in_packet) { /* the rest of a packet that did not fit is lost */
        pipe->head = packet->end;
        list_remove(&packet->node);
        pipe->packet_count--;
        heap_free(packet);
    }
    *out_packet_end = packet != NULL;
    rewind_if_empty(pipe);
    if (was_full && room(pipe) >= PIPE_ATOMIC)
        announce(&pipe->writable, WRITE_EVENTS);
    return copied;
}

static int64_t pipe_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct pipe *pipe = file->object;
    int64_t moved = 0;
    bool packet_end = false, waited = false;

    if (to->size == 0)
        return 0;
    lock_acquire(&pipe->lock);
    while (to->size && !packet_end) {
        int64_t step = 0;
        if (pipe->reading) {
            step = wait_turn(pipe, &pipe->reading);
        } else if (pipe->head != pipe->tail) {
            uint32_t before = (uint32_t)to->size;
            step = read_step(pipe, to, &packet_end);
            if (step > 0)
                moved += step;
            if (step == 0 && to->size == before)
                step = -EFAULT;
        } else if (moved || !pipe->writers) {
            break;
        } else if (file->flags & O_NONBLOCK) {
            step = -EAGAIN;
        } else {
            int result = 0;
            wait_until(&pipe->readable, &pipe->lock, pipe->head != pipe->tail || !pipe->writers, BLY_FOREVER, result);
            waited = true;
            step = result < 0 ? -ERESTARTSYS : 0;
        }
        if (step < 0) {
            moved = moved ? moved : step;
            break;
        }
    }
    /* Another reader may have been passed over by the exclusive wake-up that brought us here. Who did not wait announces nothing: it would
     * be an edge to EPOLLET. */
    if (waited && pipe->head != pipe->tail)
        announce(&pipe->readable, READ_EVENTS);
    lock_release(&pipe->lock);
    return moved;
}

/* ---- Writing ---- */

static int64_t copy_in(const struct pipe *pipe, struct io_buffer *from, uint32_t size)
{
    uint32_t at = (uint32_t)pipe->tail & (pipe->capacity - 1);
    uint32_t first = size < pipe->capacity - at ? size : pipe->capacity - at;
    int64_t copied = io_copy_in(from, pipe->ring + at, first), more;

    if (copied == first && size > first && (more = io_copy_in(from, pipe->ring, size - first)) > 0)
        copied += more;
    return copied;
}

static int64_t write_step(struct pipe *pipe, struct io_buffer *from, uint32_t size, struct packet *packet)
{
    if (!pipe->ring && !(pipe->ring = ring_take(pipe->capacity)))
        return -ENOMEM;
    pipe->writing = true;
    lock_release(&pipe->lock);
    int64_t copied = copy_in(pipe, from, size);
    lock_acquire(&pipe->lock);
    end_turn(pipe, &pipe->writing);
    if (copied <= 0)
        return copied;
    if (packet) {
        packet->start = pipe->tail;
        packet->end = pipe->tail + (uint64_t)copied;
        list_push(&pipe->packets, &packet->node);
        pipe->packet_count++;
    }
    pipe->tail += (uint64_t)copied;
    announce(&pipe->readable, READ_EVENTS);
    return copied;
}

static int64_t pipe_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct pipe *pipe = file->object;
    struct packet *packet = NULL;
    bool broken = false;
    int64_t moved = 0;

    if (from->size == 0)
        return 0;
    lock_acquire(&pipe->lock);
    while (from->size) {
        bool as_packet = file->flags & O_DIRECT;
        uint32_t least = from->size < PIPE_ATOMIC ? (uint32_t)from->size : PIPE_ATOMIC;
        int64_t step = 0;
        if (!pipe->readers) {
            broken = true;
            step = -EPIPE;
        } else if (pipe->writing) {
            step = wait_turn(pipe, &pipe->writing);
        } else if (has_room(pipe, least, as_packet)) {
            uint32_t size = room(pipe) < PIPE_STEP ? room(pipe) : PIPE_STEP;
            if (size > from->size)
                size = (uint32_t)from->size;
            if (as_packet && size > PIPE_ATOMIC)
                size = PIPE_ATOMIC;
            if (as_packet && !packet && !(packet = heap_alloc(sizeof *packet))) {
                step = -ENOMEM;
            } else {
                step = write_step(pipe, from, size, as_packet ? packet : NULL);
                if (step > 0) {
                    moved += step;
                    if (as_packet)
                        packet = NULL;
                    step = step < size ? -EFAULT : 0;
                } else if (step == 0) {
                    step = -EFAULT;
                }
            }
        } else if (file->flags & O_NONBLOCK) {
            step = -EAGAIN;
        } else {
            int result = 0;
            wait_until(&pipe->writable, &pipe->lock, has_room(pipe, least, as_packet) || !pipe->readers, BLY_FOREVER, result);
            step = result < 0 ? -ERESTARTSYS : 0;
        }
        if (step < 0) {
            moved = moved ? moved : step;
            break;
        }
    }
    if (room(pipe) >= PIPE_ATOMIC)
        announce(&pipe->writable, WRITE_EVENTS);
    lock_release(&pipe->lock);
    heap_free(packet);
    if (broken)
        signal_send_thread(lx_current(), SIGPIPE, NULL);
    return moved;
}

/* ---- The rest of the file operations ---- */

static uint32_t pipe_poll(struct open_file *file, struct poll_table *table)
{
    struct pipe *pipe = file->object;
    uint32_t events = 0;

    if (table && reads(file->flags))
        poll_wait(table, &pipe->readable);
    if (table && writes(file->flags))
        poll_wait(table, &pipe->writable);
    scoped_lock(&pipe->lock);
    if (reads(file->flags)) {
        if (pipe->head != pipe->tail)
            events |= READ_EVENTS;
        /* A FIFO opened for reading before any writer came is not hung up yet: position holds writer_opens as of our open. */
        if (!pipe->writers && pipe->writer_opens != (uint64_t)file->position)
            events |= POLLHUP;
    }
    if (writes(file->flags)) {
        if (has_room(pipe, PIPE_ATOMIC, file->flags & O_DIRECT))
            events |= WRITE_EVENTS;
        if (!pipe->readers)
            events |= POLLERR;
    }
    return events;
}

static long pipe_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    struct pipe *pipe = file->object;

    if (request != FIONREAD)
        return -ENOTTY;
    lock_acquire(&pipe->lock);
    uint32_t count = used(pipe);
    lock_release(&pipe->lock);
    return guest_store32((uint32_t *)argument, count);
}

void pipe_add_ends(struct pipe *pipe, unsigned flags)
{
    assert(lock_held(&pipe->lock));
    if (reads(flags)) {
        pipe->readers++;
        pipe->reader_opens++;
    }
    if (writes(flags)) {
        pipe->writers++;
        pipe->writer_opens++;
    }
    wait_queue_wake_all(&pipe->opened);
}

void pipe_close(struct open_file *file)
{
    struct pipe *pipe = file->object;
    struct inode *fifo = pipe ? pipe->fifo_inode : NULL;

    if (!pipe)
        return; /* a FIFO's open that failed */
    if (fifo)
        lock_acquire(&fifo->lock); /* no new end may be opened between the last one's going and the pipe's */
    lock_acquire(&pipe->lock);
    pipe->readers -= reads(file->flags);
    pipe->writers -= writes(file->flags);
    bool last = !pipe->readers && !pipe->writers;
    if (last && fifo)
        fifo->fifo = NULL;
    if (!last && !pipe->writers)
        wait_queue_wake(&pipe->readable, READ_EVENTS | POLLHUP, 1 << 30);
    if (!last && !pipe->readers)
        wait_queue_wake(&pipe->writable, WRITE_EVENTS | POLLERR, 1 << 30);
    lock_release(&pipe->lock);
    if (fifo)
        lock_release(&fifo->lock);
    if (last)
        pipe_free(pipe);
}

static int64_t set_capacity(struct pipe *pipe, uint64_t size)
{
    if (size > 1u << 31)
        return -EINVAL;
    if (size > PIPE_MAXIMUM_SIZE && !lx_capable(CAP_SYS_RESOURCE))
        return -EPERM;
    uint32_t capacity = PIPE_ATOMIC;
    while (capacity < size)
        capacity <<= 1;
    char *ring = heap_alloc(capacity), *old = NULL;
    if (!ring)
        return -ENOMEM;

    int64_t result = capacity;
    uint32_t old_capacity = 0;
    lock_acquire(&pipe->lock);
    while (pipe->reading || pipe->writing) {
        if ((result = wait_turn(pipe, pipe->reading ? &pipe->reading : &pipe->writing)) < 0)
            break;
        result = capacity;
    }
    if (result > 0 && used(pipe) > capacity) {
        result = -EBUSY;
    } else if (result > 0) {
        for (uint64_t at = pipe->head; pipe->ring && at < pipe->tail;) {
            uint32_t from = (uint32_t)at & (pipe->capacity - 1), to = (uint32_t)at & (capacity - 1);
            uint64_t size_now = pipe->tail - at;
            size_now = size_now < pipe->capacity - from ? size_now : pipe->capacity - from;
            size_now = size_now < capacity - to ? size_now : capacity - to;
            memcpy(ring + to, pipe->ring + from, size_now);
            at += size_now;
        }
        old = pipe->ring;
        old_capacity = pipe->capacity;
        pipe->ring = ring;
        pipe->capacity = capacity;
        ring = NULL;
        announce(&pipe->writable, WRITE_EVENTS);
    }
    lock_release(&pipe->lock);
    heap_free(ring);
    ring_give(old, old_capacity);
    return result;
}

long pipe_fcntl(struct open_file *file, unsigned command, uint64_t argument)
{
    if (file->ops != &pipe_ops)
        return -EBADF;
    struct pipe *pipe = file->object;
    if (command == F_SETPIPE_SZ)
        return set_capacity(pipe, (uint32_t)argument);
    return pipe->capacity;
}

const struct file_ops pipe_ops = {
    .name = "pipe",
    .read = pipe_read,
    .write = pipe_write,
    .poll = pipe_poll,
    .ioctl = pipe_ioctl,
    .close = pipe_close,
    .positionless = true,
};

/* ---- pipe(2) ---- */

static int make_ends(struct pipe *pipe, unsigned flags, struct open_file *out_files[2])
{
    static const unsigned access[2] = { O_RDONLY, O_WRONLY };

    for (int end = 0; end < 2; end++) {
        unsigned file_flags = access[end] | (flags & (O_NONBLOCK | O_DIRECT));
        if (end == 0) {
            out_files[0] = file_create_anonymous(&pipe_ops, pipe, S_IFIFO | 0600, file_flags);
        } else { /* one inode: opening /proc/self/fd/N of either end finds the pipe (fs/fifo.c) */
            out_files[1] = file_create(&pipe_ops, out_files[0]->dentry, out_files[0]->inode, file_flags);
            if (out_files[1])
                out_files[1]->object = pipe;
        }
        if (!out_files[end]) {
            if (end == 0)
                pipe_free(pipe);
            else
                file_unref(out_files[0]);
            return -ENFILE;
        }
        lock_acquire(&pipe->lock);
        pipe_add_ends(pipe, access[end]);
        lock_release(&pipe->lock);
        pipe->fifo_inode = out_files[0]->inode;
        pipe->fifo_inode->fifo = pipe;
    }
    out_files[0]->poll_queue = &pipe->readable;
    out_files[1]->poll_queue = &pipe->writable;
    return 0;
}

LX_SYSCALL(pipe2, int *out_fds, int flags)
{
    struct open_file *files[2];
    struct pipe *pipe;
    int fds[2];

    if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
        return -EINVAL;
    if (!(pipe = pipe_create()))
        return -ENOMEM;
    int result = make_ends(pipe, (unsigned)flags, files);
    if (result < 0)
        return result;
    if ((fds[0] = fd_install(files[0], 0, flags & O_CLOEXEC)) < 0) {
        file_unref(files[0]);
        file_unref(files[1]);
        return fds[0];
    }
    if ((fds[1] = fd_install(files[1], 0, flags & O_CLOEXEC)) < 0) {
        file_unref(files[1]);
        fd_close(fds[0]);
        return fds[1];
    }
    if (guest_write(out_fds, fds, sizeof fds) < 0) {
        fd_close(fds[0]);
        fd_close(fds[1]);
        return -EFAULT;
    }
    return 0;
}

LX_SYSCALL(pipe, int *out_fds)
{
    return lx_sys_pipe2(out_fds, 0);
}
