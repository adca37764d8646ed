/* Record locks, open-file-description locks and flock(2). */
#include "fs.h"
#include <signal.h>
#include <sys/file.h>

static int lock_range(int fd, int command, int type, off_t start, off_t length)
{
    struct flock lock = { .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(fd, command, &lock);
}
/* Type of the lock that stands in the way, and its range. */
static struct flock query(int fd, int type, off_t start, off_t length)
{
    struct flock lock = { .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    CHECK(fcntl(fd, F_GETLK, &lock) == 0);
    return lock;
}
static int make(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0);
    return fd;
}
#define IN_CHILD(body) \
    do { \
        pid_t child_ = fork(); \
        if (child_ == 0) { body; _exit(0); } \
        int status_; \
        CHECK(waitpid(child_, &status_, 0) == child_ && status_ == 0); \
    } while (0)

static void record_locks_exclude_others(void)
{
    int fd = make();
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 10, 10) == 0);
    CHECK(query(fd, F_WRLCK, 0, 0).l_type == F_UNLCK); /* one's own are no obstacle */
    pid_t parent = getpid();
    IN_CHILD({
        struct flock found = query(fd, F_RDLCK, 0, 0);
        CHECK(found.l_type == F_WRLCK && found.l_start == 10 && found.l_len == 10 && found.l_pid == parent);
        CHECK(lock_range(fd, F_SETLK, F_RDLCK, 15, 1) == -1 && (errno == EAGAIN || errno == EACCES));
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 20, 0) == 0);
    });
    CHECK(query(fd, F_WRLCK, 0, 10).l_type == F_UNLCK); /* gone with the child */
    CHECK(lock_range(fd, F_SETLK, F_RDLCK, 10, 10) == 0);
    IN_CHILD({
        CHECK(lock_range(fd, F_SETLK, F_RDLCK, 5, 10) == 0);
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 5, 10) == -1);
    });
}

static void ranges_are_split_and_joined(void)
{
    int fd = make();
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 100) == 0);
    CHECK(lock_range(fd, F_SETLK, F_UNLCK, 40, 20) == 0);
    CHECK(lock_range(fd, F_SETLK, F_RDLCK, 10, 10) == 0);
    IN_CHILD({
        struct flock found = query(fd, F_WRLCK, 0, 100);
        CHECK(found.l_type == F_WRLCK && found.l_start == 0 && found.l_len == 10);
        found = query(fd, F_WRLCK, 10, 5);
        CHECK(found.l_type == F_RDLCK && found.l_start == 10 && found.l_len == 10);
        found = query(fd, F_WRLCK, 30, 30);
        CHECK(found.l_type == F_WRLCK && found.l_start == 20 && found.l_len == 20);
        CHECK(query(fd, F_WRLCK, 40, 20).l_type == F_UNLCK);
        found = query(fd, F_WRLCK, 50, 100);
        CHECK(found.l_start == 60 && found.l_len == 40);
    });
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 5, 70) == 0);
    IN_CHILD({
        struct flock found = query(fd, F_WRLCK, 50, 1);
        CHECK(found.l_start == 0 && found.l_len == 100);
    });
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 200, 0) == 0);
    IN_CHILD({
        struct flock found = query(fd, F_RDLCK, 1000000, 1);
        CHECK(found.l_start == 200 && found.l_len == 0);
    });
}

static void any_close_drops_record_locks(void)
{
    int fd = make();
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
    int other = open("f", O_RDONLY);
    close(other);
    IN_CHILD(CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 0) == 0));
}

static void wrong_requests_are_refused(void)
{
    int fd = make(), in = open("f", O_RDONLY), out = open("f", O_WRONLY);
    CHECK_ERROR(lock_range(in, F_SETLK, F_WRLCK, 0, 0), EBADF);
    CHECK_ERROR(lock_range(out, F_SETLK, F_RDLCK, 0, 0), EBADF);
    CHECK_ERROR(lock_range(fd, F_SETLK, 77, 0, 0), EINVAL);
    CHECK_ERROR(lock_range(fd, F_SETLK, F_WRLCK, -1, 0), EINVAL);
    CHECK_ERROR(lock_range(fd, F_SETLK, F_WRLCK, 5, -10), EINVAL);
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 10, -5) == 0);
    CHECK_ERROR(lock_range(99, F_SETLK, F_WRLCK, 0, 0), EBADF);
    CHECK_ERROR(fcntl(fd, F_SETLK, (void *)8), EFAULT);
    CHECK_ERROR(lock_range(fd, F_GETLK, F_UNLCK, 0, 0), EINVAL);
}

