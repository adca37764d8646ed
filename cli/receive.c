/* bailey receive: waits for sandboxes that `bailey migrate` sends from other machines, and goes on
 * with them in the background. */
#include <cli/command.h>
#include <cli/launch.h>
#include <cli/move.h>
#include <cli/resume.h>
#include <cli/unpack.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <monitor/policy/value.h>
#include <stdlib.h>

static const struct option_help options[] = {
    {0, "key", "FILE", "the key that both sides have"},
    {0, "once", NULL, "end after the first sandbox that came, or failed to"},
    {0, "name", "NAME", "name of the sandbox (else the one it had)"},
    {0, "directory", "DIR",
     "where the memory of arriving sandboxes is kept (default: TMPDIR, or /var/tmp)"},
    {0, "limit", "SIZE",
     "take no sandbox with more memory than this, carried files included (4g; default: nine tenths "
     "of what is free in the directory, at most 64g)"},
    {0, "timeout", "SECONDS", "give up a side that is silent for so long (default: 30)"},
    RESUMPTION_OPTIONS,
    {0, NULL, NULL, NULL},
};

static int read_option(struct receive_request *request, struct resumption *granted,
                       const struct option_help *option, const char *value, struct error *error)
{
    if (resumption_option(granted, option, value, error))
        return error->code;
    if (text_equal(option->name, "timeout"))
        return move_parse_timeout("receive", value, &request->patience_ms, error);
    if (text_equal(option->name, "limit"))
        return policy_parse_size(value, &request->limit, error);
    if (text_equal(option->name, "key"))
        request->key = value;
    else if (text_equal(option->name, "directory"))
        request->folder = value;
    else if (text_equal(option->name, "name"))
        request->name = value;
    request->once |= text_equal(option->name, "once");
    return request->name ? launch_check_name(request->name, error) : 0;
}

static int run(int argc, char **argv, struct error *error)
{
    cleanup_resumption struct resumption granted;
    struct receive_request request = {
        .granted = &granted,
        .folder = temporary_folder(),
        .patience_ms = MOVE_PATIENCE_MS,
    };
    struct option_reader reader = {.command = &command_receive, .argc = argc, .argv = argv};
    resumption_init(&granted);
    for (const struct option_help *option; (option = option_next(&reader, error));)
        if (read_option(&request, &granted, option, reader.value, error) < 0)
            return error->code;
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    if (!request.key) {
        error_set(error, -EINVAL, "receive: --key FILE is missing: the key that both sides have");
        return error_hint(error, "bailey migrate --new-key FILE makes one");
    }
    request.where = reader.words[0];
    return receive_run(&request, error);
}

const struct command command_receive = {
    .name = "receive",
    .arguments = "HOST:PORT",
    .summary = "Wait for sandboxes that bailey migrate sends, and go on with them",
    .run = run,
    .options = options,
    .examples = "  bailey receive 192.0.2.7:7000 --key move.key\n"
                "  bailey receive 192.0.2.7:7000 --key move.key --once -v ~/data:/data\n",
};
