/* The length of x86-64 instructions, by the opcode maps of Intel's manual (volume 2, appendix A). */
#include "personality/linux/process/instruction.h"

/* What follows the opcode: M a ModRM byte, B one byte, W two, Z an operand's two or four, D four, V as Z but eight with REX.W, O an address,
 * E two and one, m ModRM and B, c ModRM and Z, G ModRM, and Z or B too for `test`; P a prefix; '-' nothing; x not in 64-bit code. */
static const char one_byte_map[256 + 1] =
    "MMMMBZxxMMMMBZxx" "MMMMBZxxMMMMBZxx" "MMMMBZPxMMMMBZPx" "MMMMBZPxMMMMBZPx"
    "PPPPPPPPPPPPPPPP" "----------------" "xxxMPPPPZcBm----" "BBBBBBBBBBBBBBBB"
    "mcxmMMMMMMMMMMMM" "----------x-----" "OOOO----BZ------" "BBBBBBBBVVVVVVVV"
    "mmW-xxmcE-W--Bx-" "MMMMxxx-MMMMMMMM" "BBBBBBBBDDxB----" "P-PP--GG------MM";
/* After 0f. */
static const char two_byte_map[256 + 1] =
    "MMMMx-----x-xM-x" "MMMMMMMMMMMMMMMM" "MMMMxxxxMMMMMMMM" "------x-xxxxxxxx"
    "MMMMMMMMMMMMMMMM" "MMMMMMMMMMMMMMMM" "MMMMMMMMMMMMMMMM" "mmmmMMM-MMxxMMMM"
    "DDDDDDDDDDDDDDDD" "MMMMMMMMMMMMMMMM" "---MmMxx---MmMMM" "MMMMMMMMMMmMMMMM"
    "MMmMmmmM--------" "MMMMMMMMMMMMMMMM" "MMMMMMMMMMMMMMMM" "MMMMMMMMMMMMMMMM";

size_t instruction_modrm_size(const uint8_t *at, size_t size, bool *out_relative)
{
    *out_relative = false;
    if (size < 1)
        return 0;
    unsigned mode = at[0] >> 6, memory = at[0] & 7;
    size_t length = 1;
    if (mode == 3)
        return length;
    if (memory == 4) {
        if (size < 2)
            return 0;
        if (mode == 0 && (at[1] & 7) == 5)
            length += 4;
        length++;
    } else if (mode == 0 && memory == 5) {
        *out_relative = true;
        length += 4;
    }
    length += mode == 1 ? 1 : mode == 2 ? 4 : 0;
    return length <= size ? length : 0;
}

/* VEX and EVEX: `map` and the opcode at `at`. */
static size_t vector_size(unsigned map, const uint8_t *code, size_t size, size_t at)
{
    bool relative;
    if (at >= size || map < 1 || map > 3)
        return 0;
    unsigned opcode = code[at++];
    if (map == 1 && opcode == 0x77)
        return at;
    size_t modrm = instruction_modrm_size(code + at, size - at, &relative);
    bool immediate = map == 3 || (map == 1 && two_byte_map[opcode] == 'm');
    return modrm && at + modrm + immediate <= size ? at + modrm + immediate : 0;
}

size_t instruction_size(const uint8_t *code, size_t size)
{
    size_t at = 0;
    bool narrow = false, wide = false, short_address = false, relative;
    if (size > INSTRUCTION_MAX)
        size = INSTRUCTION_MAX;
    while (at < size && one_byte_map[code[at]] == 'P' && (code[at] & 0xf0) != 0x40) {
        narrow |= code[at] == 0x66;
        short_address |= code[at] == 0x67;
        at++;
    }
    if (at < size && (code[at] & 0xf0) == 0x40)
        wide = code[at++] & 8;
    if (at >= size)
        return 0;
    unsigned opcode = code[at++];
    char form = one_byte_map[opcode];
    if (opcode == 0xc5)
        return at < size ? vector_size(1, code, size, at + 1) : 0;
    if (opcode == 0xc4)
        return at < size ? vector_size(code[at] & 31, code, size, at + 2) : 0;
    if (opcode == 0x62)
        return at < size ? vector_size(code[at] & 7, code, size, at + 3) : 0;
    if (opcode == 0x0f) {
        if (at >= size)
            return 0;
        opcode = code[at++];
        form = two_byte_map[opcode];
        if (opcode == 0x38 || opcode == 0x3a) {
            at++;
            form = opcode == 0x38 ? 'M' : 'm';
        }
        opcode = 0x0f00;
    }
    if (form == 'x' || form == 'P' || at > size)
        return 0;
    size_t rest = 0, operand = narrow ? 2 : 4;
    if (form == 'G')
        rest = at < size && (code[at] >> 3 & 7) < 2 ? (opcode == 0xf6 ? 1 : operand) : 0;
    if (form == 'M' || form == 'm' || form == 'c' || form == 'G') {
        size_t modrm = instruction_modrm_size(code + at, size - at, &relative);
        if (!modrm)
            return 0;
        at += modrm;
    }
    switch (form) {
    case 'm': case 'B': rest = 1; break;
    case 'W': rest = 2; break;
    case 'E': rest = 3; break;
    case 'D': rest = 4; break;
    case 'Z': case 'c': rest = operand; break;
    case 'V': rest = wide ? 8 : operand; break;
    case 'O': rest = short_address ? 4 : 8; break;
    }
    return at + rest <= size ? at + rest : 0;
}

static size_t known_size(const uint8_t *code, size_t size, size_t at, uint8_t *sizes)
{
    if (sizes[at] == INSTRUCTION_SIZE_UNKNOWN)
        sizes[at] = (uint8_t)instruction_size(code + at, size - at);
    return sizes[at];
}

bool instruction_begins(const uint8_t *code, size_t size, size_t at, uint8_t *sizes)
{
    enum { FARTHEST = 72, NEAREST = 56, WANTED = 6 };
    enum { NOWHERE, ARRIVES, MISSES } leads_to[FARTHEST + 1]; /* by distance from `at` */
    unsigned arrived = 0;
    if (at < FARTHEST)
        return false;
    for (size_t distance = 1; distance <= FARTHEST; distance++) {
        size_t step = known_size(code, size, at - distance, sizes);
        leads_to[distance] = !step ? NOWHERE : step > distance ? MISSES : step == distance ? ARRIVES : leads_to[distance - step];
        if (distance < NEAREST)
            continue;
        if (leads_to[distance] == MISSES)
            return false;
        arrived += leads_to[distance] == ARRIVES; /* else it began within an instruction, and what came out is no code */
    }
    return arrived >= WANTED && instruction_size(code + at, size - at) != 0;
}
