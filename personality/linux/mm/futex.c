/* futex(2), futex_waitv(2): waiting, waking and moving waiters. Priority-inheriting ones are in
 * futex_pi.c.
 *
 * Keys: private memory is known by (mm, address), shared memory by (object, offset), so that words
 * shared between processes meet wherever they are mapped. */
#include "personality/linux/mm/futex.h"

#include <linux/time_types.h>

#include "personality/linux/mm/internal.h"

int lx_futex_init(void)
{
    struct futex_table *table = heap_alloc(sizeof *table);

    if (!table)
        return -ENOMEM;
    for (int i = 0; i < FUTEX_BUCKET_COUNT; i++)
        list_init(&table->buckets[i].waiters);
    lx_kernel->futexes = table;
    return 0;
}

/* ---- Keys
 * -----------------------------------------------------------------------------------------------------
 */

int mm_futex_key(uint64_t address, bool shared, struct futex_key *out_key)
{
    struct mm *mm = lx_process()->mm;

    *out_key = (struct futex_key){(uint64_t)mm, address};
    if (!shared)
        return 0;
    scoped_mutex(&mm->mutex);
    struct region *region = mm_find(mm, address);
    if (!region || !(region->protection & BLY_PROT_READ))
        return -EFAULT;
    /* Objects are told from address spaces by the lowest bit: heap objects are aligned, words are
     * too. */
    if (region->object && (region->flags & REGION_SHARED)) {
        out_key->object =
            (region->object->inode ? (uint64_t)region->object->inode : region->object->id << 4) | 1;
        out_key->offset = region->offset + (address - region->start);
    }
    return 0;
}

int futex_word(uint32_t *address, bool shared, struct futex_word *out_word)
{
    if ((uint64_t)address % sizeof(uint32_t))
        return -EINVAL;
    if (!guest_range_valid(address, sizeof *address))
        return -EFAULT;
    out_word->address = address;
    out_word->shared = shared;
    return mm_futex_key((uint64_t)address, shared, &out_word->key);
}

struct futex_bucket *futex_bucket(const struct futex_key *key)
{
    uint64_t hash = (key->object ^ key->offset >> 2) * 0x9e3779b97f4a7c15ull;

    return &futex_table()->buckets[hash >> 56];
}

/* ---- Waiters
 * --------------------------------------------------------------------------------------------------
 */

struct futex_waiter *futex_own_waiter(void)
{
    struct lx_thread *thread = lx_current();
    struct futex_waiter *waiter = thread->futex_waiter;

    if (!waiter)
        waiter = thread->futex_waiter = heap_alloc(sizeof *waiter);
    if (waiter) {
        memset(waiter, 0, sizeof *waiter);
        waiter->thread = thread;
        waiter->bitset = FUTEX_BITSET_MATCH_ANY;
    }
    return waiter;
}

void futex_join(struct futex_waiter *waiter, const struct futex_key *key)
{
    struct futex_bucket *bucket = futex_bucket(key);

    waiter->key = *key;
    waiter->home = bucket;
    lock_acquire(&bucket->lock);
    list_push(&bucket->waiters, &waiter->node);
    waiter->bucket = bucket;
    lock_release(&bucket->lock);
}

bool futex_leave(struct futex_waiter *waiter)
{
    for (;;) {
        struct futex_bucket *bucket = waiter->home; /* changes when the waiter is requeued */
        lock_acquire(&bucket->lock);
        if (waiter->home != bucket) {
            lock_release(&bucket->lock);
            continue;
        }
        bool was_on = waiter->bucket != NULL;
        if (was_on) {
            list_remove(&waiter->node);
            waiter->bucket = NULL;
        }
        lock_release(&bucket->lock);
        return was_on;
    }
}

void futex_wake_waiter(struct futex_waiter *waiter)
{
    list_remove(&waiter->node);
    waiter->bucket = NULL;
    thread_wake(&waiter->thread->base);
}

void futex_lock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    lock_acquire(a < b ? &a->lock : &b->lock);
    if (a != b)
        lock_acquire(a < b ? &b->lock : &a->lock);
}

void futex_unlock_two(struct futex_bucket *a, struct futex_bucket *b)
{
    lock_release(&a->lock);
    if (a != b)
        lock_release(&b->lock);
}

