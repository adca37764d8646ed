# Further programs in a running sandbox, and the streams of the first one.
. "$(dirname "$0")/cli_support.inc"

expect 0 "$BAILEY" run -d --name box -w /etc -e FIRST=1 -e BOTH=1 sleep 1000
expect 0 "$BAILEY" exec box echo hello
says "hello"
expect 7 "$BAILEY" exec box sh -c 'exit 7'
expect 137 "$BAILEY" exec box sh -c 'kill -9 $$'
expect 127 "$BAILEY" exec box no-such-program
complains "no-such-program"
expect 126 "$BAILEY" exec box /etc/passwd
[ "$(echo data | "$BAILEY" exec box cat)" = data ] || fail "standard input"
[ "$("$BAILEY" exec box sh -c 'echo err >&2; echo out' 2>/dev/null)" = out ] || fail "standard error"
expect 0 "$BAILEY" exec box pwd
says "/etc"
expect 0 "$BAILEY" exec -w / -e A=b box sh -c 'pwd; echo $A'
says "/
b"
expect 0 "$BAILEY" exec --user 5:6 box id -u
says "5"
expect 0 "$BAILEY" exec -e BOTH=2 box sh -c 'echo $FIRST $BOTH'
says "1 2"
secret=1 expect 0 "$BAILEY" exec box sh -c 'echo ${secret:-none}'
says "none"
expect 0 "$BAILEY" exec box sh -c 'echo shared >/tmp/file'
expect 0 "$BAILEY" exec box cat /tmp/file
says "shared"
dd if=/dev/urandom of=big bs=64k count=40 2>/dev/null
"$BAILEY" exec box cat <big >copy || fail "big stream"
cmp big copy || fail "big stream differs"
# A program whose caller is gone gets a hang-up.
"$BAILEY" exec box sleep 555 &
sleep 1
kill -9 $!
wait
sleep 1
expect 0 "$BAILEY" ps box
grep -q "sleep 555" out && fail "the orphan lives: $(cat out)"

expect 0 "$BAILEY" run -d -i --name reader sh -c 'while read line; do echo "got $line"; done; exit 4'
printf 'one\ntwo\n' | "$BAILEY" attach reader >out
[ $? = 4 ] || fail "attach"
says "got one
got two"
expect 0 "$BAILEY" logs reader
says "got one
got two"
expect 0 "$BAILEY" logs -n 1 reader
says "got two"
"$BAILEY" run --name front sleep 1000 &
sleep 0.5
expect 125 "$BAILEY" attach front
complains "started with -d"

# Following the log ends with the sandbox.
expect 0 "$BAILEY" run -d --name talker sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done'
expect 0 "$BAILEY" logs -f talker
says "1
2
3"

# The trace of a running sandbox.
"$BAILEY" trace box >trace &
tracer=$!
sleep 0.5
expect 0 "$BAILEY" exec box cat /etc/hostname
sleep 1
kill $tracer
grep -q 'openat.*"/etc/hostname"' trace || fail "trace: $(head -3 trace)"
# The trace of a program from its start, with its own exit code.
"$BAILEY" trace -- -e A=b sh -c 'cat /etc/hostname >/dev/null; exit 6' 2>trace
[ $? = 6 ] || fail "trace -- PROGRAM"
grep -q 'openat.*"/etc/hostname"' trace || fail "trace --: $(head -3 trace)"

# Many at once: each gets its own arguments, environment and folder.
expect 0 "$BAILEY" run -d --name crowd sleep 1000
seq 1 40 >wanted
for round in 1 2 3; do
    i=0
    while [ $i -lt 40 ]; do
        i=$((i + 1))
        "$BAILEY" exec -e "NUMBER=$i" crowd sh -c "[ \$NUMBER = $i ] && echo $i" >"crowd.$i" 2>&1 &
        crowd="$crowd $!"
    done
    for process in $crowd; do
        wait "$process"
    done
    crowd=
    cat crowd.* | sort -n >got
    cmp -s got wanted || fail "concurrent exec: $(diff got wanted | head -5)"
done
expect 0 "$BAILEY" rm -f crowd
exit 0
