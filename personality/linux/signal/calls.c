/* The system calls about signals: actions, masks, waiting, sending. */
#include "personality/linux/fs/proc/proc.h"
#include "personality/linux/process/pidfd.h"
#include "personality/linux/process/timers.h"
#include "personality/linux/signal/internal.h"

/* ---- Actions and masks ----------------------------------------------------------------------------------------- */

LX_SYSCALL(rt_sigaction, int signal, const struct lx_sigaction *new_action, struct lx_sigaction *out_old, size_t set_size)
{
    struct lx_process *process = lx_process();
    struct lx_sigaction action, old;
    if (set_size != sizeof(lx_sigset))
        return -EINVAL;
    if (new_action && guest_read(&action, new_action, sizeof action) < 0)
        return -EFAULT;
    if (!signal_valid(signal) || (new_action && (SIGNALS_UNBLOCKABLE & LX_SIGMASK(signal))))
        return -EINVAL;
    lock_acquire(&process->signals.lock);
    old = process->signals.actions[signal - 1];
    if (new_action) {
        action.mask &= ~SIGNALS_UNBLOCKABLE;
        process->signals.actions[signal - 1] = action;
        /* sigaction(2), POSIX: setting an ignoring action discards what is pending. */
        if (signal_action_ignores(&action, signal)) {
            signal_discard(&process->signals, &process->signals.pending, LX_SIGMASK(signal));
            list_for_each(node, &process->threads) {
                struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
                signal_discard(&process->signals, &thread->signals.pending, LX_SIGMASK(signal));
            }
        }
    }
    lock_release(&process->signals.lock);
    return out_old && guest_write(out_old, &old, sizeof old) < 0 ? -EFAULT : 0;
}

LX_SYSCALL(rt_sigprocmask, int how, const lx_sigset *new_set, lx_sigset *out_old, size_t set_size)
{
    struct lx_thread *thread = lx_current();
    lx_sigset old = thread->signals.blocked, set;
    if (set_size != sizeof(lx_sigset))
        return -EINVAL;
    if (new_set) {
        if (guest_read(&set, new_set, sizeof set) < 0)
            return -EFAULT;
        set &= ~SIGNALS_UNBLOCKABLE;
        if (how == SIG_BLOCK)
            set |= old;
        else if (how == SIG_UNBLOCK)
            set = old & ~set;
        else if (how != SIG_SETMASK)
            return -EINVAL;
        if (set != old)
            signal_set_blocked(set);
    }
    return out_old && guest_write(out_old, &old, sizeof old) < 0 ? -EFAULT : 0;
}

LX_SYSCALL(rt_sigpending, lx_sigset *out_set, size_t set_size)
{
    if (set_size > sizeof(lx_sigset))
        return -EINVAL;
    lx_sigset set = signal_pending_set() & lx_current()->signals.blocked;
    return guest_write(out_set, &set, set_size) < 0 ? -EFAULT : 0;
}

/* ---- Waiting --------------------------------------------------------------------------------------------------- */

static void sleep_until_signal(void)
{
    for (;;) {
        uint32_t ticket = thread_ticket();
        if (signal_pending())
            return;
        thread_sleep(ticket, BLY_FOREVER);
    }
}

LX_SYSCALL(pause, void)
{
    sleep_until_signal();
    return -ERESTARTNOHAND;
}

LX_SYSCALL(rt_sigsuspend, const lx_sigset *guest_mask, size_t set_size)
{
    lx_sigset mask;
    if (set_size != sizeof mask)
        return -EINVAL;
    if (guest_read(&mask, guest_mask, sizeof mask) < 0)
        return -EFAULT;
    signal_set_temporary_mask(mask & ~SIGNALS_UNBLOCKABLE);
    sleep_until_signal();
    return -ERESTARTNOHAND;
}

static void set_waited(struct lx_thread *thread, lx_sigset waited)
{
    scoped_lock(&thread->process->signals.lock);
    thread->signals.waited = waited;
}

