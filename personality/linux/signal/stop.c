/* Job-control stops: all threads of a process park until SIGCONT, or until it is to end.
 *
 * process.state changes between RUNNING and STOPPED with the table's lock and the process's signals.lock held; threads test it
 * under the latter whenever they look for work. A stop is reported when it begins: the other threads are interrupted at
 * that moment and park as soon as they leave the personality. */
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/signal/internal.h"

/* SIGCHLD for a stop or a continue. Table lock held. */
static void tell_parent(struct lx_process *process, int code, int status)
{
    struct lx_process *parent = process->parent;
    if (!parent || parent->pid == 1)
        return;
    const struct lx_sigaction *action = &parent->signals.actions[SIGCHLD - 1];
    if (action->handler != (uint64_t)SIG_IGN && !(action->flags & SA_NOCLDSTOP)) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = SIGCHLD;
        info.si_code = code;
        info.si_pid = process->pid;
        info.si_uid = process->credentials.uid;
        info.si_status = status;
        signal_send_process(parent, SIGCHLD, &info);
    }
    wait_queue_wake_all(&parent->child_queue);
}

void signal_stop_process(int signal, uint32_t continue_count)
{
    struct lx_thread *self = lx_current();
    struct lx_process *process = self->process;
    lock_acquire(&lx_kernel->table.lock);
    lock_acquire(&process->signals.lock);
    /* An orphaned group has nobody who could continue it: setpgid(2), POSIX 2.4.3. */
    bool cancelled = process->group_exit || process->exec_thread || process->signals.continue_count != continue_count ||
                     (signal != SIGSTOP && group_is_orphaned(process->group_id, NULL));
    bool newly = !cancelled && process->state == PROCESS_RUNNING;
    if (newly) {
        process->state = PROCESS_STOPPED;
        process->stop_signal = (uint32_t)signal;
        process->stop_reported = 0;
        process->continue_pending = 0;
        list_for_each(node, &process->threads) {
            struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
            if (thread != self)
                thread_notify(&thread->base);
        }
    }
    lock_release(&process->signals.lock);
    if (newly)
        tell_parent(process, CLD_STOPPED, signal);
    lock_release(&lx_kernel->table.lock);
    if (!cancelled)
        signal_park_while_stopped();
}

void signal_park_while_stopped(void)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    for (;;) {
        uint32_t ticket = thread_ticket();
        thread->base.work_pending = 0; /* looked at again when the process goes on */
        lock_acquire(&process->signals.lock);
        bool stopped = process->state == PROCESS_STOPPED && !process->group_exit && !process->exec_thread;
        lock_release(&process->signals.lock);
        if (!stopped)
            return;
        thread_sleep(ticket, BLY_FOREVER);
    }
}

void signal_continue_process(struct lx_process *process)
{
    assert(lock_held(&lx_kernel->table.lock) && lock_held(&process->signals.lock));
    if (process->state != PROCESS_STOPPED)
        return;
    process->state = PROCESS_RUNNING;
    process->continue_pending = 1;
    list_for_each(node, &process->threads)
        thread_notify(&container_of(node, struct lx_thread, process_node)->base);
    tell_parent(process, CLD_CONTINUED, SIGCONT);
}
