/* poll(2), ppoll(2), select(2), pselect(2). */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;
static void count_signal(int number) { signals++; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void poll_tells_what_is_ready(void)
{
    int a[2], b[2];
    CHECK(pipe(a) == 0 && pipe(b) == 0);
    struct pollfd set[4] = { { a[0], POLLIN, 0 }, { b[0], POLLIN | POLLRDNORM, 0 }, { -5, POLLIN, 77 }, { a[1], POLLOUT, 0 } };
    CHECK_EQUAL(poll(set, 3, 0), 0);
    CHECK_EQUAL(set[2].revents, 0);
    CHECK_EQUAL(write(b[1], "x", 1), 1);
    CHECK_EQUAL(poll(set, 4, -1), 2);
    CHECK_EQUAL(set[0].revents, 0);
    CHECK_EQUAL(set[1].revents, POLLIN | POLLRDNORM);
    CHECK_EQUAL(set[3].revents, POLLOUT);
    close(a[0]);
    struct pollfd closed = { a[0], POLLIN, 0 };
    CHECK_EQUAL(poll(&closed, 1, -1), 1);
    CHECK_EQUAL(closed.revents, POLLNVAL);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    int null = open("/dev/null", O_RDWR);
    struct pollfd plain = { null, POLLIN | POLLOUT, 0 };
    CHECK_EQUAL(poll(&plain, 1, 0), 1);
    CHECK_EQUAL(plain.revents, POLLIN | POLLOUT);
    close(null);
}

static void poll_waits_for_another_process(void)
{
    int ends[2], status;
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        _exit(write(ends[1], "x", 1) != 1);
    }
    struct pollfd set = { ends[0], POLLIN, 0 };
    double before = now();
    CHECK_EQUAL(poll(&set, 1, 10000), 1);
    CHECK(now() - before > 0.04 && now() - before < 5);
    CHECK_EQUAL(set.revents, POLLIN);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(ends[0]);
    close(ends[1]);
}

static void timeouts_are_kept(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd set = { ends[0], POLLIN, 0 };
    double before = now();
    CHECK_EQUAL(poll(&set, 1, 60), 0);
    CHECK(now() - before >= 0.059 && now() - before < 2);
    before = now();
    CHECK_EQUAL(poll(NULL, 0, 30), 0);
    CHECK(now() - before >= 0.029);
    struct timespec t = { 0, 30000000 };
    before = now();
    CHECK_EQUAL(ppoll(&set, 1, &t, NULL), 0);
    CHECK(now() - before >= 0.029);
    struct timeval v = { 0, 30000 };
    fd_set in;
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    before = now();
    CHECK_EQUAL(select(ends[0] + 1, &in, NULL, NULL, &v), 0);
    CHECK(now() - before >= 0.029);
    CHECK(!FD_ISSET(ends[0], &in));
    CHECK(v.tv_sec == 0 && v.tv_usec == 0);
    close(ends[0]);
    close(ends[1]);
}

static void select_counts_bits(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(ends[0], &in);
    FD_SET(ends[1], &out);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    struct timeval v = { 5, 0 };
    CHECK_EQUAL(select(ends[1] + 1, &in, &out, NULL, &v), 2);
    CHECK(FD_ISSET(ends[0], &in) && FD_ISSET(ends[1], &out));
    CHECK(v.tv_sec >= 4); /* the time that was left */
    close(ends[1]);
    char c;
    CHECK_EQUAL(read(ends[0], &c, 1), 1);
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    CHECK_EQUAL(select(ends[0] + 1, &in, NULL, NULL, NULL), 1); /* end of file is readable */
    close(ends[0]);
}

