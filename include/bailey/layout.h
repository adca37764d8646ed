/* Where things lie in a picoprocess's address space. One page of facts, shared by the host layer, libos, the
 * personalities and the linker script.
 *
 * Everything Bailey places for itself lies inside the *window* [BLY_WINDOW_START, BLY_WINDOW_END). The rest of the
 * 47-bit space is the guest's. Nothing is ever left at an address the host kernel chose. The window is not saved by
 * suspend, except the two shared segments (kernel heap and bulk), which are saved as objects of their own. */
#ifndef BAILEY_LAYOUT_H
#define BAILEY_LAYOUT_H

#define BLY_PAGE_SIZE 4096ull

#define BLY_WINDOW_START 0x640000000000ull
#define BLY_WINDOW_END 0x660000000000ull

/* What every picoprocess touches lies close together, in one gigabyte and but a few stretches of two megabytes: a clone makes page
 * tables for each, and they would be most of its cost. Sanitizers' allocators begin at 0x600000000000 and end below the window. */

/* Thread areas, BLY_THREAD_AREA_SIZE bytes each and aligned to their size, so that any address on one of a thread's
 * own stacks leads to its block by masking. They are numbered downwards from BLY_THREADS_END. From the bottom:
 *   guard page | kernel stack ... struct bly_thread_block | guard page | signal stack
 * Guard pages are not mapped at all, as everything else in the window has its place.
 * The block lies above the kernel stack's top on the same page: one page that a clone has to copy, not two. */
#define BLY_THREADS_START 0x640200080000ull
#define BLY_THREADS_END 0x640400080000ull
#define BLY_THREAD_AREA_SIZE 0x40000ull      /* 256 KiB */
#define BLY_KERNEL_STACK_OFFSET 0x1000ull
#define BLY_KERNEL_STACK_SIZE 0x1ec00ull     /* 123 KiB */
#define BLY_THREAD_BLOCK_OFFSET 0x1fc00ull
#define BLY_SIGNAL_STACK_OFFSET 0x21000ull   /* after a second guard page */
#define BLY_SIGNAL_STACK_SIZE 0x1f000ull     /* 124 KiB: three nested frames with AMX state */

/* Text and data of the picoprocess image (host layer + libos + personality), linked at this fixed address. */
#define BLY_IMAGE_START 0x640400080000ull
#define BLY_IMAGE_END 0x640400150000ull
/* RPC channel: struct bly_rpc_channel, shared with the monitor. */
#define BLY_RPC_CHANNEL 0x640400150000ull
/* The host's vDSO, moved here so that nothing stays at a kernel-chosen address. */
#define BLY_HOST_VDSO 0x6404001a0000ull
/* The host layer's private table of descriptors and other private data. It reaches beyond the 2 MiB that the others share, but what is used
 * first does not. */
#define BLY_HOST_DATA 0x6404001b0000ull
/* Read-only start information written by the monitor (struct bly_start_info). */
#define BLY_START_INFO 0x640402000000ull

/* Kernel heap: the sandbox's small shared objects, mapped MAP_SHARED at the same address in every picoprocess. */
#define BLY_HEAP_START 0x640404000000ull
#define BLY_HEAP_SIZE (64ull << 30)
/* What a start uses of it in any case, so that the monitor can have these pages made on another CPU. */
#define BLY_HEAP_FIRST (BLY_HEAP_START + 0x20010000ull)
#define BLY_HEAP_FIRST_SIZE (56 * BLY_PAGE_SIZE)
/* Files that are read again and again, mapped by the host layer of the one picoprocess that does so; clones do without. */
#define BLY_READ_WINDOWS 0x642000000000ull
/* Bulk segment: tmpfs pages and shared anonymous memory, also mapped at the same address everywhere. */
#define BLY_BULK_START 0x648000000000ull
#define BLY_BULK_SIZE (1ull << 40)

/* Guest addresses. Below the first page of mmap_min_addr nothing can be mapped; the top is the 47-bit limit. */
#define BLY_GUEST_MIN 0x10000ull
#define BLY_GUEST_MAX 0x7ffffffff000ull

#endif
