/* Options: reading by table; what `bailey run` makes of them. */
#include "support.h"

#include <cli/command.h>
#include <cli/launch.h>
#include <errno.h>

/* ---- Reading by table ---- */

static const struct option_help sample_options[] = {
    {'a', "all", NULL, ""},      {'e', "env", "VALUE", ""}, {0, "env-file", "FILE", ""},
    {'t', "tty", "[=BOOL]", ""}, {0, NULL, NULL, NULL},
};
static const struct command words_anywhere = {
    .name = "sample", .arguments = "", .options = sample_options};
static const struct command words_last = {
    .name = "sample", .arguments = "", .options = sample_options, .options_end_at_first = true};

/* Reads a line; what came out is written as "name=value name ... | words". */
static char *read_line(const struct command *command, const char *line)
{
    char *copy = text_copy(line), *rest = copy;
    struct text_list words = {0};
    text_list_add(&words, "sample");
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            text_list_add(&words, word);
    char *argv[32];
    memcpy(argv, words.items, (words.count + 1) * sizeof(*argv));
    struct option_reader reader = {
        .command = command, .argc = (int)words.count, .argv = argv, .quiet = true};
    struct error error = {0};
    struct text out = {0};
    for (const struct option_help *option; (option = option_next(&reader, &error));)
        text_format(&out, reader.value ? "%s=%s " : "%s ", option->name, reader.value);
    if (error.code) {
        text_free(&out);
        text_add(&out, "error");
    } else {
        text_add(&out, reader.helped ? "help" : "|");
        for (int i = 0; i < reader.word_count && !reader.helped; i++)
            text_format(&out, " %s", reader.words[i]);
    }
    text_list_free(&words);
    free(copy);
    return text_take(&out);
}

static void check_line(const struct command *command, const char *line, const char *expected)
{
    char *got = read_line(command, line);
    assert_string_equal(got, expected);
    free(got);
}

static void options_are_read_as_getopt_reads_them(void **state)
{
    check_line(&words_anywhere, "-a", "all |");
    check_line(&words_anywhere, "-ae x", "all env=x |");
    check_line(&words_anywhere, "-aex y", "all env=x | y");
    check_line(&words_anywhere, "--env=x --env y", "env=x env=y |");
    check_line(&words_anywhere, "--al", "all |");
    check_line(&words_anywhere, "--en x", "error");
    check_line(&words_anywhere, "--env-f x", "env-file=x |");
    check_line(&words_anywhere, "-ta", "tty all |");
    check_line(&words_anywhere, "-t=false --tty=true --tty a", "tty=false tty=true tty | a");
    check_line(&words_anywhere, "--all=x", "error");
    check_line(&words_anywhere, "-x", "error");
    check_line(&words_anywhere, "--env", "error");
    check_line(&words_anywhere, "--help", "help");
    check_line(&words_anywhere, "-", "| -");
}

static void words_may_stand_anywhere_or_end_the_options(void **state)
{
    check_line(&words_anywhere, "one -a two -e x three", "all env=x | one two three");
    check_line(&words_anywhere, "one -- -a", "| one -a");
    check_line(&words_last, "-a one -e x", "all | one -e x");
    check_line(&words_last, "-a -- -e x", "all | -e x");
    check_line(&words_last, "", "|");
}

/* ---- bailey run ---- */

static const struct command run_like = {
    .name = "run", .arguments = "", .options = launch_options, .options_end_at_first = true};

static int read_launch(struct launch *launch, struct error *error, const char *const *words)
{
    char *argv[32] = {"run"};
    int argc = 1;
    for (; *words; words++)
        argv[argc++] = (char *)*words;
    *launch = (struct launch){0};
    return launch_read(launch, &run_like, argc, argv, error);
}

