/* Processes and threads: fork, vfork, clone, exec from them, waiting, groups and sessions, orphans. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self_path;

static int exit_code(pid_t child)
{
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- fork ------------------------------------------------------------------------------------------------------ */

static int variable = 1;
static void a_forked_child_has_its_own_copy_of_memory(void)
{
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), local = 5;
    *shared = 0;
    pid_t parent = getpid(), child = fork();
    if (!child) {
        variable = 2;
        local = 6;
        *shared = getppid() == parent && getpid() != parent && (pid_t)syscall(SYS_gettid) == getpid();
        _exit(local + variable);
    }
    CHECK_EQUAL(exit_code(child), 8);
    CHECK_EQUAL(variable, 1);
    CHECK_EQUAL(local, 5);
    CHECK_EQUAL(*shared, 1);
    munmap(shared, 4096);
}

static void descriptors_are_shared_with_their_position(void)
{
    char name[] = "/tmp/fork-XXXXXX", byte;
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, "abc", 3), 3);
    lseek(fd, 0, SEEK_SET);
    pid_t child = fork();
    if (!child)
        _exit(read(fd, &byte, 1) == 1 && byte == 'a' ? close(fd) : 1);
    CHECK_EQUAL(exit_code(child), 0);
    CHECK_EQUAL(read(fd, &byte, 1), 1);
    CHECK_EQUAL(byte, 'b');
    close(fd);
    unlink(name);
}

static void many_children_can_live_at_once(void)
{
    enum { COUNT = 60 };
    pid_t children[COUNT];
    int fds[2];
    char byte;
    CHECK_EQUAL(pipe(fds), 0);
    for (int i = 0; i < COUNT; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (!children[i]) {
            close(fds[1]);
            _exit(read(fds[0], &byte, 1) == 0 ? i : 99);
        }
    }
    close(fds[0]);
    close(fds[1]);
    for (int i = COUNT - 1; i >= 0; i--)
        CHECK_EQUAL(exit_code(children[i]), i);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
}

static void *idle(void *argument)
{
    pause();
    return NULL;
}
static void *forker(void *argument)
{
    pid_t child = fork();
    if (!child)
        _exit(syscall(SYS_gettid) == getpid() && syscall(SYS_tgkill, getpid(), getpid(), 0) == 0 ? 3 : 4);
    return (void *)(intptr_t)exit_code(child);
}
static void fork_from_a_thread_keeps_only_that_thread(void)
{
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, idle, NULL), 0);
    pthread_t other;
    void *result;
    CHECK_EQUAL(pthread_create(&other, NULL, forker, NULL), 0);
    CHECK_EQUAL(pthread_join(other, &result), 0);
    CHECK_EQUAL(result, 3);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

/* ---- vfork, clone ---------------------------------------------------------------------------------------------- */

static void a_vfork_child_runs_first_in_the_same_memory(void)
{
    static volatile int seen;
    seen = 0;
    pid_t parent = getpid();
    for (int i = 0; i < 50; i++) {
        pid_t child = vfork();
        if (!child) {
            seen = (int)syscall(SYS_getppid) == parent ? i + 1 : -1;
            _exit(i);
        }
        CHECK_EQUAL(seen, i + 1);
        CHECK_EQUAL(getpid(), parent);
        CHECK_EQUAL(exit_code(child), i);
    }
}

static void a_vfork_child_execs(void)
{
    for (int i = 0; i < 10; i++) {
        pid_t child = vfork();
        if (!child) {
            execl("/bin/sh", "sh", "-c", "exit 7", NULL);
            _exit(127);
        }
        CHECK_EQUAL(exit_code(child), 7);
        child = vfork();
        if (!child) {
            execl("/nonexistent/program", "program", NULL);
            _exit(126);
        }
        CHECK_EQUAL(exit_code(child), 126);
    }
}

