/* Locks of the shared heap. They work across the picoprocesses of a sandbox and sleep on the ABI's wait_address.
 *
 * Lock order stands in libos/lock-order.md. Guest memory is never touched, no monitor call is made and no thread sleeps (but on another
 * lock further down the order) while one is held. Each thread counts the locks it holds (struct thread.lock_depth): a
 * picoprocess that dies by force while the count is not 0 ends the sandbox. */
#ifndef LIBOS_LOCK_H
#define LIBOS_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct lock { uint32_t word; uint32_t owner; /* sandbox-wide id of the owning thread, for assertions */ };
#define LOCK_INIT { 0, 0 }

void lock_acquire(struct lock *lock);
bool lock_try(struct lock *lock);
void lock_release(struct lock *lock);
bool lock_held(const struct lock *lock); /* by the calling thread */

/* A lock that may be held while sleeping, doing monitor calls or touching guest memory (mm of a process, an inode's contents
 * during copy-up). Not counted in lock_depth as the heap's locks are;
 * when its owner dies by force, process teardown releases it (thread_abandon). Zero bytes are a free mutex. */
struct mutex { uint32_t word; uint32_t owner; };
void mutex_init(struct mutex *mutex);
void mutex_acquire(struct mutex *mutex);
bool mutex_try(struct mutex *mutex);
void mutex_release(struct mutex *mutex);
bool mutex_held(const struct mutex *mutex);
void mutex_break(struct mutex *mutex); /* releases it for an owner that is no more */

/* Releases at the end of the scope. */
static inline void lock_cleanup(struct lock **lock) { if (*lock) lock_release(*lock); }
static inline void mutex_cleanup(struct mutex **mutex) { if (*mutex) mutex_release(*mutex); }
#define SCOPED_CONCAT_(a, b) a##b
#define SCOPED_NAME_(a, b) SCOPED_CONCAT_(a, b)
#define scoped_lock(l) \
    struct lock *SCOPED_NAME_(scope_, __LINE__) __attribute__((cleanup(lock_cleanup), unused)) = (l); \
    lock_acquire(SCOPED_NAME_(scope_, __LINE__))
#define scoped_mutex(m) \
    struct mutex *SCOPED_NAME_(scope_, __LINE__) __attribute__((cleanup(mutex_cleanup), unused)) = (m); \
    mutex_acquire(SCOPED_NAME_(scope_, __LINE__))

#endif
