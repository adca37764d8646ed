/* futex(2): waiting, waking, requeueing, times, errors; words shared between processes;
 * futex_waitv. */
#define _GNU_SOURCE
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long futex(void *word, int operation, uint32_t value, const void *time, void *word2,
                  uint32_t value3)
{
    return syscall(SYS_futex, word, operation, value, time, word2, value3);
}

static uint64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static struct timespec from_ns(uint64_t ns)
{
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static void simple_errors(void)
{
    uint32_t words[2] = {1, 1};
    struct timespec bad = {0, 1000000000}, past = {0, 1}, negative = {-1, 0};
    CHECK_ERROR(futex(words, FUTEX_WAIT, 2, NULL, NULL, 0), EAGAIN);
    CHECK_ERROR(futex((char *)words + 1, FUTEX_WAIT, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERROR(futex((char *)words + 1, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERROR(futex((void *)4096, FUTEX_WAIT, 1, NULL, NULL, 0), EFAULT);
    CHECK_ERROR(futex((void *)4096, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    CHECK_ERROR(futex((void *)(1ul << 63), FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EFAULT);
    CHECK_ERROR(futex(words, FUTEX_WAIT, 1, &bad, NULL, 0), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_WAIT, 1, &negative, NULL, 0), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_WAIT, 1, (void *)8, NULL, 0), EFAULT);
    CHECK_ERROR(futex(words, FUTEX_WAIT, 1, &past, NULL, 0), ETIMEDOUT);
    CHECK_ERROR(futex(words, FUTEX_WAIT_BITSET, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), ENOSYS);
    CHECK_ERROR(futex(words, 99, 1, NULL, NULL, 0), ENOSYS);
    CHECK_ERROR(futex(words, FUTEX_REQUEUE, -1, (void *)1, words + 1, 0), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_CMP_REQUEUE, 1, (void *)-1, words + 1, 1), EINVAL);
    CHECK_ERROR(futex(words, FUTEX_CMP_REQUEUE, 1, (void *)1, words + 1, 2), EAGAIN);
    CHECK_EQUAL(futex(words, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

static void timeouts_are_kept(void)
{
    uint32_t word = 0;
    struct timespec time = from_ns(30000000);
    uint64_t start = now(CLOCK_MONOTONIC);
    CHECK_ERROR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), ETIMEDOUT);
    CHECK(now(CLOCK_MONOTONIC) - start >= 30000000);
    start = now(CLOCK_MONOTONIC);
    time = from_ns(start + 30000000);
    CHECK_ERROR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &time, NULL, ~0u), ETIMEDOUT);
    CHECK(now(CLOCK_MONOTONIC) - start >= 30000000);
    start = now(CLOCK_REALTIME);
    time = from_ns(start + 30000000);
    CHECK_ERROR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &time, NULL, ~0u),
                ETIMEDOUT);
    CHECK(now(CLOCK_REALTIME) - start >= 30000000);
}

struct sleeper {
    pthread_t thread;
    uint32_t *word;
    uint32_t bits;
    long result;
    int error;
    volatile int done;
};
static void *sleep_on(void *argument)
{
    struct sleeper *sleeper = argument;
    errno = 0;
    sleeper->result = futex(sleeper->word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, sleeper->bits);
    sleeper->error = errno;
    sleeper->done = 1;
    return NULL;
}
/* How many sleep on the word: requeued to itself they stay where they are and are counted. */
static long count_sleepers(uint32_t *word)
{
    return futex(word, FUTEX_REQUEUE_PRIVATE, 0, (void *)1000, word, 0);
}
static void start_sleeper(struct sleeper *sleeper, uint32_t *word, uint32_t bits)
{
    long before = count_sleepers(word);
    *sleeper = (struct sleeper){.word = word, .bits = bits};
    CHECK_EQUAL(pthread_create(&sleeper->thread, NULL, sleep_on, sleeper), 0);
    while (count_sleepers(word) <= before)
        usleep(1000);
}

/* How many have returned: waits for `expected` of them, and a little longer for one too many. */
static int count_done(struct sleeper *sleepers, int count, int expected)
{
    int done = 0;
    for (int tries = 0; tries < 2000 && done < expected; tries++) {
        usleep(1000);
        done = 0;
        for (int i = 0; i < count; i++)
            done += sleepers[i].done;
    }
    usleep(10000);
    done = 0;
    for (int i = 0; i < count; i++)
        done += sleepers[i].done;
    return done;
}

static void wakes_are_counted_and_select_by_bits(void)
{
    uint32_t word = 0;
    struct sleeper sleepers[5];
    for (int i = 0; i < 5; i++)
        start_sleeper(&sleepers[i], &word, i < 3 ? 1 : 2);
    CHECK_EQUAL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
    CHECK_EQUAL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2), 2);
    CHECK_EQUAL(count_done(sleepers, 5, 2), 2);
    CHECK(sleepers[3].done && sleepers[4].done);
    CHECK_EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
    CHECK_EQUAL(count_done(sleepers, 5, 3), 3);
    CHECK(sleepers[0].done); /* first come, first served */
    CHECK_EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0), 2);
    for (int i = 0; i < 5; i++) {
        pthread_join(sleepers[i].thread, NULL);
        CHECK_EQUAL(sleepers[i].result, 0);
    }
}

