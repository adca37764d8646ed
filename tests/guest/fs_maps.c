/* Mapped files and the same files read and written. */
#include "fs.h"
#include <setjmp.h>
#include <signal.h>

#define PAGE 4096
static sigjmp_buf back;
static void on_fault(int number) { siglongjmp(back, number); }
static int fault_of(volatile char *at, int write)
{
    signal(SIGBUS, on_fault);
    signal(SIGSEGV, on_fault);
    int number = sigsetjmp(back, 1);
    if (number)
        return number;
    if (write)
        *at = 1;
    else
        (void)*at;
    return 0;
}

static int file_of(size_t size)
{
    int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);
    char *text = calloc(1, size + 1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)('a' + i / PAGE);
    CHECK(fd >= 0 && write(fd, text, size) == (ssize_t)size);
    free(text);
    return fd;
}

static void shared_maps_and_calls_agree(void)
{
    char b[8];
    int fd = file_of(3 * PAGE);
    char *map = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && map[0] == 'a' && map[PAGE] == 'b' && map[2 * PAGE] == 'c');
    map[5] = 'M';
    CHECK(pread(fd, b, 1, 5) == 1 && b[0] == 'M');
    CHECK(pwrite(fd, "W", 1, PAGE + 7) == 1 && map[PAGE + 7] == 'W');
    int other = open("f", O_RDWR);
    char *second = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, PAGE);
    CHECK(second != MAP_FAILED && second[7] == 'W');
    second[8] = 'S';
    CHECK(map[PAGE + 8] == 'S');
    pid_t child = fork();
    if (child == 0) {
        map[9] = 'C';
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK(map[9] == 'C' && pread(fd, b, 1, 9) == 1 && b[0] == 'C');
    CHECK(msync(map, PAGE, MS_SYNC) == 0 && munmap(map, 3 * PAGE) == 0);
    CHECK(pread(fd, b, 1, 9) == 1 && b[0] == 'C');
    close(fd);
    close(other);
    CHECK(unlink("f") == 0 && second[8] == 'S');
    second[10] = 'U';
    CHECK(second[10] == 'U');
}

static void private_maps_keep_to_themselves(void)
{
    char b[8];
    int fd = file_of(2 * PAGE);
    char *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED);
    map[0] = 'P';
    CHECK(pread(fd, b, 1, 0) == 1 && b[0] == 'a');
    CHECK(pwrite(fd, "F", 1, 0) == 1 && map[0] == 'P');
    int in = open("f", O_RDONLY);
    char *copy = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, in, PAGE);
    CHECK(copy != MAP_FAILED && copy[0] == 'b');
    copy[0] = 'x';
    CHECK(pread(fd, b, 1, PAGE) == 1 && b[0] == 'b');
}

static void access_modes_are_minded(void)
{
    file_of(PAGE);
    int in = open("f", O_RDONLY), out = open("f", O_WRONLY), folder = open(".", O_RDONLY);
    CHECK_ERROR((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0), EACCES);
    CHECK_ERROR((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, out, 0), EACCES);
    CHECK_ERROR((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, folder, 0), ENODEV);
    CHECK_ERROR((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, in, 100), EINVAL);
    CHECK_ERROR((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE, in, 0), EINVAL);
    CHECK_ERROR((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
    char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, in, 0);
    CHECK(map != MAP_FAILED);
    CHECK_ERROR(mprotect(map, PAGE, PROT_READ | PROT_WRITE), EACCES);
    CHECK_EQUAL(fault_of(map, 1), SIGSEGV);
}

static void beyond_the_end_is_a_bus_error(void)
{
    int fd = file_of(100);
    char *map = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQUAL(fault_of(map + 200, 0), 0);
    CHECK_EQUAL(map[200], 0);
    CHECK_EQUAL(fault_of(map + PAGE, 0), SIGBUS);
    CHECK_EQUAL(fault_of(map + 2 * PAGE, 1), SIGBUS);
    CHECK(ftruncate(fd, 3 * PAGE) == 0);
    CHECK_EQUAL(fault_of(map + 2 * PAGE, 1), 0);
    char b = 0;
    CHECK(pread(fd, &b, 1, 2 * PAGE) == 1 && b == 1);
    CHECK(pwrite(fd, "Q", 1, PAGE + 1) == 1 && map[PAGE + 1] == 'Q');
    CHECK_EQUAL(fault_of(map + 3 * PAGE, 0), SIGBUS);
}

static void files_grow_under_their_maps(void)
{
    int fd = file_of(PAGE);
    char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int i = 1; i < 200; i++) {
        char page[PAGE];
        memset(page, i, sizeof page);
        CHECK(write(fd, page, sizeof page) == PAGE);
        char *more = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)i * PAGE);
        CHECK(more != MAP_FAILED && more[17] == (char)i);
        more[18] = 'z';
        CHECK(munmap(more, PAGE) == 0);
    }
    char b;
    for (int i = 1; i < 200; i++)
        CHECK(pread(fd, &b, 1, (off_t)i * PAGE + 18) == 1 && b == 'z');
    map[1] = 'k';
    CHECK(pread(fd, &b, 1, 1) == 1 && b == 'k');
    char *all = mmap(NULL, 200 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(all != MAP_FAILED && all[1] == 'k');
    for (int i = 1; i < 200; i++)
        CHECK(all[i * PAGE + 18] == 'z' && all[i * PAGE + 19] == (char)i);
}

static void reading_into_a_map_of_the_same_file(void)
{
    int fd = file_of(4 * PAGE);
    char *map = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK_EQUAL(pread(fd, map, PAGE, PAGE), PAGE);
    CHECK(map[0] == 'b' && map[PAGE - 1] == 'b');
    CHECK_EQUAL(pwrite(fd, map + 2 * PAGE, PAGE, 3 * PAGE), PAGE);
    CHECK(map[3 * PAGE] == 'c');
}

static void holes_can_be_mapped(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0600);
    CHECK(ftruncate(fd, 1 << 24) == 0);
    char *map = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), b;
    CHECK(map != MAP_FAILED && map[12345678] == 0);
    map[12345678] = 'h';
    CHECK(pread(fd, &b, 1, 12345678) == 1 && b == 'h');
    CHECK(pwrite(fd, "w", 1, 7654321) == 1 && map[7654321] == 'w');
    CHECK(ftruncate(fd, PAGE) == 0 && ftruncate(fd, 1 << 24) == 0);
    CHECK(pread(fd, &b, 1, 12345678) == 1 && b == 0 && map[12345678] == 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(shared_maps_and_calls_agree),
    GUEST_CASE(private_maps_keep_to_themselves),
    GUEST_CASE(access_modes_are_minded),
    GUEST_CASE(beyond_the_end_is_a_bus_error),
    GUEST_CASE(files_grow_under_their_maps),
    GUEST_CASE(reading_into_a_map_of_the_same_file),
    GUEST_CASE(holes_can_be_mapped),
};
FS_MAIN(cases)
