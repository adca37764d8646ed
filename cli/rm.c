/* bailey rm: forgets what ended; with --force, ends it first. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/state.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ENDING_ATTEMPTS 500
#define ENDING_STEP_US 10000

struct removal {
    bool force, as_json;
};

static void print_removed(const char *name, bool as_json)
{
    if (as_json)
        command_print_json(name, NULL, 0);
    else
        printf("%s\n", name);
}

static bool is_running(const char *name, pid_t *out_pid)
{
    struct error ignored = {0};
    cleanup_sandbox struct sandbox sandbox = {0};
    bool running = state_find(name, &sandbox, &ignored) == 0 && sandbox.status == SANDBOX_RUNNING;
    *out_pid = sandbox.pid;
    return running;
}

/* By force: a monitor that does not end its sandbox when asked is ended itself, and the sandbox
 * with it. */
static int end_by_force(const char *name, struct error *error)
{
    pid_t monitor;
    int exit_status;
    struct error refused = {0};
    if (!is_running(name, &monitor))
        return 0;
    if (client_wait_for_end(name, CONTROL_STOP, 0, &exit_status, &refused) < 0 &&
        is_running(name, &monitor) && monitor > 0)
        kill(monitor, SIGKILL);
    /* The monitor's lock goes last. */
    for (int i = 0; i < ENDING_ATTEMPTS; i++) {
        if (!is_running(name, &monitor))
            return 0;
        usleep(ENDING_STEP_US);
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
        print_removed(name, removal->as_json);
    return result;
}

static int remove_ended(bool as_json, struct error *error)
{
    struct sandbox *list;
    size_t count;
    int result = state_list(&list, &count, error);
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (list[i].status != SANDBOX_RUNNING) {
            result = state_remove(list[i].name, error);
            if (result == 0)
                print_removed(list[i].name, as_json);
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
    {0, "json", NULL, "one JSON object a line"},
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
        removal.as_json |= option->letter == 0;
    }
    if (error->code || reader.helped ||
        command_expect_words(&reader, all ? 0 : 1, all ? 0 : -1, error) < 0)
        return error->code;
    return all ? remove_ended(removal.as_json, error)
               : command_for_each(&reader, remove_one, &removal, error);
}

const struct command command_rm = {
    .name = "rm",
    .arguments = "NAME...",
    .summary = "Forget sandboxes that have ended",
    .run = run,
    .options = options,
};
