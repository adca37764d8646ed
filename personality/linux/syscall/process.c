/* Small calls about the calling process and thread: ids, prctl, limits, usage, comparing. */
#include "personality/linux/file.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpu_clock.h"
#include "personality/linux/process/lifecycle.h"

#include <asm/prctl.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/securebits.h>
#include <linux/times.h>

enum { CAP_SETPCAP = 8, CAP_SYS_RESOURCE = 24, CAP_LAST = 40, LIMIT_COUNT = 16, OPEN_FILES_MAX = 1048576 };

/* ---- Ids ------------------------------------------------------------------------------------------------------- */

LX_SYSCALL(getpid, void)
{
    return lx_process()->pid;
}

LX_SYSCALL(gettid, void)
{
    return lx_current()->tid;
}

LX_SYSCALL(getppid, void)
{
    return lx_process()->parent_pid;
}

LX_SYSCALL(set_tid_address, uint64_t address)
{
    lx_current()->clear_child_tid = address;
    return lx_current()->tid;
}

/* C libraries ask for it at every start and do without: refused without a line in the log. The kernel-written fields of
 * rseq would have to be right at every change of CPU, which only the host's kernel knows. */
LX_SYSCALL(rseq, void *area, uint32_t size, int flags, uint32_t signature)
{
    return -ENOSYS;
}

/* ---- prctl ----------------------------------------------------------------------------------------------------- */

static long set_name(struct lx_thread *thread, const char *guest_name)
{
    char name[16] = { 0 };
    if (guest_read_string(name, guest_name, sizeof name - 1) == -EFAULT)
        return -EFAULT;
    name[15] = 0;
    memcpy(thread->name, name, sizeof name);
    if (thread->tid == thread->process->pid)
        memcpy(thread->process->name, name, sizeof name);
    return 0;
}

static long set_flag(uint32_t *flag, uint64_t value, uint64_t maximum)
{
    if (value > maximum)
        return -EINVAL;
    *flag = (uint32_t)value;
    return 0;
}

static long change_ambient(struct credentials *credentials, uint64_t operation, uint64_t capability)
{
    if (operation == PR_CAP_AMBIENT_CLEAR_ALL) {
        if (capability)
            return -EINVAL;
        credentials->cap_ambient = 0;
        return 0;
    }
    if (capability > CAP_LAST)
        return -EINVAL;
    uint64_t bit = 1ull << capability;
    switch (operation) {
    case PR_CAP_AMBIENT_IS_SET:
        return !!(credentials->cap_ambient & bit);
    case PR_CAP_AMBIENT_RAISE:
        if (!(credentials->cap_permitted & credentials->cap_inheritable & bit) || (credentials->securebits & SECBIT_NO_CAP_AMBIENT_RAISE))
            return -EPERM;
        credentials->cap_ambient |= bit;
        return 0;
    case PR_CAP_AMBIENT_LOWER:
        credentials->cap_ambient &= ~bit;
        return 0;
    default:
        return -EINVAL;
    }
}

/* The part of prctl that concerns credentials; the table's lock guards them. */
static long credentials_control(struct credentials *credentials, int option, uint64_t a, uint64_t b, uint64_t c)
{
    scoped_lock(&process_table()->lock);
    switch (option) {
    case PR_GET_KEEPCAPS:
        return !!(credentials->securebits & SECBIT_KEEP_CAPS);
    case PR_SET_KEEPCAPS:
        if (a > 1)
            return -EINVAL;
        if (credentials->securebits & SECBIT_KEEP_CAPS_LOCKED)
            return -EPERM;
        credentials->securebits = (credentials->securebits & ~(uint32_t)SECBIT_KEEP_CAPS) | (a ? SECBIT_KEEP_CAPS : 0);
        return 0;
    case PR_CAPBSET_READ:
        return a > CAP_LAST ? -EINVAL : (long)(credentials->cap_bounding >> a & 1);
    case PR_CAPBSET_DROP:
        if (!(credentials->cap_effective & 1ull << CAP_SETPCAP))
            return -EPERM;
        if (a > CAP_LAST)
            return -EINVAL;
        credentials->cap_bounding &= ~(1ull << a);
        return 0;
    case PR_GET_SECUREBITS:
        return credentials->securebits;
    case PR_SET_SECUREBITS: {
        uint32_t locked = (credentials->securebits & SECURE_ALL_LOCKS) >> 1;
        if ((a & ~(uint64_t)(SECURE_ALL_BITS | SECURE_ALL_LOCKS)) || ((credentials->securebits ^ a) & locked) ||
            (credentials->securebits & SECURE_ALL_LOCKS & ~a) || !(credentials->cap_effective & 1ull << CAP_SETPCAP))
            return -EPERM;
        credentials->securebits = (uint32_t)a;
        return 0;
    }
    case PR_SET_NO_NEW_PRIVS:
        if (a != 1 || b || c)
            return -EINVAL;
        credentials->no_new_privs = 1;
        return 0;
    case PR_GET_NO_NEW_PRIVS:
        return a || b || c ? -EINVAL : (long)credentials->no_new_privs;
    case PR_CAP_AMBIENT:
        return c ? -EINVAL : change_ambient(credentials, a, b);
    default:
        return -EINVAL;
    }
}

