/* What every personality's thread has: identity on the host, sleeping and waking, interruption. Lives in the kernel
 * heap so that any picoprocess can wake or interrupt it; a personality embeds it as the first member of its own
 * thread object, and bly_thread_block.personality_thread points to it. */
#ifndef LIBOS_THREAD_H
#define LIBOS_THREAD_H

#include <bailey/abi.h>
#include "libos/list.h"
#include "libos/lock.h"

enum thread_state {
    THREAD_IN_GUEST,   /* runs the program: to reach it, interrupt it */
    THREAD_IN_KERNEL,  /* runs the personality: looks for work before it returns to the program */
    THREAD_SLEEPING,   /* in thread_sleep: wake it */
    THREAD_IN_HOST_WAIT, /* waits in an [interruptible] call of the ABI: interrupt it */
    THREAD_PARKED,       /* park.h: until it is let go */
    THREAD_REPLACED,     /* its host thread runs as another thread object for now: told of nothing */
};

/* Of work_pending. */
enum { THREAD_WORK = 1, THREAD_WORK_PARK = 2 };

#define THREAD_MUTEX_MAX 8
#define THREAD_WAKE_MAX 8
struct parked;
struct thread;
struct wait_queue;

/* An entry of a wait queue; see wait.h. */
struct waiter {
    struct list node;            /* in wait_queue.waiters; guarded by the queue's lock */
    struct wait_queue *queue;    /* NULL while on none */
    bool (*wake)(struct waiter *waiter, uint32_t events); /* NULL: thread_wake(thread). Whether it counts as one of `count` */
    struct thread *thread;
    void *owner;                 /* for `wake` functions */
    uint32_t events;             /* interest: woken when it meets the waker's events; 0 means any */
    struct waiter *next_active;  /* of wait_begin: the thread's list, for thread_abandon */
    uint32_t exclusive;          /* at most `count` of these are woken by one wake */
};

struct thread {
    uint32_t process_id, thread_id; /* of the host layer; refreshed after clone and resume */
    _Atomic uint32_t state;         /* enum thread_state */
    _Atomic uint32_t wake_word;     /* sleeps on this; every wake raises it */
    _Atomic uint32_t work_pending;  /* something to look at before returning to the program, or instead of sleeping on:
                                     * a signal, a stop, an exit (THREAD_WORK), or a park point (THREAD_WORK_PARK, which ends no wait). Set by anyone, cleared
                                     * by the owner before it looks. */
    uint32_t lock_depth;            /* heap locks held */
    _Atomic uint32_t asleep;        /* about to wait, or waiting, on the host: a wake must reach the host too */
    uint32_t spin_credit;           /* how well spinning before sleeping has paid lately; see thread.c */
    uint32_t spin_cycles;           /* how long successful spins took, moving average */
    uint32_t sleep_count;           /* times it slept on the host: voluntary context switches */
    /* Of wait_begin. Most waits need one; who wakes the thread then touches one page of its, not two, which a forked child notices. */
    struct waiter first_waiter;     /* its `thread` is NULL while it is not in use */
    struct waiter *spare_waiters;   /* linked by node.next */
    struct waiter *active_waiters;  /* between wait_begin and wait_end; linked by next_active */
    struct mutex *held_mutexes[THREAD_MUTEX_MAX]; /* for thread_abandon */
    /* Words whose sleepers the host must be told about once the last lock is released: who is woken runs at once, often on the
     * waker's own CPU, and would only find the lock held. */
    uint32_t deferred_wake_count;
    uint32_t *deferred_wakes[THREAD_WAKE_MAX];
    uint32_t may_park;     /* it is found by whoever asks for parking */
    uint32_t park_asked;   /* parked: enum park_task; to be done in its picoprocess: park_ask */
    uint32_t park_answer;  /* what came of it; 0: it could not be done */
    struct parked *parked; /* park.h */
};

/* The register that holds the thread block is the personality's choice at compile time (-DLIBOS_SEGMENT=gs or fs). */
static inline struct bly_thread_block *thread_block(void)
{
    struct bly_thread_block *block;
#ifdef LIBOS_SEGMENT_FS
    __asm__("mov %%fs:0, %0" : "=r"(block));
#else
    __asm__("mov %%gs:0, %0" : "=r"(block));
#endif
    return block;
}
static inline struct thread *thread_current(void) { return thread_block()->personality_thread; }

/* Sleeping. Take a ticket, put yourself on a wait queue, test your condition, then sleep: a wake after the ticket was
 * taken makes thread_sleep return at once. Returns -EINTR when work is pending for the thread (before or during the sleep, and
 * even if it was also woken: test the condition before giving up), 0 when woken (perhaps spuriously, as by a suspension: test again), or -ETIMEDOUT. Spins briefly first while another CPU of
 * the sandbox is idle. thread_sleep_uninterruptible never returns -EINTR. */
uint32_t thread_ticket(void);
int thread_sleep(uint32_t ticket, uint64_t deadline_ns);
int thread_sleep_uninterruptible(uint32_t ticket, uint64_t deadline_ns);
/* Called by each thread whose thread_sleep has come to its deadline, before it returns; it may leave work pending for the thread. */
void thread_set_timed_out(void (*function)(uint64_t deadline_ns));
void thread_wake(struct thread *thread);
/* For lock_release: the calls to the host that thread_wake put off. */
void thread_flush_wakes(struct thread *self);

/* Makes `thread` look for work soon, whatever it does: sets work_pending, then wakes or interrupts it. */
void thread_notify(struct thread *thread);

/* Brackets round an [interruptible] call of the ABI that waits. thread_enter_host_wait returns false when work is pending
 * already (then do not wait: -EINTR). */
bool thread_enter_host_wait(void);
/* After such a call returned -EINTR: whether there is work. Else it was only to park, and is to be made again. */
bool thread_has_work(void);
void thread_leave_host_wait(void);

/* Frees what libos keeps for a thread that has ended in an orderly way or never ran; not the object itself. */
void thread_finish(struct thread *thread);
/* For a thread whose picoprocess died by force: takes it off its wait queues and releases the mutexes it held. Returns false when it held a heap lock: what
 * that lock guards may be broken, so the sandbox must end. */
bool thread_abandon(struct thread *thread) __attribute__((warn_unused_result));
/* Waits while *word == expected, however often the thread is interrupted meanwhile (the interrupt is kept for later).
 * May return spuriously. For locks; everything else sleeps by ticket. */
void thread_wait_word(uint32_t *word, uint32_t expected);

#endif
