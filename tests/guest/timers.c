/* Clocks, sleeping, interval timers, POSIX timers. Deadlines are checked from below, and from above only loosely. */
#define _GNU_SOURCE
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static volatile siginfo_t last_info;
static void on_info(int signal, siginfo_t *info, void *context)
{
    count++;
    memcpy((void *)&last_info, info, sizeof *info);
}
static void set_handler(int signal)
{
    struct sigaction action = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO };
    sigemptyset(&action.sa_mask);
    CHECK_EQUAL(sigaction(signal, &action, NULL), 0);
    count = 0;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec time;
    CHECK_EQUAL(clock_gettime(clock, &time), 0);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void burn(int64_t ns)
{
    int64_t start = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < ns)
        ;
}

static void clocks_run_and_do_not_go_back(void)
{
    int known[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE,
                    CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_TAI };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct timespec resolution;
        int64_t before = now_ns(known[i]);
        for (int j = 0; j < 100; j++) {
            int64_t after = now_ns(known[i]);
            CHECK(after >= before);
            before = after;
        }
        CHECK_EQUAL(clock_getres(known[i], &resolution), 0);
        CHECK_EQUAL(resolution.tv_sec, 0);
    }
    struct timespec time;
    CHECK(syscall(SYS_clock_gettime, 99, &time) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8) == -1 && errno == EFAULT);
    struct timeval precise;
    CHECK_EQUAL(gettimeofday(&precise, NULL), 0);
    CHECK(llabs((long long)precise.tv_sec - (long long)syscall(SYS_time, NULL)) <= 1);
}

static void cpu_clocks_count_only_work(void)
{
    int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    usleep(50000);
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 40000000);
    burn(30000000);
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu >= 30000000);
    struct rusage usage;
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &usage), 0);
    CHECK(usage.ru_utime.tv_sec || usage.ru_utime.tv_usec + usage.ru_stime.tv_usec >= 20000);
    struct tms times_now;
    CHECK(times(&times_now) > 0);
    clockid_t other;
    CHECK_EQUAL(clock_getcpuclockid(0, &other), 0);
    CHECK(now_ns(other) > 0);
    CHECK_EQUAL(pthread_getcpuclockid(pthread_self(), &other), 0);
    CHECK(now_ns(other) > 0);
}

static void sleeps_are_never_too_short(void)
{
    for (int i = 1; i <= 5; i++) {
        struct timespec wait = { 0, i * 3000000 };
        int64_t start = now_ns(CLOCK_MONOTONIC);
        CHECK_EQUAL(nanosleep(&wait, NULL), 0);
        CHECK(now_ns(CLOCK_MONOTONIC) - start >= i * 3000000);
        start = now_ns(CLOCK_REALTIME) + i * 3000000;
        wait = (struct timespec){ start / 1000000000, start % 1000000000 };
        CHECK_EQUAL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &wait, NULL), 0);
        CHECK(now_ns(CLOCK_REALTIME) >= start);
    }
    struct timespec bad = { 0, 1000000000 };
    CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
    CHECK_EQUAL(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &bad, NULL), EINVAL);
}

static void interval_timers_repeat(void)
{
    set_handler(SIGALRM);
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } }, now;
    CHECK_EQUAL(setitimer(ITIMER_REAL, &every, NULL), 0);
    while (count < 10)
        pause();
    CHECK_EQUAL(getitimer(ITIMER_REAL, &now), 0);
    CHECK_EQUAL(now.it_interval.tv_usec, 5000);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &off, &now), 0);
    CHECK(now.it_value.tv_usec <= 5000);
    int seen = count;
    usleep(20000);
    CHECK_EQUAL(count, seen);
    CHECK_EQUAL(last_info.si_code, SI_KERNEL);
}

static void alarms_are_one_and_tell_what_was_left(void)
{
    set_handler(SIGALRM);
    CHECK_EQUAL(alarm(100), 0);
    CHECK_EQUAL(alarm(1), 100);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    pause();
    CHECK_EQUAL(count, 1);
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 990000000);
    CHECK_EQUAL(alarm(0), 0);
}

