/* The host layer's window: every system-call instruction of the picoprocess stands in section .text.host, between
 * host_text_start and host_text_end of the linker script. The seccomp filter lets nothing pass from anywhere else. */

#include "layout_asm.h"

    .section .text.host, "ax", @progbits

/* The kernel enters with the argument vector at rsp. */
    .globl _start
    .type _start, @function
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call host_start
    ud2

/* long host_syscall(long number, long a, long b, long c, long d, long e, long f) */
    .globl host_syscall
    .type host_syscall, @function
host_syscall:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    syscall
    ret

/* The same, but ends with -EINTR when the thread's interrupt_pending is set before the call or while it waits. An interrupt
 * that arrives between the test and the instruction is not lost: the signal handler moves a thread that it finds in
 * [host_wait_begin, host_wait_end) to host_wait_cancelled. At host_wait_end the call has been made. */
    .globl host_syscall_interruptible, host_wait_begin, host_wait_end, host_wait_cancelled
    .type host_syscall_interruptible, @function
host_syscall_interruptible:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    mov %rsp, %rcx
    and $-HOST_THREAD_AREA_SIZE, %rcx
host_wait_begin:
    cmpl $0, (HOST_THREAD_BLOCK_OFFSET + HOST_BLOCK_INTERRUPT_PENDING)(%rcx)
    jne host_wait_cancelled
    syscall
host_wait_end:
    ret
host_wait_cancelled:
    mov $-4, %rax
    ret

/* uint64_t host_copy_proven(void *to, const void *from, size_t size, const char *proof): copies, then reads the byte at `proof`.
 * 0, or the address that could not be touched (1 when it is not known): the signal handler moves a thread that faults in
 * [host_copy_begin, host_copy_end) to host_copy_faulted. */
    .globl host_copy_proven, host_copy_begin, host_copy_end, host_copy_faulted
    .type host_copy_proven, @function
host_copy_proven:
    mov %rcx, %rax
    mov %rdx, %rcx
host_copy_begin:
    rep movsb
    movzbl (%rax), %eax
host_copy_end:
    xor %eax, %eax
host_copy_faulted:
    ret

/* long host_clone_thread(flags, stack_top, uint32_t *parent_tid, uint32_t *child_tid): the child goes on in host_thread_begin. */
    .globl host_clone_thread
    .type host_clone_thread, @function
host_clone_thread:
    mov %rcx, %r10
    xor %r8d, %r8d
    xor %r9d, %r9d
    mov $56, %eax
    syscall
    test %rax, %rax
    jz 1f
    ret
1:  xor %ebp, %ebp
    call host_thread_begin
    ud2

/* Signal handlers return here; host_restore(frame) enters with a frame built by hand. */
    .globl host_restore, host_signal_return
    .type host_restore, @function
host_restore:
    lea 8(%rdi), %rsp
    .type host_signal_return, @function
host_signal_return:
    mov $15, %eax
    syscall
    ud2

/* Continues in function(argument) on another stack; never returns: host_switch_stack(stack_top, function, argument). */
    .globl host_switch_stack
    .type host_switch_stack, @function
host_switch_stack:
    mov %rdi, %rsp
    xor %ebp, %ebp
    mov %rdx, %rdi
    call *%rsi
    ud2

    .section .note.GNU-stack, "", @progbits
