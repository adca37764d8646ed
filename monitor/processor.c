/* What CPUID says, for the start information. In virtual machines the instruction traps and takes microseconds, and C libraries execute it dozens
 * of times a start; so it is asked once and kept beside the sandboxes' state, which does not outlive the host's boot. The processor
 * is asked for one leaf all the same: answers of another one are not used. */
#include "monitor/sandbox.h"

#include "monitor/processor-features.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/text.h"

#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <x86intrin.h>

enum {
    FILE_VERSION = 3,
    BREAKPOINT_CYCLES = 5000, /* what answering by a breakpoint costs, rounded up */
    SUBLEAF_MAX = 8, STATE_MAX = 32, /* components of the extended state */
    BASIC_MAX = 0x24, EXTENDED_MAX = 0x28,
};
#define EXTENDED 0x80000000u

struct kept {
    uint32_t version, count;
    uint64_t cycles; /* of the fastest execution */
    struct bly_cpuid answers[MON_CPUID_MAX];
};

static const struct bly_cpuid *find(const struct kept *kept, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < kept->count; i++)
        if (kept->answers[i].leaf == leaf && kept->answers[i].subleaf == subleaf)
            return &kept->answers[i];
    return NULL;
}

/* What is `known` (NULL: nothing) is not asked again. */
static struct bly_cpuid ask(struct kept *kept, const struct kept *known, uint32_t leaf, uint32_t subleaf)
{
    const struct bly_cpuid *found = known ? find(known, leaf, subleaf) : NULL;
    struct bly_cpuid answer = {.leaf = leaf, .subleaf = subleaf};
    if (found) {
        answer = *found;
    } else {
        uint64_t start = __rdtsc();
        __cpuid_count(leaf, subleaf, answer.eax, answer.ebx, answer.ecx, answer.edx);
        uint64_t cycles = __rdtsc() - start;
        if (cycles < kept->cycles)
            kept->cycles = cycles;
    }
    if (kept->count < MON_CPUID_MAX)
        kept->answers[kept->count++] = answer;
    return answer;
}

static void ask_leaf(struct kept *kept, const struct kept *known, uint32_t leaf)
{
    const struct bly_cpuid first = ask(kept, known, leaf, 0);
    struct bly_cpuid last = first;
    bool states = leaf == 0xd;
    /* A leaf that says nothing of the whole says nothing of parts: these would fill the table before the leaves that are asked for come. */
    if (!bly_cpuid_has_subleafs(leaf) || !(first.eax | first.ebx | first.ecx | first.edx))
        return;
    for (uint32_t i = 1; i < (states ? STATE_MAX : SUBLEAF_MAX); i++) {
        if (i >= SUBLEAF_MAX && !(first.eax >> i & 1))
            continue;
        bool caches = leaf == 4 || leaf == EXTENDED + 0x1d, topology = leaf == 0xb || leaf == 0x1f;
        /* Intel SDM, volume 2, CPUID: where each of them ends. */
        if ((caches && !(last.eax & 31)) || (topology && !(last.ecx & 0xff00)) || (leaf == 7 && i > first.eax))
            return;
        last = ask(kept, known, leaf, i);
    }
}

static void ask_range(struct kept *kept, const struct kept *known, uint32_t first, uint32_t most, bool limited)
{
    uint32_t highest = ask(kept, known, first, 0).eax;
    for (uint32_t leaf = first ? first + 1 : 2; leaf <= highest && leaf <= first + most; leaf++)
        if (!limited || mon_processor_shows_leaf(leaf))
            ask_leaf(kept, known, leaf);
}

static void ask_all(struct kept *kept)
{
    *kept = (struct kept){.version = FILE_VERSION, .cycles = UINT64_MAX};
    ask(kept, NULL, 1, 0);
    if (kept->cycles > BREAKPOINT_CYCLES) {
        ask_range(kept, NULL, 0, BASIC_MAX, /*limited=*/false);
        ask_range(kept, NULL, EXTENDED, EXTENDED_MAX, /*limited=*/false);
    } else if (ask(kept, NULL, 0, 0).eax >= 0xd) {
        ask(kept, NULL, 0xd, 1); /* a resumed sandbox must know it of where it came from */
    }
}

/* All that programs of this level are to know. */
static void ask_limited(struct kept *kept, unsigned level)
{
    const struct kept known = *kept;
    kept->count = 0;
    ask(kept, &known, 1, 0);
    ask_range(kept, &known, 0, BASIC_MAX, /*limited=*/true);
    ask_range(kept, &known, EXTENDED, EXTENDED_MAX, /*limited=*/true);
    for (uint32_t i = 0; i < kept->count; i++)
        mon_processor_limit_answer(&kept->answers[i], level);
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

size_t mon_processor_answers(const char *state_path, unsigned level, struct bly_cpuid out_answers[MON_CPUID_MAX], bool *out_slow)
{
    struct kept kept;
    cleanup_free char *path = state_path ? text_print("%s/../.processor", state_path) : NULL;
    if (!path || !read_kept(path, &kept)) {
        ask_all(&kept);
        /* Not being able to keep them costs the next start a fraction of a millisecond. */
        if (path)
            (void)!path_write_file(AT_FDCWD, path, &kept, offsetof(struct kept, answers) + kept.count * sizeof(kept.answers[0]), 0600);
    }
    if (level)
        ask_limited(&kept, level);
    *out_slow = kept.cycles > BREAKPOINT_CYCLES;
    memcpy(out_answers, kept.answers, kept.count * sizeof(kept.answers[0]));
    return kept.count;
}
