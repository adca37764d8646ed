/* Confinement. The wall is the list of system calls: none of them opens, connects, executes or
 * makes a process; what has a name is out of reach whatever else fails. Landlock and the limits
 * stand behind it. */
#include "image/confined.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534u

/* Whatever their arguments are. */
static const unsigned short calls[] = {
    SYS_read,           SYS_write,           SYS_pwrite64,  SYS_pread64,    SYS_recvfrom,
    SYS_sendto,         SYS_recvmsg,         SYS_sendmsg,   SYS_poll,       SYS_ppoll,
    SYS_close,          SYS_shutdown,        SYS_munmap,    SYS_mremap,     SYS_brk,
    SYS_madvise,        SYS_futex,           SYS_getrandom, SYS_getpid,     SYS_gettid,
    SYS_clock_gettime,  SYS_gettimeofday,    SYS_exit,      SYS_exit_group, SYS_rt_sigreturn,
    SYS_rt_sigprocmask, SYS_restart_syscall, SYS_fstat,     SYS_lseek,      SYS_sched_yield,
};
/* Memory that is never executed. */
static const unsigned short memory_calls[] = {SYS_mmap, SYS_mprotect};

#define CALL_COUNT (sizeof(calls) / sizeof(calls[0]))
#define MEMORY_COUNT (sizeof(memory_calls) / sizeof(memory_calls[0]))

static struct sock_filter load(size_t offset)
{
    return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

static struct sock_filter answer(uint32_t value)
{
    return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value);
}

static int filter_calls(void)
{
    struct sock_filter program[3 + CALL_COUNT + MEMORY_COUNT + 8];
    unsigned short size = 0;
    program[size++] = load(offsetof(struct seccomp_data, arch));
    program[size++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    program[size++] = answer(SECCOMP_RET_KILL_PROCESS);
    program[size++] = load(offsetof(struct seccomp_data, nr));
    size_t left = CALL_COUNT + MEMORY_COUNT;
    for (size_t i = 0; i < MEMORY_COUNT; i++, left--) /* to the look at their rights */
        program[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, memory_calls[i],
                                                       (uint8_t)(left + 1), 0);
    for (size_t i = 0; i < CALL_COUNT; i++, left--) /* to "allowed" */
        program[size++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (uint8_t)left, 0);
    program[size++] = answer(SECCOMP_RET_ERRNO | EPERM);
    program[size++] = answer(SECCOMP_RET_ALLOW);
    program[size++] = load(offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t));
    program[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
    program[size++] = answer(SECCOMP_RET_ERRNO | EPERM);
    program[size++] = answer(SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = size, .filter = program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? -errno : 0;
}

static void close_others(const int *keep, size_t count)
{
    int next = 0;
    for (;;) {
        int lowest = -1;
        for (size_t i = 0; i < count; i++)
            if (keep[i] >= next && (lowest < 0 || keep[i] < lowest))
                lowest = keep[i];
        if (lowest < 0)
            break;
        if (lowest > next)
            syscall(SYS_close_range, next, lowest - 1, 0);
        next = lowest + 1;
    }
    syscall(SYS_close_range, next, ~0u, 0);
}

/* Every right that this kernel's Landlock knows of, by its version; nothing is allowed. */
static void restrict_files(void)
{
    static const uint64_t files[] = {0,
                                     (1ull << 13) - 1,
                                     (1ull << 14) - 1,
                                     (1ull << 15) - 1,
                                     (1ull << 15) - 1,
                                     (1ull << 16) - 1};
    struct { /* struct landlock_ruleset_attr as of version 6, which older headers lack */
        uint64_t files, network, scoped;
    } rules;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return;
    rules.files = files[version < 5 ? version : 5];
    rules.network = version >= 4 ? 3 : 0;
    rules.scoped = version >= 6 ? 3 : 0;
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int set = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (set < 0)
        return;
    syscall(SYS_landlock_restrict_self, set, 0);
    close(set);
}

static bool drop_root(void)
{
    return geteuid() != 0 || (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
                              setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

int img_confine(const int *keep, size_t count, struct error *error)
{
    static const struct rlimit none = {0, 0}, few = {16, 16}; /* poll(2) goes by it, too */
    pid_t parent = getppid();
    close_others(keep, count);
    /* A container may have root without the right to change its identity: then it stays. */
    if (!drop_root() && geteuid() != 0)
        return error_set_errno(error, -errno, "cannot give up the rights of root");
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NPROC, &none);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_BAILEY);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(error, -errno, "cannot give up rights");
    restrict_files();
    setrlimit(RLIMIT_NOFILE, &few);
    int result = filter_calls();
    return result < 0 ? error_set_errno(error, result,
                                        "cannot confine the process that talks to the other side")
                      : 0;
}
