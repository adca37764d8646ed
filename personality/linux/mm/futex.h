/* What the futex files share: waiters, buckets, and how a thread sleeps on a futex word.
 *
 * Guest memory is never touched under a bucket's lock. A waiter therefore joins its bucket *first*
 * and looks at the word afterwards: whoever changes the word and then wakes either finds the
 * waiter, or changed the word before the waiter looked at it. */
#ifndef LX_FUTEX_H
#define LX_FUTEX_H

#include "personality/linux/mm/mm.h"
#include "personality/linux/process/process.h"

#include <linux/futex.h>

struct futex_bucket {
    struct lock lock;    /* guards the list and every waiter on it */
    struct list waiters; /* in order of arrival */
};

enum futex_waiter_kind { FUTEX_PLAIN, FUTEX_FOR_REQUEUE_PI, FUTEX_PI_WAITER };
enum futex_handover { PI_WAITING, PI_CHOSEN, PI_OWNS };

struct futex_waiter {
    struct list node; /* guarded by home's lock, as all below */
    struct futex_bucket
        *_Atomic bucket;       /* the one it is on; NULL: it was woken (or never waited) */
    struct futex_bucket *home; /* the last one it was on: taking its lock once makes sure that the
                                  waker is done with us */
    struct futex_key key;
    struct lx_thread *thread;
    uint32_t bitset;
    uint32_t kind;               /* enum futex_waiter_kind */
    struct futex_key target;     /* FOR_REQUEUE_PI: the PI futex it may be requeued to */
    uint32_t requeued;           /* FOR_REQUEUE_PI: it was */
    _Atomic uint32_t handover;   /* PI_WAITER: enum futex_handover */
    _Atomic int32_t owner;       /* PI_WAITER: tid that held the word when it was last looked at */
    uint64_t address;            /* PI_WAITER: of the word, in the waiter's process */
    struct futex_waiter *vector; /* a thread's own waiter: those of futex_waitv meanwhile */
    uint32_t vector_count;
};

enum { FUTEX_BUCKET_COUNT = 256 };
struct futex_table {
    _Atomic uint32_t pi_waiters; /* of the whole sandbox: without any, the end of a thread need not
                                    look for them */
    struct futex_bucket buckets[FUTEX_BUCKET_COUNT];
};

/* One of a call's operands. */
struct futex_word {
    uint32_t *address; /* guest */
    bool shared;
    struct futex_key key;
};
int futex_word(uint32_t *address, bool shared, struct futex_word *out_word)
    __attribute__((warn_unused_result));

static inline struct futex_table *futex_table(void)
{
    return lx_kernel->futexes;
}
struct futex_bucket *futex_bucket(const struct futex_key *key);
static inline bool futex_key_equal(const struct futex_key *a, const struct futex_key *b)
{
    return a->object == b->object && a->offset == b->offset;
}

/* The calling thread's own waiter, cleared. NULL: out of memory. */
struct futex_waiter *futex_own_waiter(void);
void futex_join(struct futex_waiter *waiter, const struct futex_key *key);
/* Leaves the bucket. False when the waiter had been woken (taken off by somebody) before. */
bool futex_leave(struct futex_waiter *waiter);
/* Takes the waiter off its bucket and wakes its thread; its bucket's lock is held. */
void futex_wake_waiter(struct futex_waiter *waiter);
void futex_lock_two(struct futex_bucket *a, struct futex_bucket *b);
void futex_unlock_two(struct futex_bucket *a, struct futex_bucket *b);
/* Sleeps until the waiter is woken: 0, -EINTR or -ETIMEDOUT; leaves the bucket in every case. */
int futex_sleep(struct futex_waiter *waiter, uint64_t deadline_ns);

/* A guest timespec to a deadline (BLY_FOREVER for NULL). */
enum futex_clock { FUTEX_RELATIVE, FUTEX_ABSOLUTE_MONOTONIC, FUTEX_ABSOLUTE_REALTIME };
int futex_deadline(const void *guest_timespec, enum futex_clock clock, uint64_t *out_deadline_ns)
    __attribute__((warn_unused_result));

/* futex_pi.c */
long futex_lock_pi(struct futex_word *word, uint64_t deadline_ns);
long futex_trylock_pi(struct futex_word *word);
long futex_unlock_pi(struct futex_word *word);
long futex_wait_requeue_pi(struct futex_word *word, uint32_t expected, uint32_t bitset,
                           uint64_t deadline_ns, struct futex_word *target);
long futex_requeue_pi(struct futex_word *from, struct futex_word *to, int wake_count,
                      int requeue_count);
void futex_pi_thread_exit(struct lx_thread *thread);

#endif
