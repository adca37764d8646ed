/* Time: conversions, and the sandbox's one queue of timers.
 *
 * A timer lives in the kernel heap, inside whatever it belongs to. Its function is called by the timer thread of init, which holds no lock
 * then; the timer is off the queue at that moment and may be started again, by the function or anyone. Deadlines are on the
 * sandbox's monotonic clock. */
#ifndef LX_PROCESS_TIMERS_H
#define LX_PROCESS_TIMERS_H

#include "libos/tree.h"
#include "personality/linux/lx.h"

#include <linux/time.h>
#include <linux/time_types.h>

struct lx_timer {
    struct tree_node node;      /* in the queue while armed; guarded by the queue's lock */
    uint64_t deadline_ns;       /* next expiry, absolute */
    uint64_t interval_ns;       /* 0: once. Otherwise it is started again by itself; expiries that were missed are counted */
    void (*function)(struct lx_timer *timer, uint64_t expirations);
    void (*clock_set)(struct lx_timer *timer, uint64_t jump_ns); /* it was set by the time of day; NULL: it was not. The time of day has jumped forward
                                 * by so much, and deadline_ns was brought near by as much. Called while all threads are at rest */
    struct lx_timer *after;     /* for a moment: another one of these */
    uint64_t sequence;          /* tells timers of one deadline apart */
    uint32_t armed;
};

/* Arms (again). A deadline in the past expires at once. */
void timer_start(struct lx_timer *timer, uint64_t deadline_ns, uint64_t interval_ns);
/* Off the queue, and its function is not running when this returns. Not to be called by the function itself, nor with a lock that it takes
 * held. Returns whether it was armed. */
bool timer_cancel(struct lx_timer *timer);
/* Returns when all timers that were due at this time have expired: somebody's sleep has ended then, and the timer thread may be late. */
void timer_settle(uint64_t deadline_ns);
/* While all are at rest, before a suspension and after it: timers set by the time of day follow it over the time between. */
void timer_note_clocks(void);
void timer_follow_clocks(void);
/* `deadline_ns`, or earlier by that much. */
static inline uint64_t time_earlier(uint64_t deadline_ns, uint64_t jump_ns) { return deadline_ns > jump_ns ? deadline_ns - jump_ns : 1; }
/* Time until the next expiry, 0 when it is not armed, and the interval. */
uint64_t timer_remaining(struct lx_timer *timer, uint64_t *out_interval_ns);

/* A deadline `seconds` + `nanoseconds` from now on the monotonic clock; cut off at BLY_FOREVER - 1. 0 when both are 0. */
uint64_t time_after(int64_t seconds, int64_t nanoseconds);
/* Nanoseconds, cut off at INT64_MAX; false when the fields are out of range. */
bool time_from_timespec(const struct __kernel_timespec *time, uint64_t *out_ns);
struct __kernel_timespec time_to_timespec(uint64_t ns);
/* The time of a clock (CLOCK_*) of the caller's; -EINVAL when there is none of that number. */
int time_read_clock(int clock, uint64_t *out_ns);
/* A deadline of the given clock on the monotonic one. */
int time_to_monotonic(int clock, uint64_t *deadline_ns);

#endif
