# Programs started by bailey exec are suspended with the rest. Who had started one is told; when it goes on, its input is at its end and what it
# writes is lost; its terminal has hung up.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data

appears()
{
    for i in $(seq 100); do
        [ -s "$1" ] && return
        sleep 0.1
    done
    fail "$1 never appears: $(cat err exec.err)"
}

expect 0 "$BAILEY" run -d --name box -v data:/w sleep 1000
# One that reads, one that writes to a file of the user's, and one that only computes.
(sleep 100 & echo $! >holder; wait) | "$BAILEY" exec box sh -c 'echo begun; echo x >/w/began; cat >/w/read; echo lost; echo $? >/w/ended; exit 7' >exec.out 2>exec.err &
reader=$!
"$BAILEY" exec box sh -c 'i=0; while [ ! -e /w/go ]; do i=$((i+1)); echo $i; sleep 0.05; done; echo more than a pipe takes; seq 50000; echo $? >/w/counted' >numbers 2>exec2.err </dev/null &
counter=$!
appears data/began
appears numbers
expect 0 "$BAILEY" suspend box -o box.bailey
kill "$(cat holder)"
wait $reader
[ $? = 125 ] || fail "exec does not end with 125: $(cat exec.err)"
wait $counter
[ $? = 125 ] || fail "the other exec: $(cat exec2.err)"
[ "$(cat exec.out)" = begun ] || fail "exec: $(cat exec.out)"
[ "$(cat exec.err exec2.err | grep -c "it was suspended to $PWD/box.bailey")" = 2 ] || fail "exec is not told: $(cat exec.err exec2.err)"
expect 0 "$BAILEY" resume -d box.bailey
appears data/ended
[ "$(cat data/ended)" = 0 ] && [ ! -s data/read ] || fail "the reader: $(cat data/ended data/read)"
# Further programs are others, also when those that were there end.
expect 3 "$BAILEY" exec box sh -c 'touch /w/go; sleep 0.5; exit 3'
appears data/counted
[ "$(cat data/counted)" = 0 ] || fail "the writer: $(cat data/counted)"
# Nothing is left of them; and a suspension of what was resumed carries those that are there.
rm data/*
"$BAILEY" exec box sh -c 'echo x >/w/began; while [ ! -e /w/go ]; do sleep 0.05; done; echo out; echo $? >/w/ended' >exec.out 2>exec.err &
appears data/began
expect 0 "$BAILEY" suspend box -o box.bailey --keep-running
expect 0 "$BAILEY" suspend box -o second.bailey
wait $!
expect 0 "$BAILEY" resume -d second.bailey
expect 0 "$BAILEY" suspend box -o third.bailey
expect 0 "$BAILEY" resume -d third.bailey
touch data/go
appears data/ended
[ "$(cat data/ended)" = 0 ] || fail "resumed twice: $(cat data/ended)"
expect 0 "$BAILEY" resume -d --name copy box.bailey
expect 0 "$BAILEY" stop -t 0 box
expect 0 "$BAILEY" stop -t 0 copy
expect 0 "$BAILEY" rm box copy

# With a terminal: it has hung up, so that a shell ends, and one that does not want to goes on.
cat >drive.py <<'END'
import os, pty, select, subprocess, time
BAILEY = os.environ["BAILEY"]
def terminal(*words):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(BAILEY, ["bailey", *words])
    return pid, fd
def bailey(*words):
    result = subprocess.run([BAILEY, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == 0, (words, result)
    return result.stdout
def read_until(fd, text, seconds=20):
    seen, end = b"", time.time() + seconds
    while text not in seen:
        assert time.time() < end, (text, seen)
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536)
    return seen
bailey("run", "-d", "--name", "box", "-v", "data:/w", "sleep", "1000")
pid, fd = terminal("exec", "-t", "box", "bash", "--norc", "-i")
read_until(fd, b"bash-")
os.write(fd, b"(trap '' HUP; echo rea''dy; while [ ! -e /w/go2 ]; do sleep 0.05; done; read word || echo hung $? >/w/word) & fg\n")
read_until(fd, b"ready")
bailey("suspend", "box", "-o", "box.bailey")
seen = read_until(fd, b"it was suspended to")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125
bailey("resume", "-d", "box.bailey")
open("data/go2", "w")
end = time.time() + 10
while not os.path.exists("data/word") or "bash" in bailey("ps", "box"):
    assert time.time() < end, bailey("ps", "box")
    time.sleep(0.1)
assert open("data/word").read().startswith("hung"), open("data/word").read()
END
rm -f data/*
BAILEY=$BAILEY python3 drive.py || fail "see above"
exit 0
