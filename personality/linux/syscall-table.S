/* The table of system calls: the address of lx_sys_NAME, or 0 where nobody defines it (weak). */
    .section .rodata.first, "a", @progbits
    .balign 64
    .globl lx_syscall_table, lx_syscall_table_end
    .hidden lx_syscall_table, lx_syscall_table_end
lx_syscall_table:
#define LX_CALL(number, name, format, state, note) \
    .weak lx_sys_##name ; .hidden lx_sys_##name ; .org lx_syscall_table + number * 8 ; .quad lx_sys_##name
#include "personality/linux/syscalls.def"
lx_syscall_table_end:
    .section .note.GNU-stack, "", @progbits
