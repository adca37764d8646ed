# A full terminal that nobody reads keeps nobody: Bailey's commands end soon when they are told to. What was printed before is there when the terminal is read later.
. "$(dirname "$0")/cli_support.inc"
exec python3 - <<'END'
import os, pty, signal, subprocess, sys, time

BAILEY = os.environ["BAILEY"]
SOON = 5


def start(*words):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(BAILEY, [BAILEY, *words])
    os.read(terminal, 1)
    time.sleep(0.7)  # by now it is full
    return pid, terminal


def end_within(seconds, pid):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def check(number, expected, *words):
    pid, terminal = start(*words)
    os.kill(pid, number)
    got = end_within(SOON, pid)
    if got not in expected:
        sys.exit(f"{words}, signal {number}: exit {got}, expected {expected}")
    os.close(terminal)


for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    check(number, (128 + number,), "run", "yes")
    check(number, (128 + number,), "run", "-t=false", "yes")

# The sandbox is told so by another command.
pid, terminal = start("run", "--name", "told", "yes")
subprocess.run([BAILEY, "kill", "told"], check=True, stdout=subprocess.DEVNULL)
if end_within(SOON, pid) != 137:
    sys.exit("run: does not end when it is killed")
os.close(terminal)

subprocess.run([BAILEY, "run", "-dt", "--name", "box", "sh", "-c", "read word; exec yes"], check=True, stdout=subprocess.DEVNULL)
for number in (signal.SIGTERM, signal.SIGHUP):
    check(number, (128 + number, -number), "exec", "-t", "box", "yes")
pid, terminal = pty.fork()
if pid == 0:
    os.execv(BAILEY, [BAILEY, "attach", "box"])
time.sleep(0.3)
os.write(terminal, b"go\n")
time.sleep(1)
os.kill(pid, signal.SIGTERM)
if end_within(SOON, pid) not in (143, -15):
    sys.exit("attach: does not end on SIGTERM")
subprocess.run([BAILEY, "rm", "-f", "box"], check=True, stdout=subprocess.DEVNULL)

# Nobody told it to end: it waits for its reader, and all arrives.
pid, terminal = start("run", "sh", "-c", "seq 20000; exit 3")
time.sleep(1.5)
if os.waitpid(pid, os.WNOHANG)[0]:
    sys.exit("ended before its output was taken")
seen = b""
while not seen.endswith(b"\n20000\r\n"):
    seen += os.read(terminal, 65536)
if end_within(SOON, pid) != 3:
    sys.exit("does not end after its output was taken")
END
