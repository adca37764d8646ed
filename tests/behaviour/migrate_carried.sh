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
big = os.urandom(int(os.environ.get("BIG", 0)))
if os.environ.get("GONE"):
    gone = [os.open(f"/given/gone{i}", os.O_RDONLY) for i in (1, 2) if os.mkdir(f"/given/gone{i}") is None]
    os.rmdir("/given/gone1")
    os.rmdir("/given/gone2")
map = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
open("/given/ready", "w").close()
while not os.path.exists("/given/go"):
    time.sleep(0.05)
with open("/given/new", "w") as out:
    out.write(hashlib.sha256(map).hexdigest() + " " + hashlib.sha256(file.read()).hexdigest())
os.rename("/given/new", "/given/report")
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
    "$BAILEY" run -d --name box -v ./work:/given -v ./data:/data:ro "$@" python3 -c "$(cat program.py)" >/dev/null || fail "cannot start"
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
receive --once -v ./work:/given -v ./other:/data
migrate 0 --self-contained --json
python3 -c '
import json, os
answer = json.load(open("out"))
program = os.stat(os.path.realpath("/proc/self/exe")).st_size
assert answer["memory"] - answer["last_size"] > program, answer' || fail "the contents of files were sent when it stood still"
received 0
touch work/go
await work/report
[ "$(cat work/report)" = "${sum%% *} ${sum%% *}" ] || fail "carried: $(cat work/report)"
there rm -f box >/dev/null

# ---- All that is in the way is told at once, before anything moves ----
# has_line TEXT: one of the lines of the last message holds it.
has_line()
{
    grep -qF -- "$1" err || fail "complained '$(cat err)', expected a line with '$1'"
}
stays()
{
    [ "$("$BAILEY" ps -q)" = box ] && [ -z "$(there ps -q)" ] || fail "$1: it does not stay"
}
start -e GONE=1 -v ./other:/other
receive -v ./work:/given -v ./other:/data
there run -d --name box sleep 50 >/dev/null
migrate 125 --dry-run
has_line "$PWD/work/gone1"
has_line "$PWD/work/gone2"
has_line "add: -v $PWD/other:/other"
has_line "$PWD/other/random, which the sandbox has open, has changed its size"
has_line "there is a sandbox box already"
[ "$(wc -l <err)" = 5 ] || fail "lines: $(cat err)"
migrate 125 --dry-run --json
python3 -c '
import json
answer = json.load(open("out"))
assert answer["taken"] is False and len(answer["obstacles"]) == 5, answer'|| fail "--json: $(cat out)"
there rm -f box >/dev/null
migrate 125
has_line "gone2"
has_line "box runs on here"
stays "in the way"
expect 125 "$BAILEY" suspend box -o image
has_line "$PWD/work/gone1"
has_line "$PWD/work/gone2"
[ "$(wc -l <err)" = 2 ] && [ ! -e image ] || fail "suspend: $(cat err)"
"$BAILEY" rm -f box >/dev/null
# Two files at the resume.
start
expect 0 "$BAILEY" suspend box -o image --keep-running
mv data/random random
expect 125 "$BAILEY" resume -d --name again image
complains "$PWD/data/random"
mv random data/random

# ---- Files of the same contents, by their sums ----
mkdir copy
cp data/random copy/random
receive -v ./work:/given -v ./copy:/data
migrate 125 --dry-run
complains "$PWD/copy/random, which the sandbox has open, was written to"
migrate 0 --dry-run --hash-files
migrate 0 --hash-files
there rm -f box >/dev/null
start
head -c 300000 /dev/urandom >copy/random
touch -r data/random copy/random
migrate 0 --dry-run # which cannot know
migrate 125 --dry-run --hash-files
complains "$PWD/copy/random, which the sandbox has open, has other contents"
stays "other contents"

# ---- How much is taken ----
"$BAILEY" rm -f box >/dev/null
start -e BIG=16000000
receive -v ./work:/given -v ./data:/data --limit 8m
migrate 125 --dry-run
complains "are more than the 8.0 MiB that are taken here"
migrate 125
complains "are more than the"
stays "more than is taken"
receive -v ./work:/given -v ./data:/data --limit 64m --once
migrate 0 --dry-run
migrate 0
received 0
there rm -f box >/dev/null
exit 0
