#!/usr/bin/env python3
"""No system-call instruction outside the host layer's window: check-window.py OBJDUMP IMAGE...

Where libos or a personality has one, the filter would trap it in the middle of the kernel half."""
import re
import subprocess
import sys

INSTRUCTION = re.compile(r'^\s*([0-9a-f]+):\s+(syscall|sysenter|int\s+\$0x80)\b')
SYMBOL = re.compile(r'^([0-9a-f]+) .* (host_text_start|host_text_end)$')


def main():
    objdump, images, bad = sys.argv[1], sys.argv[2:], 0
    for image in images:
        symbols = {}
        for line in subprocess.run([objdump, '-t', image], check=True, capture_output=True, text=True).stdout.splitlines():
            match = SYMBOL.match(line)
            if match:
                symbols[match.group(2)] = int(match.group(1), 16)
        inside = range(symbols['host_text_start'], symbols['host_text_end'])
        found = 0
        text = subprocess.run([objdump, '-d', '--no-show-raw-insn', image], check=True, capture_output=True, text=True).stdout
        for line in text.splitlines():
            match = INSTRUCTION.match(line)
            if not match:
                continue
            if int(match.group(1), 16) in inside:
                found += 1
            else:
                print(f'{image}: outside the window: {line.strip()}')
                bad += 1
        if found == 0:
            sys.exit(f'{image}: no system call at all: was it stripped of its symbols?')
    sys.exit(1 if bad else 0)


main()
