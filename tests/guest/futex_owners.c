/* Futexes with owners: priority-inheriting and robust mutexes, raw and through the C library. */
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
static uint32_t tid(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

static void pi_words_tell_their_owner(void)
{
    uint32_t word = 0;
    CHECK_EQUAL(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(word & FUTEX_TID_MASK, tid());
    CHECK_ERROR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    CHECK_ERROR(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    CHECK_EQUAL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(word, 0);
    CHECK_ERROR(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    CHECK_EQUAL(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    word = 0x3ffffff0;
    CHECK_ERROR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), ESRCH);
    CHECK_ERROR(futex((char *)&word + 2, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERROR(futex((void *)4096, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);
}

struct contest {
    uint32_t word;
    uint64_t count;
    int order[8];
    int position;
};
static void *compete(void *argument)
{
    struct contest *contest = argument;
    for (int i = 0; i < 5000; i++) {
        uint32_t expected = 0;
        if (!__atomic_compare_exchange_n(&contest->word, &expected, tid(), 0, __ATOMIC_ACQUIRE,
                                         __ATOMIC_RELAXED))
            CHECK_EQUAL(futex(&contest->word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
        CHECK_EQUAL(contest->word & FUTEX_TID_MASK, tid());
        contest->count++;
        expected = tid();
        if (!__atomic_compare_exchange_n(&contest->word, &expected, 0, 0, __ATOMIC_RELEASE,
                                         __ATOMIC_RELAXED))
            CHECK_EQUAL(futex(&contest->word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    }
    return NULL;
}
static void pi_excludes_under_contention(void)
{
    static struct contest contest;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, compete, &contest), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(contest.count, 20000);
    CHECK_EQUAL(contest.word & FUTEX_TID_MASK, 0);
}

static uint32_t held_word;
static volatile long held_result;
static volatile int held_errno;
static void *lock_and_die(void *argument)
{
    CHECK_EQUAL(futex(&held_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    *(volatile int *)argument = 1;
    usleep(50000);
    return NULL;
}
static void the_owners_death_hands_pi_locks_on(void)
{
    volatile int locked = 0;
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, lock_and_die, (void *)&locked), 0);
    while (!locked)
        sched_yield();
    CHECK_EQUAL(futex(&held_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(held_word & FUTEX_TID_MASK, tid());
    CHECK(held_word & FUTEX_OWNER_DIED);
    CHECK_EQUAL(futex(&held_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    pthread_join(thread, NULL);
}

static uint32_t first_word, second_word;
static void *hold_second_wait_first(void *argument)
{
    CHECK_EQUAL(futex(&second_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    *(volatile int *)argument = 1;
    CHECK_EQUAL(futex(&first_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(futex(&first_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(futex(&second_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    return NULL;
}
static void circles_are_found(void)
{
    volatile int ready = 0;
    pthread_t thread;
    CHECK_EQUAL(futex(&first_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, hold_second_wait_first, (void *)&ready), 0);
    while (!ready)
        sched_yield();
    usleep(30000);
    CHECK_ERROR(futex(&second_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    CHECK_EQUAL(futex(&first_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    pthread_join(thread, NULL);
}

static void *try_for_a_while(void *argument)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += 20000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    held_result = futex(argument, FUTEX_LOCK_PI_PRIVATE, 0, &time, NULL, 0);
    held_errno = errno;
    return NULL;
}
static void pi_waits_end_in_time(void)
{
    uint32_t word = 0;
    pthread_t thread;
    CHECK_EQUAL(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, try_for_a_while, &word), 0);
    pthread_join(thread, NULL);
    CHECK(held_result == -1 && held_errno == ETIMEDOUT);
    CHECK_EQUAL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    CHECK_EQUAL(word & FUTEX_TID_MASK, 0);
}

static uint32_t condition_word, lock_word;
static volatile int got_lock;
static void *wait_requeue(void *argument)
{
    CHECK_EQUAL(futex(&condition_word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &lock_word, 0), 0);
    CHECK_EQUAL(lock_word & FUTEX_TID_MASK, tid());
    __atomic_add_fetch(&got_lock, 1, __ATOMIC_SEQ_CST);
    CHECK_EQUAL(futex(&lock_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    return NULL;
}
static void waiters_are_requeued_to_a_pi_lock(void)
{
    pthread_t threads[3];
    CHECK_EQUAL(futex(&lock_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, wait_requeue, NULL), 0);
    usleep(50000);
    CHECK_ERROR(futex(&condition_word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, (void *)10, &lock_word, 0),
                EINVAL);
    CHECK_ERROR(futex(&condition_word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)10, &lock_word, 1),
                EAGAIN);
    CHECK_ERROR(futex(&condition_word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)10, &held_word, 0),
                EINVAL);
    CHECK_EQUAL(futex(&condition_word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)10, &lock_word, 0),
                3);
    usleep(30000);
    CHECK_EQUAL(got_lock, 0);
    CHECK_EQUAL(futex(&lock_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(got_lock, 3);
}

static pthread_mutex_t *shared_mutex(int protocol)
{
    pthread_mutex_t *mutex =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    CHECK(mutex != MAP_FAILED);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    CHECK_EQUAL(pthread_mutex_init(mutex, &attributes), 0);
    return mutex;
}

enum owner_end { BY_EXIT, BY_KILL, BY_EXEC };
static void robust_mutexes_survive(int protocol, enum owner_end how)
{
    pthread_mutex_t *mutex = shared_mutex(protocol);
    volatile int *locked = (volatile int *)(mutex + 1);
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(mutex);
        *locked = 1;
        usleep(30000); /* the parent waits meanwhile */
        if (how == BY_KILL)
            kill(getpid(), SIGKILL);
        if (how == BY_EXEC)
            execl("/proc/self/exe", "futex_owners", "no such case", NULL);
        _exit(0);
    }
    while (!*locked)
        usleep(1000);
    CHECK_EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
    CHECK_EQUAL(pthread_mutex_consistent(mutex), 0);
    CHECK_EQUAL(pthread_mutex_unlock(mutex), 0);
    waitpid(child, NULL, 0);
    /* Nobody waits when the owner dies. */
    child = fork();
    if (child == 0) {
        pthread_mutex_lock(mutex);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK_EQUAL(pthread_mutex_trylock(mutex), EOWNERDEAD);
    CHECK_EQUAL(pthread_mutex_unlock(mutex), 0);
    CHECK_EQUAL(pthread_mutex_lock(mutex), ENOTRECOVERABLE);
    munmap(mutex, 4096);
}
static void robust_mutexes_survive_an_exit(void)
{
    robust_mutexes_survive(PTHREAD_PRIO_NONE, BY_EXIT);
}
static void robust_mutexes_survive_a_kill(void)
{
    robust_mutexes_survive(PTHREAD_PRIO_NONE, BY_KILL);
}
/* execve(2): the robust list goes with the memory it lies in, and so do the locks. */
static void robust_mutexes_survive_an_exec(void)
{
    robust_mutexes_survive(PTHREAD_PRIO_NONE, BY_EXEC);
}
static void robust_pi_mutexes_survive_an_exit(void)
{
    robust_mutexes_survive(PTHREAD_PRIO_INHERIT, BY_EXIT);
}
static void robust_pi_mutexes_survive_a_kill(void)
{
    robust_mutexes_survive(PTHREAD_PRIO_INHERIT, BY_KILL);
}

static void *thread_dies_holding(void *argument)
{
    pthread_mutex_lock(argument);
    return NULL;
}
static void a_threads_end_frees_robust_mutexes(void)
{
    pthread_mutex_t *mutex = shared_mutex(PTHREAD_PRIO_NONE);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, thread_dies_holding, mutex), 0);
    pthread_join(thread, NULL);
    CHECK_EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
}

static void lists_are_registered(void)
{
    struct robust_list_head head = {.list = {&head.list}}, *own, *got = NULL;
    size_t size = 0;
    CHECK_ERROR(syscall(SYS_set_robust_list, &head, sizeof head - 1), EINVAL);
    CHECK_EQUAL(syscall(SYS_get_robust_list, 0, &own, &size), 0);
    CHECK_EQUAL(syscall(SYS_set_robust_list, &head, sizeof head), 0);
    CHECK_EQUAL(syscall(SYS_get_robust_list, 0, &got, &size), 0);
    CHECK(got == &head && size == sizeof head);
    CHECK_ERROR(syscall(SYS_get_robust_list, 0x3ffffff0, &got, &size), ESRCH);
    CHECK_ERROR(syscall(SYS_get_robust_list, 0, (void *)8, &size), EFAULT);
    CHECK_EQUAL(syscall(SYS_set_robust_list, own, sizeof head), 0);
    /* A list of rubbish hurts nobody but its owner. */
    pid_t child = fork();
    if (child == 0) {
        struct robust_list loop = {&loop};
        struct robust_list_head bad = {
            .list = {&loop}, .futex_offset = 8, .list_op_pending = (void *)0x1000};
        syscall(SYS_set_robust_list, &bad, sizeof bad);
        syscall(SYS_exit_group, 3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
}

static const struct guest_case cases[] = {
    GUEST_CASE(pi_words_tell_their_owner),
    GUEST_CASE(pi_excludes_under_contention),
    GUEST_CASE(the_owners_death_hands_pi_locks_on),
    GUEST_CASE(circles_are_found),
    GUEST_CASE(pi_waits_end_in_time),
    GUEST_CASE(waiters_are_requeued_to_a_pi_lock),
    GUEST_CASE(robust_mutexes_survive_an_exit),
    GUEST_CASE(robust_mutexes_survive_a_kill),
    GUEST_CASE(robust_mutexes_survive_an_exec),
    GUEST_CASE(robust_pi_mutexes_survive_an_exit),
    GUEST_CASE(robust_pi_mutexes_survive_a_kill),
    GUEST_CASE(a_threads_end_frees_robust_mutexes),
    GUEST_CASE(lists_are_registered),
};
GUEST_MAIN(cases)
