# Memory that programs treat in their own ways is in images: of a sandbox that ends with it, and of one that runs on.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data
cat >data/memory.py <<'END2'
import hashlib, mmap, os, time
pages = 100
def area(flags, advice=None):
    area = mmap.mmap(-1, pages * mmap.PAGESIZE, flags | mmap.MAP_ANONYMOUS)
    if advice is not None:
        area.madvise(advice)
    for i in range(pages):
        area[i * mmap.PAGESIZE:(i + 1) * mmap.PAGESIZE] = bytes([i % 7]) * mmap.PAGESIZE
    return area
areas = [area(mmap.MAP_PRIVATE), area(mmap.MAP_SHARED), area(mmap.MAP_PRIVATE, mmap.MADV_DONTFORK), area(mmap.MAP_SHARED, mmap.MADV_DONTFORK)]
file = open("/tmp/file", "w+b")
file.write(b"f" * pages * mmap.PAGESIZE)
file.flush()
over = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
over[8192:12288] = bytes(4096)  # zeros over a file
over.madvise(mmap.MADV_DONTFORK)
areas.append(over)
areas[0].madvise(mmap.MADV_DONTNEED, 40960, 40960)
before = [hashlib.sha256(area).hexdigest() for area in areas]
if os.fork() == 0:
    time.sleep(1000)  # with private copies of all but those of MADV_DONTFORK
print("ready", flush=True)
while os.read(0, 1):
    pass
after = [hashlib.sha256(area).hexdigest() for area in areas]
print("the same" if before == after else (before, after), flush=True)
END2
mkfifo input
"$BAILEY" run --name memory -i -v "$PWD/data:/data:ro" python3 /data/memory.py <input >out1 2>said &
exec 3>input
for i in $(seq 100); do
    grep -q ready out1 && break
    sleep 0.1
done
expect 0 "$BAILEY" suspend memory -o copy.bailey --keep-running
expect 0 "$BAILEY" suspend memory -o memory.bailey
wait $!
exec 3>&-
for image in copy memory; do
    "$BAILEY" resume $image.bailey --name again-$image </dev/null >result 2>err
    got=$?
    [ $got = 0 ] && [ "$(cat result)" = "the same" ] || fail "$image: exit $got, $(cat result err)"
done
