/* Sleeping and waking by ticket.
 *
 * A sleeper publishes its state, then looks at work_pending and at its wake word; a waker changes
 * those first, then looks at the state. With sequentially consistent accesses on both sides one of
 * the two always sees the other, so no wake-up is lost.
 *
 * Before sleeping on the host a thread may spin: a cross-CPU wake-up costs 60-120 us in a virtual
 * machine, a spinning reader sees a store in 0.1 us. It does so only while another CPU is left to
 * do the waking (fewer spinners than CPUs), and only while spinning pays: a success earns credit, a
 * failure costs three times as much (the time was taken from whoever could have used the CPU,
 * perhaps the very waker), and a thread without credit tries again once in a while. How long it
 * spins follows from how long successful spins took lately. */
#include "libos/thread.h"

#include <asm/errno.h>

#include "libos/abi.h"
#include "libos/heap.h"
#include "libos/park.h"
#include "libos/shared.h"
#include "libos/wait.h"

enum {
    SPIN_CREDIT_MAX = 12,
    SPIN_CREDIT_LOST = 3,     /* by a failure; a success earns 1 */
    SPIN_RETRY_INTERVAL = 32, /* sleeps without credit between two trials */
    SPIN_CYCLES_MIN = 10000,  /* about 4 us */
    SPIN_CYCLES_MAX = 120000, /* about 50 us, what a wake-up through the host costs */
    SPIN_GRACE_CYCLES = 5000, /* spinners may outnumber the CPUs this long */
};

static inline bool has_work(const struct thread *thread)
{
    return thread->work_pending & THREAD_WORK;
}

bool thread_has_work(void)
{
    return has_work(thread_current());
}

uint32_t thread_ticket(void)
{
    return thread_current()->wake_word;
}

