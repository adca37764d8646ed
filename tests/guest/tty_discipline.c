/* termios(3), pty(7): what the line discipline does with typed bytes and with output. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int master, slave;

static void open_pair(void)
{
    char name[64];
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0);
    CHECK_EQUAL(grantpt(master), 0);
    CHECK_EQUAL(unlockpt(master), 0);
    CHECK_EQUAL(ptsname_r(master, name, sizeof name), 0);
    slave = open(name, O_RDWR | O_NOCTTY);
    CHECK(slave >= 0);
    CHECK(isatty(slave));
    CHECK(ttyname(slave) && !strcmp(ttyname(slave), name));
    struct termios modes;
    CHECK_EQUAL(tcgetattr(slave, &modes), 0);
    modes.c_iflag = ICRNL | IXON;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
}

static void close_pair(void)
{
    close(slave);
    close(master);
}

static void set_local(unsigned on, unsigned off)
{
    struct termios modes;
    CHECK_EQUAL(tcgetattr(slave, &modes), 0);
    modes.c_lflag = (modes.c_lflag & ~off) | on;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
}

static void type(const char *text)
{
    CHECK_EQUAL(write(master, text, strlen(text)), strlen(text));
    usleep(20000); /* Linux hands it to the line discipline in a worker thread */
}

