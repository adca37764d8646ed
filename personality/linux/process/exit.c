/* The end of threads and processes.
 *
 * The last thread of a process publishes the wait status before the host tears the picoprocess down, so that a parent does not wait for
 * page tables to be freed. Before that it waits until no other thread of the picoprocess can hold a lock of the heap: a
 * thread that has left the process's list counts in lx_local.threads_leaving until it needs no lock any more.
 * After a thread has unlinked its object it is nobody, since the object may be reused at once. */
#include "personality/linux/file.h"
#include "personality/linux/ipc/ipc.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/tty/tty.h"

#include <linux/wait.h>

/* ---- Threads --------------------------------------------------------------------------------------------------- */

/* What the end of a thread does to the program's memory. */
static void release_thread_memory(struct lx_thread *thread)
{
    lx_futex_thread_exit(thread);
    struct mm *mm = thread->process->mm;
    if (thread->clear_child_tid && mm && (thread->process->thread_count > 1 || mm->references > 1)) {
        if (guest_store32((uint32_t *)thread->clear_child_tid, 0) == 0)
            futex_wake_address(thread->clear_child_tid, 1);
    }
    thread->clear_child_tid = 0;
}

static void discard_queue(struct signal_state *state, struct pending_signals *pending)
{
    list_for_each_safe(node, after, &pending->queue) {
        struct queued_signal *entry = container_of(node, struct queued_signal, node);
        list_remove(node);
        if (!entry->timer) {
            state->queued_count--;
            heap_free(entry);
        }
    }
    pending->set = 0;
}

/* Signals that only this thread was about to take go to the others. Signal lock held. */
static void pass_on_signals(struct lx_process *process)
{
    if (!process->signals.pending.set)
        return;
    list_for_each(node, &process->threads)
        thread_notify(&container_of(node, struct lx_thread, process_node)->base);
}

/* Whether other threads than the caller are left that have not begun to end. Signal lock held. */
static bool others_live(struct lx_thread *self)
{
    list_for_each(node, &self->process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        if (thread != self && !thread->exiting)
            return true;
    }
    return false;
}

static _Noreturn void leave_process(struct lx_thread *thread)
{
    struct lx_process *process = thread->process;
    lx_local.threads_leaving++;
    lx_kernel->leaving++;
    thread_block()->personality_thread = NULL;
    lock_acquire(&process_table()->lock);
    lock_acquire(&process->signals.lock);
    discard_queue(&process->signals, &thread->signals.pending);
    thread_unlink(thread);
    pass_on_signals(process);
    if (process->thread_count == 1) /* the last one, or one that execs, waits for this */
        thread_wake(&container_of(list_first(&process->threads), struct lx_thread, process_node)->base);
    lock_release(&process->signals.lock);
    thread_free(thread);
    lock_release(&process_table()->lock);
    lx_local.threads_leaving--;
    lx_kernel->leaving--;
    bly->thread_exit();
    panic("a thread ran on after its end");
}

/* The caller is to be the only thread: waits until the others, which have been told, are gone. */
static void wait_until_alone(struct lx_process *process)
{
    for (;;) {
        uint32_t ticket = thread_ticket();
        lock_acquire(&process->signals.lock);
        bool alone = process->thread_count == 1;
        lock_release(&process->signals.lock);
        if (alone)
            break;
        thread_sleep_uninterruptible(ticket, BLY_FOREVER);
    }
    while (lx_local.threads_leaving)
        bly->thread_yield();
}

/* ---- Processes ------------------------------------------------------------------------------------------------- */

void process_cpu_times(struct lx_process *process, uint64_t *out_user_ns, uint64_t *out_system_ns)
{
    uint64_t ns = 0;
    /* The ABI's clock does not tell user from system time; what the personality does is the program's own time here anyway. */
    if (process->host_process && process->state != PROCESS_ZOMBIE && !process->is_played &&
        bly->clock_read(BLY_CLOCK_PROCESS_CPU, process->host_process, &ns) == 0) {
        *out_user_ns = process->cpu_base_ns + ns;
        *out_system_ns = 0;
        return;
    }
    *out_user_ns = process->user_ns;
    *out_system_ns = process->system_ns;
}

