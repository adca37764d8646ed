#!/usr/bin/env python3
"""Real programs, suspended to files and resumed at random moments; what comes of them must be what comes of an uninterrupted run.

Each program of bench/suspended/ prints its outcome at its end. While it runs it is, at random,
  suspended and resumed from the file,
  copied to a file while it runs on (--keep-running); the copy is resumed beside it and must end the same way,
  cloned; so must the clone.
The seed is printed. --cycles N goes on with the mixed workload until it has been suspended and resumed N times.
Terminal programs (bash with jobs, vim, nano, htop, tmux) are typed to and looked at: bench/suspend-terminals.py."""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from run import HERE, Bench

PROGRAMS = HERE / "suspended"
WAIT = 300


class Failed(Exception):
    pass


class Outcome:
    """A sandbox in the foreground: its output so far, also that of the ones it was resumed as."""

    def __init__(self, bench, name, arguments, log):
        self.bench, self.name, self.log = bench, name, log
        log.write_bytes(b"")
        self.start(arguments)

    def start(self, arguments):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([self.bench.bailey, *arguments], env=self.bench.env, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, preexec_fn=lambda: os.nice(5))

    def ended_within(self, seconds):
        try:
            self.process.wait(max(0, seconds))
            return True
        except subprocess.TimeoutExpired:
            return False

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def outcome(self):
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if not line.startswith("bailey: ") or " suspended to " not in line]
        return self.process.returncode, "\n".join(line for line in lines if line != "ready")


