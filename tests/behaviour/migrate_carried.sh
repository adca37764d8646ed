# What a move carries of the host's files, and what keeps a sandbox from moving.
if [ "$(id -u)" = 0 ]; then
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
. "$(dirname "$0")/migrate_support.inc"

mkdir data other work
head -c 300000 /dev/urandom >data/random
echo other >other/random
sum=$(sha256sum <data/random)
cat >program.py <<'END'
import hashlib, mmap, os, time
file = open("/data/random", "rb")
map = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
open("/work/ready", "w").close()
while not os.path.exists("/work/go"):
    time.sleep(0.05)
with open("/work/new", "w") as out:
    out.write(hashlib.sha256(map).hexdigest() + " " + hashlib.sha256(file.read()).hexdigest())
os.rename("/work/new", "/work/report")
while True:
    time.sleep(1)
END
await()
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -e "$1" ] && return
        sleep 0.2
    done
    fail "$1 does not appear"
}
start()
{
    rm -f work/*
    "$BAILEY" run -d --name box -v ./work:/work -v ./data:/data:ro "$@" python3 -c "$(cat program.py)" >/dev/null || fail "cannot start"
    await work/ready
}
migrate()
{
    wanted=$1
    shift
    expect "$wanted" timeout 60 "$BAILEY" migrate box "127.0.0.1:$port" --key key --timeout 5 "$@"
}

# ---- With the contents of open files ----
expect 0 "$BAILEY" migrate --new-key key
start
receive --once -v ./work:/work -v ./other:/data
migrate 0 --self-contained
received 0
touch work/go
await work/report
[ "$(cat work/report)" = "${sum%% *} ${sum%% *}" ] || fail "carried: $(cat work/report)"
there rm -f box >/dev/null
exit 0
