/* What a system call leaves untouched: registers, flags, vector state, the program's stack; and what signals see of call sites. Every probe runs
 * often enough for its call site to be treated as hot. */
#define _GNU_SOURCE
#include "guest.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define ROUNDS 20
#define FLAGS_ARITHMETIC 0x8d5ull /* OF SF ZF AF PF CF */
#define FLAG_DIRECTION 0x400ull

struct registers { uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, flags; };
struct registers given, found;
uint64_t kept_stack;

/* Loads `given`, makes the call, stores `found`. Two forms of call sites: the number as a constant right before, and in a register. */
#define PROBE(name, number_code, after_code) \
    extern const char name##_return[]; \
    void name(void); \
    __asm__(".text\n" #name ":\n" \
            "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\npushfq\n" \
            "mov %rsp, kept_stack(%rip)\n" \
            "push given+128(%rip)\npopfq\n" \
            "mov given+0(%rip),%rax\nmov given+8(%rip),%rbx\nmov given+16(%rip),%rcx\nmov given+24(%rip),%rdx\nmov given+32(%rip),%rsi\n" \
            "mov given+40(%rip),%rdi\nmov given+48(%rip),%rbp\nmov given+56(%rip),%rsp\nmov given+64(%rip),%r8\nmov given+72(%rip),%r9\n" \
            "mov given+80(%rip),%r10\nmov given+88(%rip),%r11\nmov given+96(%rip),%r12\nmov given+104(%rip),%r13\nmov given+112(%rip),%r14\n" \
            "mov given+120(%rip),%r15\n" number_code "syscall\n" #name "_return:\n" after_code \
            "mov %rax,found+0(%rip)\nmov %rbx,found+8(%rip)\nmov %rcx,found+16(%rip)\nmov %rdx,found+24(%rip)\nmov %rsi,found+32(%rip)\n" \
            "mov %rdi,found+40(%rip)\nmov %rbp,found+48(%rip)\nmov %rsp,found+56(%rip)\nmov %r8,found+64(%rip)\nmov %r9,found+72(%rip)\n" \
            "mov %r10,found+80(%rip)\nmov %r11,found+88(%rip)\nmov %r12,found+96(%rip)\nmov %r13,found+104(%rip)\nmov %r14,found+112(%rip)\n" \
            "mov %r15,found+120(%rip)\nmov kept_stack(%rip),%rsp\npushfq\npop found+128(%rip)\npopfq\n" \
            "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n")
PROBE(probe_constant, "mov $39, %eax\n", "");
PROBE(probe_register, "", "lea 0(%r15), %r15\n"); /* no flags changed by what may be moved */

static void prepare(uint64_t flags)
{
    uint64_t *word = (uint64_t *)&given;
    for (size_t i = 0; i < sizeof given / sizeof *word; i++)
        word[i] = 0x1111111111111111ull * (i % 14 + 1) + i;
    given.rax = SYS_getpid;
    given.flags = 0x202 | flags;
}

static void check_registers(const char *return_address)
{
    CHECK_EQUAL(found.rax, getpid());
    CHECK_EQUAL(found.rbx, given.rbx);
    CHECK_EQUAL(found.rdx, given.rdx);
    CHECK_EQUAL(found.rsi, given.rsi);
    CHECK_EQUAL(found.rdi, given.rdi);
    CHECK_EQUAL(found.rbp, given.rbp);
    CHECK_EQUAL(found.rsp, given.rsp);
    CHECK_EQUAL(found.r8, given.r8);
    CHECK_EQUAL(found.r9, given.r9);
    CHECK_EQUAL(found.r10, given.r10);
    CHECK_EQUAL(found.r12, given.r12);
    CHECK_EQUAL(found.r13, given.r13);
    CHECK_EQUAL(found.r14, given.r14);
    CHECK_EQUAL(found.r15, given.r15);
    CHECK_EQUAL(found.flags & (FLAGS_ARITHMETIC | FLAG_DIRECTION), given.flags & (FLAGS_ARITHMETIC | FLAG_DIRECTION));
    CHECK_EQUAL(found.r11 & FLAGS_ARITHMETIC, given.flags & FLAGS_ARITHMETIC);
    if (return_address)
        CHECK_EQUAL(found.rcx, (uint64_t)return_address);
}

