/* pipe(2) and pipe(7). */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int ends[2];
static volatile sig_atomic_t signals;
static void count_signal(int number) { signals++; }

static void make(int flags) { CHECK(pipe2(ends, flags) == 0); }
static void drop(void)
{
    close(ends[0]);
    close(ends[1]);
}

static void bytes_come_out_in_order(void)
{
    char buffer[16] = "";
    make(0);
    CHECK(write(ends[1], "abc", 3) == 3);
    CHECK(write(ends[1], "defg", 4) == 4);
    CHECK(read(ends[0], buffer, 2) == 2 && !memcmp(buffer, "ab", 2));
    CHECK(read(ends[0], buffer, sizeof buffer) == 5 && !memcmp(buffer, "cdefg", 5));
    close(ends[1]);
    CHECK(read(ends[0], buffer, sizeof buffer) == 0);
    close(ends[0]);
}

static void wrong_end_is_EBADF(void)
{
    char c = 0;
    make(0);
    CHECK_ERROR(read(ends[1], &c, 1), EBADF);
    CHECK_ERROR(write(ends[0], &c, 1), EBADF);
    CHECK_ERROR(lseek(ends[0], 0, SEEK_CUR), ESPIPE);
    CHECK_ERROR(pread(ends[0], &c, 1, 0), ESPIPE);
    drop();
    CHECK_ERROR(pipe2(ends, 0x40000000), EINVAL);
    CHECK_ERROR(syscall(293, (void *)8, 0), EFAULT); /* pipe2 */
}

static void write_without_reader_is_EPIPE_and_SIGPIPE(void)
{
    signal(SIGPIPE, count_signal);
    make(0);
    close(ends[0]);
    signals = 0;
    CHECK_ERROR(write(ends[1], "x", 1), EPIPE);
    CHECK(signals == 1);
    struct pollfd poll_end = { .fd = ends[1], .events = POLLOUT };
    CHECK(poll(&poll_end, 1, 0) == 1 && (poll_end.revents & POLLERR));
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
}

static void nonblocking_ends_say_EAGAIN(void)
{
    char buffer[4096];
    make(O_NONBLOCK);
    CHECK_ERROR(read(ends[0], buffer, 1), EAGAIN);
    memset(buffer, 'x', sizeof buffer);
    long total = 0, n;
    while ((n = write(ends[1], buffer, sizeof buffer)) > 0)
        total += n;
    CHECK(errno == EAGAIN);
    CHECK(total == 65536);
    int count = 0;
    CHECK(ioctl(ends[0], FIONREAD, &count) == 0 && count == 65536);
    struct pollfd poll_end = { .fd = ends[1], .events = POLLOUT };
    CHECK(poll(&poll_end, 1, 0) == 0);
    CHECK(read(ends[0], buffer, sizeof buffer) == sizeof buffer);
    CHECK(poll(&poll_end, 1, 0) == 1 && poll_end.revents == POLLOUT);
    drop();
}

static void large_nonblocking_write_is_partial(void)
{
    char *big = malloc(100000);
    memset(big, 'y', 100000);
    make(O_NONBLOCK);
    CHECK(write(ends[1], big, 100000) == 65536);
    drop();
    free(big);
}

static void size_can_be_changed(void)
{
    char buffer[5000];
    make(O_NONBLOCK);
    CHECK(fcntl(ends[0], F_GETPIPE_SZ) == 65536);
    CHECK(fcntl(ends[0], F_SETPIPE_SZ, 5000) == 8192);
    memset(buffer, 'a', sizeof buffer);
    CHECK(write(ends[1], buffer, 4097) == 4097);
    CHECK_ERROR(fcntl(ends[1], F_SETPIPE_SZ, 4096), EBUSY);
    CHECK(fcntl(ends[1], F_SETPIPE_SZ, 1 << 17) == 1 << 17);
    CHECK(read(ends[0], buffer, sizeof buffer) == 4097);
    CHECK(buffer[0] == 'a' && buffer[4096] == 'a');
    int other = open("/dev/null", O_RDONLY);
    CHECK_ERROR(fcntl(other, F_GETPIPE_SZ), EBADF);
    close(other);
    drop();
}

