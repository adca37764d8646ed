# A sandbox moves whole or stays whole: whatever breaks on the way, exactly one side goes on, no step of its work is lost or done twice, and
# one line says why.
if [ "$(id -u)" = 0 ]; then # who may write everywhere meets fewer faults
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"

. "$(dirname "$0")/migrate_support.inc"

start()
{
    : >steps
    "$BAILEY" run -d --name box -v "$PWD:/w" "$@" sh -c 'i=0; while :; do i=$((i+1)); echo $i >>/w/steps; sleep 0.02; done' >/dev/null || fail "cannot start"
    sleep 0.2
}
# Every step was done once, in order.
whole()
{
    awk '$1 != NR { exit 1 }' steps || fail "$1: steps were lost or repeated: $(awk '$1 != NR' steps | head -3)"
}
runs()
{
    before=$(wc -l <steps)
    sleep 0.3
    [ "$(wc -l <steps)" -gt "$before" ] || fail "$1: it does not run on"
    whole "$1"
}
runs_here()
{
    [ "$("$BAILEY" ps -q)" = box ] || fail "$1: it is not here"
    [ -z "$(there ps -q)" ] || fail "$1: it is there, too"
    runs "$1"
}
runs_there()
{
    [ -z "$("$BAILEY" ps -aq)" ] || fail "$1: it is still here"
    [ "$(there ps -q)" = box ] || fail "$1: it is not there"
    runs "$1"
    there rm -f box >/dev/null
}
migrate()
{
    expect "$1" timeout 60 "$BAILEY" migrate box "127.0.0.1:$port" --key "${2:-key}" --timeout 5
}

cat >proxy.py <<'END'
# proxy.py ONWARD flip|drop FORTH BACK: passes a connection on, but for its FORTH-th byte to the receiver, or its BACK-th to the source
# (-1: never). Prints its port; at the end how many bytes passed.
import select, socket, sys
onward, fault, limits = int(sys.argv[1]), sys.argv[2], [int(sys.argv[3]), int(sys.argv[4])]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
source, _ = listener.accept()
ends = [source, socket.create_connection(("127.0.0.1", onward))]
passed, open_ends = [0, 0], {0, 1}
while open_ends:
    for ready in select.select([ends[i] for i in open_ends], [], [])[0]:
        way = ends.index(ready)
        try:
            data = ready.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            open_ends.discard(way)
            try:
                ends[1 - way].shutdown(socket.SHUT_WR)
            except OSError:
                pass
            continue
        at = limits[way] - passed[way]
        passed[way] += len(data)
        if 0 <= at < len(data):
            if fault == "drop":
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    end.close()
                print(*passed, flush=True)
                sys.exit()
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        try:
            ends[1 - way].sendall(data)
        except OSError:
            open_ends.clear()
            break
print(*passed, flush=True)
END
# announced: the port that a helper has printed into proxy.out.
announced()
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        port=$(head -n 1 proxy.out 2>/dev/null)
        [ -n "$port" ] && return
        sleep 0.1
    done
    fail "a helper does not start"
}
# through FAULT FORTH BACK: $port becomes a proxy's.
through()
{
    rm -f proxy.out
    python3 proxy.py "$port" "$1" "$2" "$3" >proxy.out &
    proxy=$!
    announced
}

# ---- Keys, words ----
expect 0 "$BAILEY" migrate --new-key key
[ "$(stat -c %a key)" = 600 ] || fail "others may read the key"
expect 125 "$BAILEY" migrate --new-key key
complains "File exists"
expect 0 "$BAILEY" migrate --new-key other-key
expect 125 "$BAILEY" migrate box 127.0.0.1:1
complains "--key FILE is missing"
cp key open-key
chmod 644 open-key
expect 125 "$BAILEY" receive 127.0.0.1:0 --key open-key
complains "others than you"
expect 125 "$BAILEY" migrate box 127.0.0.1:1 --key key
complains "there is no sandbox named box"
start
for address in 127.0.0.1 :7000 127.0.0.1:x 127.0.0.1: no-such-host.invalid:7000; do
    expect 125 "$BAILEY" migrate box "$address" --key key
    [ "$(wc -l <err)" = 1 ] || fail "$address: $(cat err)"
done
expect 125 "$BAILEY" migrate box 127.0.0.1:1 --key key
complains "Connection refused"
expect 125 "$BAILEY" migrate --settle there box
complains "it is not being moved"
runs_here "words"

# ---- What the other side grants ----
receive
migrate 125
complains "$PWD"
complains "box runs on here"
runs_here "nothing granted"
expect 125 "$BAILEY" migrate box "127.0.0.1:$port" --key key --dry-run
complains "$PWD"
receive -v "$PWD:/w"
expect 0 "$BAILEY" migrate box "127.0.0.1:$port" --key key --dry-run
says "127.0.0.1:$port: box would be taken"
expect 0 "$BAILEY" migrate box "127.0.0.1:$port" --key key --dry-run --json
python3 -m json.tool out >/dev/null || fail "--dry-run --json: $(cat out)"
runs_here "dry run"
there run -d --name box sleep 50 >/dev/null
migrate 125
complains "there is a sandbox box already"
there rm -f box >/dev/null
runs_here "the name is taken"

# ---- Who has no key ----
migrate 125 other-key
complains "keys of the two sides differ"
runs_here "another key"
for words in "SSH-2.0-OpenSSH_9.2" "HTTP/1.1 200 OK"; do
    rm -f proxy.out
    python3 -c 'import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
peer.sendall(sys.argv[1].encode() + b"\r\n" * 4)
peer.recv(100000)
time.sleep(1)' "$words" >proxy.out &
    stranger=$!
    announced
    migrate 125
    complains "does not speak TLS 1.3"
    wait $stranger