static void a_vfork_child_execs_while_its_parent_ends(void)
{
    enum { ROUNDS = 60 };
    int fds[2];
    CHECK_EQUAL(pipe(fds), 0);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        if (!child) {
            pid_t grandchild = vfork();
            if (!grandchild) {
                dup2(fds[1], 1);
                execl(self_path, self_path, "--report-ids", NULL);
                _exit(9);
            }
            _exit(grandchild < 0);
        }
        CHECK_EQUAL(exit_code(child), 0);
    }
    close(fds[1]);
    int ids[2], reported = 0;
    while (read(fds[0], ids, sizeof ids) == (ssize_t)sizeof ids)
        reported += ids[0] == ids[1];
    CHECK_EQUAL(reported, ROUNDS);
    close(fds[0]);
}

static void a_vfork_child_has_its_own_descriptors_and_actions(void)
{
    int fds[2];
    char byte = 0;
    CHECK_EQUAL(pipe(fds), 0);
    signal(SIGUSR1, SIG_IGN);
    pid_t child = vfork();
    if (!child) {
        close(fds[0]);
        signal(SIGUSR1, SIG_DFL);
        if (write(fds[1], "v", 1) != 1)
            _exit(1);
        close(fds[1]);
        _exit(0);
    }
    CHECK_EQUAL(read(fds[0], &byte, 1), 1);
    CHECK_EQUAL(byte, 'v');
    CHECK_EQUAL(write(fds[1], "w", 1), 1);
    CHECK_EQUAL(exit_code(child), 0);
    raise(SIGUSR1); /* still ignored here */
    signal(SIGUSR1, SIG_DFL);
    close(fds[0]);
    close(fds[1]);
}

static void a_signal_can_kill_a_vfork_child(void)
{
    pid_t child = vfork();
    if (!child) {
        kill(getpid(), SIGTERM);
        _exit(1);
    }
    CHECK_EQUAL(exit_code(child), -SIGTERM);
}

static void posix_spawn_runs_programs_and_tells_failures(void)
{
    pid_t child;
    char *arguments[] = { "sh", "-c", "exit 9", NULL };
    for (int i = 0; i < 20; i++) {
        CHECK_EQUAL(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ), 0);
        CHECK_EQUAL(exit_code(child), 9);
    }
    CHECK_EQUAL(posix_spawn(&child, "/no/such/program", NULL, NULL, arguments, environ), ENOENT);
    CHECK_EQUAL(system("exit 4"), 4 << 8);
}

static void *spawn_often(void *argument)
{
    char *arguments[] = { "true", NULL };
    for (int i = 0; i < 15; i++) {
        pid_t child;
        CHECK_EQUAL(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0);
        CHECK_EQUAL(exit_code(child), 0);
        child = fork();
        if (!child)
            _exit(0);
        CHECK_EQUAL(exit_code(child), 0);
    }
    return NULL;
}
static void threads_spawn_at_the_same_time(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, spawn_often, NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static int cloned(void *argument) { return *(int *)argument + 1; }
static void clone_flags_do_what_they_say(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int argument = 4, parent_tid = 0, child_tid = 0;
    pid_t child = clone(cloned, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD, &argument, &parent_tid, NULL, &child_tid);
    CHECK(child > 0);
    CHECK_EQUAL(parent_tid, child);
    CHECK_EQUAL(exit_code(child), 5);
    child = clone(cloned, stack + sizeof stack, SIGCHLD | CLONE_PARENT_SETTID, &argument, &parent_tid);
    CHECK_EQUAL(parent_tid, child);
    CHECK_EQUAL(exit_code(child), 5);
    /* Without a signal: only __WALL and __WCLONE see it. */
    child = clone(cloned, stack + sizeof stack, 0, &argument);
    CHECK(child > 0);
    CHECK(waitpid(child, NULL, 0) == -1 && errno == ECHILD);
    CHECK_EQUAL(waitpid(child, NULL, __WALL), child);
    CHECK(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clone3, NULL, 8) == -1 && errno == EINVAL);
    CHECK_ERROR(syscall(SYS_clone, CLONE_SETTLS | SIGCHLD, 0, 0, 0, 0x7ffffffff000ul), EPERM);
    CHECK_ERROR(syscall(SYS_clone, CLONE_SETTLS | CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 1ul << 63), EPERM);
}

