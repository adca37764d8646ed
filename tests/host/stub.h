/* A personality for tests: each test is a function of the first picoprocess, chosen by the
 * program's name in the start information. */
#ifndef TESTS_HOST_STUB_H
#define TESTS_HOST_STUB_H

#include <bailey/abi.h>
#include <bailey/start.h>
#include <asm/errno.h>

extern const struct bly_abi *bly;
extern const struct bly_start_info *info;

struct test {
    const char *name;
    void (*function)(void);
};
extern const struct test memory_tests[], thread_tests[], process_tests[], stream_tests[],
    filter_tests[];

_Noreturn void stub_fail(const char *file, int line, const char *what, long value);
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            stub_fail(__FILE__, __LINE__, #condition, 0);                                          \
    } while (0)
#define EXPECT(expression, wanted)                                                                 \
    do {                                                                                           \
        long value_ = (long)(expression);                                                          \
        if (value_ != (long)(wanted))                                                              \
            stub_fail(__FILE__, __LINE__, #expression " is not " #wanted, value_);                 \
    } while (0)

static inline struct bly_thread_block *block(void)
{
    struct bly_thread_block *value;
    __asm__("mov %%gs:0, %0" : "=r"(value));
    return value;
}

/* The start of the kernel heap, shared by all picoprocesses. */
struct shared {
    _Atomic uint32_t words[64];
    _Atomic uint64_t counters[16];
};
static struct shared *const shared = (struct shared *)BLY_HEAP_START;

uint64_t now_ns(void);
void say(const char *text);
void sleep_ns(uint64_t ns); /* not interruptible */
/* Waits until *word is value. */
void await(_Atomic uint32_t *word, uint32_t value);
void set(_Atomic uint32_t *word, uint32_t value);

/* A thread that runs function(argument) and then raises *done by one. */
struct job {
    void (*function)(void *);
    void *argument;
    _Atomic uint32_t done;
    uint32_t thread_id;
};
void job_start(struct job *job);
void job_join(struct job *job);

/* Runs guest code (position-independent bytes, mapped at STUB_CODE) from `context` until it makes
 * the system call STUB_LEAVE; on return *context is its state then. Exceptions and interrupts
 * meanwhile are counted, and handed to stub_hook first. */
#define STUB_CODE 0x10000000ull
#define STUB_LEAVE 0x5a5a
void guest_code(const void *bytes, size_t size);
void guest_run(struct bly_context *context);
struct events {
    uint32_t exceptions, interrupts;
    uint32_t interrupts_in_image;
    struct bly_exception last;
    struct bly_context last_context;
};
struct guest {
    struct bly_context *context; /* where guest_run's caller wants the state */
    struct bly_context resume;   /* of guest_run itself */
    struct events events;
    /* Returns true when it has dealt with the event. exception is NULL for an interrupt. */
    bool (*hook)(struct bly_context *context, const struct bly_exception *exception);
};
struct guest *guest(void); /* of this thread */

#endif
