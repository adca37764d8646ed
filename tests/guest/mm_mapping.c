/* mmap, munmap, mprotect, brk: forms, placing, errors. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

static sigjmp_buf escape;
static volatile int caught;
static void on_fault(int signal)
{
    caught = signal;
    siglongjmp(escape, 1);
}

/* The signal that touching `address` raises, 0: none. */
static int touch(volatile char *address, int write)
{
    struct sigaction action = {.sa_handler = on_fault}, old_segv, old_bus;
    sigaction(SIGSEGV, &action, &old_segv);
    sigaction(SIGBUS, &action, &old_bus);
    caught = 0;
    if (sigsetjmp(escape, 1) == 0) {
        if (write)
            *address = 1;
        else
            (void)*address;
    }
    sigaction(SIGSEGV, &old_segv, NULL);
    sigaction(SIGBUS, &old_bus, NULL);
    return caught;
}

static char *map(size_t size, int protection, int flags)
{
    char *area = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    CHECK(area != MAP_FAILED);
    return area;
}

static int temporary_file(size_t size)
{
    char name[] = "/tmp/mm_mapping.XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    CHECK_EQUAL(ftruncate(fd, size), 0);
    return fd;
}

static void anonymous_memory_is_zero_and_writable(void)
{
    char *area = map(64 * PAGE, PROT_READ | PROT_WRITE, 0);
    for (size_t i = 0; i < 64 * PAGE; i++)
        CHECK_EQUAL(area[i], 0);
    memset(area, 7, 64 * PAGE);
    CHECK_EQUAL(munmap(area + 16 * PAGE, 16 * PAGE), 0);
    CHECK_EQUAL(touch(area + 16 * PAGE, 0), SIGSEGV);
    CHECK_EQUAL(touch(area + 32 * PAGE - 1, 0), SIGSEGV);
    CHECK_EQUAL(area[16 * PAGE - 1], 7);
    CHECK_EQUAL(area[32 * PAGE], 7);
    CHECK_EQUAL(munmap(area, 64 * PAGE), 0);
    CHECK_EQUAL(munmap(area, 64 * PAGE), 0);
}

static void protection_is_enforced(void)
{
    char *area = map(4 * PAGE, PROT_READ | PROT_WRITE, 0);
    area[PAGE] = 1;
    CHECK_EQUAL(mprotect(area + PAGE, PAGE, PROT_READ), 0);
    CHECK_EQUAL(touch(area + PAGE, 1), SIGSEGV);
    CHECK_EQUAL(touch(area + PAGE, 0), 0);
    CHECK_EQUAL(touch(area, 1), 0);
    CHECK_EQUAL(touch(area + 2 * PAGE, 1), 0);
    CHECK_EQUAL(mprotect(area, 4 * PAGE, PROT_NONE), 0);
    CHECK_EQUAL(touch(area + 3 * PAGE, 0), SIGSEGV);
    CHECK_EQUAL(mprotect(area, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
    CHECK_EQUAL(area[PAGE], 1);
    munmap(area, 4 * PAGE);
}

static void mprotect_errors_are_linuxs(void)
{
    char *area = map(4 * PAGE, PROT_READ | PROT_WRITE, 0);
    CHECK_ERROR(mprotect(area + 1, PAGE, PROT_READ), EINVAL);
    CHECK_ERROR(mprotect(area, PAGE, 0x1000), EINVAL);
    CHECK_EQUAL(mprotect(area, 0, PROT_READ), 0);
    munmap(area + 2 * PAGE, PAGE);
    CHECK_ERROR(mprotect(area, 4 * PAGE, PROT_READ), ENOMEM);
    CHECK_EQUAL(touch(area, 1), SIGSEGV); /* what lies before the hole was changed */
    CHECK_ERROR(mprotect(area + 2 * PAGE, PAGE, PROT_READ), ENOMEM);
    CHECK_ERROR(mprotect(area, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP), EINVAL);
    munmap(area, 4 * PAGE);
    int fd = open("/proc/self/exe", O_RDONLY);
    CHECK(fd >= 0);
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(file != MAP_FAILED);
    CHECK_ERROR(mprotect(file, PAGE, PROT_READ | PROT_WRITE), EACCES);
    munmap(file, PAGE);
    close(fd);
}

static void mmap_errors_are_linuxs(void)
{
    int fd = temporary_file(PAGE), reader = open("/proc/self/exe", O_RDONLY),
        writer = open("/dev/null", O_WRONLY), pipe_fd[2];
    CHECK_EQUAL(pipe(pipe_fd), 0);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
          errno == EINVAL);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, PAGE, PROT_READ, 0, fd, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, ~0ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
          errno == ENOMEM);
    CHECK(mmap(NULL, 1ul << 48, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
          errno == ENOMEM);
    CHECK(mmap((void *)0x10001, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
              MAP_FAILED &&
          errno == EINVAL);
    CHECK(mmap((void *)(1ul << 47), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == MAP_FAILED &&
          errno == ENOMEM);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED &&
          errno == EACCES);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, writer, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipe_fd[0], 0) == MAP_FAILED && errno == ENODEV);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x80000 /* MAP_SYNC */, fd, 0) ==
              MAP_FAILED &&
          errno == EOPNOTSUPP);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0) ==
              MAP_FAILED &&
          errno == EINVAL);
    CHECK(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0x7ffffffffffff000l) == MAP_FAILED &&
          errno == EOVERFLOW);
    CHECK_ERROR(munmap((void *)1, PAGE), EINVAL);
    CHECK_ERROR(munmap((void *)PAGE, 0), EINVAL);
    CHECK_ERROR(munmap((void *)PAGE, 1ul << 48), EINVAL);
    close(fd);
    close(reader);
    close(writer);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
}

