/* Descriptors: dup(2), fcntl(2), close_range(2), limits. */
#include "fs.h"
#include <sys/ioctl.h>
#include <linux/close_range.h>

static void lowest_free_number_is_taken(void)
{
    make_file("f", "x");
    int a = open("f", O_RDONLY), b = open("f", O_RDONLY), c = open("f", O_RDONLY);
    CHECK(b == a + 1 && c == b + 1);
    CHECK(close(b) == 0);
    CHECK_EQUAL(open("f", O_RDONLY), b);
    CHECK(close(a) == 0 && close(b) == 0);
    CHECK_EQUAL(dup(c), a);
    CHECK_EQUAL(dup(c), b);
    CHECK_EQUAL(fcntl(c, F_DUPFD, 50), 50);
    CHECK_EQUAL(fcntl(c, F_DUPFD, 50), 51);
    CHECK(close(50) == 0);
    CHECK_EQUAL(fcntl(c, F_DUPFD, 40), 40);
    CHECK_EQUAL(fcntl(c, F_DUPFD, 50), 50);
    CHECK_ERROR(close(45), EBADF);
    CHECK_ERROR(close(-1), EBADF);
    CHECK_ERROR(dup(45), EBADF);
}

static void dup2_replaces(void)
{
    make_file("f", "from f");
    make_file("g", "from g");
    char b[8];
    int f = open("f", O_RDONLY), g = open("g", O_RDONLY);
    CHECK_EQUAL(dup2(f, g), g);
    CHECK(read(g, b, 6) == 6 && !memcmp(b, "from f", 6));
    CHECK_EQUAL(dup2(f, 100), 100);
    CHECK_EQUAL(dup2(f, f), f);
    CHECK_ERROR(dup2(77, 77), EBADF);
    CHECK_ERROR(dup2(77, f), EBADF);
    CHECK_ERROR(dup2(f, -1), EBADF);
    CHECK_ERROR(dup3(f, f, 0), EINVAL);
    CHECK_ERROR(dup3(f, 101, O_APPEND), EINVAL);
    CHECK_EQUAL(dup3(f, 101, O_CLOEXEC), 101);
    CHECK_EQUAL(fcntl(101, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(fcntl(100, F_GETFD), 0);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 64;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_ERROR(dup2(f, 64), EBADF);
    CHECK_ERROR(fcntl(f, F_DUPFD, 64), EINVAL);
    int last = -1, fd;
    while ((fd = dup(f)) >= 0)
        last = fd;
    CHECK(errno == EMFILE && last == 63);
    CHECK_ERROR(open("f", O_RDONLY), EMFILE);
    CHECK(close(10) == 0);
    CHECK_EQUAL(open("f", O_RDONLY), 10);
}

static void flags_are_kept(void)
{
    make_file("f", "x");
    int fd = open("f", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int flags = fcntl(fd, F_GETFL);
    CHECK_EQUAL(flags & O_ACCMODE, O_RDWR);
    CHECK((flags & O_APPEND) && !(flags & (O_CREAT | O_CLOEXEC | O_NONBLOCK)));
    CHECK_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(fd, F_SETFD, 0) == 0 && fcntl(fd, F_GETFD) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    flags = fcntl(fd, F_GETFL);
    CHECK((flags & O_NONBLOCK) && !(flags & O_APPEND) && (flags & O_ACCMODE) == O_RDWR);
    int copy = dup(fd);
    int on = 0;
    CHECK(ioctl(copy, FIONBIO, &on) == 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
    CHECK(ioctl(fd, FIOCLEX) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(copy, F_GETFD) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && ioctl(fd, FIONREAD, &on) == 0 && on == 1);
    CHECK_ERROR(ioctl(fd, 0x5401 /* TCGETS */, &on), ENOTTY);
    CHECK_ERROR(fcntl(fd, 9999), EINVAL);
    CHECK_ERROR(fcntl(99, F_GETFD), EBADF);
    CHECK_EQUAL(fcntl(fd, F_GETLEASE), F_UNLCK);
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_GETOWN) == getpid());
    CHECK_ERROR(fcntl(fd, F_SETOWN, 999999), ESRCH);
    CHECK(fcntl(fd, F_SETSIG, 10) == 0 && fcntl(fd, F_GETSIG) == 10);
    CHECK_ERROR(fcntl(fd, F_SETSIG, 100), EINVAL);
}

static void ranges_are_closed(void)
{
    make_file("f", "x");
    int fd = open("f", O_RDONLY);
    for (int i = 60; i < 70; i++)
        CHECK_EQUAL(dup2(fd, i), i);
    CHECK(syscall(SYS_close_range, 62, 64, 0) == 0);
    CHECK(fcntl(61, F_GETFD) == 0 && fcntl(65, F_GETFD) == 0);
    CHECK_ERROR(fcntl(62, F_GETFD), EBADF);
    CHECK_ERROR(fcntl(64, F_GETFD), EBADF);
    CHECK(syscall(SYS_close_range, 65, ~0u, CLOSE_RANGE_CLOEXEC) == 0);
    CHECK(fcntl(65, F_GETFD) == FD_CLOEXEC && fcntl(69, F_GETFD) == FD_CLOEXEC && fcntl(61, F_GETFD) == 0);
    CHECK(syscall(SYS_close_range, 60, ~0u, 0) == 0);
    CHECK_ERROR(fcntl(69, F_GETFD), EBADF);
    CHECK_ERROR(syscall(SYS_close_range, 5, 4, 0), EINVAL);
    CHECK_ERROR(syscall(SYS_close_range, 5, 6, 8), EINVAL);
}

static void children_share_positions_not_tables(void)
{
    make_file("f", "0123456789");
    int fd = open("f", O_RDONLY), status;
    pid_t child = fork();
    if (child == 0) {
        char b[4];
        CHECK(read(fd, b, 4) == 4);
        CHECK(close(fd) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4);
    CHECK(close(fd) == 0);
}

static void many_descriptors(void)
{
    struct rlimit limit;
    make_file("f", "x");
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int fd = open("f", O_RDONLY);
    int count = (int)limit.rlim_cur - 50;
    for (int i = 0; i < count; i++) {
        int got = i % 7 ? dup(fd) : open("f", O_RDONLY);
        CHECK(got >= 0);
    }
    CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
    CHECK_EQUAL(open("f", O_RDONLY), 3);
}

static void running_programs_are_not_written(void)
{
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(size > 0);
    self[size] = 0;
    char command[PATH_MAX * 2];
    snprintf(command, sizeof command, "cp /bin/sleep ./program");
    CHECK(system(command) == 0);
    int writer = open("program", O_RDWR);
    pid_t child = fork();
    if (child == 0) {
        execl("./program", "program", "5", NULL);
        _exit(errno == ETXTBSY ? 42 : 43);
    }
    int status;
    close(writer);
    /* The child's copy of the descriptor is open for writing too. */
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 42);
    child = fork();
    if (child == 0) {
        execl("./program", "program", "5", NULL);
        _exit(1);
    }
    usleep(300000);
    CHECK_ERROR(open("program", O_RDWR), ETXTBSY);
    CHECK_ERROR(truncate("program", 0), ETXTBSY);
    CHECK(unlink("program") == 0);
    kill(child, 9);
    waitpid(child, &status, 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(lowest_free_number_is_taken),
    GUEST_CASE(dup2_replaces),
    GUEST_CASE(flags_are_kept),
    GUEST_CASE(ranges_are_closed),
    GUEST_CASE(children_share_positions_not_tables),
    GUEST_CASE(many_descriptors),
    GUEST_CASE(running_programs_are_not_written),
};
FS_MAIN(cases)
