#!/usr/bin/env python3
"""Measures Bailey against native (and installed peers) in one run and prints ratios.

Native and Bailey take turns; every figure is a median. A goal is printed beside the ratio it is for. Started by root, everything is run as
an ordinary user (65534), directly: a setpriv in between would cost as much as some of what is measured."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

USER = 65534
HERE = pathlib.Path(__file__).resolve().parent
GOALS = {
    "getppid": 0.15,
    "stat, read-only root": 0.6, "fstat, read-only root": 0.6, "open+close, read-only root": 0.6,
    "read 4 KiB, read-only root": 1.25,
    "stat, private layer": 0.8, "fstat, private layer": 0.8, "open+close, private layer": 0.8, "read 4 KiB, private layer": 0.6,
    "stat, granted folder": 6, "fstat, granted folder": 6, "open+close, granted folder": 6,
    "pipe ping-pong": 1.0, "fork+exit+wait": 1.5, "fork+exec+wait of /bin/true": 1.2, "posix_spawn from 1 GiB": 1.5,
    "python3 start": 1.3, "compile zlib-like C from a granted folder": 1.2, "cold start of /bin/true against bwrap": 0.7,
    "idle sandbox beyond the program, Private_Dirty MiB": 2.0,
}


class Bench:
    def __init__(self, build, rounds):
        self.bailey = str(build.resolve() / "bailey")
        self.micro = str(build.resolve() / "bench" / "micro")
        self.rounds = rounds
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="bailey-bench-", dir="/var/tmp"))
        self.scratch.chmod(0o777)
        # In memory, as sessions have it (pam_systemd(8)).
        shared = pathlib.Path("/dev/shm")
        self.runtime = pathlib.Path(tempfile.mkdtemp(prefix="bailey-bench-", dir=shared if shared.is_dir() else self.scratch))
        self.by_root = os.getuid() == 0
        if self.by_root:
            os.chown(self.runtime, USER, USER)
            # The saved ids are what lets us return; a program that we execute has none (execve(2)).
            os.setgroups([])
            os.setresgid(USER, USER, 0)
            os.setresuid(USER, USER, 0)
        self.env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(self.runtime), "HOME": "/nonexistent"}
        self.rows = []

    def become_root_again(self):
        if self.by_root:
            os.seteuid(0)

    def become_user_again(self):
        if self.by_root:
            os.seteuid(USER)

    def close(self):
        self.become_root_again()
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def run(self, argv, **keywords):
        return subprocess.run(argv, env=self.env, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, **keywords)

    def seconds(self, argv):
        start = time.perf_counter()
        subprocess.run(argv, env=self.env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    def row(self, name, unit, native, inside):
        ratio = inside / native if native else float("nan")
        goal = GOALS.get(name)
        verdict = "" if goal is None else f"goal {goal:g}" + ("" if ratio <= goal else "  MISSED")
        self.rows.append({"name": name, "unit": unit, "native": native, "bailey": inside, "ratio": ratio, "goal": goal})
        print(f"{name:46} {native:12.1f} {inside:12.1f} {unit:4} {ratio:8.3f}x  {verdict}", flush=True)

    def folder(self, name):
        path = self.scratch / name
        path.mkdir(exist_ok=True)
        return str(path)

    def microbenchmarks(self, names):
        private, granted = self.folder("private"), self.folder("granted")
        samples = {}
        for _ in range(self.rounds):
            for inside in (False, True):
                arguments = ["/usr/bin/env", "/tmp" if inside else private, granted] + names
                argv = [self.micro] + arguments
                if inside:
                    argv = [self.bailey, "run", "-v", f"{granted}:{granted}", "-v", f"{os.path.dirname(self.micro)}:/bench:ro", "/bench/micro"] + arguments
                for line in self.run(argv).stdout.splitlines():
                    name, value = line.split("\t")
                    samples.setdefault(name, ([], []))[inside].append(float(value))
        for name, (native, inside) in samples.items():
            self.row(name, "ns", statistics.median(native), statistics.median(inside))

    def alternating(self, name, unit, scale, native, inside, count, inner=1):
        """Medians of whole commands that take turns. Noise grows slowly on these machines; turns share it."""
        a, b = [], []
        for _ in range(count):
            a.append(self.seconds(native) * scale / inner)
            b.append(self.seconds(inside) * scale / inner)
        self.row(name, unit, statistics.median(a), statistics.median(b))

    def programs(self):
        loop = "i=0; while [ $i -lt 10 ]; do python3 -c pass; i=$((i+1)); done"
        self.alternating("python3 start", "ms", 1000, ["sh", "-c", loop], [self.bailey, "run", "sh", "-c", loop], 7, inner=10)
        source = pathlib.Path(self.folder("source"))
        for i in range(12):
            body = "\n".join(f"int f{i}_{k}(int *p, int n) {{ int s = 0; for (int j = 0; j < n; j++) s += p[j] * {k} ^ (s >> 3); return s; }}" for k in range(150))
            (source / f"part{i}.c").write_text(f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{body}\n")
        build = f"cd {source} && for f in part*.c; do gcc -O2 -c $f -o ${{f%.c}}.o || exit 1; done && ar rcs lib.a part*.o"
        self.alternating("compile zlib-like C from a granted folder", "s", 1, ["sh", "-c", build],
                         [self.bailey, "run", "-v", f"{source}:{source}", "sh", "-c", build], 3)

    def cold_start(self):
        if not shutil.which("bwrap"):
            print("cold start: bwrap is not installed; left out")
            return
        self.alternating("cold start of /bin/true against bwrap", "ms", 1000,
                         ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "/bin/true"], [self.bailey, "run", "/bin/true"], 41)

    def private_dirty(self, pids):
        total = 0
        for pid in pids:
            try:
                for line in open(f"/proc/{pid}/smaps_rollup"):
                    if line.startswith("Private_Dirty"):
                        total += int(line.split()[1])
            except OSError:
                pass
        return total / 1024

    def memory(self):
        native = subprocess.Popen(["sleep", "30"], env=self.env)
        sandbox = subprocess.Popen([self.bailey, "run", "sleep", "30"], env=self.env, stdin=subprocess.DEVNULL)
        time.sleep(1)
        tree, queue = [], [sandbox.pid]
        while queue:
            pid = queue.pop()
            tree.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                queue += [int(p) for p in task.read_text().split()]
        self.become_root_again() # to see into a sandbox
        own, all_of_it = self.private_dirty([native.pid]), self.private_dirty(tree)
        self.become_user_again()
        sandbox.terminate()
        native.terminate()
        sandbox.wait()
        native.wait()
        goal = GOALS["idle sandbox beyond the program, Private_Dirty MiB"]
        beyond = all_of_it - own
        print(f"{'idle sandbox (sleep): Private_Dirty':46} {own:12.2f} {all_of_it:12.2f} MiB  +{beyond:.2f} MiB in {len(tree)} processes  goal +{goal:g}"
              + ("" if beyond <= goal else "  MISSED"))
        self.rows.append({"name": "idle sandbox beyond the program, Private_Dirty MiB", "unit": "MiB", "native": own, "bailey": all_of_it, "ratio": beyond, "goal": goal})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the single operations (default 3, each a median of 11)")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=["micro", "programs", "start", "memory"], help="one part")
    parser.add_argument("names", nargs="*", help="single operations whose name holds one of these")
    options = parser.parse_args()
    bench = Bench(options.build, options.rounds)
    print(f"{'':46} {'native':>12} {'bailey':>12}      ratio")
    try:
        if options.only in (None, "micro"):
            bench.microbenchmarks(options.names)
        if options.only in (None, "programs") and not options.names:
            bench.programs()
        if options.only in (None, "start") and not options.names:
            bench.cold_start()
        if options.only in (None, "memory") and not options.names:
            bench.memory()
    finally:
        bench.close()
    if options.json:
        options.json.write_text(json.dumps(bench.rows, indent=1) + "\n")
    missed = [row["name"] for row in bench.rows if row["goal"] is not None and row["ratio"] > row["goal"]]
    print(f"{len(bench.rows)} figures, {len(missed)} goals missed" + (": " + "; ".join(missed) if missed else ""))


if __name__ == "__main__":
    sys.exit(main())
