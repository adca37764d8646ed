/* Users, groups and capabilities. Root in the sandbox is root over what the sandbox has; nothing here reaches the host.
 *
 * Credentials are the process's (C libraries keep threads equal) and guarded by the table's lock: signals and prlimit look at those of
 * others. */
#include "personality/linux/process/lifecycle.h"

#include <linux/capability.h>
#include <linux/securebits.h>

#define UNCHANGED 0xffffffffu

bool lx_capable(int capability)
{
    return lx_process()->credentials.cap_effective >> capability & 1;
}

/* capabilities(7), "Effect of user ID changes on capabilities". */
static void adjust_capabilities(struct credentials *now, const struct credentials *old)
{
    bool was_root = !old->uid || !old->euid || !old->suid, is_root = !now->uid || !now->euid || !now->suid;
    if (now->securebits & SECBIT_NO_SETUID_FIXUP)
        return;
    if (was_root && !is_root) {
        if (!(now->securebits & SECBIT_KEEP_CAPS))
            now->cap_permitted = now->cap_effective = 0;
        now->cap_ambient = 0;
    }
    if (!old->euid && now->euid)
        now->cap_effective = 0;
    if (old->euid && !now->euid)
        now->cap_effective = now->cap_permitted;
}

static void commit_users(struct lx_process *process, struct credentials *now)
{
    struct credentials *old = &process->credentials;
    now->fsuid = now->euid;
    adjust_capabilities(now, old);
    if (old->euid != now->euid || old->fsuid != now->fsuid)
        process->pdeath_signal = 0; /* prctl(2), PR_SET_PDEATHSIG */
    process->credentials = *now;
}

static void commit_groups(struct lx_process *process, struct credentials *now)
{
    now->fsgid = now->egid;
    if (process->credentials.egid != now->egid)
        process->pdeath_signal = 0;
    process->credentials = *now;
}

static bool is_one_of(uint32_t id, uint32_t a, uint32_t b, uint32_t c)
{
    return id == a || id == b || id == c;
}

/* ---- Users ----------------------------------------------------------------------------------------------------- */

LX_SYSCALL(getuid, void)
{
    return lx_process()->credentials.uid;
}

LX_SYSCALL(geteuid, void)
{
    return lx_process()->credentials.euid;
}

LX_SYSCALL(getgid, void)
{
    return lx_process()->credentials.gid;
}

LX_SYSCALL(getegid, void)
{
    return lx_process()->credentials.egid;
}

LX_SYSCALL(setuid, uint32_t uid)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    if (uid == UNCHANGED)
        return -EINVAL;
    if (lx_capable(CAP_SETUID))
        now.uid = now.suid = uid;
    else if (uid != now.uid && uid != now.suid)
        return -EPERM;
    now.euid = uid;
    commit_users(process, &now);
    return 0;
}

LX_SYSCALL(setreuid, uint32_t real, uint32_t effective)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    bool free = lx_capable(CAP_SETUID);
    if (real != UNCHANGED && real != now.uid && real != now.euid && !free)
        return -EPERM;
    if (effective != UNCHANGED && !is_one_of(effective, now.uid, now.euid, now.suid) && !free)
        return -EPERM;
    uint32_t old_real = now.uid;
    if (real != UNCHANGED)
        now.uid = real;
    if (effective != UNCHANGED)
        now.euid = effective;
    if (real != UNCHANGED || (effective != UNCHANGED && effective != old_real))
        now.suid = now.euid;
    commit_users(process, &now);
    return 0;
}

LX_SYSCALL(setresuid, uint32_t real, uint32_t effective, uint32_t saved)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    uint32_t wanted[] = { real, effective, saved };
    for (int i = 0; i < 3; i++) {
        if (wanted[i] != UNCHANGED && !is_one_of(wanted[i], now.uid, now.euid, now.suid) && !lx_capable(CAP_SETUID))
            return -EPERM;
    }
    if (real != UNCHANGED)
        now.uid = real;
    if (effective != UNCHANGED)
        now.euid = effective;
    if (saved != UNCHANGED)
        now.suid = saved;
    commit_users(process, &now);
    return 0;
}

static long report_three(uint32_t *out_a, uint32_t a, uint32_t *out_b, uint32_t b, uint32_t *out_c, uint32_t c)
{
    if (guest_store32(out_a, a) < 0 || guest_store32(out_b, b) < 0 || guest_store32(out_c, c) < 0)
        return -EFAULT;
    return 0;
}