static void the_options_of_run_make_a_policy(void **state)
{
    struct launch launch;
    struct error error = {0};
    const char *const words[] = {
        "-it=false",  "-v", "/usr:/x:ro", "--memory=64m", "--pids", "7",           "-e",     "A=b",
        "-w",         "/x", "--name",     "box",          "--rm",   "--read-only", "--user", "5",
        "--hostname", "h",  "--trace",    "--no-patch",   "--migratable", "x86-64-v2", "prog",   "-v",          "arg",    NULL};
    assert_int_equal(read_launch(&launch, &error, words), 0);
    const struct mon_policy *policy = &launch.policy;
    assert_true(policy->interactive);
    assert_true(policy->terminal_given && !policy->terminal);
    assert_int_equal(policy->mount_count, 1);
    assert_int_equal(policy->memory_limit, 64 << 20);
    assert_int_equal(policy->process_limit, 7);
    assert_string_equal(policy->directory, "/x");
    assert_string_equal(policy->name, "box");
    assert_string_equal(policy->host_name, "h");
    assert_true(policy->remove_at_exit && policy->read_only && policy->trace_syscalls &&
                policy->no_patching);
    assert_int_equal(policy->migratable, 2);
    assert_int_equal(policy->user, 5);
    assert_string_equal(policy->program, "prog");
    assert_int_equal(policy->arguments.count, 3);
    assert_string_equal(policy->arguments.items[1], "-v");
    launch_free(&launch);
}

static void the_current_folder_becomes_the_working_folder(void **state)
{
    struct launch launch;
    struct error error = {0};
    char *folder = test_folder();
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(read_launch(&launch, &error, (const char *const[]){"-v", ".", "ls", NULL}), 0);
    assert_string_equal(launch.policy.directory, folder);
    assert_string_equal(launch.policy.mounts[0].guest_path, folder);
    launch_free(&launch);
    assert_int_equal(
        read_launch(&launch, &error, (const char *const[]){"-w", "/x", "-v", ".", "ls", NULL}), 0);
    assert_string_equal(launch.policy.directory, "/x");
    launch_free(&launch);
    assert_int_equal(chdir("/"), 0);
    test_remove(folder);
}

static void the_command_line_overrides_the_policy_file(void **state)
{
    struct launch launch;
    struct error error = {0};
    char *folder = test_folder();
    test_file(folder, "p.yaml",
              "command: [one, two]\nname: a\npids: 5\nvolumes:\n  - host: .\n    guest: /g\n");
    char *path = path_join(folder, "p.yaml");
    assert_int_equal(
        read_launch(&launch, &error,
                    (const char *const[]){"--name", "b", "--policy", path, "-v", "/usr:/h", NULL}),
        0);
    assert_string_equal(launch.policy.name, "b");
    assert_int_equal(launch.policy.process_limit, 5);
    assert_int_equal(launch.policy.mount_count, 2);
    assert_string_equal(launch.policy.program, "one");
    launch_free(&launch);
    assert_int_equal(
        read_launch(&launch, &error, (const char *const[]){"--policy", path, "other", NULL}), 0);
    assert_string_equal(launch.policy.program, "other");
    assert_int_equal(launch.policy.arguments.count, 1);
    launch_free(&launch);
    free(path);
    test_remove(folder);
}

static void wrong_options_of_run_are_refused_with_a_reason(void **state)
{
    static const char *const bad[][3] = {
        {"--memory", "1q", NULL},
        {"--memory", "1k", NULL},
        {"--pids", "0", NULL},
        {"--pids", "99999999", NULL},
        {"--name", "a/b", NULL},
        {"--name", "", NULL},
        {"--user", "me me", NULL},
        {"-w", "relative", NULL},
        {"--trace=x", NULL},
        {"--hostname", "a_b", NULL},
        {"--policy", "/nonexistent", NULL},
        {"-v", "/a:b", NULL},
        {"--env-file", "/nonexistent", NULL},
        {"--detach=perhaps", NULL},
        {"--volumes", "x", NULL},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct launch launch;
        struct error error = {0};
        assert_true(read_launch(&launch, &error, bad[i]) < 0);
        assert_true(error.message[0]);
        assert_int_equal(error.exit_status, EXIT_BAILEY);
        launch_free(&launch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_as_getopt_reads_them),
        cmocka_unit_test(words_may_stand_anywhere_or_end_the_options),
        cmocka_unit_test(the_options_of_run_make_a_policy),
        cmocka_unit_test(the_current_folder_becomes_the_working_folder),
        cmocka_unit_test(the_command_line_overrides_the_policy_file),
        cmocka_unit_test(wrong_options_of_run_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
