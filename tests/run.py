#!/usr/bin/env python3
"""Runs all tests and ends with one line `N passed, N failed, N skipped`.

Kinds, each a folder:
  unit       the tests that meson knows (cmocka and the like)
  guest      ordinary Linux programs built from tests/guest/*.c: run natively first (a failure there is a failure of the test),
             then inside Bailey; both must exit 0
  programs   tests/programs/*.sh: scripts over real programs; the standard output and exit code inside must equal the native ones
  behaviour  tests/behaviour/*.sh: what the command line does; each exits 0, or 77 to skip with the reason as its last line, and leaves no process behind
  suspended  the guest and program tests once more, suspended, destroyed and resumed at random moments (tests/suspending.py), with a
             seed that is printed; without the tests that take minutes

Run by root, Bailey is run as an ordinary user (65534) except in `behaviour` tests, which choose for themselves."""

import argparse
import ctypes
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SKIP = 77
# Program tests that take minutes: left out of `suspended` unless it was asked for.
SLOW = ["python_own_tests"]


class Results:
    def __init__(self, verbose):
        self.passed, self.failed, self.skipped = 0, [], []
        self.verbose = verbose

    def record(self, name, problem=None, skip=None, seconds=0.0):
        if skip is not None:
            self.skipped.append(name)
            print(f"skip  {name}: {skip}", flush=True)
        elif problem is not None:
            self.failed.append(name)
            print(f"FAIL  {name} ({seconds:.1f} s): {problem}", flush=True)
        else:
            self.passed += 1
            if self.verbose:
                print(f"ok    {name} ({seconds:.1f} s)", flush=True)


PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """What tests leave behind becomes our child, so that it is seen, and ends with us."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def children():
    """Of ours, those that run: {process id: its arguments}. The others are reaped."""
    found = {}
    for process in map(int, pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        try:
            if os.waitpid(process, os.WNOHANG)[0] == 0:
                found[process] = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (ChildProcessError, FileNotFoundError):
            pass
    return found


def end_leftovers(grace=2.0):
    """Waits for what a test started to end, and ends what does not. Returns its arguments."""
    end, left = time.monotonic() + grace, children()
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = children()
    for process in left:
        os.kill(process, signal.SIGKILL)
    while children():  # also what these leave
        for process in children():
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return sorted(left.values())


def as_user(command):
    """The command as an ordinary user, when we are root."""
    if os.getuid() != 0:
        return command
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"] + command


def run(command, timeout, cwd, env):
    """Returns (exit code or None at the timeout, standard output, standard error)."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            out, err = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            # Children of its hold the pipes too.
            os.killpg(process.pid, signal.SIGKILL)
            try:
                out, err = process.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                out, err = b"", b"it leaves processes behind that hold its output"
        return None, out, err


def options_of(script):
    """What a script's line `# bailey: OPTIONS` adds to `bailey run`: what is root inside is compared with an ordinary user otherwise."""
    for line in script.read_text().splitlines():
        if line.startswith("# bailey: "):
            return line.split()[2:]
    return []


def tail(data, lines=3):
    return " | ".join(data.decode(errors="replace").strip().splitlines()[-lines:])


