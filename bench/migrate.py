#!/usr/bin/env python3
"""Moves redis with a gigabyte of data, under a steady write load, between two monitors of this machine, and prints how long it stood still.

The client runs inside, over the sandbox's own loopback, and logs each write that redis acknowledged; when the move is over it compares all
that it wrote with what redis has. Goal: at most 50 ms of standing still beyond the transfer of the last round.

With --lazy: also how long until all memory was there.

Usage: bench/migrate.py [--build build] [--lazy] [--size MIB] [--rate WRITES_A_SECOND] [--rounds N]"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

USER = 65534
INSIDE = r'''
import random, socket, subprocess, sys, time
SIZE, RATE = int(sys.argv[1]), int(sys.argv[2])
server = subprocess.Popen(["redis-server", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--port", "6379"],
                          stdout=subprocess.DEVNULL)
class Redis:
    def __init__(self):
        for attempt in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", 6379))
                break
            except OSError:
                time.sleep(0.1)
        self.input = self.socket.makefile("rb")
    def ask(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        line = self.input.readline()
        if line[:1] == b"$":
            size = int(line[1:])
            return self.input.read(size + 2)[:-2] if size >= 0 else None
        if line[:1] == b"-":
            raise RuntimeError(line.decode())
        return line[1:-2]
redis = Redis()
keys = SIZE * 256
redis.ask("DEBUG", "POPULATE", keys, "key", 4000)
choose, log, count, worst = random.Random(7), {}, 0, 0.0
print("loaded", redis.ask("DBSIZE").decode(), flush=True)
begin = last = time.monotonic()
told = begin
stop = None
while True:
    key = "key:%d" % choose.randrange(keys)
    value = b"%020d" % count * 50
    if redis.ask("SET", key, value) != b"OK" or int(redis.ask("INCR", "counter")) != count + 1:
        print("WRONG: a write was lost or done twice", flush=True)
    log[key] = value
    count += 1
    now = time.monotonic()
    worst, last = max(worst, now - last), now
    if now - told > 1:
        told = now
        generation = int(open("/run/bailey/generation").read() or 0)
        if generation and stop is None:
            stop = now + 1
        print("writes", count, "worst gap %.1f ms" % (worst * 1e3), "generation", generation, flush=True)
    if stop and now > stop:
        break
    ahead = begin + count / RATE - now
    if ahead > 0:
        time.sleep(ahead)
    elif ahead < -0.1:
        begin = now - count / RATE
wrong = sum(redis.ask("GET", key) != value for key, value in log.items())
print("checked", len(log), "keys of", redis.ask("DBSIZE").decode(), "wrong", wrong, "writes", count, "worst gap %.1f ms" % (worst * 1e3), flush=True)
time.sleep(600)
'''


class Side:
    """A user's state folder: that of another machine."""

    def __init__(self, bailey, folder):
        self.bailey = bailey
        folder.mkdir(mode=0o700)
        self.env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(folder), "HOME": "/nonexistent"}

    def start(self, *words, **keywords):
        return subprocess.Popen([self.bailey, *words], env=self.env, text=True, **keywords)

    def run(self, *words):
        result = subprocess.run([self.bailey, *words], env=self.env, text=True, capture_output=True, timeout=600)
        if result.returncode:
            sys.exit(f"bailey {words[0]}: {result.stderr}")
        return result.stdout


def wait_for(side, word, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in side.run("logs", "redis").splitlines():
            if line.startswith(word):
                return line
        time.sleep(0.2)
    sys.exit(f"it never says {word}: {side.run('logs', 'redis')[-500:]}")


def move(bailey, scratch, size, rate, lazily):
    here, there = Side(bailey, scratch / "here"), Side(bailey, scratch / "there")
    key = str(scratch / "key")
    here.run("migrate", "--new-key", key)
    here.run("run", "-d", "--name", "redis", "--memory", "8g", "python3", "-u", "-c", INSIDE, str(size), str(rate))
    receiver = there.start("receive", "127.0.0.1:0", "--key", key, "--once", "--directory", str(scratch), stderr=subprocess.PIPE,
                           stdout=subprocess.DEVNULL)
    address = receiver.stderr.readline().rsplit(" ", 1)[1].strip()
    try:
        wait_for(here, "writes", 120)
        time.sleep(1)
        figures = json.loads(here.run("migrate", "redis", address, "--key", key, "--json", *(["--lazy"] if lazily else [])))
        figures["inside"] = wait_for(there, "checked", 120)
        figures["before"] = [line for line in there.run("logs", "redis").splitlines() if line.startswith("WRONG")]
    finally:
        receiver.kill()
        for side in (here, there):
            subprocess.run([bailey, "rm", "-f", "redis"], env=side.env, capture_output=True)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--lazy", action="store_true", help="its memory follows it")
    parser.add_argument("--size", type=int, default=1024, help="MiB of values")
    parser.add_argument("--rate", type=int, default=2000, help="writes a second")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bailey = str(pathlib.Path(arguments.build).resolve() / "bailey")
    if not shutil.which("redis-server"):
        sys.exit("redis-server is not installed")
    shared = pathlib.Path("/dev/shm")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bailey-bench-", dir=shared if shared.is_dir() else None))
    if os.getuid() == 0:
        os.chown(scratch, USER, USER)
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    try:
        for number in range(arguments.rounds):
            folder = scratch / str(number)
            folder.mkdir()
            figures = move(bailey, folder, arguments.size, arguments.rate, arguments.lazy)
            if arguments.lazy:
                print(f"it stood still {figures['pause_us'] / 1e3:.1f} ms; all {figures['memory'] / 2**20:.0f} MiB were there after "
                      f"{figures['total_us'] / 1e6:.2f} s; inside: {figures['inside']}{' '.join(figures['before'])}", flush=True)
                continue
            beyond = figures["pause_us"] - figures["last_write_us"]
            print(f"{figures['memory'] / 2**20:.0f} MiB in {figures['total_us'] / 1e6:.2f} s, {figures['rounds']} rounds while it ran; it stood still "
                  f"{figures['pause_us'] / 1e3:.1f} ms, {beyond / 1e3:.1f} beyond the last round's {figures['last_size'] / 2**20:.1f} MiB "
                  f"(goal 50); inside: {figures['inside']}{' '.join(figures['before'])}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
