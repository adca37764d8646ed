/* Threads, interrupts, exceptions, register states. */

#include "stub.h"

#define RW (BLY_PROT_READ | BLY_PROT_WRITE)

static void count_up(void *argument)
{
    __atomic_add_fetch((uint32_t *)argument, 1, __ATOMIC_SEQ_CST);
}

static void threads_begin_end_and_reuse_their_areas(void)
{
    uint32_t count = 0;
    struct job jobs[20];
    uint64_t base;
    EXPECT(bly->segment_base_set(BLY_SEGMENT_FS, 0x1000), 0);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 20; i++) {
            jobs[i] = (struct job){.function = count_up, .argument = &count};
            job_start(&jobs[i]);
            CHECK(jobs[i].thread_id > 0 && jobs[i].thread_id != block()->thread_id);
        }
        for (int i = 0; i < 20; i++)
            job_join(&jobs[i]);
    }
    EXPECT(count, 2000);
    EXPECT(bly->segment_base_get(BLY_SEGMENT_FS, &base), 0);
    EXPECT(base, 0x1000);
    /* 2000 areas would be 500 MiB of addresses; those of threads that have ended were used again.
     */
    EXPECT(bly->memory_map((void *)(BLY_THREADS_END - 200 * BLY_THREAD_AREA_SIZE), 0x1000, RW, 0),
           0);
}

static void look_at_self(void *argument)
{
    struct bly_thread_block *own = block();
    uint64_t base = 1;
    EXPECT(bly->segment_base_get(BLY_SEGMENT_FS, &base), 0);
    CHECK(base == 0);
    CHECK(own->self == own && own->process_id == ((uint32_t *)argument)[1]);
    CHECK(own->kernel_stack_top == (uint64_t)own);
    CHECK(own->entry == 0x1234 && own->personality_thread == NULL && own->interrupt_pending == 0);
    *(uint32_t *)argument = own->thread_id;
}

static void a_new_thread_has_its_block_and_base(void)
{
    uint32_t ids[2] = {0, block()->process_id};
    block()->entry = 0x1234;
    struct job job = {.function = look_at_self, .argument = ids};
    job_start(&job);
    job_join(&job);
    EXPECT(ids[0], job.thread_id);
}

/* ---- Interrupts ---- */

static _Atomic uint32_t ready, go;

static void wait_for_interrupt(void *argument)
{
    uint32_t word = 0;
    set(&ready, 1);
    EXPECT(bly->wait_address(&word, 0, BLY_FOREVER), -EINTR);
    CHECK(block()->interrupt_pending);
    EXPECT(bly->wait_address(&word, 0, BLY_FOREVER), -EINTR); /* until it is cleared */
    block()->interrupt_pending = 0;
    EXPECT(bly->wait_address(&word, 0, now_ns() + 1000000), -ETIMEDOUT);
    EXPECT(bly->wait_address(&word, 1, BLY_FOREVER), -EAGAIN);
}

static void an_interrupt_ends_a_wait(void)
{
    struct job job = {.function = wait_for_interrupt};
    job_start(&job);
    await(&ready, 1);
    sleep_ns(10000000);
    EXPECT(bly->thread_interrupt(block()->process_id, job.thread_id), 0);
    job_join(&job);
    sleep_ns(10000000);
    EXPECT(bly->thread_interrupt(block()->process_id, job.thread_id), -ESRCH);
    EXPECT(bly->thread_interrupt(0, job.thread_id), -EINVAL);
}

#define ROUNDS 30000

/* Every round one interrupt comes at an arbitrary moment; if one were lost, the wait would last for
 * ever. */
static void take_interrupts(void *argument)
{
    uint32_t word = 0;
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        set(&go, i);
        for (volatile unsigned spin = 0; spin < i % 97; spin++)
            ;
        EXPECT(bly->wait_address(&word, 0, now_ns() + 10000000000u), -EINTR);
        block()->interrupt_pending = 0;
        shared->counters[0] = i;
    }
}

