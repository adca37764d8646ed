/* Scheduling: CPUs by the host, priorities recorded only. The host shares its CPUs out between sandboxes; what a program asks for
 * inside is kept and told, so that programs that set and check it work. */
#include "personality/linux/process/lifecycle.h"

#include <linux/ioprio.h>
#include <linux/resource.h>
#include <linux/sched/types.h>
#include <linux/time_types.h>

enum { CAP_SYS_NICE = 23, PRIORITY_MAX = 99, CPU_MASK_MAX = 1024 };

/* ---- CPUs ------------------------------------------------------------------------------------------------------ */

/* The host's id of a thread that the caller may schedule; 0 and *out_error otherwise. */
static uint32_t host_thread_of(int tid, int *out_error)
{
    *out_error = 0;
    scoped_lock(&process_table()->lock);
    struct lx_thread *thread = tid ? thread_find(tid) : lx_current();
    if (!thread || !thread->base.thread_id)
        *out_error = -ESRCH;
    return thread ? thread->base.thread_id : 0;
}

static bool may_schedule(int tid)
{
    scoped_lock(&process_table()->lock);
    const struct lx_thread *thread = tid ? thread_find(tid) : lx_current();
    const struct credentials *own = &lx_process()->credentials;
    if (!thread)
        return true; /* -ESRCH is told by others */
    const struct credentials *other = &thread->process->credentials;
    return own->euid == other->uid || own->euid == other->euid || lx_capable(CAP_SYS_NICE);
}

LX_SYSCALL(sched_setaffinity, int tid, unsigned size, const void *guest_mask)
{
    unsigned char mask[CPU_MASK_MAX] = { 0 };
    int error;
    if (guest_read(mask, guest_mask, size < sizeof mask ? size : sizeof mask) < 0)
        return -EFAULT;
    uint32_t thread = host_thread_of(tid, &error);
    if (error)
        return error;
    if (!may_schedule(tid))
        return -EPERM;
    return bly->thread_set_affinity(thread, mask, sizeof mask);
}

LX_SYSCALL(sched_getaffinity, int tid, unsigned size, void *out_mask)
{
    unsigned char mask[CPU_MASK_MAX] = { 0 };
    int error;
    if (size == 0 || size % sizeof(uint64_t))
        return -EINVAL;
    uint32_t thread = host_thread_of(tid, &error);
    if (error)
        return error;
    int count = bly->thread_get_affinity(thread, mask, size < sizeof mask ? size : sizeof mask);
    if (count < 0)
        return count;
    if (count == 0)
        count = sizeof(uint64_t);
    return guest_write(out_mask, mask, (size_t)count) < 0 ? -EFAULT : count;
}

LX_SYSCALL(getcpu, uint32_t *out_cpu, uint32_t *out_node, void *unused)
{
    if (out_cpu && guest_store32(out_cpu, bly->thread_current_cpu()) < 0)
        return -EFAULT;
    return out_node ? guest_store32(out_node, 0) : 0;
}

LX_SYSCALL(sched_yield, void)
{
    bly->thread_yield();
    return 0;
}

/* ---- Policies -------------------------------------------------------------------------------------------------- */

static bool policy_is_realtime(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }
static bool policy_is_known(int policy)
{
    return policy == SCHED_NORMAL || policy_is_realtime(policy) || policy == SCHED_BATCH || policy == SCHED_IDLE;
}

/* With the table's lock held: the process of a thread id, 0 meaning the caller's. */
static struct lx_process *process_of(int tid)
{
    struct lx_thread *thread = tid ? thread_find(tid) : lx_current();
    return thread ? thread->process : NULL;
}

static long set_policy(int tid, int policy, int priority, bool reset_on_fork)
{
    if (tid < 0 || !policy_is_known(policy))
        return -EINVAL;
    if (policy_is_realtime(policy) ? priority < 1 || priority > PRIORITY_MAX : priority != 0)
        return -EINVAL;
    if (!may_schedule(tid))
        return -EPERM;
    scoped_lock(&process_table()->lock);
    struct lx_process *process = process_of(tid);
    if (!process)
        return -ESRCH;
    if (policy_is_realtime(policy) && !lx_capable(CAP_SYS_NICE) && (uint64_t)priority > process->limits[RLIMIT_RTPRIO].soft)
        return -EPERM;
    process->scheduler_policy = (uint32_t)policy | (reset_on_fork ? SCHED_RESET_ON_FORK : 0);
    process->scheduler_priority = (uint32_t)priority;
    return 0;
}

