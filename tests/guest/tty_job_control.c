/* Controlling terminals, foreground groups and the signals of the keyboard: termios(3), tty_ioctl(4), setsid(2), credentials(7). */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int master;
static char name[64];
static volatile sig_atomic_t last_signal;
static void note(int number) { last_signal = number; }

static void handle(int number)
{
    struct sigaction action = { .sa_handler = note };
    CHECK_EQUAL(sigaction(number, &action, NULL), 0);
}

static void wait_for_signal(int number)
{
    for (int i = 0; i < 200 && last_signal != number; i++)
        usleep(10000);
    CHECK_EQUAL(last_signal, number);
    last_signal = 0;
}

/* Runs `body` as leader of a new session whose controlling terminal is the slave, given as descriptor. */
static void in_session(void (*body)(int slave))
{
    int status;
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    CHECK_EQUAL(ptsname_r(master, name, sizeof name), 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(setsid() == getpid());
        int slave = open(name, O_RDWR);
        CHECK(slave >= 0);
        body(slave);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    close(master);
}

static void leader(int slave)
{
    int session = 0;
    CHECK_EQUAL(tcgetpgrp(slave), getpid());
    CHECK_EQUAL(ioctl(slave, TIOCGSID, &session), 0);
    CHECK_EQUAL(session, getpid());
    int own = open("/dev/tty", O_RDWR);
    CHECK(own >= 0 && isatty(own));
    CHECK_EQUAL(tcgetpgrp(own), getpid());
    CHECK_EQUAL(ioctl(slave, TIOCSCTTY, 0), 0);
    CHECK_ERROR(tcsetpgrp(slave, -1), EINVAL);
    CHECK_ERROR(tcsetpgrp(slave, 1 << 22), ESRCH);
    handle(SIGHUP);
    CHECK_EQUAL(ioctl(own, TIOCNOTTY), 0);
    wait_for_signal(SIGHUP);
    CHECK_ERROR(open("/dev/tty", O_RDWR), ENXIO);
    CHECK_ERROR(tcgetpgrp(slave), ENOTTY);
}

static void keys_send_signals_to_the_foreground(int slave)
{
    static const struct { int signal; const char *key; } table[] = { { SIGINT, "\003" }, { SIGQUIT, "\034" }, { SIGTSTP, "\032" } };
    for (unsigned i = 0; i < 3; i++) {
        handle(table[i].signal);
        CHECK_EQUAL(write(master, table[i].key, 1), 1);
        wait_for_signal(table[i].signal);
    }
    struct winsize size = { 30, 90, 0, 0 };
    handle(SIGWINCH);
    CHECK_EQUAL(ioctl(master, TIOCSWINSZ, &size), 0);
    wait_for_signal(SIGWINCH);
    pid_t child = fork();
    if (child == 0) { /* a group of its own in the foreground gets them instead */
        signal(SIGINT, SIG_DFL);
        for (;;)
            pause();
    }
    CHECK_EQUAL(setpgid(child, child), 0);
    CHECK_EQUAL(tcsetpgrp(slave, child), 0);
    usleep(50000);
    CHECK_EQUAL(write(master, "\003", 1), 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    CHECK_EQUAL(last_signal, 0);
}

static void background_groups_are_stopped(int slave)
{
    int status;
    signal(SIGTTOU, SIG_IGN);
    pid_t child = fork();
    if (child == 0) {
        char c;
        signal(SIGTTOU, SIG_DFL);
        setpgid(0, 0);
        CHECK_EQUAL(read(slave, &c, 1), 1); /* SIGTTIN first; goes on in the foreground */
        _exit(c != 'k');
    }
    setpgid(child, child);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    CHECK_EQUAL(tcsetpgrp(slave, child), 0);
    CHECK_EQUAL(write(master, "k\n", 2), 2);
    CHECK_EQUAL(kill(child, SIGCONT), 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(tcsetpgrp(slave, getpid()), 0);

    child = fork();
    if (child == 0) {
        struct termios modes;
        signal(SIGTTOU, SIG_DFL);
        setpgid(0, 0);
        tcgetattr(slave, &modes); /* asking is free */
        CHECK_EQUAL(write(slave, "", 0), 0);
        tcsetattr(slave, TCSANOW, &modes); /* changing is not */
        _exit(7);
    }
    setpgid(child, child);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);

    child = fork();
    if (child == 0) { /* ignored: reading fails, writing and changing succeed */
        char c;
        struct termios modes;
        setpgid(0, 0);
        signal(SIGTTIN, SIG_IGN);
        CHECK_ERROR(read(slave, &c, 1), EIO);
        CHECK_EQUAL(tcgetattr(slave, &modes), 0);
        CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
        _exit(0);
    }
    setpgid(child, child);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static void tostop_stops_writers(int slave)
{
    struct termios modes;
    int status;
    signal(SIGTTOU, SIG_IGN);
    CHECK_EQUAL(tcgetattr(slave, &modes), 0);
    modes.c_lflag |= TOSTOP;
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &modes), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGTTOU, SIG_DFL);
        setpgid(0, 0);
        _exit(write(slave, "x", 1) != 1);
    }
    setpgid(child, child);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    CHECK_EQUAL(tcsetpgrp(slave, child), 0);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static void session_leader_has_a_terminal(void) { in_session(leader); }
static void keyboard_signals(void) { in_session(keys_send_signals_to_the_foreground); }
static void background_access(void) { in_session(background_groups_are_stopped); }
static void tostop(void) { in_session(tostop_stops_writers); }

static void hang_up_reaches_the_session(void)
{
    int status, ready[2];
    char c;
    CHECK(pipe(ready) == 0);
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(grantpt(master) == 0 && unlockpt(master) == 0 && ptsname_r(master, name, sizeof name) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(master);
        setsid();
        CHECK(open(name, O_RDWR) >= 0);
        CHECK_EQUAL(write(ready[1], "r", 1), 1);
        for (;;)
            pause();
    }
    CHECK_EQUAL(read(ready[0], &c, 1), 1);
    close(master);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP);
}

static void only_leaders_get_a_terminal(void)
{
    int status;
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(grantpt(master) == 0 && unlockpt(master) == 0 && ptsname_r(master, name, sizeof name) == 0);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        pid_t member = fork();
        if (member == 0) {
            int slave = open(name, O_RDWR);
            CHECK(slave >= 0);
            CHECK_ERROR(ioctl(slave, TIOCSCTTY, 0), EPERM);
            CHECK_ERROR(open("/dev/tty", O_RDWR), ENXIO);
            _exit(0);
        }
        waitpid(member, &status, 0);
        CHECK_EQUAL(status, 0);
        int slave = open(name, O_RDWR | O_NOCTTY);
        CHECK_ERROR(tcgetpgrp(slave), ENOTTY);
        CHECK_EQUAL(ioctl(slave, TIOCSCTTY, 0), 0);
        CHECK_EQUAL(tcgetpgrp(slave), getpid());
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    close(master);
}

static const struct guest_case cases[] = {
    GUEST_CASE(session_leader_has_a_terminal),
    GUEST_CASE(keyboard_signals),
    GUEST_CASE(background_access),
    GUEST_CASE(tostop),
    GUEST_CASE(hang_up_reaches_the_session),
    GUEST_CASE(only_leaders_get_a_terminal),
};
GUEST_MAIN(cases)
