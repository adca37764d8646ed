# A sandbox in the background of its terminal leaves the terminal to who is in the foreground; it takes it when it is brought there.
. "$(dirname "$0")/cli_support.inc"
exec python3 - <<'END'
import os, pty, re, select, signal, sys, termios, time

BAILEY = os.environ["BAILEY"]


def shell(commands):
    """Runs a shell of one command at the other end of a new terminal. Its pid, the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # as shells do
        os._exit(commands())
    return pid, terminal


def job(*words):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(BAILEY, [BAILEY, *words])
    os.setpgid(pid, pid)
    return pid


def settings():
    return termios.tcgetattr(0)


def say(text):
    os.write(1, text.encode() + b"\n")


def in_background():
    mine = settings()
    mine[3] &= ~termios.ECHO  # what a line editor does while it waits for a command
    termios.tcsetattr(0, termios.TCSANOW, mine)
    pid = job("run", "sh", "-c", "sleep 1; echo begun; sleep 1")
    time.sleep(0.7)
    if settings() != mine:
        say("changed at the start")
    theirs = settings()
    theirs[3] |= termios.ECHO  # the foreground's next program
    termios.tcsetattr(0, termios.TCSANOW, theirs)
    say(f"exit {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")
    if settings() != theirs:
        say("changed at the end")
    say("over")
    return 0


def brought_forward():
    before = settings()
    pid = job("run", "sh", "-c", "echo begun; read line; echo got $line; stty size >/dev/null && exit 4")
    time.sleep(0.7)
    os.tcsetpgrp(0, pid)
    for _ in range(100):
        if not settings()[3] & termios.ICANON:
            break
        time.sleep(0.05)
    else:
        say("not raw")
    say("forward")
    status = os.waitpid(pid, 0)[1]
    os.tcsetpgrp(0, os.getpgrp())
    say(f"exit {os.waitstatus_to_exitcode(status)}")
    say("changed" if settings() != before else "over")
    return 0


def expect(terminal, pattern):
    seen, end = "", time.monotonic() + 10
    while not re.search(pattern, seen):
        ready = select.select([terminal], [], [], max(0, end - time.monotonic()))[0]
        try:
            data = os.read(terminal, 65536) if ready else b""
        except OSError:
            data = b""
        if not data:
            sys.exit(f"expected {pattern!r}, saw {seen!r}")
        seen += data.decode(errors="replace")


pid, terminal = shell(in_background)
expect(terminal, r"^begun\s+exit 0\s+over")
os.waitpid(pid, 0)
pid, terminal = shell(brought_forward)
expect(terminal, r"(?s)(?=.*begun)(?=.*forward)")
os.write(terminal, b"typed\r")
expect(terminal, r"typed\s+got typed\s+exit 4\s+over")
os.waitpid(pid, 0)
END
