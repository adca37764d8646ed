/* bailey inspect: all there is to know about a sandbox, as JSON. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/state.h>

#include <base/json.h>
#include <stdio.h>

static const struct option_help options[] = {
    {0, "json", NULL, "print JSON (it always does)"},
    {0, NULL, NULL, NULL},
};

static int inspect(const char *name, struct json *json, struct error *error)
{
    cleanup_sandbox struct sandbox sandbox = {0};
    int result = state_find(name, &sandbox, error);
    if (result < 0)
        return result;
    cleanup_text struct text lines = {0};
    if (sandbox.status == SANDBOX_RUNNING) {
        cleanup_client struct client client = {.socket = -1};
        result = client_open(&client, name, error);
        if (result == 0)
            result = client_ask(&client, CONTROL_INSPECT, 0, error);
        if (result == 0)
            result = client_receive_until(&client, CONTROL_DONE, &lines, error);
        if (result < 0)
            return result;
    }
    json_object(json);
    json_key(json, "state");
    sandbox_write_json(&sandbox, json);
    if (lines.size) {
        json_key(json, "running");
        json_raw(json);
        text_add_size(json->text, lines.data, lines.size - (lines.data[lines.size - 1] == '\n'));
    }
    json_object_end(json);
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    struct option_reader reader = {.command = &command_inspect, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        ;
    if (error->code || reader.helped || command_expect_words(&reader, 1, -1, error) < 0)
        return error->code;
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_array(&json);
    for (int i = 0; i < reader.word_count; i++)
        if (inspect(reader.words[i], &json, error) < 0)
            return error->code;
    json_array_end(&json);
    printf("%s\n", text.data);
    return 0;
}

const struct command command_inspect = {
    .name = "inspect",
    .arguments = "NAME...",
    .summary = "Print all about sandboxes: policy, state, counters",
    .run = run,
    .options = options,
};
