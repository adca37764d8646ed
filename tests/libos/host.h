/* The hosted stand-in for the host layer: the heap segments, a vtable over Linux calls, threads
 * with thread blocks. */
#ifndef TESTS_LIBOS_HOST_H
#define TESTS_LIBOS_HOST_H

#include "libos/thread.h"

void test_host_start(uint64_t memory_limit);
/* Starts a thread with a thread block and a struct thread of its own. */
uint64_t test_thread_start(void (*function)(void *), void *argument);
void test_thread_join(uint64_t handle);
struct thread *test_thread_object(uint64_t handle);
uint64_t test_now_ns(void);
/* True when calling `function` ends in panic(). */
bool test_panics(void (*function)(void));
void test_say(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

struct test {
    const char *name;
    void (*function)(void);
};
/* Runs the table, prints TAP, returns the exit status. */
int test_run(const struct test *tests, int count);
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_failed(__FILE__, __LINE__, #condition);                                           \
    } while (0)
void test_failed(const char *file, int line, const char *what);

#endif
