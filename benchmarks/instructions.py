"""Counts the instructions one scheduling operation takes on one loop, with valgrind's callgrind.

The question it answers: did a change make an operation longer or shorter? The count hardly varies
from run to run and does not depend on what else the machine does, so small steps show. The question
it cannot answer: how long an operation takes; a cache miss, a branch missed or a system call counts
like any other instruction here, and what the kernel does is not counted at all.

Each workload runs at two sizes in processes of their own; the difference of the counts, divided by
the difference of the sizes, leaves out the start of the interpreter and the set-up of the workload.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys

from loops import LOOPS, LoopUnavailable, describe_python, loop_factory, loop_version
from workloads import SCHEDULING, Scheduling

SMALL, LARGE = 2_000, 12_000
TIMEOUT_S = 300


def run_workload(row: Scheduling, loop_name: str, operations: int) -> None:
    """Do the row's operation that many times; this is what valgrind counts."""

    async def work() -> None:
        await row.run(operations)

    loop = loop_factory(loop_name)()
    try:
        with row.surroundings(loop):
            loop.run_until_complete(work())
    finally:
        loop.close()


def count_instructions(row: Scheduling, loop_name: str, operations: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += [__file__, "--loop", loop_name, "--rows", row.name, "--run", str(operations)]
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    collected = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode != 0 or collected is None:
        raise SystemExit(f"{row.name} failed under valgrind:\n{result.stderr}")
    return int(collected[1])


def instructions_per_operation(row: Scheduling, loop_name: str) -> float:
    small = count_instructions(row, loop_name, SMALL)
    large = count_instructions(row, loop_name, LARGE)
    return (large - small) / (LARGE - SMALL)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loop", default=LOOPS[0], choices=LOOPS, help="default: %(default)s")
    parser.add_argument(
        "--rows",
        default=",".join(row.name for row in SCHEDULING),
        help="comma-separated rows (default: %(default)s)",
    )
    parser.add_argument("--run", type=int, metavar="N", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    by_name = {row.name: row for row in SCHEDULING}
    try:
        rows = [by_name[name] for name in arguments.rows.split(",")]
        loop_factory(arguments.loop)
    except KeyError as error:
        raise SystemExit(f"no row is called {error}; there are: {', '.join(by_name)}") from None
    except LoopUnavailable as reason:
        raise SystemExit(str(reason)) from None

    if arguments.run is not None:
        for row in rows:
            run_workload(row, arguments.loop, arguments.run)
        return

    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    print(f"{describe_python()}, {arguments.loop} {loop_version(arguments.loop)}\n")
    print(f"| row | instructions per operation on {arguments.loop} |\n| --- | --- |")
    for row in rows:
        count = instructions_per_operation(row, arguments.loop)
        print(f"| {row.name}: {row.operation} | {count:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
