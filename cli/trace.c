/* bailey trace: watches the system calls of a running sandbox, as strace prints them; ends with
 * Ctrl-C or with the sandbox. Or of a program that it starts: then it is `bailey run --trace`. */
#include <cli/client.h>
#include <cli/command.h>

#include <bailey/start.h>
#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <stdio.h>

static const struct option_help options[] = {
    {0, "abi", NULL, "calls of the ABI, one level below (needs a start with --trace=abi)"},
    {0, "all", NULL, "both"},
    {'o', "output", "FILE", "write to FILE instead of standard output"},
    {0, "json", NULL, "one JSON object a line: {\"line\": ...}"},
    {0, NULL, NULL, NULL},
};

static int follow(struct client *client, bool as_json, FILE *out, struct error *error)
{
    for (;;) {
        int result = client_receive(client, error);
        if (result < 0)
            return result;
        if (client->answer.kind == CONTROL_ENDED)
            return 0;
        if (client->answer.kind != CONTROL_LINES)
            continue;
        if (as_json)
            command_print_json_lines(out, "line", client->payload, client->answer.size);
        else
            fwrite(client->payload, 1, client->answer.size, out);
        if (fflush(out) != 0)
            return errno == EPIPE ? 0 : error_set_errno(error, -errno, "cannot write the trace");
    }
}

static const char *const trace_options[] = {
    [BLY_START_TRACE_SYSCALLS] = "--trace=syscalls",
    [BLY_START_TRACE_ABI] = "--trace=abi",
    [BLY_START_TRACE_SYSCALLS | BLY_START_TRACE_ABI] = "--trace=all",
};

static int trace_program(const struct option_reader *reader, int32_t flags, struct error *error)
{
    cleanup_free char **words = memory_new(((size_t)reader->word_count + 3) * sizeof(*words));
    words[0] = (char *)command_run.name;
    words[1] = (char *)trace_options[flags];
    for (int i = 0; i < reader->word_count; i++)
        words[i + 2] = reader->words[i];
    return command_run.run(reader->word_count + 2, words, error);
}

static int run(int argc, char **argv, struct error *error)
{
    int32_t flags = BLY_START_TRACE_SYSCALLS;
    cleanup_file FILE *file = NULL;
    bool as_json = false;
    struct option_reader reader = {.command = &command_trace, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (text_equal(option->name, "json")) {
            as_json = true;
            continue;
        }
        if (option->letter != 'o') {
            flags = option->name[1] == 'b' ? BLY_START_TRACE_ABI
                                           : BLY_START_TRACE_ABI | BLY_START_TRACE_SYSCALLS;
            continue;
        }
        file = fopen(reader.value, "we");
        if (!file)
            return error_set_errno(error, -errno, "cannot write %s", reader.value);
    }
    if (error->code || reader.helped ||
        command_expect_words(&reader, 1, reader.separated ? -1 : 1, error) < 0)
        return error->code;
    if (reader.separated && (file || as_json))
        return error_set(error, -EINVAL,
                         "trace: -o and --json are for running sandboxes; what a program's trace "
                         "prints goes to standard error (2>FILE)");
    if (reader.separated)
        return trace_program(&reader, flags, error);
    cleanup_client struct client client = {.socket = -1};
    if (client_open(&client, reader.words[0], error) < 0 ||
        client_ask(&client, CONTROL_TRACE, flags, error) < 0)
        return error->code;
    return follow(&client, as_json, file ? file : stdout, error);
}

const struct command command_trace = {
    .name = "trace",
    .arguments = "NAME | -- [OPTIONS of run] PROGRAM [ARGUMENTS...]",
    .summary = "Print the system calls of a running sandbox or of a program, with times",
    .run = run,
    .options = options,
    .examples = "  bailey trace web                       until Ctrl-C\n"
                "  bailey trace -- -v . ls                a program, from its first call on\n",
};
