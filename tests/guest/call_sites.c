/* Call sites of every shape and place, in code that many threads run into at once, in code that changes, and in code that a thread is
 * blocked in while others make it hot. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITES 400
#define THREADS 4

/* ---- Generated code: a file of call sites ---- */

struct code {
    unsigned char bytes[65536];
    size_t size;
};

static void emit(struct code *code, const char *bytes, size_t size)
{
    memcpy(code->bytes + code->size, bytes, size);
    code->size += size;
}

#define EMIT(code, bytes) emit(code, bytes, sizeof(bytes) - 1)
/* long code(long number): sum of what SITES calls return. */
static void emit_sites(struct code *code, int shape)
{
    EMIT(code, "\x53\x55\x41\x54\x31\xdb\x49\x89\xfc"); /* push rbx, rbp, r12; xor ebx,ebx; mov r12,rdi */
    for (int i = 0; i < SITES; i++) {
        for (int filler = 0; filler < i % 9; filler++)
            EMIT(code, "\x90");
        switch (shape < 0 ? i % 6 : shape) {
        case 0: /* mov $getpid,%eax; syscall */
            EMIT(code, "\xb8\x27\x00\x00\x00\x0f\x05");
            break;
        case 1: /* number in a register; cmp $-4095,%rax; ja over the end */
            EMIT(code, "\x4c\x89\xe0\x0f\x05\x48\x3d\x01\xf0\xff\xff\x76\x02\x0f\x0b");
            break;
        case 2: /* test %rax,%rax; jns +2; ud2 */
            EMIT(code, "\x4c\x89\xe0\x0f\x05\x48\x85\xc0\x79\x02\x0f\x0b");
            break;
        case 3: /* mov %eax,%ebp; mov %ebp,%eax (2 bytes each) */
            EMIT(code, "\x4c\x89\xe0\x0f\x05\x89\xc5\x89\xe8");
            break;
        case 4: /* a conditional jump right behind: js +2; jmp +2 */
            EMIT(code, "\x4c\x89\xe0\x85\xc0\x0f\x05\x78\x02\xeb\x02\x0f\x0b");
            break;
        case 5: /* mov to another register number first: the constant is not the call's */
            EMIT(code, "\x41\xb8\x27\x00\x00\x00\x4c\x89\xe0\x0f\x05\x4c\x89\xc5\x85\xed");
            break;
        }
        EMIT(code, "\x48\x01\xc3"); /* add rax,rbx */
    }
    EMIT(code, "\x48\x89\xd8\x41\x5c\x5d\x5b\xc3");
}

/* The file, mapped as libraries are. */
static void *map_code(const struct code *code, int *out_fd)
{
    char name[] = "/tmp/call-sites-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    CHECK(fd >= 0 && write(fd, code->bytes, sizeof code->bytes) == sizeof code->bytes);
    void *address = mmap(NULL, sizeof code->bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(address != MAP_FAILED);
    if (out_fd)
        *out_fd = fd;
    else
        close(fd);
    return address;
}

static void every_shape_gives_its_result(void)
{
    for (int shape = -1; shape < 6; shape++) {
        static struct code code;
        memset(&code, 0, sizeof code);
        emit_sites(&code, shape);
        long (*run)(long) = map_code(&code, NULL);
        for (int round = 0; round < 8; round++)
            CHECK_EQUAL(run(SYS_getpid), (long)getpid() * SITES);
    }
}

static pthread_barrier_t barrier;
static long (*shared_run)(long);
static void *run_often(void *argument)
{
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < 60; round++)
        if (shared_run(SYS_getpid) != (long)getpid() * SITES)
            return (void *)1;
    return NULL;
}

static void threads_that_run_into_fresh_sites_get_right_results(void)
{
    for (int trial = 0; trial < 6; trial++) {
        static struct code code;
        memset(&code, 0, sizeof code);
        emit_sites(&code, -1);
        code.bytes[sizeof code.bytes - 1] = (unsigned char)trial;
        shared_run = map_code(&code, NULL);
        pthread_t threads[THREADS];
        pthread_barrier_init(&barrier, NULL, THREADS);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQUAL(pthread_create(&threads[i], NULL, run_often, NULL), 0);
        for (int i = 0; i < THREADS; i++) {
            void *result;
            CHECK_EQUAL(pthread_join(threads[i], &result), 0);
            CHECK(result == NULL);
        }
    }
}