static long report_int(uint64_t guest_address, uint32_t value)
{
    return guest_store32((uint32_t *)guest_address, value);
}

LX_SYSCALL(prctl, int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *process = thread->process;
    switch (option) {
    case PR_SET_NAME:
        return set_name(thread, (const char *)a);
    case PR_GET_NAME:
        return guest_write((void *)a, thread->name, sizeof thread->name);
    case PR_SET_PDEATHSIG:
        return set_flag(&process->pdeath_signal, a, LX_SIGNAL_COUNT);
    case PR_GET_PDEATHSIG:
        return report_int(a, process->pdeath_signal);
    case PR_SET_CHILD_SUBREAPER:
        process->child_subreaper = !!a;
        return 0;
    case PR_GET_CHILD_SUBREAPER:
        return report_int(a, process->child_subreaper);
    case PR_SET_DUMPABLE:
        return set_flag(&process->dumpable, a, 1);
    case PR_GET_DUMPABLE:
        return process->dumpable;
    case PR_GET_TIMERSLACK:
        return (long)(thread->timer_slack_ns ? thread->timer_slack_ns : 50000);
    case PR_SET_TIMERSLACK:
        thread->timer_slack_ns = a > 0 && a <= INT64_MAX ? a : thread->timer_slack_default_ns;
        return 0;
    case PR_SET_THP_DISABLE:
        return b || c || d ? -EINVAL : set_flag(&process->huge_pages_disabled, !!a, 1);
    case PR_GET_THP_DISABLE:
        return a || b || c || d ? -EINVAL : (long)process->huge_pages_disabled;
    case PR_GET_TID_ADDRESS:
        return guest_write((void *)a, &thread->clear_child_tid, sizeof thread->clear_child_tid);
    case PR_GET_SECCOMP:
        return 0; /* no filter of the program's own */
    case PR_GET_TIMING:
        return PR_TIMING_STATISTICAL;
    case PR_SET_TIMING:
        return a == PR_TIMING_STATISTICAL ? 0 : -EINVAL;
    case PR_GET_TSC:
        return report_int(a, PR_TSC_ENABLE);
    case PR_SET_TSC:
        return a == PR_TSC_ENABLE ? 0 : -EINVAL;
    case PR_TASK_PERF_EVENTS_DISABLE: case PR_TASK_PERF_EVENTS_ENABLE:
        return 0;
    case PR_MCE_KILL_GET:
        return PR_MCE_KILL_DEFAULT;
    case PR_GET_SPECULATION_CTRL:
        return b || c || d ? -EINVAL : a > PR_SPEC_INDIRECT_BRANCH ? -ENODEV : PR_SPEC_NOT_AFFECTED;
    case PR_SET_SPECULATION_CTRL:
        return d ? -EINVAL : a > PR_SPEC_INDIRECT_BRANCH ? -ENODEV : -ENXIO;
    case PR_SET_VMA:
        return a == PR_SET_VMA_ANON_NAME ? 0 : -EINVAL; /* names of anonymous memory are for people who read maps */
    case PR_SET_PTRACER:
        return 0;
    case PR_SET_MM:
        return -EPERM;
    case PR_GET_KEEPCAPS: case PR_SET_KEEPCAPS: case PR_CAPBSET_READ: case PR_CAPBSET_DROP: case PR_GET_SECUREBITS: case PR_SET_SECUREBITS:
    case PR_SET_NO_NEW_PRIVS: case PR_GET_NO_NEW_PRIVS: case PR_CAP_AMBIENT:
        return credentials_control(&process->credentials, option, a, b, c);
    default:
        return -EINVAL; /* PR_SET_SECCOMP among them: programs then run without a filter of their own, or refuse to */
    }
}

