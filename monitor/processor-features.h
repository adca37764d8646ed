/* Which features of the processor a program can see, for images: one that was suspended here may use each of
 * them at any moment after it was resumed elsewhere. */
#ifndef MONITOR_PROCESSOR_FEATURES_H
#define MONITOR_PROCESSOR_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#define MON_FEATURE_WORDS 8u /* of CPUID: leaf 1 ecx, edx; 7.0 ebx, ecx, edx; 7.1 eax; 0x80000001 ecx, edx */
struct mon_features {
    uint64_t words[MON_FEATURE_WORDS];
    uint64_t vector; /* XCR0: which registers the kernel keeps; 0 without XSAVE */
};

void mon_processor_features(struct mon_features *out_features);
/* The names of what `needed` has and `present` lacks, separated by commas; what no program can use is left out. Returns how
 * many there are; the names are cut off where `size` ends. */
size_t mon_processor_missing(const struct mon_features *needed, const struct mon_features *present, char *out_names, size_t size);

#endif
