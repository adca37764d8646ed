/* wait4(2) and waitid(2).
 *
 * States that can be reported stand in the child's record: ZOMBIE, a stop (stop_reported says whether it was), a continue
 * (continue_pending). All are guarded by the table's lock; whoever changes them wakes the parent's child_queue. */
#include "personality/linux/file.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/pidfd.h"

#include <linux/resource.h>
#include <linux/wait.h>

struct wait_request {
    int which;             /* P_ALL, P_PID, P_PGID */
    int32_t id;
    unsigned options;
};
struct wait_report {
    int32_t pid;           /* 0: nothing to report */
    uint32_t uid;
    int32_t wait_status;
    int code;              /* CLD_* */
    uint64_t user_ns, system_ns, maxrss_kb;
};

static bool child_matches(const struct lx_process *child, const struct wait_request *request)
{
    if (request->which == P_PID && child->pid != request->id)
        return false;
    if (request->which == P_PGID && child->group_id != request->id)
        return false;
    /* waitpid(2): a clone child tells with another signal than SIGCHLD, or with none. */
    bool is_clone_child = child->exit_signal != SIGCHLD;
    return (request->options & __WALL) || is_clone_child == !!(request->options & __WCLONE);
}

static void fill_report(struct wait_report *report, const struct lx_process *child, int code, int32_t wait_status)
{
    report->pid = child->pid;
    report->uid = child->credentials.uid;
    report->code = code;
    report->wait_status = wait_status;
    report->user_ns = child->user_ns + child->children_user_ns;
    report->system_ns = child->system_ns + child->children_system_ns;
    report->maxrss_kb = child->children_maxrss_kb;
}

/* Whether `child` has something to report; takes it (unless WNOWAIT). *out_reaped: the record is out of the table. */
static bool take_report(struct lx_process *child, const struct wait_request *request, struct wait_report *report, struct lx_process **out_reaped)
{
    bool keep = request->options & WNOWAIT;
    if (child->state == PROCESS_ZOMBIE) {
        if (!(request->options & WEXITED))
            return false;
        int code = !(child->wait_status & 0x7f) ? CLD_EXITED : child->wait_status & 0x80 ? CLD_DUMPED : CLD_KILLED;
        fill_report(report, child, code, child->wait_status);
        if (!keep) {
            process_reap(child);
            *out_reaped = child;
        }
        return true;
    }
    if (child->state == PROCESS_STOPPED && !child->stop_reported && (request->options & WSTOPPED)) {
        fill_report(report, child, CLD_STOPPED, (int32_t)(child->stop_signal << 8 | 0x7f));
        child->stop_reported = !keep;
        return true;
    }
    if (child->continue_pending && (request->options & WCONTINUED)) {
        fill_report(report, child, CLD_CONTINUED, 0xffff);
        child->continue_pending = keep;
        return true;
    }
    return false;
}

/* Table lock held. 1: reported; 0: there are children to wait for; -ECHILD. */
static int scan_children(struct lx_process *process, const struct wait_request *request, struct wait_report *report, struct lx_process **out_reaped)
{
    bool any = false;
    if (request->which == P_PID) {
        struct lx_process *child = process_find(request->id);
        if (!child || child->parent != process || !child_matches(child, request))
            return -ECHILD;
        return take_report(child, request, report, out_reaped);
    }
    list_for_each(node, &process->children) {
        struct lx_process *child = container_of(node, struct lx_process, sibling);
        if (!child_matches(child, request))
            continue;
        any = true;
        if (take_report(child, request, report, out_reaped))
            return 1;
    }
    return any ? 0 : -ECHILD;
}

static int wait_for_child(const struct wait_request *request, struct wait_report *report)
{
    struct lx_process *process = lx_process(), *reaped = NULL;
    struct lock *lock = &process_table()->lock;
    int found = 0, result = 0;
    report->pid = 0;
    lock_acquire(lock);
    if (request->options & WNOHANG)
        found = scan_children(process, request, report, &reaped);
    else
        wait_until(&process->child_queue, lock, (found = scan_children(process, request, report, &reaped)) != 0, BLY_FOREVER, result);
    lock_release(lock);
    if (reaped)
        process_unref(reaped);
    if (found < 0)
        return found;
    return found > 0 ? 0 : result == -EINTR ? -ERESTARTSYS : result;
}

