/* bailey stop: the friendly end: SIGTERM first. */
#include <cli/client.h>
#include <cli/command.h>

#include <monitor/policy/value.h>
#include <stdio.h>

#define STOP_GRACE_MAX 86400u /* seconds */

struct stopping {
    uint32_t grace;
    bool as_json;
};

static int stop_one(const char *name, void *context, struct error *error)
{
    const struct stopping *stopping = context;
    int exit_status;
    int result = client_wait_for_end(name, CONTROL_STOP, (int32_t)(stopping->grace * 1000),
                                     &exit_status, error);
    if (result < 0)
        return result;
    if (stopping->as_json)
        command_print_json(name, "exit_status", exit_status);
    else
        printf("%s\n", name);
    return 0;
}

static const struct option_help options[] = {
    {'t', "time", "SECONDS", "how long programs may take to end by themselves (default: 10)"},
    {0, "json", NULL, "one JSON object a line"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    struct stopping stopping = {.grace = 10};
    struct option_reader reader = {.command = &command_stop, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        stopping.as_json |= option->letter == 0;
        if (option->letter && policy_parse_number("--time", reader.value, 0, STOP_GRACE_MAX,
                                                  &stopping.grace, error) < 0)
            return error->code;
    }
    if (error->code || reader.helped || command_expect_words(&reader, 1, -1, error) < 0)
        return error->code;
    return command_for_each(&reader, stop_one, &stopping, error);
}

const struct command command_stop = {
    .name = "stop",
    .arguments = "NAME...",
    .summary = "End sandboxes: SIGTERM to every program, SIGKILL to those that stay",
    .run = run,
    .options = options,
};
