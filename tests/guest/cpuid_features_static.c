/* The same in a static program. */
#include "cpuid_features.c"
