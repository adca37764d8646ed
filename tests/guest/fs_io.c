/* Reading, writing, positions, holes, and moving data between files. */
#include "fs.h"
#include <sys/sendfile.h>
#include <sys/time.h>

static int new_file(const char *text)
{
    int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);
    CHECK(fd >= 0);
    if (text)
        CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static int content_is(int fd, const char *text)
{
    char buffer[4096];
    ssize_t size = pread(fd, buffer, sizeof buffer, 0);
    return size == (ssize_t)strlen(text) && memcmp(buffer, text, (size_t)size) == 0;
}

static void positions_move(void)
{
    char b[16] = "";
    int fd = new_file("0123456789");
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 10);
    CHECK_EQUAL(lseek(fd, 2, SEEK_SET), 2);
    CHECK(read(fd, b, 3) == 3 && !memcmp(b, "234", 3));
    CHECK(pread(fd, b, 2, 7) == 2 && !memcmp(b, "78", 2));
    CHECK_EQUAL(lseek(fd, -1, SEEK_CUR), 4);
    CHECK(pwrite(fd, "XY", 2, 8) == 2);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4);
    CHECK_EQUAL(lseek(fd, 5, SEEK_END), 15);
    CHECK_EQUAL(read(fd, b, 1), 0);
    CHECK(write(fd, "Z", 1) == 1);
    CHECK_EQUAL(lseek(fd, 0, SEEK_END), 16);
    CHECK(pread(fd, b, 16, 0) == 16 && !memcmp(b, "01234567XY\0\0\0\0\0Z", 16));
    CHECK_ERROR(lseek(fd, -100, SEEK_CUR), EINVAL);
    CHECK_ERROR(lseek(fd, 0, 77), EINVAL);
    CHECK_ERROR(pread(fd, b, 1, -1), EINVAL);
    CHECK_ERROR(pwrite(fd, b, 1, -1), EINVAL);
    CHECK_ERROR(lseek(99, 0, SEEK_SET), EBADF);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK_ERROR(read(fd, (void *)8, 4), EFAULT);
    CHECK_ERROR(write(fd, (void *)8, 4), EFAULT);
    CHECK_EQUAL(read(fd, b, 0), 0);
    CHECK_EQUAL(write(fd, b, 0), 0);
    int again = open("f", O_RDONLY), same = dup(fd);
    CHECK_EQUAL(lseek(fd, 3, SEEK_SET), 3);
    CHECK_EQUAL(lseek(same, 0, SEEK_CUR), 3);
    CHECK_EQUAL(lseek(again, 0, SEEK_CUR), 0);
    CHECK_ERROR(write(again, b, 1), EBADF);
    int out = open("f", O_WRONLY);
    CHECK_ERROR(read(out, b, 1), EBADF);
}

static void appending_goes_to_the_end(void)
{
    int a = open("f", O_CREAT | O_RDWR | O_APPEND, 0644), b = open("f", O_WRONLY | O_APPEND);
    CHECK(write(a, "one", 3) == 3 && write(b, "two", 3) == 3 && write(a, "three", 5) == 5);
    CHECK_EQUAL(lseek(a, 0, SEEK_CUR), 11);
    CHECK(content_is(a, "onetwothree"));
    CHECK_EQUAL(lseek(a, 0, SEEK_SET), 0);
    CHECK(write(a, "!", 1) == 1 && content_is(a, "onetwothree!"));
    CHECK(pwrite(a, "?", 1, 0) == 1 && content_is(a, "onetwothree!?")); /* pwrite(2), BUGS */
    CHECK(fcntl(a, F_SETFL, 0) == 0);
    CHECK(pwrite(a, "O", 1, 0) == 1 && content_is(a, "Onetwothree!?"));
}

