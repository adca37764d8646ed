/* Sending: where a signal becomes pending, and who is woken for it.
 *
 * A signal is pending in a thread's or the process's set; those with information have a queue entry too. Everything is guarded by
 * the process's signals.lock. A process-wide signal notifies one thread that does not block it; a thread that later
 * blocks it or ends hands it on (signal_set_blocked, thread_end), so that it is never pending with nobody told. SIGCONT, stops and
 * SIGKILL act on the whole process when they are sent (prepare_signal() in Linux). */
#include "personality/linux/signal/internal.h"

bool signal_action_ignores(const struct lx_sigaction *action, int signal)
{
    if (action->handler == (uint64_t)SIG_IGN)
        return true;
    return action->handler == (uint64_t)SIG_DFL && (SIGNALS_IGNORED & LX_SIGMASK(signal));
}

void signal_state_init(struct signal_state *state)
{
    list_init(&state->pending.queue);
    wait_queue_init(&state->signalfd_queue);
}

void signal_info_user(siginfo_t *info, int signal, int code)
{
    memset(info, 0, sizeof *info);
    info->si_signo = signal;
    info->si_code = code;
    info->si_pid = lx_process()->pid;
    info->si_uid = lx_process()->credentials.uid;
}

void signal_discard(struct signal_state *state, struct pending_signals *pending, lx_sigset set)
{
    assert(lock_held(&state->lock));
    if (!(pending->set & set))
        return;
    pending->set &= ~set;
    list_for_each_safe(node, after, &pending->queue) {
        struct queued_signal *entry = container_of(node, struct queued_signal, node);
        if (!(set & LX_SIGMASK(entry->info.si_signo)))
            continue;
        list_remove(node);
        if (!entry->timer) {
            state->queued_count--;
            heap_free(entry);
        }
    }
}

/* ---- Who is told ----------------------------------------------------------------------------------------------- */

static bool thread_wants(const struct lx_thread *thread, int signal)
{
    if (thread->exiting)
        return false;
    return signal == SIGKILL || !(thread->signals.blocked & ~thread->signals.waited & LX_SIGMASK(signal));
}

/* The thread that is to take a process-wide signal: the first that does not block it, better one that has nothing to do yet. */
static struct lx_thread *choose_thread(struct lx_process *process, int signal)
{
    struct lx_thread *choice = NULL;
    list_for_each(node, &process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        if (!thread_wants(thread, signal))
            continue;
        if (!thread->base.work_pending)
            return thread;
        if (!choice)
            choice = thread;
    }
    return choice;
}

static void notify_all_threads(struct lx_process *process)
{
    list_for_each(node, &process->threads)
        thread_notify(&container_of(node, struct lx_thread, process_node)->base);
}

/* ---- Becoming pending ------------------------------------------------------------------------------------------ */

static int enqueue(struct lx_process *process, struct pending_signals *pending, int signal, const siginfo_t *info)
{
    struct signal_state *state = &process->signals;
    if (signal < SIGRTMIN && (pending->set & LX_SIGMASK(signal)))
        return 1; /* signal(7): a standard signal is pending once */
    bool must_queue = signal >= SIGRTMIN && info->si_code != SI_USER;
    struct queued_signal *entry = NULL;
    if (signal != SIGKILL && (state->queued_count < process->limits[11 /* RLIMIT_SIGPENDING */].soft || (signal < SIGRTMIN && info->si_code >= 0)))
        entry = heap_alloc(sizeof *entry);
    if (entry) {
        entry->info = *info;
        state->queued_count++;
        list_push(&pending->queue, &entry->node);
    } else if (must_queue) {
        return -EAGAIN;
    }
    pending->set |= LX_SIGMASK(signal);
    return 0;
}

/* A stop signal discards a pending SIGCONT and the other way round; SIGCONT wakes a stopped process whether or not it is blocked or
 * caught; SIGKILL ends everything at once. Table and signal lock held for SIGCONT. */
static void prepare(struct lx_process *process, int signal)
{
    struct signal_state *state = &process->signals;
    lx_sigset opposite = LX_SIGMASK(signal) & SIGNALS_STOP ? LX_SIGMASK(SIGCONT) : signal == SIGCONT ? SIGNALS_STOP : 0;
    if (opposite) {
        signal_discard(state, &state->pending, opposite);
        list_for_each(node, &process->threads)
            signal_discard(state, &container_of(node, struct lx_thread, process_node)->signals.pending, opposite);
    }
    if (signal == SIGCONT) {
        state->continue_count++;
        signal_continue_process(process);
    }
}

