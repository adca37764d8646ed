/* The machine as programs see it: its name, its size, its randomness; and what a sandbox refuses. */
#include "personality/linux/process/lifecycle.h"

#include <linux/random.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>

enum { CAP_SYS_ADMIN = 21, PERSONALITY_LINUX32 = 8, RANDOM_CHUNK = 256 };

/* ---- Name ------------------------------------------------------------------------------------------------------ */

LX_SYSCALL(uname, struct new_utsname *out_name)
{
    struct new_utsname name;
    memset(&name, 0, sizeof name);
    format(name.sysname, sizeof name.sysname, "Linux");
    format(name.release, sizeof name.release, "%s", LX_KERNEL_RELEASE);
    format(name.version, sizeof name.version, "%s", LX_KERNEL_VERSION);
    format(name.machine, sizeof name.machine, (lx_process()->personality_flags & 0xff) == PERSONALITY_LINUX32 ? "i686" : "x86_64");
    lock_acquire(&process_table()->lock);
    memcpy(name.nodename, lx_kernel->host_name, sizeof name.nodename);
    format(name.domainname, sizeof name.domainname, "%s", lx_kernel->domain_name[0] ? lx_kernel->domain_name : "(none)");
    lock_release(&process_table()->lock);
    return guest_write(out_name, &name, sizeof name);
}

static long set_name(char *to, const char *guest_name, int size)
{
    char name[65] = { 0 };
    if (!lx_capable(CAP_SYS_ADMIN))
        return -EPERM;
    if (size < 0 || size > 64)
        return -EINVAL;
    if (guest_read(name, guest_name, (size_t)size) < 0)
        return -EFAULT;
    scoped_lock(&process_table()->lock);
    memcpy(to, name, sizeof name);
    return 0;
}

LX_SYSCALL(sethostname, const char *guest_name, int size)
{
    return set_name(lx_kernel->host_name, guest_name, size);
}

LX_SYSCALL(setdomainname, const char *guest_name, int size)
{
    return set_name(lx_kernel->domain_name, guest_name, size);
}

/* ---- Size ------------------------------------------------------------------------------------------------------ */

LX_SYSCALL(sysinfo, struct sysinfo *out_info)
{
    struct bly_system_info system;
    struct heap_usage usage;
    struct sysinfo info;
    int error = bly->system_query(&system);
    if (error < 0)
        return error;
    heap_usage(&usage);
    uint64_t used = usage.heap_bytes + usage.bulk_bytes + usage.private_bytes;
    uint64_t left = system.memory_limit > used ? system.memory_limit - used : 0;
    memset(&info, 0, sizeof info);
    info.uptime = (__kernel_long_t)((lx_monotonic_ns() - start_info->boot_time_ns) / 1000000000);
    for (int i = 0; i < 3; i++)
        info.loads[i] = (__kernel_ulong_t)system.load_average[i];
    info.totalram = system.memory_limit;
    info.freeram = system.memory_free && system.memory_free < left ? system.memory_free : left;
    info.procs = (uint16_t)process_table()->thread_count;
    info.mem_unit = 1;
    return guest_write(out_info, &info, sizeof info);
}

/* ---- Randomness ------------------------------------------------------------------------------------------------ */

LX_SYSCALL(getrandom, char *guest_buffer, size_t size, unsigned flags)
{
    unsigned char chunk[RANDOM_CHUNK];
    if ((flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE)) || (flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE))
        return -EINVAL;
    if (size > INT32_MAX)
        size = INT32_MAX;
    size_t done = 0;
    while (done < size) {
        size_t count = size - done < sizeof chunk ? size - done : sizeof chunk;
        if (bly->random_read(chunk, count) < 0)
            return done ? (long)done : -EIO;
        size_t copied = guest_write_some(guest_buffer + done, chunk, count);
        done += copied;
        if (copied < count)
            return done ? (long)done : -EFAULT;
        /* random(7): at least 256 bytes come in one piece, longer reads may be cut by a signal. */
        if (done < size && signal_pending())
            break;
    }
    memset(chunk, 0, sizeof chunk);
    return (long)done;
}

/* ---- What is the host's ---------------------------------------------------------------------------------------- */

/* syslog(2): there is no kernel log inside; it is always empty. */
LX_SYSCALL(syslog, int type, char *guest_buffer, int size)
{
    enum { CLOSE, OPEN, READ, READ_ALL, READ_CLEAR, CLEAR, CONSOLE_OFF, CONSOLE_ON, CONSOLE_LEVEL, SIZE_UNREAD, SIZE_BUFFER };
    if (type < CLOSE || type > SIZE_BUFFER)
        return -EINVAL;
    if (type != READ_ALL && type != SIZE_BUFFER && !lx_capable(CAP_SYS_ADMIN))
        return -EPERM;
    switch (type) {
    case READ: case READ_ALL: case READ_CLEAR:
        return !guest_buffer || size < 0 ? -EINVAL : 0;
    case CONSOLE_LEVEL:
        return size < 1 || size > 8 ? -EINVAL : 0;
    case SIZE_BUFFER:
        return 1 << 14;
    default:
        return 0;
    }
}

LX_SYSCALL(seccomp, unsigned operation, unsigned flags, void *guest_arguments)
{
    return -EINVAL; /* as a kernel built without filters: programs either do without or say so */
}

LX_SYSCALL(reboot, unsigned magic1, unsigned magic2, unsigned command, void *argument)
{
    return -EPERM;
}

LX_SYSCALL(acct, const char *name)
{
    return -EPERM;
}

LX_SYSCALL(swapon, const char *name, int flags)
{
    return -EPERM;
}

LX_SYSCALL(swapoff, const char *name)
{
    return -EPERM;
}

LX_SYSCALL(vhangup, void)
{
    return -EPERM;
}

LX_SYSCALL(iopl, unsigned level)
{
    return level > 3 ? -EINVAL : -EPERM;
}

LX_SYSCALL(ioperm, unsigned long from, unsigned long count, int on)
{
    return from + count <= from || from + count > 65536 ? -EINVAL : on ? -EPERM : 0;
}

LX_SYSCALL(init_module, void *image, unsigned long size, const char *parameters)
{
    return -EPERM;
}

LX_SYSCALL(finit_module, int fd, const char *parameters, int flags)
{
    return -EPERM;
}

LX_SYSCALL(delete_module, const char *name, unsigned flags)
{
    return -EPERM;
}
