/* In and out of the personality.
 *
 * A patched call site, or the exception upcall for a trapped one, comes to lx_entry like a `syscall` instruction: rcx holds the
 * return address, rax the number, everything else is the program's; its stack may be tiny or invalid and is never touched.
 * The registers become a struct bly_context at the top of the kernel stack.
 *
 * On the way out the thread looks at its work word for the last time. An interrupt that comes after that look finds the
 * instruction pointer between lx_leave_window_start and _end and sends the thread back to lx_leave_again, which
 * needs nothing but the thread block. So no pending signal is overlooked and the fast path needs no fence. */
#include "personality/linux/entry.h"

    .text
    .hidden lx_entry, lx_entry_trapped, lx_entry_exception, lx_entry_interrupted
    .hidden lx_leave_window_start, lx_leave_window_end, lx_leave_again, lx_leave_from_top
    .hidden entry_serve, entry_serve_cpuid, entry_serve_trapped, entry_serve_exception, entry_leave_slow, entry_restore

    /* The program's registers become a struct bly_context at the top of the kernel stack. `return`: the register that holds its rip. After
     * `r11_is_flags` its r11 is what `syscall` leaves there. */
    .macro save_registers return, r11_is_flags
    mov %rsp, %gs:ENTRY_BLOCK_USER_STACK
    mov %gs:ENTRY_BLOCK_STACK_TOP, %rsp
    lea ENTRY_RFLAGS+8-ENTRY_CONTEXT_SIZE(%rsp), %rsp
    pushfq                                  /* nothing has changed them so far: lea does not */
    push \return                            /* rip */
    push %gs:ENTRY_BLOCK_USER_STACK
    push %rcx
    push %rax
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r15
    push %r14
    push %r13
    push %r12
    .if \r11_is_flags
    push ENTRY_RFLAGS-ENTRY_R12(%rsp)
    .else
    push %r11
    .endif
    push %r10
    push %r9
    push %r8
    movq $0, ENTRY_VECTOR(%rsp)
    movl $0, %gs:ENTRY_BLOCK_RESTORING
    .endm

    /* CPUID_DOOR bytes before lx_entry, which the thread block names: where patched CPUID instructions come to. */
    .p2align 6
    .skip 56, 0xcc
    .byte 0xe9
    .long .Lcpuid - . - 4
    .skip 3, 0xcc

    .globl lx_entry
    .type lx_entry, @function
lx_entry:
    save_registers %rcx, r11_is_flags=1
    cld
    mov %rsp, %rdi
    testl $ENTRY_FLAGS_SLOW, ENTRY_RFLAGS(%rsp)
    jnz .Lentry_flags
    call entry_serve
.Lserved:
    test %eax, %eax
    jnz lx_leave_again

.Lleave_fast:
    mov %gs:ENTRY_BLOCK_THREAD, %rax
    cmpl $0, ENTRY_THREAD_STATE(%rax)       /* THREAD_IN_GUEST, unless it slept */
    jne lx_leave_again
    cmpl $0, ENTRY_THREAD_WORK(%rax)
    .globl lx_leave_window_start
lx_leave_window_start:
    jne lx_leave_again
    /* The arithmetic flags, without popf's 20 cycles: overflow by an addition, the others by sahf. */
    mov ENTRY_RFLAGS(%rsp), %r11
    mov %r11d, %eax
    and $0x800, %eax
    add $0x7ffff800, %eax
    mov ENTRY_RFLAGS(%rsp), %ah
    sahf
    mov ENTRY_RAX(%rsp), %rax
    mov ENTRY_RIP(%rsp), %rcx
    mov ENTRY_RDX(%rsp), %rdx
    mov ENTRY_RSI(%rsp), %rsi
    mov ENTRY_RDI(%rsp), %rdi
    mov ENTRY_R8(%rsp), %r8
    mov ENTRY_R9(%rsp), %r9
    mov ENTRY_R10(%rsp), %r10
    mov ENTRY_RSP(%rsp), %rsp
    jmp *%rcx

    /* Everything, rcx, r11 and all flags included; iretq works from ring 3 to ring 3 and leaves the program's stack alone. */
