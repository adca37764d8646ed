/* bailey rm: forgets what ended; with --force, ends it first. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/state.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct removal {
    bool force;
};

/* By force: the monitor itself is ended, which ends the sandbox with it. */
static int end_by_force(const char *name, struct error *error)
{
    struct sandbox sandbox;
    int result = state_find(name, &sandbox, error);
    pid_t pid = sandbox.pid;
    bool running = sandbox.status == SANDBOX_RUNNING;
    sandbox_free(&sandbox);
    if (result < 0 || !running)
        return result == -ENOENT ? 0 : result;
    struct error refused = {0};
    struct client client = {.socket = -1};
    result = client_open(&client, name, &refused);
    if (result == 0)
        result = client_ask(&client, CONTROL_STOP, 0, &refused);
    if (result == 0)
        result = client_receive_until(&client, CONTROL_ENDED, NULL, &refused);
    client_close(&client);
    if (result < 0 && pid > 0)
        kill(pid, SIGKILL);
    /* The monitor's lock goes last. */
    for (int i = 0; i < 500; i++) {
        result = state_find(name, &sandbox, &refused);
        running = sandbox.status == SANDBOX_RUNNING;
        sandbox_free(&sandbox);
        if (result < 0 || !running)
            return 0;
        usleep(10000);
    }
    return error_set(error, -EBUSY, "the sandbox %s does not end", name);
}

static int remove_one(const char *name, void *context, struct error *error)
{
    const struct removal *removal = context;
    int result = removal->force ? end_by_force(name, error) : 0;
    if (result == 0)
        result = state_remove(name, error);
    if (result == -EBUSY && !removal->force)
        error_hint(error, "bailey stop %s first, or use --force", name);
    /* One that was not to be kept removes itself when it ends. */
    if (result == -ENOENT && removal->force)
        result = 0;
    if (result == 0)
        printf("%s\n", name);
    return result;
}

static int remove_ended(struct error *error)
{
    struct sandbox *list;
    size_t count;
    int result = state_list(&list, &count, error);
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (list[i].status != SANDBOX_RUNNING) {
            result = state_remove(list[i].name, error);
            if (result == 0)
                printf("%s\n", list[i].name);
        }
    }
    for (size_t i = 0; i < count; i++)
        sandbox_free(&list[i]);
    free(list);
    return result;
}

static const struct option_help options[] = {
    {'f', "force", NULL, "end it first if it is running; one that is not there is no error"},
    {'a', "all", NULL, "all that have ended"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    struct removal removal = {0};
    bool all = false;
    struct option_reader reader = {.command = &command_rm, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        removal.force |= option->letter == 'f';
        all |= option->letter == 'a';
    }
    if (error->code || reader.helped || command_expect_words(&reader, all ? 0 : 1, all ? 0 : -1, error) < 0)
        return error->code;
    return all ? remove_ended(error) : command_for_each(&reader, remove_one, &removal, error);
}

const struct command command_rm = {
    .name = "rm",
    .arguments = "NAME...",
    .summary = "Forget sandboxes that have ended",
    .run = run,
    .options = options,
};
