/* Futexes with an owner: FUTEX_LOCK_PI and its relatives.
 *
 * The word holds the owner's tid, FUTEX_WAITERS when unlocking must come here, and
 * FUTEX_OWNER_DIED. Threads have no priorities of their own to inherit inside the sandbox; what
 * programs rely on is ownership: the lock is handed to the waiter that came first, the owner's
 * death hands it on, and a cycle is -EDEADLK.
 *
 * A waiter joins its bucket, then sets FUTEX_WAITERS in the word of a living owner, then sleeps.
 * The unlocker chooses the first waiter under the bucket's lock (PI_CHOSEN: it can no longer give
 * up), writes its tid into the word, and wakes it (PI_OWNS). If the word changed in between, a
 * newcomer has set FUTEX_WAITERS: the unlocker looks again. */
#include "personality/linux/mm/futex.h"

enum { DEADLOCK_DEPTH_MAX = 1024 };

static int32_t own_tid(void)
{
    return lx_current()->tid;
}

/* Does waiting for `owner` close a circle of PI waiters? -EDEADLK; -ESRCH when there is no such
 * thread; -EBUSY while it is ending and has looked for waiters already: it will mark the word, or
 * be gone. */
static int check_owner(int32_t owner)
{
    int32_t self = own_tid(), tid = owner;

    if (owner == self)
        return -EDEADLK;
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = thread_find(owner);
    if (!thread)
        return -ESRCH;
    if (thread->futex_exited)
        return -EBUSY;
    for (int depth = 0; thread && depth < DEADLOCK_DEPTH_MAX; depth++) {
        struct futex_waiter *waiter = thread->futex_waiter;
        if (!waiter || waiter->kind != FUTEX_PI_WAITER || !waiter->bucket)
            return 0;
        tid = waiter->owner;
        if (tid == self)
            return -EDEADLK;
        thread = thread_find(tid);
    }
    return 0;
}

/* One try: 1 when the caller owns the word now, 0 when somebody else does: *out_value is the word,
 * with FUTEX_WAITERS set when `waiter` is given. */
static int take_or_mark(struct futex_word *word, struct futex_waiter *waiter, bool others_wait,
                        uint32_t *out_value)
{
    uint32_t value;
    int error = guest_load32(&value, word->address);

    while (!error) {
        uint32_t wanted, seen = value;
        if (waiter)
            waiter->owner = (int32_t)(value & FUTEX_TID_MASK); /* before the mark: an owner that
                                                                  ends later finds us by it */
        if (!(value & FUTEX_TID_MASK))
            wanted = (value & FUTEX_OWNER_DIED) | (uint32_t)own_tid() |
                     (others_wait ? FUTEX_WAITERS : 0);
        else if (!waiter || (value & FUTEX_WAITERS))
            wanted = value;
        else
            wanted = value | FUTEX_WAITERS;
        if (wanted != value)
            error = guest_compare_exchange32(word->address, &seen, wanted);
        if (error)
            break;
        if (seen == value) {
            *out_value = wanted;
            return !(value & FUTEX_TID_MASK);
        }
        value = seen;
    }
    return error;
}

/* The first PI waiter on `key`; *out_more when there are others. Bucket lock held. */
static struct futex_waiter *first_waiter(struct futex_bucket *bucket, const struct futex_key *key,
                                         bool *out_more)
{
    struct futex_waiter *first = NULL;

    *out_more = false;
    list_for_each(node, &bucket->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (waiter->kind != FUTEX_PI_WAITER || !futex_key_equal(&waiter->key, key))
            continue;
        if (first) {
            *out_more = true;
            break;
        }
        first = waiter;
    }
    return first;
}

/* Who now waits for whom. Bucket lock held. */
static void note_owner(struct futex_bucket *bucket, const struct futex_key *key, int32_t tid)
{
    list_for_each(node, &bucket->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (waiter->kind == FUTEX_PI_WAITER && futex_key_equal(&waiter->key, key))
            waiter->owner = tid;
    }
}

/* Gives the word, which holds *value, to the first waiter or to nobody. 1: the word has changed
 * meanwhile, *value is what it is now. */
