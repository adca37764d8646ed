# A sandbox's life: in the background, listed, waited for, stopped, killed, removed; what stays and what does not.
. "$(dirname "$0")/cli_support.inc"

expect 0 "$BAILEY" run true
expect 0 "$BAILEY" ps -aq
says ""
expect 3 "$BAILEY" run --name kept sh -c 'exit 3'
expect 0 "$BAILEY" ps -q
says ""
expect 0 "$BAILEY" ps -aq
says "kept"
expect 0 "$BAILEY" wait kept
says "3"
expect 125 "$BAILEY" run --name kept true
complains "bailey rm kept"
expect 0 "$BAILEY" rm kept
expect 125 "$BAILEY" wait kept

expect 0 "$BAILEY" run --name gone --rm true
expect 0 "$BAILEY" ps -aq
says ""

expect 0 "$BAILEY" run -d --name back sh -c 'echo out; echo err >&2; sleep 1000'
says "back"
expect 0 "$BAILEY" ps -q
says "back"
expect 125 "$BAILEY" run --name back true
complains "already running"
expect 125 "$BAILEY" rm back
complains "is running"
expect 0 "$BAILEY" ps back
grep -q "sleep 1000" out || fail "ps back: $(cat out)"
expect 0 "$BAILEY" ps --json
python3 -c 'import json; x = json.load(open("out")); assert x[0]["name"] == "back" and x[0]["status"] == "running", x' || fail "ps --json"
expect 0 "$BAILEY" inspect back
python3 -c 'import json; x = json.load(open("out")); assert x[0]["running"]["policy"]["command"][0] == "sh", x' || fail "inspect"
python3 -c '
import json
monitor = json.load(open("out"))[0]["running"]["monitor"]
assert monitor["requests"] > 0 and 0 < monitor["handles"] < monitor["handle_limit"] and monitor["programs"] == 1, monitor
' || fail "counters of the monitor: $(cat out)"
for i in 1 2 3 4 5 6 7 8 9 10; do
    expect 0 "$BAILEY" logs back
    [ "$(wc -l <out)" = 2 ] && break
    sleep 0.1
done
[ "$(sort out | tr '\n' ' ')" = "err out " ] || fail "logs: $(cat out)"
"$BAILEY" wait back >waited &
expect 0 "$BAILEY" stop -t 5 back
wait
[ "$(cat waited)" = 143 ] || fail "wait: $(cat waited)"
expect 0 "$BAILEY" ps -a
grep -q "exited (143)" out || fail "ps -a: $(cat out)"
expect 125 "$BAILEY" exec back true
complains "not running"
expect 0 "$BAILEY" rm back

# One that ignores SIGTERM is ended all the same.
expect 0 "$BAILEY" run -d --name stubborn sh -c 'trap "" TERM; while :; do sleep 1; done'
sleep 1
expect 0 "$BAILEY" stop -t 1 stubborn
expect 0 "$BAILEY" wait stubborn
says "137"

expect 0 "$BAILEY" run -d --name signalled sh -c 'trap "exit 9" USR1; while :; do sleep 0.1; done'
sleep 1
expect 0 "$BAILEY" kill -s USR1 signalled
expect 0 "$BAILEY" wait signalled
says "9"
expect 0 "$BAILEY" rm -a

# What was waited for has ended: it can be removed at once, and its name is free.
for i in 1 2 3 4 5 6 7 8 9 10; do
    expect 0 "$BAILEY" run -d --name quick true
    expect 0 "$BAILEY" wait quick
    expect 0 "$BAILEY" rm quick
done

# For scripts: one JSON object a line.
expect 0 "$BAILEY" run -d --name scripted sh -c 'echo "a \"b\""; printf c; exit 4'
expect 0 "$BAILEY" wait --json scripted
says '{"name":"scripted","exit_status":4}'
expect 0 "$BAILEY" logs --json scripted
says '{"line":"a \"b\""}
{"line":"c"}'
expect 0 "$BAILEY" stop --json scripted
says '{"name":"scripted","exit_status":4}'
expect 0 "$BAILEY" rm --json scripted
says '{"name":"scripted"}'

# A monitor that was killed takes its sandbox along, and is reported.
expect 0 "$BAILEY" run -d --name murdered sleep 1000
pid=$("$BAILEY" ps --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["pid"])')
kill -9 "$pid"
sleep 1
expect 0 "$BAILEY" ps -a
grep -q "murdered *died" out || fail "ps -a: $(cat out)"
expect 0 "$BAILEY" rm -f murdered
expect 0 "$BAILEY" ps -aq
says ""

# What cannot start leaves nothing, in the background too.
expect 127 "$BAILEY" run -d --name nothing no-such-program
complains "no-such-program"
expect 0 "$BAILEY" ps -aq
says ""

# An interrupt ends the program in the foreground.
env --default-signal=INT "$BAILEY" run sleep 100 &
sleep 0.5
kill -INT $!
wait $!
[ $? = 130 ] || fail "interrupt"
exit 0