static uint64_t cycle_counter(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static bool spin_allowed(struct thread *thread)
{
    if (libos_shared()->cpu_count < 2)
        return false;
    if (thread->spin_credit > 0)
        return true;
    return thread->sleep_count % SPIN_RETRY_INTERVAL == 0;
}

/* Every other CPU has a spinner on it too: nobody is left to do the waking. */
static bool everyone_spins(struct libos_shared *shared, uint32_t cpu)
{
    uint32_t spinners = 1;

    for (uint32_t i = 0; i < shared->cpu_count && i < SPIN_CPU_MAX; i++)
        spinners += i != cpu && __atomic_load_n(&shared->spinning[i], __ATOMIC_RELAXED);
    return spinners >= shared->cpu_count;
}

/* Spins until the wake word moves or work is pending; false when it gave up. */
static bool spin(struct thread *thread, uint32_t ticket, bool interruptible)
{
    struct libos_shared *shared = libos_shared();
    uint32_t cpu = bly->thread_current_cpu() % SPIN_CPU_MAX;
    uint64_t start = cycle_counter(), spent, most = 4ull * thread->spin_cycles;
    bool woken;

    if (most < SPIN_CYCLES_MIN)
        most = SPIN_CYCLES_MIN;
    if (most > SPIN_CYCLES_MAX || !thread->spin_credit) /* a trial has the whole time */
        most = SPIN_CYCLES_MAX;

    shared->spinning[cpu] = 1;
    do {
        __builtin_ia32_pause();
        woken = thread->wake_word != ticket || (interruptible && has_work(thread));
        spent = cycle_counter() - start;
        /* In a ping-pong the other side may not yet have noticed our wake-up: look only after a
         * moment. */
        if (!woken && spent > SPIN_GRACE_CYCLES && everyone_spins(shared, cpu))
            break;
    } while (!woken && spent < most);
    shared->spinning[cpu] = 0;

    /* Longer than the limit: another thread had the CPU meanwhile, perhaps the waker, so spinning
     * only delayed it. */
    if (woken && spent <= most) {
        if (thread->spin_credit < SPIN_CREDIT_MAX)
            thread->spin_credit++;
        thread->spin_cycles = (uint32_t)((thread->spin_cycles * 7ull + spent) / 8);
    } else {
        thread->spin_credit -=
            thread->spin_credit < SPIN_CREDIT_LOST ? thread->spin_credit : SPIN_CREDIT_LOST;
    }
    return woken;
}

static int sleep_by_ticket(uint32_t ticket, uint64_t deadline_ns, bool interruptible)
{
    struct bly_thread_block *block = thread_block();
    struct thread *thread = block->personality_thread;
    int result = 0;

    if (park_is_asked()) {
        park_slowly();
        /* The caller's deadline may be another by now: it tests its condition first. */
        if (!park_is_asked() && deadline_ns)
            return interruptible && has_work(thread) ? -EINTR : 0;
    }
    if (deadline_ns == 0)
        return interruptible && has_work(thread) ? -EINTR
               : thread->wake_word != ticket         ? 0
                                                     : -ETIMEDOUT;
    if (interruptible)
        thread->state = THREAD_SLEEPING;
    /* Not interruptible: the state stays IN_KERNEL, where thread_notify only sets work_pending. */
    if (thread->wake_word == ticket && !(interruptible && has_work(thread)) &&
        !(spin_allowed(thread) && spin(thread, ticket, interruptible))) {
        bool interrupted = false;
        thread->asleep = 1;
        for (;;) {
            if (interruptible && has_work(thread))
                break;
            interrupted |= __atomic_exchange_n(&block->interrupt_pending, 0, __ATOMIC_SEQ_CST) != 0;
            if (interruptible && has_work(thread))
                break;
            result = bly->wait_address((uint32_t *)&thread->wake_word, ticket, deadline_ns);
            if (thread->wake_word != ticket || result == -ETIMEDOUT)
                break;
        }
        thread->asleep = 0;
        thread->sleep_count++;
        if (interrupted)
            block->interrupt_pending = 1;
    }
    if (interruptible)
        thread->state = THREAD_IN_KERNEL;
    if (interruptible && result == -ETIMEDOUT && thread->wake_word == ticket && libos_shared()->timed_out)
        libos_shared()->timed_out(deadline_ns);
    if (interruptible && has_work(thread))
        return -EINTR;
    if (thread->wake_word != ticket)
        return 0;
    return result == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

void thread_set_timed_out(void (*function)(uint64_t deadline_ns))
{
    libos_shared()->timed_out = function;
}

int thread_sleep(uint32_t ticket, uint64_t deadline_ns)
{
    return sleep_by_ticket(ticket, deadline_ns, true);
}

int thread_sleep_uninterruptible(uint32_t ticket, uint64_t deadline_ns)
{
    return sleep_by_ticket(ticket, deadline_ns, false);
}

void thread_wake(struct thread *thread)
{
    struct thread *self = thread_current();
    uint32_t *word = (uint32_t *)&thread->wake_word;

    thread->wake_word++;
    if (!thread->asleep)
        return;
    /* The word may be gone when the host is told: it lies in the heap all the same, and a wake-up
     * too many harms nobody. */
    if (self && self->lock_depth && self->deferred_wake_count < THREAD_WAKE_MAX)
        self->deferred_wakes[self->deferred_wake_count++] = word;
    else
        bly->wake_address(word, 1);
}

void thread_flush_wakes(struct thread *self)
{
    while (self->deferred_wake_count)
        bly->wake_address(self->deferred_wakes[--self->deferred_wake_count], 1);
}

void thread_notify(struct thread *thread)
{
    thread->work_pending |= THREAD_WORK;
    switch (thread->state) {
    case THREAD_SLEEPING:
        thread_wake(thread);
        break;
    case THREAD_IN_GUEST:
    case THREAD_IN_HOST_WAIT:
        /* -ESRCH: it has ended meanwhile and needs no telling. */
        (void)bly->thread_interrupt(thread->process_id, thread->thread_id);
        break;
    default:
        break; /* looks for work by itself before it leaves the personality */
    }
}

bool thread_enter_host_wait(void)
{
    struct bly_thread_block *block = thread_block();
    struct thread *thread = block->personality_thread;

    for (;;) {
        park_point();
        block->interrupt_pending = 0;
        thread->work_pending &= ~(uint32_t)THREAD_WORK_PARK;
        thread->state = THREAD_IN_HOST_WAIT;
        if (has_work(thread)) {
            thread->state = THREAD_IN_KERNEL;
            return false;
        }
        if (!park_is_asked() || !thread->may_park)
            return true;
        thread->state = THREAD_IN_KERNEL;
    }
}

void thread_leave_host_wait(void)
{
    thread_current()->state = THREAD_IN_KERNEL;
}

void thread_wait_word(uint32_t *word, uint32_t expected)
{
    struct bly_thread_block *block = thread_block();
    bool interrupted = __atomic_exchange_n(&block->interrupt_pending, 0, __ATOMIC_SEQ_CST) != 0;

    if (bly->wait_address(word, expected, BLY_FOREVER) == -EINTR)
        interrupted = true;
    if (interrupted)
        block->interrupt_pending = 1;
}

void thread_finish(struct thread *thread)
{
    while (thread->spare_waiters) {
        struct waiter *waiter = thread->spare_waiters;
        thread->spare_waiters = (struct waiter *)waiter->node.next;
        heap_free(waiter);
    }
}

bool thread_abandon(struct thread *thread)
{
    if (thread->lock_depth)
        return false;
    while (thread->active_waiters) {
        struct waiter *waiter = thread->active_waiters;
        thread->active_waiters = waiter->next_active;
        wait_queue_remove(waiter);
        if (waiter != &thread->first_waiter)
            heap_free(waiter);
    }
    thread->first_waiter.thread = NULL;
    for (int i = 0; i < THREAD_MUTEX_MAX; i++) {
        struct mutex *mutex = thread->held_mutexes[i];
        thread->held_mutexes[i] = NULL;
        if (mutex && mutex->owner == thread->thread_id)
            mutex_break(mutex);
    }
    thread_finish(thread);
    return true;
}
