/* CPUID in a static program, where its instructions are replaced: the answers, and what the instruction leaves alone. */
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest.h"

struct result { uint64_t a, b, c, d; };

static struct result ask(uint64_t leaf, uint64_t subleaf)
{
    struct result result;
    __asm__ volatile("cpuid" : "=a"(result.a), "=b"(result.b), "=c"(result.c), "=d"(result.d) : "a"(leaf), "c"(subleaf));
    return result;
}

static void answers_are_those_of_the_processor(void)
{
    struct result zero = ask(0, 0), one = ask(1, 0), top = ask(0x80000000u, 0);
    char vendor[13] = "";
    memcpy(vendor, &zero.b, 4);
    memcpy(vendor + 4, &zero.d, 4);
    memcpy(vendor + 8, &zero.c, 4);
    for (const char *at = vendor; *at; at++)
        CHECK(*at >= ' ' && *at < 127);
    CHECK(strlen(vendor) == 12 && zero.a >= 1 && top.a >= 0x80000000u);
    CHECK(one.d & 1 << 26); /* SSE2: all of x86-64 */
    /* What the C library found out while it started. */
    __builtin_cpu_init();
    CHECK_EQUAL(!!__builtin_cpu_supports("sse4.2"), !!(one.c & 1 << 20));
    CHECK_EQUAL(!!__builtin_cpu_supports("popcnt"), !!(one.c & 1 << 23));
    for (int i = 0; i < 100; i++) {
        struct result again = ask(0, 0);
        CHECK(!memcmp(&again, &zero, sizeof zero));
    }
    for (uint64_t i = 0; i < 200; i++) /* more than anybody remembers */
        (void)ask(4, i);
    CHECK(ask(0, 0).b == zero.b);
}

static void upper_halves_become_zero(void)
{
    struct result result = ask(0x1234567800000000ull, 0x8765432100000000ull);
    CHECK((result.a | result.b | result.c | result.d) >> 32 == 0);
}

static void all_else_stays(void)
{
    uint64_t before[4], after[4];
    __asm__ volatile(
        "movq $0x1111, %%r8\n movq $0x2222, %%r9\n movq $0x3333, %%r14\n movq $0x4444, -8(%%rsp)\n movq $0x5555, -128(%%rsp)\n"
        "xor %%eax, %%eax\n xor %%ecx, %%ecx\n stc\n std\n"
        "cpuid\n"
        "cld\n setc %%al\n movzbl %%al, %%eax\n movq %%rax, 24(%1)\n movq %%r8, 0(%1)\n movq %%r9, 8(%1)\n movq %%r14, 16(%1)\n"
        "movq -8(%%rsp), %%rax\n movq %%rax, 0(%0)\n movq -128(%%rsp), %%rax\n movq %%rax, 8(%0)\n"
        : : "S"(after), "D"(before) : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r14", "cc", "memory");
    CHECK(before[0] == 0x1111 && before[1] == 0x2222 && before[2] == 0x3333);
    CHECK_EQUAL(before[3], 1); /* carry */
    CHECK(after[0] == 0x4444 && after[1] == 0x5555); /* the red zone */
}

/* What follows the instruction can be moved elsewhere together with it. */
static struct result ask_and_move(uint64_t leaf, uint64_t *out_kept, uint64_t *out_flags)
{
    struct result result = {0};
    uint64_t stack_before = 0, stack_after = 0;
    __asm__ volatile(
        "movq $0x7777, %%r11\n movq $0x8888, %%r12\n movq %%rsp, %[before]\n movq $0x9999, -8(%%rsp)\n"
        "movl $1, %%r9d\n subl $2, %%r9d\n" /* carry, sign */
        "cpuid\n"
        "movl %%ebx, %%r10d\n"
        "movl %%eax, %%r9d\n"
        "movq -8(%%rsp), %%rax\n"
        "pushfq\n popq %[flags]\n movq %%rsp, %[after]\n addq %%r11, %%rax\n addq %%r12, %%rax\n movq %%rax, %[kept]\n"
        "movq %%r10, %[b]\n movq %%rcx, %[c]\n movq %%rdx, %[d]\n movq %%r9, %[a]\n"
        : "+a"(leaf), [before] "=&m"(stack_before), [after] "=&m"(stack_after), [kept] "=&m"(*out_kept), [flags] "=&m"(*out_flags),
          [a] "=&m"(result.a), [b] "=&m"(result.b), [c] "=&m"(result.c), [d] "=&m"(result.d)
        : "c"(0ul)
        : "rbx", "rdx", "r9", "r10", "r11", "r12", "cc", "memory");
    CHECK(stack_before == stack_after);
    return result;
}

static void what_follows_sees_all_as_it_was(void)
{
    struct result expected = ask(0, 0);
    uint64_t kept, flags;
    for (int i = 0; i < 100; i++) {
        struct result moved = ask_and_move(0, &kept, &flags);
        CHECK(!memcmp(&moved, &expected, sizeof moved));
        CHECK_EQUAL(kept, 0x7777 + 0x8888 + 0x9999);
        CHECK_EQUAL(flags & 0x8d5, 0x95); /* carry, parity, auxiliary, sign; neither zero nor overflow */
    }
}

static void what_follows_can_be_jumped_to(void)
{
    uint64_t seen = 0;
    __asm__ volatile(
        "movl $0x1234, %%eax\n jmp 1f\n"
        "cpuid\n"
        "1: movl %%eax, %%r10d\n"
        "movq %%r10, %0\n"
        : "=m"(seen) : : "rax", "rbx", "rcx", "rdx", "r10", "memory");
    CHECK_EQUAL(seen, 0x1234);
}

static struct result in_handler;
static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    uint64_t kept, flags;
    in_handler = ask_and_move(0x80000000u, &kept, &flags);
    alarms++;
}

static void signals_come_between(void)
{
    struct result zero = ask(0, 0), top = ask(0x80000000u, 0);
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    uint64_t kept, flags;
    signal(SIGALRM, on_alarm);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 1000000 && alarms < 50; i++) {
        struct result moved = ask_and_move(0, &kept, &flags);
        CHECK(!memcmp(&moved, &zero, sizeof moved) && kept == 0x7777 + 0x8888 + 0x9999);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(alarms >= 1 && !memcmp(&in_handler, &top, sizeof top));
}

static volatile sig_atomic_t traps;

static void on_trap(int signal)
{
    traps++;
}

static void breakpoints_of_the_program_reach_it(void)
{
    signal(SIGTRAP, on_trap);
    (void)ask(0, 0);
    CHECK_EQUAL(traps, 0);
    __asm__ volatile("int3");
    CHECK_EQUAL(traps, 1);
}

static const struct guest_case cases[] = {
    GUEST_CASE(answers_are_those_of_the_processor),
    GUEST_CASE(upper_halves_become_zero),
    GUEST_CASE(all_else_stays),
    GUEST_CASE(what_follows_sees_all_as_it_was),
    GUEST_CASE(what_follows_can_be_jumped_to),
    GUEST_CASE(signals_come_between),
    GUEST_CASE(breakpoints_of_the_program_reach_it),
};
GUEST_MAIN(cases)
