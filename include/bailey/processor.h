/* The words in which CPUID tells the processor's features, and what the levels of x86-64 promise. The features themselves are in processor.def. */
#ifndef BAILEY_PROCESSOR_H
#define BAILEY_PROCESSOR_H

enum bly_feature_word {
    BLY_FEATURES_1_ECX, BLY_FEATURES_1_EDX, BLY_FEATURES_7_EBX, BLY_FEATURES_7_ECX, BLY_FEATURES_7_EDX, BLY_FEATURES_7_1_EAX,
    BLY_FEATURES_80000001_ECX, BLY_FEATURES_80000001_EDX, BLY_FEATURE_WORDS
};

/* Which registers the kernel keeps (XCR0) as a level has them: x87 and SSE; AVX; the opcode masks and the registers of AVX-512. */
#define BLY_VECTOR_BASE 0x3ull
#define BLY_VECTOR_AVX 0x7ull
#define BLY_VECTOR_AVX512 0xe7ull
#define BLY_VECTOR_TILE 0x60000ull /* AMX: only after arch_prctl(ARCH_REQ_XCOMP_PERM), which is refused */

#endif
