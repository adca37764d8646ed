/* See cpuid.h. The answers are kept in the kernel heap for all processes. */
#include "personality/linux/process/cpuid.h"

#include "personality/linux/process/process.h"

enum { ANSWER_MAX = 192 };

struct answer {
    _Atomic uint32_t known; /* set last */
    struct bly_cpuid cpuid;
};
struct cpuid_memory {
    _Atomic uint32_t count; /* answers begun; may run past the array */
    struct answer answers[ANSWER_MAX];
};

static void remember(const struct bly_cpuid *cpuid)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    if (memory->count >= ANSWER_MAX)
        return;
    uint32_t place = memory->count++;
    if (place < ANSWER_MAX) {
        memory->answers[place].cpuid = *cpuid;
        memory->answers[place].known = 1;
    }
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

struct bly_cpuid lx_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    if (!bly_cpuid_has_subleafs(leaf))
        subleaf = 0;
    uint32_t count = memory->count;
    for (uint32_t i = 0; i < count && i < ANSWER_MAX; i++) {
        const struct answer *answer = &memory->answers[i];
        if (answer->cpuid.leaf == leaf && answer->cpuid.subleaf == subleaf && answer->known)
            return answer->cpuid;
    }
    struct bly_cpuid cpuid = {.leaf = leaf, .subleaf = subleaf};
    __asm__ volatile("cpuid" : "=a"(cpuid.eax), "=b"(cpuid.ebx), "=c"(cpuid.ecx), "=d"(cpuid.edx) : "a"(leaf), "c"(subleaf));
    remember(&cpuid);
    return cpuid;
}

void cpuid_serve(struct bly_context *context)
{
    struct bly_cpuid result = lx_cpuid((uint32_t)context->rax, (uint32_t)context->rcx);
    context->rax = result.eax;
    context->rbx = result.ebx;
    context->rcx = result.ecx;
    context->rdx = result.edx;
}
