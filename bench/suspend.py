#!/usr/bin/env python3
"""Measures suspend, resume, clone and snapshots, and dd of the same bytes to the same disk beside; and CRIU, where it works.

Every figure is the median of the rounds; what a program inside notices is told by its own clock. Started by root, Bailey runs as an
ordinary user, as in run.py."""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

from run import HERE, Bench

GIB = 1 << 30
KINDS = ["size", "speed", "resume", "keep", "clones", "base", "criu"]
# A program that holds so many bytes of random memory (private, shared, or a file in the sandbox's own memory) and writes down every pause of more than 2 ms that it notices. It keeps a CPU busy: not for a
# real-time class.
HOLDER = """
import mmap, os, sys, time
size = int(sys.argv[1])
if sys.argv[2] == "files":
    memory = open("/tmp/large", "wb")
    for at in range(0, size, 1 << 20):
        memory.write(os.urandom(1 << 20))
    memory.close()
else:
    memory = mmap.mmap(-1, size, flags=(mmap.MAP_SHARED if sys.argv[2] == "shared" else mmap.MAP_PRIVATE) | mmap.MAP_ANONYMOUS)
    for at in range(0, size, 1 << 20):
        memory[at:at + (1 << 20)] = os.urandom(1 << 20)
log = open(sys.argv[3], "a")
print("ready", file=log, flush=True)
before = time.time_ns()
while True:
    now = time.time_ns()
    if now - before > 2_000_000:
        print(before, now, file=log, flush=True)
        now = time.time_ns()
    before = now
"""


