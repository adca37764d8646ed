/* Clocks and sleeping. Times inside Bailey are nanoseconds of the host layer's clocks; what programs see has the sandbox's offsets
 * added, which change when it has moved. */
#include "personality/linux/process/cpu_clock.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/timers.h"

#include <linux/timex.h>

#define NS_PER_SECOND 1000000000ull

/* ---- Clocks ---------------------------------------------------------------------------------------------------- */

uint64_t lx_monotonic_ns(void)
{
    uint64_t ns = 0;
    bly->clock_read(BLY_CLOCK_MONOTONIC, 0, &ns);
    return ns;
}

uint64_t lx_realtime_ns(void)
{
    uint64_t ns = 0;
    bly->clock_read(BLY_CLOCK_REALTIME, 0, &ns);
    return ns;
}

uint64_t thread_cpu_ns(struct lx_thread *thread)
{
    uint64_t ns = 0;
    if (!thread->base.thread_id || bly->clock_read(BLY_CLOCK_THREAD_CPU, thread->base.thread_id, &ns) < 0)
        return 0;
    return thread->cpu_base_ns + ns;
}

uint64_t process_cpu_ns(struct lx_process *process)
{
    uint64_t user, system;
    process_cpu_times(process, &user, &system);
    return user + system;
}

uint64_t cpu_timer_deadline(struct lx_process *process, uint64_t missing_ns)
{
    uint32_t runners = process->thread_count ? process->thread_count : 1;
    uint64_t wait = missing_ns / runners;
    /* Not finer than what a tick gives Linux: looking more often costs more than it tells. */
    return lx_monotonic_ns() + (wait > 1000000 ? wait : 1000000);
}

/* The clocks with fixed numbers, and what the host layer calls them. */
static const struct { uint8_t valid, clock, is_coarse; } clocks[] = {
    [CLOCK_REALTIME] = { 1, BLY_CLOCK_REALTIME, 0 },
    [CLOCK_MONOTONIC] = { 1, BLY_CLOCK_MONOTONIC, 0 },
    [CLOCK_MONOTONIC_RAW] = { 1, BLY_CLOCK_MONOTONIC_RAW, 0 },
    [CLOCK_REALTIME_COARSE] = { 1, BLY_CLOCK_REALTIME_COARSE, 1 },
    [CLOCK_MONOTONIC_COARSE] = { 1, BLY_CLOCK_MONOTONIC_COARSE, 1 },
    [CLOCK_BOOTTIME] = { 1, BLY_CLOCK_BOOT_TIME, 0 },
    [CLOCK_REALTIME_ALARM] = { 1, BLY_CLOCK_REALTIME, 0 },
    [CLOCK_BOOTTIME_ALARM] = { 1, BLY_CLOCK_BOOT_TIME, 0 },
    [CLOCK_TAI] = { 1, BLY_CLOCK_REALTIME, 0 },
};

static bool is_fixed_clock(int clock)
{
    return clock >= 0 && (size_t)clock < sizeof clocks / sizeof clocks[0] && clocks[clock].valid;
}

/* Table lock held. */
static int cpu_clock_of(int id, bool of_thread, uint64_t *out_ns)
{
    const struct lx_process *caller = lx_process();
    if (of_thread) {
        struct lx_thread *thread = id ? thread_find(id) : lx_current();
        if (!thread || thread->process != caller)
            return -EINVAL;
        *out_ns = thread_cpu_ns(thread);
        return 0;
    }
    struct lx_process *process = id ? process_find(id) : lx_process();
    if (!process)
        return -EINVAL;
    *out_ns = process_cpu_ns(process);
    return 0;
}

/* CPU clocks of others are made from a pid or tid (include/linux/posix-timers_types.h): ~id << 3 | thread << 2 | kind. */
static int read_cpu_clock(int clock, uint64_t *out_ns)
{
    enum { KIND = 3, OF_THREAD = 4 };
    if ((clock & KIND) == KIND)
        return -EINVAL; /* a clock of a device, by descriptor */
    scoped_lock(&process_table()->lock);
    return cpu_clock_of(~(clock >> 3), clock & OF_THREAD, out_ns);
}

int time_read_clock(int clock, uint64_t *out_ns)
{
    if (clock < 0)
        return read_cpu_clock(clock, out_ns);
    if (clock == CLOCK_PROCESS_CPUTIME_ID) {
        *out_ns = process_cpu_ns(lx_process());
        return 0;
    }
    if (clock == CLOCK_THREAD_CPUTIME_ID) {
        *out_ns = thread_cpu_ns(lx_current());
        return 0;
    }
    if (!is_fixed_clock(clock))
        return -EINVAL;
    return bly->clock_read(clocks[clock].clock, 0, out_ns);
}

int time_to_monotonic(int clock, uint64_t *deadline_ns)
{
    uint64_t now, monotonic = lx_monotonic_ns();
    int error = time_read_clock(clock, &now);
    if (error)
        return error;
    uint64_t wait = *deadline_ns > now ? *deadline_ns - now : 0;
    *deadline_ns = monotonic + wait < monotonic ? BLY_FOREVER - 1 : monotonic + wait;
    return 0;
}

