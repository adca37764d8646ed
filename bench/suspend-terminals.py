#!/usr/bin/env python3
"""Programs of a terminal, suspended and resumed while one works with them: bash with jobs, vim, nano, htop, tmux.

What is on the screen is what a terminal would show (pyte). Every step is followed by a suspend and resume of the sandbox, with the same
terminal; after it the program must have drawn its screen anew and go on with what is typed."""

import argparse
import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

from run import HERE, Bench

ROWS, COLUMNS = 24, 80


class Failed(Exception):
    pass


class Terminal:
    def __init__(self, bench, name, command, pyte):
        self.bench, self.name, self.pyte = bench, name, pyte
        self.cycles = 0
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.settings = termios.tcgetattr(self.slave)
        self.new_screen()
        self.start("run", "-it", "--name", name, "-e", "TERM=xterm", "-e", "HOME=/tmp", "-w", "/tmp", *command)

    def new_screen(self):
        self.screen = self.pyte.Screen(COLUMNS, ROWS)
        self.stream = self.pyte.ByteStream(self.screen)

    def start(self, *words):
        def child():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([self.bench.bailey, *words], env=self.bench.env, stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=child)

    def drain(self, seconds):
        end = time.monotonic() + seconds
        while select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
            # What pyte does not know of xterm's answers and modes is no text either.
            data = re.sub(rb"\x1b\[[>?][0-9;]*[a-zA-Z]|\x1bP[^\x1b]*\x1b\\", lambda m: m.group() if m.group()[-1:] in b"hl" else b"", os.read(self.master, 65536))
            self.stream.feed(data)

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def type(self, keys):
        os.write(self.master, keys.encode())

    def expect(self, pattern, seconds=15):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text(), re.M):
            if time.monotonic() > end:
                raise Failed(f"{pattern!r} does not appear; the screen is\n{self.text()}")
            self.drain(0.05)

    def cycle(self):
        """Suspends and resumes it, on an empty screen."""
        image = self.bench.scratch / f"{self.name}.bailey"
        done = self.bench.call("suspend", self.name, "-o", str(image))
        if done.returncode:
            raise Failed(f"suspend: {done.stderr.strip()}")
        self.ends(0)
        if termios.tcgetattr(self.slave)[:4] != self.settings[:4]:
            raise Failed("the terminal is not given back as it was")
        self.new_screen()
        self.start("resume", str(image), "--name", self.name)
        deadline = time.monotonic() + 20
        while f'"{self.name}"' not in self.bench.call("ps", "--json").stdout:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise Failed(f"it does not go on:\n{self.text()}")
        image.unlink()
        self.cycles += 1

    def ends(self, status):
        end = time.monotonic() + 20
        while self.process.poll() is None:
            if time.monotonic() > end:
                raise Failed(f"does not end:\n{self.text()}")
            self.drain(0.02)
        self.drain(0.05)
        if self.process.returncode != status:
            raise Failed(f"exit {self.process.returncode}, not {status}:\n{self.text()}")

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


# ---- What is done with each. `cycle` after each step. ----

PROMPT = ["bash", "--norc", "--noprofile", "-c", "PS1='ready> ' exec bash --norc --noprofile -i"]


def bash_with_vim(t):
    t.expect("ready>")
    t.type("(while [ ! -e stop ]; do sleep 0.1; done; echo background ended) &\n")
    t.expect(r"\[1\]")
    t.cycle()
    t.type("jobs\n")
    t.expect(r"Running")
    t.type("sleep 1000\n")
    time.sleep(0.3)
    t.type("\x1a")
    t.expect(r"\[2\]\+\s+Stopped")
    t.cycle()
    t.type("jobs; clear\n")
    t.expect(r"ready>$")
    t.type("vim -u NONE -N file\n")
    t.expect(r"file.*\[New|~\n~")
    t.type("ione line\rtwo lin")
    t.expect("two lin")
    t.cycle()
    t.expect(r"one line\n+two lin\n~")  # drawn anew
    t.type("es\rthree\x1b")  # still inserting
    t.expect("two lines\nthree")
    t.cycle()
    t.expect("one line\ntwo lines\nthree")
    t.type("ggyyGp")
    t.expect("three\none line")
    t.cycle()
    t.type("u")
    t.expect("three\n~")
    t.type(":w\r")
    t.expect("written")
    t.type("\x1a")
    t.expect(r"\[3\]\+\s+Stopped.*vim")
    t.cycle()
    t.type("clear; jobs\n")
    t.expect(r"\[1\]\s+Running(.*\n)*\[2\]-\s+Stopped(.*\n)*\[3\]\+\s+Stopped")
    t.type("fg\n")
    t.expect("one line\ntwo lines\nthree\n~")
    t.cycle()
    t.expect("one line\ntwo lines\nthree\n~")
    t.type("Gofour\x1b:wq\r")
    t.expect("ready>$")
    t.type("clear; cat file | tr '\\n' '_'; kill %2; touch stop\n")
    t.expect("one line_two lines_three_four_")
    t.cycle()
    t.type("\n\n")
    t.expect("background ended")
    t.type("wait; clear; jobs; echo no jobs\n")
    t.expect("^no jobs")
    t.type("exit 5\n")
    t.ends(5)


