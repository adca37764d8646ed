#!/usr/bin/env python3
"""suspending.py SEED BAILEY run ARGUMENTS...: as `BAILEY run ARGUMENTS...`, but the sandbox is suspended to a file and resumed from it
at random moments, up to CYCLES times. Ends with the program's exit code, or with 99 and a line when suspend or resume fail.

Standard input, output and error are this process's own all the time; environment: TMPDIR (images), SUSPEND_CYCLES, SUSPEND_MEAN (seconds)."""

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


def main():
    seed, bailey, command, arguments = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    assert command == "run"
    cycles = int(os.environ.get("SUSPEND_CYCLES", "4"))
    mean = float(os.environ.get("SUSPEND_MEAN", "0.08"))
    chance = random.Random(f"{seed} {' '.join(arguments)}")
    name = f"suspending-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="suspending-") as folder:
        image = os.path.join(folder, "image")
        process = subprocess.Popen([bailey, "run", "--name", name, *arguments])
        for _ in range(cycles):
            if ended_within(process, 0.03 + chance.expovariate(1 / mean)):
                break
            suspend = subprocess.run([bailey, "suspend", name, "-o", image], stdin=subprocess.DEVNULL, capture_output=True)
            if suspend.returncode != 0:
                # It may have ended meanwhile; a sandbox that could not be suspended runs on.
                if ended_within(process, 3):
                    break
                process.kill()
                fail("suspend", suspend.stderr)
            if not ended_within(process, 20):
                process.kill()
                fail("the suspended sandbox does not end")
            if process.returncode != 0:
                break
            process = subprocess.Popen([bailey, "resume", image, "--name", name])
            # What is mapped from the image stays when its name is gone.
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and process.poll() is None:
                listed = subprocess.run([bailey, "ps", "--json"], stdin=subprocess.DEVNULL, capture_output=True)
                if name.encode() in listed.stdout:
                    break
                time.sleep(0.002)
            os.unlink(image)
        process.wait()
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


sys.exit(main())
