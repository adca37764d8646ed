#!/usr/bin/env python3
"""Injects faults while sandboxes are suspended, resumed, cloned and moved, and holds each outcome to: the original runs on, or there is a
complete image or a complete destination; not a step of the program's work is lost or done twice; the failure is told in one line; and no
process, file or state entry is left behind.

  tests/faults/campaign.py                     a sample of all faults, about a minute; the seed is printed
  tests/faults/campaign.py --seed S            the same sample again
  tests/faults/campaign.py --full [OPERATION]  every system call of each (--stride N: every N-th), for hours

Faults: who takes part is killed at a system call of one of them; a call of one of them fails; a write is short; a connection is dropped, or a
byte in it changed, at a record's boundary or within one; a byte of an image is changed, or the image cut."""

import argparse
import contextlib
import ctypes
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# x86-64 numbers of what can fail for want of space, memory or descriptors, or by a bad disk.
WRITES = {"write": 1, "writev": 20, "pwrite64": 18, "sendfile": 40, "sendto": 44, "sendmsg": 46}
OTHERS = {"read": 0, "open": 2, "openat": 257, "pread64": 17, "mmap": 9, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "fallocate": 285,
          "rename": 82, "renameat": 264, "linkat": 265, "mkdir": 83, "mkdirat": 258, "clone": 56, "fork": 57, "vfork": 58, "clone3": 435,
          "memfd_create": 319, "pipe2": 293, "socket": 41, "connect": 42, "lseek": 8, "recvmsg": 47, "fstat": 5, "fcntl": 72,
          "process_vm_readv": 310, "ioctl": 16, "pidfd_getfd": 438, "eventfd2": 290, "epoll_ctl": 233}
NAMES = {number: name for name, number in (WRITES | OTHERS).items()}
FAILING = ",".join(map(str, NAMES))
SHORT = ",".join(str(number) for name, number in WRITES.items() if name not in ("sendto", "sendmsg"))  # packets are whole or not at all
ERRORS = {"ENOSPC": 28, "EIO": 5, "ENOMEM": 12, "EMFILE": 24}
PATIENCE = 30


