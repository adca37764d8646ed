# A sandbox that is suspended as soon as it can be after it has been resumed, over and over, loses nothing.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
"$BAILEY" run --name busy sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; seq 20000 | sort -n | tail -n 1; sleep 0.2; exit 3' >log 2>&1 </dev/null &
cycles=0
for i in $(seq 300); do
    if "$BAILEY" suspend busy -o busy.bailey >out 2>err; then
        wait $!
        "$BAILEY" resume busy.bailey >>log 2>&1 </dev/null &
        cycles=$((cycles+1))
    elif ! kill -0 $! 2>/dev/null; then
        break
    fi
    [ $cycles -lt 40 ] || break
done
wait $!
got=$?
[ $got = 3 ] || fail "exit $got after $cycles cycles: $(cat log err)"
[ "$(grep -v "suspended to" log)" = 20000 ] || fail "it ended otherwise: $(cat log)"
[ $cycles -ge 3 ] || fail "only $cycles cycles"
