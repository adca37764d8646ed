/* The error object: a fixed buffer, so that reporting a failure cannot itself fail. */
#include <base/error.h>
#include <base/text.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void format_message(struct error *error, int code, const char *format, va_list arguments)
{
    error->code = code;
    error->exit_status = EXIT_BAILEY;
    error->lines = false;
    vsnprintf(error->message, sizeof(error->message), format, arguments);
}

int error_set(struct error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    format_message(error, code, format, arguments);
    va_end(arguments);
    return code;
}

int error_set_errno(struct error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    format_message(error, code, format, arguments);
    va_end(arguments);
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof(error->message) - used, ": %s", strerror(-code));
    return code;
}

/* As much of `text` as there is room for. */
static void append(struct error *error, const char *text, size_t size)
{
    size_t used = strlen(error->message), room = sizeof(error->message) - 1 - used;
    size = size < room ? size : room;
    memcpy(error->message + used, text, size);
    error->message[used + size] = '\0';
}

int error_wrap(struct error *error, const char *format, ...)
{
    if (!error)
        return -EIO;
    char old[ERROR_MESSAGE_SIZE], before[ERROR_MESSAGE_SIZE];
    memcpy(old, error->message, sizeof(old));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(before, sizeof(before), format, arguments);
    va_end(arguments);
    error->message[0] = '\0';
    for (const char *line = old, *end;; line = end) {
        end = error->lines ? line + strcspn(line, "\n") : line + strlen(line);
        end += *end != '\0';
        append(error, before, strlen(before));
        append(error, ": ", 2);
        append(error, line, (size_t)(end - line));
        if (!*end)
            return error->code;
    }
}

int error_hint(struct error *error, const char *format, ...)
{
    if (!error)
        return -EIO;
    size_t used = strlen(error->message);
    if (used + 4 >= sizeof(error->message))
        return error->code;
    if (!error->lines)
        error->message[used++] = ' ';
    error->message[used++] = error->lines ? '\n' : '(';
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message + used, sizeof(error->message) - used - 1, format, arguments);
    va_end(arguments);
    if (!error->lines)
        strcat(error->message, ")");
    return error->code;
}

static bool has_line(const char *text, const char *line)
{
    size_t size = strlen(line);
    while (strncmp(text, line, size) != 0 || (text[size] && text[size] != '\n')) {
        text = strchr(text, '\n');
        if (!text++)
            return false;
    }
    return true;
}

int error_add(struct error *error, const struct error *reason)
{
    static const char more[] = "and more";
    char line[ERROR_MESSAGE_SIZE];
    if (!error)
        return reason->code;
    size_t size = strlen(reason->message);
    memcpy(line, reason->message, size + 1);
    if (!reason->lines)
        text_make_printable(line, size);
    if (!error->code) {
        *error = *reason;
        memcpy(error->message, line, size + 1);
        return error->code;
    }
    if (has_line(error->message, line) || has_line(error->message, more))
        return error->code;
    bool fits = strlen(error->message) + size + 2 * sizeof(more) < sizeof(error->message);
    error->lines = true;
    append(error, "\n", 1);
    append(error, fits ? line : more, fits ? size : sizeof(more) - 1);
    return error->code;
}

int error_set_lines(struct error *error, int code, const char *text, size_t size)
{
    error_set(error, code, "%.*s", (int)size, text);
    if (error)
        error->lines = strchr(error->message, '\n') != NULL;
    return code;
}

int error_exit_status(struct error *error, int exit_status)
{
    if (!error)
        return -EIO;
    error->exit_status = exit_status;
    return error->code;
}

/* One write a line, so that lines of several sandboxes on one terminal do not mix. Control
 * characters (a file name may hold them) never reach the terminal. */
static void print_line(const char *text)
{
    char line[ERROR_MESSAGE_SIZE + 16];
    int size = snprintf(line, sizeof(line) - 1, "bailey: %s", text);
    if (size >= (int)sizeof(line) - 1)
        size = sizeof(line) - 2;
    text_make_printable(line, (size_t)size);
    line[size++] = '\n';
    for (int done = 0; done < size;) {
        ssize_t count = write(STDERR_FILENO, line + done, (size_t)(size - done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return;
        done += (int)count;
    }
}

void error_print(const struct error *error)
{
    char text[ERROR_MESSAGE_SIZE];
    memcpy(text, error->message, sizeof(text));
    char *rest = text;
    if (error->lines)
        for (char *end; (end = strchr(rest, '\n')); rest = end + 1) {
            *end = '\0';
            print_line(rest);
        }
    print_line(rest);
}

void error_clear(struct error *error)
{
    error->code = 0;
    error->lines = false;
    error->message[0] = '\0';
}

void note(const char *format, ...)
{
    char text[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    print_line(text);
}