/* ---- Blocked while the site becomes hot ---- */

long call3(long number, long a, long b, long c);
__asm__(".text\ncall3:\nmov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nsyscall\ncmp $-4095,%rax\njae 1f\nret\n1: ret\n");

static int channel[2];
static void *blocked_reader(void *argument)
{
    char byte = 0;
    long result = call3(SYS_read, channel[0], (long)&byte, 1);
    return (void *)(result == 1 && byte == 'x' ? 0l : 1l);
}

static void a_thread_blocked_in_a_site_comes_back_to_what_follows_it(void)
{
    pthread_t threads[THREADS];
    CHECK_EQUAL(pipe(channel), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, blocked_reader, NULL), 0);
    usleep(50000);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(call3(SYS_getpid, 0, 0, 0), getpid());
    CHECK_EQUAL(write(channel[1], "xxxx", THREADS), THREADS);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        CHECK(result == NULL);
    }
    CHECK(close(channel[0]) == 0 && close(channel[1]) == 0);
}

static volatile sig_atomic_t handled;
static void on_signal(int signal)
{
    handled++;
    if (handled == 3)
        CHECK_EQUAL(write(channel[1], "x", 1), 1);
}

static void a_call_is_restarted_at_a_hot_site(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(call3(SYS_getpid, 0, 0, 0), getpid());
    CHECK_EQUAL(pipe(channel), 0);
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            usleep(20000);
            kill(parent, SIGUSR1);
        }
        _exit(0);
    }
    char byte;
    CHECK_EQUAL(call3(SYS_read, channel[0], (long)&byte, 1), 1);
    CHECK(handled == 3 && byte == 'x');
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    action.sa_flags = 0;
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    handled = 0;
    if ((child = fork()) == 0) {
        usleep(30000);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    CHECK_EQUAL(call3(SYS_read, channel[0], (long)&byte, 1), -EINTR);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK(close(channel[0]) == 0 && close(channel[1]) == 0);
}

/* ---- Code that changes ---- */

