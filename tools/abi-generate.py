#!/usr/bin/env python3
"""From include/bailey/abi.def: the tracing and fault-injecting shim (C text), or the manual pages of docs/abi/.

Usage: abi-generate.py shim ABI.DEF
       abi-generate.py manual ABI.DEF ABI.H DIRECTORY
       abi-generate.py check ABI.DEF ABI.H DIRECTORY      are the pages there what `manual` would write?
"""
import filecmp
import os
import re
import sys
import tempfile

CALL = re.compile(r'^BLY_CALL\((?P<type>\w+), (?P<name>\w+), \((?P<parameters>.*?)\), \((?P<arguments>.*?)\), "(?P<format>\w*)"\)$')
GROUP = re.compile(r'^BLY_GROUP\((\w+), "(.*)"\)$')


def read_calls(path):
    calls, group = [], None
    for line in open(path):
        line = line.strip()
        match = GROUP.match(line)
        if match:
            group = match.group(2)
        match = CALL.match(line)
        if match:
            calls.append(dict(match.groupdict(), group=group))
        elif line.startswith('BLY_CALL'):
            sys.exit(f'abi-generate: not understood: {line}')
    return calls


def shim(calls):
    print('/* Generated from abi.def. */')
    for index, call in enumerate(calls):
        arguments = [a.strip() for a in call['arguments'].split(',') if a.strip()]
        # A value is needed where the call does not return one, and for calls that do not return at all.
        void = call['type'] == 'void'
        print(f"\nstatic {call['type']} shim_{call['name']}({call['parameters']})\n{{")
        words = ', '.join(f'(uint64_t){a}' for a in arguments) or '0'
        print(f'    const uint64_t words[] = {{{words}}};')
        print('    struct trace trace;')
        begin = f"trace_begin(&trace, {index}, \"{call['name']}\", \"{call['format']}\", words, "
        if void or call['type'] == 'uint32_t':  # cannot fail
            print(f'    (void){begin}NULL);')
        else:
            print(f'    int64_t injected;\n    if ({begin}&injected))\n        return ({call["type"]})injected;')
        if void:
            print(f"    host_{call['name']}({', '.join(arguments)});")
            print('    trace_end(&trace, words, 0);')
        else:
            print(f"    {call['type']} result = host_{call['name']}({', '.join(arguments)});")
            print('    trace_end(&trace, words, (int64_t)result);')
            print('    return result;')
        print('}')


ERRORS_OF_ALL = 'All errors are negative errno values with the numbers of Linux.'


def contract_comments(path):
    """The comment lines ` * call(...): text` of abi.h, by call; a head may name several calls (`wait_set_*`)."""
    found, current = [], None
    head = re.compile(r'^(?:/\*| \*) ((?:[a-z]\w+\*?(?:\([^)]*\))?(?:/(?=[a-z]))?)+)(?: \[[^\]]*\])?: (.*)$')
    for line in open(path):
        line = line.rstrip('\n')
        match = head.match(line)
        if match:
            names = re.sub(r'\([^)]*\)', '', match.group(1)).split('/')
            note = re.search(r'\[interruptible[^\]]*\]', line)
            current = [names, [match.group(2)], note.group(0) if note else '']
            found.append(current)
        elif current and re.match(r'^ \*   ', line):
            current[1].append(line[5:].strip())
        else:
            current = None
    for entry in found:
        entry[1] = ' '.join(entry[1]).replace(' */', '')
    return found


def contract_of(name, contracts):
    texts = []
    for names, text, note in contracts:
        prefix = names[0].rsplit('_', 1)[0] + '_' if '_' in names[0] else ''
        for candidate in names:
            full = candidate if '_' in candidate else prefix + candidate
            if full == name or candidate == name or (candidate.endswith('_*') and name.startswith(candidate[:-1])):
                text = 'Errors: ' + text if text.startswith('-') else text[0].upper() + text[1:]
                texts.append(text + (f' This call is {note[1:-1]}.' if note else ''))
                break
    return texts


def manual(calls, header, directory):
    os.makedirs(directory, exist_ok=True)
    contracts = contract_comments(header)
    index = ['# The Bailey ABI', '', 'Generated from `include/bailey/abi.def` and the comments of `include/bailey/abi.h`, which explain the conventions.', '']
    group = None
    for call in calls:
        if call['group'] != group:
            group = call['group']
            index += ['', f'## {group}', '']
        index.append(f"- [`{call['name']}`]({call['name']}.md)")
        texts = contract_of(call['name'], contracts)
        others = [c['name'] for c in calls if c['group'] == group and c is not call]
        with open(os.path.join(directory, call['name'] + '.md'), 'w') as page:
            page.write(f"# {call['name']}\n\n## Synopsis\n\n```c\n{call['type']} {call['name']}({call['parameters']});\n```\n\n")
            page.write('## Description\n\n' + ('\n\n'.join(texts) if texts else f"See the group *{group}* in `include/bailey/abi.h`.") + '\n\n')
            page.write(f'{ERRORS_OF_ALL}\n\n## See also\n\n' + ', '.join(f'[{o}]({o}.md)' for o in others) + '\n')
    with open(os.path.join(directory, 'README.md'), 'w') as page:
        page.write('\n'.join(index) + '\n')


def check(calls, header, directory):
    with tempfile.TemporaryDirectory() as fresh:
        manual(calls, header, fresh)
        names = sorted(set(os.listdir(fresh)) | set(os.listdir(directory)))
        _, different, missing = filecmp.cmpfiles(fresh, directory, names, shallow=False)
    if different or missing:
        sys.exit(f"out of date in {directory}: {' '.join(different + missing)}\nrun: tools/abi-generate.py manual "
                 'include/bailey/abi.def include/bailey/abi.h docs/abi')


def main():
    if len(sys.argv) == 3 and sys.argv[1] == 'shim':
        shim(read_calls(sys.argv[2]))
    elif len(sys.argv) == 5 and sys.argv[1] == 'manual':
        manual(read_calls(sys.argv[2]), sys.argv[3], sys.argv[4])
    elif len(sys.argv) == 5 and sys.argv[1] == 'check':
        check(read_calls(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        sys.exit(__doc__)


main()
