/* bailey wait: the exit codes of sandboxes, when they have one. */
#include <cli/client.h>
#include <cli/command.h>

#include <stdio.h>

static int wait_for(const char *name, void *context, struct error *error)
{
    int exit_status;
    int result = client_wait_for_end(name, CONTROL_WAIT, 0, &exit_status, error);
    if (result < 0)
        return result;
    if (*(const bool *)context)
        command_print_json(name, "exit_status", exit_status);
    else
        printf("%d\n", exit_status);
    return 0;
}

static const struct option_help options[] = {
    {0, "json", NULL, "one JSON object a line"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    struct option_reader reader = {.command = &command_wait, .argc = argc, .argv = argv};
    bool as_json = false;
    while (option_next(&reader, error))
        as_json = true;
    if (error->code || reader.helped || command_expect_words(&reader, 1, -1, error) < 0)
        return error->code;
    return command_for_each(&reader, wait_for, &as_json, error);
}

const struct command command_wait = {
    .name = "wait",
    .arguments = "NAME...",
    .summary = "Wait until sandboxes have ended and print their exit codes",
    .run = run,
    .options = options,
};
