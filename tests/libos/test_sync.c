/* Locks, mutexes, sleeping and waking, wait queues: under contention of more threads than CPUs. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "libos/text.h"
#include "libos/heap.h"
#include "libos/wait.h"
#include "tests/libos/host.h"

static struct lock lock;
static struct mutex mutex;
static uint64_t counter;

static void count_locked(void *argument)
{
    for (int i = 0; i < 200000; i++) {
        scoped_lock(&lock);
        counter++;
    }
}

static void count_in_mutex(void *argument)
{
    for (int i = 0; i < 20000; i++) {
        mutex_acquire(&mutex);
        CHECK(mutex_held(&mutex));
        uint64_t seen = counter;
        if (i % 500 == 0)
            usleep(100);
        counter = seen + 1;
        mutex_release(&mutex);
    }
}

static uint64_t run_four(void (*function)(void *))
{
    uint64_t threads[4];

    counter = 0;
    for (int i = 0; i < 4; i++)
        threads[i] = test_thread_start(function, NULL);
    for (int i = 0; i < 4; i++)
        test_thread_join(threads[i]);
    return counter;
}

static void locks_exclude_and_lose_no_wakeup(void)
{
    CHECK(run_four(count_locked) == 800000);
    CHECK(!lock_held(&lock) && thread_current()->lock_depth == 0);
    CHECK(lock_try(&lock) && lock_held(&lock) && !lock_try(&lock) &&
          thread_current()->lock_depth == 1);
    lock_release(&lock);
}

static void mutexes_exclude_and_may_sleep(void)
{
    CHECK(run_four(count_in_mutex) == 80000);
    CHECK(mutex_try(&mutex) && !mutex_try(&mutex));
    CHECK(thread_current()->held_mutexes[0] == &mutex && thread_current()->lock_depth == 0);
    CHECK(thread_abandon(thread_current()) && mutex_try(&mutex));
    mutex_release(&mutex);
}

static void take_twice(void)
{
    lock_acquire(&lock);
    lock_acquire(&lock);
}
static void taking_a_lock_twice_is_caught(void)
{
    CHECK(test_panics(take_twice));
}

struct channel {
    struct lock lock;
    struct wait_queue queue;
    uint64_t sent, taken, limit;
};

static void produce(void *argument)
{
    struct channel *channel = argument;

    for (;;) {
        lock_acquire(&channel->lock);
        int result;
        wait_until(&channel->queue, &channel->lock, channel->sent - channel->taken < 4, BLY_FOREVER,
                   result);
        bool done = channel->sent == channel->limit;
        if (!done)
            channel->sent++;
        lock_release(&channel->lock);
        CHECK(result == 0);
        wait_queue_wake_all(&channel->queue);
        if (done)
            return;
    }
}

static void consume(void *argument)
{
    struct channel *channel = argument;

    for (;;) {
        lock_acquire(&channel->lock);
        int result;
        wait_until(&channel->queue, &channel->lock,
                   channel->sent > channel->taken || channel->taken == channel->limit, BLY_FOREVER,
                   result);
        bool done = channel->taken == channel->limit;
        if (!done)
            channel->taken++;
        lock_release(&channel->lock);
        CHECK(result == 0);
        wait_queue_wake_all(&channel->queue);
        if (done)
            return;
    }
}

static void wait_queues_lose_no_wakeup(void)
{
    struct channel *channel = heap_alloc(sizeof *channel);
    uint64_t threads[6];

    wait_queue_init(&channel->queue);
    channel->limit = 30000;
    for (int i = 0; i < 6; i++)
        threads[i] = test_thread_start(i < 3 ? produce : consume, channel);
    for (int i = 0; i < 6; i++)
        test_thread_join(threads[i]);
    CHECK(channel->taken == channel->limit && list_empty(&channel->queue.waiters));
    heap_free(channel);
}

static void deadlines_end_sleeps(void)
{
    uint64_t start = test_now_ns();

    CHECK(thread_sleep(thread_ticket(), 0) == -ETIMEDOUT);
    CHECK(thread_sleep(thread_ticket(), start + 20000000) == -ETIMEDOUT);
    CHECK(test_now_ns() >= start + 20000000 && test_now_ns() < start + 500000000);
    uint32_t ticket = thread_ticket();
    thread_wake(thread_current());
    CHECK(thread_sleep(ticket, BLY_FOREVER) == 0);
}

static volatile int sleep_result, slept;
static void sleep_long(void *argument)
{
    sleep_result = thread_sleep(thread_ticket(), BLY_FOREVER);
    slept = 1;
}
static void sleep_hard(void *argument)
{
    sleep_result = thread_sleep_uninterruptible(thread_ticket(), BLY_FOREVER);
    slept = 1;
}
static void host_wait(void *argument)
{
    sleep_result = 0;
    while (sleep_result == 0) {
        static uint32_t word;
        if (!thread_enter_host_wait()) {
            sleep_result = -EINTR;
            break;
        }
        extern const struct bly_abi *bly;
        sleep_result = bly->wait_address(&word, 0, BLY_FOREVER);
        thread_leave_host_wait();
    }
    slept = 1;
}

static void notify_ends_interruptible_sleeps_only(void)
{
    void (*const functions[])(void *) = {sleep_long, host_wait, sleep_hard};

    for (int kind = 0; kind < 3; kind++) {
        for (int round = 0; round < 20; round++) {
            slept = 0;
            uint64_t handle = test_thread_start(functions[kind], NULL);
            if (round % 2)
                usleep(2000);
            thread_notify(test_thread_object(handle));
            if (kind == 2) {
                usleep(2000);
                CHECK(!slept);
                /* The thread may not have taken its ticket yet. */
                while (!slept) {
                    thread_wake(test_thread_object(handle));
                    sched_yield();
                }
            }
            test_thread_join(handle);
            CHECK(sleep_result == (kind == 2 ? 0 : -EINTR));
        }
    }
}

