/* bailey wait: the exit codes of sandboxes, when they have one. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/state.h>

#include <stdio.h>

static int wait_for(const char *name, void *context, struct error *error)
{
    cleanup_sandbox struct sandbox sandbox = {0};
    int result = state_find(name, &sandbox, error);
    if (result < 0)
        return result;
    int exit_status = sandbox.exit_status;
    if (sandbox.status == SANDBOX_RUNNING) {
        cleanup_client struct client client = {.socket = -1};
        result = client_open(&client, name, error);
        if (result == 0)
            result = client_ask(&client, CONTROL_WAIT, 0, error);
        if (result == 0)
            result = client_receive_until(&client, CONTROL_ENDED, NULL, error);
        if (result < 0)
            return result;
        exit_status = exit_status_of(client.answer.value);
    }
    printf("%d\n", exit_status);
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    struct option_reader reader = {.command = &command_wait, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        ;
    if (error->code || reader.helped || command_expect_words(&reader, 1, -1, error) < 0)
        return error->code;
    return command_for_each(&reader, wait_for, NULL, error);
}

const struct command command_wait = {
    .name = "wait",
    .arguments = "NAME...",
    .summary = "Wait until sandboxes have ended and print their exit codes",
    .run = run,
};
