/* Standard streams: what is handed in, what is relayed, and the user's terminal. Invariants: descriptors the user gave are never switched to
 * non-blocking (others share them): a terminal is opened anew, a socket is used with MSG_DONTWAIT; and a terminal in raw mode is
 * restored on every way out, crashes included. */
#include "monitor/relay.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/text.h"
#include "monitor/stream-file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BACKGROUND_RETRY_NS 250000000ull

/* ---- One direction ---- */

static void relay_close_from(struct mon_relay *relay)
{
    mon_timer_stop(relay->loop, &relay->retry);
    mon_watch_remove(relay->loop, &relay->from);
    if (relay->from.descriptor >= 0)
        close(relay->from.descriptor);
    relay->from.descriptor = -1;
    relay->from_ended = true;
}

static void relay_close(struct mon_relay *relay)
{
    relay_close_from(relay);
    mon_watch_remove(relay->loop, &relay->to);
    if (relay->to.descriptor >= 0)
        close(relay->to.descriptor);
    relay->to.descriptor = -1;
    relay->active = false;
    free(relay->buffer);
    relay->buffer = NULL;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Writes what is in the buffer. Returns false when the relay has been closed. */
static bool relay_write(struct mon_relay *relay)
{
    while (relay->start < relay->end) {
        const unsigned char *data = relay->buffer + relay->start;
        size_t size = relay->end - relay->start;
        ssize_t written = relay->to_is_socket ? send(relay->to.descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                              : write(relay->to.descriptor, data, size);
        if (written < 0 && !would_block()) {
            relay_close(relay);
            return false;
        }
        if (written < 0) {
            if (!relay->from_is_file)
                mon_watch_set(relay->loop, &relay->from, 0);
            if (mon_watch_set(relay->loop, &relay->to, EPOLLOUT) < 0)
                relay_close(relay);
            return relay->active;
        }
        relay->start += (size_t)written;
    }
    relay->start = relay->end = 0;
    if (!relay->from_is_file)
        mon_watch_set(relay->loop, &relay->to, 0);
    if (relay->from_ended) {
        relay_close(relay);
        return false;
    }
    if (!relay->retry.active && !relay->from_is_file)
        mon_watch_set(relay->loop, &relay->from, EPOLLIN);
    return true;
}

/* Reading the terminal of a foreground job that is not ours would stop us (SIGTTIN), and take what was typed for it. */
static bool is_in_background(int terminal)
{
    pid_t foreground = tcgetpgrp(terminal);
    return foreground >= 0 && foreground != getpgrp();
}

static void relay_retry(struct mon_timer *timer)
{
    struct mon_relay *relay = timer->context;
    if (relay->active && !relay->held && relay->start == relay->end)
        mon_watch_set(relay->loop, &relay->from, EPOLLIN);
}

/* Returns true when it moved something or saw the end. */
static bool relay_read(struct mon_relay *relay)
{
    if (relay->from_is_terminal && is_in_background(relay->from.descriptor)) {
        mon_watch_set(relay->loop, &relay->from, 0);
        mon_timer_start(relay->loop, &relay->retry, BACKGROUND_RETRY_NS);
        return false;
    }
    ssize_t size = relay->from_is_socket ? recv(relay->from.descriptor, relay->buffer, MON_RELAY_BUFFER, MSG_DONTWAIT)
                                         : read(relay->from.descriptor, relay->buffer, MON_RELAY_BUFFER);
    if (size < 0 && would_block())
        return false;
    if (size <= 0) {
        if (relay->from_is_terminal && relay->on_hang_up)
            relay->on_hang_up(relay->context);
        relay_close(relay);
        return true;
    }
    if (relay->on_data)
        relay->on_data(relay->context, relay->buffer, (size_t)size);
    relay->start = 0;
    relay->end = (size_t)size;
    relay_write(relay);
    return true;
}

static void relay_from_ready(struct mon_watch *watch, uint32_t events)
{
    struct mon_relay *relay = watch->context;
    if (relay->start == relay->end)
        relay_read(relay);
}

static void relay_to_ready(struct mon_watch *watch, uint32_t events)
{
    struct mon_relay *relay = watch->context;
    if (relay->start < relay->end || !relay->from_is_file)
        relay_write(relay);
    else
        relay_read(relay);
}

static int relay_start(struct mon_relay *relay)
{
    if (!relay->buffer)
        relay->buffer = memory_new(MON_RELAY_BUFFER);
    relay->from.function = relay_from_ready;
    relay->to.function = relay_to_ready;
    relay->from.context = relay->to.context = relay->retry.context = relay;
    relay->retry.function = relay_retry;
    int result = mon_watch_set(relay->loop, &relay->from, EPOLLIN);
    relay->from_is_file = result == -EPERM;
    if (relay->from_is_file)
        result = mon_watch_set(relay->loop, &relay->to, EPOLLOUT);
    if (result == 0 && relay->start < relay->end)
        relay_write(relay);
    return result;
}

void mon_stdio_hold_input(struct mon_stdio *stdio, bool held)
{
    struct mon_relay *relay = &stdio->relays[0];
    if (!relay->active || relay->held == held)
        return;
    relay->held = held;
    if (held) {
        mon_watch_set(relay->loop, &relay->to, 0);
        if (!relay->from_is_file)
            mon_watch_set(relay->loop, &relay->from, 0);
    } else if (relay->from_is_file) {
        mon_watch_set(relay->loop, &relay->to, EPOLLOUT);
    } else {
        relay_write(relay);
    }
}

/* ---- What is to be done with a descriptor ---- */

enum treatment { NOT_GIVEN, HAND_IN, RELAY };

/* null, zero, full, random, urandom: nothing but bytes comes from or goes to them. Not mem, kmem, port, kmsg. */
static bool is_harmless_device(const struct stat *status)
{
    if (!S_ISCHR(status->st_mode) || major(status->st_rdev) != 1)
        return false;
    unsigned number = minor(status->st_rdev);
    return number == 3 || number == 5 || number == 7 || number == 8 || number == 9;
}

static enum treatment examine(int descriptor, unsigned access, bool keep_masters, struct bly_start_stream *stream)
{
    struct stat status;
    int flags = fcntl(descriptor, F_GETFL);
    if (descriptor < 0 || flags < 0 || fstat(descriptor, &status) < 0 || (flags & O_PATH))
        return NOT_GIVEN;
    int mode = flags & O_ACCMODE;
    if (mode == (access == BLY_ACCESS_READ ? O_WRONLY : O_RDONLY))
        return NOT_GIVEN;
    stream->access = access;
    if (is_harmless_device(&status)) {
        stream->kind = BLY_KIND_CHARACTER;
        stream->position = minor(status.st_rdev);
        return HAND_IN;
    }
    if (S_ISREG(status.st_mode)) {
        off_t position = lseek(descriptor, 0, SEEK_CUR);
        stream->kind = BLY_KIND_FILE;
        stream->position = position < 0 ? 0 : (uint64_t)position;
        stream->flags = flags & O_APPEND ? BLY_START_STREAM_APPEND : 0;
        return HAND_IN;
    }
    stream->kind = BLY_KIND_PIPE;
    /* The pipe of a program started later is relayed too: its reader sees the end when that program ends, although other
     * picoprocesses may still hold copies. */
    return S_ISFIFO(status.st_mode) && !keep_masters ? HAND_IN : RELAY;
}

/* A descriptor with no more than the wanted access. */
static int hand_in(int descriptor, unsigned access, const struct bly_start_stream *stream)
{
    int mode = fcntl(descriptor, F_GETFL);
    if ((mode & O_ACCMODE) != O_RDWR || stream->kind == BLY_KIND_CHARACTER) {
        int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
        return copy < 0 ? -errno : copy;
    }
    /* Non-blocking only so that opening a FIFO does not wait for its other end. */
    int flags = (access == BLY_ACCESS_READ ? O_RDONLY : O_WRONLY) | (mode & O_APPEND) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int reopened = open(mon_descriptor_path(descriptor).text, flags);
    if (reopened < 0)
        return -errno;
    fcntl(reopened, F_SETFL, flags & O_APPEND);
    if (stream->kind == BLY_KIND_FILE)
        lseek(reopened, (off_t)stream->position, SEEK_SET);
    return reopened;
}

/* The user's end of a relay: a description of our own where possible, so that O_NONBLOCK stays ours. */
static int user_end(int descriptor, unsigned access, bool *out_is_socket)
{
    struct stat status;
    *out_is_socket = fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
    if (!*out_is_socket) {
        int flags = (access == BLY_ACCESS_READ ? O_RDONLY : O_WRONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
        int reopened = open(mon_descriptor_path(descriptor).text, flags);
        if (reopened >= 0)
            return reopened;
    }
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

/* *out_given: the sandbox's end. */
static int open_relay(struct mon_stdio *stdio, unsigned which, int descriptor, unsigned access, int *out_given)
{
    struct mon_relay *relay = &stdio->relays[which];
    int ends[2];
    bool is_socket;
    cleanup_close int user = user_end(descriptor, access, &is_socket);
    if (user < 0)
        return user;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    bool inward = access == BLY_ACCESS_READ;
    int ours = inward ? ends[1] : ends[0];
    *out_given = inward ? ends[0] : ends[1];
    fcntl(ours, F_SETFL, O_NONBLOCK);
    relay->loop = stdio->loop;
    relay->active = true;
    relay->from_is_terminal = inward && isatty(user);
    relay->from.descriptor = inward ? user : ours;
    relay->to.descriptor = inward ? ours : user;
    relay->from_is_socket = inward && is_socket;
    relay->to_is_socket = !inward && is_socket;
    user = -1;
    return 0;
}

static bool is_same_file(int a, int b)
{
    struct stat first, second;
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino &&
           first.st_rdev == second.st_rdev;
}

static void give(struct mon_stdio *stdio, unsigned place, int descriptor)
{
    stdio->given[place] = descriptor;
    if (place == 0 || place == 3)
        stdio->input = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
}

static int add_stream(struct mon_stdio *stdio, struct mon_handles *handles, bool keep_masters, unsigned place, unsigned kind,
                      unsigned access, int given, bly_handle *out_handle)
{
    int result = mon_handle_add(handles, keep_masters ? given : -1, kind, access, MON_NO_MOUNT, out_handle);
    if (result < 0)
        close(given);
    else if (!keep_masters)
        give(stdio, place, given);
    stdio->given_kinds[place] = place < 3 ? kind : BLY_KIND_PIPE;
    return result;
}

static int open_standard(struct mon_stdio *stdio, struct mon_handles *handles, const int standard[3], unsigned i, bool keep_masters)
{
    struct bly_start_stream *stream = &stdio->standard[i];
    unsigned access = i == 0 ? BLY_ACCESS_READ : BLY_ACCESS_WRITE;
    enum treatment treatment = examine(standard[i], access, keep_masters, stream);
    if (treatment == NOT_GIVEN)
        return 0;
    if (i == 2 && treatment == RELAY && stdio->relays[1].active && is_same_file(standard[1], standard[2])) {
        *stream = stdio->standard[1];
        stream->flags |= BLY_START_STREAM_SAME;
        return 0;
    }
    int given = -1;
    int result = treatment == HAND_IN ? hand_in(standard[i], access, stream) : open_relay(stdio, i, standard[i], access, &given);
    if (result < 0) {
        /* A device that cannot be opened again, say: the program sees an empty stream, and the user why. */
        *stream = (struct bly_start_stream){0};
        note("standard stream %u is not given to the program: %s", i, strerror(-result));
        return 0;
    }
    return add_stream(stdio, handles, keep_masters, i, stream->kind, access, treatment == HAND_IN ? result : given, &stream->handle);
}

static int open_terminal(struct mon_stdio *stdio, struct mon_handles *handles, const int standard[3], bool keep_masters)
{
    bly_handle *const out[2] = {&stdio->terminal_input, &stdio->terminal_output};
    for (unsigned i = 0; i < 2; i++) {
        struct bly_start_stream stream = {0};
        unsigned access = i == 0 ? BLY_ACCESS_READ : BLY_ACCESS_WRITE;
        enum treatment treatment = examine(standard[i], access, keep_masters, &stream);
        int given = -1, result = 0;
        if (treatment == NOT_GIVEN)
            continue;
        result = treatment == HAND_IN ? hand_in(standard[i], access, &stream) : open_relay(stdio, i, standard[i], access, &given);
        if (result < 0)
            return result;
        result = add_stream(stdio, handles, keep_masters, 3 + i, stream.kind, access, treatment == HAND_IN ? result : given, out[i]);
        if (result < 0)
            return result;
    }
    for (unsigned i = 0; i < 3; i++)
        stdio->standard[i] = (struct bly_start_stream){.kind = BLY_KIND_TTY, .access = BLY_ACCESS_READ | BLY_ACCESS_WRITE};
    return 0;
}

static void initialise(struct mon_stdio *stdio, struct mon_loop *loop, const int standard[3], bool terminal)
{
    *stdio = (struct mon_stdio){.loop = loop, .terminal = terminal, .given = {-1, -1, -1, -1, -1}, .input = -1, .terminal_descriptor = -1};
    for (unsigned i = 0; i < 3; i++)
        stdio->relays[i].from.descriptor = stdio->relays[i].to.descriptor = -1;
    for (unsigned i = 0; i < 3 && terminal && stdio->terminal_descriptor < 0; i++)
        if (isatty(standard[i]))
            stdio->terminal_descriptor = fcntl(standard[i], F_DUPFD_CLOEXEC, 3);
    stdio->draws = terminal && isatty(standard[1]);
}

/* What stands for a stream that there was and that nobody gives now: reads as its end, what is written is gone. */
static int open_null(unsigned access)
{
    int null = open("/dev/null", (access == BLY_ACCESS_READ ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
    return null < 0 ? -errno : null;
}

static void begin_with(struct mon_relay *relay, const void *data, size_t size)
{
    relay->buffer = memory_new(size > MON_RELAY_BUFFER ? size : MON_RELAY_BUFFER);
    memcpy(relay->buffer, data, size);
    relay->end = size;
}

/* The terminal becomes as the program takes it to be. */
static void enter_screen(struct mon_stdio *stdio, uint32_t modes)
{
    char text[SCREEN_TEXT_MAX];
    stdio->screen.modes = modes;
    if (stdio->draws && stdio->relays[1].active)
        begin_with(&stdio->relays[1], text, screen_enter(modes, text));
}

/* A terminal that takes nothing is left alone. */
static void draw(struct mon_stdio *stdio, const char *text, size_t size)
{
    struct pollfd writable = {.fd = stdio->terminal_descriptor, .events = POLLOUT};
    if (size && stdio->draws && stdio->raw && !is_in_background(stdio->terminal_descriptor) && poll(&writable, 1, 0) == 1)
        (void)!write(stdio->terminal_descriptor, text, size);
}

/* It is the user's again. */
static void leave_screen(struct mon_stdio *stdio)
{
    char text[SCREEN_TEXT_MAX];
    draw(stdio, text, screen_leave(stdio->screen.modes, text));
    stdio->screen.modes = 0;
}

void mon_stdio_end_line(struct mon_stdio *stdio)
{
    if (stdio->screen.in_line && !screen_is_full(&stdio->screen))
        draw(stdio, "\r\n", 2);
    stdio->screen.in_line = false;
}

/* The descriptor for the sandbox, or negative errno. */
static int resume_stream(struct mon_stdio *stdio, unsigned place, int descriptor, unsigned access, const struct mon_stdio_saved *saved)
{
    uint32_t kind = saved->kinds[place]; /* what its programs take the stream for */
    bool has_unread = access == BLY_ACCESS_READ && saved->unread_size;
    if (access == BLY_ACCESS_READ && saved->ended && isatty(descriptor))
        descriptor = -1;
    struct bly_start_stream now = {0};
    enum treatment treatment = examine(descriptor, access, /*keep_masters=*/false, &now);
    bool was_file = kind == BLY_KIND_FILE, is_file = treatment == HAND_IN && now.kind != BLY_KIND_PIPE;
    int given = -1, result;
    stdio->given_kinds[place] = was_file && is_file ? BLY_KIND_FILE : BLY_KIND_PIPE;
    if (was_file && !is_file && access == BLY_ACCESS_READ)
        treatment = NOT_GIVEN;
    if (treatment == NOT_GIVEN && was_file)
        return open_null(access);
    if (treatment == HAND_IN && was_file == is_file && !has_unread)
        return hand_in(descriptor, access, &now);
    cleanup_close int null = treatment == NOT_GIVEN ? open_null(access) : -1;
    result = open_relay(stdio, place % 3, null >= 0 ? null : descriptor, access, &given);
    if (result == 0 && has_unread)
        begin_with(&stdio->relays[0], saved->unread, saved->unread_size);
    return result < 0 ? result : given;
}

static int resume_place(struct mon_stdio *stdio, struct mon_handles *handles, unsigned place, int descriptor, bool keep_masters,
                        const struct mon_stdio_saved *saved)
{
    unsigned access = place == 0 || place == 3 ? BLY_ACCESS_READ : BLY_ACCESS_WRITE;
    bly_handle handle = saved->handles[place];
    uint32_t kind = saved->kinds[place];
    if (handle == BLY_NO_HANDLE)
        return 0;
    /* A device is the sandbox's own of that name, and its handle is never used. */
    int given = kind == BLY_KIND_CHARACTER ? -1 : resume_stream(stdio, place, descriptor, access, saved);
    if (given < 0 && kind != BLY_KIND_CHARACTER)
        return given;
    int result = mon_handle_place(handles, handle, keep_masters ? given : -1, kind, access, MON_NO_MOUNT);
    if (result < 0)
        cleanup_close_descriptor(&given);
    else if (!keep_masters)
        give(stdio, place, given);
    return result;
}

int mon_stdio_resume(struct mon_stdio *stdio, struct mon_loop *loop, struct mon_handles *handles, const int standard[3], bool terminal,
                     bool keep_masters, const struct mon_stdio_saved *saved)
{
    int result = 0;
    initialise(stdio, loop, standard, terminal);
    for (unsigned place = terminal ? 3 : 0; place < (terminal ? 5 : 3) && result == 0; place++)
        result = resume_place(stdio, handles, place, standard[place % 3], keep_masters, saved);
    for (unsigned i = 0; i < 3; i++)
        stdio->standard[i] = terminal ? (struct bly_start_stream){.kind = BLY_KIND_TTY, .access = BLY_ACCESS_READ | BLY_ACCESS_WRITE}
                                      : (struct bly_start_stream){.handle = saved->handles[i],
                                                                  .kind = saved->kinds[i],
                                                                  .access = i == 0 ? BLY_ACCESS_READ : BLY_ACCESS_WRITE};
    if (terminal && result == 0)
        enter_screen(stdio, saved->modes);
    stdio->terminal_input = terminal ? saved->handles[3] : BLY_NO_HANDLE;
    stdio->terminal_output = terminal ? saved->handles[4] : BLY_NO_HANDLE;
    return result;
}

int mon_stdio_open(struct mon_stdio *stdio, struct mon_loop *loop, struct mon_handles *handles, const int standard[3], bool terminal,
                   bool keep_masters)
{
    initialise(stdio, loop, standard, terminal);
    if (terminal)
        return open_terminal(stdio, handles, standard, keep_masters);
    int result = 0;
    for (unsigned i = 0; i < 3 && result == 0; i++)
        result = open_standard(stdio, handles, standard, i, keep_masters);
    return result;
}

int mon_stdio_start(struct mon_stdio *stdio)
{
    int result = 0;
    for (unsigned i = 0; i < 5; i++) {
        if (stdio->given[i] >= 0)
            close(stdio->given[i]);
        stdio->given[i] = -1;
    }
    for (unsigned i = 0; i < 3 && result == 0; i++)
        if (stdio->relays[i].active)
            result = relay_start(&stdio->relays[i]);
    return result;
}

void mon_stdio_drain(struct mon_stdio *stdio, int timeout_ms)
{
    for (unsigned i = 1; i < 3; i++) {
        struct mon_relay *relay = &stdio->relays[i];
        uint64_t end = mon_now_ns() + (uint64_t)timeout_ms * 1000000u;
        while (relay->active && !stdio->abandoned && mon_now_ns() < end) {
            bool progress = relay->start < relay->end ? relay_write(relay) && relay->start == relay->end : relay_read(relay);
            if (progress || !relay->active)
                continue;
            if (relay->start == relay->end)
                break; /* nothing more has been written */
            if (mon_loop_once(stdio->loop, 10) < 0)
                break;
        }
    }
    for (unsigned i = 1; i < 3; i++)
        stdio->abandoned |= stdio->relays[i].active && stdio->relays[i].start < stdio->relays[i].end;
}

void mon_stdio_close(struct mon_stdio *stdio, struct mon_handles *handles)
{
    leave_screen(stdio);
    mon_stdio_raw(stdio, false);
    for (unsigned i = 0; i < 3; i++) {
        if (stdio->relays[i].active)
            relay_close(&stdio->relays[i]);
        if (stdio->standard[i].handle && !(stdio->standard[i].flags & BLY_START_STREAM_SAME))
            (void)!mon_handle_close(handles, stdio->standard[i].handle);
    }
    if (stdio->terminal_input)
        (void)!mon_handle_close(handles, stdio->terminal_input);
    if (stdio->terminal_output)
        (void)!mon_handle_close(handles, stdio->terminal_output);
    for (unsigned i = 0; i < 5; i++)
        if (stdio->given[i] >= 0)
            close(stdio->given[i]);
    if (stdio->terminal_descriptor >= 0)
        close(stdio->terminal_descriptor);
    if (stdio->input >= 0)
        close(stdio->input);
    stdio->terminal_descriptor = stdio->input = -1;
}

size_t mon_stdio_unread(const struct mon_stdio *stdio)
{
    int count = 0;
    if (!stdio->relays[0].active || ioctl(stdio->relays[0].to.descriptor, FIONREAD, &count) < 0)
        return 0;
    return (size_t)count + stdio->relays[0].end - stdio->relays[0].start;
}

/* ---- The user's terminal ---- */

bool mon_stdio_window_size(const struct mon_stdio *stdio, uint16_t *out_rows, uint16_t *out_columns)
{
    struct winsize size;
    if (stdio->terminal_descriptor < 0 || ioctl(stdio->terminal_descriptor, TIOCGWINSZ, &size) < 0)
        return false;
    *out_rows = size.ws_row;
    *out_columns = size.ws_col;
    return true;
}

/* For the handler of fatal signals: the one terminal in raw mode, if any. */
static struct {
    volatile sig_atomic_t descriptor_plus_one;
    struct termios saved;
} raw_terminal;

static void restore_and_die(int signal)
{
    if (raw_terminal.descriptor_plus_one)
        tcsetattr(raw_terminal.descriptor_plus_one - 1, TCSANOW, &raw_terminal.saved);
    raise(signal); /* SA_RESETHAND: now with its own effect */
}

static void catch_crashes(void)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGXCPU};
    struct sigaction action = {.sa_handler = restore_and_die, .sa_flags = SA_RESETHAND | SA_NODEFER};
    for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
        sigaction(crashes[i], &action, NULL);
}

bool mon_stdio_raw(struct mon_stdio *stdio, bool on)
{
    sigset_t stop, before;
    if (stdio->terminal_descriptor < 0 || on == stdio->raw)
        return true;
    if (is_in_background(stdio->terminal_descriptor)) {
        raw_terminal.descriptor_plus_one = 0; /* who is in the foreground has made it what it needs */
        stdio->raw = false;
        return !on;
    }
    /* tcsetattr from the background would stop us. */
    sigemptyset(&stop);
    sigaddset(&stop, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &stop, &before);
    if (!on) {
        tcsetattr(stdio->terminal_descriptor, stdio->abandoned ? TCSANOW : TCSADRAIN, &stdio->saved);
        raw_terminal.descriptor_plus_one = 0;
        stdio->raw = false;
    } else if (tcgetattr(stdio->terminal_descriptor, &stdio->saved) == 0) {
        struct termios raw = stdio->saved;
        cfmakeraw(&raw);
        raw_terminal.saved = stdio->saved;
        raw_terminal.descriptor_plus_one = stdio->terminal_descriptor + 1;
        catch_crashes();
        stdio->raw = tcsetattr(stdio->terminal_descriptor, TCSADRAIN, &raw) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return true;
}
