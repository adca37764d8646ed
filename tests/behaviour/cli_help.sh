# The help a new user meets.
. "$(dirname "$0")/cli_support.inc"

"$BAILEY" >out 2>err
[ $? = 125 ] || fail "bailey alone"
[ "$(grep -c '^  bailey run' err)" = 3 ] || fail "three examples: $(cat err)"
"$BAILEY" run >out 2>err
[ "$(grep -c '^  bailey run' out)" = 3 ] || fail "three examples for run: $(cat out)"
for command in $("$BAILEY" help --json | python3 -c 'import json, sys; print(*(c["name"] for c in json.load(sys.stdin)))'); do
    expect 0 "$BAILEY" "$command" --help
    grep -q "^Usage: bailey $command" out || fail "$command --help: $(cat out)"
    expect 0 "$BAILEY" help "$command"
done
expect 0 "$BAILEY" version
expect 0 "$BAILEY" version --json
python3 -m json.tool out >/dev/null || fail "version --json"
expect 0 "$BAILEY" check
grep -q "Bailey can run here" out || fail "check: $(cat out)"
expect 0 "$BAILEY" check --json
python3 -m json.tool out >/dev/null || fail "check --json"
expect 125 "$BAILEY" rnu
complains "did you mean run?"
exit 0
