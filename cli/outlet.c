/* Outputs that are not waited for deafly. Terminals and FIFOs are opened anew, so that O_NONBLOCK
 * is ours alone; files never keep anyone waiting, and for sockets one call can be told not to. */
#include <cli/outlet.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAST_MOMENT_MS 300 /* less than the monitor waits for us with its last words (monitor/control.c): then we learn how the program ended */

bool signal_tells_to_end(unsigned number)
{
    return number == SIGTERM || number == SIGHUP || number == SIGINT || number == SIGQUIT;
}

static bool is_fifo(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISFIFO(status.st_mode);
}

void outlets_open(struct outlets *outlets, const int standard[3])
{
    for (int i = 1; i < 3; i++) {
        char path[32];
        outlets->descriptors[i] = standard[i];
        outlets->own[i] = false;
        if (!isatty(standard[i]) && !is_fifo(standard[i]))
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", standard[i]);
        int own = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (own < 0)
            continue;
        outlets->descriptors[i] = own;
        outlets->own[i] = true;
    }
}

/* The program is gone, or we are. A terminal that takes nothing is left alone. */
void outlets_leave(struct outlets *outlets, bool end_line)
{
    char text[SCREEN_TEXT_MAX];
    bool in_line = outlets->screen.in_line && !screen_is_full(&outlets->screen);
    size_t size = screen_leave(outlets->screen.modes, text);
    outlets->screen.modes = 0;
    if (size && outlets->draws && outlets->own[1])
        (void)!write(outlets->descriptors[1], text, size);
    if (end_line && in_line && outlets->draws && outlets->own[1])
        (void)!write(outlets->descriptors[1], "\r\n", 2);
}

void outlets_close(struct outlets *outlets)
{
    outlets_leave(outlets, /*end_line=*/false);
    for (int i = 1; i < 3; i++) {
        if (outlets->own[i])
            close(outlets->descriptors[i]);
        outlets->own[i] = false;
    }
}

static ssize_t write_some(const struct outlets *outlets, int which, const char *data, size_t size)
{
    int descriptor = outlets->descriptors[which];
    ssize_t sent =
        outlets->own[which] ? -1 : send(descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return outlets->own[which] || (sent < 0 && errno == ENOTSOCK) ? write(descriptor, data, size)
                                                                  : sent;
}

/* False: the reader is not to be waited for any longer. */
static bool wait_for_reader(struct outlets *outlets, int which)
{
    struct pollfd waits[] = {{.fd = outlets->descriptors[which], .events = POLLOUT},
                             {.fd = outlets->signals, .events = POLLIN}};
    int ready = poll(waits, 2, outlets->told_to_end ? LAST_MOMENT_MS : -1);
    if (ready < 0)
        return errno == EINTR;
    if (waits[1].revents && outlets->take_signal(outlets->context))
        outlets->told_to_end = true;
    return ready > 0;
}

void outlets_write(struct outlets *outlets, int which, const void *data, size_t size)
{
    const char *rest = data;
    if (outlets->draws && which == 1)
        screen_follow(&outlets->screen, data, size);
    while (size) {
        ssize_t written = write_some(outlets, which, rest, size);
        if (written >= 0) {
            rest += written;
            size -= (size_t)written;
        } else if (errno == EAGAIN) {
            if (outlets->given_up)
                return;
            outlets->given_up = !wait_for_reader(outlets, which);
        } else if (errno != EINTR) {
            return;
        }
    }
    outlets->given_up = false;
}