.Lleave_full:
    mov %gs:ENTRY_BLOCK_THREAD, %rax
    cmpl $0, ENTRY_THREAD_STATE(%rax)
    jne lx_leave_again
    cmpl $0, ENTRY_THREAD_WORK(%rax)
    jne lx_leave_again
    mov %rsp, %rdi
    mov %ss, %eax
    push %rax
    push ENTRY_RSP(%rdi)
    push ENTRY_RFLAGS(%rdi)
    mov %cs, %eax
    push %rax
    push ENTRY_RIP(%rdi)
    mov ENTRY_R8(%rdi), %r8
    mov ENTRY_R9(%rdi), %r9
    mov ENTRY_R10(%rdi), %r10
    mov ENTRY_R11(%rdi), %r11
    mov ENTRY_R12(%rdi), %r12
    mov ENTRY_R13(%rdi), %r13
    mov ENTRY_R14(%rdi), %r14
    mov ENTRY_R15(%rdi), %r15
    mov ENTRY_RSI(%rdi), %rsi
    mov ENTRY_RBP(%rdi), %rbp
    mov ENTRY_RBX(%rdi), %rbx
    mov ENTRY_RDX(%rdi), %rdx
    mov ENTRY_RAX(%rdi), %rax
    mov ENTRY_RCX(%rdi), %rcx
    mov ENTRY_RDI(%rdi), %rdi
    iretq
    .globl lx_leave_window_end
lx_leave_window_end:

    /* The program's flags may forbid unaligned access, step or count downwards: not in here. */
.Lentry_flags:
    push $2
    popfq
    call entry_serve
    jmp lx_leave_again

    /* rdx: the return address. It and rbx are the instruction's to overwrite; rax and rcx ask, and all else is the program's. */
.Lcpuid:
    save_registers %rdx, r11_is_flags=0
    mov %rsp, %rdi
    push $2
    popfq
    call entry_serve_cpuid
    jmp lx_leave_again

    .globl lx_leave_again
    .globl lx_leave_from_top
lx_leave_again:
lx_leave_from_top:
    mov %gs:ENTRY_BLOCK_STACK_TOP, %rsp
    lea -ENTRY_CONTEXT_SIZE(%rsp), %rsp
    mov %rsp, %rdi
    call entry_leave_slow
    test %eax, %eax
    jz .Lleave_fast
    cmp $1, %eax
    je .Lleave_full
    mov %rsp, %rdi
    call entry_restore

    /* The upcalls put the registers on the kernel stack themselves and come here with clean flags; rdi: the context. */
    .globl lx_entry_trapped
    .type lx_entry_trapped, @function
lx_entry_trapped:
    call entry_serve_trapped
    testl $ENTRY_FLAGS_SLOW, ENTRY_RFLAGS(%rsp)
    jz .Lserved
    jmp lx_leave_again

    /* rsi: the exception, below the context. */
    .globl lx_entry_exception
    .type lx_entry_exception, @function
lx_entry_exception:
    call entry_serve_exception
    jmp lx_leave_again

    .globl lx_entry_interrupted
    .type lx_entry_interrupted, @function
lx_entry_interrupted:
    jmp lx_leave_again

    /* rdi: function, rsi: its argument. On a kernel stack that keeps the place of the registers free; does not return. */
    .globl lx_begin
    .hidden lx_begin
    .type lx_begin, @function
lx_begin:
    mov %gs:ENTRY_BLOCK_STACK_TOP, %rsp
    lea -ENTRY_CONTEXT_SIZE(%rsp), %rsp
    xor %ebp, %ebp
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    ud2

    .section .note.GNU-stack, "", @progbits
