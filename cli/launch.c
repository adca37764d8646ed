/* From words to a policy: the options of `bailey run`. The policy file is read first, whatever its
 * place among the options, so that the command line always has the last word. */
#include <cli/launch.h>
#include <cli/state.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <limits.h>
#include <monitor/policy/value.h>
#include <monitor/processor-features.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

void launch_free(struct launch *launch)
{
    mon_policy_free(&launch->policy);
}

struct launch_reader {
    struct launch *launch;
    const char *folder; /* where relative paths start */
    struct error *error;
};
typedef int read_function(struct launch_reader *reader, const char *value);

int launch_parse_boolean(const char *option, const char *text, bool *out_value, struct error *error)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no",
                                                                                "off", "0"};
    if (!text) {
        *out_value = true;
        return 0;
    }
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (text_equal(text, yes[i]) || text_equal(text, no[i])) {
            *out_value = text_equal(text, yes[i]);
            return 0;
        }
    }
    return error_set(error, -EINVAL, "--%s=%s: true or false is expected", option, text);
}

bool launch_has_terminal(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

static int read_volume(struct launch_reader *reader, const char *value)
{
    /* The current folder, at its own path: to work in. */
    if ((text_equal(value, ".") || text_equal(value, "./")) && !reader->launch->directory_given)
        text_replace(&reader->launch->policy.directory, text_copy(reader->folder));
    return policy_add_volume(&reader->launch->policy, value, reader->folder, reader->error);
}
static int read_variable(struct launch_reader *reader, const char *value)
{
    return policy_add_variable(&reader->launch->policy.environment, value, reader->error);
}
static int read_variable_file(struct launch_reader *reader, const char *value)
{
    return policy_add_variable_file(&reader->launch->policy.environment, value, reader->error);
}
static int read_directory(struct launch_reader *reader, const char *value)
{
    if (value[0] != '/')
        return error_set(reader->error, -EINVAL,
                         "-w %s: an absolute path in the sandbox is expected", value);
    text_replace(&reader->launch->policy.directory, path_normalise(value));
    reader->launch->directory_given = true;
    return 0;
}
int launch_check_name(const char *name, struct error *error)
{
    if (state_name_is_valid(name))
        return 0;
    return error_set(
        error, -EINVAL,
        "%s cannot be a sandbox's name: letters, digits, _ . - are expected, at most 63", name);
}
static int read_name(struct launch_reader *reader, const char *value)
{
    text_replace(&reader->launch->policy.name, text_copy(value));
    return launch_check_name(value, reader->error);
}
static int read_detach(struct launch_reader *reader, const char *value)
{
    return launch_parse_boolean("detach", value, &reader->launch->policy.detach, reader->error);
}
static int read_interactive(struct launch_reader *reader, const char *value)
{
    return launch_parse_boolean("interactive", value, &reader->launch->policy.interactive,
                                reader->error);
}
static int read_tty(struct launch_reader *reader, const char *value)
{
    reader->launch->policy.terminal_given = true;
    return launch_parse_boolean("tty", value, &reader->launch->policy.terminal, reader->error);
}
static int read_rm(struct launch_reader *reader, const char *value)
{
    return launch_parse_boolean("rm", value, &reader->launch->policy.remove_at_exit, reader->error);
}
static int read_memory(struct launch_reader *reader, const char *value)
{
    reader->launch->policy.memory_given = true;
    return policy_parse_memory(value, &reader->launch->policy.memory_limit, reader->error);
}
static int read_pids(struct launch_reader *reader, const char *value)
{
    return policy_parse_number("--pids", value, 1, MON_PROCESS_LIMIT_MAX,
                               &reader->launch->policy.process_limit, reader->error);
}
static int read_read_only(struct launch_reader *reader, const char *value)
{
    return launch_parse_boolean("read-only", value, &reader->launch->policy.read_only,
                                reader->error);
}
static int read_layer(struct launch_reader *reader, const char *value)
{
    text_replace(&reader->launch->policy.layer_path, path_join(reader->folder, value));
    return 0;
}
static int read_user(struct launch_reader *reader, const char *value)
{
    struct mon_policy *policy = &reader->launch->policy;
    return policy_parse_user(value, &policy->user, &policy->group, reader->error);
}
static int read_host_name(struct launch_reader *reader, const char *value)
{
    text_replace(&reader->launch->policy.host_name, text_copy(value));
    return policy_check_host_name(value, reader->error);
}
static int read_rootfs(struct launch_reader *reader, const char *value)
{
    text_replace(&reader->launch->policy.rootfs, path_join(reader->folder, value));
    return 0;
}
static int read_audit(struct launch_reader *reader, const char *value)
{
    text_replace(&reader->launch->policy.audit_path, path_join(reader->folder, value));
    return 0;
}
static int read_trace(struct launch_reader *reader, const char *value)
{
    struct mon_policy *policy = &reader->launch->policy;
    if (!value || text_equal(value, "syscalls") || text_equal(value, "all"))
        policy->trace_syscalls = true;
    if (value && (text_equal(value, "abi") || text_equal(value, "all")))
        policy->trace_abi = true;
    if (!policy->trace_syscalls && !policy->trace_abi)
        return error_set(reader->error, -EINVAL, "--trace=%s: syscalls, abi or all is expected",
                         value);
    return 0;
}
static int read_no_patch(struct launch_reader *reader, const char *value)
{
    reader->launch->policy.no_patching = true;
    return 0;
}
static int read_migratable(struct launch_reader *reader, const char *value)
{
    int result = policy_parse_level(value, &reader->launch->policy.migratable, reader->error);
    return result < 0 ? error_wrap(reader->error, "--migratable") : 0;
}
static int read_policy(struct launch_reader *reader, const char *value)
{
    return 0; /* read before all others */
}

const struct option_help launch_options[] = {
    {'v', "volume", "HOST[:GUEST][:ro]",
     "give a folder or file (read-write unless :ro); -v . is the current folder, to work in"},
    {'e', "env", "NAME[=VALUE]", "set a variable, or pass one on from here"},
    {0, "env-file", "FILE", "variables from a file, NAME=VALUE a line"},
    {'w', "workdir", "DIR", "working folder in the sandbox"},
    {0, "name", "NAME", "name of the sandbox (else one is made up)"},
    {'d', "detach", "[=BOOL]", "run in the background and print the name"},
    {'i', "interactive", "[=BOOL]", "keep standard input open (in the foreground it always is)"},
    {'t', "tty", "[=BOOL]", "give the program a terminal (the default when run from one)"},
    {0, "rm", "[=BOOL]", "forget the sandbox when it has ended"},
    {0, "memory", "SIZE",
     "memory limit, files of the private layer included (512m, 2g; default: three quarters of the "
     "host's; 0: none)"},
    {0, "pids", "N", "limit of processes and threads (default 4096)"},
    {0, "read-only", "[=BOOL]", "no private writable layer over the root (only /tmp and /run)"},
    {0, "layer", "DIR", "begin with the private layer kept in DIR, and keep it there at the end"},
    {0, "user", "UID[:GID]", "user that the program runs as inside (default: root)"},
    {0, "hostname", "NAME", "host name inside"},
    {0, "rootfs", "DIR", "use DIR as root instead of the view of this host"},
    {0, "policy", "FILE", "read a policy file; options add to it and override it"},
    {0, "audit", "FILE", "write every decision to FILE, one JSON object a line"},
    {0, "trace", "[=WHAT]", "print system calls to standard error (WHAT: syscalls, abi, all)"},
    {0, "migratable", "LEVEL",
     "show programs a processor of this level only (x86-64-v2, -v3, -v4), so that they can go on "
     "on any that has it"},
    {0, "no-patch", NULL, "never patch system-call sites (slower; for debugging)"},
    {0, NULL, NULL, NULL},
};
/* In the order of launch_options. */
static read_function *const readers[] = {
    read_volume, read_variable,    read_variable_file, read_directory, read_name,
    read_detach, read_interactive, read_tty,           read_rm,        read_memory,
    read_pids,   read_read_only,   read_layer,         read_user,      read_host_name,
    read_rootfs, read_policy,      read_audit,         read_trace,     read_migratable,
    read_no_patch,
};
_Static_assert(sizeof(launch_options) / sizeof(launch_options[0]) ==
                   sizeof(readers) / sizeof(readers[0]) + 1,
               "each option has its reader");

/* The policy file, wherever it stands among the options. */
static int read_policy_first(struct launch *launch, const struct command *command, int argc,
                             char **argv, struct error *error)
{
    struct option_reader reader = {.command = command, .argc = argc, .argv = argv, .quiet = true};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (!option->name || !text_equal(option->name, "policy"))
            continue;
        int result = mon_policy_read_file(&launch->policy, reader.value, error);
        if (result < 0)
            return result;
    }
    return error->code;
}

