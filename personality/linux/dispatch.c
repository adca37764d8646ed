/* Serving a system call: from the registers on the kernel stack to lx_sys_NAME and back, and the last look for pending work
 * before the program goes on.
 *
 * thread.state is IN_GUEST in the program and stays so in calls that do not sleep; libos changes it round sleeps, and
 * entry_leave_slow changes it back. A notifier therefore interrupts a thread in a short call needlessly, which costs
 * nothing but the interrupt, and the fast path needs neither stores nor a fence for it. */
#include "libos/park.h"
#include "personality/linux/entry.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/patch.h"
#include "personality/linux/process/process.h"
#include "personality/linux/trace.h"

typedef long (*syscall_handler)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
extern const syscall_handler lx_syscall_table[], lx_syscall_table_end[];

#define CONTEXT_AT(field, offset) _Static_assert(offsetof(struct bly_context, field) == (offset), #field)
CONTEXT_AT(r8, ENTRY_R8);
CONTEXT_AT(r11, ENTRY_R11);
CONTEXT_AT(r15, ENTRY_R15);
CONTEXT_AT(rdi, ENTRY_RDI);
CONTEXT_AT(rbx, ENTRY_RBX);
CONTEXT_AT(rax, ENTRY_RAX);
CONTEXT_AT(rsp, ENTRY_RSP);
CONTEXT_AT(rip, ENTRY_RIP);
CONTEXT_AT(rflags, ENTRY_RFLAGS);
CONTEXT_AT(vector_state, ENTRY_VECTOR);
_Static_assert(sizeof(struct bly_context) == ENTRY_CONTEXT_SIZE, "context");
_Static_assert(offsetof(struct bly_thread_block, kernel_stack_top) == ENTRY_BLOCK_STACK_TOP, "block");
_Static_assert(offsetof(struct bly_thread_block, user_stack) == ENTRY_BLOCK_USER_STACK, "block");
_Static_assert(offsetof(struct bly_thread_block, personality_thread) == ENTRY_BLOCK_THREAD, "block");
_Static_assert(offsetof(struct bly_thread_block, personality_data) == ENTRY_BLOCK_RESTORING, "block");
_Static_assert(offsetof(struct thread, state) == ENTRY_THREAD_STATE, "thread");
_Static_assert(offsetof(struct thread, work_pending) == ENTRY_THREAD_WORK, "thread");
_Static_assert(THREAD_IN_GUEST == 0, "entry.S compares with 0");

struct bly_context *lx_registers(void)
{
    return entry_context(thread_block());
}

/* ---- In ------------------------------------------------------------------------------------------------------- */

static void __attribute__((noinline, cold)) name_absent(uint64_t number)
{
    if (number >= 512)
        return;
    uint32_t bit = 1u << number % 32;
    if (__atomic_fetch_or(&lx_kernel->absent_logged[number / 32], bit, __ATOMIC_RELAXED) & bit)
        return;
    const char *name = trace_syscall_name(number);
    log_line(BLY_LOG_INFO, "system call %llu (%s) is not supported; programs get ENOSYS", (unsigned long long)number, name ? name : "?");
}

static inline long call_handler(struct bly_context *context, uint64_t number)
{
    uint64_t count = (uint64_t)(lx_syscall_table_end - lx_syscall_table);
    syscall_handler handler = number < count ? lx_syscall_table[number] : NULL;
    if (__builtin_expect(!handler, 0)) {
        name_absent(number);
        return -ENOSYS;
    }
    return handler(context->rdi, context->rsi, context->rdx, context->r10, context->r8, context->r9);
}

static long __attribute__((noinline, cold)) call_traced(struct bly_context *context, uint64_t number)
{
    struct trace_call call;
    trace_begin(&call, context, number);
    long result = call_handler(context, number);
    trace_end(&call, result);
    return result;
}

int entry_serve(struct bly_context *context)
{
    struct lx_thread *thread = lx_current();
    uint64_t number = context->rax;
    thread->registers = context;
    thread->restore_full = 0;
    thread->syscall_number = (uint32_t)number;
    thread->syscall_argument0 = context->rdi;

    long result;
    if (__builtin_expect(lx_kernel->trace_flags & BLY_START_TRACE_SYSCALLS, 0))
        result = call_traced(context, number);
    else
        result = call_handler(context, number);

    thread = lx_current(); /* fork's child comes back as another thread */
    if (__builtin_expect(thread->restore_full, 0)) /* the call has set all registers: rt_sigreturn, execve */
        return LEAVE_FULL;
    context->rax = (uint64_t)result;
    return lx_is_restart((uint64_t)result) ? LEAVE_FULL : LEAVE_FAST;
}

void entry_serve_cpuid(struct bly_context *context)
{
    struct lx_thread *thread = lx_current();
    thread->registers = context;
    thread->syscall_number = ~0u;
    thread->restore_full = 1;
    cpuid_serve(context);
}

int entry_serve_trapped(struct bly_context *context)
{
    /* Before serving: a call that blocks must come back to where the instructions after the site then are. */
    patch_site_trapped(context);
    return entry_serve(context);
}

/* ---- Out ------------------------------------------------------------------------------------------------------ */

int entry_leave_slow(struct bly_context *context)
{
    struct bly_thread_block *block = thread_block();
    for (;;) {
        struct lx_thread *thread = lx_current();
        *(volatile uint32_t *)block->personality_data = 0; /* ENTRY_BLOCK_RESTORING */
        thread->base.state = THREAD_IN_KERNEL;
        block->interrupt_pending = 0;
        thread->base.work_pending = 0;
        park_point();
        bool from_syscall = thread->syscall_number != ~0u;
        /* Where there is nothing to deliver, addresses are left alone: what was patched meanwhile has a breakpoint there (patch_breakpoint). */
        if (signal_delivery_due(context, from_syscall)) {
            /* Programs and their unwinders see the addresses that their own code has. */
            context->rip = patch_original_address(context->rip);
            if (signal_deliver(context, from_syscall))
                thread->restore_full = 1;
            context->rip = patch_moved_address(context->rip);
            thread = lx_current();
        }
        thread->syscall_number = ~0u; /* served: it is not to be restarted again when we come back here */
        thread->base.state = THREAD_IN_GUEST;
        if (thread->base.work_pending)
            continue;
        if (!thread->restore_full && !(context->rflags & ENTRY_FLAGS_SLOW))
            return LEAVE_FAST;
        return context->vector_state ? LEAVE_RESTORE : LEAVE_FULL;
    }
}

void entry_restore(struct bly_context *context)
{
    struct bly_thread_block *block = thread_block();
    /* From here an interrupt anywhere in the image sends the thread to lx_leave_again. */
    *(volatile uint32_t *)block->personality_data = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (lx_current()->base.work_pending)
        lx_leave_from_top();
    bly->thread_restore(context);
    lx_leave_from_top();
}

void lx_leave_kernel(struct bly_context *context)
{
    struct lx_thread *thread = lx_current();
    struct bly_context *top = entry_context(thread_block());
    memmove(top, context, sizeof *top);
    thread->registers = top;
    thread->restore_full = 1;
    thread->syscall_number = ~0u;
    lx_leave_from_top();
}
