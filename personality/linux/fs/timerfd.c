/* timerfd: expirations of a timer as a counter that can be read and polled.
 *
 * The timer is one of the sandbox's queue and counts on the monotonic clock; a timer of CLOCK_REALTIME is set by the time that is left, and follows
 * the time of day over a suspension, which a reader is told if it wants to be (TFD_TIMER_CANCEL_ON_SET). Its function runs in init's timer thread and takes only timerfd.lock. */
#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include "personality/linux/process/timers.h"
#include <asm/ioctls.h>
#include <asm/poll.h>

enum {
    TFD_CLOEXEC = O_CLOEXEC, TFD_NONBLOCK = O_NONBLOCK, TFD_TIMER_ABSTIME = 1, TFD_TIMER_CANCEL_ON_SET = 2,
};
#define TFD_IOC_SET_TICKS 0x40085400u

struct timerfd {
    struct mutex setting;   /* one settime at a time: it cancels and starts */
    struct lock lock;       /* guards expirations */
    uint64_t expirations;   /* since the last read or setting */
    bool clock_was_set;     /* not told yet */
    int clock;
    int flags;              /* of the last setting, for fdinfo */
    struct lx_timer timer;
    struct wait_queue readable;
};

static void expire(struct lx_timer *timer, uint64_t expirations)
{
    struct timerfd *timerfd = container_of(timer, struct timerfd, timer);

    lock_acquire(&timerfd->lock);
    timerfd->expirations += expirations;
    wait_queue_wake(&timerfd->readable, POLLIN | POLLRDNORM, 1);
    lock_release(&timerfd->lock);
}

static void clock_set(struct lx_timer *timer, uint64_t jump_ns)
{
    struct timerfd *timerfd = container_of(timer, struct timerfd, timer);

    if (!(timerfd->flags & TFD_TIMER_CANCEL_ON_SET))
        return;
    timerfd->clock_was_set = true;
    wait_queue_wake(&timerfd->readable, POLLIN | POLLRDNORM, INT32_MAX);
}

static bool is_ready(const struct timerfd *timerfd)
{
    return timerfd->expirations || timerfd->clock_was_set;
}

static int64_t timerfd_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct timerfd *timerfd = file->object;
    uint64_t count;
    int result = 0;

    if (to->size < sizeof count)
        return -EINVAL;
    lock_acquire(&timerfd->lock);
    if (!is_ready(timerfd) && (file->flags & O_NONBLOCK))
        result = -EAGAIN;
    else
        wait_until(&timerfd->readable, &timerfd->lock, is_ready(timerfd), BLY_FOREVER, result);
    if (result == 0 && timerfd->clock_was_set)
        result = -ECANCELED; /* timerfd_create(2); what has expired is no longer to be had */
    if (result == 0 || result == -ECANCELED)
        timerfd->clock_was_set = false;
    count = timerfd->expirations;
    if (result == 0 || result == -ECANCELED)
        timerfd->expirations = 0;
    lock_release(&timerfd->lock);
    if (result < 0)
        return result == -EINTR ? -ERESTARTSYS : result;
    return io_copy_out(to, &count, sizeof count);
}

static uint32_t timerfd_poll(struct open_file *file, struct poll_table *table)
{
    struct timerfd *timerfd = file->object;

    poll_wait(table, &timerfd->readable);
    scoped_lock(&timerfd->lock);
    return is_ready(timerfd) ? POLLIN | POLLRDNORM : 0;
}

static long timerfd_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    struct timerfd *timerfd = file->object;
    uint64_t ticks;

    if (request != TFD_IOC_SET_TICKS)
        return -ENOTTY;
    if (guest_read(&ticks, (void *)argument, sizeof ticks) < 0)
        return -EFAULT;
    if (!ticks)
        return -EINVAL;
    lock_acquire(&timerfd->lock);
    timerfd->expirations = ticks;
    wait_queue_wake(&timerfd->readable, POLLIN | POLLRDNORM, 1);
    lock_release(&timerfd->lock);
    return 0;
}

static void timerfd_close(struct open_file *file)
{
    struct timerfd *timerfd = file->object;

    (void)timer_cancel(&timerfd->timer);
    heap_free(timerfd);
}