static void other_code_at_the_same_address_is_other_code(void)
{
    static struct code one, other;
    memset(&one, 0, sizeof one);
    emit_sites(&one, -1);
    int fd;
    long (*run)(long) = map_code(&one, &fd);
    for (int round = 0; round < 8; round++)
        CHECK_EQUAL(run(SYS_getpid), (long)getpid() * SITES);
    /* Another file in its place, whose bytes lie elsewhere. */
    memset(&other, 0, sizeof other);
    EMIT(&other, "\x90\x90\x90\x90\x90");
    emit_sites(&other, 1);
    int other_fd = memfd_create("other", 0);
    CHECK(write(other_fd, other.bytes, sizeof other.bytes) == sizeof other.bytes);
    CHECK(mmap((void *)run, sizeof other.bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, other_fd, 0) == (void *)run);
    for (int round = 0; round < 8; round++)
        CHECK_EQUAL(run(SYS_getppid), (long)getppid() * SITES);
    /* The first file again, rewritten since. */
    CHECK_EQUAL(pwrite(fd, other.bytes, sizeof other.bytes, 0), sizeof other.bytes);
    void *again = mmap(NULL, sizeof other.bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(again != MAP_FAILED);
    for (int round = 0; round < 8; round++)
        CHECK_EQUAL(((long (*)(long))again)(SYS_getppid), (long)getppid() * SITES);
    CHECK(close(fd) == 0 && close(other_fd) == 0);
}

static void what_the_program_wrote_into_its_code_stays(void)
{
    static struct code code;
    memset(&code, 0, sizeof code);
    emit_sites(&code, 0);
    char *address = map_code(&code, NULL);
    long (*run)(long) = (long (*)(long))address;
    for (int round = 0; round < 8; round++)
        CHECK_EQUAL(run(0), (long)getpid() * SITES);
    /* As a text relocation would: some byte that is not executed, on the page that has been patched, and then the same in fresh ones. */
    CHECK_EQUAL(mprotect(address, 4096, PROT_READ | PROT_WRITE), 0);
    memcpy(address, "\x31\xc0\xc3", 3); /* return 0 */
    CHECK_EQUAL(mprotect(address, 4096, PROT_READ | PROT_EXEC), 0);
    for (int round = 0; round < 8; round++) {
        CHECK_EQUAL(run(0), 0);
        CHECK(memcmp(address, "\x31\xc0\xc3", 3) == 0);
    }
}

static void code_in_anonymous_memory_runs(void)
{
    static struct code code;
    memset(&code, 0, sizeof code);
    emit_sites(&code, -1);
    char *address = mmap(NULL, sizeof code.bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(address != MAP_FAILED);
    memcpy(address, code.bytes, sizeof code.bytes);
    for (int round = 0; round < 5; round++)
        CHECK_EQUAL(((long (*)(long))address)(SYS_getpid), (long)getpid() * SITES);
}

static void children_inherit_and_find_working_sites(void)
{
    static struct code code;
    memset(&code, 0, sizeof code);
    emit_sites(&code, -1);
    long (*run)(long) = map_code(&code, NULL);
    for (int round = 0; round < 6; round++) {
        pid_t child = fork();
        if (child == 0) {
            long expected = (long)getpid() * SITES;
            for (int i = 0; i < round + 1; i++)
                if (run(SYS_getpid) != expected)
                    _exit(1);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK_EQUAL(run(SYS_getpid), (long)getpid() * SITES);
    }
}

/* Siblings share with their parent what is known of the memory: they run into fresh sites of one map at the same time. The parent runs none before, the
 * later children all of them; then the file is unmapped, and whatever was held of it once too often or too seldom is missed. */
static void siblings_run_into_the_same_fresh_sites(void)
{
    for (int trial = 0; trial < 40; trial++) {
        static struct code code;
        memset(&code, 0, sizeof code);
        emit_sites(&code, trial % 6);
        code.bytes[sizeof code.bytes - 1] = (unsigned char)trial;
        int fd;
        long (*run)(long) = map_code(&code, &fd);
        for (int generation = 0; generation < 3; generation++) {
            pid_t children[4];
            int start[2];
            char byte;
            CHECK_EQUAL(pipe(start), 0);
            for (int i = 0; i < 4; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                    close(start[1]);
                    if (read(start[0], &byte, 1) != 0)
                        _exit(2);
                    for (int round = 0; round < 14; round++)
                        if (run(SYS_getpid) != (long)getpid() * SITES)
                            _exit(1);
                    _exit(0);
                }
                CHECK(children[i] > 0);
            }
            close(start[0]);
            close(start[1]);
            for (int i = 0; i < 4; i++) {
                int status;
                CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
            }
        }
        CHECK_EQUAL(run(SYS_getpid), (long)getpid() * SITES);
        char first[64];
        CHECK_EQUAL(pread(fd, first, sizeof first, 0), (long)sizeof first);
        CHECK(!memcmp(first, code.bytes, sizeof first));
        CHECK_EQUAL(munmap((void *)run, sizeof code.bytes), 0);
        CHECK_EQUAL(pread(fd, first, sizeof first, 0), (long)sizeof first);
        CHECK(!memcmp(first, code.bytes, sizeof first));
        close(fd);
    }
}

static const struct guest_case cases[] = {
    GUEST_CASE(every_shape_gives_its_result), GUEST_CASE(threads_that_run_into_fresh_sites_get_right_results),
    GUEST_CASE(a_thread_blocked_in_a_site_comes_back_to_what_follows_it), GUEST_CASE(a_call_is_restarted_at_a_hot_site),
    GUEST_CASE(other_code_at_the_same_address_is_other_code), GUEST_CASE(what_the_program_wrote_into_its_code_stays),
    GUEST_CASE(code_in_anonymous_memory_runs), GUEST_CASE(children_inherit_and_find_working_sites),
    GUEST_CASE(siblings_run_into_the_same_fresh_sites),
};
GUEST_MAIN(cases)