static void places_are_honoured(void)
{
    char *area = map(8 * PAGE, PROT_NONE, 0);
    munmap(area, 8 * PAGE);
    char *at = mmap(area + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at == area + PAGE); /* a hint that is free is taken */
    char *other = mmap(area + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(other != at && other != MAP_FAILED);
    CHECK(mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
              MAP_FAILED &&
          errno == EEXIST);
    CHECK(mmap(at + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
               0) == at + PAGE);
    CHECK(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          at);
    CHECK_EQUAL(touch(at, 1), 0);
    munmap(area, 8 * PAGE);
    munmap(other, PAGE);
    char *low = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && (unsigned long)low < 1ul << 31);
    munmap(low, PAGE);
    /* Holes are used again. */
    char *first = map(PAGE, PROT_READ, 0), *second = map(PAGE, PROT_READ, 0),
         *third = map(PAGE, PROT_READ, 0);
    munmap(second, PAGE);
    char *again = map(PAGE, PROT_READ, 0);
    munmap(first, PAGE);
    munmap(again, PAGE);
    munmap(third, PAGE);
}

static void shared_memory_is_shared_with_a_child(void)
{
    int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
        *private = (int *)map(PAGE, PROT_READ | PROT_WRITE, 0);
    CHECK(shared != MAP_FAILED);
    *shared = *private = 1;
    if (fork() == 0) {
        *shared = 2;
        *private = 2;
        _exit(0);
    }
    int status;
    CHECK(wait(&status) > 0);
    CHECK_EQUAL(*shared, 2);
    CHECK_EQUAL(*private, 1);
    munmap(shared, PAGE);
    munmap(private, PAGE);
}

static void file_maps_agree_with_the_file(void)
{
    int fd = temporary_file(3 * PAGE);
    CHECK_EQUAL(pwrite(fd, "hello", 5, PAGE), 5);
    char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED);
    CHECK(memcmp(shared + PAGE, "hello", 5) == 0 && memcmp(private, "hello", 5) == 0);
    private[0] = 'j';
    CHECK_EQUAL(shared[PAGE], 'h');
    shared[PAGE + 1] = 'a';
    char text[6] = "";
    CHECK_EQUAL(pread(fd, text, 5, PAGE), 5);
    CHECK(strcmp(text, "hallo") == 0);
    CHECK_EQUAL(pwrite(fd, "xyz", 3, 0), 3);
    CHECK(memcmp(shared, "xyz", 3) == 0);
    CHECK_EQUAL(msync(shared, 3 * PAGE, MS_SYNC), 0);
    munmap(shared, 3 * PAGE);
    munmap(private, PAGE);
    close(fd);
}

static void dev_zero_maps_are_anonymous(void)
{
    int fd = open("/dev/zero", O_RDWR);
    CHECK(fd >= 0);
    char *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(private != MAP_FAILED && shared != MAP_FAILED);
    CHECK(private[PAGE] == 0 && shared[PAGE] == 0);
    private[PAGE] = shared[PAGE] = 1;
    if (fork() == 0) {
        private[PAGE] = shared[PAGE] = 2;
        _exit(0);
    }
    wait(NULL);
    CHECK(private[PAGE] == 1 && shared[PAGE] == 2);
    munmap(private, 2 * PAGE);
    munmap(shared, 2 * PAGE);
    close(fd);
}

static void beyond_the_end_of_a_file_is_a_bus_error(void)
{
    int fd = temporary_file(PAGE + 10);
    char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    CHECK_EQUAL(touch(area + PAGE + 100, 0), 0);
    CHECK_EQUAL(touch(area + 2 * PAGE, 0), SIGBUS);
    CHECK_EQUAL(ftruncate(fd, 3 * PAGE), 0);
    CHECK_EQUAL(touch(area + 2 * PAGE, 1), 0);
    CHECK_EQUAL(touch(area + 3 * PAGE, 0), SIGBUS);
    char byte = 0;
    CHECK_EQUAL(pread(fd, &byte, 1, 2 * PAGE), 1);
    CHECK_EQUAL(byte, 1);
    munmap(area, 4 * PAGE);
    close(fd);
}

