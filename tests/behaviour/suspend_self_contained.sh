# A self-contained image goes on where the files that the sandbox had open or mapped are gone or others; any other names what is missing.
if [ "$(id -u)" = 0 ]; then # also what an ordinary user may do
    chown 65534:65534 .
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh "$0"
fi
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME

# A root folder of its own for a shell, a folder with a library and one with data for Python.
copy()
{
    mkdir -p "$1$(dirname "$2")"
    cp -L "$2" "$1$2"
}
libraries()
{
    ldd "$1" | sed -n 's/^[^/]*\(\/[^ ]*\).*/\1/p'
}
shell=$(readlink -f "$(command -v bash)")
mkdir root lib data work
sleep=$(readlink -f "$(command -v sleep)")
for file in "$shell" "$sleep" $(libraries "$shell") $(libraries "$sleep"); do
    copy root "$file"
done
library=$(libraries "$(readlink -f "$(command -v python3)")" | sed -n '/libz\|libm[.-]/p' | head -1)
cp -L "$library" lib/library.so
head -c 3000000 /dev/urandom >data/random
sum=$(sha256sum <data/random)
cat >program.py <<'PROGRAM'
import ctypes, hashlib, mmap, os, time
library = ctypes.CDLL("/lib-of-mine/library.so")
file = open("/data/random", "rb")
map = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
map[0:1] = bytes([map[0]])  # one page is its own; none of the others was touched
out = open("/given/out", "a")
def report(what):
    with open("/given/new", "w") as new:
        new.write(what)
    os.rename("/given/new", "/given/report")
report("ready")
while not os.path.exists("/given/go"):
    time.sleep(0.05)
names = [name for name in ("zlibVersion", "cos") if hasattr(library, name)]
out.write("on\n")
out.flush()
report(f"{hashlib.sha256(map).hexdigest()} {hashlib.sha256(os.pread(file.fileno(), 1 << 30, 0)).hexdigest()} {len(names)} {os.path.exists('/data/random')}")
PROGRAM
start_python()
{
    rm -f work/*
    "$BAILEY" run -d --name box -v ./work:/given -v ./lib:/lib-of-mine:ro -v ./data:/data:ro -v ./program.py:/program.py:ro python3 /program.py >/dev/null || fail "cannot start"
    await work/report ready
}
await()
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.2
    done
    fail "$1 does not say $2: $(cat "$1" 2>/dev/null) $("$BAILEY" logs box 2>&1)"
}
# As it was when the sandbox was suspended.
fresh()
{
    rm -f work/*
    cp -p out.was work/out
}
finish()
{
    rm -f work/report
    touch work/go
    await work/report "${sum%% *} ${sum%% *} 1"
    "$BAILEY" wait box >/dev/null
    "$BAILEY" rm box >/dev/null 2>&1
}

# ---- Files that are gone ----
start_python
expect 0 "$BAILEY" suspend box -o plain --keep-running
expect 0 "$BAILEY" suspend box -o running --keep-running --self-contained
expect 0 "$BAILEY" suspend box -o whole --self-contained
cp -p work/out out.was
expect 0 "$BAILEY" image verify whole
expect 0 "$BAILEY" image inspect whole
grep -q "of the host's files" out || fail "inspect: $(cat out)"
grep -q "$PWD/data/random, .*, with its contents" out || fail "inspect: $(cat out)"
expect 0 "$BAILEY" image inspect whole --json
python3 -c '
import json
image = json.load(open("out"))
assert image["memory"]["carried_files"] > 3000000, image["memory"]
assert all(file["carried"] for file in image["files"] if not file["folder"]), image["files"]' || fail "inspect --json"
mv data/random random
mv lib/library.so library.so
expect 125 "$BAILEY" resume -d plain
grep -q "^bailey: cannot open $PWD/lib/library.so" err && grep -q "^bailey: cannot open $PWD/data/random" err && [ "$(wc -l <err)" = 2 ] || fail "plain: $(cat err)"
rm plain
expect 0 "$BAILEY" resume -d whole
finish
[ "$(cat work/out)" = on ] || fail "what it wrote did not arrive: $(cat work/out)"

fresh
expect 0 "$BAILEY" resume -d running
finish

# ---- Other versions, also of the same size and time; the ones in the image are read, and never written ----
head -c 3000000 /dev/urandom >data/random
touch -r random data/random
head -c "$(wc -c <library.so)" /dev/zero >lib/library.so
touch -r library.so lib/library.so
other=$(sha256sum <data/random)
fresh
expect 0 "$BAILEY" resume -d whole
finish
[ "$(sha256sum <data/random)" = "$other" ] || fail "a file of the host was written"

# ---- A copy of such an image, which is a stranger's: with folders that are empty; suspended again ----
cp whole copied
rm -rf data lib empty
mkdir empty
fresh
expect 125 "$BAILEY" resume -d copied
grep -q -- "-v" err || fail "does not say what to grant: $(cat err)"
expect 0 "$BAILEY" resume -d copied -v ./work:/given -v ./empty:/lib-of-mine:ro -v ./empty:/data:ro -v ./program.py:/program.py:ro
expect 0 "$BAILEY" suspend box -o again
expect 0 "$BAILEY" resume -d again
finish

# ---- What it writes must be there ----
rm -f work/*
expect 125 "$BAILEY" resume -d copied -v ./work:/given -v ./empty:/lib-of-mine:ro -v ./empty:/data:ro -v ./program.py:/program.py:ro
complains "$PWD/work/out"
complains "--accept-changed"
expect 0 "$BAILEY" resume -d copied -v ./work:/given -v ./empty:/lib-of-mine:ro -v ./empty:/data:ro -v ./program.py:/program.py:ro --accept-changed
finish
[ ! -e work/out ] || fail "a private copy was written to the host"
rm whole copied again

# ---- A shell and its libraries from a root folder ----
rm -f work/*
"$BAILEY" run -d --name box --rootfs root -v ./work:/given "$shell" -c 'while [ ! -e /given/go ]; do "$0" 0.1; done; read line </later; echo "went on, $line" >/given/report' "$sleep" >/dev/null || fail "cannot start"
sleep 0.5
expect 0 "$BAILEY" suspend box -o whole --self-contained
mv root other-root
mkdir root
for file in "$shell" "$sleep" $(libraries "$shell"); do
    mkdir -p "root$(dirname "$file")"
    echo "another version" >"root$file"
done
expect 0 "$BAILEY" resume -d whole
# What it names from now on is what is there now.
echo "from there" >root/later
touch work/go
await work/report "went on, from there"
exit 0
