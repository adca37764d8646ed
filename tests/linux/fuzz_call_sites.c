/* Fuzzes the planning and emitting of call-site patches. Input: offset of the call in the page (2 bytes), where its trampoline lies (4), the
 * page. Beside what the sanitizers see: a plan stays within the page and the trampoline, and the jump meets it.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude tests/linux/fuzz_call_sites.c personality/linux/process/patch-code.c \
 *     personality/linux/process/instruction.c
 * Built with MAIN it runs without libFuzzer (fuzz_main.h). */
#include "personality/linux/process/patch-code.h"

#include "fuzz_main.h"

#include <string.h>

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)
#define HEADER 6

static void check_plan(struct patch_plan *plan, const uint8_t *page, int64_t at)
{
    enum { GUARD = 16 };
    uint8_t trampoline[PATCH_TRAMPOLINE_MAX + GUARD], jump[PATCH_SIZE];
    if (plan->kind == PATCH_NONE)
        return;
    if (plan->kind == PATCH_CPUID) {
        REQUIRE(plan->start + 2u <= 4096 && page[plan->start] == 0x0f && page[plan->start + 1] == 0xa2);
        return;
    }
    REQUIRE(plan->start + PATCH_SIZE <= 4096 && plan->trampoline_size <= PATCH_TRAMPOLINE_MAX && plan->trampoline_size >= 15);
    REQUIRE(plan->instruction_count <= PATCH_TAIL_MAX);
    if (plan->kind == PATCH_TAIL) {
        REQUIRE(plan->instruction_count >= 1 && plan->tail_size >= 3 && plan->start + 2u + plan->tail_size <= 4096);
        for (unsigned i = 0; i < plan->instruction_count; i++)
            REQUIRE(plan->instructions[i].from < plan->instructions[i + 1].from && plan->instructions[i].to < plan->instructions[i + 1].to);
        REQUIRE(plan->instructions[plan->instruction_count].from == plan->tail_size);
    }
    memset(trampoline, 0x5a, sizeof trampoline);
    patch_emit_trampoline(plan, page, 0x10000, at, trampoline);
    for (size_t i = plan->trampoline_size; i < sizeof trampoline; i++)
        REQUIRE(trampoline[i] == 0x5a);
    patch_emit_jump(0x10000 + plan->start, at, jump);
    int32_t distance;
    memcpy(&distance, jump + 1, sizeof distance);
    REQUIRE(jump[0] == 0xe9 && 0x10000 + plan->start + PATCH_SIZE + distance == at);
    REQUIRE(!patch_slot_fits(plan, 0x10000 + plan->start, at) || plan->kind != PATCH_TAIL || jump[2] == 0xcc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t call;
    int32_t at;
    if (size < HEADER)
        return 0;
    memcpy(&call, data, sizeof call);
    memcpy(&at, data + 2, sizeof at);
    call %= 4097;
    uint8_t *page = calloc(1, 4096);
    memcpy(page, data + HEADER, size - HEADER < 4096 ? size - HEADER : 4096);
    if (call < 4096)
        page[call] = 0x0f;
    bool is_cpuid = data[5] & 1;
    if (call + 1 < 4096)
        page[call + 1] = is_cpuid ? 0xa2 : 0x05;
    struct patch_plan plan;
    struct patch_load load;
    struct bly_context registers;
    memset(&registers, 0, sizeof registers);
    struct patch_targets targets = {0};
    patch_plan_site(page, call, NULL, &targets, &plan);
    check_plan(&plan, page, at / 2);
    REQUIRE(plan.is_cpuid == (is_cpuid && call + 1 < 4096 && plan.kind == PATCH_TAIL));
    if (is_cpuid && call + 1 < 4096) {
        REQUIRE(plan.kind == PATCH_TAIL || plan.kind == PATCH_CPUID);
        patch_plan_breakpoint(call, &plan);
        check_plan(&plan, page, at / 2);
    } else if (call >= PATCH_SIZE + 1) {
        uint32_t constant;
        memcpy(&constant, page + call - 4, sizeof constant);
        registers.rax = registers.rdx = registers.rsi = registers.rdi = constant;
        bool found = patch_find_load(page + call - PATCH_SIZE - 1, &registers, &load);
        patch_plan_site(page, call, found ? &load : NULL, &targets, &plan);
        REQUIRE(!found || plan.kind == PATCH_LOAD);
        check_plan(&plan, page, at / 2);
    }
    free(page);
    return 0;
}

#ifdef MAIN
static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    static const char *const tails[] = {
        "\x48\x3d\x01\xf0\xff\xff\x73\x01\xc3", "\x85\xc0\x78\x05\xc3", "\xc3\x0f\x1f\x44\x00\x00", "\x48\x8b\x0d\x10\x20\x30\x40\xc3", "\x89\xc2\x89\xd0\xc3",
    };
    memset(data, 0x90, HEADER + 4096);
    uint16_t call = (uint16_t)(rand() % 4097);
    memcpy(data, &call, sizeof call);
    for (int i = 2; i < HEADER; i++)
        data[i] = (uint8_t)rand();
    const char *tail = tails[round % 5];
    size_t size = strlen(tail);
    if (call + 2u + size <= 4096)
        memcpy(data + HEADER + call + 2, tail, size);
    if (round % 3 == 0 && call >= PATCH_SIZE)
        memcpy(data + HEADER + call - PATCH_SIZE, "\xb8\x27\x00\x00\x00", PATCH_SIZE);
    return HEADER + 4096;
}
#endif
