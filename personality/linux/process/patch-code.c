/* Decoding just enough x86-64 to move the few instructions that follow system calls, and emitting trampolines; see patch-code.h.
 *
 * The decoder knows a list of forms and refuses everything else: a refused site goes on trapping, which is slow and right. */
#include "personality/linux/process/patch-code.h"

#include "libos/text.h"
#include "personality/linux/process/instruction.h"

enum {
    PAGE_BYTES = 4096,
    CALL_SIZE = 2,
    HEAD_LOAD = 20, /* lea, mov, jmp */
    HEAD_TAIL = 15,   /* lea, jmp */
    HEAD_CPUID = 22,  /* lea, mov, lea, jmp */
    ENTRY_OFFSET = 0x10, /* bly_thread_block.entry */
    CPUID_DOOR = 8,   /* before that: entry.S */
    INT3 = 0xcc,
};

/* ---- Decoder ---------------------------------------------------------------------------------------------------- */

struct decoded {
    uint8_t size;
    uint8_t displacement_at;   /* offset of a 32-bit displacement that is relative to the next instruction; 0: none */
    uint8_t condition;         /* of a conditional jump, 0x70...0x7f; 0: none */
    bool is_jump, ends;        /* jmp; control does not go on behind it (jmp, ret) */
    int32_t target;            /* of jumps, relative to the next instruction */
};

/* Opcodes with a ModRM byte and nothing after it, by bit: one byte, and two bytes after 0f. */
static bool plain_modrm(unsigned opcode)
{
    switch (opcode) {
    case 0x01: case 0x03: case 0x09: case 0x0b: case 0x21: case 0x23: case 0x29: case 0x2b: case 0x31: case 0x33:
    case 0x39: case 0x3b: case 0x63: case 0x84: case 0x85: case 0x88: case 0x89: case 0x8a: case 0x8b: case 0x8d:
        return true;
    default:
        return false;
    }
}

static bool plain_modrm_0f(unsigned opcode)
{
    return (opcode >= 0x40 && opcode <= 0x4f) || (opcode >= 0x90 && opcode <= 0x9f) || opcode == 0x1f || opcode == 0xb6 || opcode == 0xb7 ||
           opcode == 0xbe || opcode == 0xbf || opcode == 0xaf;
}

static int32_t read_signed(const uint8_t *at, size_t size)
{
    int32_t value;
    if (size == 1)
        return (int8_t)*at;
    memcpy(&value, at, sizeof value);
    return value;
}

static bool decode_jump(const uint8_t *code, size_t at, size_t size, struct decoded *out)
{
    size_t distance = 0;
    if (code[at] >= 0x70 && code[at] <= 0x7f) {
        out->condition = code[at];
        distance = 1;
    } else if (code[at] == 0x0f && at + 1 < size && code[at + 1] >= 0x80 && code[at + 1] <= 0x8f) {
        out->condition = (uint8_t)(code[++at] - 0x10);
        distance = 4;
    } else if (code[at] == 0xeb || code[at] == 0xe9) {
        distance = code[at] == 0xeb ? 1 : 4;
        out->ends = true;
    }
    if (!distance || at + 1 + distance > size)
        return false;
    out->is_jump = true;
    out->target = read_signed(code + at + 1, distance);
    out->size = (uint8_t)(at + 1 + distance);
    return true;
}