/* Everything the master can read now. */
static const char *screen(void)
{
    static char buffer[4096];
    size_t size = 0;
    struct pollfd set = { master, POLLIN, 0 };
    while (size < sizeof buffer - 1 && poll(&set, 1, 20) == 1 && (set.revents & POLLIN)) {
        ssize_t n = read(master, buffer + size, sizeof buffer - 1 - size);
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    buffer[size] = 0;
    return buffer;
}

static void expect_screen(const char *text)
{
    const char *shown = screen();
    if (strcmp(shown, text) != 0) {
        fprintf(stderr, "screen: ");
        for (const char *p = shown; *p; p++)
            fprintf(stderr, *p >= 32 && *p < 127 ? "%c" : "\\x%02x", (unsigned char)*p);
        fprintf(stderr, "\n");
    }
    CHECK(!strcmp(shown, text));
}

static void expect_line(const char *text)
{
    char buffer[256];
    ssize_t size = read(slave, buffer, sizeof buffer - 1);
    CHECK_EQUAL(size, strlen(text));
    CHECK(!memcmp(buffer, text, strlen(text)));
}

static int readable(int fd)
{
    struct pollfd set = { fd, POLLIN, 0 };
    return poll(&set, 1, 20) == 1 && (set.revents & POLLIN);
}

static void lines_are_edited_and_echoed(void)
{
    open_pair();
    type("ab");
    CHECK(!readable(slave));
    type("c\177d\r");
    expect_line("abd\n");
    expect_screen("abc\b \bd\r\n");
    type("one two\027x\n"); /* ^W */
    expect_line("one x\n");
    expect_screen("one two\b \b\b \b\b \bx\r\n");
    type("junk\025ok\n"); /* ^U */
    expect_line("ok\n");
    expect_screen("junk\b \b\b \b\b \b\b \bok\r\n");
    type("a\026\003b\n"); /* ^V ^C */
    expect_line("a\003b\n");
    expect_screen("a^\b^Cb\r\n");
    type("re\022do\n"); /* ^R */
    expect_line("redo\n");
    expect_screen("re^R\r\nredo\r\n");
    type("\t\177x\n");
    expect_line("x\n");
    expect_screen("\t\b\b\b\b\b\b\b\bx\r\n");
    close_pair();
}

static void end_of_file_character(void)
{
    char c;
    open_pair();
    type("part\004");
    expect_line("part");
    type("\004");
    CHECK_EQUAL(read(slave, &c, 1), 0);
    type("x\n");
    expect_line("x\n");
    close_pair();
}

static void short_reads_keep_the_rest_of_the_line(void)
{
    char buffer[8];
    int count;
    open_pair();
    type("hello\nworld\n");
    CHECK_EQUAL(ioctl(slave, FIONREAD, &count), 0);
    CHECK_EQUAL(count, 12);
    CHECK(read(slave, buffer, 3) == 3 && !memcmp(buffer, "hel", 3));
    expect_line("lo\n");
    expect_line("world\n");
    close_pair();
}

static void raw_mode(void)
{
    struct termios modes;
    char buffer[32];
    open_pair();
    CHECK_EQUAL(tcgetattr(slave, &modes), 0);
    cfmakeraw(&modes);
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    type("a\r\003");
    expect_line("a\r\003");
    CHECK(!strcmp(screen(), ""));
    CHECK_EQUAL(write(slave, "x\ny", 3), 3);
    expect_screen("x\ny");
    modes.c_cc[VMIN] = 0;
    modes.c_cc[VTIME] = 1;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    CHECK_EQUAL(read(slave, buffer, sizeof buffer), 0); /* after a tenth of a second */
    modes.c_cc[VMIN] = 0;
    modes.c_cc[VTIME] = 0;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    CHECK_EQUAL(read(slave, buffer, sizeof buffer), 0);
    modes.c_cc[VMIN] = 3;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    type("12");
    CHECK(!readable(slave));
    pid_t child = fork();
    if (child == 0) {
        usleep(30000);
        type("34");
        _exit(0);
    }
    CHECK_EQUAL(read(slave, buffer, sizeof buffer), 4);
    waitpid(child, NULL, 0);
    modes.c_cc[VMIN] = 10;
    modes.c_cc[VTIME] = 1;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    type("xyz");
    CHECK_EQUAL(read(slave, buffer, sizeof buffer), 3); /* the pause between bytes ends it */
    CHECK_EQUAL(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    CHECK_ERROR(read(slave, buffer, sizeof buffer), EAGAIN);
    close_pair();
}

static void output_is_processed(void)
{
    struct termios modes;
    open_pair();
    CHECK_EQUAL(write(slave, "a\nb\tc", 5), 5);
    expect_screen("a\r\nb\tc");
    CHECK_EQUAL(tcgetattr(slave, &modes), 0);
    modes.c_oflag |= XTABS;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    CHECK_EQUAL(write(slave, "\n\tx", 3), 3);
    expect_screen("\r\n        x");
    modes.c_oflag &= ~OPOST;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    CHECK_EQUAL(write(slave, "\n", 1), 1);
    expect_screen("\n");
    close_pair();
}

static void echo_can_be_switched_off(void)
{
    open_pair();
    set_local(ECHONL, ECHO);
    type("secret\n");
    expect_line("secret\n");
    expect_screen("\r\n");
    set_local(0, ECHONL);
    type("more\n");
    expect_line("more\n");
    expect_screen("");
    close_pair();
}

static void flow_control_stops_output(void)
{
    open_pair();
    type("\023"); /* ^S */
    CHECK_EQUAL(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    CHECK_ERROR(write(slave, "x", 1), EAGAIN);
    type("\021");
    CHECK_EQUAL(write(slave, "x", 1), 1);
    expect_screen("x");
    CHECK_EQUAL(tcflow(slave, TCOOFF), 0);
    CHECK_ERROR(write(slave, "y", 1), EAGAIN);
    CHECK_EQUAL(tcflow(slave, TCOON), 0);
    CHECK_EQUAL(write(slave, "y", 1), 1);
    expect_screen("y");
    close_pair();
}

static void flush_discards_input(void)
{
    open_pair();
    type("gone\n");
    CHECK_EQUAL(tcflush(slave, TCIFLUSH), 0);
    CHECK(!readable(slave));
    CHECK_ERROR(ioctl(slave, TCFLSH, 9), EINVAL);
    close_pair();
}

static void window_size(void)
{
    struct winsize size = { 24, 80, 0, 0 }, seen = { 0 };
    open_pair();
    CHECK_EQUAL(ioctl(master, TIOCSWINSZ, &size), 0);
    CHECK_EQUAL(ioctl(slave, TIOCGWINSZ, &seen), 0);
    CHECK(seen.ws_row == 24 && seen.ws_col == 80);
    close_pair();
}

static void closing_the_ends(void)
{
    char c;
    struct pollfd set;
    open_pair();
    CHECK_EQUAL(write(slave, "last", 4), 4);
    close(slave);
    char buffer[8];
    CHECK_EQUAL(read(master, buffer, sizeof buffer), 4);
    CHECK_ERROR(read(master, &c, 1), EIO);
    set = (struct pollfd){ master, POLLIN, 0 };
    CHECK(poll(&set, 1, 0) == 1 && (set.revents & POLLHUP));
    close(master);
    open_pair();
    char name[64];
    CHECK_EQUAL(ptsname_r(master, name, sizeof name), 0);
    close(master);
    CHECK_EQUAL(read(slave, &c, 1), 0);
    CHECK_ERROR(write(slave, "x", 1), EIO);
    set = (struct pollfd){ slave, POLLIN, 0 };
    CHECK(poll(&set, 1, 0) == 1 && (set.revents & POLLHUP));
    CHECK(access(name, F_OK) != 0);
    close(slave);
}

static void locked_until_unlockpt(void)
{
    char name[64];
    int number, lock = -1, fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(fd >= 0);
    CHECK_EQUAL(ioctl(fd, TIOCGPTN, &number), 0);
    CHECK(ioctl(fd, TIOCGPTLCK, &lock) == 0 && lock == 1);
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    CHECK_ERROR(open(name, O_RDWR | O_NOCTTY), EIO);
    lock = 0;
    CHECK_EQUAL(ioctl(fd, TIOCSPTLCK, &lock), 0);
    int peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    CHECK(peer >= 0 && isatty(peer));
    close(peer);
    close(fd);
}

static void packet_mode_tells_the_state(void)
{
    int on = 1;
    char buffer[16];
    open_pair();
    CHECK_EQUAL(ioctl(master, TIOCPKT, &on), 0);
    CHECK_EQUAL(write(slave, "hi", 2), 2);
    CHECK(read(master, buffer, sizeof buffer) == 3 && buffer[0] == TIOCPKT_DATA && !memcmp(buffer + 1, "hi", 2));
    CHECK_EQUAL(tcflush(slave, TCOFLUSH), 0);
    CHECK(read(master, buffer, sizeof buffer) == 1 && (buffer[0] & TIOCPKT_FLUSHWRITE));
    close_pair();
}

static void not_a_terminal(void)
{
    struct termios modes;
    int fd = open("/dev/null", O_RDWR), ends[2];
    CHECK_ERROR(tcgetattr(fd, &modes), ENOTTY);
    CHECK(pipe(ends) == 0);
    CHECK_ERROR(tcgetattr(ends[0], &modes), ENOTTY);
    close(fd);
    close(ends[0]);
    close(ends[1]);
}

static const struct guest_case cases[] = {
    GUEST_CASE(lines_are_edited_and_echoed),
    GUEST_CASE(end_of_file_character),
    GUEST_CASE(short_reads_keep_the_rest_of_the_line),
    GUEST_CASE(raw_mode),
    GUEST_CASE(output_is_processed),
    GUEST_CASE(echo_can_be_switched_off),
    GUEST_CASE(flow_control_stops_output),
    GUEST_CASE(flush_discards_input),
    GUEST_CASE(window_size),
    GUEST_CASE(closing_the_ends),
    GUEST_CASE(locked_until_unlockpt),
    GUEST_CASE(packet_mode_tells_the_state),
    GUEST_CASE(not_a_terminal),
};
GUEST_MAIN(cases)