class Programs(Bench):
    def __init__(self, build, seed, folder):
        super().__init__(build, 1)
        self.seed, self.count = seed, 0
        self.env["XDG_STATE_HOME"] = self.env["XDG_RUNTIME_DIR"]
        self.images = pathlib.Path(tempfile.mkdtemp(prefix="bailey-bench-", dir=folder or self.scratch))

    def call(self, *arguments):
        return subprocess.run([self.bailey, *arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT)

    def must(self, *arguments):
        done = self.call(*arguments)
        if done.returncode:
            raise Failed(f"bailey {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def new_name(self, label):
        self.count += 1
        return f"{label}-{self.count}"

    def begin(self, label, command, options=()):
        name = self.new_name(label)
        return Outcome(self, name, ["run", "--name", name, "-v", f"{PROGRAMS}:/programs:ro", *options, *command], self.scratch / f"{name}.log")

    def runs(self, name):
        return f'"{name}"' in self.call("ps", "--json").stdout

    def wait_until_it_runs(self, run):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline and run.process.poll() is None:
            if self.runs(run.name):
                return
            time.sleep(0.002)

    def cycle(self, run):
        """False: it had ended."""
        image = self.images / f"{run.name}.bailey"
        done = self.call("suspend", run.name, "-o", str(image))
        if done.returncode:
            if run.ended_within(3):
                return False
            raise Failed(f"suspend: {done.stderr.strip()}")
        if not run.ended_within(30):
            raise Failed("the suspended one does not end")
        if run.process.returncode:
            raise Failed(f"the suspended one: exit {run.process.returncode}")
        run.start(["resume", str(image), "--name", run.name])
        self.wait_until_it_runs(run)
        image.unlink(missing_ok=True)
        return True

    def snapshot(self, run):
        """A copy made while it runs on, resumed in the foreground; None: it had ended."""
        name = self.new_name("snapshot")
        image = self.images / f"{name}.bailey"
        done = self.call("suspend", run.name, "-o", str(image), "--keep-running")
        if done.returncode:
            if run.ended_within(3):
                return None
            raise Failed(f"suspend --keep-running: {done.stderr.strip()}")
        twin = Outcome(self, name, ["resume", str(image), "--name", name], self.scratch / f"{name}.log")
        self.wait_until_it_runs(twin)
        image.unlink()
        return twin

    def clone(self, run):
        name = self.new_name("clone")
        done = self.call("clone", run.name, "--name", name)
        if done.returncode:
            if run.ended_within(3):
                return None
            raise Failed(f"clone: {done.stderr.strip()}")
        return done.stdout.strip()

    def check_same(self, what, got, wanted):
        if got != wanted:
            raise Failed(f"{what} ends otherwise: exit {got[0]}, {got[1][-1500:]!r} instead of {wanted[0]}, {wanted[1][-600:]!r}")

    def check_clone(self, name, wanted):
        waited = self.call("wait", name)
        log = self.call("logs", name)
        self.call("rm", "-f", name)
        text = "\n".join(line for line in (log.stdout + log.stderr).strip().splitlines() if line != "ready")
        self.check_same("a clone", (int(waited.stdout.strip() or -1), text), wanted)

    def plain(self, label, command, options):
        start = time.monotonic()
        run = self.begin(label, command, options)
        if not run.ended_within(WAIT):
            run.kill()
            raise Failed("the uninterrupted run does not end")
        outcome = run.outcome()
        if outcome[0]:
            raise Failed(f"the uninterrupted run: exit {outcome[0]}: {outcome[1][-500:]}")
        return outcome, time.monotonic() - start

    def interrupted(self, label, command, options, wanted, mean, copies):
        """Returns how often it was suspended and resumed, and copied."""
        chance = random.Random(f"{self.seed} {label}")
        run, twins, clones, cycles = self.begin(label, command, options), [], [], 0
        try:
            deadline = time.monotonic() + WAIT
            time.sleep(0.05)
            while not run.ended_within(0.02 + chance.expovariate(1 / mean)):
                if time.monotonic() > deadline:
                    raise Failed("does not end")
                kind = chance.random()
                if kind < 0.2 and len(twins) < copies:
                    if not (twin := self.snapshot(run)):
                        break
                    twins.append(twin)
                elif kind < 0.4 and len(clones) < copies:
                    if not (name := self.clone(run)):
                        break
                    clones.append(name)
                elif not self.cycle(run):
                    break
                else:
                    cycles += 1
            run.process.wait()
            self.check_same(f"after {cycles} cycles it", run.outcome(), wanted)
            for twin in twins:
                if not twin.ended_within(WAIT):
                    raise Failed(f"a snapshot ({twin.name}) does not end")
                self.check_same("a snapshot", twin.outcome(), wanted)
            for name in clones:
                self.check_clone(name, wanted)
            return cycles, len(twins), len(clones)
        finally:
            run.kill()
            for twin in twins:
                twin.kill()
            for name in clones:
                self.call("rm", "-f", name)

    def show(self, label, command, options=(), copies=1, wanted_cycles=8):
        try:
            wanted, seconds = self.plain(label, command, options)
            counts = self.interrupted(label, command, options, wanted, seconds / wanted_cycles, copies)
            row = {"name": label, "met": True, "seconds": seconds, "suspended": counts[0], "snapshots": counts[1], "clones": counts[2]}
            print(f"{label:12} {seconds:5.1f} s  suspended and resumed {counts[0]:3} times, {counts[1]} snapshots, {counts[2]} clones: the same outcome", flush=True)
        except (Failed, subprocess.TimeoutExpired) as error:
            row = {"name": label, "met": False, "problem": str(error)}
            print(f"{label:12} FAILED: {error}", flush=True)
        self.rows.append(row)


def mixed(bench, cycles, guest):
    """The parts of the mixed workload beside each other, until it has been suspended and resumed so often. Returns whether all was as it must be."""
    folder = bench.scratch / "mixed"
    folder.mkdir()
    options = ("-v", f"{guest}:/guest:ro", "-v", f"{folder}:/stop:ro")
    wanted, _ = bench.plain("mixed", ["sh", "/programs/mixed.sh", "once"], options)
    (folder / "wanted").write_text(wanted[1] + "\n")
    chance, done, start = random.Random(f"{bench.seed} mixed"), 0, time.monotonic()
    run = bench.begin("mixed", ["sh", "/programs/mixed.sh", "/stop/stop", "/stop/wanted"], options)
    try:
        while done < cycles and not run.ended_within(0.02 + chance.expovariate(1 / 0.3)):
            if not bench.cycle(run):
                break
            done += 1
            said = run.outcome()[1]
            if "DIFFERENCE" in said:
                break
            if done % 25 == 0:
                print(f"mixed: {done} cycles, {time.monotonic() - start:.0f} s", flush=True)
        (folder / "stop").touch()
        ended = run.ended_within(WAIT)
        code, said = run.outcome()
        rounds = sum(int(line.split()[1]) for line in said.splitlines() if line.endswith(" rounds"))
        good = ended and code == 0 and "DIFFERENCE" not in said and done >= cycles
        print(f"mixed: {done} suspends and resumes, {rounds} rounds of the parts" + (": no difference" if good else f": FAILED, exit {code}, {said[-3000:]}"), flush=True)
    except Failed as error:
        good = False
        print(f"mixed: FAILED after {done} suspends and resumes: {error}; {run.outcome()[1][-2000:]}", flush=True)
    finally:
        run.kill()
    return good


def programs(options):
    redis = ["256", "3"] if options.small else ["4096", "10"]
    listed = {
        "threads": (["python3", "/programs/threads.py"], ()),
        "redis": (["python3", "/programs/redis_client.py", "4000" if options.small else str(1 << 18), *redis], ()),
        "node": (["node", "/programs/node.js"], ()),
        "java": (["java", "-Xmx256m", "/programs/Work.java"], ()),
        "pipeline": (["sh", "/programs/pipeline.sh"], ()),
        "postgres": (["sh", "/programs/postgres.sh", "4" if options.small else "15"], ("--user", "1000")),
        "sqlite": (["python3", "/programs/sqlite.py"], ()),
        "perl": (["perl", "/programs/perl.pl"], ()),
        "go": (["sh", "/programs/go.sh"], ()),
    }
    if options.source:
        listed["make"] = (["sh", "/programs/make.sh", "/source"], ("-v", f"{options.source.resolve()}:/source:ro"))
    return listed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--seed", default=str(random.randrange(1 << 30)))
    parser.add_argument("--small", action="store_true", help="little data, for tests")
    parser.add_argument("--copies", type=int, default=1, help="snapshots and clones of each run, at most")
    parser.add_argument("--times", type=int, default=8, help="about how often each run is interrupted")
    parser.add_argument("--source", type=pathlib.Path, help="a source tree with configure, as of zlib, for make -j2")
    parser.add_argument("--images", type=pathlib.Path, help="folder for the images (default: with the rest in /var/tmp)")
    parser.add_argument("--cycles", type=int, help="only the mixed workload, until it has been suspended and resumed so often")
    parser.add_argument("only", nargs="*", metavar="PROGRAM")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    bench = Programs(options.build, options.seed, options.images)
    try:
        if options.cycles:
            return 0 if mixed(bench, options.cycles, options.build.resolve() / "tests" / "guest") else 1
        for label, (command, arguments) in programs(options).items():
            if options.only and label not in options.only:
                continue
            if not shutil.which(command[0]):
                print(f"{label:12} left out: {command[0]} is not installed", flush=True)
                continue
            bench.show(label, command, arguments, options.copies, options.times)
    finally:
        bench.close()
        shutil.rmtree(bench.images, ignore_errors=True)
    failed = [row["name"] for row in bench.rows if not row["met"]]
    print(f"{len(bench.rows)} programs, {len(failed)} failed" + (": " + " ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