LX_SYSCALL(arch_prctl, int code, uint64_t address)
{
    uint64_t base = 0;
    switch (code) {
    case ARCH_SET_FS:
        if (address >= BLY_GUEST_MAX)
            return -EPERM;
        lx_current()->fs_base = address;
        return bly->segment_base_set(BLY_SEGMENT_FS, address);
    case ARCH_GET_FS:
        bly->segment_base_get(BLY_SEGMENT_FS, &base);
        return guest_write((void *)address, &base, sizeof base);
    case ARCH_SET_GS:
        return -EPERM; /* %gs is Bailey's own: docs/linux-support.md */
    case ARCH_GET_GS:
        return guest_write((void *)address, &base, sizeof base);
    case ARCH_GET_CPUID:
        return 1;
    case ARCH_SET_CPUID:
        return -ENODEV;
    default:
        return -EINVAL;
    }
}

LX_SYSCALL(personality, unsigned value)
{
    struct lx_process *process = lx_process();
    long old = (long)process->personality_flags;
    if (value != 0xffffffffu)
        process->personality_flags = value;
    return old;
}

/* ---- Limits ---------------------------------------------------------------------------------------------------- */

struct guest_limit { uint64_t soft, hard; };

static int change_limit(struct lx_process *process, unsigned resource, const struct guest_limit *new_limit, struct guest_limit *out_old)
{
    scoped_lock(&process->signals.lock);
    out_old->soft = process->limits[resource].soft;
    out_old->hard = process->limits[resource].hard;
    if (!new_limit)
        return 0;
    if (new_limit->soft > new_limit->hard)
        return -EINVAL;
    if (resource == RLIMIT_NOFILE && new_limit->hard > OPEN_FILES_MAX)
        return -EPERM;
    if (new_limit->hard > out_old->hard && !lx_capable(CAP_SYS_RESOURCE))
        return -EPERM;
    process->limits[resource].soft = new_limit->soft;
    process->limits[resource].hard = new_limit->hard;
    return 0;
}

/* prlimit(2): one's own, or with the same real, effective and saved ids, or as root. Table lock held. */
static bool may_limit(const struct lx_process *target)
{
    const struct lx_process *process = lx_process();
    const struct credentials *from = &process->credentials, *to = &target->credentials;
    bool same = from->uid == to->uid && from->uid == to->euid && from->uid == to->suid && from->gid == to->gid && from->gid == to->egid &&
                from->gid == to->sgid;
    return target == process || same || lx_capable(CAP_SYS_RESOURCE);
}

static long limit(int pid, unsigned resource, const struct guest_limit *guest_new, struct guest_limit *out_old)
{
    struct guest_limit new_limit, old;
    if (resource >= LIMIT_COUNT)
        return -EINVAL;
    if (guest_new && guest_read(&new_limit, guest_new, sizeof new_limit) < 0)
        return -EFAULT;
    struct lx_process *process = pid ? process_get(pid) : lx_process();
    if (!process) {
        lock_acquire(&process_table()->lock);
        struct lx_thread *thread = pid > 0 ? thread_find(pid) : NULL;
        process = thread ? thread->process : NULL;
        if (process)
            process->references++;
        lock_release(&process_table()->lock);
        if (!process)
            return -ESRCH;
    }
    lock_acquire(&process_table()->lock);
    int error = may_limit(process) ? 0 : -EPERM;
    lock_release(&process_table()->lock);
    if (!error)
        error = change_limit(process, resource, guest_new ? &new_limit : NULL, &old);
    if (!error && guest_new && resource == RLIMIT_CPU)
        process_cpu_limit_changed(process);
    if (pid)
        process_unref(process);
    if (error)
        return error;
    return out_old ? guest_write(out_old, &old, sizeof old) : 0;
}

LX_SYSCALL(prlimit64, int pid, unsigned resource, const struct guest_limit *new_limit, struct guest_limit *out_old)
{
    return limit(pid, resource, new_limit, out_old);
}

LX_SYSCALL(getrlimit, unsigned resource, struct guest_limit *out_limit)
{
    struct guest_limit old;
    if (resource >= LIMIT_COUNT)
        return -EINVAL;
    change_limit(lx_process(), resource, NULL, &old);
    return guest_write(out_limit, &old, sizeof old);
}

LX_SYSCALL(setrlimit, unsigned resource, const struct guest_limit *new_limit)
{
    return new_limit ? limit(0, resource, new_limit, NULL) : -EFAULT;
}

/* ---- Usage ----------------------------------------------------------------------------------------------------- */

static struct __kernel_old_timeval usage_time(uint64_t ns)
{
    return (struct __kernel_old_timeval){ .tv_sec = (long)(ns / 1000000000), .tv_usec = (long)(ns % 1000000000 / 1000) };
}

