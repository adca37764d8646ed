/* Reading options by a command's table, with getopt_long's conventions (clusters, --name=value,
 * unambiguous beginnings of long names, `--`), and printing the same table as help: what is not in
 * the table is neither read nor shown. */
#include <cli/command.h>

#include <base/text.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct option_help *find_letter(const struct command *command, char letter)
{
    for (const struct option_help *option = command->options; option && option->name; option++)
        if (option->letter == letter)
            return option;
    return NULL;
}

static const struct option_help *unknown_option(const struct command *command, const char *word,
                                                size_t size, struct error *error)
{
    error_set(error, -EINVAL, "%s: unknown option --%.*s", command->name, (int)size, word);
    const char *names[64];
    size_t count = 0;
    for (const struct option_help *option = command->options; option && option->name; option++)
        if (count < sizeof(names) / sizeof(names[0]))
            names[count++] = option->name;
    char asked[64];
    snprintf(asked, sizeof(asked), "%.*s", (int)size, word);
    const char *nearest = text_nearest(asked, names, count);
    if (nearest)
        error_hint(error, "did you mean --%s?", nearest);
    else
        error_hint(error, "bailey %s --help lists them", command->name);
    return NULL;
}

static const struct option_help *find_name(const struct command *command, const char *word,
                                           size_t size, struct error *error)
{
    const struct option_help *found = NULL;
    for (const struct option_help *option = command->options; option && option->name; option++) {
        if (strncmp(option->name, word, size) != 0)
            continue;
        if (strlen(option->name) == size)
            return option;
        if (found) {
            error_set(error, -EINVAL, "%s: --%.*s may mean --%s or --%s", command->name, (int)size,
                      word, found->name, option->name);
            return NULL;
        }
        found = option;
    }
    return found ? found : unknown_option(command, word, size, error);
}

static bool asks_for_help(const struct command *command, const char *word)
{
    return text_equal(word, "--help") || (text_equal(word, "-h") && !find_letter(command, 'h'));
}

/* The value of an option: what is attached to it, or the next word. */
static const struct option_help *with_value(struct option_reader *reader,
                                            const struct option_help *option, const char *attached,
                                            struct error *error)
{
    bool optional = option->argument && option->argument[0] == '[';
    reader->value = attached;
    if (!option->argument && attached) {
        error_set(error, -EINVAL, "%s: --%s takes no value", reader->command->name, option->name);
        return NULL;
    }
    if (option->argument && !attached && !optional) {
        if (reader->position >= reader->argc) {
            error_set(error, -EINVAL, "%s: --%s needs a value: %s", reader->command->name,
                      option->name, option->argument);
            return NULL;
        }
        reader->value = reader->argv[reader->position++];
    }
    return option;
}

static const struct option_help *next_in_cluster(struct option_reader *reader, struct error *error)
{
    char letter = *reader->cluster++;
    const struct option_help *option = find_letter(reader->command, letter);
    if (!option) {
        error_set(error, -EINVAL, "%s: unknown option -%c", reader->command->name, letter);
        error_hint(error, "bailey %s --help lists them", reader->command->name);
        return NULL;
    }
    const char *attached = NULL;
    bool optional = option->argument && option->argument[0] == '[';
    if (option->argument && *reader->cluster && (!optional || *reader->cluster == '=')) {
        attached = reader->cluster + (*reader->cluster == '=');
        reader->cluster = NULL;
    }
    if (reader->cluster && !*reader->cluster)
        reader->cluster = NULL;
    return with_value(reader, option, attached, error);
}

/* No options are left: the words are those gathered (in the slots of argv that were read already)
 * and the rest. */
static void gather_rest(struct option_reader *reader)
{
    if (reader->command->options_end_at_first) {
        reader->words = reader->argv + reader->position;
        reader->word_count = reader->argc - reader->position;
        return;
    }
    reader->words = reader->argv + 1;
    while (reader->position < reader->argc)
        reader->words[reader->word_count++] = reader->argv[reader->position++];
    reader->words[reader->word_count] = NULL;
}

const struct option_help *option_next(struct option_reader *reader, struct error *error)
{
    if (reader->position == 0)
        reader->position = 1;
    if (reader->cluster)
        return next_in_cluster(reader, error);
    char *word;
    for (;;) {
        word = reader->position < reader->argc ? reader->argv[reader->position] : NULL;
        bool is_option = word && word[0] == '-' && word[1];
        if (!word || (!is_option && reader->command->options_end_at_first)) {
            gather_rest(reader);
            return NULL;
        }
        if (is_option)
            break;
        reader->argv[1 + reader->word_count++] = word;
        reader->position++;
    }
    if (asks_for_help(reader->command, word)) {
        if (!reader->quiet)
            command_print_help(reader->command);
        reader->helped = true;
        return NULL;
    }
    reader->position++;
    if (text_equal(word, "--")) {
        reader->separated = true;
        gather_rest(reader);
        return NULL;
    }
    if (word[1] != '-') {
        reader->cluster = word + 1;
        return next_in_cluster(reader, error);
    }
    size_t size = strcspn(word + 2, "=");
    const struct option_help *option = find_name(reader->command, word + 2, size, error);
    if (!option)
        return NULL;
    return with_value(reader, option, word[2 + size] ? word + 2 + size + 1 : NULL, error);
}

int command_expect_words(const struct option_reader *reader, int minimum, int maximum,
                         struct error *error)
{
    int count = reader->word_count;
    const struct command *command = reader->command;
    if (count < minimum)
        return error_set(error, -EINVAL, "%s: something is missing: bailey %s %s", command->name,
                         command->name, command->arguments);
    if (maximum >= 0 && count > maximum)
        return error_set(error, -EINVAL, "%s: %s is one word too many: bailey %s%s%s",
                         command->name, reader->words[maximum], command->name,
                         *command->arguments ? " " : "", command->arguments);
    return 0;
}

int command_for_each(const struct option_reader *reader,
                     int (*serve)(const char *name, void *context, struct error *error),
                     void *context, struct error *error)
{
    struct error first = {0};
    int status = 0;
    for (int i = 0; i < reader->word_count; i++) {
        struct error one = {0};
        int result = serve(reader->words[i], context, &one);
        if (result < 0 && first.code < 0)
            error_print(&first);
        if (result < 0)
            first = one;
        else if (result > 0)
            status = result;
    }
    *error = first;
    return first.code < 0 ? first.code : status;
}

void command_print_help(const struct command *command)
{
    bool has_options = command->options && command->options->name;
    printf("Usage: bailey %s %s%s\n\n%s.\n", command->name, has_options ? "[OPTIONS] " : "",
           command->arguments, command->summary);
    if (has_options)
        printf("\nOptions:\n");
    for (const struct option_help *option = command->options; option && option->name; option++) {
        char left[64];
        char letter[4] = "   ";
        if (option->letter)
            snprintf(letter, sizeof(letter), "-%c,", option->letter);
        snprintf(left, sizeof(left), "%s --%s%s%s", letter, option->name,
                 option->argument ? (option->argument[0] == '[' ? "" : " ") : "",
                 option->argument ? option->argument : "");
        printf("  %-28s %s\n", left, option->help);
    }
    if (command->examples)
        printf("\nExamples:\n%s", command->examples);
}