static void no_interrupt_is_lost(void)
{
    struct job job = {.function = take_interrupts};
    job_start(&job);
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        while (go != i)
            bly->thread_yield();
        EXPECT(bly->thread_interrupt(block()->process_id, job.thread_id), 0);
        while (shared->counters[0] != i)
            bly->thread_yield();
    }
    job_join(&job);
}

/* ---- Guest code ---- */

static unsigned char guest_stack[8192] __attribute__((aligned(16)));

static void context_init(struct bly_context *context)
{
    *context = (struct bly_context){
        .rip = STUB_CODE, .rsp = (uint64_t)guest_stack + sizeof guest_stack, .rflags = 0x202};
}

/* mov $STUB_LEAVE,%eax; syscall */
#define LEAVE 0xb8, 0x5a, 0x5a, 0, 0, 0x0f, 0x05

static void registers_survive_a_system_call(void)
{
    static const unsigned char code[] = {
        0x48, 0xff, 0xc3 /* inc %rbx */, 0x49, 0xff, 0xc7 /* inc %r15 */, LEAVE};
    struct bly_context context;
    guest_code(code, sizeof code);
    context_init(&context);
    context.rbx = 41;
    context.r15 = 14;
    context.rdi = 0x1111;
    context.rbp = 0x2222;
    guest_run(&context);
    EXPECT(context.rbx, 42);
    EXPECT(context.r15, 15);
    EXPECT(context.rdi, 0x1111);
    EXPECT(context.rbp, 0x2222);
    EXPECT(context.rax, STUB_LEAVE);
    EXPECT(context.rip, STUB_CODE + sizeof code);
    EXPECT(guest()->events.exceptions, 1);
    EXPECT(guest()->events.last.kind, BLY_EXCEPTION_SYSCALL);
    EXPECT(guest()->events.last.arch_is_foreign, 0);
}

static unsigned char saved_vectors[8192] __attribute__((aligned(64)));
static size_t saved_size;

static bool save_vectors(struct bly_context *context, const struct bly_exception *exception)
{
    unsigned char *image = context->vector_state;
    CHECK(image);
    saved_size = *(uint32_t *)(image + 468);
    CHECK(saved_size > 512 && saved_size <= sizeof saved_vectors - 64);
    for (size_t i = 0; i < saved_size; i++)
        saved_vectors[i] = image[i];
    return true; /* the system call has no effect */
}

static void vector_state_is_restored(void)
{
    /* movq %rbx,%xmm5; mov $1,%eax; syscall; (state saved here) xor: pxor %xmm5,%xmm5; LEAVE */
    static const unsigned char first[] = {0x66, 0x48, 0x0f, 0x6e, 0xeb, 0xb8, 1,    0,    0,
                                          0,    0x0f, 0x05, 0x66, 0x0f, 0xef, 0xed, LEAVE};
    /* movq %xmm5,%rbx; LEAVE */
    static const unsigned char second[] = {0x66, 0x48, 0x0f, 0x7e, 0xeb, LEAVE};
    struct bly_context context;
    context_init(&context);
    context.rbx = 0x1234567890abcdef;
    guest_code(first, sizeof first);
    guest()->hook = save_vectors;
    guest_run(&context);
    guest()->hook = NULL;
    guest_code(second, sizeof second);
    for (unsigned shift = 0; shift < 64; shift += 24) { /* aligned: used in place; else copied */
        for (size_t i = saved_size; shift && i-- > 0;)
            saved_vectors[i + shift] = saved_vectors[i + (shift - 24)];
        context_init(&context);
        context.vector_state = saved_vectors + shift;
        guest_run(&context);
        CHECK(context.rbx == 0x1234567890abcdef);
    }
    /* An image that the processor would refuse is made valid. */
    *(uint32_t *)(saved_vectors + 48 + 24) = 0xffffffff;
    for (int i = 0; i < 64; i++)
        saved_vectors[48 + 512 + i] = 0xff;
    context_init(&context);
    context.vector_state = saved_vectors + 48;
    guest_run(&context);
    CHECK(context.rbx == 0x1234567890abcdef);
    context_init(&context);
    guest_run(&context); /* none given: the initial state */
    EXPECT(context.rbx, 0);
}