static void cpu_interval_timers_run_on_cpu_time(void)
{
    set_handler(SIGVTALRM);
    set_handler(SIGPROF);
    struct itimerval once = { { 0, 0 }, { 0, 30000 } };
    CHECK_EQUAL(setitimer(ITIMER_PROF, &once, NULL), 0);
    usleep(60000);
    CHECK_EQUAL(count, 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    while (!count && now_ns(CLOCK_MONOTONIC) - start < 5000000000)
        ;
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(last_info.si_signo, SIGPROF);
    CHECK_EQUAL(setitimer(ITIMER_VIRTUAL, &once, NULL), 0);
    start = now_ns(CLOCK_MONOTONIC);
    volatile uint64_t work = 0;
    while (count < 2 && (work++ % 1000000 || now_ns(CLOCK_MONOTONIC) - start < 5000000000))
        ;
    CHECK_EQUAL(last_info.si_signo, SIGVTALRM);
}

static void timers_do_not_pass_to_children_but_through_exec(void)
{
    set_handler(SIGALRM);
    struct itimerval far = { { 0, 0 }, { 100, 0 } }, off = { { 0, 0 }, { 0, 0 } };
    CHECK_EQUAL(setitimer(ITIMER_REAL, &far, NULL), 0);
    pid_t child = fork();
    if (!child) {
        struct itimerval now;
        getitimer(ITIMER_REAL, &now);
        _exit(now.it_value.tv_sec || now.it_value.tv_usec);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK_EQUAL(status, 0);
    setitimer(ITIMER_REAL, &off, NULL);
    child = fork();
    if (!child) {
        alarm(1);
        execl("/bin/sleep", "sleep", "20", NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
}

static void posix_timers_signal_with_their_value(void)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 1234 };
    struct itimerspec every = { { 0, 3000000 }, { 0, 3000000 } }, now, off = { { 0, 0 }, { 0, 0 } };
    set_handler(SIGRTMIN);
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &every, NULL), 0);
    while (count < 10)
        pause();
    CHECK_EQUAL(last_info.si_code, SI_TIMER);
    CHECK_EQUAL(last_info.si_value.sival_int, 1234);
    CHECK_EQUAL(timer_gettime(timer, &now), 0);
    CHECK_EQUAL(now.it_interval.tv_nsec, 3000000);
    CHECK(now.it_value.tv_nsec <= 3000000 && now.it_value.tv_nsec > 0);
    CHECK_EQUAL(timer_settime(timer, 0, &off, &now), 0);
    int seen = count;
    usleep(10000);
    CHECK_EQUAL(count, seen);
    /* In the past, absolutely: at once. */
    struct itimerspec past = { { 0, 0 }, { 0, 1 } };
    CHECK_EQUAL(timer_settime(timer, TIMER_ABSTIME, &past, NULL), 0);
    while (count == seen)
        usleep(1000);
    CHECK_EQUAL(timer_delete(timer), 0);
    CHECK(timer_delete(timer) == -1 && errno == EINVAL);
}

static void overruns_are_counted(void)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
    sigset_t set;
    set_handler(SIGRTMIN);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &every, NULL), 0);
    usleep(50000);
    siginfo_t info;
    CHECK_EQUAL(sigwaitinfo(&set, &info), SIGRTMIN);
    CHECK(info.si_overrun >= 40);
    CHECK(timer_getoverrun(timer) == info.si_overrun);
    CHECK_EQUAL(timer_delete(timer), 0);
    /* Its signal is gone with it. */
    CHECK(sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }) == -1 && errno == EAGAIN);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static volatile int notified;
static void notify(union sigval value) { notified = value.sival_int; }
static void timers_can_start_threads_and_say_nothing(void)
{
    timer_t timer, silent;
    struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify, .sigev_value.sival_int = 55 };
    struct itimerspec once = { { 0, 0 }, { 0, 2000000 } }, now;
    CHECK_EQUAL(timer_create(CLOCK_REALTIME, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &once, NULL), 0);
    for (int i = 0; i < 1000 && !notified; i++)
        usleep(1000);
    CHECK_EQUAL(notified, 55);
    CHECK_EQUAL(timer_delete(timer), 0);
    event = (struct sigevent){ .sigev_notify = SIGEV_NONE };
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &silent), 0);
    CHECK_EQUAL(timer_settime(silent, 0, &once, NULL), 0);
    usleep(5000);
    CHECK_EQUAL(timer_gettime(silent, &now), 0);
    CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0);
    CHECK_EQUAL(timer_delete(silent), 0);
}

static void cpu_timers_run_on_cpu_time(void)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    struct itimerspec once = { { 0, 0 }, { 0, 20000000 } };
    set_handler(SIGRTMIN);
    CHECK_EQUAL(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &once, NULL), 0);
    usleep(40000);
    CHECK_EQUAL(count, 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    while (!count && now_ns(CLOCK_MONOTONIC) - start < 5000000000)
        ;
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(timer_delete(timer), 0);
}

static void the_limit_of_cpu_time_ends_programs(void)
{
    pid_t child = fork();
    if (!child) {
        struct rlimit limit = { 1, 2 };
        CHECK_EQUAL(setrlimit(RLIMIT_CPU, &limit), 0);
        for (;;)
            ;
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
}

static const struct guest_case cases[] = {
    GUEST_CASE(clocks_run_and_do_not_go_back), GUEST_CASE(cpu_clocks_count_only_work), GUEST_CASE(sleeps_are_never_too_short),
    GUEST_CASE(interval_timers_repeat), GUEST_CASE(alarms_are_one_and_tell_what_was_left), GUEST_CASE(cpu_interval_timers_run_on_cpu_time),
    GUEST_CASE(timers_do_not_pass_to_children_but_through_exec), GUEST_CASE(posix_timers_signal_with_their_value), GUEST_CASE(overruns_are_counted),
    GUEST_CASE(timers_can_start_threads_and_say_nothing), GUEST_CASE(cpu_timers_run_on_cpu_time), GUEST_CASE(the_limit_of_cpu_time_ends_programs),
};
GUEST_MAIN(cases)
