# What was typed or sent before a suspension and not read yet is read after it: all of it, once, and in its order. And the end of input is one.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data
reader='echo ready; while [ ! -e /w/go ]; do sleep 0.05; done; cat >/w/got; echo "end $?"'

# ready FILE: waits for the word in it, and takes it out.
ready()
{
    for i in $(seq 100); do
        grep -q ready "$1" 2>/dev/null && rm "$1" && return
        sleep 0.1
    done
    fail "never ready: $(cat "$1" err)"
}
# whole NUMBER: data/got has the numbers from 1 on.
whole()
{
    for i in $(seq 100); do
        [ "$(wc -l <data/got 2>/dev/null)" -ge "$1" ] 2>/dev/null && break
        sleep 0.1
    done
    seq "$1" | cmp - data/got || fail "$2: $(wc -l <data/got) lines of $1: $(head -n 3 data/got) ... $(tail -n 1 data/got)"
    rm -f data/go data/got
}

# A pipe of the user's, whose writer has gone: bytes, then the end. Without streams, and with a terminal's in their place.
seq 3000 | "$BAILEY" run --name box -v data:/w sh -c "$reader" >said 2>err &
ready said
expect 0 "$BAILEY" suspend box -o box.bailey
wait $!
touch data/go
expect 0 "$BAILEY" resume box.bailey
says "end 0"
whole 3000 "a pipe"
# What the program has read is gone, what the image has is not left in the pipe, what comes later is.
mkfifo fifo
(
    "$BAILEY" run --name box -v data:/w sh -c 'read line; echo $line >/w/got; '"$reader"'' >said 2>err
    cat >rest
) <fifo &
exec 9>fifo
seq 500 >&9
ready said
sleep 0.3
expect 0 "$BAILEY" suspend box -o box.bailey
echo later >&9
exec 9>&-
wait $!
[ "$(cat rest)" = later ] || fail "left in the pipe: $(head -n 3 rest)"
first=$(cat data/got)
touch data/go
seq 501 900 | "$BAILEY" resume box.bailey >out 2>err || fail "resume: $(cat err)"
mv data/got tail
(echo "$first"; cat tail) >data/got
whole 900 "a pipe, and another"

# In the background: sent by who was attached, more than a pipe holds, and its end.
expect 0 "$BAILEY" run -d -i --name box -v data:/w sh -c "$reader"
seq 20000 | "$BAILEY" attach box >attached 2>err &
sleep 0.5
expect 0 "$BAILEY" suspend box -o box.bailey
wait $!
grep -q "it was suspended to" err || fail "attach: $(cat err)"
expect 0 "$BAILEY" resume -d box.bailey
touch data/go
whole 20000 "attached"
expect 0 "$BAILEY" wait box
says 0
expect 0 "$BAILEY" rm box

# A copy has it, and so has what runs on; twice in a row.
expect 0 "$BAILEY" run -d -i --name box -v data:/w sh -c "$reader"
seq 15000 | "$BAILEY" attach --sig-proxy=false box >attached 2>err &
attached=$!
sleep 0.5
expect 0 "$BAILEY" suspend box --keep-running -o copy.bailey
touch data/go
wait $attached
whole 15000 "what runs on"
expect 0 "$BAILEY" rm box
expect 0 "$BAILEY" resume -d copy.bailey
expect 0 "$BAILEY" suspend box -o box.bailey
expect 0 "$BAILEY" resume -d box.bailey
touch data/go
whole 15000 "the copy"
expect 0 "$BAILEY" wait box

expect 0 "$BAILEY" rm box
# A file: by its name and position where a folder of the sandbox shows it, by whoever gives one, and else its end, which is told.
half='i=0; while [ $i -lt 100 ] && read line; do i=$((i+1)); echo $line >>/w/got; done; '"$reader"
half=$(echo "$half" | sed 's/cat >/cat >>/')
half_way()
{
    seq 1000 >data/lines
    seq 1000 >lines
    "$BAILEY" run --name box -v data:/w sh -c "$half" <"$1" >said 2>err &
    ready said
    expect 0 "$BAILEY" suspend box -o box.bailey
    wait $!
    touch data/go
}
half_way data/lines
expect 0 "$BAILEY" resume box.bailey
says "end 0"
whole 1000 "a file of its folder"
half_way data/lines
expect 0 "$BAILEY" resume -d box.bailey
[ ! -s err ] || fail "a file of its folder, in the background: $(cat err)"
whole 1000 "a file of its folder, in the background"
expect 0 "$BAILEY" wait box
expect 0 "$BAILEY" rm box
half_way data/lines
echo >>data/lines
expect 125 "$BAILEY" resume box.bailey
complains "data/lines, which the sandbox has open, has changed its size"
seq 101 300 >other
"$BAILEY" resume box.bailey <other >out 2>err || fail "another file: $(cat err)"
whole 300 "another file"
half_way lines
expect 0 "$BAILEY" resume box.bailey
complains "standard input of the program was a file"
whole 100 "the end of a file"

# Typed at a terminal, more than the terminal inside takes.
cat >drive.py <<'END'
import os, pty, select, subprocess, time
BAILEY = os.environ["BAILEY"]
def terminal(*words):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(BAILEY, ["bailey", *words])
    return pid, fd
def read_until(fd, text, seconds=20):
    seen, end = b"", time.time() + seconds
    while text not in seen:
        assert time.time() < end, (text, seen)
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536)
    return seen
program = "stty -echo; echo ready; while [ ! -e /w/go ]; do sleep 0.05; done; while read line; do echo $line >>/w/got; [ $line = 4000 ] && exit 3; done"
pid, fd = terminal("run", "--name", "term", "-v", "data:/w", "sh", "-c", program)
read_until(fd, b"ready")
typed = "".join(f"{i}\n" for i in range(1, 4001)).encode()
while typed and select.select([], [fd], [], 1)[1]:
    typed = typed[os.write(fd, typed[:512]):]
result = subprocess.run([BAILEY, "suspend", "term", "-o", "term.bailey"], capture_output=True, text=True)
assert result.returncode == 0, result
try:
    while os.read(fd, 65536): pass
except OSError: pass
os.waitpid(pid, 0)
open("data/go", "w")
pid, fd = terminal("resume", "term.bailey")
while typed:
    typed = typed[os.write(fd, typed[:512]):]
try:
    while os.read(fd, 65536): pass
except OSError: pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 3, status
END
rm -f data/go data/got
BAILEY=$BAILEY python3 drive.py || fail "see above"
whole 4000 "typed"
exit 0
