/* See cpuid.h. The answers are kept in the kernel heap for all processes. */
#include "personality/linux/process/cpuid.h"

#include "personality/linux/process/process.h"

enum {
    ANSWER_MAX = 64,
    BREAKPOINT_CYCLES = 5000, /* a trap and the way back, rounded up */
};

struct answer {
    _Atomic uint32_t known; /* set last */
    uint32_t leaf, subleaf;
    struct cpuid_result result;
};
struct cpuid_memory {
    _Atomic uint32_t count;  /* answers begun; may run past the array */
    _Atomic uint64_t cycles; /* of the fastest execution */
    struct answer answers[ANSWER_MAX];
};

static uint64_t timestamp(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static struct cpuid_result execute(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    struct cpuid_result result;
    uint64_t start = timestamp();
    __asm__ volatile("cpuid" : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx) : "a"(leaf), "c"(subleaf));
    uint64_t cycles = timestamp() - start;
    if (cycles < memory->cycles)
        memory->cycles = cycles;
    return result;
}

int lx_cpuid_init(void)
{
    struct cpuid_memory *memory = heap_alloc(sizeof *memory);
    if (!memory)
        return -ENOMEM;
    memory->cycles = UINT64_MAX;
    lx_kernel->cpuid = memory;
    /* Every program asks for these two; and a second measurement. */
    (void)lx_cpuid(0, 0);
    (void)lx_cpuid(1, 0);
    return 0;
}

struct cpuid_result lx_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    uint32_t count = memory->count;
    for (uint32_t i = 0; i < count && i < ANSWER_MAX; i++) {
        const struct answer *answer = &memory->answers[i];
        if (answer->leaf == leaf && answer->subleaf == subleaf && answer->known)
            return answer->result;
    }
    struct cpuid_result result = execute(leaf, subleaf);
    if (memory->count >= ANSWER_MAX)
        return result;
    uint32_t place = memory->count++;
    if (place < ANSWER_MAX) {
        struct answer *answer = &memory->answers[place];
        answer->leaf = leaf;
        answer->subleaf = subleaf;
        answer->result = result;
        answer->known = 1;
    }
    return result;
}

void cpuid_serve(struct bly_context *context)
{
    struct cpuid_result result = lx_cpuid((uint32_t)context->rax, (uint32_t)context->rcx);
    context->rax = result.eax;
    context->rbx = result.ebx;
    context->rcx = result.ecx;
    context->rdx = result.edx;
}

bool cpuid_is_slow(void)
{
    struct cpuid_memory *memory = lx_kernel->cpuid;
    return memory->cycles > BREAKPOINT_CYCLES;
}