LX_SYSCALL(sched_setscheduler, int tid, int policy, const int *guest_priority)
{
    uint32_t priority;
    if (!guest_priority || policy < 0)
        return -EINVAL;
    if (guest_load32(&priority, (const uint32_t *)guest_priority) < 0)
        return -EFAULT;
    return set_policy(tid, policy & ~SCHED_RESET_ON_FORK, (int)priority, policy & SCHED_RESET_ON_FORK);
}

/* Policy and priority of a thread; a negative errno as policy. */
static int get_policy(int tid, uint32_t *out_priority, int32_t *out_nice)
{
    if (tid < 0)
        return -EINVAL;
    scoped_lock(&process_table()->lock);
    struct lx_process *process = process_of(tid);
    if (!process)
        return -ESRCH;
    *out_priority = process->scheduler_priority;
    *out_nice = process->nice;
    return (int)process->scheduler_policy;
}

LX_SYSCALL(sched_getscheduler, int tid)
{
    uint32_t priority;
    int32_t nice;
    return get_policy(tid, &priority, &nice);
}

LX_SYSCALL(sched_setparam, int tid, const int *guest_priority)
{
    uint32_t priority, old;
    int32_t nice;
    if (!guest_priority)
        return -EINVAL;
    if (guest_load32(&priority, (const uint32_t *)guest_priority) < 0)
        return -EFAULT;
    int policy = get_policy(tid, &old, &nice);
    return policy < 0 ? policy : set_policy(tid, policy & ~SCHED_RESET_ON_FORK, (int)priority, policy & SCHED_RESET_ON_FORK);
}

LX_SYSCALL(sched_getparam, int tid, uint32_t *out_priority)
{
    uint32_t priority;
    int32_t nice;
    if (!out_priority)
        return -EINVAL;
    int policy = get_policy(tid, &priority, &nice);
    return policy < 0 ? policy : guest_store32(out_priority, priority);
}

LX_SYSCALL(sched_setattr, int tid, struct sched_attr *guest_attributes, unsigned flags)
{
    struct sched_attr attributes = { 0 };
    uint32_t size;
    if (!guest_attributes || tid < 0 || flags)
        return -EINVAL;
    if (guest_load32(&size, &guest_attributes->size) < 0)
        return -EFAULT;
    if (!size)
        size = SCHED_ATTR_SIZE_VER0;
    if (size < SCHED_ATTR_SIZE_VER0 || size > BLY_PAGE_SIZE) {
        int ignored = guest_store32(&guest_attributes->size, sizeof attributes);
        (void)ignored;
        return -E2BIG;
    }
    if (guest_read(&attributes, guest_attributes, size < sizeof attributes ? size : sizeof attributes) < 0)
        return -EFAULT;
    if (attributes.sched_nice < -20 || attributes.sched_nice > 19)
        attributes.sched_nice = attributes.sched_nice < 0 ? -20 : 19;
    long result = set_policy(tid, (int)attributes.sched_policy, (int)attributes.sched_priority, attributes.sched_flags & SCHED_FLAG_RESET_ON_FORK);
    if (result == 0 && !policy_is_realtime((int)attributes.sched_policy)) {
        scoped_lock(&process_table()->lock);
        struct lx_process *process = process_of(tid);
        if (process)
            process->nice = attributes.sched_nice;
    }
    return result;
}

LX_SYSCALL(sched_getattr, int tid, struct sched_attr *out_attributes, unsigned size, unsigned flags)
{
    struct sched_attr attributes = { 0 };
    if (!out_attributes || flags || size < SCHED_ATTR_SIZE_VER0 || size > BLY_PAGE_SIZE)
        return -EINVAL;
    int32_t nice;
    int policy = get_policy(tid, &attributes.sched_priority, &nice);
    if (policy < 0)
        return policy;
    attributes.size = size < sizeof attributes ? size : sizeof attributes;
    attributes.sched_policy = (uint32_t)policy & ~SCHED_RESET_ON_FORK;
    attributes.sched_flags = policy & SCHED_RESET_ON_FORK ? SCHED_FLAG_RESET_ON_FORK : 0;
    attributes.sched_nice = nice;
    attributes.sched_util_max = 1024;
    return guest_write(out_attributes, &attributes, attributes.size);
}

LX_SYSCALL(sched_get_priority_max, int policy)
{
    return policy_is_realtime(policy) ? PRIORITY_MAX : policy_is_known(policy) || policy == SCHED_DEADLINE ? 0 : -EINVAL;
}

