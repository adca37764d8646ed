# What a program has open goes on being open, whatever its mode has become or was from the beginning (git makes its objects with 0444).
if [ "$(id -u)" = 0 ]; then # whom modes do not hold
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
cat >program.py <<'END'
import os, time
def make(name, mode):
    return os.open("/w/" + name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
files = [make("object", 0o444), make("nothing", 0), make("deleted", 0o200)]
os.unlink("/w/deleted")
read_only = os.open("/w/object", os.O_RDONLY)
for turn in range(10, 10000):
    for file in files:
        os.pwrite(file, b"%06d" % turn, turn)
        assert os.pread(file, 6, turn) == b"%06d" % turn
    assert os.pread(read_only, 6, turn) == b"%06d" % turn
    assert [os.fstat(file).st_mode & 0o7777 for file in files[:2]] == [0o444, 0]
    with open("/w/turn.new", "w") as out:
        out.write(str(turn))
    os.rename("/w/turn.new", "/w/turn")
    time.sleep(0.01)
END
"$BAILEY" run -d --name box -v .:/w python3 /w/program.py >/dev/null || fail "cannot start"
goes_on()
{
    before=$(cat turn 2>/dev/null || echo 0)
    for i in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.2
        [ "$(cat turn 2>/dev/null || echo 0)" -gt "$before" ] && return
    done
    fail "$1: it does not go on: $("$BAILEY" logs box)"
}
for cycle in 1 2; do
    goes_on "cycle $cycle"
    expect 0 "$BAILEY" suspend box -o box.bailey
    expect 0 "$BAILEY" resume -d box.bailey --name box
    [ "$(stat -c %a object nothing)" = "444
0" ] || fail "modes have changed: $(stat -c %a object nothing)"
done
goes_on "at the end"
# Where a sandbox may only read, its operator's modes hold.
"$BAILEY" rm -f box >/dev/null
echo >readable
"$BAILEY" run -d --name box -v .:/w:ro sh -c 'exec 3</w/readable; sleep 50' >/dev/null || fail "cannot start"
sleep 0.5
chmod 0 readable
expect 0 "$BAILEY" suspend box -o box.bailey
expect 125 "$BAILEY" resume -d box.bailey --name box
complains "Permission denied"
[ "$(stat -c %a readable)" = 0 ] || fail "the mode has changed"
exit 0