static void wrong_arguments(void)
{
    struct timespec bad = { 0, 2000000000 };
    struct timeval negative = { -1, 0 };
    fd_set in;
    FD_ZERO(&in);
    FD_SET(200, &in);
    int high = fcntl(0, F_DUPFD, 300); /* the table is now larger than 200 */
    CHECK(high >= 300);
    CHECK_ERROR(select(201, &in, NULL, NULL, NULL), EBADF);
    close(high);
    CHECK_ERROR(select(-1, NULL, NULL, NULL, NULL), EINVAL);
    CHECK_ERROR(select(1, NULL, NULL, NULL, &negative), EINVAL);
    CHECK_ERROR(ppoll(NULL, 0, &bad, NULL), EINVAL);
    CHECK_ERROR(syscall(SYS_poll, (void *)8, 1, 0), EFAULT);
    CHECK_ERROR(syscall(SYS_select, 1, (void *)8, NULL, NULL, NULL), EFAULT);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    CHECK_ERROR(syscall(SYS_poll, NULL, limit.rlim_cur + 1, 0), EINVAL);
    sigset_t mask;
    sigemptyset(&mask);
    CHECK_ERROR(syscall(SYS_ppoll, NULL, 0, NULL, &mask, 5), EINVAL);
}

static void signals_end_the_wait(void)
{
    struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    signals = 0;
    ualarm(20000, 20000);
    CHECK_ERROR(poll(NULL, 0, 5000), EINTR); /* not restarted, even with SA_RESTART */
    CHECK(signals >= 1);
    CHECK_ERROR(select(0, NULL, NULL, NULL, NULL), EINTR);
    CHECK(signals >= 2);
    ualarm(0, 0);
}

static void ppoll_takes_signals_only_inside(void)
{
    struct sigaction action = { .sa_handler = count_signal };
    sigset_t block, none, after;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    signals = 0;
    raise(SIGUSR1);
    CHECK_EQUAL(signals, 0);
    struct timespec t = { 5, 0 };
    CHECK_ERROR(ppoll(NULL, 0, &t, &none), EINTR);
    CHECK_EQUAL(signals, 1);
    sigprocmask(SIG_BLOCK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR1));
    raise(SIGUSR1);
    CHECK_ERROR(pselect(0, NULL, NULL, NULL, &t, &none), EINTR);
    CHECK_EQUAL(signals, 2);
    sigprocmask(SIG_BLOCK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void poll_goes_on_after_a_stop(void)
{
    pid_t child = fork();
    if (child == 0) {
        double before = now();
        int result = poll(NULL, 0, 300);
        _exit(result != 0 || now() - before < 0.29);
    }
    int status;
    usleep(50000);
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    usleep(50000);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static void many_files(void)
{
    enum { COUNT = 200 };
    static int ends[COUNT][2];
    static struct pollfd set[COUNT];
    for (int i = 0; i < COUNT; i++) {
        CHECK(pipe(ends[i]) == 0);
        set[i] = (struct pollfd){ ends[i][0], POLLIN, 0 };
    }
    pid_t child = fork();
    if (child == 0) {
        usleep(20000);
        _exit(write(ends[COUNT - 3][1], "x", 1) != 1);
    }
    CHECK_EQUAL(poll(set, COUNT, 5000), 1);
    CHECK_EQUAL(set[COUNT - 3].revents, POLLIN);
    int status;
    waitpid(child, &status, 0);
    for (int i = 0; i < COUNT; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
}

static void a_sticky_timeout_stays(void)
{
    struct timeval time = { .tv_usec = 10 };
    fd_set set;
    FD_ZERO(&set);
    CHECK(personality(STICKY_TIMEOUTS) >= 0);
    CHECK(select(0, &set, NULL, NULL, &time) == 0 && time.tv_usec == 10);
    CHECK(personality(0) >= 0);
    CHECK(select(0, &set, NULL, NULL, &time) == 0 && time.tv_usec == 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(poll_tells_what_is_ready),
    GUEST_CASE(poll_waits_for_another_process),
    GUEST_CASE(timeouts_are_kept),
    GUEST_CASE(select_counts_bits),
    GUEST_CASE(wrong_arguments),
    GUEST_CASE(signals_end_the_wait),
    GUEST_CASE(ppoll_takes_signals_only_inside),
    GUEST_CASE(poll_goes_on_after_a_stop),
    GUEST_CASE(many_files),
    GUEST_CASE(a_sticky_timeout_stays),
};
GUEST_MAIN(cases)
