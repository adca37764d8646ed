"""Threads that compute, wait for each other, sleep and fill queues. The result depends on every step and on nothing else."""
import hashlib
import queue
import threading
import time

COUNT, ROUNDS = 12, 600
turns = [threading.Semaphore(0) for _ in range(COUNT)]
mail = [queue.Queue(4) for _ in range(COUNT)]
results = [b""] * COUNT
clock = []


def ring(number):
    """Each takes what its neighbour hands over, works on it and hands it on."""
    state = bytes([number]) * 4096
    for i in range(ROUNDS):
        mail[(number + 1) % COUNT].put(hashlib.sha256(state).digest())
        state = hashlib.sha512(state + mail[number].get()).digest() * 64  # without the interpreter's lock
        if i % 50 == number:
            time.sleep(0.01)
    results[number] = state


def watch_clock():
    before = time.monotonic()
    for _ in range(200):
        time.sleep(0.005)
        now = time.monotonic()
        if now < before + 0.005:
            clock.append(f"slept {now - before}")
        before = now


def sums():
    total = 0.0
    for i in range(1, 2_000_000):
        total += 1.0 / i / i
    results.append(repr(total).encode())


many = [threading.Thread(target=ring, args=(i,)) for i in range(COUNT)] + [threading.Thread(target=watch_clock), threading.Thread(target=sums)]
for thread in many:
    thread.start()
for thread in many:
    thread.join()
print(hashlib.sha256(b"".join(results)).hexdigest(), clock)
