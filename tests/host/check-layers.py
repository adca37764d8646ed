#!/usr/bin/env python3
"""Which folder may include what (docs/architecture.md): check-layers.py ROOT

The picoprocess's folders know no hosted C library; a personality knows the host layer and the monitor only through include/bailey; and
system-call instructions are written in host/ only."""
import pathlib
import re
import sys

KERNEL = {'asm', 'asm-generic', 'linux'}
# Folder: (project folders besides its own, whether the hosted C library's headers are at hand).
RULES = {
    'include': ({'bailey'}, False),
    'host': ({'bailey'}, False),
    'libos': ({'bailey'}, False),
    'personality': ({'bailey', 'libos'}, False),
    'base': ({'bailey'}, True),
    'image': ({'bailey', 'base'}, True),
    'monitor': ({'bailey', 'base', 'image'}, True),
    'cli': ({'bailey', 'base', 'image', 'monitor'}, True),
}
# What of its own folder a room may know.
ROOMS = {'monitor/policy/': {'monitor/policy/', 'monitor/processor-features.h'}}
# Lines of what serves a running sandbox (docs/security.md): the rooms of monitor/ not counted.
MONITOR_LINES = 8000
FREESTANDING = {'float.h', 'limits.h', 'stdalign.h', 'stdarg.h', 'stdatomic.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'stdnoreturn.h',
                'cpuid.h', 'immintrin.h', 'x86intrin.h'}
PROJECT = set(RULES) | {'bailey', 'tests', 'tools', 'bench'}
INCLUDE = re.compile(r'^\s*#\s*include(?:_next)?\s*(.*)$')
NAME = re.compile(r'^(["<])([^">]+)[">]')
INSTRUCTION = re.compile(r'\b(?:asm|__asm__|__asm)\b[^(;{]*\((?:[^()]|\([^()]*\))*?(?:\b|\\[nt])(?:syscall|sysenter|int\s*\$0x80)\b')
ASSEMBLY = re.compile(r'^[^/#*]*\b(syscall|sysenter|int\s+\$0x80)\s*$', re.M)


def refusal(folder, file, quote, name):
    """Why `file` may not include this, or None."""
    others, hosted = RULES[folder]
    if '..' in name.split('/') or name.startswith('/'):
        return 'a path that climbs'
    if quote == '"' and (file.parent / name).exists():
        return None
    first, slash, _ = name.partition('/')
    for room, known in ROOMS.items():
        if file.as_posix().find(f'/{room}') >= 0 and first == folder and not name.startswith(tuple(known)):
            return f'{room} may not know this'
    if slash and first in PROJECT:
        return None if first == folder or first in others else f'{folder}/ may not know {first}/'
    if first in KERNEL or (not slash and quote == '"') or name in FREESTANDING:
        return None  # a quoted name without a folder that is not beside the file is a generated one
    return None if hosted else 'a header of the hosted C library'


def main():
    root, problems, seen = pathlib.Path(sys.argv[1]), [], 0
    for folder in RULES:
        for file in sorted((root / folder).rglob('*')):
            if file.suffix not in {'.c', '.h', '.S', '.def', '.inc'}:
                continue
            seen += 1
            text = file.read_text()
            for number, line in enumerate(text.splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                name = NAME.match(match.group(1))
                problem = refusal(folder, file, *name.groups()) if name else 'a name made by a macro'
                if problem:
                    problems.append(f'{file.relative_to(root)}:{number}: {line.strip()}: {problem}')
            if folder in {'libos', 'personality', 'include'} and (ASSEMBLY if file.suffix == '.S' else INSTRUCTION).search(text):
                problems.append(f'{file.relative_to(root)}: a system-call instruction outside host/')
    lines = sum(len(file.read_text().splitlines()) for file in (root / 'monitor').glob('*.[ch]'))
    if lines > MONITOR_LINES:
        problems.append(f'monitor/ has {lines} lines: more than {MONITOR_LINES}')
    print('\n'.join(problems) or f'{seen} files keep the rules')
    sys.exit(1 if problems or seen < 100 else 0)


main()
