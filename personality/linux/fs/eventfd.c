/* eventfd(2): a 64-bit counter that can be waited for. It never reaches ~0, so that there is always one value that only the
 * kernel could have set (EPOLLERR); writers wait while their value does not fit. */
#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include <asm/poll.h>

#define COUNT_MAX (UINT64_MAX - 1)
enum { EFD_SEMAPHORE = 1, EFD_NONBLOCK = O_NONBLOCK, EFD_CLOEXEC = O_CLOEXEC };

struct eventfd {
    struct lock lock; /* guards count */
    uint64_t count;
    bool semaphore;   /* a read takes one */
    uint32_t id;      /* as fdinfo shows it */
    struct wait_queue readable, writable;
};

static int64_t eventfd_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct eventfd *event = file->object;
    uint64_t value;
    int result = 0;

    if (to->size < sizeof value)
        return -EINVAL;
    lock_acquire(&event->lock);
    if (!event->count && (file->flags & O_NONBLOCK))
        result = -EAGAIN;
    else
        wait_until(&event->readable, &event->lock, event->count, BLY_FOREVER, result);
    value = event->semaphore ? 1 : event->count;
    if (result == 0) {
        event->count -= value;
        wait_queue_wake(&event->writable, POLLOUT | POLLWRNORM, 1);
        if (event->count)
            wait_queue_wake(&event->readable, POLLIN | POLLRDNORM, 1);
    }
    lock_release(&event->lock);
    if (result < 0)
        return result == -EINTR ? -ERESTARTSYS : result;
    return io_copy_out(to, &value, sizeof value);
}

static int64_t eventfd_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct eventfd *event = file->object;
    uint64_t value;
    int result = 0;

    if (from->size < sizeof value)
        return -EINVAL;
    if (io_copy_in(from, &value, sizeof value) != sizeof value)
        return -EFAULT;
    if (value == UINT64_MAX)
        return -EINVAL;
    lock_acquire(&event->lock);
    if (COUNT_MAX - event->count < value && (file->flags & O_NONBLOCK))
        result = -EAGAIN;
    else
        wait_until(&event->writable, &event->lock, COUNT_MAX - event->count >= value, BLY_FOREVER, result);
    if (result == 0) {
        event->count += value;
        wait_queue_wake(&event->readable, POLLIN | POLLRDNORM, 1);
    }
    lock_release(&event->lock);
    if (result < 0)
        return result == -EINTR ? -ERESTARTSYS : result;
    return sizeof value;
}

static uint32_t eventfd_poll(struct open_file *file, struct poll_table *table)
{
    struct eventfd *event = file->object;

    poll_wait(table, &event->readable);
    poll_wait(table, &event->writable);
    scoped_lock(&event->lock);
    return (event->count ? POLLIN | POLLRDNORM : 0) | (event->count < COUNT_MAX ? POLLOUT | POLLWRNORM : 0);
}

static void eventfd_close(struct open_file *file)
{
    heap_free(file->object);
}

static void eventfd_describe(struct open_file *file, char *text, size_t size)
{
    struct eventfd *event = file->object;

    lock_acquire(&event->lock);
    uint64_t count = event->count;
    lock_release(&event->lock);
    format(text, size, "eventfd-count: %16llx\neventfd-id: %u\neventfd-semaphore: %d\n", (unsigned long long)count, event->id,
           event->semaphore);
}

static const struct file_ops eventfd_ops = {
    .name = "anon_inode:[eventfd]",
    .read = eventfd_read,
    .write = eventfd_write,
    .poll = eventfd_poll,
    .close = eventfd_close,
    .describe = eventfd_describe,
    .seek = event_seek,
    .positionless = true,
};

LX_SYSCALL(eventfd2, uint32_t count, int flags)
{
    if (flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE))
        return -EINVAL;
    struct eventfd *event = heap_alloc(sizeof *event);
    if (!event)
        return -ENOMEM;
    event->count = count;
    event->semaphore = flags & EFD_SEMAPHORE;
    wait_queue_init(&event->readable);
    wait_queue_init(&event->writable);
    struct open_file *file = file_create_anonymous(&eventfd_ops, event, 0600, O_RDWR | (flags & O_NONBLOCK));
    if (!file) {
        heap_free(event);
        return -ENOMEM;
    }
    event->id = (uint32_t)file->id;
    int fd = fd_install(file, 0, flags & EFD_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(eventfd, uint32_t count)
{
    return lx_sys_eventfd2(count, 0);
}