LX_SYSCALL(getrusage, int who, struct rusage *out_usage)
{
    struct lx_process *process = lx_process();
    struct rusage usage;
    uint64_t user = 0, system = 0;
    memset(&usage, 0, sizeof usage);
    switch (who) {
    case RUSAGE_SELF:
        process_cpu_times(process, &user, &system);
        break;
    case RUSAGE_THREAD:
        user = thread_cpu_ns(lx_current());
        break;
    case RUSAGE_CHILDREN:
        user = process->children_user_ns;
        system = process->children_system_ns;
        usage.ru_maxrss = (long)process->children_maxrss_kb;
        break;
    default:
        return -EINVAL;
    }
    if (who != RUSAGE_CHILDREN) {
        usage.ru_maxrss = (long)process_resident_kb(process);
        usage.ru_minflt = (long)process->minor_faults;
        usage.ru_nvcsw = lx_current()->base.sleep_count;
    }
    struct __kernel_old_timeval user_time = usage_time(user), system_time = usage_time(system);
    memcpy(&usage.ru_utime, &user_time, sizeof user_time);
    memcpy(&usage.ru_stime, &system_time, sizeof system_time);
    return guest_write(out_usage, &usage, sizeof usage);
}

uint64_t process_resident_kb(struct lx_process *process)
{
    /* The ABI does not tell what is resident; what is private and writable is the nearest it can know. */
    return process->mm ? (process->mm->data_bytes + process->mm->stack_bytes) / 1024 : 0;
}

enum { NS_PER_TICK = 10000000 };

LX_SYSCALL(times, struct tms *out_times)
{
    struct lx_process *process = lx_process();
    uint64_t user, system;
    process_cpu_times(process, &user, &system);
    struct tms times = {
        .tms_utime = (__kernel_clock_t)(user / NS_PER_TICK), .tms_stime = (__kernel_clock_t)(system / NS_PER_TICK),
        .tms_cutime = (__kernel_clock_t)(process->children_user_ns / NS_PER_TICK), .tms_cstime = (__kernel_clock_t)(process->children_system_ns / NS_PER_TICK),
    };
    if (out_times && guest_write(out_times, &times, sizeof times) < 0)
        return -EFAULT;
    return (long)(lx_monotonic_ns() / NS_PER_TICK);
}

/* ---- Comparing ------------------------------------------------------------------------------------------------- */

/* What two processes are compared by; NULL: the descriptor is bad. Table lock held. */
static const void *compared_object(struct lx_process *process, int type, uint64_t index)
{
    switch (type) {
    case KCMP_FILE: {
        struct fd_table *files = process->files;
        if (!files)
            return NULL;
        scoped_lock(&files->lock);
        return index < files->size ? files->entries[index].file : NULL;
    }
    case KCMP_VM: return process->mm;
    case KCMP_FILES: return process->files;
    case KCMP_FS: return process->fs;
    case KCMP_SIGHAND: return &process->signals;
    case KCMP_IO: return process;
    case KCMP_SYSVSEM: return process->sysv_undo;
    default: return NULL;
    }
}

LX_SYSCALL(kcmp, int pid1, int pid2, int type, uint64_t index1, uint64_t index2)
{
    if (type < 0 || type >= KCMP_TYPES || type == KCMP_EPOLL_TFD)
        return -EINVAL;
    scoped_lock(&process_table()->lock);
    struct lx_thread *one = thread_find(pid1), *two = thread_find(pid2);
    if (!one || !two)
        return -ESRCH;
    const void *a = compared_object(one->process, type, index1), *b = compared_object(two->process, type, index2);
    if (type == KCMP_FILE && (!a || !b))
        return -EBADF;
    return a == b ? 0 : a < b ? 1 : 2;
}

/* ---- Namespaces ------------------------------------------------------------------------------------------------ */

LX_SYSCALL(unshare, uint64_t flags)
{
    struct lx_process *process = lx_process();
    uint64_t known = CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                     CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWTIME;
    if (flags & ~known)
        return -EINVAL;
    if (flags & (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWTIME))
        return -EPERM;
    if ((flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) && process->thread_count > 1)
        return -EINVAL;
    /* Threads share files and directory context with their process here, so only what is shared with other processes is undone. */
    if ((flags & CLONE_FILES) && process->files->references > 1) {
        struct fd_table *copy = fd_table_copy(process->files), *old = process->files;
        if (!copy)
            return -ENOMEM;
        process->files = copy;
        fd_table_unref(old);
    }
    if ((flags & CLONE_FS) && process->fs->references > 1) {
        struct filesystem_context *copy = filesystem_context_copy(process->fs), *old = process->fs;
        if (!copy)
            return -ENOMEM;
        process->fs = copy;
        filesystem_context_unref(old);
    }
    return 0;
}

LX_SYSCALL(setns, int fd, int type)
{
    scoped_file file = fd_get(fd);
    return file ? -EPERM : -EBADF;
}
