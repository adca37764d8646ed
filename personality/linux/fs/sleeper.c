/* A thread that sleeps on many wait queues and host streams at once: the engine under poll, select and epoll_wait.
 *
 * Without host streams the thread sleeps on its wake word like any other. With them it waits on the host in a wait set, and
 * whoever wakes it through a queue also writes to a wake descriptor in that set. The descriptors come from the pool that every
 * picoprocess holds. The waker sets `triggered` and then looks for the descriptor; the sleeper publishes the descriptor and then
 * looks at `triggered`: one of the two sees the other. */
#include "personality/linux/fs/poll.h"
#include "personality/linux/process/process.h"
#include "personality/linux/process/timers.h"
#include <asm/poll.h>

enum { CHUNK_WAITERS = 8, STREAM_MAX = 64 };

struct waiter_chunk {
    struct waiter_chunk *next;
    uint32_t count;
    struct waiter waiters[CHUNK_WAITERS];
};

struct poll_sleeper {
    struct poll_table table; /* first: poll_wait finds the sleeper from it */
    struct thread *thread;
    struct waiter_chunk *chunks;
    _Atomic uint32_t triggered;
    _Atomic bly_handle event;  /* wake descriptor, while the thread may wait on the host */
    _Atomic uint32_t may_wait_on_host;
    int error;
    uint32_t stream_count;
    struct { bly_handle handle; uint32_t events; } streams[STREAM_MAX];
    struct waiter_chunk first;
};

/* Which wake descriptors are taken. */
struct wake_pool {
    struct lock lock;
    uint32_t count;
    uint64_t taken[16];
};

int lx_wake_init(void);
int lx_wake_init(void)
{
    struct wake_pool *pool = heap_alloc(sizeof *pool);

    if (!pool)
        return -ENOMEM;
    pool->count = start_info->wake_pool_count < 1024 ? start_info->wake_pool_count : 1024;
    lx_kernel->wake_pool = pool;
    return 0;
}

static bly_handle wake_descriptor_take(void)
{
    struct wake_pool *pool = lx_kernel->wake_pool;

    scoped_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->count; i++) {
        if (!(pool->taken[i / 64] & 1ull << i % 64)) {
            pool->taken[i / 64] |= 1ull << i % 64;
            return start_info->wake_pool + i;
        }
    }
    return BLY_NO_HANDLE;
}

static void wake_descriptor_give(bly_handle event)
{
    struct wake_pool *pool = lx_kernel->wake_pool;
    uint32_t i = event - start_info->wake_pool;
    uint64_t count;
    struct bly_iovec vector = { &count, sizeof count };

    (void)bly->stream_read(event, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT); /* -EAGAIN: nobody wrote */
    scoped_lock(&pool->lock);
    pool->taken[i / 64] &= ~(1ull << i % 64);
}

