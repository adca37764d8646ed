/* Host signals into upcalls.
 *
 * Every handler runs on its thread's signal stack, which leads to the thread. The kernel's struct
 * sigcontext is the ABI's struct bly_context, so the upcalls work on the signal frame in place.
 * Fault signals are never blocked; the interrupt is, in handlers. */

#include "host.h"
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <linux/audit.h>

struct host_ucontext {
    uint64_t flags, link;
    stack_t stack;
    struct bly_context context;
};
struct host_sigaction {
    void (*handler)(int, siginfo_t *, struct host_ucontext *);
    uint64_t flags;
    const void *restorer;
    uint64_t mask;
};
#define HOST_SA_RESTORER 0x04000000
#define X32_BIT 0x40000000u

static const uint8_t exception_kinds[32] = {
    [SIGSYS] = BLY_EXCEPTION_SYSCALL + 1,    [SIGSEGV] = BLY_EXCEPTION_MEMORY + 1,
    [SIGBUS] = BLY_EXCEPTION_BUS + 1,        [SIGILL] = BLY_EXCEPTION_ILLEGAL + 1,
    [SIGFPE] = BLY_EXCEPTION_ARITHMETIC + 1, [SIGTRAP] = BLY_EXCEPTION_BREAKPOINT + 1,
};

/* The vDSO falls back to a system call for clocks it cannot read by itself; the instruction is
 * outside our window. */
static bool vdso_call(struct bly_context *context)
{
    if (context->rip <= host.vdso_start || context->rip > host.vdso_end)
        return false;
    long number = (long)context->rax;
    if (number == __NR_clock_gettime)
        context->rax = (uint64_t)sys2(number, context->rdi, context->rsi);
    else if (number == __NR_getcpu)
        context->rax = (uint64_t)sys3(number, context->rdi, context->rsi, 0);
    else
        context->rax = (uint64_t)-ENOSYS;
    return true;
}

static void interrupted(struct bly_thread_block *block, struct bly_context *context)
{
    block->interrupt_pending = 1;
    uint64_t rip = context->rip;
    if (rip >= (uint64_t)host_wait_begin && rip < (uint64_t)host_wait_end)
        context->rip = (uint64_t)host_wait_cancelled;
    if (rip >= host.vdso_start && rip < host.vdso_end)
        return; /* as good as the image: a clock is being read */
    bly_personality.interrupt(context);
}

static void handle(int signal, siginfo_t *info, struct host_ucontext *frame)
{
    struct bly_thread_block *block = host_block();
    struct bly_context *context = &frame->context;
    host_set_block_segment(block);
    if (signal == BLY_INTERRUPT_SIGNAL) {
        interrupted(block, context);
        return;
    }
    struct bly_exception exception = {.kind = exception_kinds[signal] - 1u,
                                      .detail = info->si_code,
                                      .address = (uint64_t)info->si_addr};
    if (context->rip >= (uint64_t)host_copy_begin && context->rip < (uint64_t)host_copy_end) {
        context->rip = (uint64_t)host_copy_faulted;
        context->rax = exception.address ? exception.address : 1;
        return;
    }
    if (signal == SIGSYS) {
        if (vdso_call(context))
            return;
        exception.address = (uint64_t)info->si_call_addr;
        exception.arch_is_foreign =
            info->si_arch != AUDIT_ARCH_X86_64 || (uint32_t)info->si_syscall & X32_BIT;
    }
    bly_personality.exception(context, &exception);
}

static void install(int signal, void (*handler)(int, siginfo_t *, struct host_ucontext *),
                    uint64_t flags)
{
    struct host_sigaction action = {.handler = handler,
                                    .flags = flags | HOST_SA_RESTORER,
                                    .restorer = host_signal_return,
                                    .mask = 1ull << (BLY_INTERRUPT_SIGNAL - 1)};
    long result = sys4(__NR_rt_sigaction, signal, &action, NULL, sizeof action.mask);
    if (result < 0)
        host_fail("rt_sigaction", result);
}

void host_signals_install(void)
{
    for (int signal = 1; signal < 32; signal++)
        if (exception_kinds[signal])
            install(signal, handle, SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
    install(BLY_INTERRUPT_SIGNAL, handle, SA_SIGINFO | SA_ONSTACK);
    /* Answered by errors of the calls that cause them. */
    const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTTIN, SIGTTOU, SIGTSTP, SIGHUP, SIGINT, SIGQUIT};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        install(ignored[i], (void *)SIG_IGN, 0);
}
