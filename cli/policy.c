/* bailey policy: shows what a run would be given, checks a policy file, and learns a minimal one
 * from a run. */
#include <cli/command.h>
#include <cli/launch.h>
#include <cli/learn.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- show ---- */

/* A JSON string is a YAML string too. */
static void add_string(struct text *out, const char *before, const char *value)
{
    struct json json = json_to(out);
    text_add(out, before);
    json_string(&json, value);
    text_add_character(out, '\n');
}

static void add_list(struct text *out, const char *key, const struct text_list *list)
{
    if (!list->count)
        return;
    text_format(out, "%s:\n", key);
    for (size_t i = 0; i < list->count; i++)
        add_string(out, "  - ", list->items[i]);
}

static void add_truth(struct text *out, const char *key, bool value)
{
    if (value)
        text_format(out, "%s: true\n", key);
}

void policy_write_yaml(const struct mon_policy *policy, struct text *out)
{
    add_list(out, "command", &policy->arguments);
    if (policy->directory)
        add_string(out, "workdir: ", policy->directory);
    if (policy->user || policy->group)
        text_format(out, "user: \"%u:%u\"\n", policy->user, policy->group);
    add_list(out, "environment", &policy->environment);
    if (policy->rootfs)
        add_string(out, "rootfs: ", policy->rootfs);
    else
        text_format(out, "view: %s\n", policy->no_view ? "none" : "host");
    add_truth(out, "read-only", policy->read_only);
    if (policy->layer_path)
        add_string(out, "layer: ", policy->layer_path);
    if (policy->memory_given)
        text_format(out, "memory: \"%llu\"\n", (unsigned long long)policy->memory_limit);
    if (policy->process_limit)
        text_format(out, "pids: %u\n", policy->process_limit);
    bool has_volumes = false;
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        if ((mount->flags & (MON_MOUNT_DEFAULT_VIEW | BLY_MOUNT_STORE)) ||
            (policy->rootfs && text_equal(mount->guest_path, "/")))
            continue;
        if (!has_volumes)
            text_add(out, "volumes:\n");
        has_volumes = true;
        add_string(out, "  - host: ", mount->host_path);
        if (!text_equal(mount->host_path, mount->guest_path))
            add_string(out, "    guest: ", mount->guest_path);
        const char *access = "rw";
        if (mount->flags & BLY_MOUNT_LAYERED)
            access = "overlay";
        else if (mount->flags & BLY_MOUNT_READ_ONLY)
            access = "ro";
        text_format(out, "    access: %s\n", access);
    }
}

static void add_view(const struct mon_policy *policy, struct text *out)
{
    text_add(out, "# Of this host, read-only, without private files:");
    for (size_t i = 0; i < policy->mount_count; i++)
        if (policy->mounts[i].flags & MON_MOUNT_DEFAULT_VIEW)
            text_format(out, " %s", policy->mounts[i].guest_path);
    text_add(out, "\n# Made for the sandbox:");
    for (size_t i = 0; i < policy->node_count; i++)
        text_format(out, " %s", policy->nodes[i].path);
    if (!policy->memory_given)
        text_format(out, "\n# Memory: at most %llu MiB, three quarters of this host's",
                    (unsigned long long)policy->memory_limit >> 20);
    text_add(out, "\n# Network: none\n");
}

static bool take_json(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (argv[i][0] != '-')
            break;
        if (text_equal(argv[i], "--json")) {
            memmove(argv + i, argv + i + 1, (size_t)(*argc - i) * sizeof(*argv));
            --*argc;
            return true;
        }
    }
    return false;
}

static int show(int argc, char **argv, struct error *error)
{
    bool as_json = take_json(&argc, argv);
    cleanup_launch struct launch launch = {0};
    int result = launch_read(&launch, &command_policy_show, argc, argv, error);
    if (result != 0)
        return result < 0 ? result : 0;
    struct mon_policy *policy = &launch.policy;
    if (!policy->name)
        policy->name = text_copy("NAME");
    result = launch_complete(&launch, error);
    if (result < 0)
        return result;
    cleanup_text struct text text = {0};
    if (as_json) {
        mon_policy_write_json(policy, &text);
        text_add_character(&text, '\n');
    } else {
        policy_write_yaml(policy, &text);
        add_view(policy, &text);
    }
    fputs(text.data, stdout);
    return 0;
}

/* ---- check ---- */

static int check(int argc, char **argv, struct error *error)
{
    if (argc != 2)
        return error_set(error, -EINVAL, "policy check: one policy file is expected");
    cleanup_launch struct launch launch = {0};
    int result = mon_policy_read_file(&launch.policy, argv[1], error);
    if (result < 0)
        return result;
    if (!launch.policy.name)
        launch.policy.name = text_copy("NAME");
    result = launch_complete(&launch, error);
    if (result < 0)
        return error_wrap(error, "%s", argv[1]);
    printf("%s: good\n", argv[1]);
    return 0;
}

/* ---- The command ---- */

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv, struct error *error);
} parts[] = {
    {"show",
     "bailey policy show [--json] [OPTIONS OF run] [PROGRAM...]   what such a run would be given",
     show},
    {"check",
     "bailey policy check FILE                                    reads a policy file and says "
     "what is wrong with it",
     check},
    {"learn",
     "bailey policy learn -o FILE [OPTIONS OF run] -- PROGRAM...  runs a program and writes the "
     "policy it needed",
     learn_policy},
};

static void print_help(void)
{
    printf("Usage: bailey policy show|check|learn ...\n\n%s.\n\n", command_policy.summary);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        printf("  %s\n", parts[i].help);
    printf("\nThe file is described in docs/policy.md.\n");
}

static int run(int argc, char **argv, struct error *error)
{
    if (argc < 2 || text_equal(argv[1], "--help") || text_equal(argv[1], "-h")) {
        print_help();
        return argc < 2 ? EXIT_BAILEY : 0;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (text_equal(parts[i].name, argv[1]))
            return parts[i].run(argc - 1, argv + 1, error);
    return error_set(error, -EINVAL, "policy: there is no %s (show, check and learn are)", argv[1]);
}

const struct command command_policy = {
    .name = "policy",
    .arguments = "show|check|learn ...",
    .summary = "Show, check or learn what a sandbox is given",
    .run = run,
};
const struct command command_policy_show = {
    .name = "policy show",
    .arguments = "[PROGRAM [ARGUMENTS...]]",
    .summary = "Show what a run with these options would be given",
    .options = launch_options,
    .options_end_at_first = true,
};
