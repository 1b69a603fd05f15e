"""Lets programs that misbehave in every callback loose on hoop, and tells what they broke.

A program is random, and made by its seed. It acts from inside protocols, handles, done callbacks, task steps,
exception handlers, finalisers and signal handlers. It also acts from arguments that only look like bytes, str
or int. The fuzzer looks for a crash, a sanitizer's report, a hang, a callback out of order, wrong bytes, and
anything left behind. Batches of seeds run in processes of their own. The kernel's timing is not in the seed,
so a seed that failed fails again often, not always.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = Path(__file__).resolve().parent / "worker.py"
DRIVERS = ("epoll", "uring")
BATCH = 10
BATCH_SECONDS = 1200.0
TRAIL_LINES = 40


def run_batch(driver: str, fuel: int, first: int, count: int, trail: bool) -> tuple[int, str, str]:
    """Run so many seeds. Returns the status, and what was written to standard output and error."""
    command = [sys.executable, str(WORKER), driver, str(fuel), str(first), str(count)]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as out,
        tempfile.TemporaryFile("w+", errors="replace") as err,
    ):
        process = subprocess.Popen([*command, *["--trail"] * trail], stdout=out, stderr=err)
        try:
            status = process.wait(BATCH_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def last_seed(out: str) -> int | None:
    """The seed that was under way."""
    seeds = [line.split()[1] for line in out.splitlines() if line.startswith("seed ")]
    return int(seeds[-1]) if seeds else None


def report(driver: str, fuel: int, status: int, out: str, err: str) -> list[str]:
    """The findings of a batch, each as some lines of text."""
    found = [line[:1500] for line in out.splitlines() if line.startswith("WRONG")]
    if out.rstrip().endswith("done"):
        return found
    seed = last_seed(out)
    found.append(f"CRASH seed {seed} {driver}: status {status}\n{err[:5000]}\n...\n{err[-3000:]}")
    if seed is not None:
        status, out, err = run_batch(driver, fuel, seed, 1, True)
        again = "no crash" if out.rstrip().endswith("done") else f"status {status}"
        steps = "\n".join(err.splitlines()[-TRAIL_LINES:])
        found.append(f"seed {seed} {driver} again: {again}; its last steps:\n{steps}")
    return found


def main() -> None:
    """Fuzz for so long, and exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1, help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="the first one; default: a random number")
    parser.add_argument("--count", type=int, help="so many seeds, instead of minutes")
    parser.add_argument("--driver", choices=DRIVERS, help="default: both, by turns")
    parser.add_argument(
        "--fuel", type=int, default=400, help="actions per seed; default: %(default)s"
    )
    parser.add_argument("--trail", action="store_true", help="show each action of the seeds")
    arguments = parser.parse_args()
    first = arguments.seed if arguments.seed is not None else random.randrange(1_000_000_000)
    print(f"first seed {first}", flush=True)
    began, done, found = time.monotonic(), 0, 0
    while True:
        if arguments.count is not None:
            count = min(BATCH, arguments.count - done)
        else:
            count = BATCH if time.monotonic() - began < arguments.minutes * 60 else 0
        if count <= 0:
            break
        for driver in [arguments.driver] if arguments.driver else DRIVERS:
            status, out, err = run_batch(
                driver, arguments.fuel, first + done, count, arguments.trail
            )
            if arguments.trail:
                print(err)
            for text in report(driver, arguments.fuel, status, out, err):
                found += 1
                print(text, flush=True)
        done += count
    print(f"{done} seeds, {found} findings, {time.monotonic() - began:.0f} s")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
