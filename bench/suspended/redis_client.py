"""redis_client.py KEYS SIZE SECONDS: fills a server that it starts, then reads, writes, waits and publishes over connections that stay open all the time."""
import hashlib
import socket
import subprocess
import sys
import threading
import time

KEYS, SIZE, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
server = subprocess.Popen(["redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"], stdout=subprocess.DEVNULL)


class Client:
    def __init__(self):
        for _ in range(400):
            try:
                self.socket = socket.create_connection(("127.0.0.1", 6379))
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        raise SystemExit(f"the server said {line!r}")

    def __call__(self, *words):
        self.send(*words)
        return self.answer()


def value(key, generation=0):
    seed = hashlib.sha256(f"{key} {generation}".encode()).digest()
    return (seed * (SIZE // 32 + 1))[:SIZE]


problems = []


def check(what, got, wanted):
    if got != wanted:
        problems.append(f"{what}: {str(got)[:60]} instead of {str(wanted)[:60]}")


main = Client()
for start in range(0, KEYS, 500):
    batch = range(start, min(start + 500, KEYS))
    for key in batch:
        main.send("SET", f"key:{key}", value(key))
    for key in batch:
        check("set", main.answer(), b"OK")
print("ready", file=sys.stderr, flush=True)

end = time.monotonic() + SECONDS
written = {}


def work(number):
    client, i = Client(), 0
    while time.monotonic() < end or i < 300:
        key = (i * 7919 + number) % KEYS // 4 * 4 + number
        if key < KEYS:
            written[key] = i
            check("set again", client("SET", f"key:{key}", value(key, i)), b"OK")
            check("get", client("GET", f"key:{key}"), value(key, i))
        check("incr", client("INCR", f"counter:{number}"), i + 1)
        client("LPUSH", "queue", f"{number} {i}")
        i += 1
    counts[number] = i


received = []


def take():
    client = Client()
    while (item := client("BRPOP", "queue", 0)[1]) != b"end":
        received.append(item)


counts = {}
taker = threading.Thread(target=take)
taker.start()
workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
main("LPUSH", "queue", "end")
taker.join()
check("items of the queue", sorted(received), sorted(f"{n} {i}".encode() for n in counts for i in range(counts[n])))
check("keys", main("DBSIZE"), KEYS + 4)
for start in range(0, KEYS, 500):
    batch = range(start, min(start + 500, KEYS))
    for key in batch:
        main.send("GET", f"key:{key}")
    for key in batch:
        check(f"key {key}", main.answer(), value(key, written.get(key, 0)))
main.send("SHUTDOWN", "NOSAVE")
check("server", server.wait(), 0)
print("all keys", problems[:5])