void process_release_resources(struct lx_process *process)
{
    if (process->sysv_undo)
        lx_ipc_process_exit(process);
    struct fd_table *files = process->files;
    struct filesystem_context *fs = process->fs;
    struct mm *mm = process->mm;
    process->files = NULL;
    process->fs = NULL;
    process->mm = NULL;
    if (files)
        fd_table_unref(files);
    if (fs)
        filesystem_context_unref(fs);
    if (mm)
        mm_unref(mm);
}

void process_release_vfork(struct lx_process *process)
{
    if (!process->is_vfork_child)
        return;
    __atomic_store_n(&process->is_vfork_child, 0, __ATOMIC_RELEASE);
    wait_queue_wake_all(&process->end_queue);
}

void process_reap(struct lx_process *process)
{
    struct lx_process *parent = process->parent;
    if (parent) {
        parent->children_user_ns += process->user_ns + process->children_user_ns;
        parent->children_system_ns += process->system_ns + process->children_system_ns;
    }
    process_unlink(process);
}

void process_settle_end(struct end_notice *notice)
{
    if (notice->parent) {
        wait_queue_wake_all(&notice->parent->child_queue);
        process_unref(notice->parent);
    }
    list_for_each_safe(node, after, &notice->reaped) {
        list_remove(node);
        process_unref(container_of(node, struct lx_process, all));
    }
}

static void reap_to(struct lx_process *process, struct end_notice *notice)
{
    process_reap(process);
    list_push(&notice->reaped, &process->all);
}

static void fill_child_info(siginfo_t *info, struct lx_process *child, int signal)
{
    memset(info, 0, sizeof *info);
    info->si_signo = signal;
    info->si_pid = child->pid;
    info->si_uid = child->credentials.uid;
    info->si_utime = (__kernel_clock_t)(child->user_ns / 10000000);
    info->si_stime = (__kernel_clock_t)(child->system_ns / 10000000);
    if (child->wait_status & 0x7f) {
        info->si_code = child->wait_status & 0x80 ? CLD_DUMPED : CLD_KILLED;
        info->si_status = child->wait_status & 0x7f;
    } else {
        info->si_code = CLD_EXITED;
        info->si_status = (child->wait_status >> 8) & 0xff;
    }
}

static void wake_parent(struct lx_process *parent, struct end_notice *notice)
{
    if (notice->parent == parent)
        return;
    if (notice->parent) {
        wait_queue_wake_all(&parent->child_queue); /* a second one: of children that go to a reaper */
        return;
    }
    parent->references++;
    notice->parent = parent;
}

/* Tells the parent of a zombie; reaps it when nobody will. */
static void notify_parent(struct lx_process *process, struct end_notice *notice)
{
    struct lx_process *parent = process->parent;
    if (parent == process_table()->init) {
        /* Init is told only of programs that the monitor wants to know about. */
        if (process->token == NO_TOKEN)
            reap_to(process, notice);
        else
            wake_parent(parent, notice);
        return;
    }
    bool unwanted = false, silent = process->exit_signal == 0 || process->exit_signal > LX_SIGNAL_COUNT;
    if (process->exit_signal == SIGCHLD) {
        lock_acquire(&parent->signals.lock);
        const struct lx_sigaction *action = &parent->signals.actions[SIGCHLD - 1];
        /* wait(2): with SIG_IGN or SA_NOCLDWAIT children leave no zombies; with SIG_IGN there is no signal either. */
        silent = action->handler == (uint64_t)SIG_IGN;
        unwanted = silent || (action->flags & SA_NOCLDWAIT);
        lock_release(&parent->signals.lock);
    }
    if (!silent) {
        siginfo_t info;
        fill_child_info(&info, process, (int)process->exit_signal);
        signal_send_process(parent, (int)process->exit_signal, &info);
    }
    if (unwanted)
        reap_to(process, notice);
    wake_parent(parent, notice);
}

/* prctl(2), PR_SET_CHILD_SUBREAPER: the nearest living ancestor that is one, else init. */
static struct lx_process *find_reaper(struct lx_process *process)
{
    for (struct lx_process *ancestor = process->parent; ancestor; ancestor = ancestor->parent) {
        if (ancestor->child_subreaper && ancestor->state != PROCESS_ZOMBIE && !ancestor->group_exit)
            return ancestor;
    }
    return process_table()->init;
}

