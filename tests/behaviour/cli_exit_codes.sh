# Exit codes and messages are podman's: the program's own, 128 + signal, 125, 126, 127.
. "$(dirname "$0")/cli_support.inc"

expect 0 "$BAILEY" run true
expect 1 "$BAILEY" run false
expect 42 "$BAILEY" run sh -c 'exit 42'
expect 137 "$BAILEY" run sh -c 'kill -9 $$'
expect 143 "$BAILEY" run sh -c 'kill $$'
expect 127 "$BAILEY" run no-such-program-anywhere
complains "no-such-program-anywhere"
# At once: nothing is waited for that does not come.
before=$(date +%s)
for i in 1 2 3 4; do
    expect 127 "$BAILEY" run no-such-program-anywhere
done
[ $(($(date +%s) - before)) -lt 5 ] || fail "a missing program takes long to be missed"
expect 126 "$BAILEY" run /etc/passwd
complains "not marked executable"
expect 126 "$BAILEY" run /usr
expect 125 "$BAILEY" run --no-such-option true
complains "unknown option --no-such-option"
expect 125 "$BAILEY" run -v /nonexistent true
complains "/nonexistent"
expect 125 "$BAILEY" run --policy /nonexistent true
expect 125 "$BAILEY" run --rootfs /nonexistent true
expect 125 "$BAILEY" run
expect 125 "$BAILEY" no-such-command
expect 125 "$BAILEY" stop no-such-sandbox
complains "no-such-sandbox"

expect 125 "$BAILEY" run ''
complains "empty"
expect 125 "$BAILEY" run --hostname -x true
expect 125 "$BAILEY" cp no-such-sandbox:/etc/passwd .
complains "no-such-sandbox"

# A program whose folder is not given: the -v that gives it is named, and works.
mkdir tools
printf '#!/bin/sh\necho tool "$@"\n' >tools/tool
chmod 755 tools/tool
expect 127 "$BAILEY" run "$PWD/tools/tool"
complains "bailey run -v $PWD/tools:ro ... $PWD/tools/tool"
expect 0 "$BAILEY" run -v "$PWD/tools:ro" "$PWD/tools/tool" a b
says "tool a b"

# Not for this machine.
printf '\177ELF\001\001\001\000\000\000\000\000\000\000\000\000\002\000\003\000\001\000\000\000' >tools/old
chmod 755 tools/old
expect 126 "$BAILEY" run -v "$PWD/tools:ro" "$PWD/tools/old"
complains "32-bit"
printf '#!/opt/no/such/interpreter\n' >tools/script
chmod 755 tools/script
expect 127 "$BAILEY" run -v "$PWD/tools:ro" "$PWD/tools/script"
complains "/opt/no/such/interpreter"
exit 0
