# Terminals: a shell with job control, in the foreground, by exec and by attach; sizes follow; the user's terminal is given back.
. "$(dirname "$0")/cli_support.inc"
exec python3 - <<'END'
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time

BAILEY = os.environ["BAILEY"]


class Session:
    def __init__(self, *words):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(BAILEY, [BAILEY, *words])
        self.resize(24, 80)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.terminal, text.encode())

    def expect(self, pattern, timeout=10):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            try:
                data = os.read(self.terminal, 65536) if ready else b""
            except OSError:
                data = b""
            if not data:
                sys.exit(f"expected {pattern!r}, saw {self.seen!r}")
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[re.search(pattern, self.seen).end():]

    def end(self, status):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                if select.select([self.terminal], [], [], 0)[0]:
                    os.read(self.terminal, 65536)
            except OSError:
                pass
            pid, got = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if os.waitstatus_to_exitcode(got) != status:
                    sys.exit(f"exit {os.waitstatus_to_exitcode(got)}, expected {status}")
                return
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        sys.exit("does not end")


def check_shell(session):
    session.expect(r"# $")
    session.type("tty; stty size\n")
    session.expect(r"/dev/pts/\d+\s+24 80")
    session.resize(40, 100)
    time.sleep(0.3)
    session.type("stty size\n")
    session.expect("40 100")
    session.type("sleep 100\n")
    time.sleep(0.5)
    session.type("\x03")
    session.expect(r"# $")
    session.type("sleep 100\n")
    time.sleep(0.5)
    session.type("\x1a")
    session.expect("Stopped")
    session.type("jobs -p | wc -l; kill %1\n")
    session.expect(r"[\r\n]1\s")


shell = Session("run", "bash", "--norc")
check_shell(shell)
shell.type("exit 3\n")
shell.end(3)

sleeper = Session("run", "sleep", "100")
time.sleep(0.7)
sleeper.type("\x03")
sleeper.end(130)

# Without a terminal for the program, Ctrl-C is a signal for it all the same.
sleeper = Session("run", "-t=false", "sleep", "100")
time.sleep(0.7)
sleeper.type("\x03")
sleeper.end(130)

subprocess.run([BAILEY, "run", "-dt", "--name", "box", "bash", "--norc"], check=True, stdout=subprocess.DEVNULL)
attached = Session("attach", "box")
attached.type("\n")
attached.expect(r"# $")
attached.type("echo $((6 * 7)); variable=kept\n")
attached.expect("42")
attached.type("\x10\x11")
attached.end(0)
inside = Session("exec", "box", "bash", "--norc")
check_shell(inside)
inside.type("exit 4\n")
inside.end(4)
again = Session("attach", "box")
again.type("echo still $variable\n")
again.expect("still kept")
again.type("exit 5\n")
again.end(5)
subprocess.run([BAILEY, "rm", "box"], check=True, stdout=subprocess.DEVNULL)

# The terminal is as it was, whatever happened in between.
outer, inner = pty.openpty()
before = termios.tcgetattr(inner)
program = subprocess.Popen([BAILEY, "run", "bash", "--norc"], stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
time.sleep(0.7)
if termios.tcgetattr(inner)[3] & termios.ICANON:
    sys.exit("not in raw mode")
os.write(outer, b"exit\n")
end = time.monotonic() + 10
while program.poll() is None and time.monotonic() < end:
    if select.select([outer], [], [], 0.05)[0]:
        os.read(outer, 65536)
if termios.tcgetattr(inner) != before:
    sys.exit("the terminal was not given back")
END