static void requeue_moves_waiters(void)
{
    uint32_t words[2] = {0, 0};
    struct sleeper sleepers[4];
    for (int i = 0; i < 4; i++)
        start_sleeper(&sleepers[i], words, ~0u);
    CHECK_EQUAL(futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, words + 1, 0), 3);
    CHECK_EQUAL(count_done(sleepers, 4, 1), 1);
    CHECK_EQUAL(futex(words + 1, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
    CHECK_EQUAL(futex(words, FUTEX_REQUEUE_PRIVATE, 0, (void *)10, words + 1, 0), 1);
    CHECK_EQUAL(futex(words, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0);
    CHECK_EQUAL(futex(words + 1, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
    for (int i = 0; i < 4; i++)
        pthread_join(sleepers[i].thread, NULL);
}

static void wake_op_operates_and_wakes_both(void)
{
    uint32_t words[2] = {0, 0};
    struct sleeper sleepers[2];
    start_sleeper(&sleepers[0], words, ~0u);
    start_sleeper(&sleepers[1], words + 1, ~0u);
    CHECK_EQUAL(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1,
                      FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_GT, 0)),
                1);
    CHECK_EQUAL(words[1], 5);
    words[1] = 0;
    start_sleeper(&sleepers[0], words, ~0u);
    CHECK_EQUAL(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1,
                      FUTEX_OP(FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 0)),
                2);
    CHECK_EQUAL(words[1], 7);
    CHECK_EQUAL(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1,
                      FUTEX_OP(FUTEX_OP_ANDN, 3, FUTEX_OP_CMP_NE, 7)),
                0);
    CHECK_EQUAL(words[1], 4);
    CHECK_EQUAL(futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1,
                      FUTEX_OP((FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT), 4, FUTEX_OP_CMP_LT, 0)),
                0);
    CHECK_EQUAL(words[1], 20);
    pthread_join(sleepers[0].thread, NULL);
    pthread_join(sleepers[1].thread, NULL);
}