static bool decode(const uint8_t *code, size_t size, struct decoded *out)
{
    size_t at = 0, immediate = 0, modrm = 0;
    bool relative = false, wide = false, narrow = false;
    memset(out, 0, sizeof *out);
    if (size > 15)
        size = 15;
    if (size >= 4 && !memcmp(code, "\xf3\x0f\x1e\xfa", 4)) { /* endbr64 */
        out->size = 4;
        return true;
    }
    while (at < size && (code[at] == 0x66 || code[at] == 0x64)) /* operand size; thread-local data */
        narrow |= code[at++] == 0x66;
    if (at < size && (code[at] & 0xf0) == 0x40)
        wide = code[at++] & 8;
    if (at >= size)
        return false;
    if (at == 0 && decode_jump(code, at, size, out))
        return true;
    unsigned opcode = code[at++];
    if (opcode == 0xc3) {
        out->ends = true;
    } else if ((opcode >= 0x50 && opcode <= 0x5f) || opcode == 0x90 || opcode == 0xc9 || opcode == 0xcc) {
        /* push, pop, nop, leave, and the filler behind functions */
    } else if (opcode == 0x3d || opcode == 0xa9) { /* cmp, test of the accumulator with a constant */
        immediate = narrow ? 2 : 4;
    } else if (opcode >= 0xb8 && opcode <= 0xbf) {
        immediate = wide ? 8 : narrow ? 2 : 4;
    } else {
        bool two = opcode == 0x0f;
        if (two) {
            if (at >= size || !plain_modrm_0f(code[at]))
                return false;
            at++;
        } else if (opcode == 0x80 || opcode == 0x83 || opcode == 0xc1 || opcode == 0xc6) {
            immediate = 1;
        } else if (opcode == 0x81 || opcode == 0xc7) {
            immediate = narrow ? 2 : 4;
        } else if (opcode == 0xf7 && at < size && (code[at] >> 3 & 7) >= 2) {
            /* not, neg, mul, ...: no constant */
        } else if (!plain_modrm(opcode)) {
            return false;
        }
        modrm = instruction_modrm_size(code + at, size - at, &relative);
        if (!modrm)
            return false;
        if (relative)
            out->displacement_at = (uint8_t)(at + 1);
    }
    if (at + modrm + immediate > size)
        return false;
    out->size = (uint8_t)(at + modrm + immediate);
    return true;
}

/* ---- Plans ------------------------------------------------------------------------------------------------------ */

bool patch_find_load(const uint8_t before[PATCH_SIZE + 1], const struct bly_context *registers, struct patch_load *out)
{
    /* By number of the register; rcx is overwritten by every call, and nobody loads rsp like this. */
    const uint64_t values[] = {registers->rax, UINT64_MAX, registers->rdx, registers->rbx, UINT64_MAX, registers->rbp, registers->rsi, registers->rdi};
    out->opcode = before[1];
    memcpy(&out->constant, before + 2, sizeof out->constant);
    return (out->opcode & 0xf8) == 0xb8 && values[out->opcode & 7] == out->constant && (before[0] & 0xf0) != 0x40 && before[0] != 0x66;
}

void patch_plan_breakpoint(unsigned at, struct patch_plan *plan)
{
    *plan = (struct patch_plan){.kind = PATCH_CPUID, .start = (uint16_t)at};
}

static bool plan_load(const uint8_t *page, unsigned call, const struct patch_load *load, struct patch_plan *plan)
{
    if (!load || call < PATCH_SIZE || page[call - PATCH_SIZE] != load->opcode || memcmp(page + call - 4, &load->constant, sizeof load->constant))
        return false;
    plan->kind = PATCH_LOAD;
    plan->start = (uint16_t)(call - PATCH_SIZE);
    plan->trampoline_size = HEAD_LOAD;
    plan->load = *load;
    return true;
}

/* Where any bytes of the page, read as a jump, lead to: bytes that are no jump at all count as well. */
static void find_targets(const uint8_t *page, struct patch_targets *targets)
{
    for (unsigned at = 0; at + 2 <= PAGE_BYTES; at++) {
        long target = -1;
        if ((page[at] >= 0x70 && page[at] <= 0x7f) || page[at] == 0xeb)
            target = (long)at + 2 + (int8_t)page[at + 1];
        else if (page[at] == 0xe9 && at + 5 <= PAGE_BYTES)
            target = (long)at + 5 + read_signed(page + at + 1, 4);
        else if (page[at] == 0x0f && (page[at + 1] & 0xf0) == 0x80 && at + 6 <= PAGE_BYTES)
            target = (long)at + 6 + read_signed(page + at + 2, 4);
        if (target >= 0 && target < PAGE_BYTES)
            targets->bits[target / 8] |= (uint8_t)(1u << target % 8);
    }
    targets->known = true;
}