static uint32_t woken_events;
static bool note_wake(struct waiter *waiter, uint32_t events)
{
    woken_events |= events;
    return !(events & 8); /* who does not take it */
}

static void wakes_respect_events_and_counts(void)
{
    struct wait_queue queue;
    struct waiter waiters[4] = {0};

    wait_queue_init(&queue);
    for (int i = 0; i < 4; i++) {
        waiters[i].wake = note_wake;
        waiters[i].exclusive = i < 3;
        waiters[i].events = i == 0 ? 1 : i == 3 ? 2 : 0;
        wait_queue_add(&queue, &waiters[i]);
    }
    woken_events = 0;
    CHECK(wait_queue_wake(&queue, 4, 1) == 1 && woken_events == 4);
    CHECK(wait_queue_wake(&queue, 1, 9) == 3);
    CHECK(wait_queue_wake(&queue, 2, 9) == 2);
    CHECK(wait_queue_wake(&queue, 8, 1) == 0); /* another one is asked then */
    for (int i = 0; i < 4; i++) {
        wait_queue_remove(&waiters[i]);
        wait_queue_remove(&waiters[i]);
    }
    CHECK(wait_queue_wake(&queue, ~0u, 9) == 0);
}

static struct thread *ping_thread, *volatile pong_thread;
static volatile uint32_t ball;
static void pong(void *argument)
{
    pong_thread = thread_current();
    for (uint32_t i = 1; i <= 2 * 20000; i += 2) {
        uint32_t ticket;
        while (ticket = thread_ticket(), ball != i)
            thread_sleep(ticket, BLY_FOREVER);
        ball = i + 1;
        thread_wake(ping_thread);
    }
}

static void speed_is_told(void)
{
    uint64_t start = test_now_ns();
    for (int i = 0; i < 1000000; i++) {
        lock_acquire(&lock);
        lock_release(&lock);
    }
    test_say("lock_acquire + lock_release: %lu ns", (test_now_ns() - start) / 1000000);

    ping_thread = thread_current();
    uint64_t handle = test_thread_start(pong, NULL);
    while (!pong_thread)
        sched_yield();
    start = test_now_ns();
    for (uint32_t i = 0; i < 2 * 20000; i += 2) {
        uint32_t ticket;
        ball = i + 1;
        thread_wake(pong_thread);
        while (ticket = thread_ticket(), ball != i + 2)
            thread_sleep(ticket, BLY_FOREVER);
    }
    test_say("round trip between two threads: %lu ns", (test_now_ns() - start) / 20000);
    test_thread_join(handle);
}

static const struct test tests[] = {
    {"locks_exclude_and_lose_no_wakeup", locks_exclude_and_lose_no_wakeup},
    {"mutexes_exclude_and_may_sleep", mutexes_exclude_and_may_sleep},
    {"taking_a_lock_twice_is_caught", taking_a_lock_twice_is_caught},
    {"wait_queues_lose_no_wakeup", wait_queues_lose_no_wakeup},
    {"deadlines_end_sleeps", deadlines_end_sleeps},
    {"notify_ends_interruptible_sleeps_only", notify_ends_interruptible_sleeps_only},
    {"wakes_respect_events_and_counts", wakes_respect_events_and_counts},
    {"speed_is_told", speed_is_told},
};

int main(void)
{
    test_host_start(0);
    return test_run(tests, sizeof tests / sizeof *tests);
}
