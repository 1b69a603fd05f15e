"""Runs a batch of seeds in one process, for run.py: `worker.py DRIVER FUEL FIRST COUNT [--trail]`.

Each seed is announced on standard output before it begins, so the parent knows on which seed this process
died. Findings are lines that begin with WRONG.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import network  # noqa: E402
import scheduling  # noqa: E402
import system  # noqa: E402
from world import World  # noqa: E402

from hoop.drivers.op import count_live_ops  # noqa: E402

assert all((network, scheduling, system))  # their actions register themselves

SEED_SECONDS = 90.0  # a seed that takes longer hangs


def descriptors() -> dict[int, str]:
    """The process's open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the one with which the directory was read
    return found


def settle(count_threads: int) -> None:
    """Let threads that are ending end, and finalisers run."""
    deadline = time.monotonic() + 5
    gc.collect()
    while threading.active_count() > count_threads and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()


def run_seed(seed: int, driver: str, fuel: int, trail: bool) -> list[str]:
    """One world, from its making to its end. Returns what was wrong."""
    thresholds = gc.get_threshold()
    before, ops, threads = descriptors(), count_live_ops(), threading.active_count()
    faulthandler.dump_traceback_later(SEED_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="hoop-fuzz-") as folder:
        world = World(seed, driver, Path(folder), fuel, trail)
        sys.unraisablehook = world.on_unraisable
        try:
            world.run(begin)
        finally:
            gc.set_threshold(*thresholds)
            world.ending = True
            wrongs, loop = world.wrongs, world.loop
            del world
    if not loop.is_closed():
        return [*wrongs, "the loop was not closed"]
    settle(threads)
    faulthandler.cancel_dump_traceback_later()
    sys.unraisablehook = sys.__unraisablehook__
    if count_live_ops() != ops:
        wrongs.append(f"{count_live_ops() - ops} ops are alive")
    left = descriptors()
    if left != before:
        changed = {n: left.get(n) for n in {*left, *before} if left.get(n) != before.get(n)}
        wrongs.append(f"descriptors were left open, or closed: {changed}")
    if threading.active_count() > threads:
        wrongs.append(f"threads were left: {threading.enumerate()}")
    return wrongs


def begin(world: World) -> None:
    """The objects that every run begins with: some of each kind."""
    world.depth = 0
    for action in (
        scheduling.make_context,
        scheduling.make_future,
        network.connect,
        network.serve,
        network.make_endpoint,
        network.make_sockets,
        scheduling.make_task,
    ):
        action(world)
    world.act("begin")


def main() -> None:
    """Run the batch. The status is 1 if anything was wrong."""
    driver, fuel, first, count = sys.argv[1], *map(int, sys.argv[2:5])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    logging.getLogger("hoop").setLevel(logging.CRITICAL + 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with asyncio.Runner() as runner:  # what asyncio and the executor's modules keep is no leak
        runner.run(asyncio.sleep(0))
    "name".encode("idna")  # whose first import must not be cut short by a signal
    bad = False
    for seed in range(first, first + count):
        print(f"seed {seed}", flush=True)
        try:
            wrongs = run_seed(seed, driver, fuel, "--trail" in sys.argv)
        except BaseException:  # SystemExit among them: its traceback is wanted
            traceback.print_exc()
            os._exit(3)
        for wrong in wrongs:
            bad = True
            print(f"WRONG seed {seed} {driver}: {wrong}", flush=True)
    print("done", flush=True)
    os._exit(bad) if bad else sys.exit(0)


if __name__ == "__main__":
    main()
