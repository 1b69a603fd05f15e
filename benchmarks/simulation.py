"""Counts the runs and the virtual seconds that hoop.sim does in a second, beside other virtual clocks.

The question it answers: how long do many seeds of a test take? The one it cannot: how fast a program is
without a simulation. A virtual clock takes no time to wait, so what counts is the work between the waits.

looptime and async-solipsism put a virtual clock under asyncio's own loop. Neither has an order or a network
that a seed decides. With looptime connections are real ones of this machine, with async-solipsism queues in
memory, and both deliver at once. hoop.sim runs a number of seeds, whose networks differ, and its cost is the
mean of them. All take turns in one process, and a ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import statistics
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from loops import describe_python
from workloads import Unavailable, attribute, virtual

DOCS = Path(__file__).resolve().parent.parent / "docs" / "simulation.md"
BEGIN, END = "<!-- benchmarks/simulation.py -->\n\n", "<!-- until here -->"
ROUNDS, LEAST_S = 7, 0.2
LIMIT_S = 1e6

Main = Callable[[], Coroutine[Any, Any, int]]


@dataclasses.dataclass(frozen=True)
class Row:
    """A program, and how many seeds make one measurement of hoop.sim."""

    title: str
    main: Main
    seeds: int


ROWS = {
    "sleeps": Row("10,000 tasks that sleep", virtual.sleeps, 4),
    "timeouts": Row("2,000 timeouts, one after the other", virtual.timeouts, 8),
    "queue": Row("2,000 items through a queue", virtual.queue, 16),
    "small": Row("a small test: two tasks, a lock, sleeps, a queue", virtual.small, 64),
    "small-server": Row("a small test: a server, two clients", virtual.small_server, 64),
    "echo": Row("an echo server, 5 clients, 250 messages", virtual.echo, 32),
    "chat": Row("a chat of 50 clients, 50 deliveries a second", virtual.calm_chat, 16),
    "busy-chat": Row("a chat of 50 clients, 450 deliveries a second", virtual.busy_chat, 8),
}


@dataclasses.dataclass
class Sample:
    """The means of one measurement, for one run."""

    cpu_s: float
    virtual_s: float
    operations: float


class Tally:
    """Counts of some runs of a program."""

    def __init__(self, main: Main) -> None:
        self.main = main
        self.runs = 0
        self.operations = 0
        self.virtual_s = 0.0

    async def run(self) -> None:
        """Run the program once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.operations += await self.main()
        self.virtual_s += loop.time() - began
        self.runs += 1


Explore = Callable[[Tally, int], None]


def simulate(tally: Tally, seeds: int) -> None:
    """Run a program on hoop.sim with so many seeds. The first runs twice, as always."""
    import hoop.sim

    hoop.sim.explore(tally.run, seeds=seeds, limit=LIMIT_S)


def on_loop(factory: Callable[[], Any]) -> Explore:
    """Return a function that runs a program on a loop with a virtual clock."""

    def explore(tally: Tally, seeds: int) -> None:
        for _ in range(seeds):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(tally.run())

    return explore


def looptime_loop() -> type:
    """The class of looptime's loop."""
    mixin: type = attribute("looptime", "LoopTimeEventLoop")
    return type("Loop", (mixin, asyncio.SelectorEventLoop), {})


def contestants() -> dict[str, Explore]:
    """Return functions that run a program in virtual time, by name. Says which packages are missing."""
    found: dict[str, Explore] = {"hoop.sim": simulate}
    others: dict[str, Callable[[], Any]] = {
        "looptime": looptime_loop,
        "async-solipsism": lambda: attribute("async_solipsism", "EventLoop"),
    }
    for name, load in others.items():
        try:
            found[name] = on_loop(load())
        except Unavailable as error:
            print(f"{name} is not here: {error}")
    return found


def measure(explore: Explore, main: Main, seeds: int, least_s: float) -> Sample:
    """Run a program with each seed, and again until that has taken long enough."""
    tally = Tally(main)
    began = time.process_time()
    while True:
        explore(tally, seeds)
        cpu_s = time.process_time() - began
        if cpu_s >= least_s:
            runs = tally.runs
            return Sample(cpu_s / runs, tally.virtual_s / runs, tally.operations / runs)


def table(samples: dict[str, dict[str, list[Sample]]], others: list[str]) -> str:
    """The figures of all rows. Those of the others are their CPU time, divided by hoop.sim's."""
    heads = ["", "CPU for a seed", "seeds a second", "virtual seconds a second", *others]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, found in samples.items():
        ours = found["hoop.sim"]
        cpu_s = statistics.median(sample.cpu_s for sample in ours)
        cells = [ROWS[name].title, f"{cpu_s * 1e3:,.2g} ms" if cpu_s < 0.1 else f"{cpu_s:.2f} s"]
        cells.append(f"{1 / cpu_s:,.0f}" if cpu_s < 0.1 else f"{1 / cpu_s:.1f}")
        cells.append(f"{statistics.median(s.virtual_s for s in ours) / cpu_s:,.0f}")
        for other in others:
            each = [theirs.cpu_s / sample.cpu_s for theirs, sample in zip(found[other], ours)]
            cells.append(f"{statistics.median(each):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", help=f"comma-separated, of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one seed, once: does it work?")
    parser.add_argument(
        "--docs", action="store_true", help=f"put the table into {os.path.relpath(DOCS)}, too"
    )
    return parser.parse_args()


def put_into_docs(text: str) -> None:
    """Write the table in the place of the one before."""
    before, rest = DOCS.read_text().split(BEGIN)
    _, after = rest.split(END)
    DOCS.write_text(f"{before}{BEGIN}{text}\n{END}{after}")


def main() -> None:
    arguments = parse_arguments()
    names = arguments.rows.split(",") if arguments.rows else list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    warnings.simplefilter("ignore", ResourceWarning)  # looptime leaves its selector open
    running = contestants()
    for explore in running.values():
        explore(Tally(virtual.small), 1)  # imports, and makes what the process keeps
    samples: dict[str, dict[str, list[Sample]]] = {
        name: {contestant: [] for contestant in running} for name in names
    }
    for _ in range(1 if arguments.quick else arguments.rounds):
        for name in names:
            row = ROWS[name]
            for contestant, explore in running.items():
                seeds = row.seeds if contestant == "hoop.sim" and not arguments.quick else 1
                least_s = 0.0 if arguments.quick else LEAST_S
                samples[name][contestant].append(measure(explore, row.main, seeds, least_s))
    text = table(samples, [name for name in running if name != "hoop.sim"])
    print(f"{describe_python()}, median of {len(samples[names[0]]['hoop.sim'])} rounds\n\n{text}")
    for name, found in samples.items():
        operations = statistics.median(sample.operations for sample in found["hoop.sim"])
        print(f"{name}: {operations:,.0f} operations a run")
    if arguments.docs:
        put_into_docs(text)


if __name__ == "__main__":
    main()
