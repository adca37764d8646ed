/* The child, from clone to exec: puts the descriptors in their places, gives up every right, executes the picoprocess image. Each
 * wall that the host refuses here falls away only if another one covers it; which were granted was decided before (launch.c). What
 * must not fail and does is told to the monitor as a record on the control stream. */
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

static _Noreturn void fail(const char *step)
{
    int error = errno;
    struct {
        struct bly_control record;
        char text[128];
    } message = {.record = {.kind = BLY_CONTROL_PANIC, .value = -error}};
    int size = snprintf(message.text, sizeof(message.text), "cannot confine the sandbox: %s: %s", step, strerror(error));
    message.record.size = (uint32_t)size;
    send(BLY_FD_CONTROL, &message, sizeof(message.record) + (size_t)size, MSG_NOSIGNAL);
    _exit(EXIT_BAILEY);
}

static void place_descriptors(const struct mon_confinement *confinement, int *out_image, int *out_landlock, int *out_root)
{
    int parked[sizeof(confinement->moves) / sizeof(confinement->moves[0])];
    int extra[3] = {confinement->image, confinement->landlock, confinement->empty_folder};
    int highest = BLY_FD_FIRST_FREE - 1;
    for (size_t i = 0; i < confinement->move_count; i++) {
        parked[i] = fcntl(confinement->moves[i].from, F_DUPFD_CLOEXEC, PARKING);
        if (parked[i] < 0)
            _exit(EXIT_BAILEY);
    }
    for (size_t i = 0; i < 3; i++)
        if (extra[i] >= 0)
            extra[i] = fcntl(extra[i], F_DUPFD_CLOEXEC, PARKING);
    for (size_t i = 0; i < confinement->move_count; i++) {
        if (dup2(parked[i], confinement->moves[i].to) < 0)
            _exit(EXIT_BAILEY);
        if (confinement->moves[i].to > highest)
            highest = confinement->moves[i].to;
    }
    /* Everything else below the parking place goes now; what is above is close-on-exec, or becomes so. */
    close_range(BLY_FD_PRESET + 1, BLY_FD_SLOT_SOCKETS - 1, 0);
    close_range(BLY_FD_SLOT_SOCKETS + BLY_RPC_SLOT_COUNT, BLY_FD_FIRST_FREE - 1, 0);
    close_range((unsigned)highest + 1, PARKING - 1, 0);
    if (close_range(PARKING, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        fail("closing descriptors");
    *out_image = extra[0];
    *out_landlock = extra[1];
    *out_root = extra[2];
}

/* The pool's places are what eventfd(2) finds free, lowest first: no descriptor is moved. */
static void make_wake_pool(const struct mon_confinement *confinement)
{
    for (uint32_t i = 0; i < MON_WAKE_POOL_COUNT; i++)
        if (eventfd(0, EFD_NONBLOCK) != confinement->wake_places[i])
            fail("making the wake pool");
}

static void set_limit(int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return;
    if (limit.rlim_max != RLIM_INFINITY && (hard == RLIM_INFINITY || hard > limit.rlim_max))
        hard = limit.rlim_max;
    if (hard != RLIM_INFINITY && (soft == RLIM_INFINITY || soft > hard))
        soft = hard;
    limit = (struct rlimit){soft, hard};
    setrlimit(resource, &limit);
}

/* With a mount namespace (that is, without Landlock): an empty file system, and the host's are gone. Else an empty folder, which
 * costs nothing; Landlock forbids what is beyond it. */
static void enter_empty_root(const struct mon_confinement *confinement, int folder)
{
    if ((confinement->namespaces & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("bailey", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k") == 0 && chdir("/tmp") == 0 &&
        syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0)
        return;
    if (folder >= 0 && fchdir(folder) == 0)
        (void)!chroot(".");
}

static void drop_root(const struct mon_confinement *confinement)
{
    if (syscall(SYS_setgroups, 0, NULL) < 0 ||
        syscall(SYS_setresgid, confinement->group, confinement->group, confinement->group) < 0 ||
        syscall(SYS_setresuid, confinement->user, confinement->user, confinement->user) < 0)
        fail("dropping root");
}

/* Changes root and identity. The count of processes is one for each user and user namespace, and begins at 0 in a new one
 * (setrlimit(2)); root gets one for that only, and before it changes its root: from inside a chroot none is made. */
static void give_up_rights(const struct mon_confinement *confinement, int folder)
{
    uint32_t limit = confinement->process_limit + MON_OWN_THREADS;
    if (confinement->by_root && confinement->process_limit) {
        if (confinement->namespaces & CLONE_NEWNS)
            enter_empty_root(confinement, folder);
        drop_root(confinement);
        if (unshare(CLONE_NEWUSER) == 0)
            enter_empty_root(confinement, folder);
    } else {
        enter_empty_root(confinement, folder);
        if (confinement->by_root)
            drop_root(confinement);
    }
    /* Threads count too. The personality enforces the exact number; this is what holds if it is subverted. */
    if (confinement->process_limit)
        set_limit(RLIMIT_NPROC, limit, limit);
}

static void restore_signals(void)
{
    sigset_t none;
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP)
            (void)sigaction(signal, &(struct sigaction){.sa_handler = signal == SIGPIPE ? SIG_IGN : SIG_DFL}, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn void mon_confine_and_execute(const struct mon_confinement *confinement)
{
    static char name[] = "bailey-linux";
    static char *arguments[] = {name, NULL}, *environment[] = {NULL};
    int image, landlock, root;

    place_descriptors(confinement, &image, &landlock, &root);
    make_wake_pool(confinement);
    close_range(0, BLY_FD_START_INFO - 1, 0);
    restore_signals();
    /* No terminal's keys reach us: a stopped holder of a lock would stop the sandbox. */
    setsid();
    set_limit(RLIMIT_CORE, 0, 0);
    set_limit(RLIMIT_NOFILE, RLIM_INFINITY, RLIM_INFINITY);

    give_up_rights(confinement, root);
    if (!(confinement->namespaces & CLONE_NEWPID))
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* After the change of identity, which clears it (prctl(2)). The monitor may have died before. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    struct pollfd monitor = {.fd = BLY_FD_CONTROL, .events = 0};
    if (poll(&monitor, 1, 0) > 0)
        _exit(EXIT_BAILEY);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail("no_new_privs");
    if (landlock >= 0 && syscall(SYS_landlock_restrict_self, landlock, 0) < 0)
        fail("landlock");
    syscall(SYS_execveat, image, "", arguments, environment, AT_EMPTY_PATH);
    fail("executing the picoprocess image");
}