static bool jumped_to(const uint8_t *page, struct patch_targets *targets, unsigned from, unsigned to)
{
    if (!targets->known)
        find_targets(page, targets);
    for (unsigned at = from; at < to && at < PAGE_BYTES; at++)
        if (targets->bits[at / 8] >> at % 8 & 1)
            return true;
    return false;
}

static bool plan_tail(const uint8_t *page, unsigned call, unsigned head, struct patch_targets *targets, struct patch_plan *plan)
{
    unsigned size = 0, trampoline = head, count = 0;
    bool ended = false;
    if (call + PATCH_SIZE > PAGE_BYTES)
        return false;
    while (size < PATCH_SIZE - CALL_SIZE) {
        unsigned at = call + CALL_SIZE + size;
        struct decoded instruction;
        if (!decode(page + at, PAGE_BYTES - at, &instruction))
            return false;
        /* Behind a return nothing may come but filler: another function could begin there. */
        if (ended && page[at] != 0x90 && page[at] != INT3 && !(page[at] == 0x0f && page[at + 1] == 0x1f) && page[at] != 0x66)
            return false;
        if (page[at] == INT3 && !ended)
            return false;
        if (count == PATCH_TAIL_MAX)
            return false;
        plan->instructions[count++] = (struct patch_instruction){(uint8_t)size, (uint8_t)trampoline};
        trampoline += instruction.is_jump ? 6u : instruction.size;
        size += instruction.size;
        ended |= instruction.ends;
    }
    if (count > 1 && jumped_to(page, targets, call + CALL_SIZE + 1, call + PATCH_SIZE))
        return false;
    plan->instructions[count] = (struct patch_instruction){(uint8_t)size, (uint8_t)trampoline};
    if (trampoline + PATCH_SIZE > PATCH_TRAMPOLINE_MAX)
        return false;
    plan->kind = PATCH_TAIL;
    plan->start = (uint16_t)call;
    plan->tail_size = (uint8_t)size;
    plan->instruction_count = (uint8_t)count;
    plan->trampoline_size = (uint8_t)(trampoline + PATCH_SIZE);
    return true;
}

void patch_plan_site(const uint8_t page[PAGE_BYTES], unsigned call, const struct patch_load *load, struct patch_targets *targets, struct patch_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    if (call + CALL_SIZE <= PAGE_BYTES && page[call] == 0x0f && page[call + 1] == 0xa2) {
        if (plan_tail(page, call, HEAD_CPUID, targets, plan))
            plan->is_cpuid = true;
        else
            patch_plan_breakpoint(call, plan);
        return;
    }
    /* The call itself may lie on the border of the page, or just behind it. */
    if ((call < PAGE_BYTES && page[call] != 0x0f) || (call + 1 < PAGE_BYTES && page[call + 1] != 0x05))
        return;
    if (plan_load(page, call, load, plan) || plan_tail(page, call, HEAD_TAIL, targets, plan))
        return;
    memset(plan, 0, sizeof *plan);
}

/* ---- Code ------------------------------------------------------------------------------------------------------- */

static void write_distance(uint8_t *to, int64_t distance)
{
    int32_t value = (int32_t)distance;
    memcpy(to, &value, sizeof value);
}

void patch_emit_jump(int64_t from, int64_t to, uint8_t out[PATCH_SIZE])
{
    out[0] = 0xe9;
    write_distance(out + 1, to - (from + PATCH_SIZE));
}

unsigned patch_extent(const struct patch_plan *plan)
{
    return plan->kind == PATCH_TAIL ? (unsigned)CALL_SIZE + plan->tail_size : plan->kind == PATCH_CPUID ? (unsigned)CALL_SIZE : PATCH_SIZE + (unsigned)CALL_SIZE;
}