/* Ignored now, and not blocked, so that no later change of the action could matter. For a process-wide signal the first thread's
 * mask stands for all, as in Linux. */
static bool is_dropped(struct lx_process *process, struct lx_thread *thread, int signal)
{
    if (process->pid == 1)
        return true; /* init is Bailey's own and has no handlers */
    if (!thread && !list_empty(&process->threads))
        thread = container_of(list_first(&process->threads), struct lx_thread, process_node);
    if (thread && (thread->signals.blocked & LX_SIGMASK(signal)))
        return false;
    return signal_action_ignores(&process->signals.actions[signal - 1], signal);
}

static int send_locked(struct lx_process *process, struct lx_thread *thread, int signal, const siginfo_t *info)
{
    struct signal_state *state = &process->signals;
    if (process->state == PROCESS_ZOMBIE || process->state == PROCESS_DEAD || process->group_exit)
        return 0;
    prepare(process, signal);
    if (is_dropped(process, thread, signal))
        return 0;
    if (signal == SIGKILL) {
        process->group_exit = true;
        process->wait_status = SIGKILL;
        notify_all_threads(process);
        return 0;
    }
    int result = enqueue(process, thread ? &thread->signals.pending : &state->pending, signal, info);
    if (result < 0)
        return result;
    if (result == 0)
        wait_queue_wake_all(&state->signalfd_queue);
    struct lx_thread *target = thread ? (thread_wants(thread, signal) ? thread : NULL) : choose_thread(process, signal);
    if (target)
        thread_notify(&target->base);
    return 0;
}

static int send(struct lx_process *process, struct lx_thread *thread, int signal, const siginfo_t *info)
{
    assert(signal_valid(signal));
    siginfo_t own;
    if (!info) {
        signal_info_user(&own, signal, thread ? SI_TKILL : SI_USER);
        info = &own;
    }
    /* SIGCONT tells the parent, which needs the links of the table. */
    struct lock *table_lock = &lx_kernel->table.lock;
    bool take_table = signal == SIGCONT && !lock_held(table_lock);
    if (take_table)
        lock_acquire(table_lock);
    lock_acquire(&process->signals.lock);
    int result = send_locked(process, thread, signal, info);
    lock_release(&process->signals.lock);
    if (take_table)
        lock_release(table_lock);
    return result;
}

int signal_send_process(struct lx_process *process, int signal, const siginfo_t *info)
{
    return send(process, NULL, signal, info);
}

int signal_send_thread(struct lx_thread *thread, int signal, const siginfo_t *info)
{
    return send(thread->process, thread, signal, info);
}

int signal_send_group(int32_t group_id, int signal, const siginfo_t *info)
{
    struct process_table *table = &lx_kernel->table;
    bool take_table = !lock_held(&table->lock);
    int result = -ESRCH;
    if (take_table)
        lock_acquire(&table->lock);
    list_for_each(node, &table->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->group_id == group_id && process->state != PROCESS_ZOMBIE) {
            signal_send_process(process, signal, info);
            result = 0;
        }
    }
    if (take_table)
        lock_release(&table->lock);
    return result;
}

int signal_send_timer(struct lx_process *process, struct lx_thread *thread, struct queued_signal *entry)
{
    int signal = entry->info.si_signo;
    int result = 0;
    lock_acquire(&process->signals.lock);
    if (process->state == PROCESS_ZOMBIE || process->group_exit || entry->node.next != &entry->node) {
        result = entry->node.next != &entry->node ? -EAGAIN : 0;
    } else if (!is_dropped(process, thread, signal)) {
        struct pending_signals *pending = thread ? &thread->signals.pending : &process->signals.pending;
        list_push(&pending->queue, &entry->node);
        pending->set |= LX_SIGMASK(signal);
        wait_queue_wake_all(&process->signals.signalfd_queue);
        struct lx_thread *target = thread ? (thread_wants(thread, signal) ? thread : NULL) : choose_thread(process, signal);
        if (target)
            thread_notify(&target->base);
    } else {
        result = -EINTR;
    }
    lock_release(&process->signals.lock);
    return result;
}

/* ---- The calling thread's own ---------------------------------------------------------------------------------- */