static void vectors_are_scattered(void)
{
    int fd = new_file(NULL);
    char a[4] = "", b[8] = "";
    struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cdefg", 5 } }, in[2] = { { a, 3 }, { b, 8 } };
    CHECK_EQUAL(writev(fd, out, 3), 7);
    CHECK_EQUAL(preadv(fd, in, 2, 0), 7);
    CHECK(!memcmp(a, "abc", 3) && !memcmp(b, "defg", 4));
    CHECK_EQUAL(pwritev(fd, out, 1, 5), 2);
    CHECK(content_is(fd, "abcdeab"));
    CHECK_ERROR(writev(fd, out, -1), EINVAL);
    CHECK_ERROR(writev(fd, out, 1025), EINVAL);
    CHECK_EQUAL(writev(fd, out, 0), 0);
    struct iovec huge[2] = { { a, SIZE_MAX / 2 + 1 }, { b, 1 } };
    CHECK_ERROR(readv(fd, huge, 2), EINVAL);
    CHECK_ERROR(readv(fd, (void *)8, 2), EFAULT);
    struct iovec bad[2] = { { a, 2 }, { (void *)8, 2 } };
    CHECK_EQUAL(preadv(fd, bad, 2, 0), 2);
    CHECK_EQUAL(pwritev2(fd, out, 1, 0, RWF_APPEND), 2);
    CHECK(content_is(fd, "abcdeabab"));
    lseek(fd, 1, SEEK_SET);
    CHECK_EQUAL(preadv2(fd, in, 1, -1, 0), 3);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4);
    CHECK_ERROR(preadv2(fd, in, 1, 0, 0x40000000), EOPNOTSUPP);
}

static void truncation_cuts_and_grows(void)
{
    char b[8192];
    struct stat s;
    int fd = new_file("0123456789");
    CHECK(ftruncate(fd, 4) == 0 && content_is(fd, "0123"));
    CHECK(ftruncate(fd, 8) == 0 && pread(fd, b, 16, 0) == 8 && !memcmp(b, "0123\0\0\0\0", 8));
    CHECK(truncate("f", 6000) == 0 && pread(fd, b, sizeof b, 0) == 6000);
    for (int i = 4; i < 6000; i++)
        CHECK(b[i] == 0);
    memset(b, 'x', sizeof b);
    CHECK(pwrite(fd, b, sizeof b, 0) == sizeof b);
    CHECK(ftruncate(fd, 5000) == 0 && ftruncate(fd, 8192) == 0);
    CHECK(pread(fd, b, sizeof b, 0) == 8192 && b[4999] == 'x' && b[5000] == 0 && b[8191] == 0);
    CHECK(ftruncate(fd, 0) == 0 && fstat(fd, &s) == 0 && s.st_size == 0 && s.st_blocks == 0);
    CHECK_ERROR(ftruncate(fd, -1), EINVAL);
    CHECK_ERROR(truncate("f", -1), EINVAL);
    CHECK_ERROR(truncate(".", 0), EISDIR);
    CHECK_ERROR(truncate("absent", 0), ENOENT);
    int in = open("f", O_RDONLY);
    CHECK_ERROR(ftruncate(in, 0), EINVAL);
    make_file("g", "text");
    CHECK(open("g", O_WRONLY | O_TRUNC) >= 0 && stat_of("g").st_size == 0);
}

static void holes_take_no_room(void)
{
    struct stat s;
    int fd = new_file(NULL);
    CHECK(pwrite(fd, "A", 1, 0) == 1 && pwrite(fd, "B", 1, 1 << 20) == 1);
    CHECK(fstat(fd, &s) == 0 && s.st_size == (1 << 20) + 1 && s.st_blocks < 64);
    CHECK_EQUAL(lseek(fd, 0, SEEK_DATA), 0);
    off_t hole = lseek(fd, 0, SEEK_HOLE);
    CHECK(hole > 0 && hole <= 65536);
    off_t data = lseek(fd, hole, SEEK_DATA);
    CHECK(data > hole && data <= 1 << 20);
    CHECK_EQUAL(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 1);
    CHECK_ERROR(lseek(fd, (1 << 20) + 1, SEEK_DATA), ENXIO);
    CHECK_ERROR(lseek(fd, (1 << 20) + 1, SEEK_HOLE), ENXIO);
    CHECK_ERROR(lseek(fd, -1, SEEK_DATA), ENXIO);
    char c = 1;
    CHECK(pread(fd, &c, 1, 500000) == 1 && c == 0);
    CHECK(ftruncate(fd, 1ll << 40) == 0 && fstat(fd, &s) == 0 && s.st_size == 1ll << 40);
}

