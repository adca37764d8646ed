# Whatever goes wrong while a sandbox is suspended: it runs on, one line says why not, and no file is left.
if [ "$(id -u)" = 0 ]; then # who may write everywhere meets fewer faults
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"

start()
{
    rm -f count
    "$BAILEY" run -d --name box -v .:/w sh -c 'i=0; while :; do i=$((i+1)); echo $i >/w/next; mv /w/next /w/count; sleep 0.02; done' >/dev/null || fail "cannot start"
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ -s count ] && return
        sleep 0.2
    done
    fail "does not run"
}
runs_on()
{
    before=$(cat count)
    for i in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.1
        [ "$(cat count)" -gt "$before" ] && return
    done
    fail "$1: the sandbox does not run on"
}
nothing_left()
{
    [ -z "$(ls -A images)" ] || fail "$1: left behind: $(ls -A images)"
}
monitor_of()
{
    "$BAILEY" ps --json | python3 -c 'import json, sys; print(next(s["pid"] for s in json.load(sys.stdin) if s["name"] == "'"$1"'"))'
}

mkdir images locked
chmod 555 locked

expect 125 "$BAILEY" suspend box
complains "there is no sandbox named box"

start
expect 125 "$BAILEY" suspend box -o locked/image
complains "Permission denied"
runs_on "unwritable folder"
expect 125 "$BAILEY" suspend box -o nowhere/image
complains "No such file or directory"
expect 125 "$BAILEY" suspend box -o images
complains "a folder has that name"
runs_on "a folder has the name"
nothing_left "names"

# A limit of the file's size.
prlimit --pid "$(monitor_of box)" --fsize=65536:
expect 125 "$BAILEY" suspend box -o images/image
complains "File too large"
runs_on "EFBIG"
nothing_left "EFBIG"
echo before >images/image
expect 125 "$BAILEY" suspend box -o images/image
[ "$(cat images/image)" = before ] || fail "what had the name is not as before"
expect 125 "$BAILEY" suspend box -o images/image --keep-running
complains "File too large"
rm images/image
nothing_left "EFBIG --keep-running"
runs_on "EFBIG --keep-running"
prlimit --pid "$(monitor_of box)" --fsize=unlimited: 2>/dev/null || { "$BAILEY" rm -f box >/dev/null; start; }

# A copy, and then the sandbox itself.
expect 0 "$BAILEY" suspend box -o images/copy --keep-running
runs_on "--keep-running"
expect 0 "$BAILEY" image verify images/copy
expect 0 "$BAILEY" image inspect images/copy
grep -q "^sandbox *box$" out || fail "inspect: $(cat out)"
expect 0 "$BAILEY" image inspect --json images/copy
python3 -m json.tool out >/dev/null || fail "inspect --json: $(cat out)"
[ "$(stat -c %a images/copy)" = 600 ] || fail "others may read it"
rm images/copy
expect 0 "$BAILEY" suspend box -o images/image --json
python3 -m json.tool out >/dev/null || fail "suspend --json: $(cat out)"
expect 0 "$BAILEY" ps -q
says ""
expect 0 "$BAILEY" image verify images/image
[ "$(ls -A images)" = image ] || fail "beside the image: $(ls -A images)"
rm images/image

# Who waits for its exit status is told that there is none; who is attached, where it went.
expect 125 "$BAILEY" wait box
complains "it was suspended"
start
"$BAILEY" wait box >wait.out 2>wait.err &
waiting=$!
"$BAILEY" attach --no-stdin box >attach.out 2>attach.err </dev/null &
attached=$!
sleep 0.3
expect 0 "$BAILEY" suspend box -o images/image
wait $waiting
[ $? = 125 ] && grep -q "it was suspended to $PWD/images/image" wait.err || fail "wait: $(cat wait.out wait.err)"
wait $attached
[ $? = 125 ] && grep -q "it was suspended to $PWD/images/image" attach.err || fail "attach: $(cat attach.out attach.err)"
expect 0 "$BAILEY" stop box
rm images/image

# In the foreground.
"$BAILEY" run --name front sleep 50 >front.out 2>front.err &
front=$!
sleep 0.5
expect 0 "$BAILEY" suspend front -o images/image
wait $front
[ $? = 0 ] || fail "foreground: $(cat front.err)"
[ "$(cat front.err)" = "bailey: suspended to $PWD/images/image: bailey resume $PWD/images/image" ] || fail "foreground: $(cat front.err)"
rm images/image

# A file that is open and has no name any more is carried; a folder is not.
"$BAILEY" run -d --name open -v .:/w sh -c 'echo deleted contents >/w/gone; exec 3<>/w/gone; rm /w/gone; echo >/w/ready; sleep 50' >/dev/null
while [ ! -e ready ]; do sleep 0.1; done
expect 0 "$BAILEY" suspend open -o images/image
grep -q "deleted contents" images/image || fail "a deleted file is not carried"
expect 0 "$BAILEY" image verify images/image
expect 0 "$BAILEY" image inspect images/image
grep -q "a deleted file" out || fail "inspect: $(cat out)"
"$BAILEY" rm open >/dev/null
rm images/image ready
mkdir folder
"$BAILEY" run -d --name open -v .:/w python3 -c 'import os, time
os.open("/w/folder", os.O_RDONLY)
os.rmdir("/w/folder")
open("/w/ready", "w")
time.sleep(50)' >/dev/null
while [ ! -e ready ]; do sleep 0.1; done
expect 125 "$BAILEY" suspend open -o images/image
complains "folder"
nothing_left "a deleted folder"
"$BAILEY" rm -f open >/dev/null

# The disk is full.
small='mount -t tmpfs -o size=256k small images && exec "$@"'
if unshare -U --map-current-user --keep-caps -m sh -c "$small" sh true 2>/dev/null; then
    unshare -U --map-current-user --keep-caps -m sh -c "$small" sh sh -c '
        "$BAILEY" run -d --name box -v .:/w sleep 50 >/dev/null
        "$BAILEY" suspend box -o images/image 2>err && exit 3
        ls -A images >left
        "$BAILEY" suspend box -o images/image --keep-running 2>err2 && exit 4
        ls -A images >>left
        "$BAILEY" exec box true' || fail "full disk: $? $(cat err)"
    complains "No space left on device"
    [ -s left ] && fail "full disk: left behind: $(cat left)"
    "$BAILEY" rm -f box >/dev/null
else
    echo "no namespaces: a full disk is not tested"
fi

# Killed at any moment: the sandbox, whoever asked, the monitor. Each leaves a whole image or none.
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    start
    monitor=$(monitor_of box)
    "$BAILEY" suspend box -o images/image >out 2>err &
    client=$!
    sleep "0.00$((round * 7 % 10))"
    case $((round % 3)) in
    0) kill -9 "$monitor" 2>/dev/null ;;
    1) kill -9 $client 2>/dev/null ;;
    2) "$BAILEY" kill box >/dev/null 2>&1 ;;
    esac
    wait $client
    got=$?
    [ $((round % 3)) = 1 ] && sleep 0.3 # the image may be about to get its name
    if [ -e images/image ]; then
        expect 0 "$BAILEY" image verify images/image
        rm images/image
    elif [ $((round % 3)) = 1 ]; then
        runs_on "killed whoever asked"
    else
        [ $got != 0 ] || fail "round $round: no image, and exit 0"
    fi
    nothing_left "round $round"
    "$BAILEY" rm -f box >/dev/null 2>&1
done
exit 0
