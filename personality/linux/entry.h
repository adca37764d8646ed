/* What entry.S and the C files round it agree on. Offsets are asserted in dispatch.c.
 *
 * The registers of a system call (or of an interrupted or faulting program) always lie at the top of the thread's kernel
 * stack, so that a thread found on its way out can be sent back to look for work again from nothing but its thread block. */
#ifndef LX_ENTRY_H
#define LX_ENTRY_H

#define ENTRY_CONTEXT_SIZE 256
#define ENTRY_BLOCK_STACK_TOP 0x08
#define ENTRY_BLOCK_USER_STACK 0x18
#define ENTRY_BLOCK_THREAD 0x20
#define ENTRY_BLOCK_RESTORING 0x60 /* personality_data[0]: 1 while thread_restore may be under way */
#define ENTRY_THREAD_STATE 8
#define ENTRY_THREAD_WORK 16

#define ENTRY_R8 0
#define ENTRY_R9 8
#define ENTRY_R10 16
#define ENTRY_R11 24
#define ENTRY_R12 32
#define ENTRY_R13 40
#define ENTRY_R14 48
#define ENTRY_R15 56
#define ENTRY_RDI 64
#define ENTRY_RSI 72
#define ENTRY_RBP 80
#define ENTRY_RBX 88
#define ENTRY_RDX 96
#define ENTRY_RAX 104
#define ENTRY_RCX 112
#define ENTRY_RSP 120
#define ENTRY_RIP 128
#define ENTRY_RFLAGS 136
#define ENTRY_SEGMENTS 144
#define ENTRY_VECTOR 184

/* Flags under which the fast way out is not taken: trap, direction, nested task, alignment check. */
#define ENTRY_FLAGS_SLOW 0x44500

#ifndef __ASSEMBLER__
#include "personality/linux/lx.h"

/* How to go back to the program. */
enum leave { LEAVE_FAST, LEAVE_FULL /* every general register */, LEAVE_RESTORE /* and the vector registers */ };

/* Where call sites jump to and trapped calls are sent; and where they are sent when the site is to be counted. */
extern const char lx_entry[], lx_entry_trapped[];
/* Exceptions and interrupts of the program: context (and exception) lie on the kernel stack already. */
extern const char lx_entry_exception[], lx_entry_interrupted[];
/* Code after the last look at work_pending: a thread interrupted there is sent to lx_leave_again. */
extern const char lx_leave_window_start[], lx_leave_window_end[], lx_leave_again[];

/* Called by entry.S. */
int entry_serve(struct bly_context *context);
void entry_serve_cpuid(struct bly_context *context);
int entry_serve_trapped(struct bly_context *context);
int entry_serve_exception(struct bly_context *context, const struct bly_exception *exception);
int entry_leave_slow(struct bly_context *context);
_Noreturn void entry_restore(struct bly_context *context);

/* Resets %rsp to the top of the kernel stack, below the context, and leaves. */
_Noreturn void lx_leave_from_top(void);

/* Calls a function that does not return on the kernel stack, below the place of the registers. */
_Noreturn void lx_begin(void (*function)(uint64_t), uint64_t argument);
/* The other two upcalls: start.c. */
_Noreturn void lx_start(const struct bly_abi *abi, const struct bly_start_info *info);
_Noreturn void lx_thread_start(uint64_t argument);

static inline struct bly_context *entry_context(struct bly_thread_block *block)
{
    return (struct bly_context *)(block->kernel_stack_top - ENTRY_CONTEXT_SIZE);
}
#endif
#endif
