/* CPUID: what the processor says, remembered for the sandbox, since the instruction traps in virtual machines and takes microseconds there.
 *
 * A C library asks dozens of times while it starts: most of what starting a program costs on such a machine. The instructions of program loaders and
 * static programs are therefore replaced by breakpoints (patch.c), which cost a quarter, and are answered here from memory. Programs' own
 * CPUID instructions elsewhere go to the processor as ever. */
#ifndef LX_PROCESS_CPUID_H
#define LX_PROCESS_CPUID_H

#include "personality/linux/lx.h"

int lx_cpuid_init(void);
struct bly_cpuid lx_cpuid(uint32_t leaf, uint32_t subleaf);
/* Does what the instruction does. */
void cpuid_serve(struct bly_context *context);

#endif