static void space_can_be_allocated_and_punched(void)
{
    char b[16384], z[4096] = { 0 };
    struct stat s;
    int fd = new_file(NULL);
    if (fallocate(fd, 0, 0, 10000) < 0 && errno == EOPNOTSUPP)
        exit(0);
    CHECK(fstat(fd, &s) == 0 && s.st_size == 10000 && s.st_blocks >= 16);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000) == 0 && fstat(fd, &s) == 0 && s.st_size == 10000);
    memset(b, 'x', sizeof b);
    CHECK(pwrite(fd, b, sizeof b, 0) == sizeof b);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
    CHECK(pread(fd, b, sizeof b, 0) == sizeof b && b[4095] == 'x' && !memcmp(b + 4096, z, 4096) && b[8192] == 'x');
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 50) == 0);
    CHECK(pread(fd, b, 200, 0) == 200 && b[99] == 'x' && b[100] == 0 && b[149] == 0 && b[150] == 'x');
    CHECK_ERROR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
    CHECK_ERROR(fallocate(fd, 0, -1, 10), EINVAL);
    CHECK_ERROR(fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERROR(fallocate(fd, 0, LLONG_MAX, 10), EFBIG);
    int in = open("f", O_RDONLY);
    CHECK_ERROR(fallocate(in, 0, 0, 10), EBADF);
    CHECK_EQUAL(posix_fallocate(fd, 0, 30000), 0);
    CHECK(fstat(fd, &s) == 0 && s.st_size == 30000);
}

static void a_size_limit_is_SIGXFSZ_and_EFBIG(void)
{
    struct rlimit limit = { 5000, RLIM_INFINITY };
    char b[8000] = { 0 };
    int fd = new_file(NULL);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQUAL(write(fd, b, sizeof b), 5000);
    CHECK_ERROR(write(fd, b, 1), EFBIG);
    CHECK_ERROR(ftruncate(fd, 6000), EFBIG);
    CHECK(ftruncate(fd, 5000) == 0);
}

static void data_moves_between_files(void)
{
    char b[64] = "";
    int in = new_file("0123456789"), out = open("g", O_CREAT | O_RDWR, 0644);
    off_t offset = 2;
    CHECK_EQUAL(sendfile(out, in, &offset, 5), 5);
    CHECK_EQUAL(offset, 7);
    CHECK_EQUAL(lseek(in, 0, SEEK_CUR), 10);
    CHECK(content_is(out, "23456"));
    CHECK_EQUAL(lseek(in, 8, SEEK_SET), 8);
    CHECK_EQUAL(sendfile(out, in, NULL, 100), 2);
    CHECK(content_is(out, "2345689"));
    CHECK_EQUAL(sendfile(out, in, NULL, 100), 0);
    loff_t from = 0, to = 1;
    CHECK_EQUAL(copy_file_range(in, &from, out, &to, 3, 0), 3);
    CHECK(content_is(out, "2012689") && from == 3 && to == 4);
    CHECK_ERROR(copy_file_range(in, &from, out, &to, 3, 1), EINVAL);
    from = 0, to = 1;
    CHECK_ERROR(copy_file_range(in, &from, in, &to, 3, 0), EINVAL);
    int folder = open(".", O_RDONLY), append = open("g", O_WRONLY | O_APPEND);
    CHECK_ERROR(copy_file_range(folder, NULL, out, NULL, 3, 0), EISDIR);
    CHECK_ERROR(copy_file_range(in, &from, append, NULL, 3, 0), EBADF);
    offset = 0;
    CHECK_ERROR(sendfile(append, in, &offset, 3), EINVAL);
    int no_writing = open("f", O_RDONLY);
    CHECK_ERROR(sendfile(no_writing, out, &offset, 3), EBADF);
    (void)b;
}

