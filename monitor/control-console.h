/* The streams of a detached program, inside control: what it writes goes to the log and to
 * everybody attached, what they type goes to it. A reader who does not keep up holds the program
 * back, as a terminal would. */
#ifndef MONITOR_CONTROL_CONSOLE_H
#define MONITOR_CONTROL_CONSOLE_H

#include <base/error.h>
#include <base/text.h>
#include <monitor/loop.h>
#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_LOG_LIMIT (8u << 20) /* then the log becomes `log.1`, and a new one begins */

/* The log in the sandbox's state folder: a detached program's output, and what Bailey says. Opened
 * by the folder's descriptor: with -v the program may be able to exchange that folder. */
struct console_log {
    int folder;     /* -1: no log */
    int descriptor; /* -1: not opened yet */
    size_t size;
};
void console_log_open(struct console_log *log);
void console_log_write(struct console_log *log, const char *data, size_t size);

struct console_output {
    struct mon_watch watch; /* our end of the pipe */
    int stream;             /* 1 or 2 */
    struct console *console;
};
struct console {
    struct mon_loop *loop;
    struct console_output outputs[2];
    struct mon_watch
        input; /* our end of the program's standard input; descriptor -1: closed or none */
    struct text waiting; /* input the program has not taken yet */
    bool input_ended;    /* close when `waiting` is out */
    int theirs[3];       /* the program's ends, until it has them */
    struct console_log *log;
    bool held; /* outputs are not read */
    bool input_held;
    void (*on_output)(void *context, int stream, const char *data, size_t size);
    void *context;
};

int console_open(struct console *console, struct mon_loop *loop, struct console_log *log,
                 bool with_input, bool one_output, int standard[3], struct error *error)
    __attribute__((warn_unused_result));
void console_given(struct console *console); /* the program has its ends */
void console_hold(struct console *console, bool held);
/* False: too much waits already; ask again when console_wants_input. */
bool console_wants_input(const struct console *console);
void console_input(struct console *console, const char *data, size_t size);
void console_end_input(struct console *console);
/* While it is held the program is given nothing, and no input is wanted. */
void console_hold_input(struct console *console, bool held);
void console_close(struct console *console); /* after everything written was read */

#endif