static void a_call_changes_rax_rcx_and_r11_only(void)
{
    static const uint64_t flags[] = {0, 0x8d5, 0x1, 0x40, 0x80, 0x800, 0x10, 0x4, FLAG_DIRECTION, FLAG_DIRECTION | 0x8d5};
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
            prepare(flags[i]);
            probe_constant();
            check_registers(probe_constant_return);
            probe_register();
            check_registers(NULL);
        }
    }
}

static void the_stack_is_not_touched(void)
{
    /* An address that cannot be one, one that is not mapped, and one right at the start of a page below which nothing is. */
    char *page = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && mprotect(page + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    memset(page + 4096, 0x5a, 4096);
    const uint64_t stacks[] = {8, 0x7000, (uint64_t)page, (uint64_t)page + 4096, (uint64_t)page + 8192, 0xdead000000000000ull};
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof stacks / sizeof stacks[0]; i++) {
            prepare(0);
            given.rsp = stacks[i];
            probe_constant();
            check_registers(NULL);
            probe_register();
            check_registers(NULL);
        }
    }
    for (int i = 0; i < 4096; i++)
        CHECK_EQUAL(page[4096 + i], 0x5a);
}

static void vector_registers_are_kept(void)
{
    static char pattern[16][16], after[16][16];
    uint32_t control = 0x1f80 | 0x6000, control_after, restore = 0x1f80;
    for (int i = 0; i < 256; i++)
        pattern[i / 16][i % 16] = (char)(i * 7 + 3);
    for (int round = 0; round < ROUNDS; round++) {
        long number = SYS_getppid;
        __asm__ volatile("ldmxcsr %3\n"
#define LOAD(n) "movups " #n "*16(%1), %%xmm" #n "\n"
#define STORE(n) "movups %%xmm" #n ", " #n "*16(%2)\n"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
                         ALL(LOAD) "syscall\n" ALL(STORE) "stmxcsr %4\nldmxcsr %5\n"
                         : "+a"(number)
                         : "r"(pattern), "r"(after), "m"(control), "m"(control_after), "m"(restore)
                         : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                           "xmm12", "xmm13", "xmm14", "xmm15");
        CHECK_EQUAL(number, getppid());
        CHECK(memcmp(pattern, after, sizeof pattern) == 0);
        CHECK_EQUAL(control_after, control);
    }
}

/* ---- Signals ---- */

extern const char busy_start[], busy_end[];
long busy(long number, long rounds); /* calls made; the sites of both forms */
__asm__(".text\nbusy:\nbusy_start:\n"
        "push %rbx\npush %r12\npush %r13\nmov %rdi,%r12\nmov %rsi,%rbx\nxor %r13d,%r13d\n"
        "1: mov $110,%eax\nsyscall\nadd $1,%r13\nmov %r12,%rax\nsyscall\ncmp $-4095,%rax\nja 2f\nadd $1,%r13\ndec %rbx\njnz 1b\n"
        "2: mov %r13,%rax\npop %r13\npop %r12\npop %rbx\nret\nbusy_end:\n");

static volatile sig_atomic_t ticks, strange;
static uint64_t strange_address;

static void on_tick(int signal, siginfo_t *info, void *context)
{
    uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    ticks++;
    /* Anywhere in the program or in libc, but not in code that neither has: a trampoline. */
    if (rip < (uint64_t)busy_start || rip >= (uint64_t)busy_end) {
        strange++;
        strange_address = rip;
    }
    __asm__ volatile("pxor %%xmm0, %%xmm0\npxor %%xmm7, %%xmm7\nstd\ncld" : : : "xmm0", "xmm7");
}