done
rm -f proxy.out
python3 -c 'import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
time.sleep(20)' >proxy.out &
stranger=$!
announced
migrate 125
complains "does not answer"
kill $stranger
runs_here "strangers"

# A receiver is not held up by who says nothing or nonsense.
receive --once -v "$PWD:/w"
python3 -c 'import socket, sys, time
peers = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for i in range(4)]
peers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
peers[1].sendall(bytes(range(256)) * 64)
peers[2].close()
time.sleep(3)' "$port" &
stranger=$!
"$BAILEY" wait box >wait.out 2>wait.err &
waiting=$!
sleep 0.3
migrate 0
received 0
runs_there "beside strangers"
wait $stranger
# Who waits for its exit status is told where it is.
wait $waiting
[ $? = 125 ] && grep -q "it was moved to 127.0.0.1:$port" wait.err || fail "wait: $(cat wait.out wait.err)"

# ---- The way ----
# The length of an undisturbed move, to know where to break others.
start
receive --once -v "$PWD:/w"
through drop -1 -1
migrate 0
received 0
wait $proxy
forth=$(tail -n 1 proxy.out | cut -d' ' -f1) back=$(tail -n 1 proxy.out | cut -d' ' -f2)
runs_there "through a proxy"

start
for part in 0 3 10 40 60; do # its size varies
    for fault in flip drop; do
        receive --once -v "$PWD:/w"
        through $fault $((forth * part / 100)) -1
        migrate 125
        complains "box runs on here"
        runs_here "$fault at $part % forth"
        end_receiver
        wait $proxy
    done
done
# The last words to the source, of 30 bytes each and before the farewell: accepted, ready, resumed. Without the last it is not known here whether it runs there.
for fault in drop flip; do
    for byte in 100 70 40; do
        receive --once -v "$PWD:/w"
        through $fault -1 $((back - byte))
        expect 125 timeout 60 "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5
        [ "$(wc -l <err)" = 1 ] || fail "more than one line: $(cat err)"
        wait $proxy
        if grep -q "is not known" err; then
            [ "$("$BAILEY" ps -q)" = box ] || fail "$fault $byte before the end: it is not here"
            if [ "$(there ps -q)" = box ]; then
                runs "$fault $byte before the end: there"
                expect 0 "$BAILEY" migrate --settle there box
                runs_there "$fault $byte before the end"
                start
            else
                before=$(wc -l <steps)
                sleep 0.2
                [ "$(wc -l <steps)" = "$before" ] || fail "undecided, and runs"
                expect 0 "$BAILEY" migrate --settle here box
                runs_here "$fault $byte before the end"
            fi
        else
            complains "box runs on here"
            runs_here "$fault $byte before the end"
        fi
        end_receiver
    done
done

# ---- Who dies ----
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    receive -v "$PWD:/w"
    "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5 >out 2>err </dev/null &
    client=$!
    sleep "0.0$((round * 7 % 10))$((round * 3 % 10))"
    case $((round % 3)) in
    0) kill -9 $client 2>/dev/null ;;
    1) # the session, and with it who talks to the other side
        for session in $(cat "/proc/$receiver/task/$receiver/children" 2>/dev/null); do
            kill -9 "$session" 2>/dev/null
        done ;;
    2) kill -9 "$receiver" 2>/dev/null ;;
    esac
    wait $client
    sleep 0.3
    end_receiver
    here=$("$BAILEY" ps -q) other=$(there ps -q)
    case "$here-$other" in
    box-) ;;
    -box) ;;
    box-box) # one of them stands still
        runs "round $round"
        expect 0 "$BAILEY" migrate --settle there box ;;
    *) fail "round $round: neither side has it: $(cat err)" ;;
    esac
    if [ -n "$other" ]; then
        runs_there "round $round"
        start
    elif grep -q "is not known" err || [ $((round % 3)) = 0 ]; then
        "$BAILEY" migrate --settle here box >/dev/null 2>&1
        runs_here "round $round"
    else
        runs_here "round $round"
    fi
done

# The sandbox is signalled, stopped or killed meanwhile: the move is off.
receive -v "$PWD:/w"
for round in 1 2 3 4; do
    "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5 >out 2>err </dev/null &
    client=$!
    sleep "0.0$((round * 2))"
    "$BAILEY" kill box >/dev/null 2>&1
    wait $client
    [ -z "$("$BAILEY" ps -q)" ] || [ -z "$(there ps -q)" ] || fail "killed while it moved, and both are there"
    sleep 0.2
    there rm -f box >/dev/null 2>&1
    "$BAILEY" rm -f box >/dev/null 2>&1
    start
done
runs_here "kill"

# ---- The disk there is full ----
small='mount -t tmpfs -o size=256k small store && exec "$@"'
if unshare -U --map-current-user --keep-caps -m sh -c "$small" sh true 2>/dev/null; then
    # It is seen before anything moves; with a limit that is larger than the disk, when that is full.
    for limit in "" "--limit 1g"; do
        end_receiver
        : >receiver.err
        XDG_RUNTIME_DIR=$PWD/there unshare -U --map-current-user --keep-caps -m sh -c "$small" sh \
            "$BAILEY" receive 127.0.0.1:0 --key key --directory store -v "$PWD:/w" $limit >received 2>receiver.err </dev/null &
        receiver=$!
        while ! grep -q "receiving at" receiver.err; do sleep 0.1; done
        port=$(sed -n 's/.*receiving at .*://p' receiver.err)
        migrate 125
        [ -n "$limit" ] && complains "No space left on device" || complains "that are taken here"
        runs_here "full disk"
    done
else
    echo "no namespaces: a full disk is not tested"
fi
[ -z "$(ls -A store)" ] || fail "left behind: $(ls -A store)"
