# Copying out of a sandbox and into it.
. "$(dirname "$0")/cli_support.inc"

expect 0 "$BAILEY" run -d --name box sleep 1000
mkdir -p tree/sub
echo one >tree/a
echo two >tree/sub/b
ln -s sub/b tree/link
expect 0 "$BAILEY" cp tree box:/tmp/new
expect 0 "$BAILEY" exec box cat /tmp/new/a /tmp/new/link
says "one
two"
expect 0 "$BAILEY" cp tree/a box:/tmp
expect 0 "$BAILEY" exec box cat /tmp/a
says "one"
expect 0 "$BAILEY" cp box:/tmp/new back
[ "$(cat back/link)" = two ] || fail "copied tree"
expect 0 "$BAILEY" cp box:/tmp/new/a .
[ "$(cat a)" = one ] || fail "copied file"
expect 0 "$BAILEY" cp box:/tmp/new/a renamed
[ "$(cat renamed)" = one ] || fail "renamed file"
[ "$(stat -c %U renamed)" = "$(id -un)" ] || fail "owner"
expect 125 "$BAILEY" cp box:/tmp/none .
expect 125 "$BAILEY" cp nonexistent box:/tmp
expect 125 "$BAILEY" cp a b
expect 125 "$BAILEY" cp box:relative .

# What a hostile tar in the sandbox sends stays in the target.
expect 0 "$BAILEY" exec box sh -c 'printf "#!/bin/sh\ncat /tmp/evil.tar\n" >/usr/local/bin/tar; chmod 755 /usr/local/bin/tar'
mkdir evil target
echo evil >evil/file
tar -P --transform 's,evil/file,../escaped,' -cf evil.tar evil/file
expect 0 "$BAILEY" exec box sh -c 'cat >/tmp/evil.tar' <evil.tar
"$BAILEY" exec box sh -c 'cat >/tmp/evil.tar' <evil.tar
expect 125 "$BAILEY" cp box:/tmp/x target
[ ! -e escaped ] || fail "a file escaped"
exit 0
