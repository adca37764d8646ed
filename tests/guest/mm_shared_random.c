/* Shared memory and files in memory hold what was put there, whatever is done to their maps and by whichever process: random changes against a
 * copy kept aside, while a second thread reads memory that nobody changes. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 768ul
#define SIZE (PAGES * PAGE)
enum kind { ANONYMOUS, SHARED_FILE, PRIVATE_FILE, KINDS };

struct area {
    char *map, *copy; /* what must be there */
    char *file;       /* of PRIVATE_FILE: what the file has */
    int descriptor;
};
static struct area areas[KINDS];
static uint64_t state = 4242;

static uint64_t chance(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static void fill(char *bytes, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word = chance(UINT64_MAX);
        memcpy(bytes + i, &word, 8);
    }
}

static sigjmp_buf escape;
static void on_fault(int signal)
{
    siglongjmp(escape, signal);
}

static int write_faults(volatile char *address)
{
    int signal = sigsetjmp(escape, 1);
    if (signal == 0)
        *address = *address;
    return signal;
}

static void make(enum kind kind)
{
    struct area *area = &areas[kind];
    char name[] = "/tmp/shared-XXXXXX";
    area->copy = malloc(SIZE);
    fill(area->copy, SIZE);
    area->descriptor = -1;
    if (kind != ANONYMOUS) {
        CHECK((area->descriptor = mkstemp(name)) >= 0 && unlink(name) == 0);
        CHECK(write(area->descriptor, area->copy, SIZE) == (ssize_t)SIZE);
    }
    area->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, kind == ANONYMOUS ? MAP_SHARED | MAP_ANONYMOUS : kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE,
                     area->descriptor, 0);
    CHECK(area->map != MAP_FAILED);
    if (kind == ANONYMOUS)
        memcpy(area->map, area->copy, SIZE);
    if (kind == PRIVATE_FILE) {
        area->file = malloc(SIZE);
        memcpy(area->file, area->copy, SIZE);
    }
}

static void check_all(void)
{
    for (int i = 0; i < KINDS; i++)
        CHECK(memcmp(areas[i].map, areas[i].copy, SIZE) == 0);
}