static bool skip_instruction(struct bly_context *context, const struct bly_exception *exception)
{
    if (exception->kind == BLY_EXCEPTION_SYSCALL || exception->kind == BLY_EXCEPTION_BREAKPOINT)
        return true;
    context->rip += 2; /* those of the test are two bytes long */
    return true;
}

static struct bly_exception seen;
static struct bly_context seen_context;
static bool note_exception(struct bly_context *context, const struct bly_exception *exception)
{
    seen = *exception;
    seen_context = *context;
    return skip_instruction(context, exception);
}

static void exceptions_are_told_apart(void)
{
    static const struct {
        unsigned char code[2];
        uint32_t kind, foreign;
        uint64_t rax;
    } cases[] = {
        {{0x0f, 0x0b}, BLY_EXCEPTION_ILLEGAL, 0, 0},                 /* ud2 */
        {{0xcc, 0x90}, BLY_EXCEPTION_BREAKPOINT, 0, 0},              /* int3 */
        {{0x8b, 0x00}, BLY_EXCEPTION_MEMORY, 0, 0x123000},           /* mov (%rax),%eax */
        {{0x8b, 0x00}, BLY_EXCEPTION_MEMORY, 0, 0x8000000000000000}, /* not canonical */
        {{0xf7, 0xf1}, BLY_EXCEPTION_ARITHMETIC, 0, 1},              /* div %ecx */
        {{0x0f, 0x05}, BLY_EXCEPTION_SYSCALL, 0, 39},                /* syscall */
        {{0x0f, 0x05}, BLY_EXCEPTION_SYSCALL, 1, 0x40000000 + 39},   /* x32 */
        {{0xcd, 0x80}, BLY_EXCEPTION_SYSCALL, 1, 20},                /* int $0x80 */
    };
    guest()->hook = note_exception;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const unsigned char code[] = {cases[i].code[0], cases[i].code[1], LEAVE};
        struct bly_context context;
        guest_code(code, sizeof code);
        context_init(&context);
        context.rax = cases[i].rax;
        guest_run(&context);
        EXPECT(guest()->events.exceptions, 2);
        EXPECT(seen.kind, cases[i].kind);
        EXPECT(seen.arch_is_foreign, cases[i].foreign);
        EXPECT(context.rip, STUB_CODE + sizeof code);
    }
    guest()->hook = NULL;
}

static void exceptions_carry_their_details(void)
{
    static const unsigned char load[] = {0x8b, 0x00, LEAVE}, call[] = {0x0f, 0x05, LEAVE},
                               foreign[] = {0xcd, 0x80, LEAVE};
    struct bly_context context;
    guest()->hook = note_exception;
    guest_code(load, sizeof load);
    context_init(&context);
    context.rax = 0x123008;
    guest_run(&context);
    EXPECT(seen.kind, BLY_EXCEPTION_MEMORY);
    EXPECT(seen.address, 0x123008);
    EXPECT(seen.detail, 1 /* SEGV_MAPERR */);
    EXPECT(seen_context.fault_address, 0x123008);
    EXPECT(seen_context.error_code, 4 /* a read by user code, page not there */);
    guest_code(call, sizeof call);
    context_init(&context);
    context.rax = 9;
    context.rdi = 1;
    context.r9 = 2;
    guest_run(&context);
    EXPECT(seen.kind, BLY_EXCEPTION_SYSCALL);
    EXPECT(seen.arch_is_foreign, 0);
    EXPECT(seen_context.rax, 9);
    EXPECT(seen_context.rdi, 1);
    EXPECT(seen_context.r9, 2);
    EXPECT(seen_context.rip, STUB_CODE + 2);
    context_init(&context);
    context.rax = 0x40000009;
    guest_run(&context);
    EXPECT(seen.arch_is_foreign, 1);
    guest_code(foreign, sizeof foreign);
    context_init(&context);
    context.rax = 20;
    guest_run(&context);
    EXPECT(seen.arch_is_foreign, 1);
    guest()->hook = NULL;
}