static void kernel_copies_report_faults(void)
{
    char *area = map(2 * PAGE, PROT_READ | PROT_WRITE, 0);
    int fd = temporary_file(2 * PAGE);
    munmap(area + PAGE, PAGE);
    CHECK_EQUAL(pread(fd, area, 2 * PAGE, 0), PAGE);
    CHECK_ERROR(pread(fd, area + PAGE, PAGE, 0), EFAULT);
    CHECK_ERROR(pread(fd, (void *)0x610000000000, 16, 0), EFAULT);
    CHECK_ERROR(pread(fd, (void *)-4096l, 16, 0), EFAULT);
    munmap(area, PAGE);
    close(fd);
}

static void brk_grows_and_shrinks(void)
{
    char *start = (char *)syscall(SYS_brk, 0);
    CHECK((char *)syscall(SYS_brk, start + 10 * PAGE) == start + 10 * PAGE);
    memset(start, 5, 10 * PAGE);
    CHECK((char *)syscall(SYS_brk, start + 2 * PAGE) == start + 2 * PAGE);
    CHECK_EQUAL(touch((char *)(((unsigned long)start + 3 * PAGE) & -PAGE), 0), SIGSEGV);
    CHECK((char *)syscall(SYS_brk, start + 10 * PAGE) == start + 10 * PAGE);
    CHECK_EQUAL(start[9 * PAGE], 0);
    CHECK((char *)syscall(SYS_brk, (void *)PAGE) == start + 10 * PAGE);
    CHECK((char *)syscall(SYS_brk, (void *)-PAGE) == start + 10 * PAGE);
    CHECK((char *)syscall(SYS_brk, start) == start);
}

static void limits_of_resources_hold(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {64 << 20, 64 << 20};
        CHECK_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
        CHECK(mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
              errno == ENOMEM);
        CHECK(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        struct rlimit data = {1 << 20, 1 << 20};
        CHECK_EQUAL(setrlimit(RLIMIT_DATA, &data), 0);
        CHECK(mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                  MAP_FAILED &&
              errno == ENOMEM);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void a_stack_grows_by_itself(void)
{
    char *area = map(1024 * PAGE, PROT_NONE, 0);
    munmap(area, 1024 * PAGE);
    char *stack = mmap(area + 1000 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    CHECK(stack != MAP_FAILED);
    for (int i = 1; i < 400; i++)
        CHECK_EQUAL(touch(stack - i * PAGE, 1), 0);
    CHECK_EQUAL(read(open("/dev/zero", O_RDONLY), stack - 500 * PAGE, 10),
                10); /* by a copy of the kernel, too */
    CHECK_EQUAL(mprotect(stack, PAGE, PROT_READ | PROT_GROWSDOWN), 0);
    CHECK_EQUAL(touch(stack - 10 * PAGE, 1), SIGSEGV);
    munmap(area, 1024 * PAGE);
}

static void maps_file_shows_regions(void)
{
    char *area = map(3 * PAGE, PROT_READ | PROT_WRITE, 0), expected[64], line[512];
    CHECK_EQUAL(mprotect(area + PAGE, PAGE, PROT_READ | PROT_EXEC), 0);
    snprintf(expected, sizeof expected, "%lx-%lx r-xp 00000000 00:00 0", (unsigned long)area + PAGE,
             (unsigned long)area + 2 * PAGE);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    int found = 0, stack = 0;
    while (fgets(line, sizeof line, maps)) {
        found |= strncmp(line, expected, strlen(expected)) == 0;
        stack |= strstr(line, "[stack]") != NULL;
    }
    fclose(maps);
    CHECK(found && stack);
    munmap(area, 3 * PAGE);
}

static void many_regions_come_and_go(void)
{
    char *area = map(4000 * PAGE, PROT_READ | PROT_WRITE, 0);
    for (int i = 0; i < 4000; i += 2)
        CHECK_EQUAL(mprotect(area + i * PAGE, PAGE, PROT_READ), 0);
    for (int i = 1; i < 4000; i += 4)
        CHECK_EQUAL(munmap(area + i * PAGE, PAGE), 0);
    for (int i = 0; i < 4000; i++)
        if (i % 97 == 0)
            CHECK_EQUAL(touch(area + i * PAGE, 1), i % 4 == 3 ? 0 : SIGSEGV);
    CHECK_EQUAL(munmap(area, 4000 * PAGE), 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(anonymous_memory_is_zero_and_writable),
    GUEST_CASE(protection_is_enforced),
    GUEST_CASE(mprotect_errors_are_linuxs),
    GUEST_CASE(mmap_errors_are_linuxs),
    GUEST_CASE(places_are_honoured),
    GUEST_CASE(shared_memory_is_shared_with_a_child),
    GUEST_CASE(file_maps_agree_with_the_file),
    GUEST_CASE(beyond_the_end_of_a_file_is_a_bus_error),
    GUEST_CASE(kernel_copies_report_faults),
    GUEST_CASE(dev_zero_maps_are_anonymous),
    GUEST_CASE(brk_grows_and_shrinks),
    GUEST_CASE(limits_of_resources_hold),
    GUEST_CASE(a_stack_grows_by_itself),
    GUEST_CASE(maps_file_shows_regions),
    GUEST_CASE(many_regions_come_and_go),
};
GUEST_MAIN(cases)
