# Files that a sandbox has open are compared by their contents where it was suspended with --hash-files: then their time does not matter.
if [ "$(id -u)" = 0 ]; then
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data
echo "some words" >data/read
echo 1 >data/written
chmod 200 data/written
"$BAILEY" run -d --name box -v ./data:/data sh -c 'exec 3</data/read 4>>/data/written; echo 2 >&4; echo >/data/ready; while :; do sleep 0.1; done' >/dev/null || fail "cannot start"
for i in 1 2 3 4 5 6 7 8 9 10; do
    [ -e data/ready ] && break
    sleep 0.2
done
expect 0 "$BAILEY" suspend box -o copy --keep-running
expect 0 "$BAILEY" suspend box -o image --hash-files
[ "$(stat -c %a data/written)" = 200 ] || fail "the mode of a file was changed"
expect 0 "$BAILEY" image verify image
again()
{
    "$BAILEY" rm -f box >/dev/null 2>&1
    expect "$1" "$BAILEY" resume -d --name box "$2"
}
again 0 image
# Another time.
touch data/read data/written
again 0 image
again 125 copy
# Other contents of the same size and time.
touch -r data/ready data/read data/written
echo "some WORDS" >data/read
touch -r data/ready data/read
again 125 image
complains "$PWD/data/read, which the sandbox has open, has other contents"
echo "some words" >data/read
chmod 600 data/written
printf '1\n3\n' >data/written
again 125 image
complains "$PWD/data/written, which the sandbox has open, has other contents"
"$BAILEY" rm -f box >/dev/null 2>&1
expect 0 "$BAILEY" resume -d --name box --accept-changed image
expect 0 "$BAILEY" suspend box -o image --hash-files --self-contained
# With the contents in the image, those decide.
echo "same size.." >data/read
again 0 image
rm -f data/read
again 0 image
exit 0