class Suite:
    def __init__(self, build, results, pattern, without, seed):
        self.build, self.results, self.pattern, self.seed = build.resolve(), results, pattern, seed
        self.lesser_host = [str(self.build / "tests" / "monitor" / f"no-{wall}") for wall in without]
        self.bailey = str(self.build / "bailey")
        self.native = {}  # outcomes of program tests
        self.announced = False  # the seed
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="bailey-tests-"))
        self.scratch.chmod(0o777)
        runtime = self.scratch / "runtime"
        runtime.mkdir(mode=0o700)
        if os.getuid() == 0:
            os.chown(runtime, 65534, 65534)
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": str(self.scratch / "no-home"),
                    "XDG_RUNTIME_DIR": str(runtime), "XDG_STATE_HOME": str(runtime), "BAILEY": self.bailey, "TERM": "xterm", "BUILD": str(self.build),
                    "SUSPEND_COUNT": str(self.scratch / "suspend-count")}

    def inside(self, name, suspended):
        """What runs a command of the test `name` in Bailey."""
        if suspended:
            if not self.announced:
                print(f"suspended/: seed {self.seed}; to repeat it: tests/run.py --suspend {self.seed}", flush=True)
            self.announced = True
            return [sys.executable, str(HERE / "suspending.py"), f"{self.seed} {name}", self.bailey]
        return self.lesser_host + [self.bailey]

    def wanted(self, name, only):
        return name == only if only else not self.pattern or self.pattern in name

    def folder(self, name):
        path = self.scratch / name.replace("/", "-")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o777)
        path.chmod(0o777)
        return path

    def unit(self, only):
        listing = subprocess.run(["meson", "test", "-C", str(self.build), "--list"], capture_output=True, text=True)
        for line in listing.stdout.splitlines():
            name = line.split(" / ")[-1].split(":")[-1].strip()
            if not name or line.startswith("ninja") or not self.wanted("unit/" + name, only):
                continue
            start = time.monotonic()
            done = subprocess.run(["meson", "test", "-C", str(self.build), "--no-rebuild", "--print-errorlogs", name],
                                  capture_output=True)
            skipped = b"Skipped:            1" in done.stdout
            self.results.record("unit/" + name, None if done.returncode == 0 else tail(done.stdout, 12),
                                "see the meson log" if skipped else None, time.monotonic() - start)

    def guest(self, only, kind="guest"):
        for program in sorted((self.build / "tests" / "guest").glob("*")):
            name = f"{kind}/{program.name}"
            if not program.is_file() or not os.access(program, os.X_OK) or not self.wanted(name, only):
                continue
            start = time.monotonic()
            work = self.folder(name)
            if kind == "guest":
                code, out, err = run(as_user([str(program)]), 60, work, self.env)
                if code == SKIP:
                    self.results.record(name, skip=tail(out + err, 1))
                    continue
                if code != 0:
                    self.results.record(name, f"fails natively ({code}): {tail(out + err)}")
                    continue
            command = self.inside(name, kind == "suspended") + ["run", "-v", f"{program.parent}:/tests:ro", "-w", "/tmp", f"/tests/{program.name}"]
            code, out, err = run(as_user(command), 90, work, self.env)
            problem = None
            if code == SKIP and kind == "suspended":
                self.results.record(name, skip=tail(out + err, 1))
                continue
            if code != 0:
                what = "hangs" if code is None else f"exit {code}"
                problem = f"inside: {what}: {tail(out + err)}"
            self.results.record(name, problem, seconds=time.monotonic() - start)

    def programs(self, only, kind="programs"):
        for script in sorted((HERE / "programs").glob("*.sh")):
            name = f"{kind}/{script.stem}"
            if not self.wanted(name, only) or (kind == "suspended" and script.stem in SLOW and not self.pattern):
                continue
            start = time.monotonic()
            outcomes = [self.native[script.stem]] if script.stem in self.native else []
            for inside in (False, True)[len(outcomes):]:
                work = self.folder(name + ("-inside" if inside else "-native"))
                shutil.copy(script, work / "script.sh")
                if os.getuid() == 0:
                    os.chown(work / "script.sh", 65534, 65534)
                command = ["/bin/sh", "./script.sh"]
                env = dict(self.env, HOME=str(work))
                if inside:
                    command = self.inside(name, kind == "suspended") + ["run", "-v", f"{work}:{work}", "-w", str(work), "-e", f"HOME={work}"] + options_of(script) + command
                outcomes.append(run(as_user(command), 600, work, env))
            (code, out, err), (inner_code, inner_out, inner_err) = outcomes
            if code == 0:
                self.native[script.stem] = outcomes[0]
            if code == SKIP:
                self.results.record(name, skip=tail(out + err, 1))
                continue
            problem = None
            if code != 0:
                problem = f"fails natively ({code}): {tail(out + err)}"
            elif inner_code is None:
                problem = f"hangs inside: {tail(inner_out + inner_err)}"
            elif inner_code != code:
                problem = f"exit {inner_code} inside, {code} natively: {tail(inner_out + inner_err)}"
            elif inner_out != out:
                a, b = out.decode(errors="replace").splitlines(), inner_out.decode(errors="replace").splitlines()
                line = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                problem = f"output differs at line {line + 1}: native {a[line:line + 1]}, inside {b[line:line + 1]}"
            self.results.record(name, problem, seconds=time.monotonic() - start)

    def suspended(self, only):
        self.guest(only, "suspended")
        self.programs(only, "suspended")
        counted = self.scratch / "suspend-count"
        if counted.exists() and not only:
            print(f"suspended and resumed {sum(map(int, counted.read_text().split()))} times", flush=True)

    def behaviour(self, only):
        for script in sorted((HERE / "behaviour").glob("*.sh")):
            name = "behaviour/" + script.stem
            if not self.wanted(name, only):
                continue
            start = time.monotonic()
            code, out, err = run(["/bin/sh", str(script)], 300, self.folder(name), self.env)
            if code == SKIP:
                self.results.record(name, skip=tail(out + err, 1))
            else:
                what = "hangs" if code is None else f"exit {code}"
                problem = None if code == 0 else f"{what}: {tail(out + err)}"
                left = end_leftovers()
                if left and not problem:
                    problem = f"leaves {len(left)} processes behind: {left[0][:120]}"
                self.results.record(name, problem, seconds=time.monotonic() - start)


def again(results, part):
    """Runs one kind of tests; what failed in it is run once more, since other load on the machine can make a wait too short. Both
    outcomes are printed."""
    before = len(results.failed)
    part(None)
    failed = results.failed[before:]
    del results.failed[before:]
    for name in failed:
        print(f"again {name}", flush=True)
        part(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--quiet", action="store_true", help="name only what failed or was skipped")
    parser.add_argument("--without", nargs="+", choices=["landlock", "namespaces"], default=[],
                        help="run the guest tests in Bailey as on a host that lacks these, and no others")
    parser.add_argument("--suspend", metavar="SEED", nargs="?", const=str(random.randrange(1 << 30)),
                        help="run the tests of the kind `suspended` with this seed, all of them and no others")
    parser.add_argument("pattern", nargs="?", help="only tests whose KIND/NAME holds this")
    options = parser.parse_args()
    adopt_orphans()
    # Tests expect what a terminal's shell gives, also under nohup or in the background of a script.
    for number in signal.valid_signals() - {signal.SIGPIPE}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    results = Results(not options.quiet)
    seed = options.suspend or str(random.randrange(1 << 30))
    if options.suspend is not None and not options.pattern:
        options.pattern = "suspended/"
    suite = Suite(options.build, results, options.pattern, options.without, seed)
    try:
        parts = [suite.unit, suite.guest, suite.programs, suite.suspended, suite.behaviour]
        if options.without:
            parts = [suite.guest]
        elif options.suspend is not None:
            parts = [suite.suspended]
        for part in parts:
            again(results, part)
    finally:
        end_leftovers(grace=0)
        shutil.rmtree(suite.scratch, ignore_errors=True)
    if results.failed:
        print("failed: " + " ".join(results.failed))
    print(f"{results.passed} passed, {len(results.failed)} failed, {len(results.skipped)} skipped")
    return 1 if results.failed else 0


sys.exit(main())