class Broken(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Broken(what)


def descendants():
    """Processes that come from this one, which takes over those whose parents have ended; zombies left out."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = (int(words[1]), words[0])
    found, level = {}, {os.getpid()}
    while level:
        level = {process for process, (parent, _) in parents.items() if parent in level}
        found |= {process: parents[process][1] for process in level}
    return [process for process, state in found.items() if state not in "ZX"]


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def command_of(process):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


class Place:
    """A state folder, and the commands over it."""

    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.folder = bench.work / name
        self.folder.mkdir(mode=0o700)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder), XDG_STATE_HOME=str(bench.work / "state"), TMPDIR=str(bench.temporary))

    def popen(self, arguments, before=(), **more):
        return subprocess.Popen([*before, self.bench.bailey, *arguments], cwd=self.bench.work, env=self.env | more.pop("env", {}),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, *arguments, before=(), env={}):
        process = self.popen(arguments, before, env=env)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # an injector then says what it has done
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=1)
            process.kill()
            raise Broken(f"hangs: bailey {' '.join(arguments)}") from None
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def must(self, *arguments):
        code, out, err = self.run(*arguments)
        require(code == 0, f"bailey {' '.join(arguments)}: exit {code}: {err.strip()}")
        return out

    def running(self):
        return self.must("ps", "-q").split()

    def all(self):
        return self.must("ps", "-aq").split()

    def clear(self):
        for name in self.run("ps", "-aq")[1].split():
            self.run("rm", "-f", name)

    def processes(self, name):
        """The monitor, and its picoprocesses: the first one, and the others."""
        found = re.search(r'"name":\s*"%s"[^}]*' % re.escape(name), self.must("ps", "--json"))
        monitor = int(re.search(r'"pid":\s*(\d+)', found.group(0)).group(1))
        children = pathlib.Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
        below = [int(child) for first in children for child in
                 pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()]
        return monitor, [int(child) for child in children] + below


class Bench:
    def __init__(self, build, seed):
        self.bailey = str(build / "bailey")
        self.inject, self.steps_program = str(build / "tests/faults/inject"), str(build / "tests/faults/steps")
        self.chance = random.Random(seed)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="bailey-faults-"))
        self.temporary, self.images, self.steps, self.store = (self.work / name for name in ("tmp", "images", "steps", "store"))
        for folder in (self.temporary, self.images, self.steps, self.store):
            folder.mkdir(mode=0o700)
        self.image = self.images / "image"
        # What an image needs that is not the user's own any more, since who makes it so was killed.
        self.grants = ["-v", f"{self.steps}:/w", "-v", f"{self.steps_program}:/steps:ro"]
        self.report = self.work / "report"
        self.here, self.there = Place(self, "here"), Place(self, "there")
        self.counts, self.failures, self.outcomes = {}, [], {}
        self.stale = False
        self.keep = []  # processes that belong to the bench itself

    def close(self):
        for place in (self.here, self.there):
            place.clear()
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- The program ----

    def numbers(self):
        """Its steps, by generation."""
        found = {}
        for path in self.steps.iterdir():
            lines = path.read_bytes().split(b"\n")[:-1]
            found[int(path.name.partition(".")[2])] = list(map(int, lines))
        return dict(sorted(found.items()))

    def last(self):
        return max((numbers[-1] for numbers in self.numbers().values() if numbers), default=0)

    def whole(self, told=""):
        """Each step was done once, in order."""
        if self.stale:  # known to have repeated some
            return
        done = [number for numbers in self.numbers().values() for number in numbers]
        wrong = next((i for i, number in enumerate(done) if number != i + 1), None)
        require(wrong is None, f"steps were lost or repeated: {wrong and done[max(wrong - 2, 0):wrong + 3]} {told}")

    def goes_on(self, what):
        before, deadline = self.last(), time.monotonic() + 10
        while self.last() <= before:
            require(time.monotonic() < deadline, f"{what} does not go on")
            time.sleep(0.005)

    def start(self):
        """A sandbox `box` that works, anew if the one that is there has worked long."""
        if self.here.running() == ["box"] and self.last() < 20000 and list(self.numbers()) == [0] and not self.stale:
            return
        self.stale = False
        self.here.clear()
        for path in self.steps.iterdir():
            path.unlink()
        self.here.must("run", "-d", "--name", "box", *self.grants, "/steps", "/w")
        self.goes_on("a new sandbox")

    # ---- What must hold afterwards ----

    def nothing_left(self, files=()):
        """No file but these, and no process that does not belong to a sandbox that is listed."""
        for folder in (self.temporary, self.images, self.store):
            left = [path.name for path in folder.iterdir() if path not in files]
            require(not left, f"left behind in {folder.name}/: {left}")
        for _ in range(200):
            expected = set(self.keep)
            for place in (self.here, self.there):
                for name in place.running():
                    with contextlib.suppress(OSError, AttributeError):
                        monitor, below = place.processes(name)
                        expected |= {monitor, *below}
            reap()
            left = [process for process in descendants() if process not in expected]
            if not left:
                return
            time.sleep(0.01)
        raise Broken(f"processes are left behind: {[(process, command_of(process)) for process in left]}")

    def one_line(self, code, err):
        lines = err.strip().splitlines()
        require(code != 0 and len([line for line in lines if line.startswith("bailey:")]) == 1 and len(lines) <= 2,
                f"exit {code}, and not one message: {err!r}")

    def image_goes_on(self):
        """The image is complete, and what it holds is the sandbox at the moment when it stopped."""
        self.here.must("image", "verify", str(self.image))
        self.here.must("resume", "-d", "--name", "box", *self.grants, str(self.image))
        self.goes_on("the sandbox of the image")
        self.whole()

    def copy_is_good(self):
        """As an image that was made while the sandbox ran on: the copy repeats steps from some moment on."""
        self.here.must("image", "verify", str(self.image))
        self.here.must("resume", "-d", "--name", "copy", "--accept-changed", *self.grants, str(self.image))
        self.copies_go_on("copy")

    def copies_go_on(self, *names):
        deadline = time.monotonic() + 10
        while not self.numbers().get(1):
            require(time.monotonic() < deadline, "the copy does not go on")
            time.sleep(0.005)
        for name in names:
            self.here.must("rm", "-f", name)
        numbers = self.numbers()
        # A copy that was made between open and write has its number in the original's file.
        self.stale = numbers[0] != list(range(1, len(numbers[0]) + 1))
        require(numbers[1] == list(range(numbers[1][0], numbers[1][0] + len(numbers[1]))) and numbers[1][0] <= numbers[0][-1] + 1,
                f"the copy's steps are {numbers[1][:3]} after {numbers[0][-1]}")
        (self.steps / "steps.1").unlink()

    # ---- Injecting ----

    def injector(self, fault, children, victim=None, process=None):
        action, number, calls = fault
        return [self.inject, *(["-p", str(process)] if process else []), *(["-f"] if children else []),
                *(["-k", str(victim)] if victim else []), action, str(number), calls]

    @contextlib.contextmanager
    def injected(self, process, fault, children=False, victim=None):
        """While the block runs, a call of `process` meets the fault."""
        self.report.unlink(missing_ok=True)
        tracer = subprocess.Popen(self.injector(fault, children, victim, process), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=dict(os.environ, INJECT_REPORT=str(self.report)))
        self.keep.append(tracer.pid)
        try:
            if tracer.stdout.readline() != b"ready\n":
                print(f"skipped: {tracer.stderr.read().decode().strip()}")
                sys.exit(77)
            yield
        finally:
            tracer.terminate()
            tracer.wait()
            self.keep.remove(tracer.pid)
            tracer.stdout.close()
            tracer.stderr.close()

    def reported(self):
        """How many calls there were, whether the fault was met, and at which call of what."""
        count, fired, call, target = self.report.read_text().rstrip("\n").split(" ", 3)
        return int(count), fired == "1", f"{NAMES.get(int(call), call)} of {target}"


def gated(bench, place, *arguments):
    """A command that waits to be told to begin: its process id is known before. Returns it and what begins it."""
    read, write = os.pipe()
    command = ["sh", "-c", f'read go <&{read}; exec "$@"', "sh"]
    process = place.popen(arguments, command, pass_fds=[read])
    os.close(read)

    def begin():
        os.write(write, b"go\n")
        os.close(write)
    return process, begin


def finish(process):
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Broken("the command hangs") from None
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


# ---- Operations: each runs once with a fault, and judges what has become of it; returns the outcome in a word ----

def judge_suspended(bench, keep_running, code, err, killed):
    """`killed`: None, or who of `monitor`, `client`, `sandbox` (a process of it)."""
    if killed == "client":
        bench.here.run("ps", "-q")
        time.sleep(0.1)  # the image may be about to get its name
    for _ in range(100):  # an ending monitor
        alive = bench.here.running()
        if not alive or not (killed in ("monitor", "sandbox") or bench.image.exists() and not keep_running):
            break
        time.sleep(0.02)
    there = bench.image.exists()
    require(there or code != 0, "exit 0, and there is no image")
    if code not in (0, -signal.SIGKILL, 137):
        bench.one_line(code, err)
    if there and keep_running and killed != "sandbox":
        if alive:
            bench.goes_on("the original")
        else:
            require(killed == "monitor", "the original is gone")
        bench.copy_is_good()
        outcome = "image, and the original runs" if alive else "image; the original was killed"
    elif there:
        require(not alive or killed == "sandbox", "there is an image, and the original is there, too")
        bench.here.clear()  # what is told of one whose monitor was killed before it could tell more
        if killed == "sandbox":  # what goes on is what was left of it
            bench.here.must("image", "verify", str(bench.image))
        else:
            bench.image_goes_on()
        outcome = "image"
    elif alive and killed != "sandbox":
        bench.goes_on("the original")
        outcome = "the original runs"
    else:
        require(not alive, "its processes were killed, and it is still there")
        require(killed in ("monitor", "sandbox") or "out of memory" in err, f"neither the original nor an image is there: {err.strip()}")
        outcome = "the sandbox was killed, and there is no image"
    if "box" in bench.here.running():
        bench.whole()
    bench.nothing_left([bench.image])
    bench.image.unlink(missing_ok=True)
    if bench.here.running() != ["box"] or killed == "sandbox" or there and not keep_running:
        bench.here.clear()
    return outcome


def suspend(bench, traced, fault, victim, keep_running=False):
    bench.start()
    words = ["suspend", "box", "-o", str(bench.image), *(["--keep-running"] if keep_running else [])]
    killed = None
    if traced == "client":
        code, _, err = bench.here.run(*words, before=bench.injector(fault, False), env={"INJECT_REPORT": str(bench.report)})
        killed = "client" if fault[0] == "kill" else None
    else:
        monitor, below = bench.here.processes("box")
        client, begin = gated(bench, bench.here, *words)
        victims = {"monitor": None, "client": client.pid, "init": below[0], "program": below[-1]}
        with bench.injected(monitor, fault, victim=victims[victim]):
            begin()
            code, _, err = finish(client)
            if fault[0] == "kill":
                killed = {"monitor": "monitor", "client": "client"}.get(victim, "sandbox")
                time.sleep(0.05 if victim == "client" else 0)
    return judge_suspended(bench, keep_running, code, err, killed)


def snapshot(bench, traced, fault, victim):
    return suspend(bench, traced, fault, victim, keep_running=True)


def resume(bench, traced, fault, victim):
    """Of somebody else's image, so that the confined reader takes part; all that begin belong to the command."""
    bench.start()
    bench.here.must("suspend", "box", "-o", str(bench.image))
    stranger = bench.images / "stranger"
    shutil.copy(bench.image, stranger)
    bench.image.unlink()
    bench.here.must("rm", "box")  # what is told of one that was suspended
    before = bench.last()
    code, _, err = bench.here.run("resume", "-d", "--name", "box", *bench.grants, str(stranger), before=bench.injector(fault, True),
                                  env={"INJECT_REPORT": str(bench.report)})
    for _ in range(50):
        alive = bench.here.running()
        if not alive or fault[0] != "kill":
            break
        if bench.last() > before + 2:
            break
        time.sleep(0.02)
    if code == 0 and alive:
        bench.goes_on("the resumed sandbox")
        outcome = "it runs"
    elif code == 0 and fault[0] == "kill":
        outcome = "killed after it ran; the image is complete"
    else:
        require(code != 0, "exit 0, and nothing runs")
        if code not in (137, -9):
            bench.one_line(code, err)
        if alive:
            require(fault[0] == "kill", f"exit {code}, and it runs: {err.strip()}")
            bench.goes_on("the resumed sandbox")
        outcome = "it runs; its command was killed" if alive else "nothing runs; the image is complete"
    if fault[0] != "kill" and not alive:
        require(not bench.here.all(), f"a state entry is left: {bench.here.all()}")
    if not alive:
        bench.here.must("image", "verify", str(stranger))
        if bench.last() == before:
            bench.here.clear()
            bench.here.must("resume", "-d", "--name", "box", *bench.grants, str(stranger))
            bench.goes_on("a second resume")
    bench.whole()
    bench.nothing_left([stranger])
    stranger.unlink()
    bench.here.clear()
    return outcome


def clone(bench, traced, fault, victim):
    bench.start()
    words = ["clone", "box", "--name", "copy", "--accept-changed"]
    if traced == "client":
        code, _, err = bench.here.run(*words, before=bench.injector(fault, True), env={"INJECT_REPORT": str(bench.report)})
    else:
        monitor, below = bench.here.processes("box")
        client, begin = gated(bench, bench.here, *words)
        with bench.injected(monitor, fault, victim=client.pid if victim == "client" else None):
            begin()
            code, _, err = finish(client)
    killed = fault[0] == "kill"
    if killed:
        time.sleep(0.1)
    alive = bench.here.running()
    if killed and traced == "monitor" and victim == "monitor" and "box" not in alive:
        outcome = "the original was killed"
    else:
        require("box" in alive or "out of memory" in err, f"the original is gone: {err.strip()}")
        bench.goes_on("the original")
        outcome = "the original runs"
    if "copy-1" in alive:
        require(code == 0 or killed, f"exit {code}, and the clone runs: {err.strip()}")
        if "box" in alive:
            bench.copies_go_on("copy-1")
        outcome += ", and a clone"
    else:
        require(code != 0 or killed, "exit 0, and there is no clone")
        with contextlib.suppress(OSError):
            (bench.steps / "steps.1").unlink()
    if code not in (0, 137, -9):
        bench.one_line(code, err)
    bench.nothing_left()
    if bench.here.all() != ["box"]:
        require(killed or sorted(bench.here.all()) == ["box"], f"state entries are left: {bench.here.all()}")
        bench.here.clear()
    return outcome


def receiver(bench, before=(), env={}):
    """A receiver for one sandbox, and where."""
    process = bench.there.popen(["receive", "127.0.0.1:0", "--key", "key", "--once", "--directory", str(bench.store), "--timeout", "5", *bench.grants],
                               before, env=env)
    bench.keep.append(process.pid)
    said = b""
    while b"receiving at" not in said:
        told = select.select([process.stderr], [], [], 5)[0]
        if not told:  # what could not be written is where
            process.terminate()
        line = process.stderr.readline() if told else b""
        said += line
        if not line:  # it met the fault before it listened
            code = process.wait(PATIENCE)
            bench.keep.remove(process.pid)
            if not told:
                return None, 0
            require(before, f"the receiver does not start: {said.decode(errors='replace').strip()}")
            if code not in (137, -9):
                bench.one_line(code, said.decode(errors="replace"))
            return None, 0
    return process, int(said.rpartition(b":")[2])


def key(bench):
    if not (bench.work / "key").exists():
        bench.here.must("migrate", "--new-key", "key")


def judge_moved(bench, process, code, err, killed):
    """Exactly one side has it, or its user settles where."""
    if code:  # perhaps nobody came
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
    try:
        _, other_err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Broken("the receiver hangs") from None
    finally:
        bench.keep.remove(process.pid)
    def who():
        return bench.here.running(), bench.there.running()
    here, there = who()
    for _ in range(100):  # a monitor that is ending, or about to; one destination that was begun and is given up
        if "is not known" in err or (bool(here) != bool(there) and killed not in ("monitor", "destination")):
            break
        time.sleep(0.02)
        here, there = who()
    if code not in (0, 137, -9):
        bench.one_line(code, err)
    if here and there:
        require(code != 0, "it is on both sides, and exit 0")
        if not killed:
            bench.goes_on("the one there")
        bench.here.must("migrate", "--settle", "there", "box")
        outcome = "settled: there"
    elif there:
        if killed != "destination":
            bench.goes_on("the one there")
        outcome = "it runs there"
    elif here:
        require(code != 0, "exit 0, and it did not move")
        before = bench.last()
        time.sleep(0.02)
        if "is not known" in err or bench.last() == before:
            bench.here.run("migrate", "--settle", "here", "box")
            # It may have run there until it was killed, which its user knew who settled it so.
            bench.stale = 1 in bench.numbers() and killed == "destination"
        bench.goes_on("the original")
        outcome = "the original runs"
    else:
        require(killed in ("monitor", "destination") or "out of memory" in err + other_err.decode(errors="replace"),
                f"neither side has it: {err.strip()} {other_err.decode(errors='replace').strip()}")
        outcome = "it was killed"
    if there or here:
        bench.whole(err.strip())
    bench.nothing_left()
    bench.there.clear()
    require(killed or set(bench.here.all()) <= {"box"}, f"state entries are left: {bench.here.all()}")
    if here != ["box"] or there:
        bench.here.clear()
    return outcome


def migrate(bench, traced, fault, victim):
    key(bench)
    bench.start()
    env = {"INJECT_REPORT": str(bench.report)}
    process, port = receiver(bench, bench.injector(fault, True) if traced == "receiver" else (), env if traced == "receiver" else {})
    if not process:
        bench.goes_on("the original")
        bench.nothing_left()
        return "the receiver did not begin"
    words = ["migrate", "box", f"127.0.0.1:{port}", "--key", "key", "--timeout", "5"]
    killed = None
    if traced == "client":
        code, _, err = bench.here.run(*words, before=bench.injector(fault, True), env=env)
    elif traced == "receiver":
        code, _, err = bench.here.run(*words)
        killed = "destination" if fault[0] == "kill" else None
    else:
        monitor, _ = bench.here.processes("box")
        client, begin = gated(bench, bench.here, *words)
        with bench.injected(monitor, fault, victim={"monitor": None, "client": client.pid, "receiver": process.pid}[victim]):
            begin()
            code, _, err = finish(client)
        killed = victim if fault[0] == "kill" else None
    return judge_moved(bench, process, code, err, killed)


# ---- The link ----

class Link:
    """Passes one connection on, but for a fault at a byte of one way: 0 to the receiver, 1 back."""

    def __init__(self, port, way=None, at=-1, drop=True):
        self.way, self.at, self.drop, self.port = way, at, drop, port
        self.passed = [bytearray(), bytearray()]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.here = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.listener.settimeout(PATIENCE)
        ends = []
        try:
            ends.append(self.listener.accept()[0])
            ends.append(socket.create_connection(("127.0.0.1", self.port)))
            ways = [threading.Thread(target=self.pump, args=(ends, way)) for way in (0, 1)]
            for thread in ways:
                thread.start()
            for thread in ways:
                thread.join()
        except OSError:
            pass
        for end in [*ends, self.listener]:
            end.close()

    def pump(self, ends, way):
        with contextlib.suppress(OSError):
            while data := ends[way].recv(1 << 16):
                at = self.at - len(self.passed[way]) if way == self.way else -1
                self.passed[way] += data
                if 0 <= at < len(data) and self.drop:
                    for end in ends:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        with contextlib.suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                    return
                if 0 <= at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                ends[1 - way].sendall(data)
        with contextlib.suppress(OSError):
            ends[1 - way].shutdown(socket.SHUT_WR)

    def records(self, way):
        """Where TLS records begin: type, version, length (16 bits), body."""
        starts, data = [0], self.passed[way]
        while starts[-1] + 5 <= len(data):
            starts.append(starts[-1] + 5 + int.from_bytes(data[starts[-1] + 3:starts[-1] + 5], "big"))
        return starts


def move_through(bench, way, at, drop):
    key(bench)
    bench.start()
    process, port = receiver(bench)
    link = Link(port, way, at, drop)
    code, _, err = bench.here.run("migrate", "box", f"127.0.0.1:{link.here}", "--key", "key", "--timeout", "5")
    link.thread.join()
    if len(link.passed[way or 0]) <= at:  # it was shorter this time
        require(code == 0, f"exit {code} of an undisturbed move: {err.strip()}")
    return judge_moved(bench, process, code, err, None), link


def link_faults(bench, stride):
    outcome, link = move_through(bench, None, -1, True)
    require(outcome == "it runs there", f"an undisturbed move: {outcome}")
    bench.here.clear()
    for way in (0, 1):
        places = []
        for start, end in zip(link.records(way), link.records(way)[1:]):
            places += [start, start + 3, start + 5, (start + end) // 2, end - 1]
        for place in places[::stride] + [places[-1]] if stride else places:
            for drop in (True, False):
                yield f"{'dropped' if drop else 'changed'} at byte {place} {'back' if way else 'forth'}", lambda p=place, d=drop, w=way: move_through(bench, w, p, d)[0]


# ---- Images ----

def image_parts(data):
    """Where the parts of an image begin: fields of the header, pages, the table, the records of the index and what is in them."""
    pages, index_size = struct.unpack_from("<QQ", data, 32)
    table = 4096 * (1 + pages)
    index = table + (pages * 4 + 7) // 8 * 8
    parts = [*range(0, 60, 4), 2000, 4092, *range(4096, table, 4096), table, index]
    at = index
    while at + 16 <= index + index_size:
        parts += [at, at + 4, at + 8, at + 16]
        at += 16 + (struct.unpack_from("<Q", data, at + 8)[0] + 7) // 8 * 8
    return sorted({part for part in parts if part < len(data)}), len(data)


def damaged(bench, data, what):
    damaged_image = bench.images / "damaged"
    damaged_image.write_bytes(data)
    for words in (["image", "verify", str(damaged_image)], ["resume", "--verify", "-d", "--name", "damaged", *bench.grants, str(damaged_image)]):
        code, _, err = bench.here.run(*words)
        bench.one_line(code, err)
    require(not bench.here.all(), f"a state entry is left: {bench.here.all()}")
    bench.nothing_left([damaged_image, bench.image])
    damaged_image.unlink()
    return "refused"


def image_faults(bench, stride):
    bench.start()
    bench.here.must("suspend", "box", "-o", str(bench.image))
    bench.here.must("rm", "box")
    data = bench.image.read_bytes()
    parts, size = image_parts(data)
    for part in parts[::stride or 1]:
        changed = bytearray(data)
        changed[part] ^= 1 << bench.chance.randrange(8)
        yield f"a bit changed at {part} of {size}", lambda d=bytes(changed): damaged(bench, d, "changed")
    for part in [*parts[::stride or 1], size - 1]:
        yield f"cut at {part} of {size}", lambda d=data[:part]: damaged(bench, d, "cut")
    bench.image_goes_on()
    bench.image.unlink()
    bench.here.clear()


# ---- The campaign ----

# Operation, whose calls are counted, who is killed then.
OPERATIONS = [(operation, traced, victims) for operation, traced, victims in (
    (suspend, "monitor", ("monitor", "client", "init", "program")),
    (suspend, "client", ("client",)),
    (snapshot, "monitor", ("monitor", "client", "init", "program")),
    (snapshot, "client", ("client",)),
    (resume, "client", ("client",)),
    (clone, "client", ("client",)),
    (clone, "monitor", ("monitor", "client")),
    (migrate, "client", ("client",)),
    (migrate, "monitor", ("monitor", "client", "receiver")),
    (migrate, "receiver", ("receiver",)),
)]


def measure(bench, operation, traced, calls):
    """How many calls an undisturbed one makes."""
    operation(bench, traced, ("count", 0, calls), next(v for o, t, vs in OPERATIONS if (o, t) == (operation, traced) for v in vs))
    return bench.reported()[0]


def system_call_faults(bench, operation, traced, victims, stride):
    """All of them (stride 1), or endlessly some (0)."""
    kinds = [("kill", victim, "all") for victim in victims]
    kinds += [(str(number), None, FAILING) for number in ERRORS.values()] + [("short", None, SHORT)]
    totals = {calls: measure(bench, operation, traced, calls) for calls in ("all", FAILING, SHORT)}
    names = {str(number): name for name, number in ERRORS.items()}

    def trial(kind, number):
        action, victim, calls = kind
        what = f"{victim} killed" if action == "kill" else "a short write" if action == "short" else names[action]
        return (f"{operation.__name__}: {what} at call {number} of {totals[calls]} of the {traced}",
                lambda: operation(bench, traced, (action, number, calls), victim or victims[0]))
    if not stride:
        while True:
            kind = bench.chance.choice(kinds)
            yield trial(kind, bench.chance.randint(1, max(totals[kind[2]], 1)))
    for kind in kinds:
        for number in range(1 + bench.chance.randrange(stride), totals[kind[2]] + 1, stride):
            yield trial(kind, number)


def attempt(bench, group, what, trial, verbose):
    bench.report.unlink(missing_ok=True)
    try:
        outcome = trial()
        call = ""
        if bench.report.exists():
            _, fired, met = bench.reported()
            if not fired and group not in ("link", "image"):
                outcome = "fewer calls this time"
            call = f" ({met})" if fired else ""
        bench.outcomes.setdefault(group, {}).setdefault(outcome, 0)
        bench.outcomes[group][outcome] += 1
        if verbose:
            print(f"ok    {what}{call}: {outcome}", flush=True)
    except Broken as problem:
        call = ""
        with contextlib.suppress(OSError, ValueError):
            call = f" ({bench.reported()[2]})"
        bench.failures.append(f"{what}{call}: {problem}")
        print(f"FAIL  {bench.failures[-1]}", flush=True)
        for place in (bench.here, bench.there):
            place.clear()
        for process in bench.keep:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        bench.keep.clear()
        reap()
        for process in descendants():
            if process != os.getpid():
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        for folder in (bench.temporary, bench.images, bench.store):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def groups(bench, stride):
    """Name of each kind of faults, and its faults."""
    for operation, traced, victims in OPERATIONS:
        # A receiver whose words are lost may be waited for long: of --full only; behaviour/migrate_faults kills receivers, too.
        if traced == "receiver" and not stride:
            continue
        yield f"{operation.__name__} by {traced}", system_call_faults(bench, operation, traced, victims, stride)
    yield "link", link_faults(bench, stride or 7)
    yield "image", image_faults(bench, stride or 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build")
    parser.add_argument("--seed", default=str(random.randrange(1 << 30)))
    parser.add_argument("--seconds", type=float, default=45, help="for the sample")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--stride", type=int, default=1, help="of --full: only every so manieth call")
    parser.add_argument("--limit", type=float, default=float("inf"), help="of --full: seconds for each kind of faults")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="names that kinds of faults begin with: suspend, 'clone by client', link")
    options = parser.parse_args()
    print(f"seed {options.seed}; to repeat it: tests/faults/campaign.py --seed {options.seed}", flush=True)
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: whoever loses its parent becomes ours
    bench = Bench(options.build.resolve(), options.seed)
    try:
        chosen = [(name, faults) for name, faults in groups(bench, options.stride if options.full else 0)
                  if not options.operations or name.startswith(tuple(options.operations))]
        for name, faults in chosen:
            end = time.monotonic() + (options.limit if options.full else options.seconds / len(chosen))
            for what, trial in faults:
                attempt(bench, name, what, trial, options.verbose)
                if time.monotonic() > end:
                    break
            faults.close()
            for folder in (bench.temporary, bench.images, bench.store):
                for path in folder.iterdir():
                    path.unlink()
    finally:
        bench.close()
    for name, outcomes in bench.outcomes.items():
        print(f"{name:20} {sum(outcomes.values()):5} faults: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"{sum(sum(o.values()) for o in bench.outcomes.values())} faults as they must be, {len(bench.failures)} not; seed {options.seed}")
    for failure in bench.failures[:2]:
        print(failure, file=sys.stderr)
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