static void clone3_makes_processes_and_pidfds(void)
{
    int pidfd = -1, status = -1;
    struct clone_args arguments = { .flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND, .pidfd = (uint64_t)&pidfd, .exit_signal = SIGCHLD };
    signal(SIGTERM, SIG_IGN);
    pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    CHECK(child >= 0);
    if (!child) {
        pause();
        _exit(0);
    }
    CHECK(pidfd >= 0);
    struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
    CHECK_EQUAL(poll(&poll_fd, 1, 10), 0);
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0), 0);
    CHECK_EQUAL(poll(&poll_fd, 1, 5000), 1);
    siginfo_t info;
    CHECK_EQUAL(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT), 0);
    CHECK_EQUAL(info.si_pid, child);
    CHECK_EQUAL(info.si_code, CLD_KILLED);
    CHECK_EQUAL(info.si_status, SIGKILL);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == -1 && errno == ESRCH);
    close(pidfd);
    signal(SIGTERM, SIG_DFL);
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK(fd >= 0);
    close(fd);
    CHECK(syscall(SYS_pidfd_open, 5000000, 0) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_pidfd_open, -1, 0) == -1 && errno == EINVAL);
}

/* ---- Threads --------------------------------------------------------------------------------------------------- */

static __thread int thread_local_value = 11;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;
static void *add(void *argument)
{
    if (thread_local_value != 11)
        return (void *)1;
    thread_local_value = 12;
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&mutex);
        total++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
static void a_directory_of_proc_stands_for_its_process(void)
{
    char name[32];
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    snprintf(name, sizeof name, "/proc/%d", child);
    int fd = open(name, O_DIRECTORY), path_fd = open(name, O_PATH | O_DIRECTORY), proc_fd = open("/proc", O_DIRECTORY);
    CHECK(fd >= 0 && path_fd >= 0 && proc_fd >= 0);
    snprintf(name, sizeof name, "/proc/%d/task", child);
    int task_fd = open(name, O_DIRECTORY);
    CHECK_ERROR(syscall(SYS_pidfd_send_signal, path_fd, 0, NULL, 0), EBADF);
    CHECK_ERROR(syscall(SYS_pidfd_send_signal, proc_fd, 0, NULL, 0), EBADF);
    CHECK_ERROR(syscall(SYS_pidfd_send_signal, task_fd, 0, NULL, 0), EBADF);
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), 0);
    CHECK_EQUAL(exit_code(child), -SIGTERM);
    CHECK_ERROR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
    close(fd);
    close(path_fd);
    close(proc_fd);
    close(task_fd);
}

static void threads_start_share_and_join(void)
{
    total = 0;
    for (int round = 0; round < 20; round++) {
        pthread_t threads[10];
        for (int i = 0; i < 10; i++)
            CHECK_EQUAL(pthread_create(&threads[i], NULL, add, NULL), 0);
        for (int i = 0; i < 10; i++) {
            void *result;
            CHECK_EQUAL(pthread_join(threads[i], &result), 0);
            CHECK(!result);
        }
    }
    CHECK_EQUAL(total, 200000);
    CHECK_EQUAL(thread_local_value, 11);
}

static _Noreturn void *idle_or_spin(void *argument)
{
    if (argument)
        for (;;)
            ;
    for (;;)
        pause();
}
static void exit_group_ends_all_threads(void)
{
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (!child) {
            pthread_t thread;
            for (intptr_t i = 0; i < 6; i++)
                pthread_create(&thread, NULL, idle_or_spin, (void *)(i % 2));
            if (round % 2)
                usleep(1000);
            _exit(33);
        }
        CHECK_EQUAL(exit_code(child), 33);
    }
}

