/* The processor's features and the levels of x86-64. */
#include "monitor/processor-features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
/* After the above, which it expects. */
#include <cmocka.h>

static void a_level_has_all_of_the_one_below(void **state)
{
    (void)state;
    for (unsigned level = 2; level <= 4; level++) {
        struct mon_features lower, higher;
        char names[512];
        mon_processor_level(level - 1, &lower);
        mon_processor_level(level, &higher);
        assert_int_equal(mon_processor_missing(&lower, &higher, names, sizeof(names)), 0);
        assert_true(mon_processor_missing(&higher, &lower, names, sizeof(names)) > 0);
    }
}

static void missing_features_have_the_names_of_proc_cpuinfo(void **state)
{
    (void)state;
    struct mon_features v3, v4;
    char names[512], few[12];
    mon_processor_level(3, &v3);
    mon_processor_level(4, &v4);
    assert_int_equal(mon_processor_missing(&v4, &v3, names, sizeof(names)), 6);
    assert_string_equal(
        names, "avx512f, avx512dq, avx512cd, avx512bw, avx512vl, the registers of AVX-512");
    assert_int_equal(mon_processor_missing(&v4, &v3, few, sizeof(few)), 6);
    assert_string_equal(few, "avx512f, av");
}

static void what_only_the_kernel_uses_is_never_missing(void **state)
{
    (void)state;
    struct mon_features needed = {0}, none = {0};
    char names[512];
    needed.words[BLY_FEATURES_1_ECX] = 1u << 5 | 1u << 31;  /* vmx, hypervisor */
    needed.words[BLY_FEATURES_7_EDX] = 7u << 26 | 1u << 24; /* speculation control, AMX */
    needed.vector = BLY_VECTOR_TILE;
    assert_int_equal(mon_processor_missing(&needed, &none, names, sizeof(names)), 0);
    needed.words[BLY_FEATURES_7_1_EAX] = 1u << 31 | 1u << 9;
    assert_int_equal(mon_processor_missing(&needed, &none, names, sizeof(names)), 2);
    assert_string_equal(names, "CPUID 7.1 eax bit 9, movrs");
}

static void this_processor_lacks_nothing_that_it_has(void **state)
{
    (void)state;
    struct mon_features here, limited, base;
    char names[512];
    mon_processor_features(&here);
    mon_processor_level(1, &base);
    assert_int_equal(mon_processor_missing(&base, &here, names, sizeof(names)), 0);
    assert_int_equal(mon_processor_missing(&here, &here, names, sizeof(names)), 0);
    limited = here;
    mon_processor_limit(&limited, 0);
    assert_memory_equal(&limited, &here, sizeof(here));
    mon_processor_limit(&limited, 2);
    mon_processor_level(2, &base);
    assert_int_equal(mon_processor_missing(&limited, &base, names, sizeof(names)), 0);
    assert_false(limited.words[BLY_FEATURES_1_ECX] & 1u << 28);
}

static void answers_say_what_the_level_has(void **state)
{
    (void)state;
    struct bly_cpuid one = {.leaf = 1, .eax = 0xa0671, .ebx = 0x10800, .ecx = ~0u, .edx = ~0u},
                     seven = {.leaf = 7, .eax = 2, .ebx = ~0u, .ecx = ~0u, .edx = ~0u};
    struct bly_cpuid timer = {.leaf = 0x15, .eax = 1, .ebx = 2, .ecx = 3},
                     caches = {.leaf = 4, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4}, same = caches;
    mon_processor_limit_answer(&one, 2);
    mon_processor_limit_answer(&seven, 3);
    mon_processor_limit_answer(&timer, 3);
    mon_processor_limit_answer(&caches, 3);
    assert_int_equal(one.eax, 0xa0671);
    assert_int_equal(one.ebx, 0x10800);
    assert_int_equal(one.ecx, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23);
    assert_int_equal(seven.eax, 0);
    assert_int_equal(seven.ebx, 1u << 3 | 1u << 5 | 1u << 8);
    assert_int_equal(seven.ecx, 0);
    assert_int_equal(seven.edx, 0);
    assert_int_equal(timer.eax | timer.ebx | timer.ecx, 0);
    assert_memory_equal(&caches, &same, sizeof(same));
}

/* Code that allocates by these answers must have room for what XSAVE writes on any processor. */
static void sizes_are_those_of_the_largest_processor(void **state)
{
    (void)state;
    for (unsigned level = 2; level <= 4; level++) {
        struct bly_cpuid whole = {.leaf = 0xd, .eax = 0x602e7, .ebx = 2440, .ecx = 11008},
                         how = {.leaf = 0xd, .subleaf = 1, .eax = 0x1f, .ebx = 2440, .ecx = 0x1900};
        struct bly_cpuid avx = {.leaf = 0xd, .subleaf = 2, .eax = 256, .ebx = 576},
                         keys = {.leaf = 0xd, .subleaf = 9, .eax = 8, .ebx = 2688};
        mon_processor_limit_answer(&whole, level);
        mon_processor_limit_answer(&how, level);
        mon_processor_limit_answer(&avx, level);
        mon_processor_limit_answer(&keys, level);
        assert_int_equal(whole.eax, level == 2 ? 0 : level == 3 ? 7 : 0xe7);
        assert_int_equal(whole.ebx, level == 2 ? 0 : 11008);
        assert_int_equal(how.eax, level == 4 ? 7 : 0);
        assert_int_equal(avx.eax, level == 2 ? 0 : 256);
        assert_int_equal(keys.eax, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_has_all_of_the_one_below),
        cmocka_unit_test(missing_features_have_the_names_of_proc_cpuinfo),
        cmocka_unit_test(what_only_the_kernel_uses_is_never_missing),
        cmocka_unit_test(this_processor_lacks_nothing_that_it_has),
        cmocka_unit_test(answers_say_what_the_level_has),
        cmocka_unit_test(sizes_are_those_of_the_largest_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
