#!/bin/sh
# Guests that use the host layer past the personality (tests/hostile/hostile.c), in each of Bailey's modes: nothing outlives a sandbox, the
# monitor answers whatever is written to it, and what it keeps is bounded.
. "$(dirname "$0")/cli_support.inc"

chmod 711 .
as_user=
if [ "$(id -u)" = 0 ]; then
    as_user="setpriv --reuid 65534 --regid 65534 --clear-groups --"
    chown 65534:65534 run
fi
b="$as_user $BAILEY"
attacks="$BUILD/tests/hostile"
give="-v $attacks:/attacks:ro"

# Ends within 20 seconds, and what it started lets go of the output.
ends()
{
    timeout -k 5 20 sh -c '"$@" | cat' sh "$@" >out 2>err </dev/null || fail "$* does not end: $(cat err)"
    [ -s err ] && fail "$*: $(cat err)"
}

"$BUILD/tests/monitor/no-namespaces" true
without=$?

for mode in namespaces landlock filter; do
    if [ $mode != namespaces ]; then
        if [ $without = 77 ]; then
            echo "user namespaces are forbidden here: the first mode was that without them already"
            break
        fi
        b="$BUILD/tests/monitor/no-namespaces $BAILEY"
        [ $mode = filter ] && b="$BUILD/tests/monitor/no-landlock $b"
    fi

    # Processes that the personality knows nothing of end with the sandbox.
    ends $b run $give /attacks/hostile outlives
    ends $b run $give /attacks/hostile flees

    # A flood of requests from the first moment leaves the monitor its ears.
    $b run -d --name flood $give /attacks/hostile floods >/dev/null || fail "flood does not start"
    sleep 0.3
    timeout -k 2 15 $b stop -t 1 flood >/dev/null 2>&1 || fail "the monitor does not answer during a flood of requests"
    timeout 5 $b rm -f flood >/dev/null 2>&1

    # The log is bounded (8 MiB, and the one before it).
    $b run -d --name full $give /attacks/hostile fills_the_log >/dev/null || fail "full does not start"
    timeout 60 $b wait full >/dev/null
    used=$(du -sk run/bailey/full | cut -f 1)
    [ "$used" -gt 4000 ] || fail "the log has only $used KiB"
    [ "$used" -lt 18000 ] || fail "the log has grown to $used KiB"
    $b rm -f full >/dev/null

    # Nothing that a terminal obeys, and nothing of the monitor's memory, comes by names and trace lines.
    $b run -d --name liar $give /attacks/hostile lies_to_tracers >/dev/null || fail "liar does not start"
    $b ps liar >list || fail "ps does not list"
    timeout 2 $b trace liar >lines 2>/dev/null
    $b ps --json liar >list.json
    $b rm -f liar >/dev/null
    grep -q begin lines || fail "no trace line came: $(head -c 300 lines)"
    grep begin lines | grep -qv '^begin?\[2J??2Jend?*$' && fail "trace: $(grep begin lines | head -1 | od -c | head -20)"
    for file in list list.json lines; do
        LC_ALL=C grep -q "$(printf '\033\|\302\233')" $file && fail "$file holds control characters"
    done

    # A listing has an end.
    $b run -d --name lister $give /attacks/hostile lists_forever >/dev/null || fail "lister does not start"
    timeout 30 $b ps lister >list 2>err
    got=$?
    timeout 10 $b rm -f lister >/dev/null || fail "lister cannot be removed"
    [ $got = 125 ] || [ $got = 0 ] || fail "an endless listing: exit $got: $(head -c 300 err)"

    # Malformed records on every stream to the monitor.
    timeout -k 2 40 $b run $give /attacks/hostile babbles >out 2>err
    got=$?
    [ $got = 0 ] || fail "after babbling: exit $got: $(tail -3 err)"

    # The host's own processes are not to be read out through a folder above its /proc.
    if [ -r /proc/$$/environ ]; then
        $b run -v /:/host:ro cat /host/proc/self/status /host/proc/1/status >out 2>/dev/null
        [ -s out ] && fail "the host's /proc was read: $(head -1 out)"
        $b run -v /:/host:ro sh -c 'cat /host/proc/[0-9]*/environ /host/proc/[0-9]*/cmdline' >out 2>/dev/null
        [ -s out ] && fail "the host's processes were read"
    fi

    # A limit of processes does not count the user's others.
    $b run --pids 20 sh -c 'true | true; echo fine' >out 2>err || fail "--pids 20: $(cat err)"
    [ "$(cat out)" = fine ] || fail "--pids 20: $(cat out err)"
done

# Hard limits, where `bailey check` says that they are.
b="$as_user $BAILEY"
if $b check | grep -q '^  hard limit of processes  *yes'; then
    expect 0 $b run --pids 20 $give /attacks/hostile multiplies
fi
if "$BAILEY" check | grep -q '^  hard limit of memory  *yes'; then
    timeout 60 "$BAILEY" run --memory 64m $give /attacks/hostile devours >out 2>err && fail "half a gigabyte was had under --memory 64m"
fi

# Where all processes of the user are counted together, a limit of the sandbox's must not be one for all.
if [ $without != 77 ]; then
    expect 0 "$BUILD/tests/monitor/no-namespaces" sh -c 'others=; for i in $(seq 40); do sleep 20 & others="$others $!"; done
        "$@"; status=$?; kill $others; exit $status' sh "$BAILEY" run --pids 4 sh -c 'true | true; echo fine'
    says fine
    # Process ids are the host's there.
    expect 0 "$BUILD/tests/monitor/no-namespaces" "$BAILEY" run $give /attacks/hostile reads_clocks
fi

# A limit of the size of files is an error for who exceeds it, not the monitor's end.
mkdir -m 777 sizes
: >sizes/file
chmod 666 sizes/file
expect 3 $as_user sh -c 'ulimit -f 4194304; "$@"' sh "$BAILEY" run -v "$PWD/sizes:/sizes" sh -c 'truncate -s 8G /sizes/file; exit 3'
