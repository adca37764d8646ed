#!/usr/bin/env python3
"""Fuzzes what reads hostile input with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer (clang): each target in turn, for
--seconds. What it finds stays in --folder, with the inputs that reach new code, which the next run begins with.

  tests/fuzz.py --seconds 360           all targets
  tests/fuzz.py --seconds 60 image elf  these

Without libFuzzer the targets run a short while over inputs of their own making, as part of the unit tests."""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Target: its file, options of libFuzzer, whether it makes seeds.
TARGETS = {
    "elf": ("tests/linux/fuzz_elf.c", [], True),
    "call_sites": ("tests/linux/fuzz_call_sites.c", [], True),
    "image": ("tests/image/fuzz_image.c", ["-max_len=65536"], False),
    "pack": ("tests/image/fuzz_pack.c", ["-max_len=65536"], False),
    "arrival": ("tests/image/fuzz_arrival.c", ["-max_len=65536"], True),
    "image_records": ("tests/monitor/fuzz_image_records.c", ["-max_len=65536"], True),
    "policy_save": ("tests/monitor/fuzz_policy_save.c", ["-max_len=65536"], True),
    "requests": ("tests/monitor/fuzz_requests.c", ["-max_len=4096"], False),
    "control": ("tests/monitor/fuzz_control.c", ["-max_len=4096"], True),
    "policy": ("tests/cli/fuzz_policy.c", ["-dict=tests/cli/fuzz_policy.dict"], False),
    "tar": ("tests/cli/fuzz_tar.c", ["-max_len=16384"], False),
}
COMMON = ["clang", "-g", "-std=gnu11", "-w", "-I.", "-Iinclude", "-D_GNU_SOURCE", '-DBAILEY_VERSION="fuzz"', "-fno-strict-aliasing"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
LIBRARIES = ["-lcyaml", "-lyaml", "-lssl", "-lcrypto", "-lzstd", "-lcmocka", "-lpthread"]


def sources():
    """What the targets are made of: the whole command line with the monitor, and what of the personality are functions over bytes."""
    others = {"main.c", "no-move.c", "no-pack.c", "no-policy-file.c", "arena.c"}
    for folder in ("base", "image", "monitor", "cli"):
        yield from (path for path in sorted((ROOT / folder).rglob("*.c")) if path.name not in others)
    for name in ("elf", "patch-code", "instruction"):
        yield ROOT / "personality/linux/process" / f"{name}.c"


def compile_all(folder, kind, options):
    """Everything but the targets, as an archive."""
    archive, objects = folder / f"all-{kind}.a", []
    (folder / kind).mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    for path in [*sources(), ROOT / "cli/main.c"]:
        objects.append(folder / kind / ("-".join(path.relative_to(ROOT).parts) + ".o"))
        subprocess.run([*COMMON, *options, "-Dmain=bailey_main", "-c", str(path), "-o", str(objects[-1])], cwd=ROOT, check=True)
    subprocess.run(["ar", "rc", str(archive), *map(str, objects)], check=True)
    return str(archive)


def build(folder, name, fuzzed, plain):
    source, _, makes_seeds = TARGETS[name]
    corpus = folder / "inputs" / name
    corpus.mkdir(parents=True, exist_ok=True)
    subprocess.run([*COMMON, *SANITIZED, "-fsanitize=fuzzer", source, fuzzed, "-o", str(folder / f"fuzz-{name}"), *LIBRARIES], cwd=ROOT, check=True)
    if makes_seeds:
        seeds = str(folder / f"seeds-{name}")
        subprocess.run([*COMMON, "-DMAIN", source, plain, "-o", seeds, *LIBRARIES], cwd=ROOT, check=True)
        subprocess.run([seeds, "--seeds", str(corpus)], check=True)


def fuzz(folder, name, seconds):
    """Prints one line; returns whether nothing was found."""
    log = folder / f"{name}.log"
    with open(log, "wb") as out:
        command = [str(folder / f"fuzz-{name}"), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1",
                   f"-artifact_prefix={folder}/{name}-", *TARGETS[name][1], str(folder / "inputs" / name)]
        status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out).returncode
    said = log.read_text(errors="replace")
    executions = re.search(r"number_of_executed_units: *(\d+)", said)
    coverage = re.findall(r"cov: (\d+)", said)
    print(f"{name:14} {int(executions.group(1)) if executions else 0:12} executions, coverage {coverage[-1] if coverage else '?':>5}: "
          + ("nothing found" if status == 0 else f"FOUND, see {log}"), flush=True)
    return status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/var/tmp/bailey-fuzz"))
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not set(options.targets) <= set(TARGETS):
        parser.error("targets are " + ", ".join(TARGETS))
    fuzzed = compile_all(folder, "fuzzed", [*SANITIZED, "-fsanitize=fuzzer-no-link"])
    plain = compile_all(folder, "plain", [])
    good = True
    for name in options.targets or TARGETS:
        build(folder, name, fuzzed, plain)
        good &= fuzz(folder, name, options.seconds)
    return 0 if good else 1


sys.exit(main())
