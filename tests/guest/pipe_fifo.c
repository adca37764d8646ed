/* fifo(7): named pipes. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64];

static void nonblocking_open_rules(void)
{
    char c;
    CHECK_ERROR(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    CHECK(reader >= 0);
    struct pollfd end = { .fd = reader, .events = POLLIN };
    CHECK(poll(&end, 1, 0) == 0); /* no writer yet: not hung up */
    CHECK(read(reader, &c, 1) == 0);
    int writer = open(path, O_WRONLY | O_NONBLOCK);
    CHECK(writer >= 0);
    CHECK_ERROR(read(reader, &c, 1), EAGAIN);
    CHECK(write(writer, "q", 1) == 1);
    CHECK(poll(&end, 1, 0) == 1 && end.revents == POLLIN);
    CHECK(read(reader, &c, 1) == 1 && c == 'q');
    close(writer);
    CHECK(poll(&end, 1, 0) == 1 && end.revents == POLLHUP);
    close(reader);
}

static void open_waits_for_the_other_end(void)
{
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        int writer = open(path, O_WRONLY);
        CHECK(writer >= 0 && write(writer, "hello", 5) == 5);
        _exit(0);
    }
    char buffer[8];
    int reader = open(path, O_RDONLY), status;
    CHECK(reader >= 0);
    CHECK(read(reader, buffer, sizeof buffer) == 5);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(read(reader, buffer, sizeof buffer) == 0);
    close(reader);
}

static void read_write_open_never_waits(void)
{
    char c;
    int both = open(path, O_RDWR);
    CHECK(both >= 0);
    CHECK(write(both, "r", 1) == 1 && read(both, &c, 1) == 1 && c == 'r');
    int writer = open(path, O_WRONLY | O_NONBLOCK);
    CHECK(writer >= 0);
    close(writer);
    close(both);
    CHECK_ERROR(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
}

static void on_alarm(int number) {}

static void interrupted_open_is_EINTR(void)
{
    struct sigaction action = { .sa_handler = on_alarm };
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 30000);
    CHECK_ERROR(open(path, O_RDONLY), EINTR);
    ualarm(0, 0);
}

static void data_goes_with_the_last_end(void)
{
    char c;
    int both = open(path, O_RDWR | O_NONBLOCK);
    CHECK(write(both, "gone", 4) == 4);
    close(both);
    both = open(path, O_RDWR | O_NONBLOCK);
    CHECK_ERROR(read(both, &c, 1), EAGAIN);
    close(both);
}

static void a_writer_that_has_gone_again_has_been_there(void)
{
    int go[2], status;
    CHECK(pipe(go) == 0);
    pid_t child = fork();
    if (child == 0) {
        for (char c; read(go[0], &c, 1) == 1 && c == 'w';) {
            int writer = open(path, O_WRONLY);
            CHECK(writer >= 0 && write(writer, "hello", 5) == 5);
            close(writer);
        }
        _exit(0);
    }
    alarm(20);
    for (int round = 0; round < 2000; round++) {
        char buffer[8];
        CHECK(write(go[1], "w", 1) == 1);
        for (volatile int pause = round % 50 * 100; pause > 0; pause--) {
        }
        int reader = open(path, O_RDONLY);
        CHECK(reader >= 0 && read(reader, buffer, sizeof buffer) == 5 && read(reader, buffer, sizeof buffer) == 0);
        close(reader);
    }
    alarm(0);
    CHECK(write(go[1], "e", 1) == 1 && waitpid(child, &status, 0) == child && status == 0);
}

static void cleanup_and_names(void)
{
    struct stat info;
    CHECK(stat(path, &info) == 0 && S_ISFIFO(info.st_mode) && (info.st_mode & 0777) == 0600);
    CHECK_ERROR(mkfifo(path, 0600), EEXIST);
    CHECK(unlink(path) == 0);
}

static void make_fifo(void)
{
    snprintf(path, sizeof path, "/tmp/fifo-test-%d", (int)getpid());
    CHECK(mkfifo(path, 0600) == 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(make_fifo),
    GUEST_CASE(nonblocking_open_rules),
    GUEST_CASE(open_waits_for_the_other_end),
    GUEST_CASE(read_write_open_never_waits),
    GUEST_CASE(interrupted_open_is_EINTR),
    GUEST_CASE(data_goes_with_the_last_end),
    GUEST_CASE(a_writer_that_has_gone_again_has_been_there),
    GUEST_CASE(cleanup_and_names),
};
GUEST_MAIN(cases)
