/* Locks and mutexes of the shared heap.
 *
 * One word: 0 free, 1 held, 2 held and somebody may sleep. Invariant: only a taker that found the
 * word free by compare-and-swap writes 1; one that has slept, or is about to, always exchanges 2
 * in. A spinning taker therefore never overwrites "somebody may sleep" with "held", which would
 * lose a wake-up (a prototype hung on exactly that). */
#include "libos/lock.h"

#include "libos/abi.h"
#include "libos/park.h"
#include "libos/shared.h"
#include "libos/text.h"
#include "libos/thread.h"

enum { FREE, HELD, CONTENDED, SPIN_ROUNDS = 200 };

static bool word_try(uint32_t *word)
{
    uint32_t expected = FREE;

    return __atomic_compare_exchange_n(word, &expected, HELD, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* `parks`: the owner may be parked, so who waits for it must be able to. */
static __attribute__((noinline)) void word_acquire_slowly(uint32_t *word, bool parks)
{
    if (libos_shared()->cpu_count > 1) {
        for (int round = 0; round < SPIN_ROUNDS; round++) {
            if (__atomic_load_n(word, __ATOMIC_RELAXED) == FREE && word_try(word))
                return;
            __builtin_ia32_pause();
        }
    }
    while (__atomic_exchange_n(word, CONTENDED, __ATOMIC_ACQUIRE) != FREE) {
        if (parks)
            park_point();
        thread_wait_word(word, CONTENDED);
    }
}

static void word_release(uint32_t *word)
{
    if (__atomic_exchange_n(word, FREE, __ATOMIC_RELEASE) == CONTENDED)
        bly->wake_address(word, 1);
}

void lock_acquire(struct lock *lock)
{
    struct bly_thread_block *block = thread_block();
    struct thread *thread = block->personality_thread;

    /* Counted before it is taken: whoever dies in between is thought to hold it, never the other
     * way round. */
    if (thread)
        thread->lock_depth++;
    if (!word_try(&lock->word)) {
        assert(lock->owner != block->thread_id || !block->thread_id);
        word_acquire_slowly(&lock->word, /*parks=*/false);
    }
    lock->owner = block->thread_id;
}

bool lock_try(struct lock *lock)
{
    struct bly_thread_block *block = thread_block();
    struct thread *thread = block->personality_thread;

    if (!word_try(&lock->word))
        return false;
    if (thread)
        thread->lock_depth++;
    lock->owner = block->thread_id;
    return true;
}

void lock_release(struct lock *lock)
{
    struct thread *thread = thread_current();

    lock->owner = 0;
    word_release(&lock->word);
    if (thread && thread->lock_depth > 0 && --thread->lock_depth == 0 &&
        thread->deferred_wake_count)
        thread_flush_wakes(thread);
}

bool lock_held(const struct lock *lock)
{
    return __atomic_load_n(&lock->word, __ATOMIC_RELAXED) != FREE &&
           lock->owner == thread_block()->thread_id;
}

void mutex_init(struct mutex *mutex)
{
    *mutex = (struct mutex){0};
}

static void mutex_note_owner(struct mutex *mutex, struct bly_thread_block *block)
{
    struct thread *thread = block->personality_thread;

    mutex->owner = block->thread_id;
    if (!thread)
        return;
    for (int i = 0; i < THREAD_MUTEX_MAX; i++) {
        if (!thread->held_mutexes[i]) {
            thread->held_mutexes[i] = mutex;
            return;
        }
    }
    panic("a thread holds more than %d mutexes", THREAD_MUTEX_MAX);
}

void mutex_acquire(struct mutex *mutex)
{
    struct bly_thread_block *block = thread_block();

    if (!word_try(&mutex->word)) {
        assert(mutex->owner != block->thread_id || !block->thread_id);
        word_acquire_slowly(&mutex->word, /*parks=*/true);
    }
    mutex_note_owner(mutex, block);
}

bool mutex_try(struct mutex *mutex)
{
    if (!word_try(&mutex->word))
        return false;
    mutex_note_owner(mutex, thread_block());
    return true;
}

void mutex_release(struct mutex *mutex)
{
    struct thread *thread = thread_current();

    for (int i = 0; thread && i < THREAD_MUTEX_MAX; i++) {
        if (thread->held_mutexes[i] == mutex) {
            thread->held_mutexes[i] = NULL;
            break;
        }
    }
    mutex->owner = 0;
    word_release(&mutex->word);
}

bool mutex_held(const struct mutex *mutex)
{
    return __atomic_load_n(&mutex->word, __ATOMIC_RELAXED) != FREE &&
           mutex->owner == thread_block()->thread_id;
}

void mutex_break(struct mutex *mutex)
{
    mutex->owner = 0;
    word_release(&mutex->word);
}
