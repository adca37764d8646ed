# python3: json, threads, subprocess, sockets on loopback, mmap, multiprocessing, sqlite.
set -eu
python3 - <<'EOT'
import json, threading, subprocess, socket, mmap, os, tempfile, hashlib, sqlite3, signal, time, multiprocessing, select, sys
print(json.dumps({"a": [1, 2.5, None, "é"]}, sort_keys=True))
total = [0]; lock = threading.Lock()
def work(n):
    for i in range(2000):
        with lock: total[0] += n
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(total[0])
print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 5"], capture_output=True))
server = socket.create_server(("127.0.0.1", 0))
def serve():
    c, _ = server.accept()
    data = b""
    while chunk := c.recv(65536): data += chunk
    c.sendall(hashlib.sha256(data).hexdigest().encode()); c.close()
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(server.getsockname()); c.sendall(b"x" * 1000000); c.shutdown(socket.SHUT_WR)
print(c.recv(100).decode()); t.join()
with tempfile.TemporaryFile() as f:
    f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0); m[1000:1005] = b"hello"; f.seek(1000); print(f.read(5))
db = sqlite3.connect("x.db"); db.execute("create table t(a, b)"); db.executemany("insert into t values (?, ?)", [(i, i * i) for i in range(1000)]); db.commit()
print(db.execute("select sum(b) from t where a % 7 = 0").fetchone())
with multiprocessing.Pool(3) as pool: print(sum(pool.map(abs, range(-100, 0))))
r, w = os.pipe(); signal.signal(signal.SIGALRM, lambda *a: os.write(w, b"!")); signal.setitimer(signal.ITIMER_REAL, 0.05)
print(select.select([r], [], [], 5)[0] == [r])
pid = os.fork()
if pid == 0: os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
EOT
