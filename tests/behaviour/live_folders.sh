#!/bin/sh
# A granted folder is seen inside as the host has it at that moment, whatever was looked up there before.
. "$(dirname "$0")/cli_support.inc"

cat >server.py <<'END'
import hashlib, os, sys
for line in sys.stdin:
    what, name = line.split()
    try:
        if what == "size":
            answer = os.stat(name).st_size
        elif what == "open":
            file = os.open(name, os.O_RDONLY)
            answer = os.fstat(file).st_size, hashlib.md5(os.read(file, 1 << 20)).hexdigest()
            os.close(file)
        elif what == "make":
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            answer = os.stat(name).st_size
        elif what == "remove":
            os.unlink(name)
            answer = 0
        elif what == "enter":
            os.chdir(name)
            answer = 0
        elif what == "write":
            with open(name, "w") as file:
                file.write("inside" * (ord(name[-1]) % 7))
            answer = os.stat(name).st_size
        else:
            answer = sorted(os.listdir(name))
    except FileExistsError:
        answer = "there"
    except FileNotFoundError:
        answer = None
    print(answer, flush=True)
END
cat >client.py <<'END'
import hashlib, os, random, subprocess, sys
seed = random.randrange(1 << 30)
random.seed(seed)
folder, again = os.getcwd() + "/granted", "/again"
os.makedirs(folder + "/sub")
names = [f"{folder}/{n}" for n in ("a", "b", "sub/c", "sub/d")]
guest = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def check(step, what, name, wanted, still=False):
    # The folder is granted twice: what is seen in one place and changed in the other.
    place = again if twice and not still and random.random() < 0.3 else folder
    print(what, name.replace(folder, place), file=guest.stdin, flush=True)
    got = guest.stdout.readline().strip()
    if got != str(wanted):
        sys.exit(f"seed {seed}, step {step}: {what} {name}: inside {got}, outside {wanted}")

def write(name, mode, size):
    with open(name, mode) as file:
        file.write(random.choice("xyz") * size)

def size(name):
    return os.stat(name).st_size if os.path.exists(name) else None

def opened(name):
    return (size(name), hashlib.md5(open(name, "rb").read()).hexdigest()) if os.path.exists(name) else None

for step in range(4000):
    twice = step >= 2000
    name, other = random.sample(names, 2)
    act = random.randrange(11)
    if act == 0:
        write(name, "w", random.randrange(200))
    elif act == 1:
        write(name, "a", 3)
    elif act == 2 and os.path.exists(name):
        os.unlink(name)
    elif act == 3 and os.path.exists(name):
        os.rename(name, other)
    elif act == 4 and os.path.exists(name):
        os.truncate(name, random.randrange(10))
    elif act == 5 and os.path.exists(name):
        os.chmod(name, random.choice((0o600, 0o644)))
    elif act == 6:
        check(step, "write", name, len("inside") * (ord(name[-1]) % 7))
    elif act == 7 and step % 8 == 0:
        os.rename(folder + "/sub", folder + "/moved")
        check(step, "size", folder + "/sub/c", None)
        check(step, "open", folder + "/moved/c", opened(folder + "/moved/c"))
        os.rename(folder + "/moved", folder + "/sub")
    elif act == 8:
        there = os.path.exists(name)
        check(step, "make", name, "there" if there else 0)
    elif act == 9:
        check(step, "remove", name, 0 if os.path.exists(name) else None)
    elif act == 10 and step % 8 == 0:
        # Names beneath the working folder, which goes elsewhere meanwhile.
        check(step, "enter", folder + "/sub", 0, still=True)
        for _ in range(3):
            check(step, "size", "c", size(folder + "/sub/c"), still=True)
            check(step, "size", "e", None, still=True)
        os.rename(folder + "/sub", folder + "/moved")
        check(step, "size", folder + "/moved/c", size(folder + "/moved/c"), still=True)
        check(step, "size", "e", None, still=True)
        write(folder + "/moved/e", "w", 5)
        check(step, "size", "e", 5, still=True)
        os.unlink(folder + "/moved/e")
        os.rename(folder + "/moved", folder + "/sub")
        check(step, "size", folder + "/sub/d", size(folder + "/sub/d"), still=True)
        check(step, "enter", folder, 0, still=True)
    if step % 400 == 0:
        # The folder above the working folder goes elsewhere: until its new name is known inside, a name below may seem absent, but not longer.
        deep = f"{folder}/sub/deep{step}"
        os.mkdir(deep)
        write(deep + "/e", "w", 7)
        check(step, "enter", deep, 0, still=True)
        for _ in range(3):
            check(step, "size", "f", None, still=True)
        os.rename(folder + "/sub", folder + "/moved")
        print("size", "e", file=guest.stdin, flush=True)
        guest.stdout.readline()
        check(step, "size", folder + "/moved/c", size(folder + "/moved/c"), still=True)
        check(step, "size", "e", 7, still=True)
        os.rename(folder + "/moved", folder + "/sub")
        check(step, "size", folder + "/sub/c", size(folder + "/sub/c"), still=True)
        check(step, "enter", folder, 0, still=True)
        os.unlink(deep + "/e")
        os.rmdir(deep)
    for seen in random.sample(names, 2):
        check(step, "size", seen, size(seen))
        check(step, "open", seen, opened(seen))
        check(step, "size", seen, size(seen))
    if step % 16 == 0:
        check(step, "list", folder + "/sub", sorted(os.listdir(folder + "/sub")))
guest.stdin.close()
sys.exit(guest.wait())
END
mkdir -m 777 granted
expect 0 python3 client.py "$BAILEY" run -v "$PWD/granted:$PWD/granted" -v "$PWD/granted:/again" -v "$PWD/server.py:/server.py:ro" python3 /server.py
