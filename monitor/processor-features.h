/* Which features of the processor a program can see: one that is suspended here may use each of
 * them at any moment after it was resumed elsewhere. `--migratable` limits them to a level of
 * x86-64: 2 to 4 for x86-64-v2 to v4 (policy.migratable), 0 for all that there are. */
#ifndef MONITOR_PROCESSOR_FEATURES_H
#define MONITOR_PROCESSOR_FEATURES_H

#include <bailey/processor.h>
#include <bailey/start.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MON_FEATURE_WORDS ((unsigned)BLY_FEATURE_WORDS)
struct mon_features {
    uint64_t words[MON_FEATURE_WORDS]; /* by enum bly_feature_word */
    uint64_t vector;                   /* XCR0: which registers the kernel keeps; 0 without XSAVE */
};

/* Those of this processor. */
void mon_processor_features(struct mon_features *out_features);
/* Leaves what a program sees with this level. */
void mon_processor_limit(struct mon_features *features, unsigned level);
/* What the level promises (1: x86-64 itself). */
void mon_processor_level(unsigned level, struct mon_features *out_features);
/* The names of what `needed` has and `present` lacks, separated by commas; what no program can use
 * is left out. Returns how many there are; the names are cut off where `size` ends. */
size_t mon_processor_missing(const struct mon_features *needed, const struct mon_features *present,
                             char *out_names, size_t size);

/* Whether the host can make CPUID fault in programs. */
bool mon_processor_can_fault(void);

/* Whether a leaf of CPUID says anything with a level. */
bool mon_processor_shows_leaf(uint32_t leaf);
/* Makes of what CPUID says what it says with this level (not 0). Beside features that is all that
 * tells one processor of the level from another and that a program could come to depend on: the
 * speed of its time stamp counter, its hypervisor. What is only about speed (caches, topology, the
 * model) stays. */
void mon_processor_limit_answer(struct bly_cpuid *answer, unsigned level);

#endif