static void waiting_ends_when_the_lock_goes(void)
{
    int fd = make(), p[2];
    char c;
    CHECK(pipe(p) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
        CHECK(write(p[1], "x", 1) == 1);
        usleep(200000);
        _exit(0);
    }
    CHECK(read(p[0], &c, 1) == 1);
    CHECK(lock_range(fd, F_SETLKW, F_WRLCK, 0, 0) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void nothing(int signal) {}
static void waiting_is_interrupted(void)
{
    int fd = make(), p[2], q[2];
    char c;
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(q[1]);
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
        CHECK(write(p[1], "x", 1) == 1);
        _exit((int)read(q[0], &c, 1));
    }
    CHECK(read(p[0], &c, 1) == 1);
    struct sigaction action = { .sa_handler = nothing };
    sigaction(SIGALRM, &action, NULL);
    ualarm(100000, 0);
    CHECK_ERROR(lock_range(fd, F_SETLKW, F_WRLCK, 0, 0), EINTR);
    close(q[1]);
    waitpid(child, NULL, 0);
}

static void deadlock_is_noticed(void)
{
    int fd = make(), p[2];
    char c;
    CHECK(pipe(p) == 0);
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 1, 1) == 0);
        CHECK(write(p[1], "x", 1) == 1);
        CHECK(lock_range(fd, F_SETLKW, F_WRLCK, 0, 1) == 0);
        _exit(0);
    }
    CHECK(read(p[0], &c, 1) == 1);
    usleep(200000);
    CHECK_ERROR(lock_range(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    CHECK(lock_range(fd, F_SETLK, F_UNLCK, 0, 1) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void description_locks_belong_to_the_open_file(void)
{
    int a = make(), b = open("f", O_RDWR);
    CHECK(lock_range(a, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
    CHECK(lock_range(b, F_OFD_SETLK, F_WRLCK, 5, 1) == -1 && errno == EAGAIN);
    CHECK(lock_range(b, F_SETLK, F_WRLCK, 5, 1) == -1 && (errno == EAGAIN || errno == EACCES));
    struct flock lock = { .l_type = F_WRLCK };
    CHECK(fcntl(b, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_len == 10 && lock.l_pid == -1);
    lock = (struct flock){ .l_type = F_WRLCK, .l_pid = 5 };
    CHECK_ERROR(fcntl(b, F_OFD_SETLK, &lock), EINVAL);
    int c = dup(a);
    close(a);
    CHECK(lock_range(b, F_OFD_SETLK, F_WRLCK, 5, 1) == -1);
    close(c);
    CHECK(lock_range(b, F_OFD_SETLK, F_WRLCK, 5, 1) == 0);
}

static void flock_excludes(void)
{
    int a = make(), b = open("f", O_RDWR);
    CHECK(flock(a, LOCK_EX) == 0);
    CHECK_ERROR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_ERROR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK(lock_range(b, F_SETLK, F_WRLCK, 0, 0) == 0); /* another world */
    CHECK(flock(a, LOCK_SH) == 0 && flock(b, LOCK_SH | LOCK_NB) == 0);
    CHECK_ERROR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(flock(a, LOCK_UN) == 0 && flock(b, LOCK_EX | LOCK_NB) == 0);
    CHECK_ERROR(flock(a, 77), EINVAL);
    CHECK_ERROR(flock(99, LOCK_EX), EBADF);
    int copy = dup(b);
    close(b);
    CHECK_ERROR(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    close(copy);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    IN_CHILD(CHECK(flock(a, LOCK_EX | LOCK_NB) == 0)); /* the same open file */
}

static void flock_waits(void)
{
    int a = make(), p[2];
    char c;
    CHECK(pipe(p) == 0);
    pid_t child = fork();
    if (child == 0) {
        int b = open("f", O_RDWR);
        CHECK(flock(b, LOCK_EX) == 0 && write(p[1], "x", 1) == 1);
        usleep(200000);
        _exit(0);
    }
    CHECK(read(p[0], &c, 1) == 1);
    CHECK(flock(a, LOCK_EX) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(record_locks_exclude_others),
    GUEST_CASE(ranges_are_split_and_joined),
    GUEST_CASE(any_close_drops_record_locks),
    GUEST_CASE(wrong_requests_are_refused),
    GUEST_CASE(waiting_ends_when_the_lock_goes),
    GUEST_CASE(waiting_is_interrupted),
    GUEST_CASE(deadlock_is_noticed),
    GUEST_CASE(description_locks_belong_to_the_open_file),
    GUEST_CASE(flock_excludes),
    GUEST_CASE(flock_waits),
};
FS_MAIN(cases)
