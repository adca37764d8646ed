# Images that hold only what differs from another: what is resumed from a chain of them is the same, whatever was in which file; and what is
# missing or has changed is named.
if [ "$(id -u)" = 0 ]; then # also what an ordinary user may do
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME

# Private memory of two processes, shared memory and a file in memory; a round of a few changes to each whenever it is asked for.
mkdir work
cat >program.py <<'PROGRAM'
import hashlib, mmap, os, sys, time
PAGE, PAGES = 4096, 4096
def area(flags):
    area = mmap.mmap(-1, PAGES * PAGE, flags | mmap.MAP_ANONYMOUS)
    area[:] = os.urandom(PAGES * PAGE)
    return area
private, shared = area(mmap.MAP_PRIVATE), area(mmap.MAP_SHARED)
file = open("/tmp/file", "w+b")
file.write(os.urandom(PAGES * PAGE))
file.flush()
child = os.fork()
me = "child" if child == 0 else "parent"
def sums():
    parts = [private, shared, os.pread(file.fileno(), PAGES * PAGE, 0)]
    return " ".join(hashlib.sha256(part).hexdigest()[:20] for part in parts)
def change(round):
    for page in range(round, PAGES, 500):
        if page * PAGE < len(private):
            private[page * PAGE + 7] = (private[page * PAGE + 7] + 1) % 256
        if child:
            shared[page * PAGE + 9] = (shared[page * PAGE + 9] + 1) % 256
            os.pwrite(file.fileno(), b"changed", page * PAGE)
    if round == 2:
        private[100 * PAGE:120 * PAGE] = bytes(20 * PAGE)  # zeros where the base has something
    if round == 3:
        private.resize(PAGES * PAGE // 2)  # what is left lies where it did, or elsewhere
def report(name, what):
    with open(f"/given/{me}.new", "w") as new:
        new.write(what)
    os.rename(f"/given/{me}.new", f"/given/{me}.{name}")
done = 0
report("0", sums())
while True:
    for round in range(1, 6):
        if round > done and os.path.exists(f"/given/change.{round}"):
            while not child and not os.path.exists(f"/given/parent.{round}"):
                time.sleep(0.02)  # the shared memory is the parent's to change
            change(round)
            done = round
            report(str(round), sums())
    if os.path.exists("/given/check"):
        report("check", sums())
        while os.path.exists("/given/check"):
            time.sleep(0.02)
    time.sleep(0.02)
PROGRAM
await()
{
    for i in $(seq 150); do
        [ -e "work/$1" ] && return
        sleep 0.1
    done
    fail "no $1: $("$BAILEY" ps -a; "$BAILEY" logs box 2>&1)"
}
change()
{
    touch work/change.$1
    await parent.$1
    await child.$1
}
# What the sandbox has now is what it had after round $1.
check()
{
    rm -f work/*.check
    touch work/check
    await parent.check
    await child.check
    cmp -s work/parent.check work/parent.$1 && cmp -s work/child.check work/child.$1 || fail "$2: not what it was after round $1: $(cut -c1-80 work/*.check work/*.$1)"
    rm work/check
    sleep 0.1
}
given="-v $PWD/work:/given -v $PWD/program.py:/program.py:ro" # for an image that is not ours as it is
size() { stat -c %s "$1"; }
at_most() { [ "$(size "$1")" -le "$2" ] || fail "$1 has $(size "$1") bytes, more than $2"; }

"$BAILEY" run -d --name box -v ./work:/given -v ./program.py:/program.py:ro python3 /program.py >/dev/null || fail "cannot start"
await parent.0
await child.0
expect 0 "$BAILEY" suspend box -o full --keep-running
[ "$(size full)" -gt 60000000 ] || fail "the full image has $(size full) bytes only"
change 1
expect 0 "$BAILEY" suspend box -o one --base full --keep-running # of the same processes
at_most one 8000000
change 2
expect 0 "$BAILEY" suspend box -o two --base one
at_most two 10000000
expect 0 "$BAILEY" image verify two
"$BAILEY" image inspect two >said || fail "cannot inspect two"
grep -q "based on .*/one" said && grep -q "based on .*/full" said && grep -q "^resumable" said || fail "inspect said: $(cat said)"

# Resumed from one that was resumed from one.
expect 125 "$BAILEY" resume --json two
complains "--detach is missing"
expect 0 "$BAILEY" resume -d --json two
says '{"name":"box"}'
check 2 "resumed from two"
change 3
expect 0 "$BAILEY" suspend box -o three --base two
at_most three 10000000
expect 0 "$BAILEY" resume -d three
check 3 "resumed from three"
change 4
expect 0 "$BAILEY" suspend box -o four # one that stands alone again
"$BAILEY" image inspect --json four | grep -q '"bases":\[\]' || fail "four is based on something"
mkdir alone
mv four alone
expect 0 "$BAILEY" resume -d $given alone/four
check 4 "resumed from four"
expect 0 "$BAILEY" rm -f box

# A copy of it is moved with its base, and its clones.
rm -f work/change.*
expect 0 "$BAILEY" clone -n 2 --json --name copy one
says '{"name":"copy-1"}
{"name":"copy-2"}'
sleep 1
expect 0 "$BAILEY" stop copy-2
check 1 "a clone of one"
expect 0 "$BAILEY" stop copy-1
expect 0 "$BAILEY" rm -a

# Missing, found elsewhere, changed.
mkdir elsewhere
mv one elsewhere
expect 125 "$BAILEY" resume -d two
grep -q "needs .*one, which is not there" err || fail "a missing base: $(cat err)"
"$BAILEY" image inspect two >said || fail "cannot inspect it without its base"
grep -q "one, .*: not there" said && grep -q "^not resumable" said || fail "inspect said: $(cat said)"
expect 125 "$BAILEY" image verify two
expect 0 "$BAILEY" image verify two --base elsewhere/one
cp two elsewhere # as a stranger's: it does not choose which files are opened
expect 125 "$BAILEY" resume -d $given elsewhere/two
complains "needs full, which is not there"
cp full elsewhere
expect 0 "$BAILEY" resume -d $given elsewhere/two
check 2 "with its bases beside it"
expect 0 "$BAILEY" rm -f box
expect 125 "$BAILEY" resume -d two --base alone/four
grep -q "one" err || fail "another base: $(cat err)"
expect 0 "$BAILEY" resume -d two --base elsewhere/one
check 2 "with a base that was named"
expect 0 "$BAILEY" rm -f box
cp alone/four one
expect 125 "$BAILEY" resume -d two
grep -q "one.*has changed" err || fail "a changed base: $(cat err)"
mv elsewhere/one one
expect 125 "$BAILEY" suspend nobody --base nothing
"$BAILEY" resume -d two >/dev/null || fail "cannot resume two again"
expect 125 "$BAILEY" suspend box -o full --base two
grep -q "would replace" err || fail "a base over itself: $(cat err)"
expect 125 "$BAILEY" suspend box --base program.py
grep -q "not an image" err || fail "a base that is none: $(cat err)"
check 2 "after refused suspensions"
# A damaged page of a base is found by who looks.
printf x | dd of=full bs=1 seek=500000 conv=notrunc 2>/dev/null
expect 125 "$BAILEY" image verify two
grep -q "full is damaged at byte 499712\|full is damaged at byte 4" err || fail "a damaged base: $(cat err)"
expect 0 "$BAILEY" stop box