static void words_are_shared_between_processes(void)
{
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t *elsewhere = mremap(shared, 0, 4096, MREMAP_MAYMOVE);
    CHECK(shared != MAP_FAILED && elsewhere != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 1000; i++) {
            while (__atomic_load_n(&elsewhere[0], __ATOMIC_ACQUIRE) != (uint32_t)i + 1)
                futex(&elsewhere[0], FUTEX_WAIT, i, NULL, NULL, 0);
            __atomic_store_n(&elsewhere[1], i + 1, __ATOMIC_RELEASE);
            futex(&elsewhere[1], FUTEX_WAKE, 1, NULL, NULL, 0);
        }
        _exit(0);
    }
    for (int i = 0; i < 1000; i++) {
        __atomic_store_n(&shared[0], i + 1, __ATOMIC_RELEASE);
        futex(&shared[0], FUTEX_WAKE, 1, NULL, NULL, 0);
        while (__atomic_load_n(&shared[1], __ATOMIC_ACQUIRE) != (uint32_t)i + 1)
            futex(&shared[1], FUTEX_WAIT, i, NULL, NULL, 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void on_signal(int signal) {}
static void signals_interrupt_or_restart(void)
{
    uint32_t word = 0;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    CHECK_ERROR(futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINTR);
    struct timespec second = {1, 0};
    ualarm(20000, 0);
    CHECK_ERROR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &second, NULL, 0), EINTR);
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    /* A wait without deadline goes on after the handler: ended by the child's wake. */
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(60000);
        *shared = 1;
        futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0);
        _exit(0);
    }
    ualarm(20000, 0);
    CHECK_EQUAL(futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(*shared, 1);
    waitpid(child, NULL, 0);
    /* Stopped and continued: a deadline stays where it was. */
    child = fork();
    if (child == 0) {
        struct timespec time = from_ns(100000000);
        uint64_t start = now(CLOCK_MONOTONIC);
        long result = futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
        uint64_t took = now(CLOCK_MONOTONIC) - start;
        _exit(result == -1 && errno == ETIMEDOUT && took >= 100000000 && took < 400000000 ? 0 : 1);
    }
    usleep(30000);
    kill(child, SIGSTOP);
    usleep(20000);
    kill(child, SIGCONT);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static uint32_t lock_word, lock_count;
static void *take_turns(void *argument)
{
    for (int i = 0; i < 20000; i++) {
        uint32_t expected = 0;
        if (!__atomic_compare_exchange_n(&lock_word, &expected, 1, 0, __ATOMIC_ACQUIRE,
                                         __ATOMIC_RELAXED))
            while (__atomic_exchange_n(&lock_word, 2, __ATOMIC_ACQUIRE) != 0)
                futex(&lock_word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
        lock_count++;
        if (__atomic_exchange_n(&lock_word, 0, __ATOMIC_RELEASE) == 2)
            futex(&lock_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}
static void no_wake_is_lost(void)
{
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(lock_count, 120000);
}

static void *wake_third(void *argument)
{
    uint32_t *words = argument;
    usleep(30000);
    words[2] = 1;
    futex(&words[2], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return NULL;
}
static void waitv_waits_for_any(void)
{
    uint32_t words[4] = {0};
    struct futex_waitv wanted[4];
    memset(wanted, 0, sizeof wanted);
    for (int i = 0; i < 4; i++)
        wanted[i] = (struct futex_waitv){
            .val = 0, .uaddr = (uint64_t)&words[i], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
    long probe = syscall(SYS_futex_waitv, wanted, 0, 0, NULL, 0);
    if (probe == -1 && errno == ENOSYS)
        return; /* Linux 5.16 */
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 0, 0, NULL, 0), EINVAL);
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 129, 0, NULL, 0), EINVAL);
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 4, 1, NULL, 0), EINVAL);
    struct timespec time = from_ns(now(CLOCK_MONOTONIC) + 20000000);
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 4, 0, &time, CLOCK_MONOTONIC), ETIMEDOUT);
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 4, 0, &time, 7), EINVAL);
    words[1] = 5;
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 4, 0, NULL, 0), EAGAIN);
    words[1] = 0;
    wanted[1].flags = 0;
    CHECK_ERROR(syscall(SYS_futex_waitv, wanted, 4, 0, NULL, 0), EINVAL);
    wanted[1].flags = FUTEX_32 | FUTEX_PRIVATE_FLAG;
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, wake_third, words), 0);
    CHECK_EQUAL(syscall(SYS_futex_waitv, wanted, 4, 0, NULL, 0), 2);
    pthread_join(thread, NULL);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn;
static void *alternate(void *argument)
{
    int own = (int)(long)argument;
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 3 != own)
            pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
static void conditions_of_libc_work(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, alternate, (void *)i), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(turn, 15000);
}

static const struct guest_case cases[] = {
    GUEST_CASE(simple_errors),
    GUEST_CASE(timeouts_are_kept),
    GUEST_CASE(wakes_are_counted_and_select_by_bits),
    GUEST_CASE(requeue_moves_waiters),
    GUEST_CASE(wake_op_operates_and_wakes_both),
    GUEST_CASE(words_are_shared_between_processes),
    GUEST_CASE(signals_interrupt_or_restart),
    GUEST_CASE(no_wake_is_lost),
    GUEST_CASE(waitv_waits_for_any),
    GUEST_CASE(conditions_of_libc_work),
};
GUEST_MAIN(cases)
