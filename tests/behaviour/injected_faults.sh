# A sample of the faults that tests/faults/campaign.py injects while sandboxes are suspended, resumed, cloned and moved; its seed is printed.
if [ "$(id -u)" = 0 ]; then
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
here=$(cd "$(dirname "$0")/.." && pwd)
TMPDIR=$PWD PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/faults/campaign.py" --build "$BUILD" --seconds 40
