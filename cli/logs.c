/* bailey logs: what a background program wrote, and what Bailey said about it. */
#include <cli/command.h>
#include <cli/state.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <monitor/policy/value.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS 100000000

static const struct option_help options[] = {
    {'f', "follow", NULL, "go on until the sandbox ends"},
    {'n', "tail", "LINES", "only the last lines"},
    {0, "json", NULL, "one JSON object a line: {\"line\": ...}"},
    {0, NULL, NULL, NULL},
};

/* How the log is printed; `begun` is a line whose end has not been read yet. */
struct printer {
    bool as_json;
    struct text begun;
};

static int print(struct printer *printer, const char *data, size_t size)
{
    if (!printer->as_json)
        return write_fully(STDOUT_FILENO, data, size);
    text_add_size(&printer->begun, data, size);
    const char *last = memrchr(printer->begun.data, '\n', printer->begun.size);
    if (!last)
        return 0;
    size_t complete = (size_t)(last + 1 - printer->begun.data);
    command_print_json_lines(stdout, "line", printer->begun.data, complete);
    printer->begun.size -= complete;
    memmove(printer->begun.data, last + 1, printer->begun.size);
    return fflush(stdout) == 0 ? 0 : -errno;
}

static int print_rest(int descriptor, struct printer *printer, struct error *error)
{
    char data[65536];
    for (ssize_t size; (size = read(descriptor, data, sizeof(data))) != 0;) {
        if (size < 0 && errno == EINTR)
            continue;
        int result = size < 0 ? -errno : print(printer, data, (size_t)size);
        if (result == -EPIPE)
            exit(0);
        if (result < 0)
            return error_set_errno(error, result, "cannot print the log");
    }
    return 0;
}

/* Positions the descriptor at the last `lines` lines. Returns how many it found. */
static uint32_t seek_tail(int descriptor, uint32_t lines)
{
    off_t end = lseek(descriptor, 0, SEEK_END), place = end;
    uint32_t found = 0;
    char data[4096];
    while (place > 0) {
        size_t size = place < (off_t)sizeof(data) ? (size_t)place : sizeof(data);
        place -= (off_t)size;
        if (pread(descriptor, data, size, place) != (ssize_t)size)
            break;
        for (size_t i = size; i-- > 0;) {
            if (data[i] != '\n' || place + (off_t)i == end - 1)
                continue;
            if (++found == lines) {
                lseek(descriptor, place + (off_t)i + 1, SEEK_SET);
                return found;
            }
        }
    }
    lseek(descriptor, 0, SEEK_SET);
    return end > 0 ? found + 1 : 0;
}

static bool is_running(const char *name)
{
    struct error ignored = {0};
    struct sandbox sandbox;
    int result = state_find(name, &sandbox, &ignored);
    bool running = result == 0 && sandbox.status == SANDBOX_RUNNING;
    sandbox_free(&sandbox);
    return running;
}

/* The log may be exchanged for a new one while it is followed. */
static int follow(const char *name, const char *path, int *descriptor, struct printer *printer,
                  struct error *error)
{
    for (bool last = false;;) {
        int result = print_rest(*descriptor, printer, error);
        if (result < 0 || last)
            return result;
        struct stat opened, named;
        if (stat(path, &named) == 0 && fstat(*descriptor, &opened) == 0 &&
            opened.st_ino != named.st_ino) {
            int next = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            if (next >= 0) {
                result = print_rest(*descriptor, printer, error);
                close(*descriptor);
                *descriptor = next;
                if (result < 0)
                    return result;
                continue;
            }
        }
        last = !is_running(name);
        if (!last)
            nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

static int run(int argc, char **argv, struct error *error)
{
    bool follows = false;
    struct printer printer = {0};
    uint32_t tail = 0;
    struct option_reader reader = {.command = &command_logs, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (option->letter == 'f')
            follows = true;
        else if (!option->letter)
            printer.as_json = true;
        else if (policy_parse_number("--tail", reader.value, 1, UINT32_MAX, &tail, error) < 0)
            return error->code;
    }
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    const char *name = reader.words[0];
    cleanup_sandbox struct sandbox sandbox = {0};
    if (state_find(name, &sandbox, error) < 0)
        return error->code;
    cleanup_free char *path = state_file_path(name, "log");
    cleanup_free char *old_path = state_file_path(name, "log.1");
    cleanup_close int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    cleanup_close int old = open(old_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0 && errno == ENOENT && !follows)
        return 0;
    if (descriptor < 0)
        return error_set_errno(error, -errno, "cannot read the log of sandbox %s", name);
    uint32_t found = tail ? seek_tail(descriptor, tail) : 0;
    if (old >= 0 && (!tail || found < tail)) {
        if (tail)
            seek_tail(old, tail - found);
        if (print_rest(old, &printer, error) < 0)
            return error->code;
    }
    int result = follows ? follow(name, path, &descriptor, &printer, error)
                         : print_rest(descriptor, &printer, error);
    if (printer.begun.size)
        command_print_json_lines(stdout, "line", printer.begun.data, printer.begun.size);
    text_free(&printer.begun);
    return result;
}

const struct command command_logs = {
    .name = "logs",
    .arguments = "NAME",
    .summary = "Print what a program in the background has written",
    .run = run,
    .options = options,
};