LX_SYSCALL(getresuid, uint32_t *out_real, uint32_t *out_effective, uint32_t *out_saved)
{
    const struct credentials *now = &lx_process()->credentials;
    return report_three(out_real, now->uid, out_effective, now->euid, out_saved, now->suid);
}

LX_SYSCALL(setfsuid, uint32_t uid)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials *now = &process->credentials;
    uint32_t old = now->fsuid;
    /* setfsuid(2): no error is ever told. */
    if (uid != UNCHANGED && (uid == old || is_one_of(uid, now->uid, now->euid, now->suid) || lx_capable(CAP_SETUID)))
        now->fsuid = uid;
    return old;
}

/* ---- Groups ---------------------------------------------------------------------------------------------------- */

LX_SYSCALL(setgid, uint32_t gid)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    if (gid == UNCHANGED)
        return -EINVAL;
    if (lx_capable(CAP_SETGID))
        now.gid = now.sgid = gid;
    else if (gid != now.gid && gid != now.sgid)
        return -EPERM;
    now.egid = gid;
    commit_groups(process, &now);
    return 0;
}

LX_SYSCALL(setregid, uint32_t real, uint32_t effective)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    bool free = lx_capable(CAP_SETGID);
    if (real != UNCHANGED && real != now.gid && real != now.egid && !free)
        return -EPERM;
    if (effective != UNCHANGED && !is_one_of(effective, now.gid, now.egid, now.sgid) && !free)
        return -EPERM;
    uint32_t old_real = now.gid;
    if (real != UNCHANGED)
        now.gid = real;
    if (effective != UNCHANGED)
        now.egid = effective;
    if (real != UNCHANGED || (effective != UNCHANGED && effective != old_real))
        now.sgid = now.egid;
    commit_groups(process, &now);
    return 0;
}

LX_SYSCALL(setresgid, uint32_t real, uint32_t effective, uint32_t saved)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials now = process->credentials;
    uint32_t wanted[] = { real, effective, saved };
    for (int i = 0; i < 3; i++) {
        if (wanted[i] != UNCHANGED && !is_one_of(wanted[i], now.gid, now.egid, now.sgid) && !lx_capable(CAP_SETGID))
            return -EPERM;
    }
    if (real != UNCHANGED)
        now.gid = real;
    if (effective != UNCHANGED)
        now.egid = effective;
    if (saved != UNCHANGED)
        now.sgid = saved;
    commit_groups(process, &now);
    return 0;
}

LX_SYSCALL(getresgid, uint32_t *out_real, uint32_t *out_effective, uint32_t *out_saved)
{
    const struct credentials *now = &lx_process()->credentials;
    return report_three(out_real, now->gid, out_effective, now->egid, out_saved, now->sgid);
}

LX_SYSCALL(setfsgid, uint32_t gid)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials *now = &process->credentials;
    uint32_t old = now->fsgid;
    if (gid != UNCHANGED && (gid == old || is_one_of(gid, now->gid, now->egid, now->sgid) || lx_capable(CAP_SETGID)))
        now->fsgid = gid;
    return old;
}

LX_SYSCALL(getgroups, int count, uint32_t *out_groups)
{
    const struct credentials *now = &lx_process()->credentials;
    if (count < 0)
        return -EINVAL;
    if (count == 0)
        return now->group_count;
    if ((uint32_t)count < now->group_count)
        return -EINVAL;
    if (guest_write(out_groups, now->groups, now->group_count * sizeof(uint32_t)) < 0)
        return -EFAULT;
    return now->group_count;
}

LX_SYSCALL(setgroups, uint32_t count, const uint32_t *guest_groups)
{
    struct lx_process *process = lx_process();
    uint32_t groups[sizeof process->credentials.groups / sizeof(uint32_t)];
    if (!lx_capable(CAP_SETGID))
        return -EPERM;
    if (count > sizeof groups / sizeof groups[0])
        return -EINVAL;
    if (guest_read(groups, guest_groups, count * sizeof(uint32_t)) < 0)
        return -EFAULT;
    scoped_lock(&process_table()->lock);
    memcpy(process->credentials.groups, groups, count * sizeof(uint32_t));
    process->credentials.group_count = count;
    return 0;
}

/* ---- Capabilities ---------------------------------------------------------------------------------------------- */

