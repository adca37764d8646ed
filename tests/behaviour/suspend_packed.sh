# Compressed images are resumed, looked at, checked and packed as others are; damage and a lack of room are told, and nothing goes on then.
if [ "$(id -u)" = 0 ]; then # also what an ordinary user may do
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
TMPDIR=$PWD/temporary
export XDG_STATE_HOME TMPDIR
mkdir work temporary
cat >program.py <<'PROGRAM'
import hashlib, os, time
data = bytearray(os.urandom(1 << 20) + bytes(range(256)) * (1 << 16)) # 1 MiB as it is, 16 MiB that become small
def report(name):
    with open("/given/new", "w") as new:
        new.write(hashlib.sha256(data).hexdigest())
    os.rename("/given/new", f"/given/{name}")
report("before")
while True:
    if os.path.exists("/given/check"):
        os.unlink("/given/check")
        report("after")
    if os.path.exists("/given/change"):
        os.unlink("/given/change")
        data[5 << 20] ^= 1
        report("before")
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
check()
{
    rm -f work/after
    touch work/check
    await after
    cmp -s work/before work/after || fail "$1: memory is another"
}
size() { stat -c %s "$1"; }

"$BAILEY" run -d --name box -v ./work:/given -v ./program.py:/program.py:ro python3 /program.py >/dev/null || fail "cannot start"
await before
expect 0 "$BAILEY" suspend box -o plain --keep-running
expect 125 "$BAILEY" suspend box -o none --compress=20
complains "--compress"
[ ! -e none ] || fail "an image in spite of that"
expect 0 "$BAILEY" suspend box -o packed --compress=1
[ "$(size packed)" -lt $(($(size plain) / 2)) ] || fail "packed has $(size packed) bytes, plain $(size plain)"
[ "$(stat -c %a packed)" = 600 ] || fail "packed can be read by others"
expect 0 "$BAILEY" image verify packed
"$BAILEY" image inspect packed >said || fail "cannot inspect it"
grep -q "^resumable" said || fail "inspect said: $(cat said)"
expect 0 "$BAILEY" resume -d packed
check "resumed from a packed image"

# Based on others, and packed; made to stand alone.
rm work/before
touch work/change
await before
expect 125 "$BAILEY" suspend box -o none --base packed
grep -q "image pack" err || fail "a packed base: $(cat err)"
expect 0 "$BAILEY" suspend box -o small --base plain --compress
[ "$(size small)" -lt 4000000 ] || fail "small has $(size small) bytes"
expect 0 "$BAILEY" image verify small
expect 0 "$BAILEY" image pack small -o alone
expect 0 "$BAILEY" image pack small -o alone.packed --compress --json
grep -q '"size":' out || fail "pack said $(cat out)"
mv plain away
expect 125 "$BAILEY" resume -d small
complains "needs"
for image in alone alone.packed; do
    expect 0 "$BAILEY" image verify $image
    "$BAILEY" image inspect --json $image | grep -q '"bases":\[\]' || fail "$image needs others"
    expect 0 "$BAILEY" resume -d $image
    check "resumed from $image"
    expect 0 "$BAILEY" rm -f box
done
expect 0 "$BAILEY" clone -n 2 alone.packed
check "clones of a packed image"
for name in $("$BAILEY" ps -aq); do
    expect 0 "$BAILEY" rm -f $name
done
[ -z "$(ls temporary)" ] || fail "left behind: $(ls temporary)"

# Cut off, damaged.
head -c 100000 packed >cut
expect 125 "$BAILEY" resume -d cut
complains "is cut short"
cp packed damaged
printf damage | dd of=damaged bs=1 seek=$(($(size packed) / 2)) conv=notrunc 2>/dev/null
expect 125 "$BAILEY" resume -d damaged
complains "damaged is damaged at byte"
expect 125 "$BAILEY" image verify damaged
complains "damaged is damaged at byte"
cp alone damaged
printf damage | dd of=damaged bs=1 seek=1000000 conv=notrunc 2>/dev/null
expect 125 "$BAILEY" image pack damaged -o none
complains "damaged at byte"
[ ! -e none ] || fail "a damaged image was packed"
# No room: a file system has none for what is larger than the limit of files.
(ulimit -f 2000; trap '' XFSZ; "$BAILEY" resume -d packed) >out 2>err </dev/null && fail "resumed without room"
grep -q "packed needs .* in .*/temporary to be unpacked" err || fail "without room: $(cat err)"
exit 0