LX_SYSCALL(rt_sigtimedwait, const lx_sigset *guest_set, siginfo_t *out_info, const struct __kernel_timespec *timeout, size_t set_size)
{
    struct lx_thread *thread = lx_current();
    lx_sigset set;
    siginfo_t info;
    uint64_t deadline = BLY_FOREVER;
    if (set_size != sizeof set)
        return -EINVAL;
    if (guest_read(&set, guest_set, sizeof set) < 0)
        return -EFAULT;
    if (timeout) {
        struct __kernel_timespec time;
        if (guest_read(&time, timeout, sizeof time) < 0)
            return -EFAULT;
        if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1000000000)
            return -EINVAL;
        deadline = time_after(time.tv_sec, time.tv_nsec);
    }
    set &= ~SIGNALS_UNBLOCKABLE;
    int signal = signal_take(set, &info), result = 0;
    if (!signal && deadline) {
        set_waited(thread, set);
        while (!signal && !result) {
            uint32_t ticket = thread_ticket();
            signal = signal_take(set, &info);
            if (signal)
                break;
            if (signal_pending())
                result = -EINTR;
            else if (thread_sleep(ticket, deadline) == -ETIMEDOUT)
                result = -EAGAIN;
        }
        set_waited(thread, 0);
        if (!signal)
            signal = signal_take(set, &info);
        signal_recalculate();
    }
    if (!signal)
        return result ? result : -EAGAIN;
    if (out_info && guest_write(out_info, &info, sizeof info) < 0)
        return -EFAULT;
    return signal;
}

/* ---- Sending --------------------------------------------------------------------------------------------------- */

/* kill(2): the sender's real or effective id equals the target's real or saved id, or it may kill at all; SIGCONT within a session. */
static bool may_signal(const struct lx_process *target, int signal)
{
    const struct lx_process *sender = lx_process();
    const struct credentials *from = &sender->credentials, *to = &target->credentials;
    if (target == sender || from->euid == to->suid || from->euid == to->uid || from->uid == to->suid || from->uid == to->uid)
        return true;
    if (signal == SIGCONT && sender->session_id == target->session_id)
        return true;
    return lx_capable(5 /* CAP_KILL */);
}

/* Table lock held. Signal 0 only asks. */
static int send_checked(struct lx_process *target, struct lx_thread *thread, int signal, const siginfo_t *info)
{
    if (!may_signal(target, signal))
        return -EPERM;
    if (signal == 0)
        return 0;
    return thread ? signal_send_thread(thread, signal, info) : signal_send_process(target, signal, info);
}

/* pid 0: the caller's group; -1: everyone but init and the caller; < -1: a group. Table lock held. */
static int send_to_many(int pid, int signal, const siginfo_t *info)
{
    struct lx_process *caller = lx_process();
    int32_t group = pid == 0 ? caller->group_id : -pid;
    int result = -ESRCH;
    list_for_each(node, &lx_kernel->table.processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (pid == -1 ? process->pid == 1 || process == caller : process->group_id != group)
            continue;
        int error = send_checked(process, NULL, signal, info);
        if (error == 0)
            result = 0;
        else if (result != 0)
            result = pid == -1 && error == -EPERM ? result : error;
    }
    return result;
}

/* kill(2) takes the id of any thread for its process. Table lock held. */
static struct lx_process *find_by_any_id(int pid)
{
    struct lx_process *process = process_find(pid);
    struct lx_thread *thread = process ? NULL : thread_find(pid);
    return thread ? thread->process : process;
}

LX_SYSCALL(kill, int pid, int signal)
{
    if (signal < 0 || signal > LX_SIGNAL_COUNT)
        return -EINVAL;
    if (pid == (int)0x80000000)
        return -ESRCH;
    siginfo_t info;
    signal_info_user(&info, signal, SI_USER);
    scoped_lock(&lx_kernel->table.lock);
    if (pid <= 0)
        return send_to_many(pid, signal, &info);
    struct lx_process *process = find_by_any_id(pid);
    return process ? send_checked(process, NULL, signal, &info) : -ESRCH;
}

