/* Waiting: on addresses (futex), on one stream (ppoll), on sets of streams (epoll); and the host
 * layer's own locks.
 *
 * All futexes are of the shared kind: the same call serves the heap, which picoprocesses share, and
 * private memory. */

#include "host.h"
#include <linux/eventpoll.h>
#include <linux/futex.h>

struct pollfd {
    int descriptor;
    short events, returned;
};

static long futex_wait(_Atomic uint32_t *address, uint32_t expected)
{
    return sys6(__NR_futex, address, FUTEX_WAIT_BITSET, expected, 0, 0, FUTEX_BITSET_MATCH_ANY);
}

void host_lock(struct host_lock *lock)
{
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n((uint32_t *)&lock->word, &seen, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n((uint32_t *)&lock->word, 2, __ATOMIC_ACQUIRE))
        futex_wait(&lock->word, 2);
}

void host_unlock(struct host_lock *lock)
{
    if (__atomic_exchange_n((uint32_t *)&lock->word, 0, __ATOMIC_RELEASE) == 2)
        sys3(__NR_futex, &lock->word, FUTEX_WAKE, 1);
}

int host_wait_address(uint32_t *address, uint32_t expected, uint64_t deadline_ns)
{
    if ((uint64_t)address & 3)
        return -EINVAL;
    struct __kernel_timespec buffer;
    return (int)sys_wait6(__NR_futex, address, FUTEX_WAIT_BITSET, expected,
                          host_deadline(&buffer, deadline_ns), 0, FUTEX_BITSET_MATCH_ANY);
}

int host_wake_address(uint32_t *address, uint32_t count)
{
    if ((uint64_t)address & 3)
        return -EINVAL;
    if (count > 0x7fffffff)
        count = 0x7fffffff;
    return (int)sys3(__NR_futex, address, FUTEX_WAKE, count);
}

static long poll_one(int descriptor, unsigned events, uint64_t deadline_ns, unsigned *out_returned)
{
    struct pollfd poll = {descriptor, (short)events, 0};
    struct __kernel_timespec buffer;
    long result = sys_wait6(__NR_ppoll, &poll, 1,
                            host_timespec(&buffer, host_remaining(deadline_ns)), 0, 8, 0);
    *out_returned = result > 0 ? (unsigned short)poll.returned : 0;
    return result;
}

int host_wait_stream(bly_handle stream, unsigned events, uint64_t deadline_ns)
{
    const unsigned known = BLY_WAIT_READ | BLY_WAIT_WRITE | BLY_WAIT_ERROR | BLY_WAIT_HANG_UP;
    if (events & ~known)
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    if (error)
        return error;
    unsigned returned;
    long result = poll_one(use.descriptor, events, deadline_ns, &returned);
    return result < 0 ? (int)result : (int)(returned & known);
}

int host_wait_set_create(bly_handle *out_set)
{
    long descriptor = sys1(__NR_epoll_create1, 0);
    if (descriptor < 0)
        return (int)descriptor;
    return host_handle_insert_local((int)descriptor, out_set);
}

int host_wait_set_control(bly_handle set, unsigned operation, bly_handle stream, unsigned events,
                          uint64_t cookie)
{
    static const uint8_t operations[] = {[BLY_WAIT_SET_ADD] = EPOLL_CTL_ADD,
                                         [BLY_WAIT_SET_REMOVE] = EPOLL_CTL_DEL,
                                         [BLY_WAIT_SET_CHANGE] = EPOLL_CTL_MOD};
    if (operation < BLY_WAIT_SET_ADD || operation > BLY_WAIT_SET_CHANGE ||
        events & ~(unsigned)(BLY_WAIT_READ | BLY_WAIT_WRITE | BLY_WAIT_ERROR | BLY_WAIT_HANG_UP))
        return -EINVAL;
    scoped_use set_use;
    int error = host_handle_use(set, &set_use);
    if (error)
        return error;
    scoped_use stream_use;
    error = host_handle_use(stream, &stream_use);
    if (error)
        return error;
    struct epoll_event event = {.events = (__poll_t)events, .data = cookie};
    return (int)sys4(__NR_epoll_ctl, set_use.descriptor, operations[operation],
                     stream_use.descriptor, &event);
}

int host_wait_set_wait(bly_handle set, struct bly_wait_event *out_events, size_t count,
                       uint64_t deadline_ns)
{
    if (count == 0)
        return -EINVAL;
    struct epoll_event events[64];
    if (count > sizeof events / sizeof *events)
        count = sizeof events / sizeof *events;
    scoped_use use;
    int error = host_handle_use(set, &use);
    if (error)
        return error;
    /* epoll_pwait counts in milliseconds; the set itself can be polled with a finer clock. */
    for (;;) {
        long result = sys_wait6(__NR_epoll_pwait, use.descriptor, events, count, 0, 0, 8);
        if (result < 0)
            return (int)result;
        for (long i = 0; i < result; i++)
            out_events[i] = (struct bly_wait_event){.events = (uint32_t)events[i].events,
                                                    .cookie = events[i].data};
        if (result > 0 || deadline_ns == 0)
            return (int)result;
        unsigned returned;
        result = poll_one(use.descriptor, BLY_WAIT_READ, deadline_ns, &returned);
        if (result < 0)
            return (int)result;
        if (result == 0)
            deadline_ns = 0;
    }
}
