#!/bin/sh
# What is read again and again from an open host file is what the host has in it at that moment.
. "$(dirname "$0")/cli_support.inc"

cat >server.py <<'END'
import hashlib, os, sys
files = {}
for line in sys.stdin:
    name, offset, size, count = line.split()
    file = files.get(name) or files.setdefault(name, os.open(name, os.O_RDONLY))
    for _ in range(int(count)):
        data = os.pread(file, int(size), int(offset))
    print(len(data), hashlib.md5(data).hexdigest(), flush=True)
END
cat >client.py <<'END'
import hashlib, os, random, subprocess, sys
seed = random.randrange(1 << 30)
random.seed(seed)
here = os.getcwd()
names = ["live/a", "live/b", "shown/a", "shown/b", "layered/a", "layered/b"]
for name in names:
    with open(name, "wb") as file:
        file.write(os.urandom(random.randrange(40000)))
guest = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def check(step, name, offset, size, count):
    with open(name, "rb") as file:
        data = os.pread(file.fileno(), size, offset)
    print(f"/{name}", offset, size, count, file=guest.stdin, flush=True)
    got = guest.stdout.readline().split()
    if got != [str(len(data)), hashlib.md5(data).hexdigest()]:
        sys.exit(f"seed {seed}, step {step}: {size} bytes at {offset} of {name}: inside {got}, outside {len(data)}")

for name in names:
    check(-1, name, 0, 100, 200)
for step in range(4000):
    name = random.choice(names)
    length = os.stat(name).st_size
    act = random.randrange(6)
    if act == 0:
        os.truncate(name, random.randrange(length + 1))
    elif act == 1:
        os.truncate(name, length + random.randrange(9000))
    elif act == 2 and length < 100000:
        with open(name, "ab") as file:
            file.write(os.urandom(random.randrange(9000)))
    elif act == 3:
        with open(name, "r+b") as file:
            file.seek(random.randrange(length + 1))
            file.write(os.urandom(random.randrange(1, 9000)))
    elif act == 4 and step % 10 == 0:
        with open(name, "wb") as file:
            file.write(os.urandom(random.randrange(9000)))
    for seen in [name] + random.sample(names, 2):
        length = os.stat(seen).st_size
        check(step, seen, random.randrange(length + 100), random.choice((1, 100, 4096, 10000, 20000)), random.choice((1, 1, 1, 50)))
        check(step, seen, max(0, length - random.randrange(5000)), 4096, 1)
guest.stdin.close()
sys.exit(guest.wait())
END
mkdir live shown layered
expect 0 python3 client.py "$BAILEY" run -v "$PWD/live:/live" -v "$PWD/shown:/shown:ro" -v "$PWD/layered:/layered:O" \
    -v "$PWD/server.py:/server.py:ro" python3 /server.py
