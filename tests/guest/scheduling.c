/* Scheduling: CPUs of threads. */
#define _GNU_SOURCE
#include "guest.h"
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void affinity_is_set_told_and_inherited(void)
{
    cpu_set_t all, one, seen;
    CHECK_EQUAL(sched_getaffinity(0, sizeof all, &all), 0);
    CHECK(CPU_COUNT(&all) > 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    pid_t child = fork();
    if (!child)
        _exit(sched_getaffinity(getppid(), sizeof seen, &seen) != 0 || !CPU_EQUAL(&seen, &one) ||
              sched_getaffinity(0, sizeof seen, &seen) != 0 || !CPU_EQUAL(&seen, &one) || sched_getcpu() != cpu);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(sched_setaffinity(getpid(), sizeof all, &all), 0);
    CHECK_EQUAL(sched_getaffinity(0, sizeof seen, &seen), 0);
    CHECK(CPU_EQUAL(&seen, &all));
}

static void affinity_tells_unknown_threads_from_bad_sizes(void)
{
    cpu_set_t set;
    CHECK_EQUAL(sched_getaffinity(0, sizeof set, &set), 0);
    CHECK_ERROR(sched_getaffinity(-1, sizeof set, &set), ESRCH);
    CHECK_ERROR(sched_setaffinity(-1, sizeof set, &set), ESRCH);
    CHECK_ERROR(sched_getaffinity(INT_MAX, sizeof set, &set), ESRCH);
    CHECK_ERROR(syscall(SYS_sched_getaffinity, 0, 0, &set), EINVAL);
    CHECK_ERROR(syscall(SYS_sched_getaffinity, 0, sizeof set - 1, &set), EINVAL);
    CHECK_ERROR(syscall(SYS_sched_getaffinity, 0, sizeof set, (void *)-4096L), EFAULT);
    CPU_ZERO(&set);
    CHECK_ERROR(sched_setaffinity(0, sizeof set, &set), EINVAL);
}

static const struct guest_case cases[] = {
    GUEST_CASE(affinity_is_set_told_and_inherited),
    GUEST_CASE(affinity_tells_unknown_threads_from_bad_sizes),
};
GUEST_MAIN(cases)
