/* Controlling terminals and job control (termios(3), tty_ioctl(4), setsid(2)).
 *
 * tty.session and tty.foreground are guarded by tty.lock, lx_process.tty and the ids of processes by process_table.lock, which
 * comes first. Invariant: a process that points to a tty belongs to the session that the tty names. */
#include "personality/linux/tty/internal.h"
#include "personality/linux/process/lifecycle.h"
#include <linux/capability.h>

enum { HANDLER_IGNORE = 1 };

struct tty *tty_of_process(void)
{
    scoped_lock(&process_table()->lock);
    struct tty *tty = lx_process()->tty;
    return tty ? tty_ref(tty) : NULL;
}

static bool signal_suppressed(int signal)
{
    struct lx_thread *thread = lx_current();

    return thread->signals.blocked & LX_SIGMASK(signal) ||
           thread->process->signals.actions[signal - 1].handler == HANDLER_IGNORE;
}

static void signal_group(int32_t group, int signal)
{
    siginfo_t info = { .si_signo = signal, .si_code = SI_KERNEL };

    if (group > 0)
        (void)signal_send_group(group, signal, &info); /* -ESRCH: all have ended */
}

int tty_check_foreground(struct tty *tty, int signal)
{
    struct lx_process *process = lx_process();

    /* Unlocked: only the caller's own threads change these for it, and a stale foreground group is as good as one read a moment ago. */
    if (process->tty != tty || tty->foreground <= 0 || tty->foreground == process->group_id)
        return 0;
    if (signal_suppressed(signal))
        return signal == SIGTTIN ? -EIO : 0;
    lock_acquire(&process_table()->lock);
    int32_t group = process->group_id;
    bool orphaned = group_is_orphaned(group, NULL);
    lock_release(&process_table()->lock);
    if (orphaned)
        return -EIO;
    signal_group(group, signal);
    return -ERESTARTSYS;
}

/* Both locks are held. */
static void attach(struct tty *tty, struct lx_process *process)
{
    tty->session = process->session_id;
    tty->foreground = process->group_id;
    process->tty = tty;
}

void tty_open_controlling(struct tty *tty, unsigned flags)
{
    struct lx_process *process = lx_process();

    if (flags & O_NOCTTY || (flags & O_ACCMODE) == O_WRONLY)
        return;
    scoped_lock(&process_table()->lock);
    scoped_lock(&tty->lock);
    if (process->session_id == process->pid && !process->tty && tty->session == 0)
        attach(tty, process);
}

/* Every process of `session` loses `tty`; the table's lock is held. */
static void detach_session(struct tty *tty, int32_t session)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->session_id == session && process->tty == tty)
            process->tty = NULL;
    }
}

void tty_forget_session(struct tty *tty, int32_t session)
{
    scoped_lock(&process_table()->lock);
    detach_session(tty, session);
    scoped_lock(&tty->lock);
    if (tty->session == session)
        tty->session = tty->foreground = 0;
}

int tty_take_controlling(struct tty *tty, bool steal, bool readable)
{
    struct lx_process *process = lx_process();
    bool privileged = lx_capable(CAP_SYS_ADMIN);

    scoped_lock(&process_table()->lock);
    scoped_lock(&tty->lock);
    bool leader = process->session_id == process->pid;
    if (leader && tty->session == process->session_id)
        return 0;
    if (!leader || process->tty)
        return -EPERM;
    if (tty->session > 0) {
        if (!steal || !privileged)
            return -EPERM;
        detach_session(tty, tty->session);
    }
    if (!readable && !privileged)
        return -EPERM;
    attach(tty, process);
    return 0;
}

int tty_make_controlling_terminal(struct open_file *file)
{
    return tty_take_controlling(file->object, /*steal=*/true, /*readable=*/true);
}

int tty_give_up(struct tty *tty)
{
    struct lx_process *process = lx_process();

    lock_acquire(&process_table()->lock);
    if (process->tty != tty) {
        lock_release(&process_table()->lock);
        return -ENOTTY;
    }
    bool leader = process->session_id == process->pid;
    process->tty = NULL;
    lock_release(&process_table()->lock);
    if (leader) {
        signal_group(tty->foreground, SIGHUP);
        signal_group(tty->foreground, SIGCONT);
        tty_forget_session(tty, process->session_id);
    }
    return 0;
}

void lx_tty_session_ended(struct lx_process *leader)
{
    lock_acquire(&process_table()->lock);
    struct tty *tty = leader->tty ? tty_ref(leader->tty) : NULL;
    lock_release(&process_table()->lock);
    if (!tty)
        return;
    signal_group(tty->foreground, SIGHUP);
    signal_group(tty->foreground, SIGCONT);
    tty_forget_session(tty, leader->session_id);
    tty_unref(tty);
}

/* For the slave side, only who has it as controlling terminal may ask; a master may always. */
static bool may_ask(struct tty *tty, bool master)
{
    return master || lx_process()->tty == tty;
}

long tty_get_group(struct tty *tty, bool master, uint64_t argument)
{
    if (!may_ask(tty, master))
        return -ENOTTY;
    return guest_store32((uint32_t *)argument, (uint32_t)tty->foreground);
}

long tty_get_session(struct tty *tty, bool master, uint64_t argument)
{
    if (!may_ask(tty, master) || tty->session <= 0)
        return -ENOTTY;
    return guest_store32((uint32_t *)argument, (uint32_t)tty->session);
}

long tty_set_group(struct tty *tty, uint64_t argument)
{
    struct lx_process *caller = lx_process();
    uint32_t group;
    long result = -ESRCH;

    if (guest_load32(&group, (uint32_t *)argument) < 0)
        return -EFAULT;
    if ((int32_t)group < 0)
        return -EINVAL;
    scoped_lock(&process_table()->lock);
    scoped_lock(&tty->lock);
    if (caller->tty != tty || tty->session != caller->session_id)
        return -ENOTTY;
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->group_id != (int32_t)group)
            continue;
        if (process->session_id != caller->session_id)
            return -EPERM;
        result = 0;
    }
    if (result == 0)
        tty->foreground = (int32_t)group;
    return result;
}

uint64_t tty_device(const struct tty *tty)
{
    return tty ? lx_makedev(TTY_MAJOR_PTS, tty->number) : 0;
}

int32_t tty_foreground_group(const struct tty *tty)
{
    return tty ? tty->foreground : -1;
}
