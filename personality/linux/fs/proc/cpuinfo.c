/* /proc/cpuinfo, from CPUID as the program itself would see it. */
#include "personality/linux/fs/proc/proc.h"
#include "personality/linux/process/cpuid.h"

/* Names by bit; NULL: none. As Linux prints them, in its order of words. */
static const char *const leaf1_d[32] = { "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", NULL, "sep", "mtrr", "pge", "mca", "cmov", "pat", "pse36", "pn", "clflush", NULL,
                                         "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe" };
static const char *const ext1_d[32] = { [11] = "syscall", [19] = "mp", [20] = "nx", [22] = "mmxext", [25] = "fxsr_opt", [26] = "pdpe1gb", [27] = "rdtscp", [29] = "lm", [30] = "3dnowext", [31] = "3dnow" };
static const char *const leaf1_c[32] = { "pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid", NULL, "fma", "cx16", "xtpr", "pdcm", NULL, "pcid", "dca", "sse4_1",
                                         "sse4_2", "x2apic", "movbe", "popcnt", "tsc_deadline_timer", "aes", "xsave", NULL, "avx", "f16c", "rdrand", "hypervisor" };
static const char *const ext1_c[32] = { "lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", NULL, "lwp", "fma4",
                                        "tce", NULL, "nodeid_msr", NULL, "tbm", "topoext" };
static const char *const leaf7_b[32] = { "fsgsbase", "tsc_adjust", NULL, "bmi1", "hle", "avx2", NULL, "smep", "bmi2", "erms", "invpcid", "rtm", "cqm", NULL, "mpx", "rdt_a", "avx512f", "avx512dq", "rdseed",
                                         "adx", "smap", "avx512ifma", NULL, "clflushopt", "clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl" };
static const char *const leaf7_c[32] = { NULL, "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2", NULL, "gfni", "vaes", "vpclmulqdq", "avx512_vnni", "avx512_bitalg", NULL, "avx512_vpopcntdq", NULL, "la57",
                                         [22] = "rdpid", [25] = "cldemote", [27] = "movdiri", [28] = "movdir64b" };

static void add_flags(struct text *out, const char *const names[32], uint32_t bits)
{
    for (int i = 0; i < 32; i++)
        if (names[i] && bits >> i & 1)
            text_add(out, " %s", names[i]);
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
    struct text flags = { 0 };
    add_flags(&flags, leaf1_d, one.edx);
    add_flags(&flags, ext1_d, extended.edx);
    add_flags(&flags, leaf1_c, one.ecx);
    add_flags(&flags, ext1_c, extended.ecx);
    add_flags(&flags, leaf7_b, seven.ebx);
    add_flags(&flags, leaf7_c, seven.ecx);
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
