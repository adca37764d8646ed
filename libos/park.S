/* The two ends of parking: leaving a copy of the stack, and coming back on it. */

    .text

/* int park_switch(struct thread *thread) */
    .globl park_switch
    .hidden park_switch, park_store, park_return
    .type park_switch, @function
park_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rsi
    sub $8, %rsp
    call park_store
    add $8, %rsp
.Lback:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret

/* park_return(stack_pointer, stack, size): nothing below the stack pointer is kept, so the copy cannot overwrite what it needs. */
    .globl park_return
    .type park_return, @function
park_return:
    mov %rdi, %rsp
    mov %rdx, %rcx
    cld
    rep movsb
    mov $1, %eax
    jmp .Lback

    .section .note.GNU-stack, "", @progbits
