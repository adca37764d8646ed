/* A policy as bytes: nothing is lost on the way, and what is not one is refused. */
#include "support.h"

#include <base/cleanup.h>
#include <monitor/policy/save.h>

static struct mon_policy make_policy(void)
{
    struct mon_policy policy = {.user = 7,
                                .group = 8,
                                .memory_limit = 1ull << 33,
                                .process_limit = 9,
                                .open_file_limit = 10,
                                .migratable = 2,
                                .terminal = true,
                                .interactive = true,
                                .read_only = true,
                                .memory_given = true};
    struct error error = {0};
    policy.program = text_copy("sh");
    policy.directory = text_copy("/w");
    policy.name = text_copy("n");
    policy.host_name = text_copy("h");
    policy.audit_path = text_copy("/a.log");
    text_list_add(&policy.arguments, "sh");
    text_list_add(&policy.arguments, "");
    text_list_add(&policy.environment, "A=1");
    text_list_add(&policy.environment, "B=");
    mon_policy_add_mount(&policy, "/usr", "/w", BLY_MOUNT_READ_ONLY);
    mon_policy_add_mount(&policy, "/etc/passwd", "/x", 0);
    assert_int_equal(mon_policy_add_root(&policy, &error), 0);
    assert_int_equal(mon_policy_check(&policy, &error), 0);
    return policy;
}

/* As `bailey inspect` shows it, and what that leaves out. */
static void assert_same(const struct mon_policy *one, const struct mon_policy *other)
{
    cleanup_text struct text first = {0}, second = {0};
    mon_policy_write_json(one, &first);
    mon_policy_write_json(other, &second);
    assert_string_equal(first.data, second.data);
    for (size_t i = 0; i < one->node_count; i++)
        if (one->nodes[i].content)
            assert_string_equal(one->nodes[i].content, other->nodes[i].content);
    for (size_t i = 0; i < one->mount_count; i++)
        assert_int_equal(one->mounts[i].flags, other->mounts[i].flags);
    assert_string_equal(one->program, other->program);
    assert_int_equal(one->terminal_given, other->terminal_given);
    assert_int_equal(one->memory_given, other->memory_given);
    assert_int_equal(one->trace_syscalls, other->trace_syscalls);
    assert_int_equal(one->trace_abi, other->trace_abi);
    assert_int_equal(one->no_view, other->no_view);
}

static void a_policy_comes_back_as_it_was(void **state)
{
    struct mon_policy policy = make_policy(), again = {0};
    struct error error = {0};
    cleanup_text struct text saved = {0}, second = {0};
    text_add(&saved, "before");
    assert_int_equal(mon_policy_save(&policy, &saved), 0);
    assert_int_equal(mon_policy_load(&again, saved.data + 6, saved.size - 6, &error), 0);
    assert_same(&policy, &again);
    /* What is loaded is checked as any other, and stays in order. */
    assert_int_equal(mon_policy_check(&again, &error), 0);
    assert_same(&policy, &again);
    assert_int_equal(mon_policy_save(&again, &second), 0);
    assert_int_equal(second.size, saved.size - 6);
    assert_memory_equal(second.data, saved.data + 6, second.size);
    mon_policy_free(&policy);
    mon_policy_free(&again);
}

static void the_folder_of_the_layer_is_kept_by_its_name_alone(void **state)
{
    struct mon_policy policy = make_policy(), again = {0};
    struct error error = {0};
    size_t count = policy.mount_count;
    policy.layer_path = text_copy("/layer");
    mon_policy_add_mount(&policy, "/layer", MON_STORE_PLACE, BLY_MOUNT_STORE);
    cleanup_text struct text saved = {0};
    assert_int_equal(mon_policy_save(&policy, &saved), 0);
    assert_int_equal(mon_policy_load(&again, saved.data, saved.size, &error), 0);
    assert_int_equal(again.mount_count, count);
    assert_string_equal(again.layer_path, "/layer");
    mon_policy_free(&policy);
    mon_policy_free(&again);
}

static void a_part_of_one_is_none(void **state)
{
    struct mon_policy policy = make_policy();
    cleanup_text struct text saved = {0};
    assert_int_equal(mon_policy_save(&policy, &saved), 0);
    text_add_character(&saved, '\0');
    for (size_t size = 0; size <= saved.size; size++) {
        struct mon_policy again = {.user = 1};
        struct error error = {0};
        if (size == saved.size - 1)
            continue;
        assert_int_equal(mon_policy_load(&again, saved.data, size, &error), -EPROTO);
        assert_int_equal(again.user, 0);
        assert_null(again.mounts);
    }
    mon_policy_free(&policy);
}

/* What no saved policy holds, one thing at a time. */
static void what_is_not_sound_is_refused(void **state)
{
    for (int i = 0;; i++) {
        struct mon_policy policy = make_policy(), again = {0};
        struct error error = {0};
        struct mon_mount *mount = &policy.mounts[0];
        struct mon_node *node = &policy.nodes[0];
        char **texts[] = {&mount->host_path,  &mount->host_path,  &mount->guest_path,
                          &mount->guest_path, &node->path,        &policy.directory,
                          &policy.host_name,  &policy.audit_path, &policy.environment.items[0]};
        static const char *const bad[] = {"relative", "/a/../b", "/a//b", "/.layer/x", "x",
                                          "w",        "_",       "a",     "=1"};
        bool more = true;
        if (i < 9) {
            free(*texts[i]);
            *texts[i] = text_copy(bad[i]);
        } else if (i == 9) {
            mount->flags |= 0x20000;
        } else if (i == 10) {
            node->mode = 010777;
        } else if (i == 11) {
            node->kind = 3;
        } else if (i == 12) {
            free(policy.program);
            policy.program = NULL;
        } else if (i == 13) {
            policy.user = UINT32_MAX;
        } else if (i == 14) {
            policy.process_limit = MON_PROCESS_LIMIT_MAX + 1;
        } else if (i == 15) {
            free(policy.mounts[1].guest_path);
            policy.mounts[1].guest_path = text_copy(mount->guest_path);
        } else {
            more = false;
        }
        cleanup_text struct text saved = {0};
        assert_int_equal(mon_policy_save(&policy, &saved), 0);
        int result = mon_policy_load(&again, saved.data, saved.size, &error);
        mon_policy_free(&policy);
        mon_policy_free(&again);
        if (!more)
            break;
        if (result != -EPROTO)
            fail_msg("spoiled in way %d, it was accepted", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_comes_back_as_it_was),
        cmocka_unit_test(the_folder_of_the_layer_is_kept_by_its_name_alone),
        cmocka_unit_test(a_part_of_one_is_none),
        cmocka_unit_test(what_is_not_sound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