static void packets_keep_their_bounds(void)
{
    char buffer[64];
    make(O_DIRECT | O_NONBLOCK);
    CHECK(write(ends[1], "hello", 5) == 5);
    CHECK(write(ends[1], "world!", 6) == 6);
    CHECK(read(ends[0], buffer, sizeof buffer) == 5);
    CHECK(read(ends[0], buffer, 2) == 2); /* the rest of the packet is lost */
    CHECK_ERROR(read(ends[0], buffer, sizeof buffer), EAGAIN);
    drop();
}

static void fault_is_EFAULT(void)
{
    void *volatile bad = (void *)8;
    make(O_NONBLOCK);
    CHECK_ERROR(write(ends[1], bad, 5), EFAULT);
    CHECK(write(ends[1], "abc", 3) == 3);
    CHECK_ERROR(read(ends[0], bad, 5), EFAULT);
    char buffer[8];
    CHECK(read(ends[0], buffer, sizeof buffer) == 3); /* nothing was lost */
    drop();
}

static void vmsplice_gives_what_fits(void)
{
    static char data[200000] __attribute__((aligned(4096)));
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct iovec part = { data, sizeof data };
    CHECK(fcntl(ends[1], F_GETPIPE_SZ) == 65536);
    CHECK_EQUAL(vmsplice(ends[1], &part, 1, 0), 65536);
    CHECK_ERROR(vmsplice(ends[1], &part, 1, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_EQUAL(read(ends[0], data, sizeof data), 65536);
    int event = eventfd(0, 0);
    CHECK_ERROR(splice(ends[0], NULL, event, NULL, 8, 0), EINVAL); /* at once, though the pipe is empty */
    close(event);
    close(ends[0]);
    close(ends[1]);
}

static void stat_says_fifo(void)
{
    struct stat info;
    make(0);
    CHECK(fstat(ends[0], &info) == 0 && S_ISFIFO(info.st_mode));
    drop();
}

static void reader_sees_hang_up(void)
{
    make(0);
    struct pollfd end = { .fd = ends[0], .events = POLLIN };
    CHECK(poll(&end, 1, 0) == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    close(ends[1]);
    CHECK(poll(&end, 1, 0) == 1 && end.revents == (POLLIN | POLLHUP));
    char c;
    CHECK(read(ends[0], &c, 1) == 1);
    CHECK(poll(&end, 1, 0) == 1 && end.revents == POLLHUP);
    close(ends[0]);
}

static void interrupted_read_is_EINTR_or_restarted(void)
{
    char c = 0;
    make(0);
    struct sigaction action = { .sa_handler = count_signal };
    sigaction(SIGALRM, &action, NULL);
    signals = 0;
    ualarm(20000, 20000); /* again and again: the first may come before the read */
    CHECK_ERROR(read(ends[0], &c, 1), EINTR);
    ualarm(0, 0);
    CHECK(signals >= 1);
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    signals = 0;
    pid_t child = fork();
    if (child == 0) {
        usleep(100000);
        CHECK(write(ends[1], "z", 1) == 1);
        _exit(0);
    }
    ualarm(20000, 20000);
    CHECK(read(ends[0], &c, 1) == 1 && c == 'z');
    ualarm(0, 0);
    CHECK(signals >= 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    drop();
}

/* Several writers of whole records: none is torn (PIPE_BUF), and nothing is lost. */
static void writes_up_to_PIPE_BUF_are_atomic(void)
{
    enum { WRITERS = 4, RECORDS = 300, SIZE = 1000 };
    char record[SIZE];
    int seen[WRITERS] = { 0 };
    make(0);
    for (int w = 0; w < WRITERS; w++) {
        if (fork() == 0) {
            memset(record, 'A' + w, SIZE);
            for (int i = 0; i < RECORDS; i++)
                CHECK(write(ends[1], record, SIZE) == SIZE);
            _exit(0);
        }
    }
    close(ends[1]);
    size_t have = 0;
    for (;;) {
        ssize_t n = read(ends[0], record + have, SIZE - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        if (have < SIZE)
            continue;
        int torn = 0;
        for (int i = 1; i < SIZE; i++)
            torn |= record[i] != record[0];
        CHECK(!torn);
        if (record[0] >= 'A' && record[0] < 'A' + WRITERS)
            seen[record[0] - 'A']++;
        have = 0;
    }
    CHECK(have == 0);
    for (int w = 0; w < WRITERS; w++) {
        int status;
        CHECK(seen[w] == RECORDS);
        CHECK(wait(&status) > 0 && status == 0);
    }
    close(ends[0]);
}

/* Any mixture of sizes on both sides carries the same bytes. */
static void streams_carry_every_byte(void)
{
    enum { TOTAL = 8 << 20 };
    static unsigned char buffer[200000];
    make(0);
    pid_t child = fork();
    if (child == 0) {
        unsigned seed = 1, next = 0;
        for (size_t sent = 0; sent < TOTAL;) {
            seed = seed * 1103515245 + 12345;
            size_t size = seed >> 8 & 1 ? (seed >> 9) % 100 + 1 : (seed >> 9) % sizeof buffer + 1;
            if (size > TOTAL - sent)
                size = TOTAL - sent;
            for (size_t i = 0; i < size; i++)
                buffer[i] = (unsigned char)(next++ * 7 % 251);
            CHECK(write(ends[1], buffer, size) == (ssize_t)size);
            sent += size;
        }
        _exit(0);
    }
    close(ends[1]);
    unsigned seed = 99, next = 0;
    size_t received = 0, wrong = 0;
    for (;;) {
        seed = seed * 1103515245 + 12345;
        ssize_t n = read(ends[0], buffer, (seed >> 9) % sizeof buffer + 1);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            wrong += buffer[i] != (unsigned char)(next++ * 7 % 251);
        received += (size_t)n;
    }
    CHECK(received == TOTAL && wrong == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(ends[0]);
}

static void ping_pong_between_processes(void)
{
    int there[2], back[2];
    char c = 0;
    CHECK(pipe(there) == 0 && pipe(back) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &c, 1) == 1) {
            c++;
            CHECK(write(back[1], &c, 1) == 1);
        }
        _exit(0);
    }
    int wrong = 0;
    for (int i = 0; i < 20000; i++) {
        char out = (char)i, in = 0;
        wrong += write(there[1], &out, 1) != 1 || read(back[0], &in, 1) != 1 || in != (char)(out + 1);
    }
    CHECK(wrong == 0);
    close(there[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(there[0]);
    close(back[0]);
    close(back[1]);
}

static const struct guest_case cases[] = {
    GUEST_CASE(bytes_come_out_in_order),
    GUEST_CASE(wrong_end_is_EBADF),
    GUEST_CASE(write_without_reader_is_EPIPE_and_SIGPIPE),
    GUEST_CASE(nonblocking_ends_say_EAGAIN),
    GUEST_CASE(large_nonblocking_write_is_partial),
    GUEST_CASE(size_can_be_changed),
    GUEST_CASE(packets_keep_their_bounds),
    GUEST_CASE(fault_is_EFAULT),
    GUEST_CASE(vmsplice_gives_what_fits),
    GUEST_CASE(stat_says_fifo),
    GUEST_CASE(reader_sees_hang_up),
    GUEST_CASE(interrupted_read_is_EINTR_or_restarted),
    GUEST_CASE(writes_up_to_PIPE_BUF_are_atomic),
    GUEST_CASE(streams_carry_every_byte),
    GUEST_CASE(ping_pong_between_processes),
};
GUEST_MAIN(cases)
