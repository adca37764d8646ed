/* The sandbox's one queue of timers, and the thread of init that serves it.
 *
 * The queue is a tree in the kernel heap ordered by deadline, so starting and cancelling need nobody's help; only when a new timer
 * comes before all others is the thread woken. Exactly one function runs at a time, and timer_cancel waits for it, so that whoever
 * cancels may free the timer. */
#include "personality/linux/process/timers.h"

#include "libos/park.h"
#include "personality/linux/process/process.h"

#define LOOK_AGAIN_NS 1000000u /* who waits for a round parks in between */

struct timer_queue {
    struct lock lock;
    struct tree tree;
    uint64_t sequence;
    struct thread *server;
    struct lx_timer *running;
    uint64_t sleeps_until_ns;       /* no timer of before that is left; written with the lock held */
    uint64_t clock_difference_ns;   /* of the time of day and the monotonic clock, at the last rest */
    _Atomic uint32_t rounds, waiters; /* of the server; who waits for the end of one */
};

static struct timer_queue *timer_queue(void) { return lx_kernel->timers; }

static int compare_timers(const struct tree_node *a, const struct tree_node *b)
{
    const struct lx_timer *left = container_of(a, struct lx_timer, node), *right = container_of(b, struct lx_timer, node);
    if (left->deadline_ns != right->deadline_ns)
        return left->deadline_ns < right->deadline_ns ? -1 : 1;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

static void insert(struct timer_queue *queue, struct lx_timer *timer)
{
    timer->sequence = queue->sequence++;
    timer->armed = 1;
    tree_insert(&queue->tree, &timer->node, compare_timers);
}

static void remove(struct timer_queue *queue, struct lx_timer *timer)
{
    if (!timer->armed)
        return;
    tree_remove(&queue->tree, &timer->node);
    timer->armed = 0;
}

int lx_timer_init(void)
{
    struct timer_queue *queue = heap_alloc(sizeof *queue);
    if (!queue)
        return -ENOMEM;
    queue->sleeps_until_ns = BLY_FOREVER;
    lx_kernel->timers = queue;
    thread_set_timed_out(timer_settle);
    return 0;
}

void timer_start(struct lx_timer *timer, uint64_t deadline_ns, uint64_t interval_ns)
{
    struct timer_queue *queue = timer_queue();
    lock_acquire(&queue->lock);
    remove(queue, timer);
    timer->deadline_ns = deadline_ns;
    timer->interval_ns = interval_ns;
    insert(queue, timer);
    struct thread *wake = deadline_ns < queue->sleeps_until_ns ? queue->server : NULL;
    if (wake)
        queue->sleeps_until_ns = deadline_ns;
    lock_release(&queue->lock);
    if (wake)
        thread_wake(wake);
}

bool timer_cancel(struct lx_timer *timer)
{
    struct timer_queue *queue = timer_queue();
    lock_acquire(&queue->lock);
    bool armed = timer->armed;
    remove(queue, timer);
    timer->interval_ns = 0;
    while (queue->running == timer) {
        lock_release(&queue->lock);
        bly->thread_yield();
        lock_acquire(&queue->lock);
        remove(queue, timer); /* its function may have started it again */
    }
    lock_release(&queue->lock);
    return armed;
}

uint64_t timer_remaining(struct lx_timer *timer, uint64_t *out_interval_ns)
{
    uint64_t now = lx_monotonic_ns();
    scoped_lock(&timer_queue()->lock);
    if (out_interval_ns)
        *out_interval_ns = timer->interval_ns;
    if (!timer->armed)
        return 0;
    return timer->deadline_ns > now ? timer->deadline_ns - now : 1; /* armed is never told as 0 */
}

/* Lock held. */
static uint64_t note_first(struct timer_queue *queue)
{
    struct tree_node *node = tree_first(&queue->tree);
    uint64_t deadline = node ? container_of(node, struct lx_timer, node)->deadline_ns : BLY_FOREVER;
    __atomic_store_n(&queue->sleeps_until_ns, deadline, __ATOMIC_SEQ_CST);
    return deadline;
}

/* Runs the first timer if its time has come. Lock held; released meanwhile. */
static bool run_first(struct timer_queue *queue)
{
    struct tree_node *node = tree_first(&queue->tree);
    uint64_t now = lx_monotonic_ns();
    if (!node)
        return false;
    struct lx_timer *timer = container_of(node, struct lx_timer, node);
    if (timer->deadline_ns > now)
        return false;
    uint64_t expirations = 1;
    remove(queue, timer);
    if (timer->interval_ns) {
        expirations += (now - timer->deadline_ns) / timer->interval_ns;
        timer->deadline_ns += expirations * timer->interval_ns;
        insert(queue, timer);
    }
    queue->running = timer;
    lock_release(&queue->lock);
    timer->function(timer, expirations);
    lock_acquire(&queue->lock);
    queue->running = NULL;
    note_first(queue);
    return true;
}

void timer_settle(uint64_t deadline_ns)
{
    struct timer_queue *queue = timer_queue();
    struct bly_thread_block *block = thread_block();
    bool interrupted = false;
    queue->waiters++;
    for (uint32_t rounds; rounds = queue->rounds, __atomic_load_n(&queue->sleeps_until_ns, __ATOMIC_SEQ_CST) <= deadline_ns;) {
        park_point();
        interrupted |= __atomic_exchange_n(&block->interrupt_pending, 0, __ATOMIC_SEQ_CST) != 0;
        (void)bly->wait_address((uint32_t *)&queue->rounds, rounds, lx_monotonic_ns() + LOOK_AGAIN_NS);
    }
    queue->waiters--;
    if (interrupted)
        block->interrupt_pending = 1;
}

static uint64_t clock_difference(void)
{
    uint64_t realtime = 0;
    (void)bly->clock_read(BLY_CLOCK_REALTIME, 0, &realtime);
    return realtime - lx_monotonic_ns();
}

void timer_note_clocks(void)
{
    timer_queue()->clock_difference_ns = clock_difference();
}

/* Backward jumps, of a host whose clock is behind, leave timers as they are: late is better than early, and the time that is left holds. */
void timer_follow_clocks(void)
{
    struct timer_queue *queue = timer_queue();
    int64_t jump = (int64_t)(clock_difference() - queue->clock_difference_ns);
    struct lx_timer *first = NULL;
    if (jump <= 0)
        return;
    lock_acquire(&queue->lock);
    for (struct tree_node *node = tree_first(&queue->tree); node; node = tree_next(node)) {
        struct lx_timer *timer = container_of(node, struct lx_timer, node);
        if (timer->clock_set) {
            timer->after = first;
            first = timer;
        }
    }
    for (struct lx_timer *timer = first; timer; timer = timer->after) {
        remove(queue, timer);
        timer->deadline_ns = time_earlier(timer->deadline_ns, (uint64_t)jump);
        insert(queue, timer);
    }
    note_first(queue);
    lock_release(&queue->lock);
    for (struct lx_timer *timer = first; timer; timer = timer->after)
        timer->clock_set(timer, (uint64_t)jump);
    if (first && queue->server)
        thread_wake(queue->server);
}

void lx_timer_thread(void)
{
    struct timer_queue *queue = timer_queue();
    queue->server = thread_current();
    for (;;) {
        uint32_t ticket = thread_ticket();
        lock_acquire(&queue->lock);
        while (run_first(queue)) {
        }
        uint64_t deadline = note_first(queue);
        lock_release(&queue->lock);
        queue->rounds++;
        if (queue->waiters)
            bly->wake_address((uint32_t *)&queue->rounds, INT32_MAX);
        thread_sleep_uninterruptible(ticket, deadline);
    }
}