static void pipes_are_spliced(void)
{
    char b[64] = "";
    int p[2], q[2], fd = new_file("0123456789"), out = open("g", O_CREAT | O_RDWR, 0644);
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    loff_t offset = 3;
    CHECK_EQUAL(splice(fd, &offset, p[1], NULL, 4, 0), 4);
    CHECK_EQUAL(offset, 7);
    CHECK_EQUAL(tee(p[0], q[1], 100, 0), 4);
    CHECK(read(q[0], b, 64) == 4 && !memcmp(b, "3456", 4));
    CHECK_EQUAL(splice(p[0], NULL, out, NULL, 100, 0), 4);
    CHECK(content_is(out, "3456"));
    CHECK_ERROR(splice(p[0], NULL, out, NULL, 100, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERROR(splice(fd, NULL, out, NULL, 100, 0), EINVAL);
    CHECK_ERROR(splice(p[0], &offset, out, NULL, 100, 0), ESPIPE);
    CHECK_ERROR(tee(p[0], out, 100, 0), EINVAL);
    CHECK_ERROR(splice(p[0], NULL, 99, NULL, 100, 0), EBADF);
    struct iovec v = { "vm", 2 };
    CHECK_EQUAL(vmsplice(p[1], &v, 1, 0), 2);
    CHECK(write(p[1], "more", 4) == 4);
    CHECK_EQUAL(splice(p[0], NULL, q[1], NULL, 100, 0), 6);
    CHECK(read(q[0], b, 64) == 6 && !memcmp(b, "vmmore", 6));
    close(p[1]);
    CHECK_EQUAL(splice(p[0], NULL, out, NULL, 100, 0), 0);
}

static void unnamed_files_can_be_named(void)
{
    char path[64];
    int fd = open(".", O_TMPFILE | O_RDWR, 0640);
    if (fd < 0 && errno == EOPNOTSUPP)
        exit(0);
    struct stat s;
    CHECK(fd >= 0 && fstat(fd, &s) == 0 && s.st_nlink == 0 && (s.st_mode & 07777) == 0640);
    CHECK(write(fd, "hidden", 6) == 6);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "shown", AT_SYMLINK_FOLLOW) == 0);
    CHECK(has_text("shown", "hidden") && fstat(fd, &s) == 0 && s.st_nlink == 1);
    int secret = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", secret);
    CHECK_ERROR(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
    CHECK_ERROR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

static void files_are_flushed(void)
{
    int fd = new_file("x"), p[2], folder = open(".", O_RDONLY);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && syncfs(fd) == 0 && fsync(folder) == 0);
    CHECK(pipe(p) == 0);
    CHECK_ERROR(fsync(p[0]), EINVAL);
    CHECK_ERROR(fsync(99), EBADF);
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED) == 0);
    CHECK(posix_fadvise(fd, 0, 0, 77) == EINVAL);
    CHECK(posix_fadvise(p[0], 0, 0, POSIX_FADV_NORMAL) == ESPIPE);
    CHECK(sync_file_range(fd, 0, 1, 2) == 0);
    int sync_fd = open("g", O_CREAT | O_WRONLY | O_SYNC, 0600);
    CHECK(write(sync_fd, "s", 1) == 1 && (fcntl(sync_fd, F_GETFL) & O_SYNC) == O_SYNC);
}

static void large_files_keep_every_byte(void)
{
    enum { SIZE = 5000000 };
    char *a = malloc(SIZE), *b = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        a[i] = (char)(i * 7 + i / 1000);
    int fd = new_file(NULL), at = 0, step = 1;
    while (at < SIZE) {
        int size = step < SIZE - at ? step : SIZE - at;
        CHECK_EQUAL(write(fd, a + at, (size_t)size), size);
        at += size;
        step = step * 3 % 100003 + 1;
    }
    CHECK_EQUAL(pread(fd, b, SIZE, 0), SIZE);
    CHECK(memcmp(a, b, SIZE) == 0);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == SIZE && s.st_blocks >= SIZE / 512 - 8);
}

static const struct guest_case cases[] = {
    GUEST_CASE(positions_move),
    GUEST_CASE(appending_goes_to_the_end),
    GUEST_CASE(vectors_are_scattered),
    GUEST_CASE(truncation_cuts_and_grows),
    GUEST_CASE(holes_take_no_room),
    GUEST_CASE(space_can_be_allocated_and_punched),
    GUEST_CASE(a_size_limit_is_SIGXFSZ_and_EFBIG),
    GUEST_CASE(data_moves_between_files),
    GUEST_CASE(pipes_are_spliced),
    GUEST_CASE(unnamed_files_can_be_named),
    GUEST_CASE(files_are_flushed),
    GUEST_CASE(large_files_keep_every_byte),
};
FS_MAIN(cases)
