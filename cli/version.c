/* bailey version. */
#include <cli/command.h>

#include <bailey/abi.h>
#include <base/json.h>
#include <stdio.h>

static const struct option_help options[] = {
    {0, "json", NULL, "print JSON"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    bool as_json = false;
    struct option_reader reader = {.command = &command_version, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        as_json = true;
    if (error->code || reader.helped || command_expect_words(&reader, 0, 0, error) < 0)
        return error->code;
    if (!as_json) {
        printf("bailey %s (ABI %u)\n", BAILEY_VERSION, BLY_ABI_VERSION);
        return 0;
    }
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_object(&json);
    json_key_string(&json, "version", BAILEY_VERSION);
    json_key_number(&json, "abi", BLY_ABI_VERSION);
    json_object_end(&json);
    printf("%s\n", text.data);
    return 0;
}

const struct command command_version = {
    .name = "version",
    .arguments = "",
    .summary = "Print the version",
    .run = run,
    .options = options,
};
