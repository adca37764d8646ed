/* Interval timers of a process (setitimer(2), alarm(2)) and its limit of CPU time.
 *
 * ITIMER_REAL is a timer of the sandbox's queue. ITIMER_VIRTUAL, ITIMER_PROF and RLIMIT_CPU run on the process's CPU time and share one
 * such timer, which looks at the CPU clock when the first of them can have expired (cpu_clock.h). All fields are guarded by the
 * process's signals.lock; timers are cancelled without it. */
#include "personality/linux/process/cpu_clock.h"
#include "personality/linux/process/lifecycle.h"

#include <linux/resource.h>

enum { CPU_TIMER_COUNT = 2 }; /* virtual and profiling */
struct cpu_interval { uint64_t expires_ns, interval_ns; }; /* of CPU time; 0: not armed */

struct process_timers {
    struct lx_process *process;
    struct lx_timer real, cpu;
    struct cpu_interval cpu_intervals[CPU_TIMER_COUNT];
    uint64_t limit_signal_ns;  /* CPU time of the next SIGXCPU; 0: none */
};

static const int cpu_signals[CPU_TIMER_COUNT] = { SIGVTALRM, SIGPROF };

static void send_from_kernel(struct lx_process *process, int signal)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_KERNEL;
    signal_send_process(process, signal, &info);
}

static void real_expired(struct lx_timer *timer, uint64_t expirations)
{
    send_from_kernel(container_of(timer, struct process_timers, real)->process, SIGALRM);
}

/* The CPU time that is missing until the first of the timers expires; BLY_FOREVER: none is armed. Signal lock held. */
static uint64_t missing_cpu_ns(const struct process_timers *timers, uint64_t used_ns)
{
    uint64_t first = timers->limit_signal_ns ? timers->limit_signal_ns : BLY_FOREVER;
    for (int i = 0; i < CPU_TIMER_COUNT; i++) {
        uint64_t expires = timers->cpu_intervals[i].expires_ns;
        if (expires && expires < first)
            first = expires;
    }
    if (first == BLY_FOREVER)
        return BLY_FOREVER;
    return first > used_ns ? first - used_ns : 0;
}

static void start_cpu_timer(struct process_timers *timers)
{
    lock_acquire(&timers->process->signals.lock);
    uint64_t missing = missing_cpu_ns(timers, process_cpu_ns(timers->process));
    lock_release(&timers->process->signals.lock);
    if (missing != BLY_FOREVER)
        timer_start(&timers->cpu, cpu_timer_deadline(timers->process, missing), 0);
}

static void cpu_expired(struct lx_timer *timer, uint64_t expirations)
{
    struct process_timers *timers = container_of(timer, struct process_timers, cpu);
    struct lx_process *process = timers->process;
    uint64_t used = process_cpu_ns(process);
    int signals[CPU_TIMER_COUNT + 1], count = 0;
    lock_acquire(&process->signals.lock);
    for (int i = 0; i < CPU_TIMER_COUNT; i++) {
        struct cpu_interval *interval = &timers->cpu_intervals[i];
        if (!interval->expires_ns || interval->expires_ns > used)
            continue;
        signals[count++] = cpu_signals[i];
        if (!interval->interval_ns)
            interval->expires_ns = 0;
        else
            interval->expires_ns += ((used - interval->expires_ns) / interval->interval_ns + 1) * interval->interval_ns;
    }
    if (timers->limit_signal_ns && timers->limit_signal_ns <= used) {
        /* setrlimit(2): SIGXCPU at the soft limit and every second from then on, SIGKILL at the hard one. */
        uint64_t hard = process->limits[RLIMIT_CPU].hard;
        signals[count++] = hard != ~0ull && used >= hard * 1000000000 ? SIGKILL : SIGXCPU;
        timers->limit_signal_ns += 1000000000;
    }
    lock_release(&process->signals.lock);
    for (int i = 0; i < count; i++)
        send_from_kernel(process, signals[i]);
    start_cpu_timer(timers);
}

/* The process's timers, made at first use. NULL: out of memory. */
static struct process_timers *timers_of(struct lx_process *process)
{
    if (process->itimers)
        return process->itimers;
    struct process_timers *timers = heap_alloc(sizeof *timers);
    if (!timers)
        return NULL;
    timers->process = process;
    timers->real.function = real_expired;
    timers->cpu.function = cpu_expired;
    lock_acquire(&process->signals.lock);
    if (!process->itimers) {
        process->itimers = timers;
        timers = NULL;
    }
    lock_release(&process->signals.lock);
    heap_free(timers);
    return process->itimers;
}

void process_timers_end(struct lx_process *process)
{
    posix_timers_end(process);
    struct process_timers *timers = process->itimers;
    if (!timers)
        return;
    timer_cancel(&timers->real);
    timer_cancel(&timers->cpu);
}