/* Called with the queue's lock held. */
static bool sleeper_wake(struct waiter *waiter, uint32_t events)
{
    struct poll_sleeper *sleeper = waiter->owner;

    sleeper->triggered = 1;
    if (sleeper->may_wait_on_host) {
        uint64_t one = 1;
        struct bly_iovec vector = { &one, sizeof one };
        if (sleeper->event != BLY_NO_HANDLE)
            (void)bly->stream_write(sleeper->event, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        else
            thread_notify(sleeper->thread); /* the pool is empty: it will look for work, find none and begin again */
    }
    thread_wake(sleeper->thread);
    return true;
}

static void table_wait(struct poll_table *table, struct wait_queue *queue)
{
    poll_sleeper_add_queue((struct poll_sleeper *)table, queue, table->events, /*exclusive=*/false);
}

static void table_wait_stream(struct poll_table *table, bly_handle stream, uint32_t events)
{
    poll_sleeper_add_stream((struct poll_sleeper *)table, stream, events & table->events);
}

struct poll_sleeper *poll_sleeper_create(void)
{
    struct poll_sleeper *sleeper = heap_alloc(sizeof *sleeper);

    if (!sleeper)
        return NULL;
    sleeper->table.wait = table_wait;
    sleeper->table.wait_stream = table_wait_stream;
    sleeper->thread = thread_current();
    sleeper->chunks = &sleeper->first;
    return sleeper;
}

void poll_sleeper_free(struct poll_sleeper *sleeper)
{
    if (!sleeper)
        return;
    for (struct waiter_chunk *chunk = sleeper->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        for (uint32_t i = 0; i < chunk->count; i++)
            wait_queue_remove(&chunk->waiters[i]);
        if (chunk != &sleeper->first)
            heap_free(chunk);
    }
    if (sleeper->event != BLY_NO_HANDLE)
        wake_descriptor_give(sleeper->event);
    heap_free(sleeper);
}

struct poll_table *poll_sleeper_table(struct poll_sleeper *sleeper)
{
    return &sleeper->table;
}

void poll_sleeper_add_queue(struct poll_sleeper *sleeper, struct wait_queue *queue, uint32_t events, bool exclusive)
{
    struct waiter_chunk *chunk = sleeper->chunks;

    if (chunk->count == CHUNK_WAITERS) {
        chunk = heap_alloc(sizeof *chunk);
        if (!chunk) {
            sleeper->error = -ENOMEM;
            return;
        }
        chunk->next = sleeper->chunks;
        sleeper->chunks = chunk;
    }
    struct waiter *waiter = &chunk->waiters[chunk->count++];
    waiter->wake = sleeper_wake;
    waiter->thread = sleeper->thread;
    waiter->owner = sleeper;
    waiter->events = events;
    waiter->exclusive = exclusive;
    wait_queue_add(queue, waiter);
}

void poll_sleeper_add_stream(struct poll_sleeper *sleeper, bly_handle stream, uint32_t events)
{
    for (uint32_t i = 0; i < sleeper->stream_count; i++) {
        if (sleeper->streams[i].handle == stream) { /* a stream can be in a wait set only once */
            sleeper->streams[i].events |= events;
            return;
        }
    }
    if (sleeper->stream_count == STREAM_MAX) {
        sleeper->error = -ENOMEM;
        return;
    }
    sleeper->streams[sleeper->stream_count].handle = stream;
    sleeper->streams[sleeper->stream_count++].events = events;
}

void poll_sleeper_drop_streams(struct poll_sleeper *sleeper)
{
    sleeper->stream_count = 0;
}

static int wait_in_set(struct poll_sleeper *sleeper, uint64_t deadline_ns)
{
    struct bly_wait_event ready[4];
    bly_handle set;
    int result = bly->wait_set_create(&set);

    if (result < 0)
        return result;
    if (sleeper->event != BLY_NO_HANDLE)
        result = bly->wait_set_control(set, BLY_WAIT_SET_ADD, sleeper->event, BLY_WAIT_READ, 0);
    for (uint32_t i = 0; i < sleeper->stream_count && result >= 0; i++)
        result = bly->wait_set_control(set, BLY_WAIT_SET_ADD, sleeper->streams[i].handle, sleeper->streams[i].events, i);
    if (result >= 0 && !sleeper->triggered) {
        if (thread_enter_host_wait()) {
            result = bly->wait_set_wait(set, ready, sizeof ready / sizeof *ready, deadline_ns);
            thread_leave_host_wait();
            if (result == 0)
                result = -ETIMEDOUT;
            else if (result == -EINTR && !thread_has_work())
                result = 1; /* only to park: as if woken */
        } else {
            result = -EINTR;
        }
    }
    (void)bly->handle_close(set);
    if (result == -ETIMEDOUT) {
        timer_settle(deadline_ns);
        result = thread_has_work() ? -EINTR : result;
    }
    return result;
}

int poll_sleeper_sleep(struct poll_sleeper *sleeper, uint32_t ticket, uint64_t deadline_ns)
{
    int result;

    if (sleeper->error)
        return sleeper->error;
    if (sleeper->stream_count == 0)
        return thread_sleep(ticket, deadline_ns);
    if (sleeper->event == BLY_NO_HANDLE)
        sleeper->event = wake_descriptor_take();
    sleeper->may_wait_on_host = 1;
    result = sleeper->triggered ? 0 : wait_in_set(sleeper, deadline_ns);
    sleeper->may_wait_on_host = 0;
    if (sleeper->triggered) {
        /* The descriptor may have been written to already, or not yet: a count left over only costs a further look. */
        sleeper->triggered = 0;
        if (sleeper->event != BLY_NO_HANDLE) {
            uint64_t count;
            struct bly_iovec vector = { &count, sizeof count };
            (void)bly->stream_read(sleeper->event, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        }
        return 0;
    }
    return result > 0 ? 0 : result;
}
