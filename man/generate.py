#!/usr/bin/env python3
"""Makes the manual pages and the shell completions from what `bailey help --json` says and the prose in man/text/.

usage: generate.py BAILEY VERSION TEXT-FOLDER OUTPUT-FOLDER

A page of a command has its prose in text/COMMAND.txt: paragraphs, and `# HEADING` lines. `bold` is written in backquotes.
"""
import json
import pathlib
import re
import subprocess
import sys


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def inline(text):
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escape(text))


def prose(path):
    """(heading, roff) pairs; the text before the first heading is the DESCRIPTION."""
    sections, heading, lines = [], "DESCRIPTION", []
    text = path.read_text() if path.exists() else ""
    for line in text.splitlines() + ["# "]:
        if line.startswith("# "):
            if lines:
                sections.append((heading, lines))
            heading, lines = line[2:], []
        elif line.startswith("- "):
            lines += [".TP", inline(line[2:].split("  ", 1)[0]), inline(line[2:].split("  ", 1)[-1])]
        elif not line.strip():
            lines.append(".PP")
        else:
            lines.append(inline(line))
    return [(heading, [line for i, line in enumerate(body) if line != ".PP" or 0 < i < len(body) - 1])
            for heading, body in sections]


def option_tag(option):
    names = []
    if option["letter"]:
        names.append(f"\\fB\\-{option['letter']}\\fR")
    names.append(f"\\fB{escape('--' + option['name'])}\\fR")
    tag = ", ".join(names)
    argument = option["argument"]
    if argument:
        tag += ("" if argument.startswith("[") else " ") + f"\\fI{escape(argument)}\\fR"
    return tag


def page(title, version, name_line, synopsis, sections):
    lines = [f'.TH {title.upper()} 1 "" "Bailey {version}" "Bailey manual"', ".SH NAME", name_line, ".SH SYNOPSIS", synopsis]
    for heading, body in sections:
        lines += [f".SH {heading}"] + body
    return "\n".join(lines) + "\n"


def examples(command):
    if not command["examples"]:
        return []
    return [("EXAMPLES", [".nf", escape(re.sub(r"^  ", "", command["examples"], flags=re.M)).rstrip(), ".fi"])]


def command_page(command, version, text):
    options = []
    for option in command["options"]:
        options += [".TP", option_tag(option), escape(option["help"][0].upper() + option["help"][1:]) + "."]
    sections = prose(text / f"{command['name']}.txt") or [("DESCRIPTION", [escape(command["summary"]) + "."])]
    split = [section for section in sections if section[0] == "DESCRIPTION"]
    rest = [section for section in sections if section[0] != "DESCRIPTION"]
    if options:
        split.append(("OPTIONS", options))
    split += rest + examples(command)
    split.append(("SEE ALSO", [".BR bailey (1)"]))
    marker = " [\\fIOPTIONS\\fR]" if command["options"] else ""
    return page(f"bailey-{command['name']}", version,
                f"bailey\\-{command['name']} \\- {escape(command['summary'][0].lower() + command['summary'][1:])}",
                f"\\fBbailey {command['name']}\\fR{marker} {escape(command['arguments'])}", split)


def main_page(commands, version, text):
    listed = []
    for command in commands:
        listed += [".TP", f"\\fBbailey\\-{command['name']}\\fR(1)", escape(command["summary"]) + "."]
    sections = prose(text / "bailey.txt")
    description = [section for section in sections if section[0] == "DESCRIPTION"]
    rest = [section for section in sections if section[0] != "DESCRIPTION"]
    return page("bailey", version, "bailey \\- run programs in small walled processes with an operating system of their own",
                "\\fBbailey\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...",
                description + [("COMMANDS", listed)] + rest)


# ---- Completions ----

KINDS = {"DIR": "folder", "FILE": "file", "HOST[:GUEST][:ro]": "file"}
NAMES = {"exec": "running", "attach": "running", "stop": "running", "kill": "running", "trace": "running", "wait": "all", "rm": "all",
         "logs": "all", "inspect": "all", "ps": "running", "cp": "running",
         "suspend": "running"}
PARTS = {"policy": "show check learn", "image": "inspect verify"}


