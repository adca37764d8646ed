/* Signals: what is pending, what is blocked, what is done with it. */
#ifndef LX_SIGNAL_H
#define LX_SIGNAL_H

#include "personality/linux/lx.h"

/* Linux's numbers and layouts, since guest structs are copied whole. (asm/signal.h clashes with nothing here: no libc.) */
#include <asm/signal.h>
#include <asm/siginfo.h>

#define LX_SIGNAL_COUNT 64
typedef uint64_t lx_sigset; /* bit n - 1 for signal n */
#define LX_SIGMASK(n) (1ull << ((n) - 1))

struct lx_sigaction { uint64_t handler, flags, restorer; lx_sigset mask; }; /* the kernel's struct sigaction */
struct queued_signal { struct list node; siginfo_t info; void *timer; /* POSIX timer that owns the entry, else NULL: freed when taken */ };
struct pending_signals { lx_sigset set; struct list queue; };

struct signal_state { /* of a process */
    struct lock lock;   /* guards all pending sets of the process and its threads, and the actions */
    struct pending_signals pending;
    struct lx_sigaction actions[LX_SIGNAL_COUNT];
    uint32_t queued_count;
    uint32_t continue_count; /* SIGCONTs so far: one that comes between taking a stop signal and stopping cancels the stop */
    struct wait_queue signalfd_queue; /* woken when a signal arrives for any thread */
};
struct thread_signals {
    struct pending_signals pending;
    lx_sigset blocked;       /* changed by the owner only, under the process's signal lock */
    lx_sigset saved_blocked; /* to be restored after sigsuspend, ppoll and the like when has_saved */
    uint32_t has_saved;
    lx_sigset waited;        /* blocked signals that sigtimedwait is waiting for: the thread is told of them all the same */
    uint64_t altstack_address, altstack_size;
    uint32_t altstack_flags;
};

/* Which vector registers a signal frame holds; size 0: not asked yet. */
struct vector_layout { uint64_t features; uint32_t size; };

struct lx_process;
struct lx_thread;
/* Sending. `info` NULL: as kill(2) by the caller. Never blocks. Return 0, -EAGAIN (queue full), -EPERM is the caller's matter. */
int signal_send_process(struct lx_process *process, int signal, const siginfo_t *info);
int signal_send_thread(struct lx_thread *thread, int signal, const siginfo_t *info);
int signal_send_group(int32_t group_id, int signal, const siginfo_t *info); /* -ESRCH when empty */
/* A timer's own queue entry (entry->timer is set). 0: queued or lost with its process; -EAGAIN: still queued (an overrun); -EINTR: ignored. */
int signal_send_timer(struct lx_process *process, struct lx_thread *thread, struct queued_signal *entry);
/* A fault of the current thread: delivered even when blocked or ignored (then fatal). */
void signal_force(int signal, const siginfo_t *info);
/* True when the thread has a deliverable signal (or must stop or exit): blocking calls then return -ERESTARTSYS or -EINTR. */
bool signal_pending(void);
/* Whether signal_deliver has anything to do; what comes later sets work_pending. */
bool signal_delivery_due(const struct bly_context *context, bool from_syscall);
/* Before returning to the program: delivers what is pending by changing `context` (a handler's frame is built on the program's stack), stops,
 * or ends the process. `from_syscall`: context is of a system call that returned context->rax, for restarts. Returns true when `context`
 * must be restored in full. */
bool signal_deliver(struct bly_context *context, bool from_syscall);
void signal_flush_exec(struct lx_process *process);
/* The vector registers that programs may use on this processor. */
uint64_t signal_vector_present(void);
/* Those that are kept over signals and suspension, and the size of their XSAVE image. */
struct vector_layout signal_vector_layout(void);
/* AT_MINSIGSTKSZ: what a handler's frame takes on the stack at most. */
uint64_t signal_frame_size(void);
/* Sets the vector registers, still the program's own while the personality runs, to what a program finds at its start. */
void signal_reset_vector_registers(void);
void signal_state_init(struct signal_state *state);
/* signalfd, sigtimedwait: takes the next signal out of `set` that is pending for the calling thread, whether blocked or not. 0: none. */
int signal_take(lx_sigset set, siginfo_t *out_info);
/* Signals of `set` that are pending for the calling thread or its process. */
lx_sigset signal_pending_set(void);
/* Fills `info` as kill(2) by the calling process (`code` SI_USER or SI_TKILL). */
void signal_info_user(siginfo_t *info, int signal, int code);
/* Sets the mask for the duration of a call (ppoll, sigsuspend); restored by signal_deliver or signal_restore_mask. */
void signal_set_temporary_mask(lx_sigset mask);
void signal_restore_mask(void);

#endif
