/* The processor's features as CPUID tells them, and their names as /proc/cpuinfo has them. */
#include "monitor/processor-features.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct names {
    const char *place;
    uint32_t ignored; /* of no use to a program: the kernel's own, or what the hypervisor says of itself */
    const char *const *names; /* by bit; NULL: none is known */
};

static const char *const leaf_1_ecx[32] = {"pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid", "sdbg",
                                           "fma", "cx16", "xtpr", "pdcm", NULL, "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
                                           "tsc_deadline_timer", "aes", "xsave", "osxsave", "avx", "f16c", "rdrand", "hypervisor"};
static const char *const leaf_1_edx[32] = {"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", NULL, "sep", "mtrr", "pge", "mca", "cmov",
                                           "pat", "pse36", "pn", "clflush", NULL, "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe"};
static const char *const leaf_7_ebx[32] = {"fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", NULL, "smep", "bmi2", "erms", "invpcid", "rtm", "cqm",
                                           NULL, "mpx", "rdt_a", "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", NULL, "clflushopt",
                                           "clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl"};
static const char *const leaf_7_ecx[32] = {"prefetchwt1", "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2", "shstk", "gfni", "vaes",
                                           "vpclmulqdq", "avx512_vnni", "avx512_bitalg", "tme", "avx512_vpopcntdq", NULL, "la57", NULL, NULL, NULL, NULL,
                                           NULL, "rdpid", NULL, "bus_lock_detect", "cldemote", NULL, "movdiri", "movdir64b", "enqcmd", "sgx_lc", "pks"};
static const char *const leaf_7_edx[32] = {[2] = "avx512_4vnniw", [3] = "avx512_4fmaps", [4] = "fsrm", [5] = "uintr", [8] = "avx512_vp2intersect",
                                           [14] = "serialize", [16] = "tsxldtrk", [20] = "ibt", [22] = "amx_bf16", [23] = "avx512_fp16",
                                           [24] = "amx_tile", [25] = "amx_int8"};
static const char *const leaf_7_1_eax[32] = {"sha512", "sm3", "sm4", NULL, "avx_vnni", "avx512_bf16", [7] = "cmpccxadd", [10] = "fzrm", [11] = "fsrs",
                                             [12] = "fsrc", [21] = "amx_fp16", [23] = "avx_ifma"};
static const char *const extended_ecx[32] = {"lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch", "osvw",
                                             "ibs", "xop", "skinit", "wdt", NULL, "lwp", "fma4", "tce", [21] = "tbm", [29] = "monitorx"};
static const char *const extended_edx[32] = {[11] = "syscall", [20] = "nx", [22] = "mmxext", [25] = "fxsr_opt", [26] = "pdpe1gb", [27] = "rdtscp",
                                             [29] = "lm", [30] = "3dnowext", [31] = "3dnow"};

#define BIT(number) (1u << (number))
static const struct names words[MON_FEATURE_WORDS] = {
    {"1 ecx",
     BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(10) | BIT(11) | BIT(14) | BIT(15) | BIT(17) | BIT(18) | BIT(21) | BIT(24) |
         BIT(27) | BIT(31),
     leaf_1_ecx},
    {"1 edx",
     BIT(1) | BIT(2) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(12) | BIT(13) | BIT(14) | BIT(16) | BIT(17) | BIT(18) | BIT(21) | BIT(22) |
         BIT(27) | BIT(28) | BIT(29) | BIT(30) | BIT(31),
     leaf_1_edx},
    {"7.0 ebx", BIT(1) | BIT(2) | BIT(6) | BIT(7) | BIT(10) | BIT(12) | BIT(13) | BIT(15) | BIT(20) | BIT(22) | BIT(25), leaf_7_ebx},
    {"7.0 ecx", BIT(2) | BIT(4) | BIT(13) | BIT(16) | BIT(24) | BIT(30) | BIT(31), leaf_7_ecx},
    {"7.0 edx", ~(BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(8) | BIT(14) | BIT(16) | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25)), leaf_7_edx},
    {"7.1 eax", BIT(22) | BIT(26), leaf_7_1_eax},
    {"80000001 ecx", BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(9) | BIT(10) | BIT(12) | BIT(13) | BIT(22) | BIT(23) | BIT(24) | BIT(26) | BIT(27) | BIT(28) |
                         BIT(30) | BIT(31),
     extended_ecx},
    /* Many repeat leaf 1's. */
    {"80000001 edx", ~(BIT(11) | BIT(22) | BIT(25) | BIT(27) | BIT(29) | BIT(30) | BIT(31)), extended_edx},
};

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
        out_features->words[0] = ecx;
        out_features->words[1] = edx;
        out_features->vector = ecx & bit_OSXSAVE ? read_xcr0() : 0;
    }
    if (__get_cpuid_count(7, 0, &sub_eax, &ebx, &ecx, &edx)) {
        out_features->words[2] = ebx;
        out_features->words[3] = ecx;
        out_features->words[4] = edx;
        if (sub_eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
            out_features->words[5] = eax;
    }
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx)) {
        out_features->words[6] = ecx;
        out_features->words[7] = edx;
    }
}

static void add_name(char *names, size_t size, size_t count, const char *name)
{
    size_t used = strlen(names);
    snprintf(names + used, size - used, "%s%s", count ? ", " : "", name);
}

size_t mon_processor_missing(const struct mon_features *needed, const struct mon_features *present, char *out_names, size_t size)
{
    size_t count = 0;
    out_names[0] = '\0';
    for (unsigned word = 0; word < MON_FEATURE_WORDS; word++) {
        uint32_t missing = (uint32_t)(needed->words[word] & ~present->words[word]) & ~words[word].ignored;
        for (unsigned bit = 0; bit < 32; bit++) {
            char number[32];
            if (!(missing & BIT(bit)))
                continue;
            snprintf(number, sizeof(number), "CPUID %s bit %u", words[word].place, bit);
            add_name(out_names, size, count++, words[word].names[bit] ? words[word].names[bit] : number);
        }
    }
    /* Bits 0 and 1 are always there; AMX's registers come on request. */
    if (needed->vector & ~present->vector)
        add_name(out_names, size, count++, "registers that the kernel keeps (XCR0)");
    return count;
}
