# A program that draws on the whole screen leaves the user's terminal as it was when it is suspended, detached from or killed, and draws its screen
# anew where it goes on, whatever it is.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
TERM=xterm-256color
export XDG_STATE_HOME TERM
cat >drive.py <<'END'
import fcntl, os, pty, re, select, shutil, signal, struct, subprocess, sys, termios, time
BAILEY = os.environ["BAILEY"]
ALTERNATE, PASTE = {47, 1047, 1049}, 2004

class Terminal:
    """Follows which private modes are on, as a terminal does."""
    def __init__(self, *words, rows=24, columns=80):
        self.modes, self.seen = set(), b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(BAILEY, ["bailey", *words])
    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]: return True
        try: data = os.read(self.fd, 65536)
        except OSError: return False
        self.seen += data
        return True
    def take(self, end):
        for numbers, final in re.findall(rb"\x1b\[\?([0-9;]+)([hl])", self.seen[:end]):
            for number in numbers.split(b";"):
                number = int(number)
                on = (final == b"h") != (number == 25)  # 25: here, a hidden cursor
                (self.modes.add if on else self.modes.discard)(number)
        self.seen = self.seen[end:]
    def expect(self, text, seconds=20):
        end = time.time() + seconds
        while text not in self.seen:
            assert time.time() < end, f"expected {text!r}, saw {self.seen!r}"
            assert self.read(0.1) or text in self.seen, f"expected {text!r}, at the end {self.seen!r}"
        self.take(self.seen.index(text) + len(text))
    def send(self, text): os.write(self.fd, text)
    def wait(self, seconds=20):
        end = time.time() + seconds
        while self.read(0.1):
            assert time.time() < end, "it does not end"
        self.take(len(self.seen))
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
    def is_as_before(self, what):
        left = self.modes - {7, 12, 1034, 1036, 1039}
        assert not left, f"{what}: left on: {left}"

def bailey(*words):
    result = subprocess.run([BAILEY, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == 0, (words, result)
    return result.stdout

def program(name, words, text, end, ends=0):
    """Suspended in the foreground, resumed there, in the background and with attach; each time it draws itself."""
    terminal = Terminal("run", "--name", "box", "-v", os.getcwd() + "/texts", *words)
    terminal.expect(text)
    time.sleep(0.3)
    bailey("suspend", "box", "-o", "box.bailey")
    assert terminal.wait() == 0
    terminal.is_as_before(f"{name} suspended")
    terminal = Terminal("resume", "box.bailey")
    terminal.expect(text)
    assert terminal.modes & ALTERNATE, f"{name} resumed: {terminal.modes}"
    time.sleep(0.5)
    bailey("suspend", "box", "-o", "box.bailey")
    assert terminal.wait() == 0
    terminal.is_as_before(f"{name} suspended again")
    bailey("resume", "-d", "box.bailey")
    for turn in 1, 2:
        terminal = Terminal("attach", "box")
        terminal.expect(text)
        assert terminal.modes & ALTERNATE, f"{name} attached: {terminal.modes}"
        time.sleep(0.5)
        terminal.send(b"\x10\x11")
        assert terminal.wait() == 0
        terminal.is_as_before(f"{name} detached from")
    terminal = Terminal("attach", "box")
    terminal.expect(text)
    time.sleep(0.5)
    terminal.send(end)
    assert terminal.wait() == ends
    terminal.is_as_before(f"{name} ended")
    bailey("rm", "box")

os.mkdir("texts")
open("texts/text", "w").write("first line\n" + "further lines\n" * 50)
text = os.getcwd() + "/texts/text"
for name, words, shown, end in (("vim", ["-u", "NONE", "-N", text], b"first line", b"\x1b:q\r"), ("less", [text], b"first line", b"q"),
                                ("nano", [text], b"first line", b"\x18"), ("htop", ["-d", "100"], b"Load average", b"q")):
    path = shutil.which(name)
    if path:
        program(name, [path, *words], shown, end)
    else:
        print(f"not there: {name}")
vim = shutil.which("vim") or shutil.which("vi")
if vim:
    # One that is killed, in the foreground and by bailey exec; and one whose sandbox is suspended under it.
    terminal = Terminal("run", "--name", "box", "-v", "texts", vim, "-n", "-u", "NONE", "-N", text)
    terminal.expect(b"first line")
    bailey("kill", "-s", "KILL", "box")
    assert terminal.wait() == 137
    terminal.is_as_before("vim killed")
    bailey("rm", "box")
    bailey("run", "-d", "--name", "box", "-v", "texts", "sleep", "1000")
    terminal = Terminal("exec", "-t", "box", vim, "-n", "-u", "NONE", "-N", text)
    terminal.expect(b"first line")
    bailey("suspend", "box", "-o", "box.bailey")
    assert terminal.wait() == 125
    terminal.is_as_before("vim of exec suspended")
END
BAILEY=$BAILEY python3 drive.py || fail "see above"
exit 0