static int hand_over(struct futex_word *word, uint32_t *value, uint32_t died)
{
    struct futex_bucket *bucket = futex_bucket(&word->key);
    uint32_t seen = *value, new = died;
    bool more;

    lock_acquire(&bucket->lock);
    struct futex_waiter *next = first_waiter(bucket, &word->key, &more);
    if (next) {
        next->handover = PI_CHOSEN;
        new |= (uint32_t)next->thread->tid | (more ? FUTEX_WAITERS : 0);
    }
    lock_release(&bucket->lock);

    int error = guest_compare_exchange32(word->address, &seen, new);
    bool done = !error && seen == *value;
    if (next) {
        lock_acquire(&bucket->lock);
        next->handover = done ? PI_OWNS : PI_WAITING;
        if (done)
            note_owner(bucket, &word->key, next->thread->tid);
        /* It may be waiting for our verdict, with a signal or its deadline at hand. */
        if (done)
            futex_wake_waiter(next);
        else
            thread_wake(&next->thread->base);
        lock_release(&bucket->lock);
    }
    *value = seen;
    return error ? error : !done;
}

/* Sleeps as a waiter: 0 when the lock was handed over, 1 to look at the word again, -EINTR,
 * -ETIMEDOUT. The waiter stays on its bucket unless it owns the lock. */
static int sleep_for_handover(struct futex_waiter *waiter, uint64_t deadline_ns)
{
    for (;;) {
        uint32_t ticket = thread_ticket();
        uint32_t state = waiter->handover;
        if (state == PI_OWNS)
            return 0;
        int result = state == PI_CHOSEN ? thread_sleep_uninterruptible(ticket, BLY_FOREVER)
                                        : thread_sleep(ticket, deadline_ns);
        if (result) {
            scoped_lock(&waiter->home->lock);
            if (waiter->handover == PI_WAITING)
                return result;
        } else if (waiter->handover == PI_WAITING) {
            return 1;
        }
    }
}

/* Is any other PI waiter on the key? */
static bool others_wait(struct futex_waiter *self)
{
    struct futex_bucket *bucket = self->home;

    scoped_lock(&bucket->lock);
    list_for_each(node, &bucket->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (waiter != self && waiter->kind == FUTEX_PI_WAITER &&
            futex_key_equal(&waiter->key, &self->key))
            return true;
    }
    return false;
}

/* Leaves the bucket for good. If an unlocker has just chosen us, its verdict comes first. True: we
 * own the lock after all. */
static bool give_up(struct futex_waiter *waiter)
{
    for (;;) {
        uint32_t ticket = thread_ticket();
        {
            scoped_lock(&waiter->home->lock);
            if (waiter->handover == PI_OWNS)
                return true;
            if (waiter->handover == PI_WAITING) {
                list_remove(&waiter->node);
                waiter->bucket = NULL;
                return false;
            }
        }
        thread_sleep_uninterruptible(ticket, BLY_FOREVER);
    }
}

/* Joined as a waiter: goes on until the lock is ours or it is time to give up. */
static long acquire(struct futex_word *word, struct futex_waiter *waiter, uint64_t deadline_ns)
{
    uint32_t value;
    int result;

    for (;;) {
        result = take_or_mark(word, waiter, others_wait(waiter), &value);
        if (result < 0)
            break;
        if (result == 1)
            break;
        int32_t owner = (int32_t)(value & FUTEX_TID_MASK);
        result = owner == own_tid() && waiter->handover != PI_WAITING ? 0 : check_owner(owner);
        if (result == -EBUSY) {
            bly->thread_yield();
            continue;
        }
        if (result == -ESRCH) {
            /* It may have handed the lock on as it ended. If the word still says so, the lock is
             * orphaned. */
            uint32_t again;
            if (guest_load32(&again, word->address) == 0 && again != value)
                continue;
        }
        if (result < 0)
            break;
        result = sleep_for_handover(waiter, deadline_ns);
        if (result <= 0)
            break;
    }
    bool owns = give_up(waiter);
    if (owns || result == 1)
        return 0;
    return result;
}

static long become_waiter(struct futex_word *word, uint64_t deadline_ns)
{
    struct futex_waiter *waiter = futex_own_waiter();

    if (!waiter)
        return -ENOMEM;
    waiter->kind = FUTEX_PI_WAITER;
    waiter->address = (uint64_t)word->address;
    futex_table()->pi_waiters++;
    futex_join(waiter, &word->key);
    long result = acquire(word, waiter, deadline_ns);
    waiter->kind = FUTEX_PLAIN;
    futex_table()->pi_waiters--;
    return result;
}

long futex_lock_pi(struct futex_word *word, uint64_t deadline_ns)
{
    uint32_t value;
    int result = take_or_mark(word, NULL, false, &value);

    if (result)
        return result < 0 ? result : 0;
    if ((value & FUTEX_TID_MASK) == (uint32_t)own_tid())
        return -EDEADLK;
    long waited = become_waiter(word, deadline_ns);
    return waited == -EINTR ? -ERESTARTNOINTR : waited;
}

