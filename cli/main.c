/* bailey: the command line. Finds the command in the table and prints its error, if any, once. */
#include <cli/command.h>
#include <cli/hand-over.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct command *const commands[] = {
    &command_run,     &command_ps,      &command_exec,   &command_attach, &command_wait,
    &command_stop,    &command_kill,    &command_rm,     &command_logs,   &command_cp,
    &command_inspect, &command_suspend, &command_resume, &command_clone,  &command_migrate,
    &command_receive, &command_image,   &command_trace,  &command_policy, &command_check,
    &command_version, &command_help,
};
const size_t command_count = sizeof(commands) / sizeof(commands[0]);

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (text_equal(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name, struct error *error)
{
    const char *names[32];
    for (size_t i = 0; i < command_count; i++)
        names[i] = commands[i]->name;
    error_set(error, -EINVAL, "there is no command %s", name);
    const char *nearest = text_nearest(name, names, command_count);
    if (nearest)
        return error_hint(error, "did you mean %s?", nearest);
    if (name[0] == '-')
        return error_hint(error, "options come after a command: bailey help lists these");
    return error_hint(error, "bailey help lists them; a program is started with: bailey run %s",
                      name);
}

int main(int argc, char **argv)
{
    struct error error = {0};
    int status;
    if (argc < 2) {
        command_print_overview(stderr);
        return EXIT_BAILEY;
    }
    if (text_equal(argv[1], "--help") || text_equal(argv[1], "-h")) {
        command_print_overview(stdout);
        return 0;
    }
    const char *name = text_equal(argv[1], "--version") ? "version" : argv[1];
    const struct command *command = command_find(name);
    /* As they were: commands reorder theirs. */
    cleanup_free char **arguments = memory_new(((size_t)argc + 1) * sizeof(*arguments));
    memcpy(arguments, argv, (size_t)argc * sizeof(*arguments));
    if (command)
        status = command->run(argc - 1, argv + 1, &error);
    else
        status = unknown_command(name, &error);
    if (status >= 0) {
        /* A full disk behind standard output is a failure of ours, not a detail. */
        if (fflush(stdout) != 0 && errno != EPIPE) {
            error_set_errno(&error, -errno, "cannot write to standard output");
            status = -EIO;
        }
    }
    if (status < 0 && error.exit_status == EXIT_HAND_OVER)
        hand_over(arguments, &error);
    if (status < 0) {
        error_print(&error);
        return error.exit_status;
    }
    return status;
}
