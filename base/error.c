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

int error_wrap(struct error *error, const char *format, ...)
{
    if (!error)
        return -EIO;
    char old[ERROR_MESSAGE_SIZE];
    memcpy(old, error->message, sizeof(old));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
    size_t used = strlen(error->message);
    size_t room = sizeof(error->message) - used;
    if (room > 3) {
        size_t size = strnlen(old, room - 3);
        memcpy(error->message + used, ": ", 2);
        memcpy(error->message + used + 2, old, size);
        error->message[used + 2 + size] = '\0';
    }
    return error->code;
}

int error_hint(struct error *error, const char *format, ...)
{
    if (!error)
        return -EIO;
    size_t used = strlen(error->message);
    if (used + 4 >= sizeof(error->message))
        return error->code;
    error->message[used++] = ' ';
    error->message[used++] = '(';
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message + used, sizeof(error->message) - used - 1, format, arguments);
    va_end(arguments);
    strcat(error->message, ")");
    return error->code;
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
    print_line(error->message);
}

void error_clear(struct error *error)
{
    error->code = 0;
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