long futex_trylock_pi(struct futex_word *word)
{
    uint32_t value;
    int result = take_or_mark(word, NULL, false, &value);

    if (result)
        return result < 0 ? result : 0;
    int32_t owner = (int32_t)(value & FUTEX_TID_MASK);
    if (owner == own_tid())
        return -EDEADLK;
    result = check_owner(owner);
    return result == -ESRCH ? -ESRCH
                            : -EAGAIN; /* a circle of waiters matters only to those who wait */
}

long futex_unlock_pi(struct futex_word *word)
{
    uint32_t value;
    int error = guest_load32(&value, word->address);

    while (!error) {
        if ((value & FUTEX_TID_MASK) != (uint32_t)own_tid())
            return -EPERM;
        error = hand_over(word, &value, 0);
        if (!error)
            return 0;
        if (error == 1)
            error = 0;
    }
    return error;
}

/* ---- Waiting on a condition and then for its lock
 * --------------------------------------------------------------- */

long futex_wait_requeue_pi(struct futex_word *word, uint32_t expected, uint32_t bitset,
                           uint64_t deadline_ns, struct futex_word *target)
{
    uint32_t value;

    if (futex_key_equal(&word->key, &target->key) || !bitset)
        return -EINVAL;
    struct futex_waiter *waiter = futex_own_waiter();
    if (!waiter)
        return -ENOMEM;
    waiter->kind = FUTEX_FOR_REQUEUE_PI;
    waiter->target = target->key;
    futex_join(waiter, &word->key);
    int error = guest_load32(&value, word->address);
    if (!error && value != expected)
        error = -EAGAIN;
    if (error) {
        bool woken = !futex_leave(waiter);
        if (error == -EFAULT || !woken)
            return error;
    } else {
        int result = futex_sleep(waiter, deadline_ns);
        if (result == -EINTR)
            return -ERESTARTNOINTR;
        if (result)
            return result;
    }
    /* Requeued (or woken by one that requeues): the lock is what remains. */
    long result = futex_lock_pi(target, deadline_ns);
    return result == -ERESTARTNOINTR ? -EAGAIN : result;
}

long futex_requeue_pi(struct futex_word *from, struct futex_word *to, int wake_count,
                      int requeue_count)
{
    struct futex_bucket *bucket = futex_bucket(&from->key);
    int64_t most = (int64_t)wake_count + requeue_count, moved = 0;

    scoped_lock(&bucket->lock);
    list_for_each_safe(node, after, &bucket->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (!futex_key_equal(&waiter->key, &from->key))
            continue;
        if (waiter->kind != FUTEX_FOR_REQUEUE_PI || !futex_key_equal(&waiter->target, &to->key))
            return -EINVAL;
        if (moved >= most)
            break;
        /* Each goes for the lock by itself, in this order. */
        waiter->requeued = 1;
        futex_wake_waiter(waiter);
        moved++;
    }
    return moved;
}

/* ---- The owner's end
 * ------------------------------------------------------------------------------------------- */

/* A PI waiter (of this process: its address is ours) that waits for `thread`. */
static bool find_waiting_for(struct lx_thread *thread, struct futex_word *out_word)
{
    struct futex_table *table = futex_table();

    for (int i = 0; i < FUTEX_BUCKET_COUNT; i++) {
        struct futex_bucket *bucket = &table->buckets[i];
        if (list_empty(&bucket->waiters))
            continue;
        scoped_lock(&bucket->lock);
        list_for_each(node, &bucket->waiters)
        {
            struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
            if (waiter->kind == FUTEX_PI_WAITER && waiter->owner == thread->tid &&
                waiter->handover == PI_WAITING) {
                waiter->owner = 0; /* not found again */
                if (waiter->thread->process->mm == thread->process->mm) {
                    *out_word =
                        (struct futex_word){(uint32_t *)waiter->address, false, waiter->key};
                    return true;
                }
                /* The word is mapped elsewhere there: the waiter looks at it again itself and finds
                 * its owner gone. */
                thread_wake(&waiter->thread->base);
            }
        }
    }
    return false;
}

void futex_pi_thread_exit(struct lx_thread *thread)
{
    struct futex_word word;
    uint32_t value;

    {
        scoped_lock(&lx_kernel->table.lock);
        thread->futex_exited = 1;
    }
    if (!futex_table()->pi_waiters)
        return;
    while (find_waiting_for(thread, &word)) {
        while (guest_load32(&value, word.address) == 0 &&
               (value & FUTEX_TID_MASK) == (uint32_t)thread->tid) {
            int result = hand_over(&word, &value, FUTEX_OWNER_DIED);
            if (result <= 0)
                break;
        }
    }
}
