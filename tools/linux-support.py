#!/usr/bin/env python3
"""Makes docs/linux-support.md from personality/linux/syscalls.def: linux-support.py SYSCALLS.DEF [IMAGE DOCUMENT]

With the picoprocess image and the document, checks the table against both: a call said to be supported must be linked in, and
the reverse, and the document must be current."""

import contextlib
import io
import re
import subprocess
import sys

CALL = re.compile(r'^LX_CALL\((\d+), (\w+), "[^"]*", "(\w+)", "((?:[^"\\]|\\.)*)"\)')


def read_table(path):
    calls = []
    for line in open(path):
        match = CALL.match(line)
        if match:
            calls.append((int(match[1]), match[2], match[3], match[4].replace('\\"', '"')))
        elif line.startswith("LX_CALL"):
            sys.exit(f"{path}: cannot read: {line}")
    return calls


def defined(image):
    names = subprocess.run(["nm", image], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^[0-9a-f]+ [tT] lx_sys_(\w+)$", names, re.M))


def check(calls, image, document):
    present = defined(image)
    wrong = [f"{name}: the table says {state}, the image has {'it' if name in present else 'it not'}"
             for _, name, state, _ in calls if state != "refused" and (state == "none") == (name in present)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        write(calls)
    if open(document).read() != text.getvalue():
        wrong.append(f"{document} is not what tools/linux-support.py personality/linux/syscalls.def prints")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def write(calls):
    counts = {state: sum(1 for call in calls if call[2] == state) for state in ("full", "partial", "refused", "none")}
    print("# Linux system calls\n")
    print("Generated from `personality/linux/syscalls.def`; do not edit.\n")
    print(f"Of {len(calls)} x86-64 system calls {counts['full']} are served in full, {counts['partial']} in part; {counts['refused']} "
          f"always return the error in the last column, and {counts['none']} return `ENOSYS` and are named once in the sandbox's log.\n")
    print("| number | call | state | |\n|---:|---|---|---|")
    for number, name, state, note in calls:
        print(f"| {number} | `{name}` | {state} | {note} |")


calls = read_table(sys.argv[1])
if len(sys.argv) > 3:
    sys.exit(check(calls, sys.argv[2], sys.argv[3]))
write(calls)
