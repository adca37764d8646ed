/* timer_create(2) and its family.
 *
 * A timer owns the queue entry of its signal, so expiring cannot fail, and has at most one signal queued. As in Linux an interval timer
 * rests while its signal is queued; taking the signal counts the periods that passed meanwhile (the overrun) and arms it again.
 * The list, the ids and what is changed at expiry are guarded by the process's signals.lock. */
#include "personality/linux/process/cpu_clock.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/signal/internal.h"

#include <linux/time.h>

enum { OVERRUN_MAX = 0x7fffffff, IGNORED_PERIOD_MIN_NS = 10000000 };
#ifndef SIGEV_SIGNAL
enum { SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 4 };
#endif

long lx_sys_timer_delete(int id);

struct posix_timer {
    struct list node;            /* process->timers */
    struct lx_process *process;
    int id, clock, notify;
    int32_t thread_tid;          /* SIGEV_THREAD_ID */
    struct lx_timer timer;
    struct queued_signal entry;
    uint64_t expires_ns;         /* next expiry on its clock (CPU clocks: CPU time; others: monotonic); 0: not armed */
    uint64_t interval_ns;
    uint64_t overrun;            /* periods missed since the last signal that was taken */
    uint64_t last_overrun;       /* as timer_getoverrun tells */
    bool on_cpu_time;            /* then one of: */
    struct lx_process *cpu_process; /* referenced */
    struct lx_thread *cpu_thread; /* as long as it has the tid: thread objects are never given back */
    int32_t cpu_tid;
};

/* ---- Time of a timer's clock ----------------------------------------------------------------------------------- */

static uint64_t timer_now(struct posix_timer *timer)
{
    if (timer->cpu_process)
        return process_cpu_ns(timer->cpu_process);
    if (!timer->cpu_thread)
        return lx_monotonic_ns();
    return timer->cpu_thread->tid == timer->cpu_tid ? thread_cpu_ns(timer->cpu_thread) : 0; /* one that has ended uses no more */
}

static void arm(struct posix_timer *timer, uint64_t now)
{
    if (timer->notify == SIGEV_NONE)
        return; /* nobody is told; timer_gettime computes */
    uint64_t deadline = timer->expires_ns;
    if (timer->on_cpu_time)
        deadline = cpu_timer_deadline(timer->process, deadline > now ? deadline - now : 0);
    timer_start(&timer->timer, deadline, 0);
}

static void clock_set(struct lx_timer *queue_timer, uint64_t jump_ns)
{
    struct posix_timer *timer = container_of(queue_timer, struct posix_timer, timer);
    if (timer->expires_ns)
        timer->expires_ns = time_earlier(timer->expires_ns, jump_ns);
}

/* Moves expires_ns past `now`; returns how many periods were passed, the first one not counted. */
static uint64_t advance(struct posix_timer *timer, uint64_t now)
{
    if (timer->expires_ns > now)
        return 0;
    uint64_t periods = (now - timer->expires_ns) / timer->interval_ns + 1;
    timer->expires_ns += periods * timer->interval_ns;
    return periods;
}

static void expired(struct lx_timer *queue_timer, uint64_t expirations)
{
    struct posix_timer *timer = container_of(queue_timer, struct posix_timer, timer);
    struct lx_process *process = timer->process;
    uint64_t now = timer_now(timer);
    lock_acquire(&process->signals.lock);
    bool due = timer->expires_ns && timer->expires_ns <= now;
    bool armed = timer->expires_ns;
    lock_release(&process->signals.lock);
    if (!due) {
        if (armed)
            arm(timer, now);
        return;
    }

    int result = 0;
    lock_acquire(&process_table()->lock);
    struct lx_thread *thread = timer->notify == SIGEV_THREAD_ID ? thread_find(timer->thread_tid) : NULL;
    if (timer->notify != SIGEV_THREAD_ID || (thread && thread->process == process))
        result = signal_send_timer(process, thread, &timer->entry);
    lock_release(&process_table()->lock);

    lock_acquire(&process->signals.lock);
    bool again = false;
    if (!timer->interval_ns) {
        timer->expires_ns = 0;
    } else if (result == -EINTR) {
        /* Ignored: nobody takes the signal, so it goes on by itself, slowly. */
        advance(timer, now);
        if (timer->expires_ns < now + IGNORED_PERIOD_MIN_NS)
            timer->expires_ns += (IGNORED_PERIOD_MIN_NS / timer->interval_ns) * timer->interval_ns;
        again = true;
    }
    lock_release(&process->signals.lock);
    if (again)
        arm(timer, now);
}

