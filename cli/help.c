/* bailey help: says what the commands do; as JSON, the tables that the manual pages and the shell
 * completions are made from. */
#include <cli/command.h>

#include <base/json.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

void command_print_overview(FILE *out)
{
    fputs("Bailey runs a program in a small walled process with its own operating system as a "
          "library.\n\n"
          "Usage: bailey COMMAND [OPTIONS] ...\n\nCommands:\n",
          out);
    for (size_t i = 0; i < command_count; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nExamples:\n"
          "  bailey run bash                            a shell that sees nothing of yours and has "
          "no network\n"
          "  bailey run -v . make                       work on the current folder, and on nothing "
          "else\n"
          "  bailey run -d --name job -v data:/data:ro python3 /data/job.py\n"
          "\nbailey COMMAND --help says more about one of them.\n",
          out);
}

static void describe_option(struct json *json, const struct option_help *option)
{
    char letter[2] = {option->letter, '\0'};
    json_object(json);
    json_key_string(json, "letter", option->letter ? letter : NULL);
    json_key_string(json, "name", option->name);
    json_key_string(json, "argument", option->argument);
    json_key_string(json, "help", option->help);
    json_object_end(json);
}

static void describe_all(void)
{
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_array(&json);
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = commands[i];
        json_object(&json);
        json_key_string(&json, "name", command->name);
        json_key_string(&json, "arguments", command->arguments);
        json_key_string(&json, "summary", command->summary);
        json_key_string(&json, "examples", command->examples);
        json_key(&json, "options");
        json_array(&json);
        for (const struct option_help *option = command->options; option && option->name; option++)
            describe_option(&json, option);
        json_array_end(&json);
        json_object_end(&json);
    }
    json_array_end(&json);
    printf("%s\n", text.data);
}

static const struct option_help options[] = {
    {0, "json", NULL, "print all commands and options as JSON"},
    {0, NULL, NULL, NULL},
};

static int run(int argc, char **argv, struct error *error)
{
    bool as_json = false;
    struct option_reader reader = {.command = &command_help, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        as_json = true;
    if (error->code || reader.helped || command_expect_words(&reader, 0, 1, error) < 0)
        return error->code;
    if (as_json) {
        describe_all();
        return 0;
    }
    if (reader.word_count == 0) {
        command_print_overview(stdout);
        return 0;
    }
    const struct command *command = command_find(reader.words[0]);
    if (!command)
        return error_set(error, -EINVAL, "there is no command %s", reader.words[0]);
    if (!command->options) /* it has parts, and tells of them */
        return command->run(2, (char *[]){(char *)command->name, "--help", NULL}, error);
    command_print_help(command);
    return 0;
}

const struct command command_help = {
    .name = "help",
    .arguments = "[COMMAND]",
    .summary = "Say what the commands do",
    .run = run,
    .options = options,
};
