# Suspended with a terminal: a shell with a job, an editor that draws its screen, attached or in the foreground, in a terminal of another size, in none.
. "$(dirname "$0")/cli_support.inc"
XDG_STATE_HOME=$PWD/state
export XDG_STATE_HOME
cat >drive.py <<'END'
import fcntl, os, pty, select, struct, subprocess, termios, time
BAILEY = os.environ["BAILEY"]

class Terminal:
    def __init__(self, *words, rows=24, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(BAILEY, ["bailey", *words])
    seen = b""
    def expect(self, text, seconds=20):
        end = time.time() + seconds
        while text.encode() not in self.seen:
            assert time.time() < end, f"expected {text!r}, saw {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try: self.seen += os.read(self.fd, 65536)
                except OSError: raise AssertionError(f"expected {text!r}, at the end {self.seen!r}")
        self.seen = self.seen.partition(text.encode())[2]
    def send(self, text): os.write(self.fd, text.encode())
    def wait(self, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            if select.select([self.fd], [], [], 0.02)[0]:
                try: os.read(self.fd, 65536)
                except OSError: pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: return os.waitstatus_to_exitcode(status)
        raise AssertionError("it does not end")

def bailey(*words, status=0):
    result = subprocess.run([BAILEY, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == status, (words, result)
    return result.stdout

# A shell in the foreground, with a variable and a job.
shell = Terminal("run", "--name", "shell", "bash", "--norc", "-i")
shell.expect("bash-"); shell.send("PS1='R'\"> \"; word=kept; sleep 1000 & \n"); shell.expect("R> ")
shell.send("echo rea''dy\n"); shell.expect("ready")
bailey("suspend", "shell", "-o", "shell.bailey")
shell.expect("R> \r\n"); shell.expect("bailey: suspended to")
assert shell.wait() == 0
# What stood in its line is drawn anew, also where the terminal is as large as before.
shell = Terminal("resume", "shell.bailey")
shell.expect("R> "); shell.send("half a "); shell.expect("half a"); time.sleep(0.3)
bailey("suspend", "shell", "-o", "half.bailey")
assert shell.wait() == 0
shell = Terminal("resume", "half.bailey")
shell.expect("R> half a"); shell.send("\x15exit\n")
assert shell.wait() == 0
shell = Terminal("resume", "shell.bailey", rows=30, columns=100)
shell.send("echo $word; jobs; stty size; kill %1; exit 5\n")
shell.expect("kept"); shell.expect("Running"); shell.expect("30 100")
assert shell.wait() == 5
# The same without a terminal, and in the background, attached.
result = subprocess.run([BAILEY, "resume", "shell.bailey"], input="echo $word$word; kill %1; exit 4\n", capture_output=True, text=True, timeout=60)
assert result.returncode == 4 and "keptkept" in result.stdout, result
assert bailey("resume", "-d", "shell.bailey") == "shell\n"
attached = Terminal("attach", "shell", rows=33, columns=90)
attached.send("echo $word; stty size\n"); attached.expect("kept"); attached.expect("33 90")
attached.send("sleep 1001\n"); attached.expect("sleep 1001"); time.sleep(0.3)
attached.send("\x03"); attached.expect("R> ")
attached.send("kill %1; exit 6\n")
assert attached.wait() == 6 and bailey("wait", "shell") == "6\n"
bailey("rm", "shell")

# An editor draws its screen anew.
editor = next((path for path in ("/usr/bin/vim", "/usr/bin/vim.tiny") if os.path.exists(path)), None)
if editor:
    words = Terminal("run", "--name", "editor", "-v", "texts", editor, "-u", "NONE", "-N", os.getcwd() + "/texts/text")
    words.expect("first line"); words.send("Golast words"); words.expect("last words")
    bailey("suspend", "editor", "-o", "editor.bailey")
    assert words.wait() == 0
    words = Terminal("resume", "editor.bailey")
    words.expect("first line"); words.send("\x1b:wq\r")
    assert words.wait() == 0
    assert open("texts/text").read() == "first line\nlast words\n"
END
mkdir texts
echo "first line" >texts/text
BAILEY=$BAILEY python3 drive.py || fail "see above"
