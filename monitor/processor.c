/* What CPUID says, for the start information. In virtual machines the instruction traps and takes microseconds, and C libraries execute it dozens
 * of times a start; so it is asked once and kept beside the sandboxes' state, which does not outlive the host's boot. The processor
 * is asked for one leaf all the same: answers of another one are not used. */
#include "monitor/sandbox.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/text.h"

#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <x86intrin.h>

enum {
    FILE_VERSION = 1,
    BREAKPOINT_CYCLES = 5000, /* what answering by a breakpoint costs, rounded up */
    SUBLEAF_MAX = 8,
    BASIC_MAX = 0x24, EXTENDED_MAX = 0x28,
};
#define EXTENDED 0x80000000u

struct kept {
    uint32_t version, count;
    uint64_t cycles; /* of the fastest execution */
    struct bly_cpuid answers[MON_CPUID_MAX];
};

static void ask(struct kept *kept, uint32_t leaf, uint32_t subleaf)
{
    if (kept->count == MON_CPUID_MAX)
        return;
    struct bly_cpuid *answer = &kept->answers[kept->count++];
    *answer = (struct bly_cpuid){.leaf = leaf, .subleaf = subleaf};
    uint64_t start = __rdtsc();
    __cpuid_count(leaf, subleaf, answer->eax, answer->ebx, answer->ecx, answer->edx);
    uint64_t cycles = __rdtsc() - start;
    if (cycles < kept->cycles)
        kept->cycles = cycles;
}

static void ask_leaf(struct kept *kept, uint32_t leaf)
{
    ask(kept, leaf, 0);
    const struct bly_cpuid first = kept->answers[kept->count - 1];
    if (!bly_cpuid_has_subleafs(leaf))
        return;
    for (uint32_t i = 1; i < SUBLEAF_MAX; i++) {
        const struct bly_cpuid *last = &kept->answers[kept->count - 1];
        bool caches = leaf == 4 || leaf == EXTENDED + 0x1d, topology = leaf == 0xb || leaf == 0x1f;
        /* Intel SDM, volume 2, CPUID: where each of them ends. */
        if ((caches && !(last->eax & 31)) || (topology && !(last->ecx & 0xff00)) || (leaf == 7 && i > first.eax))
            return;
        ask(kept, leaf, i);
    }
}

static void ask_all(struct kept *kept)
{
    *kept = (struct kept){.version = FILE_VERSION, .cycles = UINT64_MAX};
    ask(kept, 1, 0);
    ask(kept, 0, 0);
    uint32_t highest = kept->answers[1].eax;
    if (kept->cycles <= BREAKPOINT_CYCLES)
        return; /* nobody will need more */
    for (uint32_t leaf = 2; leaf <= highest && leaf <= BASIC_MAX; leaf++)
        ask_leaf(kept, leaf);
    ask(kept, EXTENDED, 0);
    highest = kept->answers[kept->count - 1].eax;
    for (uint32_t leaf = EXTENDED + 1; leaf <= highest && leaf <= EXTENDED + EXTENDED_MAX; leaf++)
        ask_leaf(kept, leaf);
}

/* The same model with the same features. EBX tells on which CPU one is. */
static bool is_this_processor(const struct bly_cpuid *one)
{
    uint32_t eax, ebx, ecx, edx;
    __cpuid(1, eax, ebx, ecx, edx);
    return one->leaf == 1 && one->eax == eax && one->ecx == ecx && one->edx == edx;
}

static bool read_kept(const char *path, struct kept *out)
{
    cleanup_free char *data = NULL;
    size_t size;
    const size_t head = offsetof(struct kept, answers);
    if (path_read_file(AT_FDCWD, path, sizeof(*out), &data, &size) < 0 || size < head)
        return false;
    memcpy(out, data, size);
    return out->version == FILE_VERSION && out->count >= 1 && out->count <= MON_CPUID_MAX &&
           size == head + out->count * sizeof(out->answers[0]) && is_this_processor(&out->answers[0]);
}

size_t mon_processor_answers(const char *state_path, struct bly_cpuid out_answers[MON_CPUID_MAX], bool *out_slow)
{
    struct kept kept;
    cleanup_free char *path = state_path ? text_print("%s/../.processor", state_path) : NULL;
    if (!path || !read_kept(path, &kept)) {
        ask_all(&kept);
        /* Not being able to keep them costs the next start a fraction of a millisecond. */
        if (path)
            (void)!path_write_file(AT_FDCWD, path, &kept, offsetof(struct kept, answers) + kept.count * sizeof(kept.answers[0]), 0600);
    }
    *out_slow = kept.cycles > BREAKPOINT_CYCLES;
    memcpy(out_answers, kept.answers, kept.count * sizeof(kept.answers[0]));
    return kept.count;
}