int launch_read(struct launch *launch, const struct command *command, int argc, char **argv,
                struct error *error)
{
    char current[PATH_MAX];
    if (!getcwd(current, sizeof(current)))
        return error_set_errno(error, -errno, "cannot tell the current folder");
    int result = read_policy_first(launch, command, argc, argv, error);
    if (result < 0)
        return result;
    struct launch_reader target = {.launch = launch, .folder = current, .error = error};
    struct option_reader reader = {.command = command, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        for (size_t i = 0; launch_options[i].name; i++)
            if (text_equal(launch_options[i].name, option->name))
                result = readers[i](&target, reader.value);
        if (result < 0)
            return result;
    }
    if (error->code < 0)
        return error->code;
    if (reader.helped)
        return 1;
    struct mon_policy *policy = &launch->policy;
    if (reader.word_count > 0) {
        text_replace(&policy->program, text_copy(reader.words[0]));
        text_list_free(&policy->arguments);
        for (int i = 0; i < reader.word_count; i++)
            text_list_add(&policy->arguments, reader.words[i]);
    }
    return 0;
}

/* Three quarters of the host's memory: enough for a sandbox that has the machine for itself, and
 * the host goes on. */
uint64_t launch_default_memory_limit(void)
{
    struct sysinfo host;
    if (sysinfo(&host) < 0)
        return 0;
    uint64_t megabytes = (uint64_t)host.totalram * host.mem_unit / 4 * 3 >> 20;
    return megabytes << 20;
}

