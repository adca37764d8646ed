/* The error object of the hosted programs. A function that can fail takes `struct error *` last and
 * returns 0 or a negative errno; whoever notices the failure sets it, callers on the way out wrap
 * it ("doing that: why not"), and the command line prints it once. A message says what was tried,
 * on what, why not and what to do. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* Exit codes as podman's: Bailey's own failures, programs that cannot be run, programs that are not
 * there. */
enum exit_status {
    EXIT_BAILEY = 125,
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_HAND_OVER = 256 /* no exit status: the full program is to do it all (cli/hand-over.h) */
};

#define ERROR_MESSAGE_SIZE 4096

struct error {
    int code;        /* negative errno; 0: no error is set */
    int exit_status; /* what the command ends with: EXIT_BAILEY unless error_exit_status() changed
                        it */
    bool lines;      /* the message holds several reasons, one a line */
    char message[ERROR_MESSAGE_SIZE];
};

/* All return error->code, so that `return error_set(...)` reads well. `error` may be NULL. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* As error_set, with ": " and the text of the errno `code` added. */
int error_set_errno(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "text: " before the message, before each line of several. */
int error_wrap(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds " (text)" after the message, a line of its own after several: what to do about it. */
int error_hint(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One reason more, unless it is there already. Those that have no room are told of by a last line.
 */
int error_add(struct error *error, const struct error *reason);
/* Sets what an error's message was elsewhere, which may be one of several lines. */
int error_set_lines(struct error *error, int code, const char *text, size_t size);
int error_exit_status(struct error *error, int exit_status);
/* One line "bailey: message" on standard error; several reasons are a line each. */
void error_print(const struct error *error);
void error_clear(struct error *error);

/* A note that is not a failure, one line "bailey: text" on standard error. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