void process_cpu_limit_changed(struct lx_process *process)
{
    uint64_t soft = process->limits[RLIMIT_CPU].soft;
    if (soft == ~0ull && !process->itimers)
        return;
    struct process_timers *timers = timers_of(process);
    if (!timers)
        return;
    timers->limit_signal_ns = soft == ~0ull ? 0 : soft < 1 ? 1000000000 : soft * 1000000000;
    start_cpu_timer(timers);
}

/* ---- The calls ------------------------------------------------------------------------------------------------- */

static uint64_t get_interval(struct process_timers *timers, int which, uint64_t *out_interval_ns)
{
    if (which == ITIMER_REAL)
        return timer_remaining(&timers->real, out_interval_ns);
    const struct cpu_interval *interval = &timers->cpu_intervals[which - ITIMER_VIRTUAL];
    uint64_t used = process_cpu_ns(timers->process);
    scoped_lock(&timers->process->signals.lock);
    *out_interval_ns = interval->interval_ns;
    if (!interval->expires_ns)
        return 0;
    return interval->expires_ns > used ? interval->expires_ns - used : 1000;
}

static void set_interval(struct process_timers *timers, int which, uint64_t value_ns, uint64_t interval_ns)
{
    if (which == ITIMER_REAL) {
        timer_cancel(&timers->real);
        if (value_ns)
            timer_start(&timers->real, lx_monotonic_ns() + value_ns, interval_ns);
        else
            timers->real.interval_ns = 0;
        return;
    }
    uint64_t used = process_cpu_ns(timers->process);
    lock_acquire(&timers->process->signals.lock);
    timers->cpu_intervals[which - ITIMER_VIRTUAL].expires_ns = value_ns ? used + value_ns : 0;
    timers->cpu_intervals[which - ITIMER_VIRTUAL].interval_ns = interval_ns;
    lock_release(&timers->process->signals.lock);
    start_cpu_timer(timers);
}

static bool timeval_to_ns(const struct __kernel_old_timeval *time, uint64_t *out_ns)
{
    if (time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= 1000000)
        return false;
    struct __kernel_timespec precise = { .tv_sec = time->tv_sec, .tv_nsec = time->tv_usec * 1000 };
    return time_from_timespec(&precise, out_ns);
}

static struct __kernel_old_timeval ns_to_timeval(uint64_t ns)
{
    return (struct __kernel_old_timeval){ .tv_sec = (long)(ns / 1000000000), .tv_usec = (long)(ns % 1000000000 / 1000) };
}

struct guest_itimerval { struct __kernel_old_timeval interval, value; };

static int write_interval(struct process_timers *timers, int which, struct guest_itimerval *out_value)
{
    uint64_t interval_ns;
    uint64_t value_ns = get_interval(timers, which, &interval_ns);
    /* An armed timer is never told as expired: at least a microsecond. */
    struct guest_itimerval value = { .interval = ns_to_timeval(interval_ns), .value = ns_to_timeval(value_ns && value_ns < 1000 ? 1000 : value_ns) };
    return guest_write(out_value, &value, sizeof value);
}

LX_SYSCALL(getitimer, int which, struct guest_itimerval *out_value)
{
    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    struct process_timers *timers = timers_of(lx_process());
    return timers ? write_interval(timers, which, out_value) : -ENOMEM;
}

LX_SYSCALL(setitimer, int which, const struct guest_itimerval *new_value, struct guest_itimerval *out_old)
{
    struct guest_itimerval value = { 0 };
    uint64_t value_ns, interval_ns;
    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    if (new_value && guest_read(&value, new_value, sizeof value) < 0)
        return -EFAULT;
    if (!timeval_to_ns(&value.value, &value_ns) || !timeval_to_ns(&value.interval, &interval_ns))
        return -EINVAL;
    struct process_timers *timers = timers_of(lx_process());
    if (!timers)
        return -ENOMEM;
    if (out_old && write_interval(timers, which, out_old) < 0)
        return -EFAULT;
    set_interval(timers, which, value_ns, interval_ns);
    return 0;
}

LX_SYSCALL(alarm, unsigned seconds)
{
    struct process_timers *timers = timers_of(lx_process());
    if (!timers)
        return 0;
    uint64_t left_ns = timer_remaining(&timers->real, NULL);
    set_interval(timers, ITIMER_REAL, seconds * 1000000000ull, 0);
    /* alarm_setitimer(): rounded to the nearest second, but an armed alarm is never told as 0. */
    uint64_t left = left_ns / 1000000000;
    if ((left_ns && !left) || left_ns % 1000000000 >= 500000000)
        left++;
    return (long)left;
}