void posix_timer_signal_taken(void *object, siginfo_t *info)
{
    struct posix_timer *timer = object;
    if (timer->interval_ns && timer->expires_ns) {
        uint64_t now = timer_now(timer), periods = advance(timer, now);
        timer->overrun += periods ? periods - 1 : 0;
        arm(timer, now);
    }
    timer->last_overrun = timer->overrun < OVERRUN_MAX ? timer->overrun : OVERRUN_MAX;
    timer->overrun = 0;
    info->si_overrun = (int)timer->last_overrun;
}

/* ---- Making and unmaking --------------------------------------------------------------------------------------- */

/* A CPU clock is that of a process or thread, by its id, 0 being the caller's (include/linux/posix-timers_types.h). It is looked up
 * once: the timer thread reads it later, and so do places that hold locks. */
static int take_cpu_clock(struct posix_timer *timer, int clock)
{
    enum { KIND = 3, OF_THREAD = 4, SCHEDULED = 2 };
    if (clock == CLOCK_PROCESS_CPUTIME_ID)
        clock = ~0 * 8 | SCHEDULED;
    else if (clock == CLOCK_THREAD_CPUTIME_ID)
        clock = ~0 * 8 | OF_THREAD | SCHEDULED;
    int id = ~(clock >> 3);
    if ((clock & KIND) == KIND)
        return -EINVAL;
    scoped_lock(&process_table()->lock);
    if (clock & OF_THREAD) {
        struct lx_thread *thread = id ? thread_find(id) : lx_current();
        if (!thread || thread->process != lx_process())
            return -EINVAL;
        timer->cpu_thread = thread;
        timer->cpu_tid = thread->tid;
        return 0;
    }
    struct lx_process *process = id ? process_find(id) : lx_process();
    if (!process)
        return -EINVAL;
    process->references++;
    timer->cpu_process = process;
    return 0;
}

static int take_clock(struct posix_timer *timer, int clock)
{
    timer->clock = clock;
    switch (clock) {
    case CLOCK_REALTIME: case CLOCK_MONOTONIC: case CLOCK_BOOTTIME: case CLOCK_TAI: case CLOCK_REALTIME_ALARM: case CLOCK_BOOTTIME_ALARM:
        return 0;
    case CLOCK_MONOTONIC_RAW: case CLOCK_REALTIME_COARSE: case CLOCK_MONOTONIC_COARSE:
        return -EOPNOTSUPP;
    default:
        timer->on_cpu_time = true;
        return clock > CLOCK_TAI ? -EINVAL : take_cpu_clock(timer, clock);
    }
}

static void drop_timer(struct posix_timer *timer)
{
    if (timer->cpu_process)
        process_unref(timer->cpu_process);
    heap_free(timer);
}

struct guest_sigevent { uint64_t value; int32_t signal, notify, thread, padding[11]; };

static int check_event(const struct guest_sigevent *event)
{
    switch (event->notify) {
    case SIGEV_NONE:
        return 0;
    case SIGEV_THREAD_ID: {
        scoped_lock(&process_table()->lock);
        struct lx_thread *thread = thread_find(event->thread);
        if (!thread || thread->process != lx_process())
            return -EINVAL;
        break;
    }
    case SIGEV_SIGNAL: case SIGEV_THREAD:
        break;
    default:
        return -EINVAL;
    }
    return event->signal <= 0 || event->signal > LX_SIGNAL_COUNT ? -EINVAL : 0;
}