def nano(t):
    t.expect("ready>")
    t.type("nano text\n")
    t.expect("GNU nano")
    t.type("hello wor")
    t.expect("hello wor")
    t.cycle()
    t.expect(r"GNU nano(.*\n)+hello wor")
    t.type("ld")
    t.cycle()
    t.expect("hello world")
    t.type("\x0f\r")
    t.expect("Wrote 1 line")
    t.type("\x18")
    t.expect("ready>$")
    t.type("clear; cat text; exit\n")
    t.expect("^hello world")
    t.ends(0)


def htop(t):
    t.expect("ready>")
    t.type("htop\n")
    t.expect("Tasks(.*\n)+.*htop")
    for _ in range(4):
        t.cycle()
        t.expect("Tasks(.*\n)+.*htop")
    t.type("q")
    t.expect("ready>$")
    t.type("exit 0\n")
    t.ends(0)


def tmux(t):
    t.expect("ready>")
    t.type("tmux -f /dev/null new-session 'PS1=left\\>\\  bash --norc --noprofile'\n")
    t.expect("left>")
    t.cycle()
    t.expect(r"left>(.*\n)*\[0\]")
    t.type("\x02%")
    t.expect("│")
    t.type("echo in the second\n")
    t.expect("│.*in the second")
    t.cycle()
    t.expect("│.*in the second")
    t.type("\x02o")
    t.type("echo in the first; seq 3\n")
    t.expect("^in the first")
    t.cycle()
    t.expect("^in the first")
    t.type("\x02d")
    t.expect("detached")
    t.cycle()
    t.type("clear; tmux ls; tmux attach\n")
    t.expect("^in the first")
    t.cycle()
    t.type("\x02:")
    t.expect("^:")
    t.type("kill-server\r")
    t.expect("ready>$")
    t.type("exit 0\n")
    t.ends(0)


PROGRAMS = {"bash, vim": (bash_with_vim, "vim"), "nano": (nano, "nano"), "htop": (htop, "htop"), "tmux": (tmux, "tmux")}


class Terminals(Bench):
    def call(self, *arguments):
        return subprocess.run([self.bailey, *arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    def show(self, label, script, pyte):
        terminal = Terminal(self, f"terminal-{len(self.rows)}", PROMPT, pyte)
        problem = None
        try:
            script(terminal)
        except Failed as failed:
            problem = str(failed)
        finally:
            terminal.close()
        self.rows.append({"name": label, "met": problem is None})
        print(f"{label:12} " + (f"FAILED after {terminal.cycles} cycles: {problem}" if problem else f"suspended and resumed {terminal.cycles} times: screen, jobs and files are right"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("only", nargs="*", metavar="PROGRAM")
    options = parser.parse_args()
    try:
        import pyte
    except ImportError:
        print("left out: there is no pyte (Debian: python3-pyte)")
        return 77
    bench = Terminals(options.build, 1)
    bench.env["XDG_STATE_HOME"] = bench.env["XDG_RUNTIME_DIR"]
    try:
        for _ in range(options.rounds):
            for label, (script, program) in PROGRAMS.items():
                if options.only and program not in options.only:
                    continue
                if not shutil.which(program):
                    print(f"{label:12} left out: {program} is not installed")
                    continue
                bench.show(label, script, pyte)
    finally:
        bench.close()
    failed = [row["name"] for row in bench.rows if not row["met"]]
    print(f"{len(bench.rows)} programs, {len(failed)} failed" + (": " + "; ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