static void fill_usage(struct rusage *usage, const struct wait_report *report)
{
    memset(usage, 0, sizeof *usage);
    usage->ru_utime.tv_sec = (__kernel_old_time_t)(report->user_ns / 1000000000);
    usage->ru_utime.tv_usec = (__kernel_suseconds_t)(report->user_ns % 1000000000 / 1000);
    usage->ru_stime.tv_sec = (__kernel_old_time_t)(report->system_ns / 1000000000);
    usage->ru_stime.tv_usec = (__kernel_suseconds_t)(report->system_ns % 1000000000 / 1000);
    usage->ru_maxrss = (long)report->maxrss_kb;
}

LX_SYSCALL(wait4, int pid, int *out_status, int options, struct rusage *out_usage)
{
    if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
        return -EINVAL;
    if (pid == (int)0x80000000)
        return -ESRCH;
    struct wait_request request = { .options = (unsigned)options | WEXITED };
    if (pid == -1) {
        request.which = P_ALL;
    } else if (pid <= 0) {
        request.which = P_PGID;
        request.id = pid ? -pid : lx_process()->group_id;
    } else {
        request.which = P_PID;
        request.id = pid;
    }
    struct wait_report report;
    int error = wait_for_child(&request, &report);
    if (error || !report.pid)
        return error;
    struct rusage usage;
    fill_usage(&usage, &report);
    if (out_status && guest_write(out_status, &report.wait_status, sizeof report.wait_status) < 0)
        return -EFAULT;
    if (out_usage && guest_write(out_usage, &usage, sizeof usage) < 0)
        return -EFAULT;
    return report.pid;
}

LX_SYSCALL(waitid, int which, int id, siginfo_t *out_info, int options, struct rusage *out_usage)
{
    if (options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
        return -EINVAL;
    if (!(options & (WEXITED | WSTOPPED | WCONTINUED)))
        return -EINVAL;
    struct wait_request request = { .which = which, .id = id, .options = (unsigned)options };
    scoped_file file = NULL;
    switch (which) {
    case P_ALL:
        break;
    case P_PID:
        if (id <= 0)
            return -EINVAL;
        break;
    case P_PGID:
        if (id < 0)
            return -EINVAL;
        if (id == 0)
            request.id = lx_process()->group_id;
        break;
    case P_PIDFD: {
        if (id < 0)
            return -EINVAL;
        file = fd_get(id);
        struct lx_process *target = file ? pidfd_process(file) : NULL;
        if (!target)
            return -EBADF;
        request.which = P_PID;
        request.id = target->pid;
        if (file->flags & 04000 /* O_NONBLOCK */)
            request.options |= WNOHANG;
        process_unref(target);
        break;
    }
    default:
        return -EINVAL;
    }
    struct wait_report report;
    int error = wait_for_child(&request, &report);
    if (error)
        return error;
    if (!report.pid && which == P_PIDFD && !(options & WNOHANG))
        return -EAGAIN; /* waitid(2): a non-blocking pidfd whose process still runs */
    if (report.pid && out_usage) {
        struct rusage usage;
        fill_usage(&usage, &report);
        if (guest_write(out_usage, &usage, sizeof usage) < 0)
            return -EFAULT;
    }
    if (!out_info)
        return 0;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (report.pid) {
        info.si_signo = SIGCHLD;
        info.si_code = report.code;
        info.si_pid = report.pid;
        info.si_uid = report.uid;
        info.si_status = report.code == CLD_EXITED ? (report.wait_status >> 8) & 0xff :
                         report.code == CLD_STOPPED ? (report.wait_status >> 8) & 0xff :
                         report.code == CLD_CONTINUED ? SIGCONT : report.wait_status & 0x7f;
    }
    /* Linux writes the fields up to si_status, of which utime and stime stay as they were. */
    return guest_write(out_info, &info, offsetof(siginfo_t, si_utime)) < 0 ? -EFAULT : 0;
}
