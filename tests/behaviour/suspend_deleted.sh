# A file that a program has open and mapped, and that has no name any more, is the same file after it was suspended and resumed, and again.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
cat >program.py <<'END'
import mmap, os, time
file = open("/w/file", "w+b")
file.write(b"abc" * 5000)
file.flush()
os.unlink("/w/file")
shared = mmap.mmap(file.fileno(), 0)
again = os.dup(file.fileno())
for turn in range(10, 10000):
    os.pwrite(file.fileno(), b"%06d" % turn, turn)
    status = os.fstat(again)
    assert (status.st_size, status.st_nlink) == (15000, 0), status
    assert os.pread(again, 6, turn) == shared[turn:turn + 6] == b"%06d" % turn
    assert shared[14997:] == b"abc"
    with open("/w/turn.new", "w") as out:
        out.write(str(turn))
    os.rename("/w/turn.new", "/w/turn")
    time.sleep(0.01)
END
"$BAILEY" run -d --name box -v .:/w python3 /w/program.py >/dev/null || fail "cannot start"
for cycle in 1 2 3; do
    before=$(cat turn 2>/dev/null || echo 0)
    for i in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.2
        [ "$(cat turn 2>/dev/null || echo 0)" -gt "$before" ] && break
    done
    [ "$(cat turn)" -gt "$before" ] || fail "cycle $cycle: it does not go on: $("$BAILEY" logs box)"
    expect 0 "$BAILEY" suspend box -o box.bailey
    expect 0 "$BAILEY" resume -d box.bailey --name box
done
before=$(cat turn)
sleep 0.5
[ "$(cat turn)" -gt "$before" ] || fail "it does not go on: $("$BAILEY" logs box)"
exit 0
