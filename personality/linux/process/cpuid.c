/* See cpuid.h. The answers are kept in the kernel heap for all processes. */
#include "personality/linux/process/cpuid.h"

#include "personality/linux/process/process.h"

enum { ANSWER_MAX = 192, PLACES = 512 };

/* C libraries ask for some leaves dozens of times while they start, hence by hash. */
struct cpuid_memory {
    _Atomic uint32_t count; /* answers begun; may run past the array */
    _Atomic uint8_t places[PLACES]; /* 1 more than the answer's index, set last; 0: none. An answer whose place is taken has the next */
    struct bly_cpuid answers[ANSWER_MAX];
};

static uint32_t first_place(uint32_t leaf, uint32_t subleaf)
{
    return (leaf + (leaf >> 31) * 64 + subleaf * 128) % PLACES;
}

static void remember(const struct bly_cpuid *cpuid)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    if (memory->count >= ANSWER_MAX)
        return;
    uint32_t index = memory->count++;
    if (index >= ANSWER_MAX)
        return;
    memory->answers[index] = *cpuid;
    uint8_t empty = 0;
    for (uint32_t at = first_place(cpuid->leaf, cpuid->subleaf);
         !__atomic_compare_exchange_n((uint8_t *)&memory->places[at], &empty, (uint8_t)(index + 1), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
         at = (at + 1) % PLACES)
        empty = 0;
}

int lx_cpuid_init(void)
{
    if (!(lx_kernel->cpuid = heap_alloc(sizeof(struct cpuid_memory))))
        return -ENOMEM;
    const struct bly_cpuid *given = (const void *)bly_start_string(start_info, start_info->cpuid);
    for (uint32_t i = 0; i < start_info->cpuid_count; i++)
        remember(&given[i]);
    return 0;
}

struct bly_cpuid cpuid_unlimited(uint32_t leaf, uint32_t subleaf)
{
    struct bly_cpuid cpuid = {.leaf = leaf, .subleaf = subleaf};
    __asm__ volatile("cpuid" : "=a"(cpuid.eax), "=b"(cpuid.ebx), "=c"(cpuid.ecx), "=d"(cpuid.edx) : "a"(leaf), "c"(subleaf));
    return cpuid;
}

struct bly_cpuid cpuid_here(uint32_t leaf, uint32_t subleaf)
{
    const struct bly_cpuid *given = (const void *)bly_start_string(start_info, start_info->cpuid);
    for (uint32_t i = 0; i < start_info->cpuid_count; i++)
        if (given[i].leaf == leaf && given[i].subleaf == subleaf)
            return given[i];
    return start_info->flags & BLY_START_CPUID_LIMITED ? (struct bly_cpuid){.leaf = leaf, .subleaf = subleaf} : cpuid_unlimited(leaf, subleaf);
}

struct bly_cpuid lx_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    if (!bly_cpuid_has_subleafs(leaf))
        subleaf = 0;
    uint32_t index;
    for (uint32_t at = first_place(leaf, subleaf); (index = memory->places[at]); at = (at + 1) % PLACES) {
        const struct bly_cpuid *answer = &memory->answers[index - 1];
        if (answer->leaf == leaf && answer->subleaf == subleaf)
            return *answer;
    }
    struct bly_cpuid cpuid = cpuid_here(leaf, subleaf);
    if (!(start_info->flags & BLY_START_CPUID_LIMITED))
        remember(&cpuid);
    return cpuid;
}

bool cpuid_fault(struct bly_context *context)
{
    enum { PREFIX_MAX = 13 };
    if (!(start_info->flags & BLY_START_CPUID_FAULTS))
        return false;
    uint8_t code = 0;
    uint64_t at = context->rip;
    /* Prefixes mean nothing here, as long as the instruction is not longer than one may be; LOCK is another exception. */
    for (int i = 0; i <= PREFIX_MAX; i++, at++) {
        if (guest_read(&code, (const void *)at, 1) < 0)
            return false;
        if (code != 0x66 && code != 0x67 && code != 0xf2 && code != 0xf3 && (code & 0xf0) != 0x40 && code != 0x2e && code != 0x36 && code != 0x3e &&
            code != 0x26 && code != 0x64 && code != 0x65)
            break;
    }
    if (code != 0x0f || guest_read(&code, (const void *)(at + 1), 1) < 0 || code != 0xa2)
        return false;
    cpuid_serve(context);
    context->rip = at + 2;
    return true;
}

void cpuid_serve(struct bly_context *context)
{
    struct bly_cpuid result = lx_cpuid((uint32_t)context->rax, (uint32_t)context->rcx);
    context->rax = result.eax;
    context->rbx = result.ebx;
    context->rcx = result.ecx;
    context->rdx = result.edx;
}