LX_SYSCALL(sched_get_priority_min, int policy)
{
    return policy_is_realtime(policy) ? 1 : policy_is_known(policy) || policy == SCHED_DEADLINE ? 0 : -EINVAL;
}

LX_SYSCALL(sched_rr_get_interval, int tid, struct __kernel_timespec *out_interval)
{
    uint32_t priority;
    int32_t nice;
    int policy = get_policy(tid, &priority, &nice);
    if (policy < 0)
        return policy;
    policy &= ~SCHED_RESET_ON_FORK;
    struct __kernel_timespec interval = { .tv_nsec = policy == SCHED_RR ? 100000000 : policy == SCHED_FIFO ? 0 : 4000000 };
    return guest_write(out_interval, &interval, sizeof interval);
}

/* ---- Niceness -------------------------------------------------------------------------------------------------- */

static bool priority_selects(const struct lx_process *process, int which, int who)
{
    if (process->state == PROCESS_ZOMBIE)
        return false;
    switch (which) {
    case PRIO_PROCESS: return process->pid == who;
    case PRIO_PGRP: return process->group_id == who;
    default: return process->credentials.uid == (uint32_t)who;
    }
}

static int default_subject(int which)
{
    const struct lx_process *process = lx_process();
    return which == PRIO_PROCESS ? process->pid : which == PRIO_PGRP ? process->group_id : (int)process->credentials.uid;
}

static int change_nice(struct lx_process *process, int nice)
{
    const struct credentials *own = &lx_process()->credentials;
    if (process->credentials.uid != own->euid && process->credentials.euid != own->euid && !lx_capable(CAP_SYS_NICE))
        return -EPERM;
    /* getrlimit(2), RLIMIT_NICE: the lowest niceness allowed is 20 minus the limit. */
    if (nice < process->nice && !lx_capable(CAP_SYS_NICE) && 20 - (int64_t)process->limits[RLIMIT_NICE].soft > nice)
        return -EACCES;
    process->nice = nice;
    return 0;
}

LX_SYSCALL(setpriority, int which, int who, int nice)
{
    if (which < PRIO_PROCESS || which > PRIO_USER)
        return -EINVAL;
    nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    if (!who)
        who = default_subject(which);
    int result = -ESRCH;
    scoped_lock(&process_table()->lock);
    struct lx_thread *thread = which == PRIO_PROCESS ? thread_find(who) : NULL;
    if (thread)
        return change_nice(thread->process, nice);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (!priority_selects(process, which, who))
            continue;
        int error = change_nice(process, nice);
        result = result == -ESRCH || error ? error : result;
    }
    return result;
}

LX_SYSCALL(getpriority, int which, int who)
{
    if (which < PRIO_PROCESS || which > PRIO_USER)
        return -EINVAL;
    if (!who)
        who = default_subject(which);
    long result = -ESRCH;
    scoped_lock(&process_table()->lock);
    struct lx_thread *thread = which == PRIO_PROCESS ? thread_find(who) : NULL;
    if (thread)
        return 20 - thread->process->nice;
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (priority_selects(process, which, who) && 20 - process->nice > result)
            result = 20 - process->nice;
    }
    return result;
}

/* ---- I/O priorities -------------------------------------------------------------------------------------------- */

LX_SYSCALL(ioprio_set, int which, int who, int priority)
{
    int class = priority >> IOPRIO_CLASS_SHIFT, level = priority & ((1 << IOPRIO_CLASS_SHIFT) - 1);
    if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER || class < IOPRIO_CLASS_NONE || class > IOPRIO_CLASS_IDLE)
        return -EINVAL;
    if ((class == IOPRIO_CLASS_NONE && level) || ((class == IOPRIO_CLASS_BE || class == IOPRIO_CLASS_RT) && level > 7))
        return -EINVAL;
    if (class == IOPRIO_CLASS_RT && !lx_capable(CAP_SYS_NICE))
        return -EPERM;
    if (!who)
        who = default_subject(which - 1);
    int result = -ESRCH;
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (priority_selects(process, which - 1, who)) {
            process->io_priority = priority;
            result = 0;
        }
    }
    return result;
}

LX_SYSCALL(ioprio_get, int which, int who)
{
    if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER)
        return -EINVAL;
    if (!who)
        who = default_subject(which - 1);
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (priority_selects(process, which - 1, who))
            return process->io_priority;
    }
    return -ESRCH;
}