static void reparent_children(struct lx_process *process, struct end_notice *notice)
{
    if (list_empty(&process->children))
        return;
    struct lx_process *reaper = find_reaper(process);
    list_for_each_safe(node, after, &process->children) {
        struct lx_process *child = container_of(node, struct lx_process, sibling);
        list_remove(node);
        child->parent = reaper;
        child->parent_pid = reaper->pid;
        list_push(&reaper->children, node);
        child->exit_signal = SIGCHLD;
        if (child->pdeath_signal) {
            siginfo_t info = { .si_signo = (int)child->pdeath_signal, .si_code = SI_USER };
            info.si_pid = process->pid;
            info.si_uid = process->credentials.uid;
            signal_send_process(child, (int)child->pdeath_signal, &info);
        }
        if (child->state == PROCESS_ZOMBIE)
            notify_parent(child, notice);
        else
            group_check_child(child, process);
    }
}

void process_publish_end(struct lx_process *process, int32_t wait_status, struct end_notice *notice)
{
    assert(lock_held(&process_table()->lock));
    lock_acquire(&process->signals.lock);
    discard_queue(&process->signals, &process->signals.pending);
    process->wait_status = wait_status;
    process->state = PROCESS_ZOMBIE;
    process->host_process = 0;
    lock_release(&process->signals.lock);
    process_release_vfork(process);
    group_check_own(process);
    reparent_children(process, notice);
    notify_parent(process, notice);
    wait_queue_wake_all(&process->end_queue);
}

/* The last thread still takes locks and wakes others when its object may have a new owner already. */
static void become_nobody(struct thread *nobody)
{
    struct bly_thread_block *block = thread_block();
    *nobody = (struct thread){ .process_id = block->process_id, .thread_id = block->thread_id, .state = THREAD_IN_KERNEL };
    block->personality_thread = nobody;
}

static _Noreturn void end_last_thread(struct lx_thread *thread, int wait_status)
{
    struct lx_process *process = thread->process;
    struct vfork_saved *saved = thread->vfork_saved;
    struct end_notice notice = { .parent = NULL };
    struct thread nobody;
    list_init(&notice.reaped);

    process_timers_end(process);
    if (process->session_id == process->pid)
        lx_tty_session_ended(process);
    process_release_resources(process);
    process_cpu_times(process, &process->user_ns, &process->system_ns);

    if (saved) {
        saved->thread->base.state = THREAD_IN_KERNEL; /* before the child's thread is gone: one of them is always found */
        thread_become(saved->thread);
    } else
        become_nobody(&nobody);
    lock_acquire(&process_table()->lock);
    lock_acquire(&process->signals.lock);
    discard_queue(&process->signals, &thread->signals.pending);
    thread_unlink(thread);
    lock_release(&process->signals.lock);
    thread_free(thread);
    if (!saved)
        lx_kernel->leaving++;
    process_publish_end(process, wait_status, &notice);
    lock_release(&process_table()->lock);
    process_settle_end(&notice);

    if (saved)
        process_resume_vfork_parent(saved);
    lx_kernel->leaving--;
    bly->process_exit(0);
    panic("a picoprocess ran on after its end");
}

void thread_end(int wait_status)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    release_thread_memory(thread);

    lock_acquire(&process->signals.lock);
    thread->exiting = 1;
    bool last = !others_live(thread);
    if (last && !process->group_exit) {
        process->group_exit = true;
        process->wait_status = wait_status;
    }
    int final_status = process->wait_status;
    lock_release(&process->signals.lock);
    if (!last)
        leave_process(thread);
    if (!thread->vfork_saved)
        wait_until_alone(process);
    end_last_thread(thread, final_status);
}

/* Tells all other threads to end. Signal lock held. */
static void notify_others(struct lx_thread *self)
{
    list_for_each(node, &self->process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        if (thread != self)
            thread_notify(&thread->base);
    }
}

