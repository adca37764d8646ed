# Every call of the ABI fails once, at several of its uses (BAILEY_FAULT, docs/extending.md): the sandbox ends soon, and a program that
# says it has succeeded has left what it was to leave. wake_address is left out: no sleeper can know of a wake that was lost.
. "$(dirname "$0")/cli_support.inc"

# As an argument: a shell that cannot read its script takes that for the end.
work='set -e
echo one >a; cat a >b; cmp a b
seq 2000 >c; sort -rn c | sort -n >d; cmp c d
mkdir -p dir; cp c dir/e; mv dir/e dir/f; cmp c dir/f; rm dir/f; rmdir dir
(echo bg >g) & wait; [ $(cat g) = bg ]
head -c 100000 /dev/zero >/tmp/z; cat /tmp/z >h; truncate -s 1000 h
[ $(ls -f /usr/bin | wc -l) = $1 ]
echo all is well'
seq 2000 >expected
count=$(ls -f /usr/bin | wc -l)
expected=$PWD/expected
tried=0
# The calls that can fail.
for call in $(sed -n 's/^BLY_CALL(int[64_t]*, \([a-z_]*\),.*/\1/p' "$(dirname "$0")/../../include/bailey/abi.def"); do
    [ $call = wake_address ] && continue
    for number in 1 3 9; do
        rm -rf files
        mkdir -m 777 files
        BAILEY_FAULT=$call:$number:5 timeout 60 "$BAILEY" run -v "$PWD/files:/w" -w /w sh -c "$work" sh $count >out 2>err </dev/null
        status=$?
        grep -q 'fault injected' err || continue 2
        tried=$((tried + 1))
        [ $status != 124 ] || fail "$call:$number hangs: $(cat err)"
        if grep -q 'all is well' out; then
            [ "$(cat files/a files/b files/g)" = "one
one
bg" ] && cmp files/c "$expected" && cmp files/d "$expected" && [ "$(wc -c <files/h)" = 1000 ] || fail "$call:$number: files are wrong"
        elif [ $status = 0 ]; then
            fail "$call:$number: it has failed and does not say so: $(cat err)"
        fi
    done
done
[ $tried -ge 40 ] || fail "only $tried faults were injected"
# What cannot be had fails; nothing goes on without it.
BAILEY_FAULT=random_read:1:5 "$BAILEY" run true 2>err && fail "a program began without randomness"
grep -q 'error 5' err || fail "no word of it: $(cat err)"
# Patching is for speed: a program whose code cannot be mapped anew goes on with what it has.
for number in $(seq 4 30); do
    BAILEY_FAULT=stream_map:$number:12 "$BAILEY" run sh -c 'i=0; while [ $i -lt 60 ]; do : >/dev/null; umask >/dev/null; kill -0 $$; i=$((i + 1)); done; echo all is well' >out 2>err </dev/null
    status=$?
    grep -q 'fault injected' err || break
    grep -q 'all is well' out || [ $status -lt 128 ] || grep -q 'point of no return' err || fail "stream_map:$number: exit $status: $(cat err)"
done
[ $number -gt 12 ] || fail "nothing was patched"
