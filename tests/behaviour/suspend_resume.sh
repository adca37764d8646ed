# Suspended sandboxes go on where they were: in the background and the foreground, with what they read, wrote and waited for; files are compared,
# strangers' images ask first, damage is refused.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data

# lines FILE NUMBER: waits until the file has so many.
lines()
{
    for i in $(seq 100); do
        [ "$(wc -l <"$1" 2>/dev/null)" -ge "$2" ] 2>/dev/null && return
        sleep 0.1
    done
    fail "$1 never had $2 lines: $(cat "$1")"
}

# One that counts: no number twice, none left out.
count='i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; sleep 0.02; done'
"$BAILEY" run --name counter sh -c "$count" >numbers </dev/null 2>said &
lines numbers 5
expect 0 "$BAILEY" suspend counter -o counter.bailey
wait $!
grep -q "suspended to" said || fail "who ran it is not told: $(cat said)"
expect 0 "$BAILEY" ps -q
says ""
expect 125 "$BAILEY" resume counter
complains "did you mean counter.bailey?"
expect 125 "$BAILEY" clone nobody
complains "no sandbox of that name is running"
expect 0 "$BAILEY" resume -d counter.bailey
says "counter"
expect 125 "$BAILEY" resume -d counter.bailey
complains "already running"
expect 0 "$BAILEY" resume -d --name second counter.bailey
says "second"
sleep 1
for name in counter second; do
    "$BAILEY" logs $name >log
    cat numbers log | head -n 20 | tr '\n' ' ' >joined
    [ "$(cat joined)" = "$(seq 20 | tr '\n' ' ')" ] || fail "$name did not go on where it was: $(cat joined)"
done
expect 0 "$BAILEY" exec second cat /run/bailey/generation
says "1"
# Once more, out of the resumed one.
expect 0 "$BAILEY" suspend second -o second.bailey
expect 0 "$BAILEY" resume -d --name third second.bailey
expect 0 "$BAILEY" exec third cat /run/bailey/generation
says "2"
expect 0 "$BAILEY" stop -t 0 counter
expect 0 "$BAILEY" stop -t 0 third

# In the foreground: standard streams of now, the exit status of the program.
(sleep 30 & echo $! >holder; wait) | "$BAILEY" run --name reader -v data sh -c 'echo begun; read line; echo got $line; exit 7' >first 2>err &
lines first 1
expect 0 "$BAILEY" suspend reader -o reader.bailey
kill "$(cat holder)"
wait
echo words | "$BAILEY" resume reader.bailey >second 2>err
got=$?
[ $got = 7 ] || fail "resumed: exit $got: $(cat err)"
[ "$(cat second)" = "got words" ] || fail "resumed: $(cat second)"

# Open files: where they stood, compared, and those without a name carried along.
cat >data/files.py <<'END'
import os, sys
log = open("log", "w")
numbers = open("numbers")
assert numbers.readline() == "1\n"
lost = open("lost", "w+")
lost.write("x" * 5000)
lost.flush()
os.unlink("lost")
print("ready", file=log, flush=True)
sys.stdin.readline()
assert open("/proc/self/fd/%d" % numbers.fileno()).readline() == "1\n"
assert numbers.readline() == "2\n"
lost.seek(4990)
assert lost.read() == "x" * 10
print("done", file=log, flush=True)
END
printf '1\n2\n' >data/numbers
: >data/log
(sleep 30 & echo $! >holder; wait) | (cd data && exec "$BAILEY" run --name files -v . python3 files.py) >out 2>err &
lines data/log 1
expect 0 "$BAILEY" suspend files -o files.bailey
kill "$(cat holder)"
wait
cp data/log log.before
echo | "$BAILEY" resume files.bailey >out 2>err || fail "files: $(cat out err)"
[ "$(tr '\n' ' ' <data/log)" = "ready done " ] || fail "the log: $(cat data/log)"
expect 125 "$BAILEY" resume files.bailey
complains "data/log, which the sandbox has open, has changed its size"
cp log.before data/log
expect 125 "$BAILEY" resume files.bailey
complains "was written to"
echo | "$BAILEY" resume --accept-changed files.bailey >out 2>err || fail "accepted files: $(cat out err)"

# An image from elsewhere: what is beyond the default view must be named, as it says itself.
cp reader.bailey stranger.bailey
expect 125 "$BAILEY" resume stranger.bailey
complains "add: -v $PWD/data:$PWD/data"
expect 125 "$BAILEY" resume -v "$PWD/data:/elsewhere" stranger.bailey
complains "no folder /elsewhere"
echo x | "$BAILEY" resume -v "$PWD/data:$PWD/data:ro" stranger.bailey >out 2>err
[ $? = 7 ] || fail "the stranger's, with its folder: $(cat out err)"
mv reader.bailey moved.bailey
expect 125 "$BAILEY" resume moved.bailey
complains "moved or copied"
cp counter.bailey free.bailey
expect 0 "$BAILEY" resume -d --name free free.bailey
expect 0 "$BAILEY" stop -t 0 free

# Clones: from one that runs on, and from an image; numbers that are taken are left out.
expect 0 "$BAILEY" run -d --name warm sh -c 'n=$$; while :; do sleep 0.1; done'
expect 0 "$BAILEY" clone --count 2 warm
[ "$(tr '\n' ' ' <out)" = "warm-1 warm-2 " ] || fail "clone: $(cat out)"
expect 0 "$BAILEY" clone warm
says "warm-3"
for name in warm-1 warm-2 warm-3; do
    expect 0 "$BAILEY" exec $name cat /run/bailey/generation
    says "1"
done
expect 0 "$BAILEY" suspend warm
expect 0 "$BAILEY" clone --count 2 --name cold --hostname node warm.bailey
[ "$(tr '\n' ' ' <out)" = "cold-1 cold-2 " ] || fail "clone of an image: $(cat out)"
expect 0 "$BAILEY" exec cold-2 hostname
says "node-2"
expect 0 "$BAILEY" exec warm-1 hostname
says "warm"
expect 125 "$BAILEY" clone --hostname -x warm.bailey
complains "-x cannot be a host name"
expect 0 "$BAILEY" stop -t 0 warm-1 warm-2 warm-3 cold-1 cold-2
expect 125 "$BAILEY" clone nobody
complains "nobody"

# Damage.
head -c 100000 counter.bailey >short.bailey
expect 125 "$BAILEY" resume short.bailey
expect 125 "$BAILEY" resume data/numbers
complains "not an image"
python3 -c '
data = bytearray(open("counter.bailey", "rb").read())
data[20000] ^= 1
open("flipped.bailey", "wb").write(data)'
expect 125 "$BAILEY" resume --verify flipped.bailey
complains "damaged"
