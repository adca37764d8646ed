/* Parking: how all threads of a sandbox come to rest, and go on, here or in another picoprocess.
 *
 * A thread parks where it would sleep, where it would leave for the program, and where it waits for a mutex: never while it holds a lock of
 * the heap. It copies its kernel stack in use, its block and its vector registers into the kernel heap (struct parked) and waits until
 * `quiesce` is 0. So nothing that it was doing is cut short: no call of a program ever sees that it was suspended. When every thread is
 * parked, the two shared segments and the picoprocesses' private memory are the whole state of the sandbox, and another
 * thread on an area of the same number can go on from the copy (park_resume). */
#ifndef LIBOS_PARK_H
#define LIBOS_PARK_H

#include "libos/thread.h"

struct parked {
    struct bly_thread_block *block; /* where the thread's area lies */
    uint64_t stack_pointer, stack_size;
    uint64_t user_stack, stack_protector, fs_base;
    uint64_t scratch[4], personality_data[44];
    void *vector; /* XSAVE image, aligned to 64; NULL: none */
    unsigned char stack[];
};

/* What the vector registers take; told by the personality before it asks for parking. */
void park_set_vector_layout(uint64_t features, uint32_t size);
/* Asks every thread to park; park_kick makes one look. */
void park_begin(void);
void park_kick(struct thread *thread);
/* A thread could not: there was no memory for its copy. */
bool park_failed(void);
enum park_task {
    PARK_CLONE = 1, /* makes a copy-on-write clone of its picoprocess, which does nothing but keep its memory as it is now, until it is killed; its id */
    PARK_TRACK      /* memory_track's number */
};
/* While all are parked: every thread whose park_asked is set (one of each picoprocess) does that. Returns when `count` of them have, or at the
 * deadline: a picoprocess that the host has killed does not answer. `prepare` is called by each that clones, before and, in the original,
 * after. */
void park_ask(uint32_t count, void (*prepare)(struct thread *thread, bool before), uint64_t deadline_ns);
/* Lets all go on. */
void park_end(void);

/* For the points where a thread may park: returns at once when nobody asks. */
void park_slowly(void);
static inline bool park_is_asked(void);
static inline void park_point(void)
{
    if (__builtin_expect(park_is_asked(), 0))
        park_slowly();
}

/* Between these the caller does not park, whatever it waits for: what it does in several steps must not be seen half done. Who waits for a
 * suspension waits for it, so what it waits for itself must be short. park_forbid returns what park_allow is to be given. */
static inline uint32_t park_forbid(void)
{
    struct thread *thread = thread_current();
    uint32_t before = thread->may_park;
    thread->may_park = 0;
    return before;
}
static inline void park_allow(uint32_t before) { thread_current()->may_park = before; }

/* Goes on as `thread`, parked at the suspension, on its own area; does not return. What is on the caller's stack is lost. */
_Noreturn void park_resume(struct thread *thread);

#include "libos/shared.h"
static inline bool park_is_asked(void) { return __atomic_load_n(&libos_shared()->quiesce, __ATOMIC_RELAXED) != 0; }

#endif
