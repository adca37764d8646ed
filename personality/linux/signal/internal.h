/* What the files of signal/ share. All functions here want the process's signals.lock held unless they say otherwise. */
#ifndef LX_SIGNAL_INTERNAL_H
#define LX_SIGNAL_INTERNAL_H

#include "personality/linux/process/process.h"
#include "personality/linux/signal/signal.h"

#define SIGNALS_STOP (LX_SIGMASK(SIGSTOP) | LX_SIGMASK(SIGTSTP) | LX_SIGMASK(SIGTTIN) | LX_SIGMASK(SIGTTOU))
#define SIGNALS_IGNORED (LX_SIGMASK(SIGCONT) | LX_SIGMASK(SIGCHLD) | LX_SIGMASK(SIGWINCH) | LX_SIGMASK(SIGURG))
#define SIGNALS_UNBLOCKABLE (LX_SIGMASK(SIGKILL) | LX_SIGMASK(SIGSTOP))
/* Caused by the thread's own instructions; taken before all others. */
#define SIGNALS_SYNCHRONOUS \
    (LX_SIGMASK(SIGSEGV) | LX_SIGMASK(SIGBUS) | LX_SIGMASK(SIGILL) | LX_SIGMASK(SIGTRAP) | LX_SIGMASK(SIGFPE) | LX_SIGMASK(SIGSYS))

static inline bool signal_valid(int signal) { return signal >= 1 && signal <= LX_SIGNAL_COUNT; }

/* The action means that nothing happens. */
bool signal_action_ignores(const struct lx_sigaction *action, int signal);
/* Takes the lowest signal of `set` (synchronous ones first) out of `pending`. 0: none. */
int signal_dequeue(struct signal_state *state, struct pending_signals *pending, lx_sigset set, siginfo_t *out_info);
/* Throws away what is pending of `set`. */
void signal_discard(struct signal_state *state, struct pending_signals *pending, lx_sigset set);
/* The calling thread's set of deliverable signals. */
lx_sigset signal_deliverable(struct lx_thread *thread);
/* Changes the calling thread's mask (takes the lock itself) and hands signals that it no longer takes to other threads. */
void signal_set_blocked(lx_sigset blocked);
/* Something to do for `thread` before it may sleep or go back to the program. */
bool signal_has_work(struct lx_thread *thread);
/* Makes the calling thread look again before it sleeps or returns; takes the lock itself. */
void signal_recalculate(void);

/* stop.c: no lock held. Job-control stop by `signal`, unless a SIGCONT has come since continue_count was read. */
void signal_stop_process(int signal, uint32_t continue_count);
/* Parks the calling thread while its process is stopped. */
void signal_park_while_stopped(void);
/* Table lock and signal lock held: the process goes on (SIGCONT). */
void signal_continue_process(struct lx_process *process);

/* frame.c: builds the frame of a handler on the program's stack and points `context` at the handler; -EFAULT when there is no room. No lock. */
bool signal_on_altstack(const struct lx_thread *thread, uint64_t stack_pointer);
int signal_set_altstack(struct lx_thread *thread, const stack_t *stack, uint64_t stack_pointer, size_t minimum);
int signal_build_frame(struct bly_context *context, int signal, const struct lx_sigaction *action, const siginfo_t *info, lx_sigset old_mask);
/* process/posix_timers.c: a timer's signal was taken: fills si_overrun. */
void posix_timer_signal_taken(void *timer, siginfo_t *info);

#endif
