# Two hundred sandboxes at once start, work and end, and leave nothing; then two hundred programs in one of them. The figures are
# printed. SANDBOXES= another number.
. "$(dirname "$0")/cli_support.inc"
exec python3 - <<'END'
import os, pathlib, re, subprocess, sys, time

BAILEY = os.environ["BAILEY"]
COUNT = int(os.environ.get("SANDBOXES", "200"))
STATE = pathlib.Path(os.environ["XDG_RUNTIME_DIR"])


def processes(root):
    """The pids below `root`, by one look at /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(pathlib.Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    below = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in below and pid not in below}
        if not more:
            return below - {root}
        below |= more


def memory(pids):
    """Proportional set size in KiB: what is shared counts once."""
    total = 0
    for pid in pids:
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return total


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cgroups(monitors):
    names = {f"bailey-{pid}" for pid in monitors}
    return [path for path in pathlib.Path("/sys/fs/cgroup").rglob("bailey-*") if path.name in names]


def check(what, condition, detail=""):
    if not condition:
        sys.exit(f"FAILED: {what}: {detail}")


others = processes(os.getpid())  # the shell's, who writes this program into a pipe
gate = pathlib.Path("gate")
gate.mkdir()
work = "until [ -e /gate/open ]; do sleep 0.2; done; seq 2000 | sort -rn | awk '{ s += $1 } END { print s }'; echo x >/var/tmp/file; cat /var/tmp/file"
start = time.monotonic()
running = [subprocess.Popen([BAILEY, "run", "-v", f"{gate.resolve()}:/gate:ro", "sh", "-c", work], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(COUNT)]
while True:
    count = len(subprocess.run([BAILEY, "ps", "-q"], capture_output=True, text=True, check=True).stdout.split())
    if count == COUNT or time.monotonic() - start > 120:
        break
    time.sleep(0.2)
check("all run at once", count == COUNT, f"{count} of {COUNT}")
started = time.monotonic() - start
ours = processes(os.getpid()) - others
peak = memory(ours)
monitors = [program.pid for program in running]
most = max(descriptors(pid) for pid in monitors)
(gate / "open").touch()
start = time.monotonic()
for program in running:
    out, _ = program.communicate(timeout=240)
    check("its work", program.returncode == 0 and out == "2001000\nx\n", f"exit {program.returncode}: {out!r}")
worked = time.monotonic() - start
print(f"{COUNT} sandboxes: all running after {started:.1f} s, done {worked:.1f} s after the gate opened; {len(ours)} processes, "
      f"{peak / 1024:.0f} MiB ({peak / COUNT:.0f} KiB a sandbox), at most {most} descriptors a monitor")
left = processes(os.getpid()) - others
check("processes are left", not left, [pathlib.Path("/proc", str(pid), "cmdline").read_bytes() for pid in left])
entries = [name for name in os.listdir(STATE / "bailey") if not name.startswith(".")]
check("state is left", not entries, entries)
check("cgroups are left", not cgroups(monitors), cgroups(monitors))

# One that lives long: programs come and go, and it does not grow.
subprocess.run([BAILEY, "run", "-d", "--name", "host", "sleep", "1000"], check=True, stdout=subprocess.DEVNULL)
listing = subprocess.run([BAILEY, "ps", "--json"], capture_output=True, text=True, check=True).stdout
monitor = int(re.search(r'"pid":\s*(\d+)', listing).group(1))


def resident():
    return int(re.search(r"^RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{monitor}/status").read_text(), re.M).group(1))


def counters():
    text = subprocess.run([BAILEY, "inspect", "host"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r'"handles":\s*(\d+)', text).group(1))


def programs(count):
    crowd = []
    for _ in range(count):
        crowd.append(subprocess.Popen([BAILEY, "exec", "host", "sh", "-c", "seq 100 | tail -n 1"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        if len(crowd) == 10:
            for program in crowd:
                out, _ = program.communicate(timeout=120)
                check("exec", out == "100\n", out)
            crowd.clear()


programs(100)
before = descriptors(monitor), resident(), counters(), memory(processes(monitor))
programs(200)
time.sleep(0.5)
after = descriptors(monitor), resident(), counters(), memory(processes(monitor))
print(f"200 programs in one sandbox: descriptors {before[0]} -> {after[0]}, monitor {before[1]} -> {after[1]} KiB, "
      f"handles {before[2]} -> {after[2]}, sandbox {before[3]} -> {after[3]} KiB")
check("descriptors leak", after[0] <= before[0] + 2, (before, after))
check("the monitor grows", after[1] <= before[1] + 400, (before, after))
check("handles leak", after[2] <= before[2] + 4, (before, after))
check("the sandbox grows", after[3] <= before[3] + 2048, (before, after))
subprocess.run([BAILEY, "rm", "-f", "host"], check=True, stdout=subprocess.DEVNULL)
END
