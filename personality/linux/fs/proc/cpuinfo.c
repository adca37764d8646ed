/* /proc/cpuinfo, from CPUID as the program itself would see it. */
#include "personality/linux/fs/proc/proc.h"
#include "personality/linux/process/cpuid.h"

#include <bailey/processor.h>

/* In Linux's order. */
enum use { PROGRAM, SYSTEM, QUIET };
static const struct { uint8_t word, bit, use; const char *name; } features[] = {
#define BLY_FEATURE(word, bit, name, level, use) { BLY_FEATURES_##word, bit, use, name },
#include <bailey/processor.def>
#undef BLY_FEATURE
};

static void add_flags(struct text *out, const uint32_t words[BLY_FEATURE_WORDS])
{
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        if (features[i].use != QUIET && words[features[i].word] >> features[i].bit & 1)
            text_add(out, " %s", features[i].name);
}

int proc_show_cpuinfo(const struct pseudo_node *node, struct text *out)
{
    struct bly_system_info info;
    int problem = bly->system_query(&info);
    if (problem)
        return problem;
    struct bly_cpuid zero = lx_cpuid(0, 0), one = lx_cpuid(1, 0), seven = zero.eax >= 7 ? lx_cpuid(7, 0) : (struct bly_cpuid){ 0 }, top = lx_cpuid(0x80000000u, 0);
    struct bly_cpuid extended = top.eax >= 0x80000001u ? lx_cpuid(0x80000001u, 0) : (struct bly_cpuid){ 0 };
    uint32_t vendor[4] = { zero.ebx, zero.edx, zero.ecx, 0 }, brand[13] = { 0 };
    for (uint32_t i = 0; i < 3 && top.eax >= 0x80000004u; i++) {
        struct bly_cpuid part = lx_cpuid(0x80000002u + i, 0);
        memcpy(&brand[i * 4], &part.eax, 4 * sizeof part.eax);
    }
    const char *model_name = (const char *)brand;
    while (*model_name == ' ')
        model_name++;
    uint32_t family = (one.eax >> 8 & 15) + ((one.eax >> 8 & 15) == 15 ? one.eax >> 20 & 255 : 0), model = (one.eax >> 4 & 15) | (one.eax >> 12 & 0xf0);
    uint32_t cache = top.eax >= 0x80000006u ? lx_cpuid(0x80000006u, 0).ecx >> 16 : 0, widths = top.eax >= 0x80000008u ? lx_cpuid(0x80000008u, 0).eax : 0x3028;
    const uint32_t words[BLY_FEATURE_WORDS] = {
        [BLY_FEATURES_1_ECX] = one.ecx, [BLY_FEATURES_1_EDX] = one.edx, [BLY_FEATURES_7_EBX] = seven.ebx, [BLY_FEATURES_7_ECX] = seven.ecx,
        [BLY_FEATURES_7_EDX] = seven.edx, [BLY_FEATURES_7_1_EAX] = seven.eax ? lx_cpuid(7, 1).eax : 0,
        [BLY_FEATURES_80000001_ECX] = extended.ecx, [BLY_FEATURES_80000001_EDX] = extended.edx,
    };
    struct text flags = { 0 };
    add_flags(&flags, words);
    for (uint32_t i = 0; i < info.cpu_count; i++) {
        text_add(out, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\nstepping\t: %u\ncpu MHz\t\t: 2000.000\ncache size\t: %u KB\n", i, (const char *)vendor, family, model,
                 *model_name ? model_name : "unknown", one.eax & 15, cache);
        text_add(out, "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\napicid\t\t: %u\ninitial apicid\t: %u\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\nwp\t\t: yes\nflags\t\t:",
                 info.cpu_count, i, info.cpu_count, i, i, zero.eax);
        text_bytes(out, flags.data, flags.size);
        text_add(out, "\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: %u\ncache_alignment\t: %u\naddress sizes\t: %u bits physical, %u bits virtual\npower management:\n\n", (one.ebx >> 8 & 255) * 8, (one.ebx >> 8 & 255) * 8,
                 widths & 255, widths >> 8 & 255);
    }
    text_free(&flags);
    return 0;
}
