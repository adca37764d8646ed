/* Numbers that assembly needs; thread.c asserts that they agree with the C structures. */
#ifndef HOST_LAYOUT_ASM_H
#define HOST_LAYOUT_ASM_H

#define HOST_THREAD_AREA_SIZE 0x40000
#define HOST_THREAD_BLOCK_OFFSET 0x1fc00
#define HOST_BLOCK_INTERRUPT_PENDING 0x58

#endif