void signal_force(int signal, const siginfo_t *info)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    scoped_lock(&process->signals.lock);
    struct lx_sigaction *action = &process->signals.actions[signal - 1];
    if ((thread->signals.blocked & LX_SIGMASK(signal)) || action->handler == (uint64_t)SIG_IGN) {
        action->handler = (uint64_t)SIG_DFL;
        thread->signals.blocked &= ~LX_SIGMASK(signal);
    }
    enqueue(process, &thread->signals.pending, signal, info);
    thread->base.work_pending = 1;
}

lx_sigset signal_deliverable(struct lx_thread *thread)
{
    return (thread->signals.pending.set | thread->process->signals.pending.set) & ~thread->signals.blocked;
}

bool signal_has_work(struct lx_thread *thread)
{
    struct lx_process *process = thread->process;
    if (process->group_exit || (process->exec_thread && process->exec_thread != thread))
        return true;
    return process->state == PROCESS_STOPPED || signal_deliverable(thread);
}

bool signal_pending(void)
{
    struct lx_thread *thread = lx_current();
    if (!thread->base.work_pending)
        return false;
    scoped_lock(&thread->process->signals.lock);
    thread->base.work_pending = 0;
    if (!signal_has_work(thread))
        return false;
    thread->base.work_pending = 1;
    return true;
}

void signal_recalculate(void)
{
    struct lx_thread *thread = lx_current();
    scoped_lock(&thread->process->signals.lock);
    if (signal_has_work(thread))
        thread->base.work_pending = 1;
}

void signal_set_blocked(lx_sigset blocked)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    scoped_lock(&process->signals.lock);
    lx_sigset newly_blocked = blocked & ~thread->signals.blocked;
    thread->signals.blocked = blocked & ~SIGNALS_UNBLOCKABLE;
    if (signal_deliverable(thread))
        thread->base.work_pending = 1;
    /* Another thread must take what this one was told of and now refuses. */
    lx_sigset handed_on = process->signals.pending.set & newly_blocked;
    if (!handed_on || process->thread_count == 1)
        return;
    list_for_each(node, &process->threads) {
        struct lx_thread *other = container_of(node, struct lx_thread, process_node);
        if (other != thread && (handed_on & ~other->signals.blocked))
            thread_notify(&other->base);
    }
}

void signal_set_temporary_mask(lx_sigset mask)
{
    struct lx_thread *thread = lx_current();
    if (!thread->signals.has_saved) {
        thread->signals.saved_blocked = thread->signals.blocked;
        thread->signals.has_saved = 1;
    }
    signal_set_blocked(mask);
}

void signal_restore_mask(void)
{
    struct lx_thread *thread = lx_current();
    if (!thread->signals.has_saved)
        return;
    thread->signals.has_saved = 0;
    signal_set_blocked(thread->signals.saved_blocked);
}

/* ---- Taking ---------------------------------------------------------------------------------------------------- */

int signal_dequeue(struct signal_state *state, struct pending_signals *pending, lx_sigset set, siginfo_t *out_info)
{
    assert(lock_held(&state->lock));
    set &= pending->set;
    if (!set)
        return 0;
    if (set & SIGNALS_SYNCHRONOUS)
        set &= SIGNALS_SYNCHRONOUS;
    int signal = __builtin_ctzll(set) + 1;
    struct queued_signal *found = NULL;
    bool more = false;
    list_for_each(node, &pending->queue) {
        struct queued_signal *entry = container_of(node, struct queued_signal, node);
        if (entry->info.si_signo != signal)
            continue;
        if (found) {
            more = true;
            break;
        }
        found = entry;
    }
    if (!more)
        pending->set &= ~LX_SIGMASK(signal);
    if (!found) {
        /* The queue was full or the sender gave nothing: as Linux, a plain signal from nobody. */
        memset(out_info, 0, sizeof *out_info);
        out_info->si_signo = signal;
        return signal;
    }
    *out_info = found->info;
    list_remove(&found->node);
    if (found->timer) {
        posix_timer_signal_taken(found->timer, out_info);
    } else {
        state->queued_count--;
        heap_free(found);
    }
    return signal;
}

int signal_take(lx_sigset set, siginfo_t *out_info)
{
    struct lx_thread *thread = lx_current();
    struct signal_state *state = &thread->process->signals;
    scoped_lock(&state->lock);
    int signal = signal_dequeue(state, &thread->signals.pending, set, out_info);
    return signal ? signal : signal_dequeue(state, &state->pending, set, out_info);
}

lx_sigset signal_pending_set(void)
{
    struct lx_thread *thread = lx_current();
    scoped_lock(&thread->process->signals.lock);
    return thread->signals.pending.set | thread->process->signals.pending.set;
}
