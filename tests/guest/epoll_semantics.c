/* epoll(7). */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct epoll_event got[16];

static int add(int set, int fd, unsigned events, unsigned long data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static int change(int set, int fd, unsigned events, unsigned long data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };
    return epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
}

static void level_triggered_reports_again(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC), ends[2];
    CHECK(pipe(ends) == 0);
    CHECK_EQUAL(add(set, ends[0], EPOLLIN, 7), 0);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    CHECK_EQUAL(write(ends[1], "xy", 2), 2);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(epoll_wait(set, got, 16, -1), 1);
        CHECK_EQUAL(got[0].events, EPOLLIN);
        CHECK_EQUAL(got[0].data.u64, 7);
    }
    char c[2];
    CHECK_EQUAL(read(ends[0], c, 2), 2);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    close(ends[1]);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    CHECK_EQUAL(got[0].events, EPOLLHUP);
    close(ends[0]);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0); /* removed by the last close */
    close(set);
}

static void edge_triggered_reports_once(void)
{
    int set = epoll_create(1), ends[2];
    char c[8];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    CHECK_EQUAL(add(set, ends[0], EPOLLIN | EPOLLET, 1), 0);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    CHECK_EQUAL(write(ends[1], "y", 1), 1); /* new data: a new edge, though nothing was read */
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    CHECK_EQUAL(read(ends[0], c, 8), 2);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    CHECK_EQUAL(write(ends[1], "z", 1), 1);
    CHECK_EQUAL(change(set, ends[0], EPOLLIN | EPOLLET, 2), 0);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    CHECK_EQUAL(got[0].data.u64, 2);
    close(ends[0]);
    close(ends[1]);
    close(set);
}

static void one_shot_must_be_armed_again(void)
{
    int set = epoll_create1(0), fd = eventfd(1, EFD_NONBLOCK);
    CHECK_EQUAL(add(set, fd, EPOLLIN | EPOLLONESHOT, 1), 0);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    CHECK_EQUAL(change(set, fd, EPOLLIN | EPOLLONESHOT, 1), 0);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 1);
    close(fd);
    close(set);
}

static void errors(void)
{
    int set = epoll_create1(0), fd = eventfd(0, 0), ends[2];
    struct epoll_event event = { .events = EPOLLIN };
    CHECK_ERROR(epoll_create(0), EINVAL);
    CHECK_ERROR(epoll_create1(3), EINVAL);
    CHECK_EQUAL(add(set, fd, EPOLLIN, 0), 0);
    CHECK_ERROR(add(set, fd, EPOLLIN, 0), EEXIST);
    CHECK_EQUAL(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL), 0);
    CHECK_ERROR(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL), ENOENT);
    CHECK_ERROR(change(set, fd, EPOLLIN, 0), ENOENT);
    CHECK_ERROR(add(set, set, EPOLLIN, 0), EINVAL);
    CHECK_ERROR(add(fd, set, EPOLLIN, 0), EINVAL);
    CHECK_ERROR(add(set, 999, EPOLLIN, 0), EBADF);
    CHECK_ERROR(add(999, fd, EPOLLIN, 0), EBADF);
    CHECK_ERROR(epoll_ctl(set, 55, fd, &event), EINVAL);
    CHECK_ERROR(syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fd, 8), EFAULT);
    int file = open("/etc/passwd", O_RDONLY);
    CHECK_ERROR(add(set, file, EPOLLIN, 0), EPERM);
    close(file);
    CHECK_ERROR(epoll_wait(set, got, 0, 0), EINVAL);
    CHECK_ERROR(epoll_wait(fd, got, 1, 0), EINVAL);
    CHECK_ERROR(epoll_wait(999, got, 1, 0), EBADF);
    CHECK_ERROR(add(set, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 0), EINVAL);
    CHECK(pipe(ends) == 0);
    CHECK_EQUAL(add(set, ends[0], EPOLLIN | EPOLLEXCLUSIVE, 0), 0);
    CHECK_ERROR(change(set, ends[0], EPOLLIN, 0), EINVAL);
    close(ends[0]);
    close(ends[1]);
    close(fd);
    close(set);
}

static void nested_sets(void)
{
    int outer = epoll_create1(0), inner = epoll_create1(0), fd = eventfd(0, EFD_NONBLOCK);
    uint64_t value = 1;
    CHECK_EQUAL(add(outer, inner, EPOLLIN, 11), 0);
    CHECK_EQUAL(add(inner, fd, EPOLLIN, 12), 0);
    CHECK_ERROR(add(inner, outer, EPOLLIN, 0), ELOOP);
    CHECK_EQUAL(epoll_wait(outer, got, 16, 0), 0);
    CHECK_EQUAL(write(fd, &value, 8), 8);
    CHECK_EQUAL(epoll_wait(outer, got, 16, 1000), 1);
    CHECK_EQUAL(got[0].data.u64, 11);
    CHECK_EQUAL(epoll_wait(inner, got, 16, 0), 1);
    CHECK_EQUAL(got[0].data.u64, 12);
    CHECK_EQUAL(read(fd, &value, 8), 8);
    CHECK_EQUAL(epoll_wait(outer, got, 16, 0), 0);
    close(inner);
    close(outer);
    close(fd);
    int chain[8], depth = 0;
    for (; depth < 8; depth++) {
        chain[depth] = epoll_create1(0);
        if (depth && add(chain[depth], chain[depth - 1], EPOLLIN, 0) != 0)
            break;
    }
    CHECK(depth < 8);
    for (int i = 0; i <= depth; i++)
        close(chain[i]);
}