void process_end(int wait_status)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    lock_acquire(&process->signals.lock);
    if (!process->group_exit) {
        process->group_exit = true;
        process->wait_status = wait_status;
        notify_others(thread);
    }
    lock_release(&process->signals.lock);
    thread_end(wait_status);
}

int process_kill_other_threads(void)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    lock_acquire(&process->signals.lock);
    if (process->group_exit || (process->exec_thread && process->exec_thread != thread)) {
        lock_release(&process->signals.lock);
        return -EAGAIN;
    }
    process->exec_thread = thread;
    notify_others(thread);
    lock_release(&process->signals.lock);
    wait_until_alone(process);
    release_thread_memory(thread); /* the memory goes, but not the thread */

    lock_acquire(&process_table()->lock);
    lock_acquire(&process->signals.lock);
    thread->futex_exited = 0;
    process->exec_thread = NULL;
    if (thread->tid != process->pid) {
        /* execve(2): the caller takes over the thread id of the leader. */
        thread_unlink(thread);
        thread_link(thread, process, process->pid);
    }
    lock_release(&process->signals.lock);
    lock_release(&process_table()->lock);
    return 0;
}

void process_exec_done(void)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    posix_timers_end(process);
    thread->clear_child_tid = 0;
    thread->robust_list = 0;
    thread->robust_list_size = 0;
    thread->signals.altstack_address = thread->signals.altstack_size = 0;
    thread->signals.altstack_flags = 0;
    lock_acquire(&process_table()->lock);
    process->has_execed = true;
    process->dumpable = 1;
    process->exit_signal = SIGCHLD; /* de_thread(): whatever clone asked for */
    process_release_vfork(process);
    lock_release(&process_table()->lock);
}

LX_SYSCALL(exit, int status)
{
    thread_end((status & 0xff) << 8);
}

LX_SYSCALL(exit_group, int status)
{
    process_end((status & 0xff) << 8);
}

/* ---- Ended by force --------------------------------------------------------------------------------------------- */

/* One process that was in host process `id`, out of the reach of others. */
static struct lx_process *find_by_host_process(uint32_t id)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->host_process == id && process->state != PROCESS_ZOMBIE)
            return process;
    }
    return NULL;
}

void process_host_ended(const struct bly_process_end *end)
{
    int32_t wait_status = end->signal ? end->signal & 0x7f : (end->exit_status & 0xff) << 8;
    for (;;) {
        struct end_notice notice = { .parent = NULL };
        list_init(&notice.reaped);
        lock_acquire(&process_table()->lock);
        struct lx_process *process = find_by_host_process(end->process_id);
        if (!process) {
            lock_release(&process_table()->lock);
            return;
        }
        lock_acquire(&process->signals.lock);
        process->group_exit = true;
        process->host_process = 0;
        list_for_each_safe(node, after, &process->threads) {
            struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
            if (!thread_abandon(&thread->base))
                panic("process %d was killed by host signal %d while it held a lock of the shared heap", process->pid, end->signal);
            lx_futex_thread_abandoned(thread);
            discard_queue(&process->signals, &thread->signals.pending);
            heap_free(thread->vfork_saved);
            heap_free(thread->start_context);
            thread_unlink(thread);
            thread_free(thread);
        }
        process->references++;
        lock_release(&process->signals.lock);
        lock_release(&process_table()->lock);

        process_timers_end(process);
        process_release_resources(process);
        lock_acquire(&process_table()->lock);
        process_publish_end(process, wait_status, &notice);
        lock_release(&process_table()->lock);
        process_settle_end(&notice);
        process_unref(process);
    }
}

bool process_take_ended_program(uint32_t *out_token, int32_t *out_wait_status)
{
    struct lx_process *found = NULL;
    lock_acquire(&process_table()->lock);
    list_for_each(node, &process_table()->init->children) {
        struct lx_process *process = container_of(node, struct lx_process, sibling);
        if (process->state == PROCESS_ZOMBIE) {
            found = process;
            break;
        }
    }
    if (found) {
        *out_token = found->token;
        *out_wait_status = found->wait_status;
        process_reap(found);
    }
    lock_release(&process_table()->lock);
    if (found)
        process_unref(found);
    return found;
}
