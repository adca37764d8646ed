/* The only instructions that touch guest memory. Every range that may fault is listed in the section bly_fault_table as
 * {start, end, continuation}, each relative to the table entry; guest_fault_fixup (guest.c) moves a faulting context there.
 *
 * Copies run by words first; a fault in a word falls back to the byte loop, which stops at the exact byte. rep movsb keeps
 * exact counts by itself. */

    .macro guarded start, end, continuation
    .pushsection bly_fault_table, "a"
    .balign 4
    .long \start - ., \end - ., \continuation - .
    .popsection
    .endm

    .text

/* size_t guest_copy_raw(void *to, const void *from, size_t size): bytes NOT copied. */
    .globl guest_copy_raw
    .hidden guest_copy_raw
    .type guest_copy_raw, @function
guest_copy_raw:
    mov %rdx, %rcx
    cmp $512, %rdx
    jae 3f
    cmp $8, %rdx
    jb 3f
1:  mov (%rsi), %rax
    mov %rax, (%rdi)
2:  add $8, %rsi
    add $8, %rdi
    sub $8, %rcx
    cmp $8, %rcx
    jae 1b
    test %rcx, %rcx
    jz 5f
3:  rep movsb
4:
5:  mov %rcx, %rax
    ret
    guarded 1b, 2b, 3b
    guarded 3b, 4b, 5b
    .size guest_copy_raw, . - guest_copy_raw

/* size_t guest_zero_raw(void *to, size_t size): bytes NOT cleared. */
    .globl guest_zero_raw
    .hidden guest_zero_raw
    .type guest_zero_raw, @function
guest_zero_raw:
    mov %rsi, %rcx
    xor %eax, %eax
1:  rep stosb
2:  mov %rcx, %rax
    ret
    guarded 1b, 2b, 2b
    .size guest_zero_raw, . - guest_zero_raw

/* int64_t guest_string_raw(char *to, const char *from, size_t size): length, `size` when no NUL was found, or -EFAULT. */
    .globl guest_string_raw
    .hidden guest_string_raw
    .type guest_string_raw, @function
guest_string_raw:
    xor %eax, %eax
    jmp 3f
1:  movzbl (%rsi,%rax), %ecx
2:  mov %cl, (%rdi,%rax)
    test %cl, %cl
    jz 4f
    inc %rax
3:  cmp %rdx, %rax
    jb 1b
4:  ret
5:  mov $-14, %rax
    ret
    guarded 1b, 2b, 5b
    .size guest_string_raw, . - guest_string_raw

/* int guest_load32_raw(uint32_t *to, const uint32_t *guest): 0 or -EFAULT. */
    .globl guest_load32_raw
    .hidden guest_load32_raw
    .type guest_load32_raw, @function
guest_load32_raw:
1:  mov (%rsi), %eax
2:  mov %eax, (%rdi)
    xor %eax, %eax
    ret
3:  mov $-14, %eax
    ret
    guarded 1b, 2b, 3b
    .size guest_load32_raw, . - guest_load32_raw

/* int guest_store32_raw(uint32_t *guest, uint32_t value): 0 or -EFAULT. */
    .globl guest_store32_raw
    .hidden guest_store32_raw
    .type guest_store32_raw, @function
guest_store32_raw:
1:  mov %esi, (%rdi)
2:  xor %eax, %eax
    ret
3:  mov $-14, %eax
    ret
    guarded 1b, 2b, 3b
    .size guest_store32_raw, . - guest_store32_raw

/* int guest_compare_exchange32_raw(uint32_t *guest, uint32_t *expected, uint32_t desired): 0 or -EFAULT. */
    .globl guest_compare_exchange32_raw
    .hidden guest_compare_exchange32_raw
    .type guest_compare_exchange32_raw, @function
guest_compare_exchange32_raw:
    mov (%rsi), %eax
1:  lock cmpxchg %edx, (%rdi)
2:  mov %eax, (%rsi)
    xor %eax, %eax
    ret
3:  mov $-14, %eax
    ret
    guarded 1b, 2b, 3b
    .size guest_compare_exchange32_raw, . - guest_compare_exchange32_raw

    .section .note.GNU-stack, "", @progbits