/* `pid` 0: whatever process the thread is of. */
static long send_to_thread(int pid, int tid, int signal, const siginfo_t *info)
{
    scoped_lock(&lx_kernel->table.lock);
    struct lx_thread *thread = thread_find(tid);
    if (thread && (!pid || thread->process->pid == pid))
        return send_checked(thread->process, thread, signal, info);
    /* The leader's id stays valid when that thread has ended before the process, or is a zombie's. */
    struct lx_process *process = process_find(tid);
    if (!process || (pid && pid != process->pid))
        return -ESRCH;
    return may_signal(process, signal) ? 0 : -EPERM;
}

LX_SYSCALL(tgkill, int pid, int tid, int signal)
{
    if (pid <= 0 || tid <= 0 || signal < 0 || signal > LX_SIGNAL_COUNT)
        return -EINVAL;
    siginfo_t info;
    signal_info_user(&info, signal, SI_TKILL);
    return send_to_thread(pid, tid, signal, &info);
}

LX_SYSCALL(tkill, int tid, int signal)
{
    if (tid <= 0 || signal < 0 || signal > LX_SIGNAL_COUNT)
        return -EINVAL;
    siginfo_t info;
    signal_info_user(&info, signal, SI_TKILL);
    return send_to_thread(0, tid, signal, &info);
}

/* rt_sigqueueinfo(2): only to itself may a process pretend to be the kernel, kill or tkill. */
static int read_queue_info(int target_pid, int signal, const siginfo_t *guest_info, siginfo_t *out_info)
{
    if (guest_read(out_info, guest_info, sizeof *out_info) < 0)
        return -EFAULT;
    out_info->si_signo = signal;
    if ((out_info->si_code >= 0 || out_info->si_code == SI_TKILL) && target_pid != lx_process()->pid)
        return -EPERM;
    return signal < 0 || signal > LX_SIGNAL_COUNT ? -EINVAL : 0;
}

LX_SYSCALL(rt_sigqueueinfo, int pid, int signal, const siginfo_t *guest_info)
{
    siginfo_t info;
    int error = read_queue_info(pid, signal, guest_info, &info);
    if (error)
        return error;
    scoped_lock(&lx_kernel->table.lock);
    struct lx_process *process = pid > 0 ? find_by_any_id(pid) : NULL;
    return process ? send_checked(process, NULL, signal, &info) : -ESRCH;
}

LX_SYSCALL(rt_tgsigqueueinfo, int pid, int tid, int signal, const siginfo_t *guest_info)
{
    siginfo_t info;
    if (pid <= 0 || tid <= 0)
        return -EINVAL;
    int error = read_queue_info(pid, signal, guest_info, &info);
    return error ? error : send_to_thread(pid, tid, signal, &info);
}

LX_SYSCALL(pidfd_send_signal, int fd, int signal, const siginfo_t *guest_info, unsigned flags)
{
    if (flags || signal < 0 || signal > LX_SIGNAL_COUNT)
        return -EINVAL;
    scoped_file file = fd_get(fd);
    struct lx_process *process = file ? pidfd_process(file) : NULL;
    /* pidfd_send_signal(2): an open /proc/PID does too. */
    if (!process && (!file || !proc_is_process_directory(file, &process)))
        return -EBADF;
    if (!process)
        return -ESRCH;
    siginfo_t info;
    int error = 0;
    if (guest_info) {
        error = guest_read(&info, guest_info, sizeof info) < 0 ? -EFAULT : 0;
        if (!error && info.si_signo != signal)
            error = -EINVAL;
        if (!error && (info.si_code >= 0 || info.si_code == SI_TKILL) && process != lx_process())
            error = -EPERM;
    } else {
        signal_info_user(&info, signal, SI_USER);
    }
    if (!error) {
        scoped_lock(&lx_kernel->table.lock);
        error = process->state == PROCESS_DEAD ? -ESRCH : send_checked(process, NULL, signal, &info);
    }
    process_unref(process);
    return error;
}
