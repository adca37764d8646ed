/* CPUID: what the processor says, remembered for the sandbox, since the instruction traps in virtual machines and takes microseconds there.
 *
 * A C library asks dozens of times while it starts: most of what starting a program costs on such a machine. The instructions of program loaders and
 * static programs are therefore replaced by jumps, or breakpoints, which cost a quarter (patch.c), and are answered here from memory. Programs' own
 * CPUID instructions elsewhere go to the processor as ever.
 *
 * With --migratable programs see the processor that the monitor describes (BLY_START_CPUID_LIMITED). All code of
 * files is patched as it is mapped; where the host can, the instruction also faults and is answered here wherever it stands. */
#ifndef LX_PROCESS_CPUID_H
#define LX_PROCESS_CPUID_H

#include "personality/linux/lx.h"

int lx_cpuid_init(void);
struct bly_cpuid lx_cpuid(uint32_t leaf, uint32_t subleaf);
/* Of the processor here and now, which may be another than that on which the sandbox began. */
struct bly_cpuid cpuid_here(uint32_t leaf, uint32_t subleaf);
/* The same, although programs are shown a lesser one. Not where the instruction faults. */
struct bly_cpuid cpuid_unlimited(uint32_t leaf, uint32_t subleaf);
/* A fault of the program: true when it was the instruction's; the context then goes on behind it. */
bool cpuid_fault(struct bly_context *context);
/* Does what the instruction does. */
void cpuid_serve(struct bly_context *context);

#endif
