"""Runs programs in very many simulated worlds: hoop's own streams, TLS, locks and groups, and libraries.

The programs are those of own.py, endpoints.py, libraries.py and raft.py, and hoop's own tests: see suites.py.
A seed that fails is reported as hoop.sim or pytest reports it, and fails again with `--programs NAME --first
SEED --seeds 1`. The first failure ends it, with status 1. `--sums` prints the sum of each seed's trace
instead, but not of tests, to be compared with those of another process or Python.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import endpoints
import libraries
import own
import raft
import suites

import hoop.sim
from hoop.sim.tracing import digest

BATCH = 100  # seeds that a process runs at a time
BATCH_OF_TESTS = 5  # one for each order
SHOWN = 5_000  # runs between two lines of output
MODULES: dict[str, Any] = {
    name: module for module in (own, endpoints, libraries, raft) for name in module.PROGRAMS
}


def run_batch(name: str, first: int, count: int) -> str:
    """Run so many seeds of a program. Returns the report of the first that failed, or nothing.

    The logs of programs are shown if one seed runs alone.
    """
    if name in suites.PROGRAMS:
        return suites.run_batch(name, first, count)
    logging.disable(logging.CRITICAL if count > 1 else logging.NOTSET)
    try:
        main, settings = MODULES[name].prepare(name)
        hoop.sim.explore(main, seeds=range(first, first + count), **settings)
    except Exception as exc:
        return "".join(traceback.format_exception(exc))
    return ""


def print_sums(name: str, seeds: range) -> None:
    """Print the sum of each seed's trace. Those of a seed that fails end with its exception."""
    main, settings = MODULES[name].prepare(name)
    for seed in seeds:
        disk = settings.get("disk")
        trace: list[str] = []
        try:
            hoop.sim.run(main, seed=seed, trace=trace, **settings | {"disk": disk and disk.copy()})
        except Exception as exc:
            trace.append(type(exc).__name__)
        print(name, seed, digest(trace), flush=True)


def batches(
    names: list[str], first: int, seeds: int, until: float
) -> Iterator[tuple[str, int, int]]:
    """The batches to run: a program, its first seed, and how many. They end early when the time is over."""
    left = dict.fromkeys(names, seeds)
    while left:
        for name in list(left):
            if time.monotonic() > until:
                return
            count = min(BATCH_OF_TESTS if name in suites.PROGRAMS else BATCH, left[name])
            yield name, first + seeds - left[name], count
            left[name] -= count
            if not left[name]:
                del left[name]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100_000, help="of each program")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e6, help="end after so many")
    names = [*MODULES, *suites.PROGRAMS]
    parser.add_argument("--programs", nargs="+", default=names, choices=names)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sums", action="store_true", help="print the sums of traces")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.sums:
        for name in [name for name in arguments.programs if name in MODULES]:
            print_sums(name, range(arguments.first, arguments.first + arguments.seeds))
        return 0
    began = time.monotonic()
    until = began + 60 * arguments.minutes
    todo = batches(arguments.programs, arguments.first, arguments.seeds, until)
    done, shown = dict.fromkeys(arguments.programs, 0), 0
    with ProcessPoolExecutor(arguments.processes) as pool:
        while wave := [batch for _, batch in zip(range(arguments.processes), todo)]:
            for (name, first, count), failure in zip(wave, pool.map(run_batch, *zip(*wave))):
                if failure:
                    print(f"{failure}\n{name}, of seeds {first} to {first + count - 1}")
                    return 1
                done[name] += count
            runs = sum(done.values())
            if runs - shown >= SHOWN:
                print(f"{time.monotonic() - began:7.0f} s  {runs:9,d} runs", flush=True)
                shown = runs
    print(", ".join(f"{name}: {count:,d} seeds" for name, count in done.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