LX_SYSCALL(timer_create, int clock, const struct guest_sigevent *guest_event, int *out_id)
{
    struct lx_process *process = lx_process();
    struct guest_sigevent event = { .signal = SIGALRM, .notify = SIGEV_SIGNAL };
    if (guest_event && guest_read(&event, guest_event, sizeof event) < 0)
        return -EFAULT;
    int error = check_event(&event);
    if (error)
        return error;
    struct posix_timer *timer = heap_alloc(sizeof *timer);
    if (!timer)
        return -EAGAIN;
    if ((error = take_clock(timer, clock)) != 0) {
        drop_timer(timer);
        return error;
    }
    timer->process = process;
    timer->notify = event.notify;
    timer->thread_tid = event.thread;
    timer->timer.function = expired;
    list_init(&timer->entry.node);
    timer->entry.timer = timer;
    timer->entry.info.si_signo = event.signal;
    timer->entry.info.si_code = SI_TIMER;

    lock_acquire(&process->signals.lock);
    bool full = process->signals.queued_count >= process->limits[11 /* RLIMIT_SIGPENDING */].soft;
    if (!full) {
        process->signals.queued_count++; /* its entry counts as queued for as long as it lives */
        timer->id = (int)(process->next_timer_id++ & OVERRUN_MAX);
        list_push(&process->timers, &timer->node);
    }
    lock_release(&process->signals.lock);
    if (full) {
        drop_timer(timer);
        return -EAGAIN;
    }
    timer->entry.info.si_tid = timer->id;
    timer->entry.info._sifields._timer._sigval.sival_ptr = guest_event ? (void *)event.value : (void *)(uint64_t)timer->id;
    int id = timer->id;
    if (guest_write(out_id, &id, sizeof id) < 0) {
        lx_sys_timer_delete(id);
        return -EFAULT;
    }
    return 0;
}

/* Signal lock held. */
static struct posix_timer *find_timer(struct lx_process *process, int id)
{
    list_for_each(node, &process->timers) {
        struct posix_timer *timer = container_of(node, struct posix_timer, node);
        if (timer->id == id)
            return timer;
    }
    return NULL;
}

static bool queue_holds(const struct pending_signals *pending, int signal)
{
    list_for_each(node, &pending->queue) {
        if (container_of(node, struct queued_signal, node)->info.si_signo == signal)
            return true;
    }
    return false;
}

/* Takes the timer's signal back, wherever it is pending. Signal lock held. */
static void withdraw_signal(struct posix_timer *timer)
{
    struct lx_process *process = timer->process;
    int signal = timer->entry.info.si_signo;
    if (timer->entry.node.next == &timer->entry.node)
        return;
    list_remove(&timer->entry.node);
    if (!queue_holds(&process->signals.pending, signal))
        process->signals.pending.set &= ~LX_SIGMASK(signal);
    list_for_each(node, &process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        if (timer->notify == SIGEV_THREAD_ID && thread->tid == timer->thread_tid && !queue_holds(&thread->signals.pending, signal))
            thread->signals.pending.set &= ~LX_SIGMASK(signal);
    }
}

/* Disarms; afterwards its function neither runs nor will. */
static void disarm(struct posix_timer *timer)
{
    lock_acquire(&timer->process->signals.lock);
    timer->expires_ns = 0;
    timer->interval_ns = 0;
    lock_release(&timer->process->signals.lock);
    timer_cancel(&timer->timer);
}

static void destroy(struct posix_timer *timer)
{
    struct lx_process *process = timer->process;
    disarm(timer);
    lock_acquire(&process->signals.lock);
    withdraw_signal(timer);
    process->signals.queued_count--;
    lock_release(&process->signals.lock);
    drop_timer(timer);
}

LX_SYSCALL(timer_delete, int id)
{
    struct lx_process *process = lx_process();
    scoped_mutex(&process->timer_mutex);
    lock_acquire(&process->signals.lock);
    struct posix_timer *timer = find_timer(process, id);
    if (timer)
        list_remove(&timer->node);
    lock_release(&process->signals.lock);
    if (!timer)
        return -EINVAL;
    destroy(timer);
    return 0;
}

