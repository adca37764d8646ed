/* Delivery: what a thread does about signals before it goes back to the program.
 *
 * The thread clears work_pending, then looks: a sender changes the sets first and sets work_pending afterwards, so whatever is not
 * seen here is seen the next time round, and nothing is lost. Restarting an interrupted call is decided here too:
 * by rewriting the registers so that the program executes the call again, as Linux does. */
#include "personality/linux/signal/internal.h"

#include <asm/unistd.h>

static void restart_at_call(struct bly_context *context, uint64_t number)
{
    context->rax = number;
    context->rip -= 2; /* the address is the program's own (dispatch.c), so this is its `syscall` instruction */
}

/* signal(7), "Interruption of system calls". `handler_flags` NULL: no handler runs. */
static void settle_restart(struct lx_thread *thread, struct bly_context *context, const uint64_t *handler_flags)
{
    int64_t result = (int64_t)context->rax;
    if (thread->syscall_number == ~0u)
        return;
    switch (result) {
    case -ERESTARTSYS:
        if (handler_flags && !(*handler_flags & SA_RESTART))
            context->rax = (uint64_t)-EINTR;
        else
            restart_at_call(context, thread->syscall_number);
        break;
    case -ERESTARTNOINTR:
        restart_at_call(context, thread->syscall_number);
        break;
    case -ERESTARTNOHAND:
        if (handler_flags)
            context->rax = (uint64_t)-EINTR;
        else
            restart_at_call(context, thread->syscall_number);
        break;
    case -ERESTART_RESTARTBLOCK:
        if (handler_flags)
            context->rax = (uint64_t)-EINTR;
        else
            restart_at_call(context, __NR_restart_syscall);
        break;
    default:
        break;
    }
}

/* The next signal to act on, with a copy of its action. 0: none. Parks and ends in here. */
static int next_signal(struct lx_thread *thread, siginfo_t *info, struct lx_sigaction *action, uint32_t *out_continue_count)
{
    struct lx_process *process = thread->process;
    struct signal_state *state = &process->signals;
    for (;;) {
        thread->base.work_pending = 0;
        lock_acquire(&state->lock);
        if (process->group_exit || (process->exec_thread && process->exec_thread != thread)) {
            int status = process->group_exit ? process->wait_status : 0;
            lock_release(&state->lock);
            thread_end(status);
        }
        if (process->state == PROCESS_STOPPED) {
            lock_release(&state->lock);
            signal_park_while_stopped();
            continue;
        }
        lx_sigset allowed = ~thread->signals.blocked;
        int signal = signal_dequeue(state, &thread->signals.pending, allowed, info);
        if (!signal)
            signal = signal_dequeue(state, &state->pending, allowed, info);
        if (signal) {
            struct lx_sigaction *current = &state->actions[signal - 1];
            *action = *current;
            if ((current->flags & SA_RESETHAND) && current->handler != (uint64_t)SIG_IGN)
                current->handler = (uint64_t)SIG_DFL;
        }
        *out_continue_count = state->continue_count;
        lock_release(&state->lock);
        return signal;
    }
}

/* What happens where no handler is set. Returns when the program goes on. */
static void default_action(int signal, uint32_t continue_count)
{
    if (SIGNALS_IGNORED & LX_SIGMASK(signal))
        return;
    if (SIGNALS_STOP & LX_SIGMASK(signal))
        signal_stop_process(signal, continue_count);
    else
        process_end(signal);
}

static void enter_handler(struct lx_thread *thread, struct bly_context *context, int signal, const struct lx_sigaction *action, const siginfo_t *info)
{
    lx_sigset old_mask = thread->signals.has_saved ? thread->signals.saved_blocked : thread->signals.blocked;
    lx_sigset blocked = thread->signals.blocked | action->mask;
    if (!(action->flags & SA_NODEFER))
        blocked |= LX_SIGMASK(signal);
    if (signal_build_frame(context, signal, action, info, old_mask) < 0) {
        /* No room for the frame: SIGSEGV; fatal when that is what was being delivered (force_sigsegv() in Linux). */
        if (signal == SIGSEGV) {
            lock_acquire(&thread->process->signals.lock);
            thread->process->signals.actions[SIGSEGV - 1].handler = (uint64_t)SIG_DFL;
            lock_release(&thread->process->signals.lock);
        }
        siginfo_t fault;
        memset(&fault, 0, sizeof fault);
        fault.si_signo = SIGSEGV;
        fault.si_code = SI_KERNEL;
        signal_force(SIGSEGV, &fault);
        return;
    }
    thread->signals.has_saved = 0;
    signal_set_blocked(blocked);
}

bool signal_delivery_due(const struct bly_context *context, bool from_syscall)
{
    struct lx_thread *thread = lx_current();
    /* Without the lock: who adds work sets work_pending afterwards, and the caller tests that last. */
    return (from_syscall && lx_is_restart(context->rax)) || thread->signals.has_saved || signal_has_work(thread);
}

bool signal_deliver(struct bly_context *context, bool from_syscall)
{
    struct lx_thread *thread = lx_current();
    siginfo_t info;
    struct lx_sigaction action;
    uint32_t continue_count;
    bool changed = false;
    for (;;) {
        int signal = next_signal(thread, &info, &action, &continue_count);
        if (signal) {
            if (action.handler == (uint64_t)SIG_IGN)
                continue;
            if (action.handler == (uint64_t)SIG_DFL) {
                default_action(signal, continue_count);
                continue;
            }
            if (from_syscall)
                settle_restart(thread, context, &action.flags);
            from_syscall = false;
            enter_handler(thread, context, signal, &action, &info);
            changed = true;
            continue;
        }
        if (from_syscall)
            settle_restart(thread, context, NULL);
        from_syscall = false;
        if (!thread->signals.has_saved)
            return changed;
        signal_restore_mask();
        if (!thread->base.work_pending)
            return changed;
    }
}

void signal_flush_exec(struct lx_process *process)
{
    scoped_lock(&process->signals.lock);
    for (int i = 0; i < LX_SIGNAL_COUNT; i++) {
        struct lx_sigaction *action = &process->signals.actions[i];
        uint64_t handler = action->handler == (uint64_t)SIG_IGN ? action->handler : (uint64_t)SIG_DFL;
        memset(action, 0, sizeof *action);
        action->handler = handler;
    }
}
