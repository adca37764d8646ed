#!/usr/bin/env python3
"""Holds instruction lengths, and the search for CPUID instructions, against objdump over real code."""

import subprocess
import sys

program = sys.argv[1]
loader = "/lib64/ld-linux-x86-64.so.2"
failed = False
for path in (loader, "/lib/x86_64-linux-gnu/libc.so.6"):
    listing = subprocess.run(["objdump", "-d", "-w", "--insn-width=15", path], capture_output=True, text=True, check=True).stdout
    columns = [line.split("\t") for line in listing.splitlines()]
    instructions = [line[1] for line in columns if len(line) >= 3 and "(bad)" not in line[2]]
    wrong = subprocess.run([program], input="\n".join(instructions) + "\n", capture_output=True, text=True, check=True).stdout
    print(f"{path}: {len(instructions)} instructions, {len(wrong.splitlines())} wrong")
    print(wrong[:2000], end="")
    failed |= bool(wrong) or len(instructions) < 10000
    real = {line[0].strip(" :") for line in columns if len(line) >= 3 and line[2].split()[0] == "cpuid"}
    proven = set(subprocess.run([program, path], capture_output=True, text=True, check=True).stdout.split())
    print(f"{path}: {len(proven)} of {len(real)} CPUID instructions proven")
    failed |= not proven <= real or (path == loader and len(proven) * 10 < len(real) * 9)
sys.exit(failed)