class SuspendBench(Bench):
    def __init__(self, build, rounds):
        super().__init__(build, rounds)
        self.env["XDG_STATE_HOME"] = str(self.runtime) # where the list of one's own images is

    def bailey_run(self, *arguments):
        return subprocess.run([self.bailey, *arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)

    def must(self, *arguments):
        done = self.bailey_run(*arguments)
        if done.returncode:
            sys.exit(f"bailey {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def say(self, name, value, unit, goal=None, at_least=False):
        met = goal is None or (value >= goal if at_least else value <= goal)
        verdict = "" if goal is None else f"goal {'at least' if at_least else 'at most'} {goal:g}" + ("" if met else "  MISSED")
        self.rows.append({"name": name, "value": value, "unit": unit, "goal": goal, "met": met})
        print(f"{name:64} {value:10.2f} {unit:5} {verdict}", flush=True)

    def pauses(self, log):
        """(begin, end) in ns of what the holder noticed."""
        return [tuple(map(int, line.split())) for line in log.read_text().splitlines() if line[0].isdigit()]

    def holder(self, name, size, kind):
        folder = pathlib.Path(self.folder(name))
        log = folder / "log"
        log.write_text("")
        (folder / "holder.py").write_text(HOLDER)
        self.must("run", "-d", "--name", name, "-v", f"{folder}:{folder}", "python3", str(folder / "holder.py"), str(size), kind, str(log))
        deadline = time.monotonic() + 120
        while "ready" not in log.read_text():
            if time.monotonic() > deadline:
                sys.exit(f"{name} does not get ready")
            time.sleep(0.05)
        time.sleep(0.2)
        return log

    def latest_pause(self, log, since_ns, wanted=1):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = [pause for pause in self.pauses(log) if pause[1] > since_ns]
            if len(found) >= wanted:
                return max(found, key=lambda pause: pause[1] - pause[0])
            time.sleep(0.01)
        sys.exit("the program inside did not go on")

    def suspend_and_resume(self, size, label, kind="private", rounds=None):
        speeds, firsts = [], []
        for i in range(rounds or self.rounds):
            name, image = f"bench-{label}-{i}", str(self.scratch / f"{label}.bailey")
            log = self.holder(name, size, kind)
            os.sync()
            start = time.perf_counter()
            self.must("suspend", name, "-o", image)
            speeds.append(time.perf_counter() - start)
            time.sleep(0.2)
            begin = time.time_ns()
            self.must("resume", "-d", image)
            firsts.append((self.latest_pause(log, begin)[1] - begin) / 1e6)
            self.bailey_run("kill", name)
            self.bailey_run("rm", name)
            os.unlink(image)
        return statistics.median(speeds), statistics.median(firsts)

    def dd(self, size):
        source, target = "/dev/shm/bailey-bench-random", str(self.scratch / "dd")
        with open(source, "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        times = []
        for _ in range(self.rounds):
            os.sync()
            start = time.perf_counter()
            self.run(["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync"])
            times.append(time.perf_counter() - start)
            os.unlink(target)
        os.unlink(source)
        return statistics.median(times)

    def snapshots(self, kind, goal):
        values = []
        image = str(self.scratch / "snapshot.bailey")
        for i in range(self.rounds):
            name = f"bench-keep-{kind}-{i}"
            log = self.holder(name, GIB, kind)
            begin = time.time_ns()
            self.must("suspend", name, "-o", image, "--keep-running")
            time.sleep(0.3)
            pause = self.latest_pause(log, begin)
            values.append((pause[1] - pause[0]) / 1e6)
            self.bailey_run("kill", name)
            self.bailey_run("rm", name)
            os.unlink(image)
        self.say(f"suspend --keep-running: pause, 1 GiB {kind}", statistics.median(values), "ms", goal)

    def based(self):
        """A second image after little has changed: of the sandbox that runs on, and of one that was resumed."""
        full, second, third = (str(self.scratch / f"{name}.bailey") for name in ("full", "second", "third"))
        name = "bench-based"
        self.holder(name, GIB, "private")
        self.must("suspend", name, "-o", full, "--keep-running")
        start = time.perf_counter()
        self.must("suspend", name, "-o", second, "--base", full)
        self.say("suspend --base of 1 GiB, compared with the base", (time.perf_counter() - start) * 1000, "ms")
        self.say("suspend --base of 1 GiB, size of the image", os.path.getsize(second) / (1 << 20), "MiB")
        self.must("resume", "-d", second)
        start = time.perf_counter()
        self.must("suspend", name, "-o", third, "--base", second)
        self.say("suspend --base of 1 GiB, resumed from the base", (time.perf_counter() - start) * 1000, "ms")
        self.must("image", "pack", third, "-o", third, "--compress=1")
        start = time.perf_counter()
        self.must("resume", "-d", third)
        self.say("resume of 1 GiB of random data, compressed", (time.perf_counter() - start) * 1000, "ms")
        self.bailey_run("kill", name)
        self.bailey_run("rm", name)

    def idle_bash(self):
        image = self.scratch / "bash.bailey"
        self.must("run", "-d", "-i", "--name", "bench-bash", "bash", "--norc")
        time.sleep(0.5)
        self.must("suspend", "bench-bash", "-o", str(image))
        self.say("image of an idle bash", image.stat().st_size / (1 << 20), "MiB", 1)

    def clones(self, count):
        """A python with libraries imported; each clone answers by writing its name to a file of a granted folder and then waits."""
        folder = pathlib.Path(self.folder("clones"))
        folder.chmod(0o777)
        program = ("import json, re, decimal, argparse, os, time\n"
                   "generation = lambda: open('/run/bailey/generation').read()\n"
                   "before = generation()\n"
                   f"open('{folder}/ready', 'w').close()\n"
                   "while generation() == before:\n"
                   "    time.sleep(0.002)\n"
                   f"open('{folder}/answer-%d' % int.from_bytes(os.urandom(6), 'big'), 'w').write(str(decimal.Decimal(2).sqrt()))\n"
                   "time.sleep(1000)\n")
        (folder / "program.py").write_text(program)
        self.must("run", "-d", "--name", "bench-warm", "-v", f"{folder}:{folder}", "python3", str(folder / "program.py"))
        while not (folder / "ready").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        image = str(self.scratch / "warm.bailey")
        self.must("suspend", "bench-warm", "-o", image)
        start = time.perf_counter()
        clone = subprocess.Popen([self.bailey, "clone", image, "--count", str(count), "--name", "bench-clone"], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while len(list(folder.glob("answer-*"))) < count:
            if time.perf_counter() - start > 60 or clone.poll() not in (None, 0):
                sys.exit(f"clones: {len(list(folder.glob('answer-*')))} of {count} answered; {clone.communicate()[0]}")
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        clone.wait()
        self.say(f"{count} clones of a warm python have answered after", seconds, "s", 1)
        time.sleep(1)
        self.become_root_again()
        own = self.private_dirty(self.processes())
        self.become_user_again()
        self.say("Private_Dirty of each of them, monitor and picoprocesses", own / count, "MiB", 1.5)
        names = re.findall(r"bench-clone-\d+", self.must("ps", "--json"))
        for name in sorted(set(names)):
            self.bailey_run("kill", name)
            self.bailey_run("rm", name)

    def clones_of_files(self, count, size):
        """Each clone of a sandbox with so many bytes of files in memory reads one of them and says so."""
        folder = pathlib.Path(self.folder("tree"))
        folder.chmod(0o777)
        program = ("import os, time\n"
                   "generation = lambda: open('/run/bailey/generation').read()\n"
                   "before, content = generation(), os.urandom(100 << 10)\n"
                   "os.mkdir('/tmp/tree')\n"
                   f"for i in range({size // (100 << 10)}):\n"
                   "    open(f'/tmp/tree/{i}', 'wb').write(content)\n"
                   f"open('{folder}/ready', 'w').close()\n"
                   "while generation() == before:\n"
                   "    time.sleep(0.002)\n"
                   "assert open('/tmp/tree/7', 'rb').read() == content\n"
                   f"open('{folder}/answer-' + os.urandom(6).hex(), 'w').close()\n"
                   "time.sleep(1000)\n")
        (folder / "program.py").write_text(program)
        self.must("run", "-d", "--name", "bench-tree", "-v", f"{folder}:{folder}", "python3", str(folder / "program.py"))
        while not (folder / "ready").exists():
            time.sleep(0.01)
        image = str(self.scratch / "tree.bailey")
        self.must("suspend", "bench-tree", "-o", image)
        time.sleep(1) # the first one's memory is freed
        shared = lambda: int(re.search(r"^Shmem: *(\d+)", open("/proc/meminfo").read(), re.M)[1]) / 1024
        before, start = shared(), time.perf_counter()
        self.must("clone", image, "--count", str(count), "--name", "bench-tree")
        while len(list(folder.glob("answer-*"))) < count:
            if time.perf_counter() - start > 60:
                sys.exit("clones of files: not all have answered")
            time.sleep(0.005)
        self.say(f"{count} clones with {size >> 20} MiB of files in memory have answered after", time.perf_counter() - start, "s")
        self.say("memory of the host that is files or shared, for each of them", (shared() - before) / count, "MiB")
        for name in sorted(set(re.findall(r"bench-tree-\d+", self.must("ps", "--json")))):
            self.bailey_run("kill", name)
            self.bailey_run("rm", name)
        os.unlink(image)

    def processes(self):
        """The monitors under our folder of state, and all below them."""
        found, queue = [], []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if open(f"/proc/{pid}/comm").read() == "bailey\n" and str(self.runtime).encode() in open(f"/proc/{pid}/environ", "rb").read():
                    queue.append(int(pid))
            except OSError:
                pass
        while queue:
            pid = queue.pop()
            if pid in found:
                continue
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                queue += [int(child) for child in task.read_text().split()]
        return found

    def as_root(self, argv, check=False):
        self.become_root_again()
        try:
            done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, user=0, group=0)
            if check and done.returncode:
                sys.exit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
            return done
        finally:
            self.become_user_again()

    def criu(self, criu):
        """The same program natively, dumped and restored by CRIU, which needs root. What Bailey takes is measured in turn."""
        if not shutil.which(criu):
            print("criu: not installed")
            return
        if not self.by_root:
            print("criu: needs root")
            return
        check = self.as_root([criu, "check"])
        if check.returncode:
            errors = [line for line in check.stderr.splitlines() if line.startswith("Error")]
            print("criu does not work on this host: " + "; ".join(errors))
            return
        folder = self.scratch / "criu"
        folder.mkdir(exist_ok=True)
        (folder / "holder.py").write_text(HOLDER)
        dumps, firsts, sizes, own = [], [], [], []
        for i in range(self.rounds):
            log, images = folder / f"log-{i}", folder / f"images-{i}"
            images.mkdir()
            log.write_text("")
            self.become_root_again()  # whose processes alone CRIU dumps where it has not all capabilities
            process = subprocess.Popen(["python3", str(folder / "holder.py"), str(GIB), "private", str(log)], stdin=subprocess.DEVNULL, env=self.env,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, user=0, group=0)
            self.become_user_again()
            while "ready" not in log.read_text():
                time.sleep(0.05)
            time.sleep(0.2)
            os.sync()
            start = time.perf_counter()
            self.as_root([criu, "dump", "-t", str(process.pid), "-D", str(images), "-o", "dump.log"], check=True)
            self.as_root(["sync", *map(str, images.iterdir())], check=True)
            dumps.append(time.perf_counter() - start)
            process.wait()
            sizes.append(sum(path.stat().st_size for path in images.iterdir()) / (1 << 20))
            begin = time.time_ns()
            self.as_root([criu, "restore", "-d", "-D", str(images), "-o", "restore.log"], check=True)
            firsts.append((self.latest_pause(log, begin)[1] - begin) / 1e6)
            self.as_root(["kill", "-9", str(process.pid)], check=True)
            self.as_root(["rm", "-r", str(images)], check=True)
            own.append(self.suspend_and_resume(GIB, f"beside-criu-{i}", rounds=1))
        for what, theirs, ours, unit in (("suspend of 1 GiB, on the disk after", dumps, [seconds for seconds, _ in own], "s"),
                                         ("resume of 1 GiB to the program's first instruction", firsts, [first for _, first in own], "ms")):
            self.say(f"CRIU: {what}", statistics.median(theirs), unit)
            self.say(f"Bailey: {what}", statistics.median(ours), unit)
        self.say("CRIU: size of that image", statistics.median(sizes), "MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--criu", default="criu", help="the program to compare with")
    options = parser.parse_args()
    bench = SuspendBench(options.build, options.rounds)
    try:
        if "size" in options.only:
            bench.idle_bash()
        if "resume" in options.only:
            _, first = bench.suspend_and_resume(16 << 20, "small")
            bench.say("resume to the program's first instruction, 16 MiB", first, "ms", 10)
        if "speed" in options.only or "resume" in options.only:
            seconds, first = bench.suspend_and_resume(GIB, "large")
            bench.say("resume to the program's first instruction, 1 GiB", first, "ms", 10)
            for kind, what in (("shared", "shared memory"), ("files", "files in memory")):
                _, first = bench.suspend_and_resume(GIB, kind, kind)
                bench.say(f"resume to the program's first instruction, 1 GiB of {what}", first, "ms", 10)
            bench.say("suspend of 1 GiB, speed against dd conv=fsync", bench.dd(GIB) / seconds, "x", 0.7, at_least=True)
        if "keep" in options.only:
            bench.snapshots("private", 25)
            bench.snapshots("shared", None)
        if "base" in options.only:
            bench.based()
        if "clones" in options.only:
            bench.clones(100)
            bench.clones_of_files(20, 200 << 20)
        if "criu" in options.only:
            bench.criu(options.criu)
    finally:
        bench.close()
    if options.json:
        options.json.write_text(json.dumps(bench.rows, indent=1) + "\n")
    missed = [row["name"] for row in bench.rows if not row["met"]]
    print(f"{len(bench.rows)} figures, {len(missed)} goals missed" + (": " + "; ".join(missed) if missed else ""))


if __name__ == "__main__":
    sys.exit(main())