static void *exit_later(void *argument)
{
    usleep(20000);
    _exit(21);
}
static void a_process_outlives_its_first_thread(void)
{
    pid_t child = fork();
    if (!child) {
        pthread_t thread;
        pthread_create(&thread, NULL, exit_later, NULL);
        pthread_exit(NULL);
    }
    CHECK_EQUAL(exit_code(child), 21);
}

static void *exec_self(void *argument)
{
    execl(self_path, "processes", "--report-ids", NULL);
    _exit(1);
}
static void exec_from_a_thread_becomes_the_process(void)
{
    int fds[2], ids[2] = { 0 };
    CHECK_EQUAL(pipe(fds), 0);
    pid_t child = fork();
    if (!child) {
        dup2(fds[1], 1);
        pthread_t thread;
        for (intptr_t i = 0; i < 3; i++)
            pthread_create(&thread, NULL, idle_or_spin, (void *)(i % 2));
        pthread_create(&thread, NULL, exec_self, NULL);
        pause();
    }
    close(fds[1]);
    CHECK_EQUAL(read(fds[0], ids, sizeof ids), sizeof ids);
    close(fds[0]);
    CHECK_EQUAL(exit_code(child), 0);
    CHECK_EQUAL(ids[0], child);
    CHECK_EQUAL(ids[1], child);
}

static void a_killed_process_ends_with_all_threads(void)
{
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (!child) {
            pthread_t thread;
            for (intptr_t i = 0; i < 4; i++)
                pthread_create(&thread, NULL, idle_or_spin, (void *)(i % 2));
            idle_or_spin((void *)1);
        }
        usleep(round * 500);
        kill(child, SIGKILL);
        CHECK_EQUAL(exit_code(child), -SIGKILL);
    }
}

/* ---- Waiting --------------------------------------------------------------------------------------------------- */

static void waitid_reports_and_can_leave_the_child(void)
{
    siginfo_t info = { 0 };
    struct rusage usage;
    pid_t child = fork();
    if (!child)
        _exit(19);
    CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK_EQUAL(info.si_pid, child);
    CHECK_EQUAL(info.si_signo, SIGCHLD);
    CHECK_EQUAL(info.si_code, CLD_EXITED);
    CHECK_EQUAL(info.si_status, 19);
    CHECK_EQUAL(info.si_uid, getuid());
    CHECK(waitid(P_PID, (id_t)child, &info, 0) == -1 && errno == EINVAL);
    CHECK_EQUAL(wait4(-1, NULL, 0, &usage), child);
    CHECK(waitid(P_ALL, 0, &info, WEXITED) == -1 && errno == ECHILD);
    CHECK(waitpid(-1, NULL, 0x100) == -1 && errno == EINVAL);

    child = fork();
    if (!child)
        pause();
    info.si_pid = 1;
    CHECK_EQUAL(waitid(P_ALL, 0, &info, WEXITED | WNOHANG), 0);
    CHECK_EQUAL(info.si_pid, 0);
    kill(child, SIGSTOP);
    CHECK_EQUAL(waitid(P_ALL, 0, &info, WSTOPPED), 0);
    CHECK_EQUAL(info.si_code, CLD_STOPPED);
    CHECK_EQUAL(info.si_status, SIGSTOP);
    kill(child, SIGCONT);
    CHECK_EQUAL(waitid(P_ALL, 0, &info, WCONTINUED), 0);
    CHECK_EQUAL(info.si_code, CLD_CONTINUED);
    CHECK_EQUAL(info.si_status, SIGCONT);
    kill(child, SIGKILL);
    CHECK_EQUAL(exit_code(child), -SIGKILL);
}

static void waiting_by_group_and_by_thread_works(void)
{
    pid_t one = fork();
    if (!one) {
        setpgid(0, 0);
        _exit(1);
    }
    setpgid(one, one);
    pid_t two = fork();
    if (!two)
        _exit(2);
    int status;
    CHECK_EQUAL(waitpid(-one, &status, 0), one);
    CHECK_EQUAL(WEXITSTATUS(status), 1);
    CHECK_EQUAL(waitpid(0, &status, 0), two);
    CHECK_EQUAL(WEXITSTATUS(status), 2);
}