void launch_set_limits(struct mon_policy *policy)
{
    if (!policy->memory_given && !policy->memory_limit)
        policy->memory_limit = launch_default_memory_limit();
    if (!policy->process_limit)
        policy->process_limit = LAUNCH_PROCESS_LIMIT;
}

int launch_complete(struct launch *launch, struct error *error)
{
    struct mon_policy *policy = &launch->policy;
    int result = launch_check_name(policy->name, error);
    if (result < 0)
        return result;
    if (!policy->host_name) {
        /* A host name has no underscores; a sandbox's name may. */
        policy->host_name = text_copy(policy->name);
        for (char *c = policy->host_name; *c; c++)
            if (*c == '_')
                *c = '-';
    }
    if (!policy->terminal_given)
        policy->terminal = !policy->detach && launch_has_terminal();
    policy_default_environment(&policy->environment, policy->user, policy->host_name,
                               policy->terminal);
    if (!policy->directory)
        policy->directory = text_copy("/");
    if (policy->layer_path && policy->read_only)
        return error_set(error, -EINVAL, "--layer and --read-only contradict each other");
    launch_set_limits(policy);
    if (!policy->open_file_limit)
        policy->open_file_limit = 1048576;
    result = mon_policy_add_root(policy, error);
    if (result == 0)
        result = mon_policy_check(policy, error);
    if (result < 0 || !policy->migratable)
        return result;
    struct mon_features here;
    mon_processor_features(&here);
    return mon_policy_check_processor(policy, &here, mon_processor_can_fault(), error);
}
