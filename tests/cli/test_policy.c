/* Policy: volumes, variables, the policy file, the default root, what is denied. */
#include "support.h"

#include <errno.h>
#include <monitor/processor-features.h>
#include <monitor/policy/value.h>
#include <monitor/policy/policy.h>

/* ---- Values ---- */

static void a_volume_is_host_guest_and_access(void **state)
{
    static const struct {
        const char *volume, *host, *guest;
        uint32_t flags;
    } good[] = {
        {"/a:/b", "/a", "/b", 0},
        {"/a:/b:ro", "/a", "/b", BLY_MOUNT_READ_ONLY},
        {"/a:/b:rw", "/a", "/b", 0},
        {"/a", "/a", "/a", 0},
        {"/a:ro", "/a", "/a", BLY_MOUNT_READ_ONLY},
        {"x/../y", "/base/y", "/base/y", 0},
        {".", "/base", "/base", 0},
        {"/a:/b/../c:O", "/a", "/c", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct mon_policy policy = {0};
        struct error error = {0};
        assert_int_equal(policy_add_volume(&policy, good[i].volume, "/base", &error), 0);
        assert_int_equal(policy.mount_count, 1);
        assert_string_equal(policy.mounts[0].host_path, good[i].host);
        assert_string_equal(policy.mounts[0].guest_path, good[i].guest);
        assert_int_equal(policy.mounts[0].flags, good[i].flags);
        mon_policy_free(&policy);
    }
    static const char *const bad[] = {"", ":/b", "/a:b", "/a:/b:rx", "/a:/b:ro:x", "/a:/b:/c"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mon_policy policy = {0};
        struct error error = {0};
        assert_true(policy_add_volume(&policy, bad[i], "/base", &error) < 0);
        assert_int_equal(policy.mount_count, 0);
        mon_policy_free(&policy);
    }
}

static void a_later_volume_at_the_same_place_wins(void **state)
{
    struct mon_policy policy = {0};
    struct error error = {0};
    assert_int_equal(policy_add_volume(&policy, "/a:/x", "/", &error), 0);
    assert_int_equal(policy_add_volume(&policy, "/b:/x/:ro", "/", &error), 0);
    assert_int_equal(policy.mount_count, 1);
    assert_string_equal(policy.mounts[0].host_path, "/b");
    mon_policy_free(&policy);
}

static void sizes_have_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"16777216", 16777216},     {"64m", 64ull << 20}, {"64M", 64ull << 20}, {"1g", 1ull << 30},
        {"20480k", 20480ull << 10}, {"2GiB", 2ull << 30}, {"2gb", 2ull << 30},  {"0", 0}};
    struct error error = {0};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(policy_parse_memory(good[i].text, &bytes, &error), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {
        "", "m", "-1", "1x", "1mm", "1 m", "99999999999999999999", "99999999999999t", "1k"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(policy_parse_memory(bad[i], &bytes, &error) < 0);
}

static void users_are_numbers_or_names(void **state)
{
    struct error error = {0};
    uint32_t user, group;
    assert_int_equal(policy_parse_user("1000", &user, &group, &error), 0);
    assert_int_equal(user, 1000);
    assert_int_equal(group, 1000);
    assert_int_equal(policy_parse_user("1000:5", &user, &group, &error), 0);
    assert_int_equal(group, 5);
    assert_int_equal(policy_parse_user("root", &user, &group, &error), 0);
    assert_int_equal(user, 0);
    assert_true(policy_parse_user("no-such-user", &user, &group, &error) < 0);
    assert_true(policy_parse_user("4294967295", &user, &group, &error) < 0);
}

static void variables_come_by_value_by_name_and_from_files(void **state)
{
    char *folder = test_folder();
    struct text_list list = {0};
    struct error error = {0};
    setenv("BAILEY_TEST_SET", "here", 1);
    unsetenv("BAILEY_TEST_UNSET");
    test_file(folder, "variables", "# comment\n\nA=1=2\r\n  B=\nBAILEY_TEST_SET\n");
    char *path = path_join(folder, "variables");
    assert_int_equal(policy_add_variable(&list, "A=old", &error), 0);
    assert_int_equal(policy_add_variable_file(&list, path, &error), 0);
    assert_int_equal(policy_add_variable(&list, "BAILEY_TEST_UNSET", &error), 0);
    assert_int_equal(list.count, 3);
    assert_string_equal(text_list_variable(&list, "A"), "1=2");
    assert_string_equal(text_list_variable(&list, "B"), "");
    assert_string_equal(text_list_variable(&list, "BAILEY_TEST_SET"), "here");
    assert_true(policy_add_variable(&list, "=x", &error) < 0);
    text_list_free(&list);
    free(path);
    test_remove(folder);
}

static void only_language_and_terminal_are_inherited(void **state)
{
    struct text_list list = {0};
    setenv("LC_TIME", "C.UTF-8", 1);
    setenv("LANG", "en_GB.UTF-8", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    text_list_add(&list, "LANG=C");
    policy_default_environment(&list, 0, "box", true);
    assert_string_equal(text_list_variable(&list, "LANG"), "C");
    assert_string_equal(text_list_variable(&list, "LC_TIME"), "C.UTF-8");
    assert_string_equal(text_list_variable(&list, "HOME"), "/root");
    assert_string_equal(text_list_variable(&list, "HOSTNAME"), "box");
    assert_non_null(text_list_variable(&list, "PATH"));
    assert_null(text_list_variable(&list, "AWS_SECRET_ACCESS_KEY"));
    text_list_free(&list);
}

/* ---- The default view ---- */

static struct mon_policy complete(struct mon_policy policy)
{
    struct error error = {0};
    policy.name = text_copy("box");
    policy.host_name = text_copy("box");
    if (!policy.directory)
        policy.directory = text_copy("/");
    assert_int_equal(mon_policy_add_root(&policy, &error), 0);
    assert_int_equal(mon_policy_check(&policy, &error), 0);
    return policy;
}

static const struct mon_node *find_node(const struct mon_policy *policy, const char *path)
{
    for (size_t i = 0; i < policy->node_count; i++)
        if (text_equal(policy->nodes[i].path, path))
            return &policy->nodes[i];
    return NULL;
}

static void the_default_view_is_read_only_and_holds_nobodys_folders(void **state)
{
    struct mon_policy policy = complete((struct mon_policy){0});
    assert_non_null(mon_policy_find_mount(&policy, "/usr"));
    for (size_t i = 0; i < policy.mount_count; i++) {
        const struct mon_mount *mount = &policy.mounts[i];
        assert_true(mount->flags & BLY_MOUNT_READ_ONLY);
        assert_true(mount->flags & MON_MOUNT_DEFAULT_VIEW);
        static const char *const forbidden[] = {
            "/root", "/home", "/var/lib/private", "/srv", "/boot", "/proc", "/sys", "/dev"};
        for (size_t j = 0; j < sizeof(forbidden) / sizeof(forbidden[0]); j++) {
            assert_false(path_is_within(mount->host_path, forbidden[j]));
            assert_false(path_is_within(forbidden[j], mount->host_path));
        }
    }
    static const char *const made[] = {"/tmp", "/root", "/home",       "/proc",
                                       "/sys", "/dev",  "/etc/passwd", "/etc/resolv.conf"};
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        assert_non_null(find_node(&policy, made[i]));
    assert_int_equal(find_node(&policy, "/tmp")->mode, 01777);
    mon_policy_free(&policy);
}

static void parents_come_before_what_lies_below_them(void **state)
{
    char *folder = test_folder();
    struct mon_policy policy = {0};
    mon_policy_add_mount(&policy, folder, "/usr/local/x/y", 0);
    mon_policy_add_mount(&policy, folder, "/usr/local/x", 0);
    mon_policy_add_mount(&policy, folder, "/usr/local-too", 0);
    policy = complete(policy);
    for (size_t i = 0; i < policy.mount_count; i++)
        for (size_t j = 0; j < i; j++)
            assert_false(path_is_within(policy.mounts[j].guest_path, policy.mounts[i].guest_path));
    mon_policy_free(&policy);
    test_remove(folder);
}

static void accounts_have_no_password_fields(void **state)
{
    struct mon_policy policy = complete((struct mon_policy){.user = 12345, .group = 12346});
    const char *users = find_node(&policy, "/etc/passwd")->content;
    assert_true(text_starts_with(users, "root:x:0:0:"));
    assert_non_null(strstr(users, "\nnobody:x:65534:65534:"));
    assert_non_null(strstr(users, ":12345:12346:"));
    for (const char *line = users; *line; line = strchr(line, '\n') + 1) {
        const char *colon = strchr(line, ':');
        assert_memory_equal(colon, ":x:", 3);
    }
    assert_non_null(strstr(find_node(&policy, "/etc/group")->content, ":12346:"));
    mon_policy_free(&policy);
}

static void a_root_folder_replaces_the_view(void **state)
{
    char *folder = test_folder();
    struct mon_policy policy = complete((struct mon_policy){.rootfs = text_copy(folder)});
    assert_int_equal(policy.mount_count, 1);
    assert_string_equal(policy.mounts[0].guest_path, "/");
    assert_string_equal(policy.mounts[0].host_path, folder);
    assert_true(policy.mounts[0].flags & BLY_MOUNT_LAYERED);
    assert_null(find_node(&policy, "/etc/passwd"));
    mon_policy_free(&policy);
    test_remove(folder);
}

static void without_a_view_nothing_of_the_host_is_shown(void **state)
{
    struct mon_policy policy = complete((struct mon_policy){.no_view = true});
    assert_int_equal(policy.mount_count, 0);
    assert_non_null(find_node(&policy, "/etc/hosts"));
    mon_policy_free(&policy);
}

static void secrets_are_denied_by_name(void **state)
{
    static const char *const denied[] = {
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/sudoers",
        "/etc/sudoers.d/x",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssl/private",
        "/etc/ssl/private/a/b.pem",
        "/etc/letsencrypt/live/x/privkey.pem",
        "/etc/wireguard/wg0.conf",
        "/etc/nginx/site.key",
        "/opt/app/id_rsa",
        "/opt/app/.env",
        "/etc/machine-id",
        "/etc/apt/auth.conf.d/x",
    };
    static const char *const shown[] = {
        "/etc",
        "/etc/passwd",
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssh/ssh_config",
        "/usr/lib/x/some.key",
        "/etc/hosts",
        "/usr",
        "/opt",
        "/etc/apt/sources.list",
        "/etc/shells",
        "/usr/share/keyrings/debian.gpg",
        "/",
        "/x",
    };
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
        assert_true(mon_policy_denies(denied[i]));
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
        assert_false(mon_policy_denies(shown[i]));
    char *long_path = test_repeat('x', 2 * PATH_MAX);
    memcpy(long_path, "/etc/", 5);
    assert_true(mon_policy_denies(long_path));
    free(long_path);
}

/* ---- Checks and questions ---- */

static void what_is_not_there_or_not_ours_to_give_is_refused(void **state)
{
    static const struct {
        const char *host, *guest;
    } bad[] = {{"/nonexistent", "/x"}, {"/dev/null", "/x"}, {"/proc", "/x"},
               {"/proc/self", "/x"},   {"/sys", "/x"},      {"/tmp", "/dev/x"},
               {"/tmp", "/proc"},      {"/tmp", "/"},       {"/tmp", "relative"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mon_policy policy = {.directory = text_copy("/")};
        struct error error = {0};
        mon_policy_add_mount(&policy, bad[i].host, bad[i].guest, 0);
        assert_true(mon_policy_check(&policy, &error) < 0);
        assert_true(error.message[0]);
        mon_policy_free(&policy);
    }
}

static void a_processor_without_the_level_is_refused_with_what_it_lacks(void **state)
{
    struct mon_policy policy = {.migratable = 4};
    struct mon_features v3;
    struct error error = {0};
    mon_processor_level(3, &v3);
    assert_true(mon_policy_check_processor(&policy, &v3, /*can_fault=*/true, &error) < 0);
    assert_string_equal(error.message, "this processor is not of the level x86-64-v4 that programs are to see: it lacks "
                                       "avx512f, avx512dq, avx512cd, avx512bw, avx512vl, the registers of AVX-512");
    policy.migratable = 3;
    assert_int_equal(mon_policy_check_processor(&policy, &v3, /*can_fault=*/false, &error), 0);
    policy.no_patching = true;
    assert_int_equal(mon_policy_check_processor(&policy, &v3, /*can_fault=*/true, &error), 0);
    assert_true(mon_policy_check_processor(&policy, &v3, /*can_fault=*/false, &error) < 0);
}

static void links_in_a_granted_path_are_resolved_once(void **state)
{
    char *folder = test_folder();
    test_file(folder, "real/file", "x");
    char *link = path_join(folder, "link"), *real = path_join(folder, "real"),
         *file = path_join(folder, "link/file");
    assert_int_equal(symlink("real", link), 0);
    struct mon_policy policy = {.directory = text_copy("/")};
    struct error error = {0};
    mon_policy_add_mount(&policy, link, "/a", 0);
    mon_policy_add_mount(&policy, file, "/b", 0);
    assert_int_equal(mon_policy_check(&policy, &error), 0);
    assert_string_equal(policy.mounts[0].host_path, real);
    assert_false(policy.mounts[0].flags & BLY_MOUNT_FILE);
    assert_true(policy.mounts[1].flags & BLY_MOUNT_FILE);
    char *guest = mon_policy_guest_path(&policy, "/nowhere");
    assert_null(guest);
    char *host = mon_policy_host_path(&policy, "/a/file");
    char *expected = path_join(folder, "real/file");
    assert_string_equal(host, expected);
    guest = mon_policy_guest_path(&policy, expected);
    assert_string_equal(guest, "/b");
    mon_policy_free(&policy);
    free(link);
    free(real);
    free(file);
    free(guest);
    free(host);
    free(expected);
    test_remove(folder);
}

static void a_missing_program_says_which_grant_is_missing(void **state)
{
    char *folder = test_folder();
    test_file(folder, "tool", "#!/bin/sh\n");
    char *tool = path_join(folder, "tool");
    chmod(tool, 0755);
    struct mon_policy policy = complete((struct mon_policy){0});
    struct error error = {0};
    mon_policy_explain_program(&policy, tool, "", -ENOENT, &error);
    assert_int_equal(error.exit_status, EXIT_NOT_FOUND);
    char *expected = text_print("-v %s:ro", folder);
    assert_non_null(strstr(error.message, expected));
    mon_policy_explain_program(&policy, "no-such-program-anywhere", "", -ENOENT, &error);
    assert_int_equal(error.exit_status, EXIT_NOT_FOUND);
    mon_policy_explain_program(&policy, "/etc/passwd", "", -EACCES, &error);
    assert_int_equal(error.exit_status, EXIT_NOT_EXECUTABLE);
    mon_policy_explain_program(&policy, "/usr/bin/x", "/opt/no/interpreter", -ENOENT, &error);
    assert_non_null(strstr(error.message, "cannot run /usr/bin/x: /opt/no/interpreter: "));
    assert_int_equal(error.exit_status, EXIT_NOT_FOUND);
    mon_policy_explain_program(&policy, "x", "standard input", -EIO, &error);
    assert_int_equal(error.exit_status, EXIT_BAILEY);
    mon_policy_free(&policy);
    free(tool);
    free(expected);
    test_remove(folder);
}

/* ---- The policy file ---- */

static int read_text(struct mon_policy *policy, const char *text, struct error *error)
{
    return mon_policy_read_text(policy, text, strlen(text), "p.yaml", "/folder", error);
}

static void every_key_of_a_policy_file_arrives(void **state)
{
    struct mon_policy policy = {0};
    struct error error = {0};
    int result = read_text(&policy,
                           "command: [prog, \"a b\"]\nname: n\nhostname: h\nworkdir: /w\nuser: "
                           "\"7:8\"\nenvironment: [A=1]\n"
                           "volumes:\n  - host: sub\n    guest: /g\n    access: ro\n  - host: "
                           "/abs\nview: none\nrootfs: r\nlayer: l\n"
                           "read-only: yes\nmemory: 64m\npids: 9\ntty: false\ninteractive: "
                           "true\ndetach: true\nrm: true\n"
                           "audit: a.log\npatching: false\nmigratable: x86-64-v3\n",
                           &error);
    assert_string_equal(error.message, "");
    assert_int_equal(result, 0);
    assert_string_equal(policy.program, "prog");
    assert_string_equal(policy.arguments.items[1], "a b");
    assert_string_equal(policy.name, "n");
    assert_string_equal(policy.host_name, "h");
    assert_string_equal(policy.directory, "/w");
    assert_int_equal(policy.user, 7);
    assert_int_equal(policy.group, 8);
    assert_string_equal(text_list_variable(&policy.environment, "A"), "1");
    assert_int_equal(policy.mount_count, 2);
    assert_string_equal(policy.mounts[0].host_path, "/folder/sub");
    assert_string_equal(policy.mounts[0].guest_path, "/g");
    assert_int_equal(policy.mounts[0].flags, BLY_MOUNT_READ_ONLY);
    assert_string_equal(policy.mounts[1].guest_path, "/abs");
    assert_true(policy.no_view);
    assert_string_equal(policy.rootfs, "/folder/r");
    assert_string_equal(policy.layer_path, "/folder/l");
    assert_string_equal(policy.audit_path, "/folder/a.log");
    assert_int_equal(policy.migratable, 3);
    assert_true(policy.read_only);
    assert_int_equal(policy.memory_limit, 64 << 20);
    assert_int_equal(policy.process_limit, 9);
    assert_true(policy.terminal_given);
    assert_false(policy.terminal);
    assert_true(policy.interactive && policy.detach && policy.remove_at_exit && policy.no_patching);
    mon_policy_free(&policy);
}

static void mistakes_in_a_policy_file_are_named_with_their_line(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"name: a\nmemroy: 1g\n", "p.yaml:2: unknown key 'memroy' (did you mean 'memory'?)"},
        {"volumes:\n  - host: /x\n    gest: /y\n",
         "p.yaml:3: unknown key 'gest' (did you mean 'guest'?)"},
        {"quite-different: 1\n",
         "p.yaml:1: unknown key 'quite-different' (docs/policy.md lists the keys)"},
        {"volumes:\n  - guest: /y\n", "p.yaml:2: the key 'host' is missing"},
        {"name: a\nrm: maybe\n", "p.yaml:2: 'maybe' is none of the values this key can have"},
        {"pids: many\n", "p.yaml:1: 'many' is not a number"},
        {"name: a\n\nname: b\n", "p.yaml:3: the key 'name' was given before"},
        {"migratable: avx2\n", "p.yaml: avx2 is not a level of processors: x86-64-v2, x86-64-v3 or x86-64-v4 is expected"},
        {"memory: lots\n", "p.yaml: lots is not a size (examples: 512m, 2g)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mon_policy policy = {0};
        struct error error = {0};
        assert_true(read_text(&policy, cases[i].text, &error) < 0);
        assert_string_equal(error.message, cases[i].message);
        mon_policy_free(&policy);
    }
}

static void an_empty_policy_file_changes_nothing(void **state)
{
    struct mon_policy policy = {0};
    struct error error = {0};
    assert_int_equal(read_text(&policy, "", &error), 0);
    assert_int_equal(read_text(&policy, "# only a comment\n", &error), 0);
    assert_null(policy.name);
    mon_policy_free(&policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_volume_is_host_guest_and_access),
        cmocka_unit_test(a_later_volume_at_the_same_place_wins),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(users_are_numbers_or_names),
        cmocka_unit_test(variables_come_by_value_by_name_and_from_files),
        cmocka_unit_test(only_language_and_terminal_are_inherited),
        cmocka_unit_test(the_default_view_is_read_only_and_holds_nobodys_folders),
        cmocka_unit_test(parents_come_before_what_lies_below_them),
        cmocka_unit_test(accounts_have_no_password_fields),
        cmocka_unit_test(a_root_folder_replaces_the_view),
        cmocka_unit_test(without_a_view_nothing_of_the_host_is_shown),
        cmocka_unit_test(secrets_are_denied_by_name),
        cmocka_unit_test(what_is_not_there_or_not_ours_to_give_is_refused),
        cmocka_unit_test(a_processor_without_the_level_is_refused_with_what_it_lacks),
        cmocka_unit_test(links_in_a_granted_path_are_resolved_once),
        cmocka_unit_test(a_missing_program_says_which_grant_is_missing),
        cmocka_unit_test(every_key_of_a_policy_file_arrives),
        cmocka_unit_test(mistakes_in_a_policy_file_are_named_with_their_line),
        cmocka_unit_test(an_empty_policy_file_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
