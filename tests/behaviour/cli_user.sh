# Files of the one who runs Bailey belong, inside, to the user that the program runs as. Root's stay root's.
. "$(dirname "$0")/cli_support.inc"

bailey="$BAILEY"
if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 .
    bailey="setpriv --reuid 65534 --regid 65534 --clear-groups -- $BAILEY"
    touch of-root
    expect 0 "$BAILEY" run --user 1000:1001 -v . stat -c '%u %g' of-root /usr
    says "0 0
0 0"
fi
expect 0 $bailey run --user 1000:1001 -v . sh -c 'umask 077; echo text >made && mkdir -p sub && cat made && stat -c "%u %g" . made sub /usr'
says "text
1000 1001
1000 1001
1000 1001
0 0"
expect 0 $bailey run -v . stat -c '%u %g' made
says "0 0"
[ "$(stat -c %u made)" = "$(stat -c %u .)" ] || fail "owner on the host"
# The private layer over a folder knows the same owners.
expect 0 $bailey run --user 1000:1001 -v "$PWD:/d:O" sh -c 'echo more >>/d/made && cat /d/made && stat -c "%u %g" /d/made'
says "text
more
1000 1001"
[ "$(cat made)" = text ] || fail "written through a layer"