/* ---- Interrupts in guest code ---- */

static const unsigned char endless[] = {0x48, 0xff, 0xc3 /* inc %rbx */, 0xeb, 0xfb /* jmp . */,
                                        0x90, LEAVE};

static bool leave_the_loop(struct bly_context *context, const struct bly_exception *exception)
{
    CHECK(!exception);
    block()->interrupt_pending = 0;
    context->rip = STUB_CODE + 6;
    return true;
}

static void run_endless(void *argument)
{
    struct bly_context context;
    for (int i = 0; i < 200; i++) {
        context_init(&context);
        context.rsp = 8; /* no stack at all */
        guest()->hook = leave_the_loop;
        shared->counters[1] = (uint64_t)i + 1;
        guest_run(&context);
        CHECK(context.rip == STUB_CODE + sizeof endless);
    }
}

static void an_interrupt_reaches_guest_code(void)
{
    struct job job = {.function = run_endless};
    guest_code(endless, sizeof endless);
    job_start(&job);
    for (uint64_t i = 1; i <= 200; i++) {
        while (shared->counters[1] < i)
            bly->thread_yield();
        /* It may not have left the image yet: then the interrupt only sets the flag. */
        while (shared->counters[1] == i && !job.done) {
            int result = bly->thread_interrupt(block()->process_id, job.thread_id);
            CHECK(result == 0 || result == -ESRCH);
            sleep_ns(200000);
        }
    }
    job_join(&job);
}

static void ruin_segment(void *argument)
{
    /* xor %eax,%eax; mov %eax,%gs; wrgsbase %rax; inc %rbx; jmp .-3; nop; LEAVE */
    struct bly_context context;
    context_init(&context);
    guest()->hook = leave_the_loop;
    context.rip = STUB_CODE + 0x100;
    guest_run(&context);
}

static void the_thread_is_found_whatever_the_program_did_to_its_segments(void)
{
    unsigned char code[0x200] = {0};
    static const unsigned char ruin[] = {0x31, 0xc0, 0x8e, 0xe8, 0x31, 0xc0,
                                         0xf3, 0x48, 0x0f, 0xae, 0xd8, LEAVE};
    for (size_t i = 0; i < sizeof ruin; i++)
        code[0x100 + i] = ruin[i];
    guest_code(code, sizeof code);
    struct job job = {.function = ruin_segment};
    job_start(&job);
    job_join(&job);
}

static _Atomic uint32_t parked;
static void outlive(void *argument)
{
    sleep_ns(20000000);
    bly->process_exit(0);
}
static void the_leader_is_parked_when_it_exits(void)
{
    static struct job job = {.function = outlive};
    job_start(&job);
    parked = 1;
    bly->thread_exit();
}

const struct test thread_tests[] = {
    {"threads_begin_end_and_reuse_their_areas", threads_begin_end_and_reuse_their_areas},
    {"a_new_thread_has_its_block_and_base", a_new_thread_has_its_block_and_base},
    {"an_interrupt_ends_a_wait", an_interrupt_ends_a_wait},
    {"no_interrupt_is_lost", no_interrupt_is_lost},
    {"registers_survive_a_system_call", registers_survive_a_system_call},
    {"vector_state_is_restored", vector_state_is_restored},
    {"exceptions_are_told_apart", exceptions_are_told_apart},
    {"exceptions_carry_their_details", exceptions_carry_their_details},
    {"an_interrupt_reaches_guest_code", an_interrupt_reaches_guest_code},
    {"the_thread_is_found_whatever_the_program_did_to_its_segments",
     the_thread_is_found_whatever_the_program_did_to_its_segments},
    {"the_leader_is_parked_when_it_exits", the_leader_is_parked_when_it_exits},
    {NULL, NULL},
};
