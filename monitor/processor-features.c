/* The processor's features as CPUID tells them, their names, and what each level of x86-64 has of
 * them. */
#include "monitor/processor-features.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum use { PROGRAM, SYSTEM, QUIET };
static const struct feature {
    uint8_t word, bit, level, use;
    const char *name;
} features_known[] = {
#define BLY_FEATURE(word, bit, name, level, use) {BLY_FEATURES_##word, bit, level, use, name},
#include <bailey/processor.def>
#undef BLY_FEATURE
};
#define KNOWN_COUNT (sizeof(features_known) / sizeof(features_known[0]))

static const char *const word_names[MON_FEATURE_WORDS] = {
    [BLY_FEATURES_1_ECX] = "1 ecx",
    [BLY_FEATURES_1_EDX] = "1 edx",
    [BLY_FEATURES_7_EBX] = "7.0 ebx",
    [BLY_FEATURES_7_ECX] = "7.0 ecx",
    [BLY_FEATURES_7_EDX] = "7.0 edx",
    [BLY_FEATURES_7_1_EAX] = "7.1 eax",
    [BLY_FEATURES_80000001_ECX] = "80000001 ecx",
    [BLY_FEATURES_80000001_EDX] = "80000001 edx",
};
static const struct {
    uint64_t components;
    const char *name;
} registers[] = {{0x4, "the registers of AVX"},
                 {0xe0, "the registers of AVX-512"},
                 {0x200, "the register of protection keys"}};

/* What the XSAVE image of all of today's components takes (Intel SDM 1, 13.4: AMX's end). */
#define VECTOR_SIZE_MAX 11008u
#define EXTENDED 0x80000000u

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

void mon_processor_features(struct mon_features *out_features)
{
    uint32_t eax, ebx, ecx, edx, sub_eax;
    *out_features = (struct mon_features){0};
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
        out_features->words[BLY_FEATURES_1_ECX] = ecx;
        out_features->words[BLY_FEATURES_1_EDX] = edx;
        out_features->vector = ecx & bit_OSXSAVE ? read_xcr0() : 0;
    }
    if (__get_cpuid_count(7, 0, &sub_eax, &ebx, &ecx, &edx)) {
        out_features->words[BLY_FEATURES_7_EBX] = ebx;
        out_features->words[BLY_FEATURES_7_ECX] = ecx;
        out_features->words[BLY_FEATURES_7_EDX] = edx;
        if (sub_eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
            out_features->words[BLY_FEATURES_7_1_EAX] = eax;
    }
    if (__get_cpuid(EXTENDED + 1, &eax, &ebx, &ecx, &edx)) {
        out_features->words[BLY_FEATURES_80000001_ECX] = ecx;
        out_features->words[BLY_FEATURES_80000001_EDX] = edx;
    }
}

void mon_processor_level(unsigned level, struct mon_features *out_features)
{
    *out_features = (struct mon_features){.vector = level >= 4   ? BLY_VECTOR_AVX512
                                                    : level == 3 ? BLY_VECTOR_AVX
                                                                 : BLY_VECTOR_BASE};
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (features_known[i].level && features_known[i].level <= level)
            out_features->words[features_known[i].word] |= 1u << features_known[i].bit;
}

void mon_processor_limit(struct mon_features *features, unsigned level)
{
    struct mon_features shown;
    if (!level)
        return;
    mon_processor_level(level, &shown);
    for (unsigned i = 0; i < MON_FEATURE_WORDS; i++)
        features->words[i] &= shown.words[i];
    features->vector &= shown.vector;
}

bool mon_processor_can_fault(void)
{
    /* arch_prctl(2). It holds for this thread only; nothing in between asks the processor. */
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) < 0)
        return false;
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    return true;
}

/* ---- Differences ---- */

static const struct feature *find(unsigned word, unsigned bit)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (features_known[i].word == word && features_known[i].bit == bit)
            return &features_known[i];
    return NULL;
}

static void add_name(char *names, size_t size, size_t count, const char *name)
{
    size_t used = strlen(names);
    snprintf(names + used, size - used, "%s%s", count ? ", " : "", name);
}

/* A bit of which nothing is known here may be something that programs use. */
static size_t missing_in_word(unsigned word, uint32_t missing, size_t count, char *names,
                              size_t size)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        const struct feature *feature = missing >> bit & 1 ? find(word, bit) : NULL;
        char number[32];
        if (!(missing >> bit & 1) || (feature && feature->use != PROGRAM))
            continue;
        snprintf(number, sizeof(number), "CPUID %s bit %u", word_names[word], bit);
        add_name(names, size, count++, feature ? feature->name : number);
    }
    return count;
}