static void timerfd_describe(struct open_file *file, char *text, size_t size)
{
    struct timerfd *timerfd = file->object;
    uint64_t interval, left = timer_remaining(&timerfd->timer, &interval);

    format(text, size,
           "clockid: %d\nticks: %llu\nsettime flags: 0%o\nit_value: (%llu, %llu)\nit_interval: (%llu, %llu)\n", timerfd->clock,
           (unsigned long long)timerfd->expirations, timerfd->flags, (unsigned long long)(left / 1000000000u),
           (unsigned long long)(left % 1000000000u), (unsigned long long)(interval / 1000000000u),
           (unsigned long long)(interval % 1000000000u));
}

static const struct file_ops timerfd_ops = {
    .name = "anon_inode:[timerfd]",
    .read = timerfd_read,
    .poll = timerfd_poll,
    .ioctl = timerfd_ioctl,
    .close = timerfd_close,
    .describe = timerfd_describe,
    .seek = event_seek,
    .positionless = true,
};

LX_SYSCALL(timerfd_create, int clock, int flags)
{
    bool alarm = clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;

    if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK))
        return -EINVAL;
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME && !alarm)
        return -EINVAL;
    struct timerfd *timerfd = heap_alloc(sizeof *timerfd);
    if (!timerfd)
        return -ENOMEM;
    mutex_init(&timerfd->setting);
    timerfd->clock = clock;
    timerfd->timer.function = expire;
    wait_queue_init(&timerfd->readable);
    struct open_file *file = file_create_anonymous(&timerfd_ops, timerfd, 0600, O_RDWR | (flags & O_NONBLOCK));
    if (!file) {
        heap_free(timerfd);
        return -ENOMEM;
    }
    file->poll_queue = &timerfd->readable;
    int fd = fd_install(file, 0, flags & TFD_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

static struct timerfd *timerfd_of(const struct open_file *file)
{
    return file->ops == &timerfd_ops ? file->object : NULL;
}

static int clock_of(int clock)
{
    return clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME : clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock;
}

static struct __kernel_itimerspec current_setting(struct timerfd *timerfd)
{
    uint64_t interval = 0, left = timer_remaining(&timerfd->timer, &interval);

    return (struct __kernel_itimerspec){ .it_interval = time_to_timespec(interval), .it_value = time_to_timespec(left) };
}

LX_SYSCALL(timerfd_settime, int fd, int flags, const struct __kernel_itimerspec *guest_new, struct __kernel_itimerspec *guest_old)
{
    struct __kernel_itimerspec fresh, old;
    uint64_t value, interval;

    if (guest_read(&fresh, guest_new, sizeof fresh) < 0)
        return -EFAULT;
    if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) || !time_from_timespec(&fresh.it_value, &value) ||
        !time_from_timespec(&fresh.it_interval, &interval))
        return -EINVAL;
    scoped_file file = fd_get(fd);
    if (!file)
        return -EBADF;
    struct timerfd *timerfd = timerfd_of(file);
    if (!timerfd)
        return -EINVAL;
    uint64_t deadline = value;
    if (value && flags & TFD_TIMER_ABSTIME) {
        int result = time_to_monotonic(clock_of(timerfd->clock), &deadline);
        if (result < 0)
            return result;
    } else if (value) {
        deadline = poll_deadline(value);
    }

    mutex_acquire(&timerfd->setting);
    old = current_setting(timerfd);
    (void)timer_cancel(&timerfd->timer);
    lock_acquire(&timerfd->lock);
    timerfd->expirations = 0;
    timerfd->clock_was_set = false;
    timerfd->flags = flags;
    timerfd->timer.clock_set = flags & TFD_TIMER_ABSTIME && clock_of(timerfd->clock) == CLOCK_REALTIME ? clock_set : NULL;
    lock_release(&timerfd->lock);
    timerfd->timer.interval_ns = interval; /* also when disarmed: gettime shows it */
    if (value)
        timer_start(&timerfd->timer, deadline, interval);
    mutex_release(&timerfd->setting);
    if (guest_old && guest_write(guest_old, &old, sizeof old) < 0)
        return -EFAULT;
    return 0;
}

LX_SYSCALL(timerfd_gettime, int fd, struct __kernel_itimerspec *guest)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    struct timerfd *timerfd = timerfd_of(file);
    if (!timerfd)
        return -EINVAL;
    struct __kernel_itimerspec now = current_setting(timerfd);
    return guest_write(guest, &now, sizeof now);
}
