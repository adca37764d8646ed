/* Learning a policy from audit lines. */
#include "support.h"

#include <base/json.h>
#include <cli/learn.h>

static void add_line(struct text *lines, const char *operation, const char *access,
                     const char *path, const char *grant, int failure)
{
    struct json json = json_to(lines);
    json_object(&json);
    json_key_string(&json, "operation", operation);
    json_key_string(&json, "access", access);
    json_key_string(&json, "path", path);
    json_key_string(&json, "host", path);
    json_key_string(&json, "grant", grant);
    json_key_string(&json, "decision", "allowed");
    if (failure)
        json_key_number(&json, "error", failure);
    json_object_end(&json);
    text_add_character(lines, '\n');
}

static struct mon_policy learn(struct text *lines, struct mon_policy *used)
{
    struct mon_policy learned = {0};
    mon_policy_add_node(used, BLY_NODE_TEXT, "/etc/hosts", 0644, "");
    learn_from_audit(lines->data, used, &learned);
    text_free(lines);
    mon_policy_free(used);
    return learned;
}

static void check(const struct mon_policy *learned, const char *path, uint32_t flags)
{
    const struct mon_mount *mount = mon_policy_find_mount(learned, path);
    assert_non_null(mount);
    assert_int_equal(mount->flags, flags);
}

static void single_files_are_granted_singly(void **state)
{
    struct text lines = {0};
    struct mon_policy used = {0};
    add_line(&lines, "look-up", "read", "/usr", "default", 0);
    add_line(&lines, "look-up", "read", "/usr/bin/env", "default", 0);
    add_line(&lines, "open", "read", "/usr/bin/env", "default", 0);
    add_line(&lines, "look-up", "read", "/usr/bin/none", "default", 2);
    add_line(&lines, "look-up", "read", "/etc/hosts", "default", 0);
    struct mon_policy learned = learn(&lines, &used);
    assert_int_equal(learned.mount_count, 1);
    check(&learned, "/usr/bin/env", BLY_MOUNT_READ_ONLY);
    mon_policy_free(&learned);
}

static void many_files_of_a_folder_are_granted_as_the_folder(void **state)
{
    struct text lines = {0};
    struct mon_policy used = {0};
    for (int i = 0; i < 12; i++) {
        char *inner = text_print("/usr/lib/thing/sub/file%d", i),
             *setting = text_print("/etc/thing/file%d", i);
        add_line(&lines, "open", "read", inner, "default", 0);
        add_line(&lines, "open", "read", setting, "default", 0);
        free(inner);
        free(setting);
    }
    add_line(&lines, "look-up", "read", "/usr/lib/thing", "default", 0);
    add_line(&lines, "look-up", "read", "/usr/lib/thing/sub", "default", 0);
    struct mon_policy learned = learn(&lines, &used);
    check(&learned, "/usr/lib/thing/sub", BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED);
    check(&learned, "/etc/thing/file3", BLY_MOUNT_READ_ONLY);
    assert_int_equal(learned.mount_count, 13);
    mon_policy_free(&learned);
}

static void a_listed_folder_is_granted_and_a_crossed_one_is_not(void **state)
{
    struct text lines = {0};
    struct mon_policy used = {0};
    add_line(&lines, "open", "read", "/usr/share", "default", 0);
    add_line(&lines, "look-up", "read", "/usr/lib", "default", 0);
    struct mon_policy learned = learn(&lines, &used);
    assert_int_equal(learned.mount_count, 1);
    check(&learned, "/usr/share", BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED);
    mon_policy_free(&learned);
}

static void a_given_folder_stays_writable_only_if_it_was_written(void **state)
{
    struct text lines = {0};
    struct mon_policy used = {0};
    mon_policy_add_mount(&used, "/a", "/a", 0);
    mon_policy_add_mount(&used, "/b", "/b", 0);
    add_line(&lines, "open", "read", "/a/x", "explicit", 0);
    add_line(&lines, "open", "write", "/b/x", "explicit", 0);
    struct mon_policy learned = learn(&lines, &used);
    check(&learned, "/a", BLY_MOUNT_READ_ONLY);
    check(&learned, "/b", 0);
    mon_policy_free(&learned);
}

static void what_is_written_as_a_file_is_read_back(void **state)
{
    struct mon_policy policy = {.no_view = true,
                                .directory = text_copy("/w"),
                                .memory_limit = 64 << 20,
                                .memory_given = true,
                                .user = 3,
                                .group = 4};
    text_list_add(&policy.arguments, "pro\"g");
    text_list_add(&policy.environment, "A=b: c # d");
    mon_policy_add_mount(&policy, "/a b", "/c: d", BLY_MOUNT_READ_ONLY);
    mon_policy_add_mount(&policy, "/e", "/e", BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED);
    mon_policy_add_mount(&policy, "/f", "/f", 0);
    struct text text = {0};
    policy_write_yaml(&policy, &text);
    struct mon_policy read = {0};
    struct error error = {0};
    assert_int_equal(mon_policy_read_text(&read, text.data, text.size, "p", "/", &error), 0);
    assert_string_equal(read.program, "pro\"g");
    assert_string_equal(read.environment.items[0], "A=b: c # d");
    assert_string_equal(read.directory, "/w");
    assert_int_equal(read.memory_limit, 64 << 20);
    assert_int_equal(read.user, 3);
    assert_int_equal(read.group, 4);
    assert_true(read.no_view);
    check(&read, "/c: d", BLY_MOUNT_READ_ONLY);
    check(&read, "/e", BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED);
    check(&read, "/f", 0);
    text_free(&text);
    mon_policy_free(&policy);
    mon_policy_free(&read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_files_are_granted_singly),
        cmocka_unit_test(many_files_of_a_folder_are_granted_as_the_folder),
        cmocka_unit_test(a_listed_folder_is_granted_and_a_crossed_one_is_not),
        cmocka_unit_test(a_given_folder_stays_writable_only_if_it_was_written),
        cmocka_unit_test(what_is_written_as_a_file_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
