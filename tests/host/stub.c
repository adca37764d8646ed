/* The stub personality: upcalls, threads, guest code. See stub.h. */

#include "stub.h"

const struct bly_abi *bly;
const struct bly_start_info *info;

/* The compiler calls these. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}
void *memset(void *to, int value, size_t size)
{
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

static size_t length(const char *text)
{
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}
static bool equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

void say(const char *text)
{
    bly->log(BLY_LOG_INFO, text, length(text));
}

_Noreturn void stub_fail(const char *file, int line, const char *what, long value)
{
    char text[512];
    size_t size = 0;
    while (*file && size < 100)
        text[size++] = *file++;
    text[size++] = ':';
    for (int scale = 1000; scale; scale /= 10)
        text[size++] = (char)('0' + line / scale % 10);
    text[size++] = ':';
    text[size++] = ' ';
    while (*what && size < 400)
        text[size++] = *what++;
    text[size++] = ' ';
    unsigned long rest = value < 0 ? -(unsigned long)value : (unsigned long)value;
    if (value < 0)
        text[size++] = '-';
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (count)
        text[size++] = digits[--count];
    bly->log(BLY_LOG_ERROR, text, size);
    bly->process_exit(1);
    __builtin_unreachable();
}

uint64_t now_ns(void)
{
    uint64_t now = 0;
    EXPECT(bly->clock_read(BLY_CLOCK_MONOTONIC, 0, &now), 0);
    return now;
}
void sleep_ns(uint64_t ns)
{
    uint32_t never = 0;
    uint64_t end = now_ns() + ns;
    while (now_ns() < end) {
        if (block()->interrupt_pending) /* do not spin through -EINTR */
            bly->thread_yield();
        bly->wait_address(&never, 0, end);
    }
}
void await(_Atomic uint32_t *word, uint32_t value)
{
    uint64_t end = now_ns() + 20000000000u;
    for (uint32_t seen; (seen = *word) != value;) {
        bly->wait_address((uint32_t *)word, seen, now_ns() + 100000000);
        if (now_ns() > end)
            stub_fail(__FILE__, __LINE__, "await takes too long, word is", (long)*word);
    }
}
void set(_Atomic uint32_t *word, uint32_t value)
{
    *word = value;
    bly->wake_address((uint32_t *)word, 1u << 30);
}

void job_start(struct job *job)
{
    job->done = 0;
    EXPECT(bly->thread_create((uint64_t)job, NULL, &job->thread_id), 0);
}
void job_join(struct job *job)
{
    await(&job->done, 1);
}

static void thread_start(uint64_t argument)
{
    struct job *job = (struct job *)argument;
    CHECK(block()->self == block());
    job->function(job->argument);
    set(&job->done, 1);
    bly->thread_exit();
}

/* At the far end of the kernel stack, which these tests do not fill. */
struct guest *guest(void)
{
    return (struct guest *)((char *)block() - BLY_KERNEL_STACK_SIZE);
}

void guest_code(const void *bytes, size_t size)
{
    EXPECT(
        bly->memory_map((void *)STUB_CODE, 0x1000, BLY_PROT_READ | BLY_PROT_WRITE, BLY_MAP_REPLACE),
        0);
    memcpy((void *)STUB_CODE, bytes, size);
    EXPECT(bly->memory_protect((void *)STUB_CODE, 0x1000, BLY_PROT_READ | BLY_PROT_EXECUTE), 0);
}

/* setjmp for one: saves what a C function may count on, enters the guest. */
__asm__(".text\n.type guest_enter, @function\nguest_enter:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nlea guest_left(%rip), %rax\nmov %rax, (%rsi)\nmov %rdx, %rdi\n"
        "call *%rcx\nud2\n"
        "guest_left: pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
extern void guest_enter(uint64_t *rsp, uint64_t *rip, const struct bly_context *context,
                        void (*restore)(const struct bly_context *));

void guest_run(struct bly_context *context)
{
    struct guest *own = guest();
    memset(&own->events, 0, sizeof own->events);
    own->context = context;
    guest_enter(&own->resume.rsp, &own->resume.rip, context, bly->thread_restore);
    own->context = NULL;
}

static void exception(struct bly_context *context, const struct bly_exception *exception)
{
    struct guest *own = guest();
    own->events.exceptions++;
    own->events.last = *exception;
    own->events.last_context = *context;
    if (exception->kind == BLY_EXCEPTION_SYSCALL && context->rax == STUB_LEAVE && own->context) {
        void *vectors = own->context->vector_state;
        *own->context = *context;
        own->context->vector_state = vectors;
        context->rsp = own->resume.rsp;
        context->rip = own->resume.rip;
        return;
    }
    if (own->hook && own->hook(context, exception))
        return;
    stub_fail(__FILE__, __LINE__, "unexpected exception of kind",
              (long)(exception->kind * 1000000000000 + context->rip));
}

static bool in_image(uint64_t rip)
{
    return rip >= BLY_IMAGE_START && rip < BLY_IMAGE_END;
}

static void interrupt(struct bly_context *context)
{
    struct guest *own = guest();
    CHECK(block()->interrupt_pending);
    if (in_image(context->rip) || (context->rip & ~0xffffull) == BLY_HOST_VDSO) {
        own->events.interrupts_in_image++;
        return;
    }
    own->events.interrupts++;
    if (own->hook)
        own->hook(context, NULL);
}

static void start(const struct bly_abi *abi, const struct bly_start_info *start_info)
{
    static const struct test *const groups[] = {memory_tests, thread_tests, process_tests,
                                                stream_tests, filter_tests};
    bly = abi;
    info = start_info;
    if (abi->version != BLY_ABI_VERSION || abi->size != sizeof *abi)
        stub_fail(__FILE__, __LINE__, "version", abi->version);
    const char *name = bly_start_string(info, info->program);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (const struct test *test = groups[i]; test->name; test++)
            if (equal("list", name)) {
                say(test->name);
            } else if (equal(test->name, name)) {
                test->function();
                bly->process_exit(0);
            }
    if (!equal("list", name))
        stub_fail(__FILE__, __LINE__, "no such test", 0);
    bly->process_exit(0);
}

const struct bly_upcalls bly_personality = {start, thread_start, exception, interrupt};