static void ignored_children_leave_no_zombies(void)
{
    signal(SIGCHLD, SIG_IGN);
    pid_t child = fork();
    if (!child)
        _exit(0);
    CHECK(waitpid(child, NULL, 0) == -1 && errno == ECHILD);
    CHECK(kill(child, 0) == -1 && errno == ESRCH);
    signal(SIGCHLD, SIG_DFL);
    struct sigaction action = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };
    sigaction(SIGCHLD, &action, NULL);
    child = fork();
    if (!child)
        _exit(0);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void orphans_go_to_the_subreaper(void)
{
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    int fds[2];
    pid_t orphan = 0;
    CHECK_EQUAL(pipe(fds), 0);
    pid_t child = fork();
    if (!child) {
        pid_t grandchild = fork();
        if (!grandchild) {
            usleep(30000);
            _exit(getppid() == getppid() ? 5 : 6);
        }
        if (write(fds[1], &grandchild, sizeof grandchild) < 0)
            _exit(1);
        _exit(0);
    }
    CHECK_EQUAL(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
    CHECK_EQUAL(exit_code(child), 0);
    CHECK_EQUAL(exit_code(orphan), 5);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close(fds[0]);
    close(fds[1]);
}

static void the_death_of_a_parent_can_be_told(void)
{
    int fds[2];
    char byte;
    CHECK_EQUAL(pipe(fds), 0);
    pid_t child = fork();
    if (!child) {
        pid_t grandchild = fork();
        if (!grandchild) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (write(fds[1], "r", 1) != 1)
                _exit(1);
            pause();
        }
        if (read(fds[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    CHECK_EQUAL(exit_code(child), 0);
    close(fds[1]);
    CHECK_EQUAL(read(fds[0], &byte, 1), 0); /* the grandchild is gone, and with it the last writer */
    close(fds[0]);
}

/* ---- Groups and sessions --------------------------------------------------------------------------------------- */

static void groups_and_sessions_follow_their_rules(void)
{
    pid_t child = fork();
    if (!child) {
        CHECK_EQUAL(setpgid(0, 0), 0);
        CHECK_EQUAL(getpgrp(), getpid());
        CHECK(setsid() == -1 && errno == EPERM); /* a group leader */
        pid_t grandchild = fork();
        if (!grandchild) {
            CHECK_EQUAL(setsid(), getpid());
            CHECK_EQUAL(getsid(0), getpid());
            CHECK(setpgid(0, 0) == -1 && errno == EPERM);
            _exit(0);
        }
        CHECK_EQUAL(exit_code(grandchild), 0);
        CHECK(setpgid(1, getpid()) == -1 && errno == ESRCH);
        CHECK(setpgid(0, 5000000) == -1 && errno == EPERM);
        CHECK(setpgid(0, -1) == -1 && errno == EINVAL);
        _exit(0);
    }
    CHECK_EQUAL(exit_code(child), 0);
}

static void orphaned_stopped_groups_are_hung_up(void)
{
    int fds[2];
    pid_t grandchild = 0;
    int status;
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_EQUAL(pipe(fds), 0);
    pid_t child = fork();
    if (!child) {
        grandchild = fork();
        if (!grandchild) {
            setpgid(0, 0);
            raise(SIGSTOP);
            _exit(0);
        }
        setpgid(grandchild, grandchild);
        waitpid(grandchild, &status, WUNTRACED);
        if (write(fds[1], &grandchild, sizeof grandchild) < 0)
            _exit(1);
        _exit(0);
    }
    CHECK_EQUAL(read(fds[0], &grandchild, sizeof grandchild), sizeof grandchild);
    CHECK_EQUAL(exit_code(child), 0);
    /* As subreaper in the same session this process still connects the group, so nothing happens to it. */
    usleep(20000);
    CHECK_EQUAL(waitpid(grandchild, &status, WNOHANG), 0);
    kill(grandchild, SIGKILL);
    CHECK_EQUAL(exit_code(grandchild), -SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 0);

    /* In a session of its own the group is orphaned when its leader ends: SIGHUP, then SIGCONT. */
    child = fork();
    if (!child) {
        setsid();
        grandchild = fork();
        if (!grandchild) {
            close(fds[0]);
            setpgid(0, 0);
            raise(SIGSTOP);
            pause();
        }
        setpgid(grandchild, grandchild);
        waitpid(grandchild, &status, WUNTRACED);
        _exit(0);
    }
    CHECK_EQUAL(exit_code(child), 0);
    close(fds[1]);
    char byte;
    CHECK_EQUAL(read(fds[0], &byte, 1), 0); /* the grandchild died of the hang-up */
    close(fds[0]);
}

static int own_files_of_proc(void)
{
    static const char *const names[] = { "fd", "environ", "task" };
    struct stat status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", names[i]);
        CHECK_EQUAL(stat(path, &status), 0);
        CHECK_EQUAL(status.st_uid, geteuid());
        CHECK_EQUAL(status.st_gid, getegid());
    }
    int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    CHECK_EQUAL(fstatat(fd, "0", &status, AT_SYMLINK_NOFOLLOW), 0);
    CHECK_EQUAL(status.st_uid, geteuid());
    return 0;
}

static void files_of_proc_belong_to_the_user_of_the_process(void)
{
    pid_t child = fork();
    if (!child) {
        if (!geteuid() && (setgid(65534) || setuid(65534)))
            _exit(1);
        execl(self_path, self_path, "--own-files-of-proc", NULL);
        _exit(2);
    }
    CHECK_EQUAL(exit_code(child), 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(a_forked_child_has_its_own_copy_of_memory), GUEST_CASE(descriptors_are_shared_with_their_position),
    GUEST_CASE(many_children_can_live_at_once), GUEST_CASE(fork_from_a_thread_keeps_only_that_thread),
    GUEST_CASE(a_vfork_child_runs_first_in_the_same_memory), GUEST_CASE(a_vfork_child_execs),
    GUEST_CASE(a_vfork_child_execs_while_its_parent_ends),
    GUEST_CASE(a_vfork_child_has_its_own_descriptors_and_actions), GUEST_CASE(a_signal_can_kill_a_vfork_child),
    GUEST_CASE(posix_spawn_runs_programs_and_tells_failures), GUEST_CASE(threads_spawn_at_the_same_time), GUEST_CASE(clone_flags_do_what_they_say),
    GUEST_CASE(clone3_makes_processes_and_pidfds), GUEST_CASE(a_directory_of_proc_stands_for_its_process),
    GUEST_CASE(threads_start_share_and_join), GUEST_CASE(exit_group_ends_all_threads),
    GUEST_CASE(a_process_outlives_its_first_thread), GUEST_CASE(exec_from_a_thread_becomes_the_process),
    GUEST_CASE(a_killed_process_ends_with_all_threads), GUEST_CASE(waitid_reports_and_can_leave_the_child),
    GUEST_CASE(waiting_by_group_and_by_thread_works), GUEST_CASE(ignored_children_leave_no_zombies), GUEST_CASE(orphans_go_to_the_subreaper),
    GUEST_CASE(the_death_of_a_parent_can_be_told), GUEST_CASE(groups_and_sessions_follow_their_rules), GUEST_CASE(orphaned_stopped_groups_are_hung_up),
    GUEST_CASE(files_of_proc_belong_to_the_user_of_the_process),
};
#define main run_cases
GUEST_MAIN(cases)
#undef main

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "--report-ids")) {
        int ids[2] = { getpid(), (int)syscall(SYS_gettid) };
        return write(1, ids, sizeof ids) != sizeof ids;
    }
    if (argc > 1 && !strcmp(argv[1], "--own-files-of-proc"))
        return own_files_of_proc();
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    self_path = size > 0 ? path : argv[0];
    return run_cases(argc, argv);
}
