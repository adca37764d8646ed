/* Call-site patching: proven `syscall` instructions become jumps to the personality's entry. See patch.c. */
#ifndef LX_PROCESS_PATCH_H
#define LX_PROCESS_PATCH_H

#include "personality/linux/lx.h"

struct memory_object;
struct mm;

int lx_patch_init(void);
/* A call at context->rip - 2 has trapped: counts it, patches the page when it is hot. May move context->rip. On the kernel stack. */
void patch_site_trapped(struct bly_context *context);
/* An address in a trampoline as the program's own code has it; others unchanged. */
uint64_t patch_original_address(uint64_t address);
/* The reverse, for addresses whose instructions were moved away; others unchanged. */
uint64_t patch_moved_address(uint64_t address);
/* int3: true when it was one of ours; the context then goes on behind it. */
bool patch_breakpoint(struct bly_context *context);
/* The code of a program that asks the processor what it is while it starts, at `start` of `mm` (whose mutex is held): its CPUID
 * instructions become jumps or breakpoints where that is quicker. */
void patch_cpuid(struct mm *mm, uint64_t start, uint64_t size);
/* What is to be mapped in place of `object` (may be NULL) as private code: the same file with the pages patched so far. With a reference;
 * NULL: the object itself. */
struct memory_object *patch_view(struct memory_object *object, unsigned protection, unsigned region_flags);
/* Before `mm`, the caller's own, whose mutex is held, is forked: what its earlier children trapped on is patched in it too, so that the next ones do not. */
void patch_catch_up(struct mm *mm);
/* mm.patches at fork: whether there are trampolines. */
int patch_mm_copy(struct mm *to, struct mm *from);

#endif