/* ---- Conversions ----------------------------------------------------------------------------------------------- */

bool time_from_timespec(const struct __kernel_timespec *time, uint64_t *out_ns)
{
    if (time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= (long long)NS_PER_SECOND)
        return false;
    uint64_t seconds = (uint64_t)time->tv_sec;
    *out_ns = seconds >= INT64_MAX / NS_PER_SECOND ? INT64_MAX : seconds * NS_PER_SECOND + (uint64_t)time->tv_nsec;
    return true;
}

struct __kernel_timespec time_to_timespec(uint64_t ns)
{
    return (struct __kernel_timespec){ .tv_sec = (long long)(ns / NS_PER_SECOND), .tv_nsec = (long long)(ns % NS_PER_SECOND) };
}

uint64_t time_after(int64_t seconds, int64_t nanoseconds)
{
    struct __kernel_timespec time = { .tv_sec = seconds, .tv_nsec = nanoseconds };
    uint64_t ns = 0;
    if (!time_from_timespec(&time, &ns) || !ns)
        return 0;
    return lx_monotonic_ns() + ns;
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

LX_SYSCALL(clock_gettime, int clock, struct __kernel_timespec *out_time)
{
    uint64_t ns;
    int error = time_read_clock(clock, &ns);
    if (error)
        return error;
    struct __kernel_timespec time = time_to_timespec(ns);
    return guest_write(out_time, &time, sizeof time);
}

LX_SYSCALL(clock_getres, int clock, struct __kernel_timespec *out_resolution)
{
    uint64_t ignored;
    int error = time_read_clock(clock, &ignored);
    if (error)
        return error;
    struct __kernel_timespec resolution = { .tv_nsec = is_fixed_clock(clock) && clocks[clock].is_coarse ? 4000000 : 1 };
    return out_resolution ? guest_write(out_resolution, &resolution, sizeof resolution) : 0;
}

LX_SYSCALL(clock_settime, int clock, const struct __kernel_timespec *guest_time)
{
    struct __kernel_timespec time;
    uint64_t ns;
    if (clock != CLOCK_REALTIME)
        return -EINVAL;
    if (guest_read(&time, guest_time, sizeof time) < 0)
        return -EFAULT;
    return time_from_timespec(&time, &ns) ? -EPERM : -EINVAL; /* the clock is the host's */
}

LX_SYSCALL(gettimeofday, struct __kernel_old_timeval *out_time, uint32_t *out_zone)
{
    if (out_time) {
        uint64_t ns = lx_realtime_ns();
        struct __kernel_old_timeval time = { .tv_sec = (long)(ns / NS_PER_SECOND), .tv_usec = (long)(ns % NS_PER_SECOND / 1000) };
        if (guest_write(out_time, &time, sizeof time) < 0)
            return -EFAULT;
    }
    return out_zone ? guest_zero(out_zone, 8) : 0;
}

LX_SYSCALL(settimeofday, const struct __kernel_old_timeval *guest_time, const void *zone)
{
    struct __kernel_old_timeval time;
    if (guest_time && guest_read(&time, guest_time, sizeof time) < 0)
        return -EFAULT;
    if (guest_time && (time.tv_sec < 0 || time.tv_usec < 0 || time.tv_usec > 1000000))
        return -EINVAL;
    return -EPERM;
}

LX_SYSCALL(time, long *out_time)
{
    long seconds = (long)(lx_realtime_ns() / NS_PER_SECOND);
    return out_time && guest_write(out_time, &seconds, sizeof seconds) < 0 ? -EFAULT : seconds;
}

/* Read-only: a clock in good order. Any change needs CAP_SYS_TIME, which nobody has in a sandbox. */
static long read_adjustment(struct __kernel_timex *guest_state)
{
    struct __kernel_timex state;
    if (guest_read(&state, guest_state, sizeof state) < 0)
        return -EFAULT;
    enum { ADJUST_TIME = 0x8000 }; /* ADJ_ADJTIME: of adjtime(3), which sets an offset at once */
    if ((state.modes & ADJUST_TIME) && !(state.modes & ADJ_OFFSET_SINGLESHOT & ~ADJUST_TIME))
        return -EINVAL;
    if (state.modes && state.modes != ADJ_OFFSET_SS_READ)
        return -EPERM;
    uint64_t ns = lx_realtime_ns();
    memset(&state, 0, sizeof state);
    state.status = STA_UNSYNC | STA_NANO;
    state.tick = 10000;
    state.tolerance = 32768000;
    state.precision = 1;
    state.maxerror = state.esterror = 16000000;
    state.constant = 2;
    state.time.tv_sec = (long long)(ns / NS_PER_SECOND);
    state.time.tv_usec = (long long)(ns % NS_PER_SECOND);
    if (guest_write(guest_state, &state, sizeof state) < 0)
        return -EFAULT;
    return TIME_ERROR;
}

LX_SYSCALL(adjtimex, struct __kernel_timex *guest_state)
{
    return read_adjustment(guest_state);
}

LX_SYSCALL(clock_adjtime, int clock, struct __kernel_timex *guest_state)
{
    if (clock == CLOCK_REALTIME)
        return read_adjustment(guest_state);
    return is_fixed_clock(clock) ? -EOPNOTSUPP : -EINVAL;
}

/* ---- Sleeping -------------------------------------------------------------------------------------------------- */

/* Sleeps until `time_ns` on a clock that time_to_monotonic knows. 0, or -EINTR when a signal has come. The time of day may jump while the
 * sandbox is suspended: then thread_sleep returns. */
static int sleep_until_clock(int clock, uint64_t time_ns)
{
    for (;;) {
        uint32_t ticket = thread_ticket();
        uint64_t deadline_ns = time_ns;
        int error = clock == CLOCK_MONOTONIC ? 0 : time_to_monotonic(clock, &deadline_ns);
        if (error)
            return error;
        if (lx_monotonic_ns() >= deadline_ns) {
            timer_settle(deadline_ns);
            return 0;
        }
        if (signal_pending())
            return -EINTR;
        thread_sleep(ticket, deadline_ns);
    }
}

static int sleep_until(uint64_t deadline_ns)
{
    return sleep_until_clock(CLOCK_MONOTONIC, deadline_ns);
}

static int write_remaining(uint64_t deadline_ns, struct __kernel_timespec *out_remaining)
{
    uint64_t now = lx_monotonic_ns();
    struct __kernel_timespec remaining = time_to_timespec(deadline_ns > now ? deadline_ns - now : 0);
    return out_remaining ? guest_write(out_remaining, &remaining, sizeof remaining) : 0;
}

/* The rest of a relative sleep that a signal without handler has interrupted: restart_syscall(2). */
static long continue_sleep(struct lx_thread *thread)
{
    uint64_t deadline_ns = thread->restart.argument[0];
    if (sleep_until(deadline_ns) == 0)
        return 0;
    if (write_remaining(deadline_ns, (void *)thread->restart.argument[1]) < 0)
        return -EFAULT;
    thread->restart.function = continue_sleep;
    return -ERESTART_RESTARTBLOCK;
}

static long sleep_relative(uint64_t wait_ns, struct __kernel_timespec *out_remaining)
{
    struct lx_thread *thread = lx_current();
    thread->restart.argument[0] = lx_monotonic_ns() + wait_ns;
    thread->restart.argument[1] = (uint64_t)out_remaining;
    return continue_sleep(thread);
}

LX_SYSCALL(nanosleep, const struct __kernel_timespec *guest_time, struct __kernel_timespec *out_remaining)
{
    struct __kernel_timespec time;
    uint64_t wait_ns;
    if (guest_read(&time, guest_time, sizeof time) < 0)
        return -EFAULT;
    if (!time_from_timespec(&time, &wait_ns))
        return -EINVAL;
    return sleep_relative(wait_ns, out_remaining);
}

/* Sleeping on CPU time: looks at the clock whenever it can have come. */
static long sleep_on_cpu_time(int clock, uint64_t until_ns)
{
    for (;;) {
        uint64_t now;
        int error = time_read_clock(clock, &now);
        if (error)
            return error;
        if (now >= until_ns)
            return 0;
        if (sleep_until(cpu_timer_deadline(lx_process(), until_ns - now)) < 0)
            return -ERESTARTNOHAND;
    }
}

LX_SYSCALL(clock_nanosleep, int clock, int flags, const struct __kernel_timespec *guest_time, struct __kernel_timespec *out_remaining)
{
    struct __kernel_timespec time;
    uint64_t ns, now;
    bool on_cpu_time = clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID;
    if (clock == CLOCK_THREAD_CPUTIME_ID)
        return -EOPNOTSUPP;
    if (!on_cpu_time && !is_fixed_clock(clock))
        return -EINVAL;
    if (!on_cpu_time && (clocks[clock].is_coarse || clock == CLOCK_MONOTONIC_RAW))
        return -EOPNOTSUPP;
    if (guest_read(&time, guest_time, sizeof time) < 0)
        return -EFAULT;
    if (!time_from_timespec(&time, &ns))
        return -EINVAL;
    if (on_cpu_time) {
        int error = time_read_clock(clock, &now);
        return error ? error : sleep_on_cpu_time(clock, flags & TIMER_ABSTIME ? ns : now + ns);
    }
    if (!(flags & TIMER_ABSTIME))
        return sleep_relative(ns, out_remaining);
    int result = sleep_until_clock(clock, ns);
    return result == -EINTR ? -ERESTARTNOHAND : result;
}

LX_SYSCALL(restart_syscall, void)
{
    struct lx_thread *thread = lx_current();
    long (*function)(struct lx_thread *) = thread->restart.function;
    thread->restart.function = NULL;
    return function ? function(thread) : -EINTR;
}