def bash(commands):
    cases = []
    for command in commands:
        words = " ".join("--" + option["name"] for option in command["options"]) + " --help"
        cases.append(f"    {command['name']}) options='{words}' names='{NAMES.get(command['name'], '')}' "
                     f"parts='{PARTS.get(command['name'], '')}' ;;")
    files = "|".join(("-" + o["letter"] + "|" if o["letter"] else "") + "--" + o["name"]
                     for c in commands if c["name"] in ("run", "suspend") for o in c["options"] if KINDS.get(o["argument"] or ""))
    return f"""# bash completion for bailey; generated
_bailey() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} options= names= parts=
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{" ".join(c["name"] for c in commands)}' -- "$word"))
        return
    fi
    case $command in
{chr(10).join(cases)}
    esac
    case $before in {files}) COMPREPLY=($(compgen -f -- "$word")); return ;; esac
    if [ -n "$parts" ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "$parts" -- "$word"))
    elif [ "$command" = help ]; then
        COMPREPLY=($(compgen -W '{" ".join(c["name"] for c in commands)}' -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [ -n "$names" ]; then
        local all=
        [ "$names" = all ] && all=-a
        COMPREPLY=($(compgen -W "$(bailey ps -q $all 2>/dev/null)" -- "$word"))
    elif [ "$command" = run ]; then
        COMPREPLY=($(compgen -c -- "$word") $(compgen -f -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _bailey bailey
"""


def quoted(text):
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def zsh(commands):
    lines = ["#compdef bailey", "# generated", "_bailey_running() { compadd -- $(bailey ps -q 2>/dev/null) }",
             "_bailey_all() { compadd -- $(bailey ps -aq 2>/dev/null) }", "_bailey() {", "    local -a commands", "    commands=("]
    lines += [f"        '{command['name']}:{quoted(command['summary'])}'" for command in commands]
    lines += ["    )", "    if (( CURRENT == 2 )); then _describe command commands; return; fi", "    local command=$words[2]",
              "    shift words; (( CURRENT-- ))", "    case $command in"]
    for command in commands:
        specs = []
        for option in command["options"]:
            action = ""
            if option["argument"] and not option["argument"].startswith("["):
                kind = KINDS.get(option["argument"], "")
                action = ":" + quoted(option["argument"].lower()) + ":" + {"file": "_files", "folder": "_files -/", "": ""}[kind]
            help_text = f"[{quoted(option['help'])}]"
            repeat = "*" if option["name"] in ("volume", "env", "env-file") else ""
            if option["letter"]:
                specs.append(f"'{repeat}-{option['letter']}{help_text}{action}'")
            specs.append(f"'{repeat}--{option['name']}{help_text}{action}'")
        rest = {"running": "'*:name:_bailey_running'", "all": "'*:name:_bailey_all'"}.get(NAMES.get(command["name"], ""), "")
        if command["name"] == "run":
            rest = "'1:program:_command_names -e' '*::arguments:_normal'"
        elif command["name"] == "exec":
            rest = "'1:name:_bailey_running' '2:program:_command_names -e' '*::arguments:_normal'"
        elif command["name"] in PARTS:
            rest = f"'1:part:({PARTS[command['name']]})' '*:file:_files'"
        lines.append(f"    {command['name']}) _arguments -S {' '.join(specs)} {rest} ;;")
    lines += ["    esac", "}", '_bailey "$@"']
    return "\n".join(lines) + "\n"


def fish(commands):
    def single(text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    lines = ["# fish completion for bailey; generated", "complete -c bailey -f"]
    for command in commands:
        lines.append(f"complete -c bailey -n __fish_use_subcommand -a {command['name']} -d {single(command['summary'])}")
        seen = f"'__fish_seen_subcommand_from {command['name']}'"
        for option in command["options"]:
            parts = [f"complete -c bailey -n {seen} -l {option['name']} -d {single(option['help'])}"]
            if option["letter"]:
                parts.append(f"-s {option['letter']}")
            if option["argument"] and not option["argument"].startswith("["):
                parts.append("-r" + (" -F" if KINDS.get(option["argument"]) else ""))
            lines.append(" ".join(parts))
        names = NAMES.get(command["name"])
        if names:
            lines.append(f"complete -c bailey -n {seen} -a '(bailey ps -q{' -a' if names == 'all' else ''} 2>/dev/null)'")
        if command["name"] == "run":
            lines.append(f"complete -c bailey -n {seen} -F -a '(__fish_complete_command)'")
        if command["name"] in PARTS:
            lines.append(f"complete -c bailey -n {seen} -F -a '{PARTS[command['name']]}'")
    return "\n".join(lines) + "\n"


def main():
    bailey, version, text, output = sys.argv[1:]
    commands = json.loads(subprocess.run([bailey, "help", "--json"], check=True, capture_output=True, text=True).stdout)
    text, output = pathlib.Path(text), pathlib.Path(output)
    pages = {"bailey.1": main_page(commands, version, text)}
    for command in commands:
        pages[f"bailey-{command['name']}.1"] = command_page(command, version, text)
    pages |= {"bailey.bash": bash(commands), "_bailey": zsh(commands), "bailey.fish": fish(commands)}
    for name, content in pages.items():
        (output / name).write_text(content)


if __name__ == "__main__":
    main()