size_t mon_processor_missing(const struct mon_features *needed, const struct mon_features *present,
                             char *out_names, size_t size)
{
    size_t count = 0;
    out_names[0] = '\0';
    for (unsigned word = 0; word < MON_FEATURE_WORDS; word++)
        count = missing_in_word(word, (uint32_t)(needed->words[word] & ~present->words[word]),
                                count, out_names, size);
    uint64_t lost = needed->vector & ~present->vector;
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
        if (lost & registers[i].components)
            add_name(out_names, size, count++, registers[i].name);
    return count;
}

/* ---- Answers ---- */

/* Sizes are promises in the other direction: code that saves registers with XSAVE learns here how
 * much room it needs, and after a move the instruction may write more than it did before. So they
 * are those of the largest processor. */
static void limit_vector_leaf(struct bly_cpuid *answer, uint64_t vector, unsigned level)
{
    const struct bly_cpuid was = *answer;
    *answer = (struct bly_cpuid){.leaf = was.leaf, .subleaf = was.subleaf};
    if (level < 3)
        return; /* no XSAVE at all */
    if (was.subleaf == 0) {
        answer->eax = (uint32_t)vector;
        answer->ebx = answer->ecx = VECTOR_SIZE_MAX;
    } else if (was.subleaf == 1 && level >= 4) {
        answer->eax =
            was.eax &
            0x7; /* XSAVEOPT, XSAVEC, XGETBV with ECX 1: all that have AVX-512 have them */
        answer->ebx = VECTOR_SIZE_MAX;
    } else if (was.subleaf > 1 && was.subleaf < 63 && vector >> was.subleaf & 1) {
        *answer = was;
    }
}

/* Vendor and model, caches, topology. */
static bool is_whole_leaf(uint32_t leaf)
{
    static const uint32_t leafs[] = {0,
                                     2,
                                     4,
                                     0xb,
                                     0x1f,
                                     EXTENDED,
                                     EXTENDED + 2,
                                     EXTENDED + 3,
                                     EXTENDED + 4,
                                     EXTENDED + 5,
                                     EXTENDED + 6,
                                     EXTENDED + 0x1d,
                                     EXTENDED + 0x26};
    for (size_t i = 0; i < sizeof(leafs) / sizeof(leafs[0]); i++)
        if (leafs[i] == leaf)
            return true;
    return false;
}

bool mon_processor_shows_leaf(uint32_t leaf)
{
    return is_whole_leaf(leaf) || leaf == 1 || leaf == 7 || leaf == 0xd || leaf == EXTENDED + 1 ||
           leaf == EXTENDED + 8;
}

void mon_processor_limit_answer(struct bly_cpuid *answer, unsigned level)
{
    struct mon_features shown;
    const struct bly_cpuid was = *answer;
    mon_processor_level(level, &shown);
    if (is_whole_leaf(was.leaf))
        return;
    if (was.leaf == 0xd) {
        limit_vector_leaf(answer, shown.vector, level);
        return;
    }
    *answer = (struct bly_cpuid){.leaf = was.leaf, .subleaf = was.subleaf};
    switch (was.leaf) {
    case 1:
        answer->eax = was.eax;
        answer->ebx = was.ebx;
        answer->ecx = was.ecx & (uint32_t)shown.words[BLY_FEATURES_1_ECX];
        answer->edx = was.edx & (uint32_t)shown.words[BLY_FEATURES_1_EDX];
        break;
    case 7:
        if (was.subleaf)
            break;
        answer->ebx = was.ebx & (uint32_t)shown.words[BLY_FEATURES_7_EBX];
        answer->ecx = was.ecx & (uint32_t)shown.words[BLY_FEATURES_7_ECX];
        answer->edx = was.edx & (uint32_t)shown.words[BLY_FEATURES_7_EDX];
        break;
    case EXTENDED + 1:
        answer->eax = was.eax;
        answer->ecx = was.ecx & (uint32_t)shown.words[BLY_FEATURES_80000001_ECX];
        answer->edx = was.edx & (uint32_t)shown.words[BLY_FEATURES_80000001_EDX];
        break;
    case EXTENDED + 8:
        answer->eax = was.eax; /* widths of addresses, number of threads */
        answer->ecx = was.ecx;
        break;
    }
}
