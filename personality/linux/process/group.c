/* Process groups and sessions.
 *
 * A group is the set of processes with one group_id, a session of those with one session_id; there are no objects for them. Both ids are
 * guarded by the table's lock. A group is orphaned when no member has a parent in another group of the same session:
 * nobody could continue it if it stopped. */
#include "personality/linux/process/lifecycle.h"

static bool connects_group(const struct lx_process *process, int32_t group_id)
{
    const struct lx_process *parent = process->parent;
    return process->group_id == group_id && process->state != PROCESS_ZOMBIE && parent && parent->pid != 1 &&
           parent->state != PROCESS_ZOMBIE && parent->group_id != group_id && parent->session_id == process->session_id;
}

/* `except`: a process that does not count, or NULL. */
bool group_is_orphaned(int32_t group_id, const struct lx_process *except)
{
    list_for_each(node, &process_table()->processes) {
        const struct lx_process *process = container_of(node, struct lx_process, all);
        if (process != except && connects_group(process, group_id))
            return false;
    }
    return true;
}

static bool group_has_stopped(int32_t group_id)
{
    list_for_each(node, &process_table()->processes) {
        const struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->group_id == group_id && process->state == PROCESS_STOPPED)
            return true;
    }
    return false;
}

static void hang_up_group(int32_t group_id)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_code = SI_KERNEL;
    info.si_signo = SIGHUP;
    signal_send_group(group_id, SIGHUP, &info);
    info.si_signo = SIGCONT;
    signal_send_group(group_id, SIGCONT, &info);
}

/* POSIX, _exit(): a group that becomes orphaned by this end and has stopped members gets SIGHUP and SIGCONT. That is the group of
 * the process itself, which is a zombie by now... */
void group_check_own(struct lx_process *process)
{
    const struct lx_process *parent = process->parent;
    if (parent && parent->group_id != process->group_id && parent->session_id == process->session_id &&
        group_has_stopped(process->group_id) && group_is_orphaned(process->group_id, NULL))
        hang_up_group(process->group_id);
}

/* ... and those of its children, each of which has its new parent already. */
void group_check_child(struct lx_process *child, const struct lx_process *old_parent)
{
    if (child->group_id != old_parent->group_id && child->session_id == old_parent->session_id &&
        group_has_stopped(child->group_id) && group_is_orphaned(child->group_id, NULL))
        hang_up_group(child->group_id);
}

LX_SYSCALL(setpgid, int pid, int group_id)
{
    struct lx_process *caller = lx_process();
    if (group_id < 0)
        return -EINVAL;
    scoped_lock(&process_table()->lock);
    struct lx_process *process = pid == 0 ? caller : process_find(pid);
    if (!process)
        return thread_find(pid) ? -EINVAL : -ESRCH;
    if (group_id == 0)
        group_id = process->pid;
    if (process != caller) {
        if (process->parent != caller)
            return -ESRCH;
        if (process->session_id != caller->session_id)
            return -EPERM;
        if (process->has_execed)
            return -EACCES;
    }
    if (process->session_id == process->pid)
        return -EPERM;
    if (group_id != process->pid) {
        bool exists = false;
        list_for_each(node, &process_table()->processes) {
            struct lx_process *other = container_of(node, struct lx_process, all);
            exists |= other->group_id == group_id && other->session_id == caller->session_id;
        }
        if (!exists)
            return -EPERM;
    }
    process->group_id = group_id;
    return 0;
}

LX_SYSCALL(setsid, void)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        if (container_of(node, struct lx_process, all)->group_id == process->pid)
            return -EPERM;
    }
    process->session_id = process->group_id = process->pid;
    process->tty = NULL;
    return process->pid;
}

static long read_ids(int pid, bool session)
{
    if (pid < 0)
        return -ESRCH;
    scoped_lock(&process_table()->lock);
    struct lx_process *process = pid == 0 ? lx_process() : process_find(pid);
    if (!process) {
        struct lx_thread *thread = thread_find(pid);
        process = thread ? thread->process : NULL;
    }
    if (!process)
        return -ESRCH;
    return session ? process->session_id : process->group_id;
}

LX_SYSCALL(getpgid, int pid)
{
    return read_ids(pid, false);
}

LX_SYSCALL(getpgrp, void)
{
    return lx_process()->group_id;
}

LX_SYSCALL(getsid, int pid)
{
    return read_ids(pid, true);
}
