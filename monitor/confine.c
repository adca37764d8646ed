/* The child, from clone to exec: puts the descriptors in their places, gives up every right, executes the picoprocess image. Each
 * wall that the host refuses here falls away only if another one covers it; which were granted was decided before (launch.c). What
 * must not fail and does is told to the monitor as a record on the control stream.
 *
 * The child runs in the monitor's memory, at the same time (CLONE_VM: copying and dropping that memory would cost 0.16 ms of a start).
 * Hence the one rule here: it writes to nothing but its own stack, and makes system calls without the C library, whose errno
 * would be the monitor's. */
#include "base/names.h"
#include "monitor/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Above every final place, so that moving never overwrites a descriptor that is still to be moved. */
#define PARKING 512

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = 0;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define CALL(number, a, b, c, d, e) call(SYS_##number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static _Noreturn void leave(void)
{
    for (;;)
        CALL(exit_group, EXIT_BAILEY, 0, 0, 0, 0);
}

static _Noreturn void fail(const char *step, long error)
{
    struct {
        struct bly_control record;
        char text[128];
    } message = {.record = {.kind = BLY_CONTROL_PANIC, .value = (int32_t)error}};
    const char *const parts[] = {"cannot confine the sandbox: ", step, ": ", error_name((int)-error)};
    size_t size = 0;
    for (size_t i = 0; i < 4; i++)
        for (const char *from = parts[i]; from && *from && size < sizeof(message.text); from++)
            message.text[size++] = *from;
    message.record.size = (uint32_t)size;
    struct iovec part = {&message, sizeof(message.record) + size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    CALL(sendmsg, BLY_FD_CONTROL, &header, MSG_NOSIGNAL, 0, 0);
    leave();
}

static long must(const char *step, long result)
{
    if (result < 0)
        fail(step, result);
    return result;
}

static long park(int descriptor)
{
    return CALL(fcntl, descriptor, F_DUPFD_CLOEXEC, PARKING, 0, 0);
}

static void place_descriptors(const struct mon_confinement *confinement, long out_extra[3])
{
    const int extra[3] = {confinement->image, confinement->landlock, confinement->empty_folder};
    const long control = park(confinement->control), log = park(confinement->log);
    for (size_t i = 0; i < 3; i++)
        out_extra[i] = extra[i] < 0 ? -1 : park(extra[i]);
    if (CALL(dup3, control, BLY_FD_CONTROL, 0, 0, 0) < 0 || CALL(dup3, log, BLY_FD_LOG, 0, 0, 0) < 0)
        leave();
    /* Everything else below the parking place goes now; what is above is close-on-exec, or becomes so. */
    CALL(close_range, BLY_FD_WAKE_POOL, PARKING - 1, 0, 0, 0);
    must("closing descriptors", CALL(close_range, PARKING, ~0u, CLOSE_RANGE_CLOEXEC, 0, 0));
}

/* eventfd(2) takes the lowest number that is free: no descriptor is moved. */
static void make_wake_pool(void)
{
    for (int i = 0; i < (int)BLY_WAKE_POOL_COUNT; i++)
        if (must("making the wake pool", CALL(eventfd2, 0, EFD_NONBLOCK, 0, 0, 0)) != BLY_FD_WAKE_POOL + i)
            fail("making the wake pool", -EBADF);
}

static void set_limit(int resource, rlim_t value)
{
    struct rlimit limit;
    if (CALL(prlimit64, 0, resource, NULL, &limit, 0) < 0)
        return;
    limit.rlim_cur = value < limit.rlim_max ? value : limit.rlim_max;
    limit.rlim_max = limit.rlim_cur;
    CALL(prlimit64, 0, resource, &limit, NULL, 0);
}

/* With a mount namespace (that is, without Landlock): an empty file system, and the host's are gone. Else an empty folder, which
 * costs nothing; Landlock forbids what is beyond it. */
static void enter_empty_root(const struct mon_confinement *confinement, long folder)
{
    if ((confinement->namespaces & CLONE_NEWNS) && CALL(mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        CALL(mount, "bailey", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k") == 0 &&
        CALL(chdir, "/tmp", 0, 0, 0, 0) == 0 && CALL(pivot_root, ".", ".", 0, 0, 0) == 0 && CALL(umount2, ".", MNT_DETACH, 0, 0, 0) == 0)
        return;
    if (folder >= 0 && CALL(fchdir, folder, 0, 0, 0, 0) == 0)
        CALL(chroot, ".", 0, 0, 0, 0);
}

static void drop_root(const struct mon_confinement *confinement)
{
    uid_t user = confinement->user, group = confinement->group;
    must("dropping groups", CALL(setgroups, 0, NULL, 0, 0, 0));
    must("dropping root's group", CALL(setresgid, group, group, group, 0, 0));
    must("dropping root", CALL(setresuid, user, user, user, 0, 0));
}

/* Changes root and identity. The count of processes is one for each user and user namespace, and begins at 0 in a new one
 * (setrlimit(2)); root gets one for that only, and before it changes its root: from inside a chroot none is made. */
static void give_up_rights(const struct mon_confinement *confinement, long folder)
{
    bool counted_apart = confinement->namespaces & CLONE_NEWUSER;
    if (confinement->by_root && confinement->process_limit) {
        if (confinement->namespaces & CLONE_NEWNS)
            enter_empty_root(confinement, folder);
        drop_root(confinement);
        counted_apart = CALL(unshare, CLONE_NEWUSER, 0, 0, 0, 0) == 0;
        if (counted_apart)
            enter_empty_root(confinement, folder);
    } else {
        enter_empty_root(confinement, folder);
        if (confinement->by_root)
            drop_root(confinement);
    }
    /* Threads count too. The personality enforces the exact number; this is what holds if it is subverted. Where all processes of the
     * user are counted together it would keep the sandbox from starting anything. */
    if (confinement->process_limit && counted_apart)
        set_limit(RLIMIT_NPROC, confinement->process_limit + MON_OWN_THREADS);
}

/* exec(2) resets what is caught; what our caller ignores would stay so. */
static void restore_signals(void)
{
    struct { /* the kernel's own form */
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};
    uint64_t none = 0;
    for (int signal = 1; signal < 32; signal++) {
        action.handler = signal == SIGPIPE ? (void *)SIG_IGN : (void *)SIG_DFL;
        CALL(rt_sigaction, signal, &action, NULL, sizeof(action.mask), 0);
    }
    CALL(rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none), 0);
}

int mon_confine_and_execute(void *argument)
{
    const struct mon_confinement *confinement = argument;
    const char *const arguments[] = {"bailey-linux", confinement->modes, NULL}, *const environment[] = {NULL};
    long extra[3];
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++)
        if (confinement->cgroup_entrances[i] >= 0)
            CALL(write, confinement->cgroup_entrances[i], "0", 1, 0, 0);
    place_descriptors(confinement, extra);
    long image = extra[0], landlock = extra[1], root = extra[2];
    make_wake_pool();
    restore_signals();
    /* No terminal's keys reach us: a stopped holder of a lock would stop the sandbox. */
    CALL(setsid, 0, 0, 0, 0, 0);
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_NOFILE, RLIM_INFINITY);

    give_up_rights(confinement, root);
    if (!(confinement->namespaces & CLONE_NEWPID))
        CALL(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* After the change of identity, which clears it (prctl(2)). The monitor may have died before. */
    CALL(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    struct pollfd monitor = {.fd = BLY_FD_CONTROL, .events = 0};
    if (CALL(poll, &monitor, 1, 0, 0, 0) > 0)
        leave();
    must("no_new_privs", CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (landlock >= 0)
        must("landlock", CALL(landlock_restrict_self, landlock, 0, 0, 0, 0));
    fail("executing the picoprocess image", CALL(execveat, image, "", arguments, environment, AT_EMPTY_PATH));
}