int futex_sleep(struct futex_waiter *waiter, uint64_t deadline_ns)
{
    int result = 0;

    for (;;) {
        uint32_t ticket = thread_ticket();
        if (!waiter->bucket)
            break;
        result = thread_sleep(ticket, deadline_ns);
        if (result)
            break;
    }
    /* A wake that came first wins over signal and deadline: it must not be lost. */
    return futex_leave(waiter) ? result : 0;
}

/* ---- Times
 * ----------------------------------------------------------------------------------------------------
 */

int futex_deadline(const void *guest_timespec, enum futex_clock clock, uint64_t *out_deadline_ns)
{
    struct __kernel_timespec time;
    uint64_t now = clock == FUTEX_ABSOLUTE_REALTIME ? lx_realtime_ns() : 0;

    *out_deadline_ns = BLY_FOREVER;
    if (!guest_timespec)
        return 0;
    if (guest_read(&time, guest_timespec, sizeof time) < 0)
        return -EFAULT;
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1000000000)
        return -EINVAL;
    if (time.tv_sec >= INT64_MAX / 1000000000)
        return 0; /* ktime saturates: for ever */
    uint64_t ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    switch (clock) {
    case FUTEX_RELATIVE:
        ns += lx_monotonic_ns();
        break;
    case FUTEX_ABSOLUTE_REALTIME:
        ns = ns > now ? ns - now + lx_monotonic_ns() : 1;
        break;
    case FUTEX_ABSOLUTE_MONOTONIC:
        break;
    }
    *out_deadline_ns =
        ns ? ns : 1; /* 0 means "do not wait" to the sleeper: here it is merely past */
    return 0;
}

/* ---- Waiting
 * --------------------------------------------------------------------------------------------------
 */

/* 0: woken; -EAGAIN: the word differs; -EINTR, -ETIMEDOUT, -EFAULT. */
static int wait_once(struct futex_word *word, uint32_t expected, uint32_t bitset,
                     uint64_t deadline_ns)
{
    uint32_t value;
    struct futex_waiter *waiter = futex_own_waiter();

    if (!waiter)
        return -ENOMEM;
    int error = guest_load32(&value, word->address);
    if (error)
        return error;
    if (value != expected)
        return -EAGAIN;
    waiter->bitset = bitset;
    futex_join(waiter, &word->key);
    error = guest_load32(&value, word->address);
    if (error || value != expected) {
        bool woken = !futex_leave(waiter);
        return error ? error : woken ? 0 : -EAGAIN;
    }
    return futex_sleep(waiter, deadline_ns);
}

static long wait(struct futex_word *word, uint32_t expected, uint32_t bitset, uint64_t deadline_ns);

static long continue_wait(struct lx_thread *thread)
{
    struct futex_word word;
    int error =
        futex_word((uint32_t *)thread->restart.argument[0], thread->restart.argument[1], &word);

    return error ? error
                 : wait(&word, (uint32_t)thread->restart.argument[2],
                        (uint32_t)thread->restart.argument[3], thread->restart.argument[4]);
}

static long wait(struct futex_word *word, uint32_t expected, uint32_t bitset, uint64_t deadline_ns)
{
    if (!bitset)
        return -EINVAL;
    int result = wait_once(word, expected, bitset, deadline_ns);
    if (result != -EINTR)
        return result;
    if (deadline_ns == BLY_FOREVER)
        return -ERESTARTSYS;
    struct lx_thread *thread = lx_current();
    thread->restart.function = continue_wait;
    thread->restart.argument[0] = (uint64_t)word->address;
    thread->restart.argument[1] = word->shared;
    thread->restart.argument[2] = expected;
    thread->restart.argument[3] = bitset;
    thread->restart.argument[4] = deadline_ns;
    return -ERESTART_RESTARTBLOCK;
}

/* ---- Waking
 * ---------------------------------------------------------------------------------------------------
 */

/* Wakes at most `count` waiters on `key` that share a bit with `bitset`; the bucket's lock is held.
 * -EINVAL when one is a PI waiter. */
