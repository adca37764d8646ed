/* eventfd(2), timerfd_create(2), signalfd(2): descriptors that stand for an event. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int ready(int fd, short events)
{
    struct pollfd set = { fd, events, 0 };
    return poll(&set, 1, 0) == 1 ? set.revents : 0;
}

static void eventfd_adds_up(void)
{
    int fd = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 4;
    CHECK_EQUAL(write(fd, &value, 8), 8);
    CHECK_EQUAL(read(fd, &value, 8), 8);
    CHECK_EQUAL(value, 7);
    CHECK_ERROR(read(fd, &value, 8), EAGAIN);
    CHECK_ERROR(read(fd, &value, 7), EINVAL);
    CHECK_EQUAL(ready(fd, POLLIN | POLLOUT), POLLOUT);
    value = UINT64_MAX;
    CHECK_ERROR(write(fd, &value, 8), EINVAL);
    value = UINT64_MAX - 1;
    CHECK_EQUAL(write(fd, &value, 8), 8);
    CHECK_EQUAL(ready(fd, POLLIN | POLLOUT), POLLIN);
    value = 1;
    CHECK_ERROR(write(fd, &value, 8), EAGAIN);
    CHECK_ERROR(write(fd, &value, 4), EINVAL);
    close(fd);
    CHECK_ERROR(eventfd(0, 0x100), EINVAL);
}

static void eventfd_as_semaphore(void)
{
    int fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    uint64_t value = 0;
    CHECK(read(fd, &value, 8) == 8 && value == 1);
    CHECK(read(fd, &value, 8) == 8 && value == 1);
    CHECK_ERROR(read(fd, &value, 8), EAGAIN);
    close(fd);
}

static void eventfd_between_processes(void)
{
    int fd = eventfd(0, 0), status;
    uint64_t value = 5;
    pid_t child = fork();
    if (child == 0) {
        usleep(20000);
        _exit(write(fd, &value, 8) != 8);
    }
    value = 0;
    CHECK(read(fd, &value, 8) == 8 && value == 5);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(fd);
}

static void timerfd_counts_expirations(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec set = { { 0, 10000000 }, { 0, 20000000 } }, now;
    uint64_t count = 0;
    CHECK_EQUAL(timerfd_settime(fd, 0, &set, NULL), 0);
    CHECK_EQUAL(timerfd_gettime(fd, &now), 0);
    CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_nsec > 0 && now.it_interval.tv_nsec == 10000000);
    CHECK_EQUAL(ready(fd, POLLIN), 0);
    CHECK(read(fd, &count, 8) == 8 && count >= 1);
    usleep(55000);
    CHECK(read(fd, &count, 8) == 8 && count >= 4);
    memset(&set, 0, sizeof set);
    CHECK_EQUAL(timerfd_settime(fd, 0, &set, &now), 0);
    CHECK_EQUAL(now.it_interval.tv_nsec, 10000000);
    CHECK_EQUAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    usleep(20000);
    CHECK_ERROR(read(fd, &count, 8), EAGAIN);
    CHECK_ERROR(read(fd, &count, 4), EINVAL);
    close(fd);
}

static void timerfd_at_an_absolute_time(void)
{
    int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int fd = timerfd_create(clocks[i], 0);
        struct timespec now, later;
        struct itimerspec set = { 0 };
        uint64_t count = 0;
        clock_gettime(clocks[i], &now);
        set.it_value = now;
        set.it_value.tv_nsec += 30000000;
        if (set.it_value.tv_nsec >= 1000000000) {
            set.it_value.tv_nsec -= 1000000000;
            set.it_value.tv_sec++;
        }
        CHECK_EQUAL(timerfd_settime(fd, TFD_TIMER_ABSTIME, &set, NULL), 0);
        CHECK(read(fd, &count, 8) == 8 && count == 1);
        clock_gettime(clocks[i], &later);
        double passed = (double)(later.tv_sec - now.tv_sec) + (double)(later.tv_nsec - now.tv_nsec) / 1e9;
        CHECK(passed >= 0.0299 && passed < 2);
        close(fd);
    }
}

static void timerfd_errors(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, 0), null = open("/dev/null", O_RDONLY);
    struct itimerspec bad = { { 0, 0 }, { 0, 1000000000 } }, good = { { 0, 0 }, { 1, 0 } };
    CHECK_ERROR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    CHECK_ERROR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    CHECK_ERROR(timerfd_settime(fd, 0, &bad, NULL), EINVAL);
    CHECK_ERROR(timerfd_settime(fd, 0x40, &good, NULL), EINVAL);
    CHECK_ERROR(timerfd_settime(null, 0, &good, NULL), EINVAL);
    CHECK_ERROR(timerfd_settime(-1, 0, &good, NULL), EBADF);
    CHECK_ERROR(timerfd_gettime(null, &good), EINVAL);
    close(fd);
    close(null);
}

static void signalfd_reads_what_is_pending(void)
{
    sigset_t set;
    struct signalfd_siginfo info[4];
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_ERROR(read(fd, info, sizeof *info), EAGAIN);
    CHECK_EQUAL(ready(fd, POLLIN), 0);
    union sigval value = { .sival_int = 42 };
    CHECK_EQUAL(sigqueue(getpid(), SIGUSR1, value), 0);
    CHECK_EQUAL(ready(fd, POLLIN), POLLIN);
    CHECK_EQUAL(read(fd, info, sizeof info), sizeof *info);
    CHECK(info[0].ssi_signo == SIGUSR1 && info[0].ssi_int == 42 && info[0].ssi_code == SI_QUEUE);
    CHECK(info[0].ssi_pid == (uint32_t)getpid());
    CHECK_ERROR(read(fd, info, 10), EINVAL);
    pid_t child = fork();
    if (child == 0)
        _exit(9);
    struct pollfd wait_set = { fd, POLLIN, 0 };
    CHECK_EQUAL(poll(&wait_set, 1, 5000), 1);
    CHECK_EQUAL(read(fd, info, sizeof info), sizeof *info);
    CHECK(info[0].ssi_signo == SIGCHLD && info[0].ssi_pid == (uint32_t)child && info[0].ssi_status == 9);
    waitpid(child, NULL, 0);
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    CHECK_EQUAL(signalfd(fd, &other, 0), fd);
    raise(SIGUSR1);
    CHECK_ERROR(read(fd, info, sizeof *info), EAGAIN);
    CHECK_ERROR(signalfd(0, &other, 0x1), EINVAL);
    CHECK_ERROR(signalfd(999, &other, 0), EBADF);
    close(fd);
}

static void descriptors_of_events_are_no_files(void)
{
    sigset_t set;
    sigemptyset(&set);
    int fds[] = { eventfd(0, 0), timerfd_create(CLOCK_MONOTONIC, 0), signalfd(-1, &set, 0), epoll_create1(0) };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        struct stat status;
        CHECK(fds[i] >= 0);
        CHECK_EQUAL(fstat(fds[i], &status), 0);
        CHECK_EQUAL(status.st_mode, 0600);
        CHECK_ERROR(readahead(fds[i], 0, 4096), EINVAL);
        CHECK_ERROR(ftruncate(fds[i], 0), EINVAL);
        CHECK_ERROR(fallocate(fds[i], 0, 0, 4096), ENODEV);
        close(fds[i]);
    }
}

static const struct guest_case cases[] = {
    GUEST_CASE(eventfd_adds_up),
    GUEST_CASE(eventfd_as_semaphore),
    GUEST_CASE(eventfd_between_processes),
    GUEST_CASE(timerfd_counts_expirations),
    GUEST_CASE(timerfd_at_an_absolute_time),
    GUEST_CASE(timerfd_errors),
    GUEST_CASE(signalfd_reads_what_is_pending),
    GUEST_CASE(descriptors_of_events_are_no_files),
};
GUEST_MAIN(cases)
