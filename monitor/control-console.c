/* The streams of a detached program. Our ends of its pipes do not block; its own ends do. */
#include <monitor/control-console.h>

#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_LIMIT (64u << 10)

#define LOG_NAME "log"

void console_log_open(struct console_log *log)
{
    struct stat status;
    if (log->folder < 0 || log->descriptor >= 0)
        return;
    log->descriptor =
        openat(log->folder, LOG_NAME,
               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    log->size =
        log->descriptor >= 0 && fstat(log->descriptor, &status) == 0 ? (size_t)status.st_size : 0;
}

void console_log_write(struct console_log *log, const char *data, size_t size)
{
    console_log_open(log);
    if (log->descriptor < 0)
        return;
    if (log->size + size > CONSOLE_LOG_LIMIT) {
        renameat(log->folder, LOG_NAME, log->folder, LOG_NAME ".1");
        close(log->descriptor);
        log->descriptor = -1;
        console_log_open(log);
    }
    /* A full disk costs the log, never the program. */
    if (log->descriptor >= 0 && write_fully(log->descriptor, data, size) == 0)
        log->size += size;
}

/* Returns false when nothing more comes for now. */
static bool read_once(struct console_output *output)
{
    char data[16384];
    ssize_t size = read(output->watch.descriptor, data, sizeof(data));
    if (size < 0 && errno == EINTR)
        return true;
    if (size > 0) {
        console_log_write(output->console->log, data, (size_t)size);
        output->console->on_output(output->console->context, output->stream, data, (size_t)size);
        return true;
    }
    if (size == 0 || errno != EAGAIN) {
        mon_watch_remove(output->console->loop, &output->watch);
        close(output->watch.descriptor);
        output->watch.descriptor = -1;
    }
    return false;
}

static void output_ready(struct mon_watch *watch, uint32_t events)
{
    read_once(watch->context);
}

static void close_input(struct console *console)
{
    if (console->input.descriptor < 0)
        return;
    mon_watch_remove(console->loop, &console->input);
    close(console->input.descriptor);
    console->input.descriptor = -1;
    text_free(&console->waiting);
}

/* Gives the program what it takes now; the loop brings the rest. */
static void pass_input(struct console *console)
{
    if (console->input_held || console->input.descriptor < 0)
        return;
    while (console->waiting.size) {
        ssize_t size =
            write(console->input.descriptor, console->waiting.data, console->waiting.size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN) {
            mon_watch_set(console->loop, &console->input, EPOLLOUT);
            return;
        }
        if (size < 0) {
            close_input(console);
            return;
        }
        console->waiting.size -= (size_t)size;
        memmove(console->waiting.data, console->waiting.data + size, console->waiting.size);
    }
    mon_watch_set(console->loop, &console->input, 0);
    if (console->input_ended)
        close_input(console);
}

static void input_ready(struct mon_watch *watch, uint32_t events)
{
    pass_input(watch->context);
}

bool console_wants_input(const struct console *console)
{
    return console->waiting.size < INPUT_LIMIT && !console->input_held;
}

void console_hold_input(struct console *console, bool held)
{
    console->input_held = held;
    if (held && console->input.descriptor >= 0)
        mon_watch_set(console->loop, &console->input, 0);
    pass_input(console);
}

void console_input(struct console *console, const char *data, size_t size)
{
    if (console->input.descriptor < 0 || console->input_ended)
        return;
    text_add_size(&console->waiting, data, size);
    pass_input(console);
}

void console_end_input(struct console *console)
{
    if (console->input.descriptor < 0)
        return;
    console->input_ended = true;
    pass_input(console);
}

static int make_pipe(int *out_ours, int *out_theirs, bool ours_writes)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *out_ours = ends[ours_writes];
    *out_theirs = ends[!ours_writes];
    return fcntl(*out_ours, F_SETFL, O_NONBLOCK | (ours_writes ? O_WRONLY : O_RDONLY)) < 0 ? -errno
                                                                                           : 0;
}

int console_open(struct console *console, struct mon_loop *loop, struct console_log *log,
                 bool with_input, bool one_output, int standard[3], struct error *error)
{
    console->loop = loop;
    console->log = log;
    console_log_open(log);
    console->input =
        (struct mon_watch){.descriptor = -1, .function = input_ready, .context = console};
    for (int i = 0; i < 3; i++)
        console->theirs[i] = -1;
    for (int i = 0; i < 2; i++)
        console->outputs[i] = (struct console_output){
            .watch = {.descriptor = -1, .events = EPOLLIN, .function = output_ready},
            .stream = i + 1,
            .console = console};
    int result = 0;
    if (with_input)
        result = make_pipe(&console->input.descriptor, &console->theirs[0], true);
    for (int i = 0; i < (one_output ? 1 : 2) && result == 0; i++) {
        struct console_output *output = &console->outputs[i];
        result = make_pipe(&output->watch.descriptor, &console->theirs[i + 1], false);
        output->watch.context = output;
        if (result == 0)
            result = mon_watch_add(loop, &output->watch);
    }
    if (result < 0)
        return error_set_errno(error, result, "cannot make the pipes of a detached program");
    for (int i = 0; i < 3; i++)
        standard[i] = console->theirs[i];
    if (one_output)
        standard[2] = standard[1];
    return 0;
}

void console_given(struct console *console)
{
    for (int i = 0; i < 3; i++) {
        if (console->theirs[i] >= 0)
            close(console->theirs[i]);
        console->theirs[i] = -1;
    }
}

void console_hold(struct console *console, bool held)
{
    if (console->held == held)
        return;
    console->held = held;
    for (int i = 0; i < 2; i++)
        if (console->outputs[i].watch.descriptor >= 0)
            mon_watch_set(console->loop, &console->outputs[i].watch, held ? 0 : EPOLLIN);
}

void console_close(struct console *console)
{
    console_given(console);
    for (int i = 0; i < 2; i++) {
        struct console_output *output = &console->outputs[i];
        while (output->watch.descriptor >= 0 && read_once(output))
            ;
        if (output->watch.descriptor >= 0) {
            mon_watch_remove(console->loop, &output->watch);
            close(output->watch.descriptor);
            output->watch.descriptor = -1;
        }
    }
    close_input(console);
}