static int wake_in_bucket(struct futex_bucket *bucket, const struct futex_key *key, int count,
                          uint32_t bitset)
{
    int woken = 0;

    list_for_each_safe(node, after, &bucket->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (!futex_key_equal(&waiter->key, key))
            continue;
        if (waiter->kind != FUTEX_PLAIN)
            return -EINVAL;
        if (!(waiter->bitset & bitset))
            continue;
        futex_wake_waiter(waiter);
        if (++woken >= count)
            break;
    }
    return woken;
}

static long wake(const struct futex_key *key, int count, uint32_t bitset)
{
    struct futex_bucket *bucket = futex_bucket(key);

    if (!bitset)
        return -EINVAL;
    /* Pairs with the lock that a waiter takes between joining and looking at the word. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (list_empty(&bucket->waiters))
        return 0;
    lock_acquire(&bucket->lock);
    int woken = wake_in_bucket(bucket, key, count, bitset);
    lock_release(&bucket->lock);
    return woken;
}

int futex_wake_address(uint64_t address, int count)
{
    struct futex_word word;
    int error = futex_word((uint32_t *)address, true, &word);

    return error ? error : (int)wake(&word.key, count, FUTEX_BITSET_MATCH_ANY);
}

static long requeue(struct futex_word *from, struct futex_word *to, int wake_count,
                    int requeue_count)
{
    struct futex_bucket *source = futex_bucket(&from->key), *target = futex_bucket(&to->key);
    int touched = 0;
    long result = 0;

    if (wake_count < 0 || requeue_count < 0)
        return -EINVAL;
    futex_lock_two(source, target);
    list_for_each_safe(node, after, &source->waiters)
    {
        struct futex_waiter *waiter = container_of(node, struct futex_waiter, node);
        if (touched - wake_count >= requeue_count)
            break;
        if (!futex_key_equal(&waiter->key, &from->key))
            continue;
        if (waiter->kind != FUTEX_PLAIN) {
            result = -EINVAL;
            break;
        }
        if (++touched <= wake_count) {
            futex_wake_waiter(waiter);
            continue;
        }
        waiter->key = to->key;
        if (source != target) {
            list_remove(&waiter->node);
            list_push(&target->waiters, &waiter->node);
            waiter->home = target;
            waiter->bucket = target;
        }
    }
    futex_unlock_two(source, target);
    return result ? result : touched;
}

/* FUTEX_WAKE_OP's operation on the second word: the old value, or -EFAULT, -ENOSYS. */
static int operate(uint32_t *address, uint32_t encoded, int32_t *out_old)
{
    unsigned operation = encoded >> 28 & 7;
    int32_t argument = (int32_t)(encoded << 8) >> 20;
    uint32_t old;

    if (encoded >> 28 & FUTEX_OP_OPARG_SHIFT)
        argument = (int32_t)(1u << (argument & 31));
    int error = guest_load32(&old, address);
    while (!error) {
        uint32_t new, seen = old;
        switch (operation) {
        case FUTEX_OP_SET:
            new = (uint32_t)argument;
            break;
        case FUTEX_OP_ADD:
            new = old + (uint32_t)argument;
            break;
        case FUTEX_OP_OR:
            new = old | (uint32_t)argument;
            break;
        case FUTEX_OP_ANDN:
            new = old & ~(uint32_t)argument;
            break;
        case FUTEX_OP_XOR:
            new = old ^ (uint32_t)argument;
            break;
        default:
            return -ENOSYS;
        }
        error = guest_compare_exchange32(address, &seen, new);
        if (!error && seen == old)
            break;
        old = seen;
    }
    *out_old = (int32_t)old;
    return error;
}

static int comparison_holds(int32_t old, uint32_t encoded)
{
    int32_t argument = (int32_t)(encoded << 20) >> 20;

    switch (encoded >> 24 & 15) {
    case FUTEX_OP_CMP_EQ:
        return old == argument;
    case FUTEX_OP_CMP_NE:
        return old != argument;
    case FUTEX_OP_CMP_LT:
        return old < argument;
    case FUTEX_OP_CMP_GE:
        return old >= argument;
    case FUTEX_OP_CMP_LE:
        return old <= argument;
    case FUTEX_OP_CMP_GT:
        return old > argument;
    default:
        return -ENOSYS;
    }
}

static long wake_op(struct futex_word *first, struct futex_word *second, int first_count,
                    int second_count, uint32_t encoded)
{
    int32_t old;
    int error = operate(second->address, encoded, &old);

    if (error)
        return error;
    int holds = comparison_holds(old, encoded);
    if (holds < 0)
        return holds;
    long woken = wake(&first->key, first_count, FUTEX_BITSET_MATCH_ANY);
    if (woken < 0 || !holds)
        return woken;
    long more = wake(&second->key, second_count, FUTEX_BITSET_MATCH_ANY);
    return more < 0 ? more : woken + more;
}

/* ---- futex(2)
 * -------------------------------------------------------------------------------------------------
 */

static int check_value(struct futex_word *word, uint32_t expected)
{
    uint32_t value;
    int error = guest_load32(&value, word->address);

    return error ? error : value == expected ? 0 : -EAGAIN;
}

/* What an operation takes besides the first word. */
enum { TAKES_TIME = 1, TAKES_SECOND = 2, ABSOLUTE = 4, REALTIME_ALWAYS = 8, REALTIME_CHOICE = 16 };
static const uint8_t operations[] = {
    [FUTEX_WAIT] = TAKES_TIME,
    [FUTEX_WAKE] = 0,
    [FUTEX_REQUEUE] = TAKES_SECOND,
    [FUTEX_CMP_REQUEUE] = TAKES_SECOND,
    [FUTEX_WAKE_OP] = TAKES_SECOND,
    [FUTEX_LOCK_PI] = TAKES_TIME | ABSOLUTE | REALTIME_ALWAYS,
    [FUTEX_UNLOCK_PI] = 0,
    [FUTEX_TRYLOCK_PI] = 0,
    [FUTEX_WAIT_BITSET] = TAKES_TIME | ABSOLUTE | REALTIME_CHOICE,
    [FUTEX_WAKE_BITSET] = 0,
    [FUTEX_WAIT_REQUEUE_PI] = TAKES_TIME | TAKES_SECOND | ABSOLUTE | REALTIME_CHOICE,
    [FUTEX_CMP_REQUEUE_PI] = TAKES_SECOND,
    [13 /* FUTEX_LOCK_PI2 */] = TAKES_TIME | ABSOLUTE | REALTIME_CHOICE,
};

LX_SYSCALL(futex, uint32_t *address, int operation, uint32_t value, uint64_t fourth,
           uint32_t *address2, uint32_t value3)
{
    unsigned command = (unsigned)operation & (unsigned)FUTEX_CMD_MASK;
    bool shared = !(operation & FUTEX_PRIVATE_FLAG), realtime = operation & FUTEX_CLOCK_REALTIME;
    struct futex_word word, second = {0};
    uint64_t deadline = BLY_FOREVER;

    if (command >= sizeof operations || command == FUTEX_FD)
        return -ENOSYS;
    uint8_t takes = operations[command];
    if (realtime && !(takes & REALTIME_CHOICE))
        return -ENOSYS;
    if (takes & TAKES_TIME) {
        int error =
            futex_deadline((void *)fourth,
                           !(takes & ABSOLUTE)                     ? FUTEX_RELATIVE
                           : realtime || (takes & REALTIME_ALWAYS) ? FUTEX_ABSOLUTE_REALTIME
                                                                   : FUTEX_ABSOLUTE_MONOTONIC,
                           &deadline);
        if (error)
            return error;
    }
    int error = futex_word(address, shared, &word);
    if (!error && (takes & TAKES_SECOND))
        error = futex_word(address2, shared, &second);
    if (error)
        return error;

    switch (command) {
    case FUTEX_WAIT:
        return wait(&word, value, FUTEX_BITSET_MATCH_ANY, deadline);
    case FUTEX_WAIT_BITSET:
        return wait(&word, value, value3, deadline);
    case FUTEX_WAKE:
        return wake(&word.key, (int)value, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAKE_BITSET:
        return wake(&word.key, (int)value, value3);
    case FUTEX_CMP_REQUEUE:
        if ((int)value >= 0 && (int)fourth >= 0 && (error = check_value(&word, value3)))
            return error;
        /* fall through */
    case FUTEX_REQUEUE:
        return requeue(&word, &second, (int)value, (int)fourth);
    case FUTEX_WAKE_OP:
        return wake_op(&word, &second, (int)value, (int)fourth, value3);
    case FUTEX_LOCK_PI:
    case 13 /* FUTEX_LOCK_PI2 */:
        return futex_lock_pi(&word, deadline);
    case FUTEX_TRYLOCK_PI:
        return futex_trylock_pi(&word);
    case FUTEX_UNLOCK_PI:
        return futex_unlock_pi(&word);
    case FUTEX_WAIT_REQUEUE_PI:
        return futex_wait_requeue_pi(&word, value, FUTEX_BITSET_MATCH_ANY, deadline, &second);
    case FUTEX_CMP_REQUEUE_PI:
        if ((int)value != 1 || (int)fourth < 0 || futex_key_equal(&word.key, &second.key))
            return -EINVAL;
        if ((error = check_value(&word, value3)))
            return error;
        return futex_requeue_pi(&word, &second, (int)value, (int)fourth);
    }
    return -ENOSYS;
}

/* ---- futex_waitv(2)
 * -------------------------------------------------------------------------------------------- */

/* Leaves all buckets; the index of the first waiter that was woken, or -1. */
static long leave_all(struct futex_waiter *waiters, uint32_t count)
{
    long woken = -1;

    for (uint32_t i = 0; i < count; i++)
        if (!futex_leave(&waiters[i]) && woken < 0)
            woken = i;
    return woken;
}

static long wait_any(const struct futex_waitv *wanted, struct futex_waiter *waiters, uint32_t count,
                     uint64_t deadline_ns)
{
    struct futex_word word;
    uint32_t joined = 0, value;
    int error = 0;

    for (; joined < count && !error; joined += !error) {
        error = futex_word((uint32_t *)wanted[joined].uaddr,
                           !(wanted[joined].flags & FUTEX_PRIVATE_FLAG), &word);
        if (!error) {
            waiters[joined].thread = lx_current();
            waiters[joined].bitset = FUTEX_BITSET_MATCH_ANY;
            futex_join(&waiters[joined], &word.key);
        }
    }
    for (uint32_t i = 0; i < joined && !error; i++) {
        error = guest_load32(&value, (uint32_t *)wanted[i].uaddr);
        if (!error && value != (uint32_t)wanted[i].val)
            error = -EAGAIN;
    }
    while (!error) {
        uint32_t ticket = thread_ticket(), i = 0;
        while (i < count && waiters[i].bucket)
            i++;
        if (i < count)
            break;
        error = thread_sleep(ticket, deadline_ns);
    }
    long woken = leave_all(waiters, joined);
    if (woken >= 0 && error != -EFAULT && error != -EINVAL)
        return woken;
    return error == -EINTR ? -ERESTARTSYS : error;
}

LX_SYSCALL(futex_waitv, const struct futex_waitv *guest_waiters, unsigned count, unsigned flags,
           const void *timeout, int clock)
{
    uint64_t deadline = BLY_FOREVER;

    if (flags || !count || count > FUTEX_WAITV_MAX || !guest_waiters)
        return -EINVAL;
    if (timeout) {
        if (clock != 0 /* CLOCK_REALTIME */ && clock != 1 /* CLOCK_MONOTONIC */)
            return -EINVAL;
        int error = futex_deadline(
            timeout, clock == 0 ? FUTEX_ABSOLUTE_REALTIME : FUTEX_ABSOLUTE_MONOTONIC, &deadline);
        if (error)
            return error;
    }
    struct futex_waitv *wanted = heap_alloc(count * sizeof *wanted);
    struct futex_waiter *waiters = heap_alloc(count * sizeof *waiters);
    struct futex_waiter *own = futex_own_waiter();
    long result = wanted && waiters && own
                      ? guest_read(wanted, guest_waiters, count * sizeof *wanted)
                      : -ENOMEM;
    for (unsigned i = 0; i < count && !result; i++)
        if ((wanted[i].flags & ~(uint32_t)(FUTEX_32 | FUTEX_PRIVATE_FLAG)) ||
            !(wanted[i].flags & FUTEX_32) || wanted[i].__reserved)
            result = -EINVAL;
    if (!result) {
        own->vector = waiters;
        own->vector_count = count;
        result = wait_any(wanted, waiters, count, deadline);
        own->vector_count = 0;
        own->vector = NULL;
    }
    heap_free(wanted);
    heap_free(waiters);
    return result;
}
