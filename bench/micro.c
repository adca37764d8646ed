/* Times single operations of an ordinary Linux program. Run natively and inside Bailey by bench/run.py; prints one line for each operation:
 * name, then the median time of one operation in nanoseconds over `rounds` rounds.
 *
 * usage: micro FILE-ON-READ-ONLY-ROOT WRITABLE-FOLDER GRANTED-FOLDER [NAME...] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *root_file, *private_folder, *granted_folder;
static char private_file[4096], granted_file[4096];
static char buffer[1 << 16];
extern char **environ;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void op_getppid(int n)
{
    while (n--)
        syscall(SYS_getppid);
}

static void stat_of(const char *path, int n)
{
    struct stat s;
    while (n--)
        if (stat(path, &s))
            fail(path);
}
static void op_stat_root(int n) { stat_of(root_file, n); }
static void op_stat_private(int n) { stat_of(private_file, n); }
static void op_stat_granted(int n) { stat_of(granted_file, n); }

static void absent_of(const char *folder, int n)
{
    struct stat s;
    char path[4096];
    snprintf(path, sizeof path, "%s/absent", folder);
    while (n--)
        if (!stat(path, &s))
            fail(path);
}
static void op_absent_root(int n) { absent_of("/usr/bin", n); }
static void op_absent_granted(int n) { absent_of(granted_folder, n); }

static void open_absent_of(const char *folder, int n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/absent too", folder);
    while (n--)
        if (open(path, O_RDONLY) >= 0)
            fail(path);
}
static void op_open_absent_granted(int n) { open_absent_of(granted_folder, n); }

static void fstat_of(const char *path, int n)
{
    int fd = open(path, O_RDONLY);
    struct stat s;
    while (n--)
        if (fstat(fd, &s))
            fail(path);
    close(fd);
}
static void op_fstat_root(int n) { fstat_of(root_file, n); }
static void op_fstat_private(int n) { fstat_of(private_file, n); }
static void op_fstat_granted(int n) { fstat_of(granted_file, n); }

static void open_of(const char *path, int n)
{
    while (n--) {
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            fail(path);
        close(fd);
    }
}
static void op_open_root(int n) { open_of(root_file, n); }
static void op_open_private(int n) { open_of(private_file, n); }
static void op_open_granted(int n) { open_of(granted_file, n); }

static void read_of(const char *path, int n)
{
    int fd = open(path, O_RDONLY);
    while (n--)
        if (pread(fd, buffer, 4096, 0) != 4096)
            fail(path);
    close(fd);
}
static void op_read4k_root(int n) { read_of(root_file, n); }
static void op_read4k_private(int n) { read_of(private_file, n); }
static void op_read4k_granted(int n) { read_of(granted_file, n); }

static void write_of(const char *path, int n)
{
    int fd = open(path, O_RDWR);
    while (n--)
        if (pwrite(fd, buffer, 4096, 0) != 4096)
            fail(path);
    close(fd);
}
static void op_write4k_private(int n) { write_of(private_file, n); }
static void op_write4k_granted(int n) { write_of(granted_file, n); }

static void op_pipe_ping_pong(int n)
{
    int a[2], b[2];
    char c = 0;
    if (pipe(a) || pipe(b))
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(a[1]);
        while (read(a[0], &c, 1) == 1)
            if (write(b[1], &c, 1) != 1)
                _exit(1);
        _exit(0);
    }
    close(a[0]);
    while (n--)
        if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
            fail("ping-pong");
    close(a[1]);
    close(b[0]);
    close(b[1]);
    waitpid(child, NULL, 0);
}

static void op_pipe_64k(int n)
{
    int p[2];
    if (pipe(p))
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(p[1]);
        while (read(p[0], buffer, sizeof buffer) > 0)
            ;
        _exit(0);
    }
    close(p[0]);
    while (n--)
        if (write(p[1], buffer, sizeof buffer) != (ssize_t)sizeof buffer)
            fail("write");
    close(p[1]);
    waitpid(child, NULL, 0);
}

static void op_fork_exit_wait(int n)
{
    while (n--) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (child < 0 || waitpid(child, NULL, 0) != child)
            fail("fork");
    }
}

static void op_fork_exec_wait(int n)
{
    while (n--) {
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            fail("exec");
    }
}

static void op_spawn_from_1g(int n)
{
    static char *big;
    if (!big) {
        big = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (big == MAP_FAILED)
            fail("mmap");
        madvise(big, 1ul << 30, MADV_NOHUGEPAGE);
        memset(big, 1, 1ul << 30);
    }
    while (n--) {
        pid_t child;
        char *arguments[] = { "true", NULL };
        int status;
        if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) ||
            waitpid(child, &status, 0) != child || status)
            fail("posix_spawn");
    }
}

static const struct operation {
    const char *name;
    void (*run)(int count);
    int count; /* operations a round */
} operations[] = {
    { "getppid", op_getppid, 20000 },
    { "stat, read-only root", op_stat_root, 2000 },
    { "stat of nothing, read-only root", op_absent_root, 2000 },
    { "fstat, read-only root", op_fstat_root, 5000 },
    { "open+close, read-only root", op_open_root, 2000 },
    { "read 4 KiB, read-only root", op_read4k_root, 3000 },
    { "stat, private layer", op_stat_private, 2000 },
    { "fstat, private layer", op_fstat_private, 5000 },
    { "open+close, private layer", op_open_private, 2000 },
    { "read 4 KiB, private layer", op_read4k_private, 3000 },
    { "write 4 KiB, private layer", op_write4k_private, 3000 },
    { "stat, granted folder", op_stat_granted, 500 },
    { "stat of nothing, granted folder", op_absent_granted, 500 },
    { "open of nothing, granted folder", op_open_absent_granted, 500 },
    { "fstat, granted folder", op_fstat_granted, 2000 },
    { "open+close, granted folder", op_open_granted, 500 },
    { "read 4 KiB, granted folder", op_read4k_granted, 3000 },
    { "write 4 KiB, granted folder", op_write4k_granted, 3000 },
    { "pipe ping-pong", op_pipe_ping_pong, 500 },
    { "pipe, 64 KiB writes", op_pipe_64k, 500 },
    { "fork+exit+wait", op_fork_exit_wait, 30 },
    { "fork+exec+wait of /bin/true", op_fork_exec_wait, 20 },
    { "posix_spawn from 1 GiB", op_spawn_from_1g, 20 },
};
enum { ROUNDS = 11 };

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void fill(char *path, const char *folder)
{
    snprintf(path, 4096, "%s/micro-file", folder);
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
    if (fd < 0 || write(fd, buffer, sizeof buffer) != (ssize_t)sizeof buffer)
        fail(path);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s FILE WRITABLE-FOLDER GRANTED-FOLDER [NAME...]\n", argv[0]);
        return 2;
    }
    root_file = argv[1];
    private_folder = argv[2];
    granted_folder = argv[3];
    fill(private_file, private_folder);
    fill(granted_file, granted_folder);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        const struct operation *operation = &operations[i];
        int wanted = argc == 4;
        for (int k = 4; k < argc; k++)
            wanted |= strstr(operation->name, argv[k]) != NULL;
        if (!wanted)
            continue;
        uint64_t times[ROUNDS];
        operation->run(operation->count / 4 + 1); /* warm up */
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t start = now_ns();
            operation->run(operation->count);
            times[round] = (now_ns() - start) * 10 / (uint64_t)operation->count;
        }
        qsort(times, ROUNDS, sizeof *times, compare);
        printf("%s\t%.1f\n", operation->name, (double)times[ROUNDS / 2] / 10);
        fflush(stdout);
    }
    unlink(private_file);
    unlink(granted_file);
    return 0;
}