void posix_timers_end(struct lx_process *process)
{
    for (;;) {
        lock_acquire(&process->signals.lock);
        struct list *node = list_first(&process->timers);
        if (node)
            list_remove(node);
        lock_release(&process->signals.lock);
        if (!node)
            return;
        destroy(container_of(node, struct posix_timer, node));
    }
}

/* ---- Setting and asking ---------------------------------------------------------------------------------------- */

/* What timer_gettime tells. Signal lock held. */
static void describe_timer(struct posix_timer *timer, uint64_t now, struct __kernel_itimerspec *out_value)
{
    uint64_t expires = timer->expires_ns;
    out_value->it_interval = time_to_timespec(timer->interval_ns);
    out_value->it_value = time_to_timespec(0);
    if (!expires)
        return;
    if (expires <= now && timer->interval_ns)
        expires += ((now - expires) / timer->interval_ns + 1) * timer->interval_ns;
    if (expires > now)
        out_value->it_value = time_to_timespec(expires - now);
    else if (timer->notify != SIGEV_NONE)
        out_value->it_value = time_to_timespec(1); /* about to expire */
}

LX_SYSCALL(timer_gettime, int id, struct __kernel_itimerspec *out_value)
{
    struct lx_process *process = lx_process();
    struct __kernel_itimerspec value;
    lock_acquire(&process->signals.lock);
    struct posix_timer *timer = find_timer(process, id);
    if (timer)
        describe_timer(timer, timer_now(timer), &value);
    lock_release(&process->signals.lock);
    if (!timer)
        return -EINVAL;
    return guest_write(out_value, &value, sizeof value);
}

LX_SYSCALL(timer_getoverrun, int id)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process->signals.lock);
    struct posix_timer *timer = find_timer(process, id);
    return timer ? (long)timer->last_overrun : -EINVAL;
}

LX_SYSCALL(timer_settime, int id, int flags, const struct __kernel_itimerspec *new_value, struct __kernel_itimerspec *out_old)
{
    struct lx_process *process = lx_process();
    struct __kernel_itimerspec value, old;
    uint64_t value_ns, interval_ns;
    if (!new_value)
        return -EINVAL;
    if (guest_read(&value, new_value, sizeof value) < 0)
        return -EFAULT;
    if (!time_from_timespec(&value.it_value, &value_ns) || !time_from_timespec(&value.it_interval, &interval_ns))
        return -EINVAL;
    scoped_mutex(&process->timer_mutex);
    lock_acquire(&process->signals.lock);
    struct posix_timer *timer = find_timer(process, id);
    if (timer) {
        describe_timer(timer, timer_now(timer), &old);
        timer->expires_ns = timer->interval_ns = 0;
    }
    lock_release(&process->signals.lock);
    if (!timer)
        return -EINVAL;
    timer_cancel(&timer->timer);

    uint64_t now = timer_now(timer), expires = value_ns;
    if (value_ns && !(flags & TIMER_ABSTIME))
        expires = now + value_ns < now ? BLY_FOREVER - 1 : now + value_ns;
    else if (value_ns && !timer->on_cpu_time && time_to_monotonic(timer->clock, &expires) < 0)
        return -EINVAL;
    lock_acquire(&process->signals.lock);
    withdraw_signal(timer);
    timer->overrun = timer->last_overrun = 0;
    timer->expires_ns = value_ns ? (expires ? expires : 1) : 0;
    timer->interval_ns = value_ns ? interval_ns : 0;
    timer->timer.clock_set = flags & TIMER_ABSTIME && timer->clock == CLOCK_REALTIME ? clock_set : NULL;
    lock_release(&process->signals.lock);
    if (value_ns)
        arm(timer, now);
    return out_old && guest_write(out_old, &old, sizeof old) < 0 ? -EFAULT : 0;
}
