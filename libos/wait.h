/* Wait queues: who sleeps until a condition about a shared object changes.
 *
 * A waiter is an entry in the kernel heap (other picoprocesses follow it), not on a stack. Its wake function is called
 * with the queue's lock held; the default wakes the thread, epoll's puts itself on a ready list. Lock order: the
 * object's own lock, then the queue's. */
#ifndef LIBOS_WAIT_H
#define LIBOS_WAIT_H

#include "libos/list.h"
#include "libos/lock.h"
#include "libos/thread.h"

struct wait_queue { struct lock lock; struct list waiters; };

void wait_queue_init(struct wait_queue *queue);
void wait_queue_add(struct wait_queue *queue, struct waiter *waiter);
void wait_queue_remove(struct waiter *waiter); /* harmless when on none */
/* Wakes all plain waiters that meet `events`, and at most `count` exclusive ones. Returns how many exclusive ones. */
int wait_queue_wake(struct wait_queue *queue, uint32_t events, int count);
static inline void wait_queue_wake_all(struct wait_queue *queue) { wait_queue_wake(queue, ~0u, 1 << 30); }

/* The common wait: `condition` is an expression tested with the guarding `lock` held (a struct lock *, taken and released in here and held
 * at return); result is 0, -EINTR or -ETIMEDOUT in `result`. */
int wait_begin(struct wait_queue *queue, struct waiter **out_waiter); /* allocates from the thread's own cache */
void wait_end(struct waiter *waiter);
#define wait_until(queue_, lock_, condition, deadline_ns, result) \
    do { \
        struct waiter *waiter_ = NULL; \
        (result) = 0; \
        while (!(condition)) { \
            uint32_t ticket_ = thread_ticket(); \
            if (!waiter_ && ((result) = wait_begin(queue_, &waiter_)) < 0) break; \
            lock_release(lock_); \
            (result) = thread_sleep(ticket_, deadline_ns); \
            lock_acquire(lock_); \
            if ((result) < 0) { if (condition) (result) = 0; break; } \
        } \
        if (waiter_) wait_end(waiter_); \
    } while (0)

#endif