int64_t patch_first_slot(const struct patch_plan *plan, int64_t patch_position, int64_t distance)
{
    if (plan->kind != PATCH_TAIL)
        return 0;
    return (((int64_t)INT3 << 8) - (distance - (patch_position + PATCH_SIZE))) & 0xffff;
}

bool patch_slot_fits(const struct patch_plan *plan, int64_t patch_position, int64_t at)
{
    uint8_t jump[PATCH_SIZE];
    if (plan->kind != PATCH_TAIL)
        return true;
    patch_emit_jump(patch_position, at, jump);
    return jump[2] == INT3;
}

/* lea distance(%rip),%rcx, or %rdx */
static size_t emit_return_address(uint8_t *out, int64_t at, int64_t address, bool in_rdx)
{
    memcpy(out, in_rdx ? "\x48\x8d\x15" : "\x48\x8d\x0d", 3);
    write_distance(out + 3, address - (at + 7));
    return 7;
}

/* jmp *%gs:entry */
static size_t emit_enter(uint8_t *out)
{
    memcpy(out, "\x65\xff\x24\x25", 4);
    write_distance(out + 4, ENTRY_OFFSET);
    return 8;
}

/* mov %gs:entry,%rbx; lea -CPUID_DOOR(%rbx),%rbx; jmp *%rbx: nothing that changes flags */
static void emit_enter_cpuid(uint8_t *out)
{
    memcpy(out, "\x65\x48\x8b\x1c\x25", 5);
    write_distance(out + 5, ENTRY_OFFSET);
    memcpy(out + 9, "\x48\x8d\x5b", 3);
    out[12] = (uint8_t)-CPUID_DOOR;
    memcpy(out + 13, "\xff\xe3", 2);
}

static void emit_tail(const struct patch_plan *plan, const uint8_t *page, int64_t page_position, int64_t at, uint8_t *out)
{
    for (unsigned i = 0; i < plan->instruction_count; i++) {
        unsigned from = plan->start + CALL_SIZE + plan->instructions[i].from, to = plan->instructions[i].to;
        struct decoded instruction;
        (void)decode(page + from, PAGE_BYTES - from, &instruction);
        int64_t next = page_position + from + instruction.size; /* where it was followed by */
        if (instruction.is_jump) {
            /* In the long form, as many bytes for both kinds. */
            out[to] = instruction.condition ? 0x0f : 0x90;
            out[to + 1] = instruction.condition ? (uint8_t)(instruction.condition + 0x10) : 0xe9;
            write_distance(out + to + 2, next + instruction.target - (at + to + 6));
            continue;
        }
        memcpy(out + to, page + from, instruction.size);
        if (instruction.displacement_at) {
            int64_t target = next + read_signed(page + from + instruction.displacement_at, 4);
            write_distance(out + to + instruction.displacement_at, target - (at + to + instruction.size));
        }
    }
    unsigned end = plan->instructions[plan->instruction_count].to;
    patch_emit_jump(at + end, page_position + plan->start + CALL_SIZE + plan->tail_size, out + end);
}

void patch_emit_trampoline(struct patch_plan *plan, const uint8_t page[PAGE_BYTES], int64_t page_position, int64_t at, uint8_t out[PATCH_TRAMPOLINE_MAX])
{
    size_t size;
    if (plan->kind == PATCH_LOAD) {
        size = emit_return_address(out, at, page_position + plan->start + PATCH_SIZE + CALL_SIZE, /*in_rdx=*/false);
        out[size] = plan->load.opcode;
        memcpy(out + size + 1, &plan->load.constant, sizeof plan->load.constant);
        size += PATCH_SIZE;
        (void)emit_enter(out + size);
        return;
    }
    size = emit_return_address(out, at, at + plan->instructions[0].to, plan->is_cpuid);
    if (plan->is_cpuid)
        emit_enter_cpuid(out + size);
    else
        (void)emit_enter(out + size);
    emit_tail(plan, page, page_position, at, out);
}