static void in_child(struct area *area, size_t at, size_t size, int shared)
{
    char bytes[64];
    fill(bytes, sizeof bytes);
    size = size < sizeof bytes ? size : sizeof bytes;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (chance(2))
            check_all();
        memcpy(area->map + at, bytes, size);
        CHECK(memcmp(area->map + at, bytes, size) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    if (shared)
        memcpy(area->copy + at, bytes, size);
}

/* The range is as the file has it, or as it was. */
static void forgotten(struct area *area, enum kind kind, size_t at, size_t size)
{
    if (kind == PRIVATE_FILE)
        memcpy(area->copy + at, area->file + at, size);
}

static void change(int source, int pipes[2])
{
    enum kind kind = (enum kind)chance(KINDS);
    struct area *area = &areas[kind];
    size_t at = chance(SIZE), size = 1 + chance(chance(2) ? 100 : SIZE - at);
    if (size > SIZE - at)
        size = SIZE - at;
    size_t page = at / PAGE * PAGE, pages = (at + size + PAGE - 1) / PAGE * PAGE - page;
    char *map = area->map + page, buffer[4096];

    switch (chance(14)) {
    case 0:
    case 1:
        size = size < 5000 ? size : 5000;
        fill(area->copy + at, size);
        memcpy(area->map + at, area->copy + at, size);
        break;
    case 2:
        CHECK(memcmp(area->map + at, area->copy + at, size) == 0);
        break;
    case 3:
        CHECK(mprotect(map, pages, PROT_READ) == 0);
        CHECK(write_faults(map + chance(pages)) == SIGSEGV);
        CHECK(memcmp(map, area->copy + page, pages) == 0);
        CHECK(mprotect(map, pages, PROT_READ | PROT_WRITE) == 0);
        CHECK(write_faults(map) == 0);
        break;
    case 4:
        CHECK(mprotect(map, pages, PROT_NONE) == 0);
        CHECK(write_faults(map + chance(pages)) == SIGSEGV);
        CHECK(mprotect(map, pages, PROT_READ | PROT_WRITE) == 0);
        break;
    case 5:
        if (kind == ANONYMOUS)
            break;
        CHECK(munmap(map, pages) == 0);
        CHECK(write_faults(map) == SIGSEGV);
        CHECK(mmap(map, pages, PROT_READ | PROT_WRITE, (kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, area->descriptor, (off_t)page) == map);
        forgotten(area, kind, page, pages);
        break;
    case 6: {
        char *other = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(other != MAP_FAILED);
        if (mremap(area->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == MAP_FAILED) {
            CHECK(errno == EFAULT); /* before Linux 6.17: what is not one map there */
            break;
        }
        CHECK(write_faults(area->map) == SIGSEGV);
        area->map = other;
        break;
    }
    case 7:
        CHECK(madvise(map, pages, MADV_DONTNEED) == 0);
        forgotten(area, kind, page, pages);
        break;
    case 8:
        if (kind == PRIVATE_FILE)
            break;
        CHECK(madvise(map, pages, MADV_REMOVE) == 0);
        memset(area->copy + page, 0, pages);
        break;
    case 9:
        in_child(area, at, size, kind != PRIVATE_FILE);
        break;
    case 10: /* a system call fills it */
        size = size < 4000 ? size : 4000;
        CHECK(pread(source, buffer, size, 64) == (ssize_t)size && pread(source, area->map + at, size, 64) == (ssize_t)size);
        memcpy(area->copy + at, buffer, size);
        break;
    case 11: /* and takes from it */
        size = size < 4000 ? size : 4000;
        CHECK(write(pipes[1], area->map + at, size) == (ssize_t)size && read(pipes[0], buffer, size) == (ssize_t)size);
        CHECK(memcmp(buffer, area->copy + at, size) == 0);
        break;
    case 12:
        if (kind != SHARED_FILE)
            break;
        size = size < 4000 ? size : 4000;
        fill(area->copy + at, size);
        CHECK(pwrite(area->descriptor, area->copy + at, size, (off_t)at) == (ssize_t)size);
        CHECK(pread(area->descriptor, buffer, size, (off_t)at) == (ssize_t)size && memcmp(buffer, area->copy + at, size) == 0);
        break;
    default:
        pages = pages < 4 * PAGE ? pages : 4 * PAGE;
        CHECK(mlock(map, pages) == 0 && munlock(map, pages) == 0);
        break;
    }
}

static const uint64_t *constant;
static volatile int done;

static void *read_constant(void *argument)
{
    uint64_t at = 1;
    while (!done) {
        at = at * 6364136223846793005u + 1442695040888963407u;
        uint64_t index = (at >> 33) % (SIZE / 8);
        if (constant[index] != index * 3 + 1) {
            printf("word %llu is %llx\n", (unsigned long long)index, (unsigned long long)constant[index]);
            exit(1);
        }
        if (index % 64 == 0)
            usleep(100);
    }
    return argument;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(void)
{
    int pipes[2], source = open("/proc/self/exe", O_RDONLY);
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(pipe(pipes) == 0 && source >= 0);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    uint64_t *words = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(words != MAP_FAILED);
    for (uint64_t i = 0; i < SIZE / 8; i++)
        words[i] = i * 3 + 1;
    CHECK(mprotect(words, SIZE, PROT_READ) == 0);
    constant = words;
    for (int kind = 0; kind < KINDS; kind++)
        make((enum kind)kind);
    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, read_constant, NULL) == 0);
    double end = now() + 1.2;
    do {
        for (int i = 0; i < 4; i++)
            change(source, pipes);
        usleep(500);
    } while (now() < end);
    check_all();
    done = 1;
    CHECK(pthread_join(reader, NULL) == 0);
    return 0;
}
