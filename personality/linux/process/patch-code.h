/* Machine code round a system call: what can be patched there, and the trampolines. Pure functions over bytes.
 *
 * Positions are relative to the start of the file: trampolines lie at a fixed distance from the code, so the same bytes serve
 * wherever the file is mapped. */
#ifndef LX_PROCESS_PATCH_CODE_H
#define LX_PROCESS_PATCH_CODE_H

#include <bailey/abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATCH_SIZE = 5 /* a jump */, PATCH_TRAMPOLINE_MAX = 64, PATCH_TAIL_MAX = 4 /* instructions */ };

enum patch_kind {
    PATCH_NONE,
    PATCH_LOAD,   /* `mov $constant,%register` before the call becomes the jump; the call itself stays and traps whoever jumps onto it */
    PATCH_CPUID,  /* no call, but a CPUID instruction: its first byte becomes a breakpoint */
    PATCH_TAIL,   /* the call or CPUID and what follows it become the jump; the instructions that followed move into the trampoline */
};

struct patch_load { uint8_t opcode; uint32_t constant; };
struct patch_instruction { uint8_t from, to; }; /* offset behind the call instruction; offset in the trampoline */
struct patch_plan {
    enum patch_kind kind;
    uint16_t start;          /* offset in the page of the PATCH_SIZE bytes (PATCH_CPUID: of one) */
    uint8_t tail_size;       /* PATCH_TAIL: bytes that move */
    uint8_t instruction_count;
    uint8_t trampoline_size;
    bool is_cpuid;
    struct patch_instruction instructions[PATCH_TAIL_MAX + 1]; /* the last: where the program goes on */
    struct patch_load load;
};

/* What is known of a page over several plans; begins as zero. */
struct patch_targets { bool known; uint8_t bits[4096 / 8]; };

/* Whether the bytes right before a call that has trapped are such a load: the register still holds the constant, and no prefix belongs to it. Then
 * it is that instruction and not the end of a longer one. */
bool patch_find_load(const uint8_t before[PATCH_SIZE + 1], const struct bly_context *registers, struct patch_load *out_load);
/* `call`: offset in the page (or its end) of a proven `syscall` or CPUID instruction; `load` may be NULL. PATCH_NONE when it has to go on trapping. */
void patch_plan_site(const uint8_t page[4096], unsigned call, const struct patch_load *load, struct patch_targets *targets, struct patch_plan *out_plan);
/* The other way for a CPUID instruction, where there is no room for a jump or its trampoline. */
void patch_plan_breakpoint(unsigned at, struct patch_plan *out_plan);
/* Bytes from plan->start on that no other patch may touch. */
unsigned patch_extent(const struct patch_plan *plan);

/* A trampoline that works at position `at`. Of PATCH_TAIL the second byte of the jump's distance must be an int3, since it comes to lie where
 * threads that are in the call return to: patch_slot_fits tells. The slots that fit, where trampolines lie at `distance` + slot, are the 256 bytes
 * from patch_first_slot on, and so again every 64 KiB. */
int64_t patch_first_slot(const struct patch_plan *plan, int64_t patch_position, int64_t distance);
bool patch_slot_fits(const struct patch_plan *plan, int64_t patch_position, int64_t at);
void patch_emit_trampoline(struct patch_plan *plan, const uint8_t page[4096], int64_t page_position, int64_t at, uint8_t out[PATCH_TRAMPOLINE_MAX]);
void patch_emit_jump(int64_t from, int64_t to, uint8_t out[PATCH_SIZE]);

#endif
