# A sandbox that moves lazily runs there before its memory does, and loses none of it. When the link breaks before all has come it ends there, and
# the original goes on when the other side must have noticed; afterwards nobody but its user can know.
if [ "$(id -u)" = 0 ]; then
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
tests=$(cd "$(dirname "$0")" && pwd)
mkdir -m 700 there store
receiver= relay=
end_helpers()
{
    for pid in $receiver $relay; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    receiver= relay=
}
clean_there()
{
    end_helpers
    for name in $(there ps -aq 2>/dev/null); do
        there rm -f "$name" >/dev/null 2>&1
    done
    clean_up
}
trap clean_there EXIT
there()
{
    XDG_RUNTIME_DIR=$PWD/there "$BAILEY" "$@"
}
# Between both: passes on that many bytes of the source's, then: "close" both, be "silent", or "deaf": keep the answers back. Without an
# end: slowly.
cat >relay.py <<'END'
import os, select, socket, sys, time
there, limit, then = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
listener = socket.create_server(("127.0.0.1", 0))
with open("relay.port.new", "w") as file:
    file.write(str(listener.getsockname()[1]))
os.rename("relay.port.new", "relay.port")
source, _ = listener.accept()
source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
other = socket.create_connection(("127.0.0.1", there))
passed, deaf = 0, False
while True:
    for ready in select.select([source, other], [], [])[0]:
        data = ready.recv(65536)
        if not data:
            sys.exit(0)
        if ready is other:
            if not deaf:
                source.sendall(data)
            continue
        passed += len(data)
        other.sendall(data)
        if passed < limit:
            continue
        if then == "close":
            sys.exit(0)
        if then == "silent":
            time.sleep(1000)
        deaf = then == "deaf"
        if then == "slow":
            time.sleep(0.005)
END
cat >program.py <<'END'
import hashlib, mmap, os, sys, time
count = 48
private = [os.urandom(1 << 20) for _ in range(count)]
shared = mmap.mmap(-1, count << 20)
for i in range(count):
    shared[i << 20:(i + 1) << 20] = private[i]
with open("/tmp/file", "wb") as file:
    file.write(b"".join(private))
gone = open("/w/gone", "w+b") # has no name any more
gone.write(private[0])
gone.flush()
os.unlink("/w/gone")
wanted = [hashlib.sha256(part).digest() for part in private]
print("ready", file=open("/w/ready", "w"))
step = 0
while True:
    step += 1
    i = step * 7 % count
    with open("/tmp/file", "rb") as file:
        file.seek(i << 20)
        parts = private[i], shared[i << 20:(i + 1) << 20], file.read(1 << 20)
    same = all(hashlib.sha256(part).digest() == wanted[i] for part in parts)
    gone.seek(0)
    same = same and gone.read() == private[0]
    with open("/w/steps", "a") as steps:
        print(step, same, file=steps)
    if os.path.exists("/w/end"):
        sys.exit(7)
    time.sleep(0.02)
END
start()
{
    rm -f ready steps end
    "$BAILEY" run -d --name box -v "$PWD:/w" python3 /w/program.py >/dev/null || fail "cannot start"
    for i in $(seq 100); do
        [ -e ready ] && break
        sleep 0.1
    done
    sleep 0.3
}
# receive LIMIT THEN: through the relay; sets $port.
receive()
{
    end_helpers
    rm -f receiver.err relay.port
    XDG_RUNTIME_DIR=$PWD/there "$BAILEY" receive 127.0.0.1:0 --key key --directory store --timeout 5 --once -v "$PWD:/w" >received 2>receiver.err </dev/null &
    receiver=$!
    for i in $(seq 50); do
        grep -q "receiving at" receiver.err 2>/dev/null && break
        sleep 0.1
    done
    python3 relay.py "$(sed -n 's/.*receiving at .*://p' receiver.err)" "$@" &
    relay=$!
    for i in $(seq 50); do
        [ -e relay.port ] && break
        sleep 0.1
    done
    port=$(cat relay.port)
}
received()
{
    wait "$receiver"
    got=$?
    receiver=
    [ "$got" = "$1" ] || fail "receive: exit $got, expected $1: $(cat receiver.err)"
}
migrate()
{
    expect "$1" timeout 60 "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5 --lazy
}
# In the background; returns when it runs there.
move_slowly()
{
    timeout 60 "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5 --lazy >moved 2>err </dev/null &
    moving=$!
    for i in $(seq 100); do
        [ "$(there ps -q 2>/dev/null)" = box ] && break
        sleep 0.05
    done
}
# No step is lost, and none was wrong. `once`: none was done twice.
whole()
{
    ! grep -q False steps || fail "$1: $(grep False steps | head -3)"
    awk -v once="$2" '$1 != last + 1 && (once || $1 > last + 1) { exit 1 } { last = $1 }' steps || fail "$1: steps are missing or repeated"
}
runs()
{
    before=$(wc -l <steps)
    sleep 0.5
    [ "$(wc -l <steps)" -gt "$before" ] || fail "$1: it does not run on"
}
expect 0 "$BAILEY" migrate --new-key key

# It goes on there, all of it; while the rest comes it cannot be suspended.
start
receive 2000000 slow
move_slowly
there suspend box -o early.bailey >out 2>err2 && fail "it was suspended while its memory was arriving"
grep -q "still arriving" err2 || fail "suspend: $(cat err2)"
wait $moving || fail "migrate: $(cat err)"
received 0
[ -z "$("$BAILEY" ps -aq)" ] || fail "it is still here"
sleep 3 # looks at all its memory
runs moved
whole moved once
expect 0 env XDG_RUNTIME_DIR="$PWD/there" "$BAILEY" suspend box -o late.bailey
there resume -d late.bailey -v "$PWD:/w" --accept-changed >/dev/null || fail "cannot be resumed there"
sleep 1
runs resumed
whole resumed once
there rm -f box >/dev/null

# The link breaks, or is silent: it ends there, and goes on here.
for how in close silent; do
    start
    receive 20000000 $how
    migrate 125
    grep -q "box goes on here in 10 seconds" err && grep -q "(box runs on here" err || fail "$how: $(cat err)"
    received 125
    [ -z "$(there ps -q)" ] || fail "$how: it runs there, too"
    [ "$("$BAILEY" ps -q)" = box ] || fail "$how: it is not here"
    runs $how
    whole $how ""
    there rm -f box >/dev/null 2>&1
    "$BAILEY" rm -f box >/dev/null
done

# It ends there before all has come: then it has ended.
start
receive 2000000 slow
move_slowly
: >end
wait $moving || fail "ended: migrate: $(cat err)"
received 0
[ -z "$("$BAILEY" ps -aq)" ] || fail "ended: it is still here"
expect 0 env XDG_RUNTIME_DIR="$PWD/there" "$BAILEY" wait box
says 7
there rm -f box >/dev/null
whole ended once

# All has come, but nobody here hears so.
start
receive 120000000 deaf
migrate 125
complains "is not known"
received 0
[ "$("$BAILEY" ps -q)" = box ] || fail "deaf: the original is gone"
runs deaf
whole deaf once
expect 0 "$BAILEY" migrate --settle there box
[ -z "$("$BAILEY" ps -aq)" ] || fail "deaf: it is still here"
runs settled
whole settled once
