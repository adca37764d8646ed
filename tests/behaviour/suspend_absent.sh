# Files in memory and shared memory stay in the image until they are touched: read, written, mapped, cut, deleted, handed to the host; by
# several processes; and in a further image, from which all goes on, they are again, whether they had been touched or not.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
mkdir data
cat >data/absent.py <<'END'
import hashlib, mmap, os, random, shutil
chance = random.Random(4242)
size = 3 << 20
files, maps = {}, {}
def content(n):
    return chance.randbytes(size) if n % 3 else bytes(size // 2) + chance.randbytes(size // 2 + 77)
for n in range(12):
    files[f"/tmp/file{n}"] = bytearray(content(n))
    open(f"/tmp/file{n}", "wb").write(files[f"/tmp/file{n}"])
for n in range(4):
    maps[n] = (mmap.mmap(-1, size), bytearray(chance.randbytes(size)))
    maps[n][0][:] = bytes(maps[n][1])
private = open("/tmp/private", "w+b")
private.write(files["/tmp/file1"])
private.flush()
private = mmap.mmap(private.fileno(), size, mmap.MAP_PRIVATE)
private[8192:12288] = b"p" * 4096
private_content = bytes(files["/tmp/file1"][:8192]) + b"p" * 4096 + bytes(files["/tmp/file1"][12288:size])

def in_child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as problem:
            print(problem, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def check(name):
    assert open(name, "rb").read() == files[name], name

def rest():
    print("rest", flush=True)
    assert os.read(0, 1)  # here the image is made

def write(name, at, data):
    files[name][at:at + len(data)] = data
    file = open(name, "r+b")
    file.seek(at)
    file.write(data)
    file.close()

rest()
# Touched by one process, seen by the other; written in the middle of what is absent.
in_child(lambda: check("/tmp/file0"))
write("/tmp/file1", 1234567, b"written")
in_child(lambda: check("/tmp/file1"))
def child():
    write("/tmp/file2", 2000000, b"by the child")
in_child(child)
files["/tmp/file2"][2000000:2000012] = b"by the child"
check("/tmp/file2")
# Shared memory: written by one, read by the other.
shared, wanted = maps[0]
def child():
    assert shared[5000:6000] == wanted[5000:6000]
    shared[1000000:1000005] = b"child"
in_child(child)
wanted[1000000:1000005] = b"child"
assert shared[:] == wanted
# System calls into and out of it.
shared, wanted = maps[1]
with open("/data/out", "wb") as out:
    out.write(shared)
assert open("/data/out", "rb").read() == wanted
fd = os.open("/data/out", os.O_RDONLY)
assert os.preadv(fd, [memoryview(maps[2][0])[100:200000]], 7) == 199900
maps[2][1][100:200000] = wanted[7:199907]
assert maps[2][0][:] == maps[2][1]
# Cut, punched, grown.
os.truncate("/tmp/file3", 1000001)
os.truncate("/tmp/file3", size)
files["/tmp/file3"][1000001:] = bytes(size - 1000001)
check("/tmp/file3")
# Given back and used anew: zeros, then what is written.
for n in (4, 5):
    os.unlink(f"/tmp/file{n}")
files["/tmp/new"] = bytearray(b"n" + bytes(8 << 20))
file = open("/tmp/new", "wb")
file.write(b"n")
file.truncate((8 << 20) + 1)
file.close()
view = os.open("/tmp/new", os.O_RDWR)
view = mmap.mmap(view, len(files["/tmp/new"]))
assert view[:] == files["/tmp/new"]
del files["/tmp/file4"], files["/tmp/file5"]
# Mapped anew, both ways; copied inside and to the host.
for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    fd = os.open("/tmp/file6", os.O_RDWR)
    view = mmap.mmap(fd, 0, flags)
    assert view[:] == files["/tmp/file6"]
    os.close(fd)
shutil.copyfile("/tmp/file7", "/data/copy")
assert open("/data/copy", "rb").read() == files["/tmp/file7"]
rest()
for name in ("/tmp/file8", "/tmp/file1", "/tmp/file2", "/tmp/new"):
    check(name)
rest()
for name in files:
    check(name)
for shared, wanted in maps.values():
    assert shared[:] == wanted
assert private[:] == private_content
print("the same", flush=True)
END
rounds=3
mkfifo input
"$BAILEY" run --name absent -i -v "$PWD/data:/data" python3 /data/absent.py <input >out0 2>said &
exec 3<>input # nobody else may read it for a moment
for round in $(seq $rounds); do
    for i in $(seq 200); do
        grep -q rest out$((round - 1)) && break
        sleep 0.1
    done
    grep -q rest out$((round - 1)) || fail "round $round: $(cat out$((round - 1)) said)"
    rm -f image$round.bailey
    expect 0 "$BAILEY" suspend absent -o image$round.bailey
    wait $!
    "$BAILEY" resume image$round.bailey --accept-changed <input >out$round 2>said &
    printf x >&3
done
exec 3>&-
wait $!
[ "$(cat out$rounds)" = "the same" ] || fail "$(cat out$rounds said)"
# The first image again: what was done with it has not changed it.
printf xxx | "$BAILEY" resume image1.bailey --accept-changed >out 2>err
grep -q "the same" out || fail "again: $(cat out err)"
