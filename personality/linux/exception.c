/* The exception and interrupt upcalls. Both run on the thread's signal stack and do next to nothing there: what belongs to the
 * program is copied to the top of the kernel stack and the thread goes on in the entry code, so that serving, blocking,
 * fork and the building of signal frames never happen on the signal stack. The vector registers keep the program's values
 * all the while, as the personality has no instruction that touches them. */
#include "libos/abi.h"
#include "libos/absent.h"
#include "personality/linux/entry.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/patch.h"
#include "personality/linux/process/process.h"

enum { PAGE_FAULT_WRITE = 2 }; /* in the CPU's error code */

extern const char bly_image_start[], bly_image_end[]; /* linker script */

static bool in_image(uint64_t address)
{
    return address >= (uint64_t)bly_image_start && address < (uint64_t)bly_image_end;
}

static bool in_leave_window(uint64_t address)
{
    return address >= (uint64_t)lx_leave_window_start && address < (uint64_t)lx_leave_window_end;
}

/* Makes the interrupted thread go on at `entry`, on its kernel stack below its context. */
static struct bly_context *redirect(struct bly_context *context, const char *entry, bool copy)
{
    struct bly_context *top = entry_context(thread_block());
    /* A thread_restore that was under way has come to its end, or begins again: left standing, this would let an interrupt throw away
     * the call that is now served. */
    *(volatile uint32_t *)thread_block()->personality_data = 0; /* ENTRY_BLOCK_RESTORING */
    if (copy) {
        *top = *context;
        top->vector_state = NULL;
    }
    context->rip = (uint64_t)entry;
    context->rsp = (uint64_t)top;
    context->rdi = (uint64_t)top;
    context->rflags = 0x202;
    return top;
}

static void serve_syscall(struct bly_context *context, const struct bly_exception *exception)
{
    if (exception->arch_is_foreign) {
        context->rax = (uint64_t)-ENOSYS;
        return;
    }
    struct bly_context *top = redirect(context, lx_entry_trapped, /*copy=*/true);
    top->rcx = top->rip;
    top->r11 = top->rflags;
}

static _Noreturn void unexpected(const struct bly_context *context, const struct bly_exception *exception)
{
    panic("fault in the personality: kind %u code %d address %#llx at %#llx\n"
          "rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx rbp %llx rsp %llx\n"
          "r8 %llx r9 %llx r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx r15 %llx",
          exception->kind, exception->detail, (unsigned long long)exception->address, (unsigned long long)context->rip,
          (unsigned long long)context->rax, (unsigned long long)context->rbx, (unsigned long long)context->rcx, (unsigned long long)context->rdx,
          (unsigned long long)context->rsi, (unsigned long long)context->rdi, (unsigned long long)context->rbp, (unsigned long long)context->rsp,
          (unsigned long long)context->r8, (unsigned long long)context->r9, (unsigned long long)context->r10, (unsigned long long)context->r11,
          (unsigned long long)context->r12, (unsigned long long)context->r13, (unsigned long long)context->r14, (unsigned long long)context->r15);
}

static void upcall_exception(struct bly_context *context, const struct bly_exception *exception)
{
    if (exception->kind == BLY_EXCEPTION_SYSCALL) {
        serve_syscall(context, exception);
        return;
    }
    bool leaving = in_leave_window(context->rip);
    if (in_image(context->rip) && !leaving) {
        if (exception->kind == BLY_EXCEPTION_MEMORY &&
            (absent_fault(exception->address) || mm_handle_absent(exception->address, context->error_code)))
            return;
        /* A copy to or from the program's memory: its stack grows here as it does under the program itself. */
        if (exception->kind == BLY_EXCEPTION_MEMORY ? mm_handle_fault(exception->address, context->error_code & PAGE_FAULT_WRITE)
                                                    : exception->kind == BLY_EXCEPTION_BUS && mm_handle_bus_error(exception->address))
            return;
        if (!guest_fault_fixup(context))
            unexpected(context, exception);
        return;
    }
    /* A jump to an address that is none faults in the leaving instruction itself: it is the program's fault all the same, and its registers
     * lie on the kernel stack already. */
    struct bly_context *top = redirect(context, lx_entry_exception, /*copy=*/!leaving);
    struct bly_exception *copy = (struct bly_exception *)top - 1;
    *copy = *exception;
    context->rsi = (uint64_t)copy;
    context->rsp = (uint64_t)copy & ~15ull;
}

static void upcall_interrupt(struct bly_context *context)
{
    struct bly_thread_block *block = thread_block();
    if (!block->personality_thread)
        return; /* about to end */
    if (!in_image(context->rip)) {
        redirect(context, lx_entry_interrupted, /*copy=*/true);
        ((struct lx_thread *)block->personality_thread)->syscall_number = ~0u;
        ((struct lx_thread *)block->personality_thread)->restore_full = 1;
    } else if (in_leave_window(context->rip) || *(volatile uint32_t *)block->personality_data) {
        redirect(context, lx_leave_again, /*copy=*/false);
    }
}

/* ---- On the kernel stack again -------------------------------------------------------------------------------- */

static const struct { int signal; } signal_of[] = {
    [BLY_EXCEPTION_MEMORY] = {SIGSEGV},    [BLY_EXCEPTION_BUS] = {SIGBUS},
    [BLY_EXCEPTION_ILLEGAL] = {SIGILL},    [BLY_EXCEPTION_ARITHMETIC] = {SIGFPE},
    [BLY_EXCEPTION_BREAKPOINT] = {SIGTRAP},
};

int entry_serve_exception(struct bly_context *context, const struct bly_exception *exception)
{
    struct lx_thread *thread = lx_current();
    thread->registers = context;
    thread->syscall_number = ~0u;
    thread->restore_full = 1;
    if (exception->kind == BLY_EXCEPTION_MEMORY && exception->detail == SI_KERNEL && cpuid_fault(context))
        return 0;
    if (exception->kind == BLY_EXCEPTION_MEMORY && mm_handle_absent(exception->address, context->error_code))
        return 0;
    if (exception->kind == BLY_EXCEPTION_MEMORY && mm_handle_fault(exception->address, context->error_code & PAGE_FAULT_WRITE))
        return 0;
    if (exception->kind == BLY_EXCEPTION_BUS && mm_handle_bus_error(exception->address))
        return 0;
    if (exception->kind == BLY_EXCEPTION_BREAKPOINT && patch_breakpoint(context))
        return 0;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal_of[exception->kind].signal;
    info.si_code = exception->detail;
    info.si_addr = (void *)exception->address;
    signal_force(info.si_signo, &info);
    return 0;
}

const struct bly_upcalls bly_personality = {
    .start = lx_start,
    .thread_start = lx_thread_start,
    .exception = upcall_exception,
    .interrupt = upcall_interrupt,
};
