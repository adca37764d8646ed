/* bailey ps: the sandboxes of this user; with a name, the processes inside one. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/state.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct option_help options[] = {
    {'a', "all", NULL, "also those that have ended"},
    {'q', "quiet", NULL, "only names"},
    {0, "json", NULL, "print JSON"},
    {0, NULL, NULL, NULL},
};

static char *age(int64_t seconds)
{
    static const struct {
        int64_t size;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        int64_t count = seconds / units[i].size;
        if (count > 0)
            return text_print("%lld %s%s", (long long)count, units[i].name, count == 1 ? "" : "s");
    }
    return text_copy("0 seconds");
}

/* Arguments may hold anything; a table has one line for each, and a terminal obeys what it is sent.
 */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

static char *command_line(const struct sandbox *sandbox)
{
    struct text text = {0};
    for (size_t i = 0; i < sandbox->command.count; i++) {
        if (i)
            text_add_character(&text, ' ');
        text_add(&text, sandbox->command.items[i]);
    }
    char *line = text_take(&text);
    make_printable(line);
    return line;
}

static void print_table(const struct sandbox *list, size_t count)
{
    int width = 4;
    for (size_t i = 0; i < count; i++)
        if ((int)strlen(list[i].name) > width)
            width = (int)strlen(list[i].name);
    printf("%-*s  %-16s  %-12s  %7s  %s\n", width, "NAME", "STATUS", "STARTED", "PID", "COMMAND");
    for (size_t i = 0; i < count; i++) {
        const struct sandbox *sandbox = &list[i];
        cleanup_free char *since = age(time(NULL) - sandbox->created);
        cleanup_free char *command = command_line(sandbox);
        cleanup_free char *status = sandbox->status == SANDBOX_EXITED
                                        ? text_print("exited (%d)", sandbox->exit_status)
                                        : text_copy(sandbox_status_name(sandbox->status));
        char pid[16] = "-";
        if (sandbox->pid > 0)
            snprintf(pid, sizeof(pid), "%d", (int)sandbox->pid);
        printf("%-*s  %-16s  %-12s  %7s  %.60s%s\n", width, sandbox->name, status, since, pid,
               command, strlen(command) > 60 ? "..." : "");
    }
}

static void print_json(const struct sandbox *list, size_t count)
{
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_array(&json);
    for (size_t i = 0; i < count; i++)
        sandbox_write_json(&list[i], &json);
    json_array_end(&json);
    printf("%s\n", text.data);
}

/* One line of a listing, as the sandbox's init writes it: numbers and state, then the name and the
 * command line. */
struct process {
    int pid, parent, group, session;
    char state[8];
    unsigned threads;
    const char *command; /* the name when there is no command line (it is init, or it is ending) */
};

static bool parse_process(char *line, struct process *out)
{
    int used = 0;
    if (sscanf(line, "%d %d %d %d %7s %u %n", &out->pid, &out->parent, &out->group, &out->session,
               out->state, &out->threads, &used) != 6 ||
        !used)
        return false;
    char *name = line + used, *space = strchr(name, ' ');
    out->command = space && space[1] ? space + 1 : name;
    if (space && !space[1])
        *space = '\0';
    make_printable(name);
    return true;
}

static void write_process(const struct process *process, struct json *json)
{
    json_object(json);
    json_key_number(json, "pid", process->pid);
    json_key_number(json, "parent", process->parent);
    json_key_number(json, "group", process->group);
    json_key_number(json, "session", process->session);
    json_key_string(json, "state", process->state);
    json_key_number(json, "threads", process->threads);
    json_key_string(json, "command", process->command);
    json_object_end(json);
}

static int list_processes(const char *name, bool as_json, struct error *error)
{
    cleanup_client struct client client = {.socket = -1};
    cleanup_text struct text lines = {0}, text = {0};
    int result = client_open(&client, name, error);
    if (result == 0)
        result = client_ask(&client, CONTROL_LIST, 0, error);
    if (result == 0)
        result = client_receive_until(&client, CONTROL_DONE, &lines, error);
    if (result < 0)
        return result;
    struct json json = json_to(&text);
    json_array(&json);
    if (!as_json)
        printf("%7s %7s %-5s %7s  %s\n", "PID", "PPID", "STATE", "THREADS", "COMMAND");
    char *rest = lines.data;
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        struct process process;
        if (!parse_process(line, &process))
            continue;
        if (as_json)
            write_process(&process, &json);
        else
            printf("%7d %7d %-5s %7u  %s\n", process.pid, process.parent, process.state,
                   process.threads, process.command);
    }
    json_array_end(&json);
    if (as_json)
        printf("%s\n", text.data);
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    bool all = false, quiet = false, as_json = false;
    struct option_reader reader = {.command = &command_ps, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        all |= option->letter == 'a';
        quiet |= option->letter == 'q';
        as_json |= text_equal(option->name, "json");
    }
    if (error->code || reader.helped || command_expect_words(&reader, 0, 1, error) < 0)
        return error->code;
    if (reader.word_count == 1)
        return list_processes(reader.words[0], as_json, error);
    struct sandbox *list;
    size_t count, shown = 0;
    if (state_list(&list, &count, error) < 0)
        return error->code;
    for (size_t i = 0; i < count; i++) {
        if (all || list[i].status == SANDBOX_RUNNING)
            list[shown++] = list[i];
        else
            sandbox_free(&list[i]);
    }
    if (as_json)
        print_json(list, shown);
    else if (!quiet)
        print_table(list, shown);
    for (size_t i = 0; i < shown; i++) {
        if (quiet && !as_json)
            printf("%s\n", list[i].name);
        sandbox_free(&list[i]);
    }
    free(list);
    return 0;
}

const struct command command_ps = {
    .name = "ps",
    .arguments = "[NAME]",
    .summary = "List sandboxes, or the processes of one",
    .run = run,
    .options = options,
};
