/* What this host offers for a sandbox's walls. Each is tried for real on a child process that does nothing else, since what a kernel was
 * built with says little about what a distribution allows. */
#include "monitor/cgroup.h"
#include "monitor/monitor.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The functions below run in the child and return 0 or a positive errno. */
static int try_nothing(void)
{
    return 0;
}

static int try_seccomp(void)
{
    uint32_t action = SECCOMP_RET_TRAP;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? errno : 0;
}

static int landlock_version(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static int try_landlock(void)
{
    uint64_t handled = 0x1fff; /* the rights of the first version */
    long ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
    if (ruleset < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return errno;
    return syscall(SYS_landlock_restrict_self, (int)ruleset, 0) < 0 ? errno : 0;
}

static int try_landlock_scope(void)
{
    return landlock_version() >= 6 ? 0 : EOPNOTSUPP;
}

static int try_chroot(void)
{
    return chdir("/") < 0 || chroot(".") < 0 ? errno : 0;
}

/* In a fresh user namespace the count of processes begins at 0, so that the second of two is refused. */
static int try_process_limit(void)
{
    struct rlimit limit = {1, 1};
    /* An ordinary user is in one already. */
    if (geteuid() == 0 && (syscall(SYS_setresgid, 65534, 65534, 65534) < 0 || syscall(SYS_setresuid, 65534, 65534, 65534) < 0 ||
                           unshare(CLONE_NEWUSER) < 0))
        return errno;
    if (setrlimit(RLIMIT_NPROC, &limit) < 0)
        return errno;
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return child < 0 && errno == EAGAIN ? 0 : EOPNOTSUPP;
}

/* Runs `function` in a child with these namespaces. Returns 0 or a positive errno. */
static int try_in_child(uint64_t flags, int (*function)(void))
{
    struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
    int status;
    pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (child == 0)
        _exit(function() & 0xff);
    if (child < 0)
        return errno;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

static const struct {
    const char *name;
    uint64_t flags; /* namespaces */
    bool user_namespace; /* needs one when the operator is not root */
    int (*function)(void);
    const char *without;
} trials[] = {
    {"seccomp filter", 0, false, try_seccomp, "nothing runs: the filter is the boundary"},
    {"Landlock", 0, false, try_landlock, "files are kept away by the filter and an empty mount namespace alone"},
    {"Landlock scope", 0, false, try_landlock_scope, "network and mount namespaces take its place, and every start takes longer"},
    {"user namespaces", CLONE_NEWUSER, false, try_nothing, "an ordinary user's sandboxes have no namespaces at all"},
    {"pid namespace", CLONE_NEWPID, true, try_nothing,
     "the sandbox's processes have ids of the host, and only Landlock or the monitor confines their signals"},
    {"ipc, uts and cgroup namespaces", CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP, true, try_nothing,
     "the filter alone keeps the host's IPC objects away"},
    {"network namespace", CLONE_NEWNET, true, try_nothing, "the filter and Landlock keep the network away (used only without Landlock scope)"},
    {"empty root", 0, true, try_chroot, "Landlock alone keeps the host's files away"},
    {"hard limit of processes", 0, true, try_process_limit, "--pids is counted by the sandbox itself, which hostile code could subvert"},
};

size_t mon_check_walls(struct mon_wall walls[MON_WALL_MAX])
{
    _Static_assert(sizeof(trials) / sizeof(trials[0]) < MON_WALL_MAX, "room for all");
    size_t count = 0;
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        struct mon_wall *wall = &walls[count++];
        uint64_t user = trials[i].user_namespace && geteuid() != 0 ? CLONE_NEWUSER : 0;
        int error = try_in_child(trials[i].flags | user, trials[i].function);
        *wall = (struct mon_wall){.name = trials[i].name, .present = error == 0, .without = trials[i].without};
        /* ENOSPC is what a limit of 0 namespaces is answered with (clone(2)). */
        if (error)
            snprintf(wall->reason, sizeof(wall->reason), "%s", error == ENOSPC ? "forbidden (user.max_user_namespaces)" : strerror(error));
    }
    struct mon_cgroup cgroup;
    mon_cgroup_open(&cgroup, 1u << 30, 0);
    walls[count++] = (struct mon_wall){.name = "hard limit of memory",
                                       .present = mon_cgroup_limits_memory(&cgroup),
                                       .reason = "this user may make no cgroup here",
                                       .without = "--memory is counted by the sandbox itself, which hostile code could subvert"};
    mon_cgroup_close(&cgroup);
    return count;
}
