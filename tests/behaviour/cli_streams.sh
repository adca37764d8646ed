# Standard streams of every kind: files keep the position that the caller's next command finds, devices are those that were given, and
# a terminal over a pipe ends where the pipe ends.
. "$(dirname "$0")/cli_support.inc"

# is WANTED COMMAND: the output of a shell command line.
is()
{
    got=$(eval "$2" 2>err)
    [ "$got" = "$1" ] || fail "$2: '$got', expected '$1': $(cat err)"
}

seq 1 2000 >file
is '1
2' '{ "$BAILEY" run head -n1; head -n1; } <file'
is '1
2' '{ "$BAILEY" run sh -c "read line; echo \$line"; head -n1; } <file'
is '2000 1' '{ "$BAILEY" run sh -c "wc -l"; cat; echo 1; } <file | tr "\n" " " | sed "s/ $//"'
{ echo before; "$BAILEY" run sh -c 'echo inside; exec echo again'; echo after; } >written
is 'before inside again after' 'tr "\n" " " <written | sed "s/ $//"'
{ "$BAILEY" run sh -c 'echo more'; echo last; } >>written
is 'before inside again after more last' 'tr "\n" " " <written | sed "s/ $//"'
is '1
1' '{ "$BAILEY" run head -n1 /dev/stdin; head -n1; } <file'

# Devices.
"$BAILEY" run /bin/echo x >/dev/full 2>err
[ $? = 1 ] || fail "/dev/full: $(cat err)"
grep -q "No space left" err || fail "/dev/full: $(cat err)"
is '3' '"$BAILEY" run head -c 3 </dev/zero | wc -c'
is '/dev/urandom' '"$BAILEY" run readlink /proc/self/fd/0 </dev/urandom'
is '' '"$BAILEY" run cat </dev/null'
expect 0 "$BAILEY" run -d --name box sleep 1000
"$BAILEY" exec box /bin/echo x >/dev/full 2>err
[ $? = 1 ] || fail "exec, /dev/full: $(cat err)"

# A terminal whose other end is a pipe or a file: read to its end, then end of file, and no hang-up. A pipe is echoed, as by podman.
is 'hi hi' 'echo hi | "$BAILEY" run -t cat | tr -d "\r" | tr "\n" " " | sed "s/ $//"'
echo hi | "$BAILEY" run -t cat >out || fail "a terminal over a pipe ends with $?"
is 'hihi' 'printf hi | "$BAILEY" run -t cat'
"$BAILEY" run -t sh -c '[ $(wc -l) = 2000 ]' <file >out || fail "a terminal over a file"
is '42' 'echo "echo \$((6*7))" | "$BAILEY" run -t bash --norc | tr "\r" "\n" | grep -x 42'
is 'hihi' 'printf hi | "$BAILEY" exec -t box cat'
expect 5 "$BAILEY" run -t sh -c 'cat; exit 5'
expect 5 "$BAILEY" exec -t box sh -c 'cat; exit 5'

# Many threads wait on a stream of the host and on something of the sandbox at once, more than there are wake descriptors.
cat >waiters.py <<'END'
import os, select, sys, threading, time
THREADS = 200
pipes = [os.pipe() for _ in range(THREADS)]
parked, woken, failed = threading.Semaphore(0), threading.Semaphore(0), []

def poller(i):
    waiter = select.poll() if i % 2 else select.epoll()
    waiter.register(0, select.POLLIN)
    waiter.register(pipes[i][0], select.POLLIN)
    parked.release()
    for expected in (pipes[i][0], 0):
        ready = [descriptor for descriptor, _ in waiter.poll(30000 if i % 2 else 30)]
        if ready != [expected]:
            failed.append((i, expected, ready))
        if expected:
            os.read(expected, 1)
        woken.release()

threads = [threading.Thread(target=poller, args=(i,)) for i in range(THREADS)]
for thread in threads:
    thread.start()
for _ in threads:
    parked.acquire()
time.sleep(0.3)
for _, writer in reversed(pipes):
    os.write(writer, b"x")
for _ in threads:
    woken.acquire()
print("all woken", flush=True)
for thread in threads:
    thread.join()
print(failed[:5])
END
cat >driver.py <<'END'
import os, subprocess, sys
program = subprocess.Popen([os.environ["BAILEY"], "run", "-v", os.getcwd() + "/waiters.py:/waiters.py:ro", "python3", "/waiters.py"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
first = program.stdout.readline()
program.stdin.write("x")
program.stdin.flush()
rest = program.stdout.read()
if first != "all woken\n" or rest != "[]\n" or program.wait() != 0:
    sys.exit(f"{first!r}, {rest!r}, {program.wait()}")
END
timeout 60 python3 driver.py || fail "many waiters"
exit 0
