/* Hosted stand-in for the host layer, so that libos can be tested as an ordinary program: same
 * addresses, same vtable, Linux calls beneath. */
#define _GNU_SOURCE
#include "tests/libos/host.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "libos/abi.h"
#include "libos/guest.h"
#include "libos/heap.h"

const struct bly_abi *bly;
static int failures;

uint64_t test_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int fake_wait_address(uint32_t *address, uint32_t expected, uint64_t deadline_ns)
{
    struct bly_thread_block *block = thread_block();

    for (;;) {
        /* The real host layer closes the window between this test and the wait; here a short
         * timeout bounds it. */
        if (block->interrupt_pending)
            return -EINTR;
        uint64_t end = test_now_ns() + 5000000;
        struct timespec until = {(time_t)((end < deadline_ns ? end : deadline_ns) / 1000000000u),
                                 (long)((end < deadline_ns ? end : deadline_ns) % 1000000000u)};
        if (syscall(SYS_futex, address, FUTEX_WAIT_BITSET, expected, &until, NULL,
                    FUTEX_BITSET_MATCH_ANY) == 0)
            return 0;
        if (errno == EAGAIN)
            return -EAGAIN;
        if (errno == EINTR)
            return block->interrupt_pending ? -EINTR : 0;
        if (test_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
    }
}

static int fake_wake_address(uint32_t *address, uint32_t count)
{
    return (int)syscall(SYS_futex, address, FUTEX_WAKE, count);
}

static int fake_interrupt(uint32_t process, uint32_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, SIGUSR1) < 0 ? -errno : 0;
}

static int fake_advise(void *address, size_t size, unsigned advice)
{
    return madvise(address, size, advice == BLY_ADVICE_REMOVE ? MADV_REMOVE : MADV_DONTNEED) < 0
               ? -errno
               : 0;
}

static int fake_affinity(uint32_t thread, void *mask, size_t size)
{
    long result = syscall(SYS_sched_getaffinity, 0, size, mask);

    return result < 0 ? -errno : (int)result;
}

static uint32_t fake_cpu(void)
{
    return (uint32_t)sched_getcpu();
}
static void fake_log(unsigned level, const char *text, size_t size)
{
    fprintf(stderr, "# %.*s\n", (int)size, text);
}
static void fake_exit(int status)
{
    _exit(status);
}
static int64_t fake_write(bly_handle stream, const struct bly_iovec *vector, size_t count,
                          uint64_t offset, unsigned flags)
{
    return 0;
}

static const struct bly_abi fake_abi = {
    .version = BLY_ABI_VERSION,
    .size = sizeof(struct bly_abi),
    .wait_address = fake_wait_address,
    .wake_address = fake_wake_address,
    .thread_interrupt = fake_interrupt,
    .memory_advise = fake_advise,
    .thread_get_affinity = fake_affinity,
    .thread_current_cpu = fake_cpu,
    .log = fake_log,
    .process_exit = fake_exit,
    .stream_write = fake_write,
};

static void on_interrupt(int signal)
{
    thread_block()->interrupt_pending = 1;
}

static void on_fault(int signal, siginfo_t *info, void *frame)
{
    ucontext_t *host = frame;
    struct bly_context context = {.rip = (uint64_t)host->uc_mcontext.gregs[REG_RIP]};

    if (!guest_fault_fixup(&context))
        abort();
    host->uc_mcontext.gregs[REG_RIP] = (long)context.rip;
}

struct test_thread {
    struct bly_thread_block block;
    struct thread thread;
    pthread_t host;
    volatile int ready;
    void (*function)(void *);
    void *argument;
};

static void adopt_thread(struct test_thread *thread)
{
    thread->block.self = &thread->block;
    thread->block.personality_thread = &thread->thread;
    thread->block.thread_id = thread->thread.thread_id = (uint32_t)syscall(SYS_gettid);
    thread->thread.state = THREAD_IN_KERNEL;
    syscall(SYS_arch_prctl, ARCH_SET_GS, &thread->block);
}

static void map_fixed(uint64_t address, uint64_t size, int flags)
{
    void *got = mmap((void *)address, size, PROT_READ | PROT_WRITE,
                     flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (got != (void *)address) {
        perror("mmap");
        exit(1);
    }
}

void test_host_start(uint64_t memory_limit)
{
    static struct test_thread main_thread;
    struct sigaction interrupt = {.sa_handler = on_interrupt},
                     fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    map_fixed(BLY_START_INFO, BLY_PAGE_SIZE, MAP_PRIVATE);
    map_fixed(BLY_HEAP_START, BLY_HEAP_SIZE, MAP_SHARED);
    map_fixed(BLY_BULK_START, BLY_BULK_SIZE, MAP_SHARED);
    sigaction(SIGUSR1, &interrupt, NULL);
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGBUS, &fault, NULL);
    adopt_thread(&main_thread);
    /* As in a real start: a thread block, but no thread object yet. */
    main_thread.block.personality_thread = NULL;
    bly = &fake_abi;
    heap_init(memory_limit);
    main_thread.block.personality_thread = &main_thread.thread;
}

static void *thread_main(void *argument)
{
    struct test_thread *thread = argument;

    adopt_thread(thread);
    thread->ready = 1;
    thread->function(thread->argument);
    return NULL;
}

uint64_t test_thread_start(void (*function)(void *), void *argument)
{
    struct test_thread *thread = calloc(1, sizeof *thread);

    thread->function = function;
    thread->argument = argument;
    if (pthread_create(&thread->host, NULL, thread_main, thread) != 0)
        abort();
    while (!thread->ready)
        sched_yield();
    return (uint64_t)thread;
}

void test_thread_join(uint64_t handle)
{
    struct test_thread *thread = (struct test_thread *)handle;

    pthread_join(thread->host, NULL);
    thread_finish(&thread->thread);
    free(thread);
}

struct thread *test_thread_object(uint64_t handle)
{
    return &((struct test_thread *)handle)->thread;
}

bool test_panics(void (*function)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        function();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 255;
}

void test_say(const char *pattern, ...)
{
    va_list arguments;

    va_start(arguments, pattern);
    printf("# ");
    vprintf(pattern, arguments);
    printf("\n");
    va_end(arguments);
}

void test_failed(const char *file, int line, const char *what)
{
    printf("# %s:%d: failed: %s\n", file, line, what);
    failures++;
}

int test_run(const struct test *tests, int count)
{
    int bad = 0;

    printf("1..%d\n", count);
    for (int i = 0; i < count; i++) {
        failures = 0;
        tests[i].function();
        printf("%s %d - %s\n", failures ? "not ok" : "ok", i + 1, tests[i].name);
        fflush(stdout);
        bad += failures != 0;
    }
    return bad != 0;
}
