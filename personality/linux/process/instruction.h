/* The length of x86-64 instructions. A pure function over bytes. */
#ifndef LX_PROCESS_INSTRUCTION_H
#define LX_PROCESS_INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INSTRUCTION_MAX = 15, INSTRUCTION_SIZE_UNKNOWN = 0xff };

/* Bytes of the instruction at `code`, of which `size` can be read; 0: none that 64-bit code can hold, or it is cut off. */
size_t instruction_size(const uint8_t *code, size_t size);
/* Bytes of ModRM, SIB and displacement at `at`; 0: cut off. Whether the displacement is relative to the next instruction. */
size_t instruction_modrm_size(const uint8_t *at, size_t size, bool *out_relative);
/* Whether an instruction begins at `at` in `code`: what is decoded from many places before it falls into step and arrives there. A page or so of
 * code before `at` makes it certain; where it is not, the answer is no. `sizes` remembers what was decoded, a byte for each of `code`: all
 * INSTRUCTION_SIZE_UNKNOWN before the first of several questions. */
bool instruction_begins(const uint8_t *code, size_t size, size_t at, uint8_t *sizes);

#endif