static void duplicates_keep_an_item_alive(void)
{
    int set = epoll_create1(0), fd = eventfd(1, 0), other = dup(fd);
    CHECK_EQUAL(add(set, fd, EPOLLIN, 1), 0);
    CHECK_EQUAL(add(set, other, EPOLLIN, 2), 0);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 2);
    close(fd);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 2); /* epoll(7), question 6 */
    close(other);
    CHECK_EQUAL(epoll_wait(set, got, 16, 0), 0);
    close(set);
}

static void rounds_are_fair(void)
{
    int set = epoll_create1(0), fds[3], seen = 0;
    for (int i = 0; i < 3; i++) {
        fds[i] = eventfd(1, 0);
        CHECK_EQUAL(add(set, fds[i], EPOLLIN, (unsigned long)i), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(epoll_wait(set, got, 1, 0), 1);
        seen |= 1 << got[0].data.u64;
    }
    CHECK_EQUAL(seen, 7);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    close(set);
}

static int shared_set, shared_event;
static void *wait_in_thread(void *argument)
{
    struct epoll_event event;
    return (void *)(long)epoll_wait(shared_set, &event, 1, 5000);
}

static void a_waiting_thread_sees_additions(void)
{
    pthread_t thread;
    void *result;
    shared_set = epoll_create1(0);
    shared_event = eventfd(1, 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, wait_in_thread, NULL), 0);
    usleep(30000);
    CHECK_EQUAL(add(shared_set, shared_event, EPOLLIN, 0), 0);
    CHECK_EQUAL(pthread_join(thread, &result), 0);
    CHECK_EQUAL((long)result, 1);
    close(shared_event);
    close(shared_set);
}

static void children_share_the_set(void)
{
    int set = epoll_create1(0), fd = eventfd(0, EFD_NONBLOCK), status;
    uint64_t value = 3;
    CHECK_EQUAL(add(set, fd, EPOLLIN, 5), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(epoll_wait(set, got, 4, 5000) != 1 || got[0].data.u64 != 5);
    usleep(20000);
    CHECK_EQUAL(write(fd, &value, 8), 8);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(epoll_wait(set, got, 4, 0), 1);
    close(fd);
    close(set);
}

static volatile sig_atomic_t signals;
static void count_signal(int number) { signals++; }

static void pwait_takes_signals_only_inside(void)
{
    int set = epoll_create1(0);
    struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
    sigset_t block, none, after;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    CHECK_ERROR(epoll_pwait(set, got, 4, 5000, &none), EINTR);
    CHECK_EQUAL(signals, 1);
    sigprocmask(SIG_BLOCK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    struct timespec t = { 0, 20000000 };
    CHECK_EQUAL(epoll_pwait2(set, got, 4, &t, NULL), 0);
    close(set);
}

static void a_read_that_leaves_something_is_no_edge(void)
{
    int ends[2], set = epoll_create1(0);
    char data[8];
    CHECK(pipe(ends) == 0);
    CHECK_EQUAL(add(set, ends[0], EPOLLIN | EPOLLET, 1), 0);
    CHECK(write(ends[1], "12345678", 8) == 8);
    CHECK_EQUAL(epoll_wait(set, got, 4, 0), 1);
    CHECK(read(ends[0], data, 4) == 4);
    CHECK_EQUAL(epoll_wait(set, got, 4, 0), 0);
    close(ends[0]);
    close(ends[1]);
    close(set);
}

/* Exclusive sets are woken one at a time, and only those that somebody waits for. */
static void an_exclusive_event_goes_to_one_who_waits(void)
{
    enum { WAITERS = 4 };
    int ends[2], told[2], idle = epoll_create1(0);
    char c;
    CHECK(pipe(ends) == 0 && pipe(told) == 0);
    CHECK_EQUAL(add(idle, ends[0], EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, 0), 0); /* the first in the queue: nobody waits for it */
    for (int i = 0; i < WAITERS; i++) {
        int ready[2];
        CHECK(pipe(ready) == 0);
        if (fork() == 0) {
            int set = epoll_create1(0);
            CHECK_EQUAL(add(set, ends[0], EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, 0), 0);
            CHECK(write(ready[1], "r", 1) == 1);
            CHECK_EQUAL(epoll_wait(set, got, 1, 20000), 1);
            CHECK(write(told[1], "w", 1) == 1);
            usleep(100000); /* the set stays, unwaited for */
            _exit(0);
        }
        CHECK(read(ready[0], &c, 1) == 1);
        close(ready[0]);
        close(ready[1]);
    }
    usleep(100000);
    for (int i = 0; i < WAITERS; i++) {
        CHECK(write(ends[1], "x", 1) == 1);
        alarm(10);
        CHECK(read(told[0], &c, 1) == 1);
        alarm(0);
        CHECK(read(ends[0], &c, 1) == 1);
    }
    for (int i = 0, status; i < WAITERS; i++)
        CHECK(wait(&status) > 0 && status == 0);
    close(idle);
}

static const struct guest_case cases[] = {
    GUEST_CASE(level_triggered_reports_again),
    GUEST_CASE(edge_triggered_reports_once),
    GUEST_CASE(one_shot_must_be_armed_again),
    GUEST_CASE(errors),
    GUEST_CASE(nested_sets),
    GUEST_CASE(duplicates_keep_an_item_alive),
    GUEST_CASE(rounds_are_fair),
    GUEST_CASE(a_waiting_thread_sees_additions),
    GUEST_CASE(children_share_the_set),
    GUEST_CASE(pwait_takes_signals_only_inside),
    GUEST_CASE(a_read_that_leaves_something_is_no_edge),
    GUEST_CASE(an_exclusive_event_goes_to_one_who_waits),
};
GUEST_MAIN(cases)
