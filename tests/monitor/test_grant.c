/* What an image claims is granted if it is one's own, or as far as the operator names it again. */
#include "support.h"

#include <base/cleanup.h>
#include <monitor/policy/grant.h>

/* A policy with the default view, /usr/share at /data read-write and /usr/lib at /more read-only. */
static struct mon_policy make_claim(void)
{
    struct mon_policy policy = {.memory_limit = 1ull << 40, .process_limit = 9};
    struct error error = {0};
    policy.program = text_copy("true");
    policy.directory = text_copy("/");
    policy.name = text_copy("n");
    policy.host_name = text_copy("h");
    mon_policy_add_mount(&policy, "/usr/share", "/data", 0);
    mon_policy_add_mount(&policy, "/usr/lib", "/more", BLY_MOUNT_READ_ONLY);
    assert_int_equal(mon_policy_add_root(&policy, &error), 0);
    assert_int_equal(mon_policy_check(&policy, &error), 0);
    return policy;
}

static int grant(struct mon_policy *claim, struct mon_policy *granted, bool own, struct error *error)
{
    *error = (struct error){0};
    int result = mon_policy_grant(claim, granted, own, "image", error);
    assert_int_equal(result, error->code);
    mon_policy_free(granted);
    return result;
}

static void ones_own_is_given_what_it_had(void **state)
{
    struct mon_policy claim = make_claim(), granted = {0};
    struct error error;
    assert_int_equal(grant(&claim, &granted, true, &error), 0);
    assert_string_equal(mon_policy_find_mount(&claim, "/data")->host_path, "/usr/share");
    assert_int_equal(claim.memory_limit, 1ull << 40);
    mon_policy_free(&claim);
}

static void a_strangers_says_what_must_be_named(void **state)
{
    struct mon_policy claim = make_claim(), granted = {0};
    struct error error;
    claim.layer_path = text_copy("/l");
    claim.audit_path = text_copy("/it's; rm");
    assert_int_equal(grant(&claim, &granted, false, &error), -EPERM);
    assert_non_null(strstr(error.message, "add: -v /usr/share:/data -v /usr/lib:/more:ro --layer /l --audit '/it'\\''s; rm'"));
    mon_policy_free(&claim);
}

static void what_is_named_is_given(void **state)
{
    struct mon_policy claim = make_claim(), granted = {.memory_limit = 1 << 30, .process_limit = 100};
    struct error error;
    mon_policy_add_mount(&granted, "/usr/bin", "/data", BLY_MOUNT_READ_ONLY);
    mon_policy_add_mount(&granted, "/usr/lib", "/more", 0);
    assert_int_equal(grant(&claim, &granted, false, &error), 0);
    /* Another folder, without the right to write; and no right more than was claimed. */
    assert_string_equal(mon_policy_find_mount(&claim, "/data")->host_path, "/usr/bin");
    assert_int_equal(mon_policy_find_mount(&claim, "/data")->flags, BLY_MOUNT_READ_ONLY);
    assert_int_equal(mon_policy_find_mount(&claim, "/more")->flags, BLY_MOUNT_READ_ONLY);
    assert_int_equal(claim.memory_limit, 1 << 30);
    assert_int_equal(claim.process_limit, 9);
    mon_policy_free(&claim);
}

static void nothing_new_can_be_given(void **state)
{
    static const char *const places[] = {"/elsewhere", "/usr", "/data/below"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct mon_policy claim = make_claim(), granted = {0};
        struct error error;
        mon_policy_add_mount(&granted, "/usr/bin", places[i], 0);
        assert_int_equal(grant(&claim, &granted, true, &error), -EINVAL);
        mon_policy_free(&claim);
    }
    struct mon_policy claim = make_claim(), granted = {0};
    struct error error;
    granted.layer_path = text_copy("/l");
    assert_int_equal(grant(&claim, &granted, true, &error), -EINVAL);
    mon_policy_free(&claim);
}

/* Private folders with the flag of the default view, its folders with more rights, at other places. */
static void a_false_default_view_must_be_named(void **state)
{
    static const struct {
        const char *host, *guest;
        uint32_t flags;
    } false_ones[] = {
        {"/root", "/root", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY | MON_MOUNT_DEFAULT_VIEW},
        {"/root", "/usr", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY | MON_MOUNT_DEFAULT_VIEW},
        {"/etc", "/etc", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY},
        {"/usr", "/usr", MON_MOUNT_DEFAULT_VIEW},
        {"/usr", "/usr", 0},
    };
    for (size_t i = 0; i < sizeof(false_ones) / sizeof(false_ones[0]); i++) {
        struct mon_policy claim = {0}, granted = {0};
        struct error error;
        claim.directory = text_copy("/");
        mon_policy_add_mount(&claim, false_ones[i].host, false_ones[i].guest, false_ones[i].flags);
        assert_int_equal(grant(&claim, &granted, false, &error), -EPERM);
        mon_policy_free(&claim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ones_own_is_given_what_it_had),
        cmocka_unit_test(a_strangers_says_what_must_be_named),
        cmocka_unit_test(what_is_named_is_given),
        cmocka_unit_test(nothing_new_can_be_given),
        cmocka_unit_test(a_false_default_view_must_be_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
