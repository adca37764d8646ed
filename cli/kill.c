/* bailey kill: a signal for the first program of a sandbox. */
#include <cli/client.h>
#include <cli/command.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>

struct killing {
    int signal;
    bool as_json;
};

static int kill_one(const char *name, void *context, struct error *error)
{
    const struct killing *killing = context;
    cleanup_client struct client client = {.socket = -1};
    int result = client_open(&client, name, error);
    if (result == 0)
        result = client_ask(&client, CONTROL_SIGNAL, killing->signal, error);
    if (result == 0)
        result = client_receive_until(&client, CONTROL_DONE, NULL, error);
    if (result == 0 && killing->as_json)
        command_print_json(name, "signal", killing->signal);
    else if (result == 0)
        printf("%s\n", name);
    return result;
}

static const struct option_help options[] = {
    {'s', "signal", "SIGNAL", "by name or number (default: KILL)"},
    {0, "json", NULL, "one JSON object a line"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    struct killing killing = {.signal = SIGKILL};
    struct option_reader reader = {.command = &command_kill, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (!option->letter) {
            killing.as_json = true;
            continue;
        }
        killing.signal = signal_number(reader.value);
        if (!killing.signal)
            return error_set(error, -EINVAL, "kill: there is no signal %s", reader.value);
    }
    if (error->code || reader.helped || command_expect_words(&reader, 1, -1, error) < 0)
        return error->code;
    return command_for_each(&reader, kill_one, &killing, error);
}

const struct command command_kill = {
    .name = "kill",
    .arguments = "NAME...",
    .summary = "Send a signal to the first program of sandboxes",
    .run = run,
    .options = options,
};