/* How many 32-bit halves a version of the interface has; 0: not known, and the version that is has been written back. */
static int capability_halves(struct __user_cap_header_struct *header, struct __user_cap_header_struct *guest_header)
{
    switch (header->version) {
    case _LINUX_CAPABILITY_VERSION_1:
        return 1;
    case _LINUX_CAPABILITY_VERSION_2: case _LINUX_CAPABILITY_VERSION_3:
        return 2;
    default:
        header->version = _LINUX_CAPABILITY_VERSION_3;
        return guest_write(guest_header, header, sizeof *header) < 0 ? -EFAULT : 0;
    }
}

LX_SYSCALL(capget, struct __user_cap_header_struct *guest_header, struct __user_cap_data_struct *out_data)
{
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct data[2];
    if (guest_read(&header, guest_header, sizeof header) < 0)
        return -EFAULT;
    int halves = capability_halves(&header, guest_header);
    if (halves <= 0)
        return halves ? halves : out_data ? -EINVAL : 0;
    if (header.pid < 0)
        return -EINVAL;
    lock_acquire(&process_table()->lock);
    struct lx_thread *thread = header.pid ? thread_find(header.pid) : lx_current();
    for (int i = 0; thread && i < halves; i++) {
        const struct credentials *now = &thread->process->credentials;
        data[i].effective = (uint32_t)(now->cap_effective >> 32 * i);
        data[i].permitted = (uint32_t)(now->cap_permitted >> 32 * i);
        data[i].inheritable = (uint32_t)(now->cap_inheritable >> 32 * i);
    }
    lock_release(&process_table()->lock);
    if (!thread)
        return -ESRCH;
    return out_data ? guest_write(out_data, data, sizeof data[0] * (size_t)halves) : 0;
}

LX_SYSCALL(capset, struct __user_cap_header_struct *guest_header, const struct __user_cap_data_struct *guest_data)
{
    struct lx_process *process = lx_process();
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct data[2] = { 0 };
    if (guest_read(&header, guest_header, sizeof header) < 0)
        return -EFAULT;
    int halves = capability_halves(&header, guest_header);
    if (halves <= 0)
        return halves ? halves : -EINVAL;
    if (header.pid && header.pid != lx_current()->tid && header.pid != process->pid)
        return -EPERM;
    if (guest_read(data, guest_data, sizeof data[0] * (size_t)halves) < 0)
        return -EFAULT;
    uint64_t all = (1ull << (CAP_LAST_CAP + 1)) - 1;
    uint64_t effective = ((uint64_t)data[1].effective << 32 | data[0].effective) & all;
    uint64_t permitted = ((uint64_t)data[1].permitted << 32 | data[0].permitted) & all;
    uint64_t inheritable = ((uint64_t)data[1].inheritable << 32 | data[0].inheritable) & all;
    scoped_lock(&process_table()->lock);
    struct credentials *now = &process->credentials;
    /* capabilities(7), "Programmatically adjusting capability sets". */
    if (!lx_capable(CAP_SETPCAP) && (inheritable & ~(now->cap_inheritable | now->cap_permitted)))
        return -EPERM;
    if ((inheritable & ~(now->cap_inheritable | now->cap_bounding)) || (permitted & ~now->cap_permitted) || (effective & ~permitted))
        return -EPERM;
    now->cap_effective = effective;
    now->cap_permitted = permitted;
    now->cap_inheritable = inheritable;
    now->cap_ambient &= permitted & inheritable;
    return 0;
}

void credentials_exec(int64_t set_user, int64_t set_group)
{
    struct lx_process *process = lx_process();
    scoped_lock(&process_table()->lock);
    struct credentials *now = &process->credentials;
    bool privileged = false;
    if (!now->no_new_privs) {
        privileged = (set_user >= 0 && (uint32_t)set_user != now->euid) || (set_group >= 0 && (uint32_t)set_group != now->egid);
        if (set_user >= 0)
            now->euid = (uint32_t)set_user;
        if (set_group >= 0)
            now->egid = (uint32_t)set_group;
    }
    now->suid = now->fsuid = now->euid;
    now->sgid = now->fsgid = now->egid;
    /* capabilities(7), "Transformation of capabilities during execve()", for files without capabilities of their own. */
    bool root = !(now->securebits & SECBIT_NOROOT) && (!now->uid || !now->euid);
    if (privileged)
        now->cap_ambient = 0;
    if (root) {
        now->cap_permitted = now->cap_inheritable | now->cap_bounding;
        now->cap_effective = now->euid ? now->cap_ambient : now->cap_permitted;
    } else {
        now->cap_permitted = now->cap_effective = now->cap_ambient;
    }
    now->securebits &= ~(uint32_t)SECBIT_KEEP_CAPS;
    process->dumpable = !privileged;
}
