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
CCACHE_DISABLE=1 cc -O1 -o data/order data/order.c -lrt || exit 1
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

# Timers of the time of day follow it while the sandbox is no more than a file; others have the time left that they had.
cat >data/day.py <<'END'
import ctypes, errno, os, select, signal, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def value(at):
    return struct.pack("qqqq", 0, 0, int(at), int(at % 1 * 1e9))
def descriptor(clock, at, flags):
    fd = libc.timerfd_create(clock, os.O_NONBLOCK)
    assert libc.timerfd_settime(fd, flags, value(at), None) == 0
    return fd
now = time.time()
day = descriptor(time.CLOCK_REALTIME, now + 3, 1)
told = descriptor(time.CLOCK_REALTIME, now + 5000, 3)
relative = descriptor(time.CLOCK_REALTIME, 4, 0)
monotonic = descriptor(time.CLOCK_MONOTONIC, time.monotonic() + 4, 1)
posix = ctypes.c_void_p()
fired = []
signal.signal(signal.SIGALRM, lambda *_: fired.append(time.monotonic()))
assert libc.timer_create(time.CLOCK_REALTIME, None, ctypes.byref(posix)) == 0
assert libc.timer_settime(posix, 1, value(now + 3), None) == 0
slept = []
def sleep():
    libc.clock_nanosleep(time.CLOCK_REALTIME, 1, struct.pack("qq", int(now + 3), 0), None)
    slept.append(time.monotonic())
thread = threading.Thread(target=sleep)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
thread.start()
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
print("ready", flush=True)
begin, ready = time.monotonic(), {}
while len(ready) < 4 or not fired or not slept:
    for fd in select.select([fd for fd in (day, told, relative, monotonic) if fd not in ready], [], [], 0.05)[0]:
        ready[fd] = time.monotonic() - begin
        try:
            os.read(fd, 8)
            assert fd != told
        except OSError as error:
            assert fd == told and error.errno == errno.ECANCELED, error
    assert time.monotonic() < begin + 6, (ready, fired, slept)
soon = [ready[day], ready[told], fired[0] - begin, slept[0] - begin]
assert max(soon) < 2.5, soon
assert min(ready[relative], ready[monotonic]) > 3.9, ready
print("as it should be", flush=True)
END
expect 0 "$BAILEY" run -d --name day -v data:/w python3 /w/day.py
for i in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.1
    "$BAILEY" logs day | grep -q ready && break
done
expect 0 "$BAILEY" suspend day -o day.bailey
sleep 3
expect 0 "$BAILEY" resume -d day.bailey
expect 0 "$BAILEY" wait day
"$BAILEY" logs day | grep -q "as it should be" || fail "$("$BAILEY" logs day)"
exit 0