static void signals_see_the_programs_own_addresses(void)
{
    struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO};
    struct itimerval interval = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
    CHECK_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    int calls = 20000;
    for (int round = 0; round < 400 && ticks < 100; round++) {
        int before = ticks;
        /* Unblocked only while busy() runs, so that every tick falls into it. */
        CHECK_EQUAL(sigprocmask(SIG_BLOCK, &set, &old), 0);
        CHECK_EQUAL(setitimer(ITIMER_REAL, &interval, NULL), 0);
        strange = 0;
        CHECK_EQUAL(sigprocmask(SIG_SETMASK, &old, NULL), 0);
        strange = 0; /* one may be delivered at the return from unblocking */
        CHECK_EQUAL(busy(SYS_getpid, calls), 2 * calls);
        int seen = strange;
        CHECK_EQUAL(setitimer(ITIMER_REAL, &off, NULL), 0);
        if (seen)
            fprintf(stderr, "signal at %#llx, code is %p-%p\n", (unsigned long long)strange_address, (void *)busy_start, (void *)busy_end);
        CHECK_EQUAL(seen, 0);
        if (ticks == before && calls < 100000000)
            calls *= 2; /* over before the first tick: a fast machine */
    }
    CHECK(ticks > 0);
}

static sigjmp_buf jump;
static volatile uint64_t fault_at, fault_rip;
static volatile int fault_signal, fault_code;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    fault_signal = signal;
    fault_code = info->si_code;
    fault_at = (uint64_t)info->si_addr;
    fault_rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(jump, 1);
}

static void faults_are_signals_with_the_right_particulars(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    for (int signal = 1; signal < 32; signal++)
        if (signal == SIGSEGV || signal == SIGILL || signal == SIGFPE || signal == SIGTRAP || signal == SIGBUS)
            CHECK_EQUAL(sigaction(signal, &action, NULL), 0);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(jump, 1))
        page[17] = 1;
    CHECK(fault_signal == SIGSEGV && fault_code == SEGV_ACCERR && fault_at == (uint64_t)page + 17);
    munmap(page, 4096);
    if (!sigsetjmp(jump, 1))
        *(volatile char *)page;
    CHECK(fault_signal == SIGSEGV && fault_code == SEGV_MAPERR && fault_at == (uint64_t)page);
    if (!sigsetjmp(jump, 1))
        __asm__ volatile("ud2");
    CHECK(fault_signal == SIGILL && fault_code == ILL_ILLOPN && fault_at == fault_rip);
    volatile int zero = 0, one = 1;
    if (!sigsetjmp(jump, 1))
        one = one / zero;
    CHECK(fault_signal == SIGFPE && fault_code == FPE_INTDIV);
    if (!sigsetjmp(jump, 1))
        __asm__ volatile("int3");
    CHECK(fault_signal == SIGTRAP && fault_code == SI_KERNEL);
    if (!sigsetjmp(jump, 1))
        __asm__ volatile("jmp *%0" : : "r"(0x5000ul));
    CHECK(fault_signal == SIGSEGV && fault_at == 0x5000 && fault_rip == 0x5000);
    if (!sigsetjmp(jump, 1))
        __asm__ volatile("hlt");
    CHECK(fault_signal == SIGSEGV && fault_code == SI_KERNEL);
}

static void a_call_with_an_impossible_number_is_enosys(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_ERROR(syscall(100000), ENOSYS);
        CHECK_ERROR(syscall(-1), ENOSYS);
        CHECK_ERROR(syscall(511), ENOSYS);
    }
}

static const struct guest_case cases[] = {
    GUEST_CASE(a_call_changes_rax_rcx_and_r11_only), GUEST_CASE(the_stack_is_not_touched), GUEST_CASE(vector_registers_are_kept),
    GUEST_CASE(signals_see_the_programs_own_addresses), GUEST_CASE(faults_are_signals_with_the_right_particulars),
    GUEST_CASE(a_call_with_an_impossible_number_is_enosys),
};
GUEST_MAIN(cases)
