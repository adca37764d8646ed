#!/usr/bin/env python3
"""suspending.py SEED BAILEY run ARGUMENTS...: as `BAILEY run ARGUMENTS...`, but the sandbox is suspended to a file and resumed from it
at random moments, up to CYCLES times. Ends with the program's exit code, or with 99 and a line when suspend or resume fail.

Standard input, output and error are this process's own all the time; environment: TMPDIR (images), SUSPEND_CYCLES, SUSPEND_MEAN (seconds),
SUSPEND_COUNT (a file to which the number of cycles that it came to is added as a line)."""

import os
import random
import subprocess
import sys
import tempfile
import time

FAILED = 99


def fail(what, output=b""):
    print(f"suspending: {what}: {output.decode(errors='replace').strip()}", file=sys.stderr)
    sys.exit(FAILED)


def ended_within(process, seconds):
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def wait_until_listed(bailey, name, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        listed = subprocess.run([bailey, "ps", "--json"], stdin=subprocess.DEVNULL, capture_output=True)
        if name.encode() in listed.stdout:
            break
        time.sleep(0.002)


def suspend_and_resume(bailey, name, image, process):
    """Returns the process of the resumed sandbox, or None when it has ended before."""
    suspend = subprocess.run([bailey, "suspend", name, "-o", image], stdin=subprocess.DEVNULL, capture_output=True)
    if suspend.returncode != 0:
        # It may have ended meanwhile; a sandbox that could not be suspended runs on.
        if ended_within(process, 3):
            return None
        process.kill()
        fail("suspend", suspend.stderr)
    if not ended_within(process, 20):
        process.kill()
        fail("the suspended sandbox does not end")
    if process.returncode != 0:
        fail(f"exit {process.returncode} of a sandbox that was suspended")
    process = subprocess.Popen([bailey, "resume", image, "--name", name])
    wait_until_listed(bailey, name, process)
    os.unlink(image)  # what is mapped from the image stays when its name is gone
    return process


def main():
    seed, bailey, command, arguments = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    assert command == "run"
    cycles, done = int(os.environ.get("SUSPEND_CYCLES", "12")), 0
    chance = random.Random(seed)
    # Some programs take a hundredth of a second, some ten.
    mean = float(os.environ.get("SUSPEND_MEAN", chance.choice(["0.01", "0.03", "0.1"])))
    name = f"suspending-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="suspending-") as folder:
        image = os.path.join(folder, "image")
        process = subprocess.Popen([bailey, "run", "--name", name, *arguments])
        wait_until_listed(bailey, name, process)
        while done < cycles and not ended_within(process, chance.expovariate(1 / mean)):
            resumed = suspend_and_resume(bailey, name, image, process)
            if not resumed:
                break
            process = resumed
            done += 1
        process.wait()
    if "SUSPEND_COUNT" in os.environ:
        with open(os.environ["SUSPEND_COUNT"], "a") as count:
            print(done, file=count)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


sys.exit(main())
