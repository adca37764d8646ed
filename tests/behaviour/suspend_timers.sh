# A timer that is due before a sleep's end expires before it, however the sandbox stood still meanwhile; and what is set by the time of day knows of
# the time that passed.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data
cat >data/order.c <<'END'
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
static volatile sig_atomic_t fired;
static void fire(int signal) { fired = 1; }
static void at(struct timespec *time, long ns)
{
    time->tv_nsec += ns;
    time->tv_sec += time->tv_nsec / 1000000000;
    time->tv_nsec %= 1000000000;
}
int main(void)
{
    /* What is shared is copied while the sandbox stands still. */
    size_t size = 256 << 20;
    char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < size; i += 64)
        shared[i] = (char)(i * 7 + 1);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_handler = fire};
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    sigaction(SIGUSR1, &action, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    printf("ready\n");
    fflush(stdout);
    for (unsigned turn = 0; access("/w/end", F_OK) < 0; turn++) {
        struct itimerspec first = {0}, second = {0};
        struct timespec end;
        uint64_t count;
        fired = 0;
        clock_gettime(CLOCK_MONOTONIC, &first.it_value);
        at(&first.it_value, 30000000 + (turn % 7) * 1000000);
        second = first;
        at(&second.it_value, 100000);
        end = second.it_value;
        at(&end, 100000);
        timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &second, NULL);
        timer_settime(timer, TIMER_ABSTIME, &first, NULL);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
            ;
        if (!fired || read(descriptor, &count, sizeof(count)) != sizeof(count)) {
            printf("turn %u: %s has not expired at the end of a longer sleep\n", turn, fired ? "the descriptor" : "the signal");
            return 1;
        }
    }
    printf("all in order\n");
    return 0;
}
END
cc -O1 -o data/order data/order.c -lrt || exit 1
expect 0 "$BAILEY" run -d --name box -v data:/w /w/order
for i in 1 2 3 4 5 6 7 8; do
    sleep 0.1
    "$BAILEY" suspend --keep-running box -o box.bailey >out 2>err || fail "suspend: $(cat err; "$BAILEY" logs box)"
done
"$BAILEY" suspend box -o box.bailey >out 2>err || fail "suspend: $(cat err; "$BAILEY" logs box)"
expect 0 "$BAILEY" resume -d box.bailey
for i in 1 2 3; do
    sleep 0.1
    "$BAILEY" suspend box -o box.bailey >out 2>err || fail "suspend: $(cat err; "$BAILEY" logs box)"
    expect 0 "$BAILEY" resume -d box.bailey
done
touch data/end
expect 0 "$BAILEY" wait box
says 0
"$BAILEY" logs box | grep -q "in order" || fail "$("$BAILEY" logs box)"
exit 0
