# vim and tmux through ptys, bash interactively with job control.
set -eu
export TERM=xterm HOME=$PWD SHELL=/bin/sh
printf 'one\ntwo\n' > f
python3 - <<'EOT'
import pty, os, time, select, sys
def drive(argv, steps, wait=8):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    out = b""
    def read_until(text):
        nonlocal out
        end = time.time() + wait
        while text not in out and time.time() < end:
            if select.select([fd], [], [], 0.1)[0]:
                try: data = os.read(fd, 65536)
                except OSError: return
                if not data: return
                out += data
    for expect, send in steps:
        read_until(expect)
        if expect not in out: print("missing", expect, repr(out[-300:])); os.kill(pid, 9); break
        out = b""; os.write(fd, send)
    end = time.time() + wait
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        if select.select([fd], [], [], 0.05)[0]:
            try: os.read(fd, 65536)
            except OSError: pass
    os.kill(pid, 9); os.waitpid(pid, 0); return "hang"
vi = "vim" if os.path.exists("/usr/bin/vim") else "vim.tiny"
print(drive([vi, "-u", "NONE", "-N", "f"], [(b"two", b"Gothree\x1b:wq\r")])); print(open("f").read())
# Bash does not leave while it believes in a stopped job, and `wait` does not wait for one: the job must have been seen to be gone.
print(drive(["bash", "--norc", "-i"], [(b"bash-5", b"PS1='R> '\r"), (b"R> ", b"sh -c 'echo g''o; exec sleep 50'\r"), (b"go\r\n", b"\x1a"),
    (b"Stopped", b"jobs; kill -9 %1; while [ -n \"$(jobs -s)\" ]; do sleep 0.05; done; echo done $((1+1))\r"), (b"done 2", b"exit 3\r")]))
print(drive(["bash", "--norc", "-i"], [(b"bash-5", b"PS1='R> '\r"), (b"R> ", b"sh -c 'echo g''o; exec sleep 60'\r"), (b"go\r\n", b"\x03"), (b"R> ", b"exit 0\r")]))
EOT
if command -v tmux >/dev/null; then
    tmux -S "$PWD/s" -f /dev/null new-session -d -x 80 -y 24 'sh'; sleep 0.5
    tmux -S "$PWD/s" send-keys 'echo in-$((20+22))' Enter; sleep 1
    tmux -S "$PWD/s" capture-pane -p | grep -c '^in-42'; tmux -S "$PWD/s" kill-server
fi
