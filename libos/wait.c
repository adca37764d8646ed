/* Wait queues. Invariant: waiter->queue is set exactly while the waiter is on that queue's list;
 * both change under the queue's lock. The last thing a wake does with a waiter is to wake it:
 * afterwards it may be gone. */
#include "libos/wait.h"

#include <asm/errno.h>

#include "libos/heap.h"
#include "libos/text.h"

void wait_queue_init(struct wait_queue *queue)
{
    queue->lock = (struct lock)LOCK_INIT;
    list_init(&queue->waiters);
}

void wait_queue_add(struct wait_queue *queue, struct waiter *waiter)
{
    assert(!waiter->queue);
    lock_acquire(&queue->lock);
    waiter->queue = queue;
    /* Exclusive waiters at the end: one wake then meets all the plain ones before it has used up
     * its count. */
    if (waiter->exclusive)
        list_push(&queue->waiters, &waiter->node);
    else
        list_push_front(&queue->waiters, &waiter->node);
    lock_release(&queue->lock);
}

void wait_queue_remove(struct waiter *waiter)
{
    struct wait_queue *queue = waiter->queue;

    if (!queue)
        return;
    lock_acquire(&queue->lock);
    list_remove(&waiter->node);
    waiter->queue = NULL;
    lock_release(&queue->lock);
}

int wait_queue_wake(struct wait_queue *queue, uint32_t events, int count)
{
    int exclusive_woken = 0;

    /* The waiter joined under the lock that guards the condition, or tests the condition after
     * joining; the fence makes the unlocked look safe in the second case too. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (list_empty(&queue->waiters))
        return 0;

    lock_acquire(&queue->lock);
    list_for_each_safe(node, after, &queue->waiters)
    {
        struct waiter *waiter = container_of(node, struct waiter, node);
        if (waiter->events && !(waiter->events & events))
            continue;
        bool exclusive = waiter->exclusive, woken = true; /* it may be gone once it is awake */
        if (exclusive && exclusive_woken >= count)
            break;
        if (waiter->wake)
            woken = waiter->wake(waiter, events);
        else
            thread_wake(waiter->thread);
        exclusive_woken += exclusive && woken;
    }
    lock_release(&queue->lock);
    return exclusive_woken;
}

int wait_begin(struct wait_queue *queue, struct waiter **out_waiter)
{
    struct thread *thread = thread_current();
    struct waiter *waiter = thread->spare_waiters;

    if (!thread->first_waiter.thread) {
        waiter = &thread->first_waiter;
        *waiter = (struct waiter){0};
    } else if (waiter) {
        thread->spare_waiters = (struct waiter *)waiter->node.next;
        *waiter = (struct waiter){0};
    } else {
        waiter = heap_alloc(sizeof *waiter);
        if (!waiter)
            return -ENOMEM;
    }
    waiter->thread = thread;
    waiter->next_active = thread->active_waiters;
    thread->active_waiters = waiter;
    wait_queue_add(queue, waiter);
    *out_waiter = waiter;
    return 0;
}

void wait_end(struct waiter *waiter)
{
    struct thread *thread = thread_current();

    struct waiter **link = &thread->active_waiters;
    while (*link != waiter)
        link = &(*link)->next_active;
    *link = waiter->next_active;
    wait_queue_remove(waiter);
    if (waiter == &thread->first_waiter) {
        waiter->thread = NULL;
        return;
    }
    waiter->node.next = (struct list *)thread->spare_waiters;
    thread->spare_waiters = waiter;
}
