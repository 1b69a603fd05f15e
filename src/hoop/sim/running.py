"""Runs a program in a world, once or with many seeds, and checks that a seed decides everything."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from hoop.sim import swaps
from hoop.sim.driver import ORDERS, Choices, swap_tasks_made
from hoop.sim.errors import NeverHappened, NotDeterministic, SimError
from hoop.sim.event_loop import (
    LIMIT,
    OF_HASHES,
    OF_KIND,
    OF_OCTETS,
    OF_RANDOM,
    SimEventLoop,
)
from hoop.sim.patches import patched

_T = TypeVar("_T")

Main = Callable[[], Coroutine[Any, Any, _T]]

SEEDS = 200
CLEANING = 60.0  # virtual seconds for tasks to clean up in, after the limit
SHOWN = 3  # lines of a trace before the first difference
ALL_ORDERS = (*ORDERS, "mix")


class _World:
    """The world that runs, for the functions now(), always() and sometimes()."""

    def __init__(self, loop: SimEventLoop, happened: dict[str, bool]) -> None:
        self.loop = loop
        self.happened = happened


_world: _World | None = None


def now() -> float:
    """Return the virtual seconds since the world began.

    Raises RuntimeError outside of a simulation.
    """
    if _world is None or not swaps.is_inside():
        raise RuntimeError("no simulation runs in this thread")
    return _world.loop.now()


def always(condition: object, message: str) -> None:
    """Fail the run with an AssertionError if a condition does not hold. Does nothing outside of a simulation.

    hoop.sim.always(balance >= 0, "a balance is negative")
    """
    if not condition and _world is not None and swaps.is_inside():
        raise AssertionError(message)


def sometimes(condition: object, message: str) -> None:
    """Note whether a condition held. explore() fails if it has held in no run of any seed.

    So a test cannot pass without having tested anything. Does nothing outside of a simulation.

        hoop.sim.sometimes(attempt > 1, "a request was tried again")
    """
    if _world is not None and swaps.is_inside():
        _world.happened[message] = _world.happened.get(message, False) or bool(condition)


# ---- one run ---------------------------------------------------------------------------------------


def order_of(order: str, seed: int) -> str:
    """The order of a seed. A mix is half `wakes`, and a quarter each of `single` and `pct`."""
    if order not in ALL_ORDERS:
        raise ValueError(f"order must be one of {', '.join(ALL_ORDERS)}, not {order!r}")
    if order != "mix":
        return order
    return ("wakes", "wakes", "single", "pct")[Choices(seed, OF_KIND).choose(4)]


def run(
    main: Main[_T],
    *,
    seed: int = 0,
    order: str = "wakes",
    limit: float = LIMIT,
    trace: list[str] | None = None,
) -> _T:
    """Run a coroutine function in a world that a seed decides, and return its result.

    `order` is "fifo", "wakes", "starts", "single", "pct" or "mix", and `limit` the virtual seconds that the
    run may take. The list `trace` gets a line for each thing that the loop runs.

    Raises what `main` raises, and Deadlock, Livelock, TimeLimit or Unsimulated. Raises RuntimeError inside of
    a running event loop.

        hoop.sim.run(main, seed=7)
    """
    return _run(main, seed, order, limit, trace, {})


def _run(
    main: Main[_T],
    seed: int,
    order: str,
    limit: float,
    trace: list[str] | None,
    happened: dict[str, bool],
) -> _T:
    global _world
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("hoop.sim.run() cannot be called from a running event loop")
    order = order_of(order, seed)
    hashes = None if order == "fifo" else Choices(seed, OF_HASHES)
    with _collecting():
        loop = SimEventLoop(seed, order, limit=limit, trace=trace)
        try:
            swaps.begin(loop.sim_driver, Choices(seed, OF_OCTETS), hashes)
        except BaseException:
            loop.close()
            raise
        tasks_made = swap_tasks_made(0)
        _world = _World(loop, happened)
        try:
            with patched(Choices(seed, OF_RANDOM)):
                return _drive(main, loop)
        finally:
            _world = None
            swap_tasks_made(max(tasks_made, swap_tasks_made(0)))
            swaps.end()


def _drive(main: Main[_T], loop: SimEventLoop) -> _T:
    """Run to the end, and clean up as asyncio.run() does."""
    runner = asyncio.Runner(loop_factory=lambda: loop)
    try:
        result = runner.run(main())
    except BaseException:
        loop.sim_driver.grant(CLEANING)
        with contextlib.suppress(
            SimError
        ):  # the tasks that cannot end are the reason for the first error
            runner.close()
        raise
    runner.close()
    return result


@contextlib.contextmanager
def _collecting() -> Iterator[None]:
    """Keep the garbage collector out of a run: it would run finalisers at any moment."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# ---- many runs -------------------------------------------------------------------------------------


class Outcome:
    """How a run has ended, and what it ran."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.error: BaseException | None = None

    @property
    def end(self) -> str:
        """The outcome in a line."""
        return "passed" if self.error is None else f"{type(self.error).__name__}: {self.error}"


def explore(
    main: Main[Any],
    *,
    seeds: int | Iterable[int] = SEEDS,
    order: str = "wakes",
    limit: float = LIMIT,
) -> None:
    """Run a coroutine function with many seeds: with as many as `seeds` says, or with those that it has.

    All seeds run, whatever happens. Then the exception of the first seed that failed is raised, with notes
    that name all of these. The first seed and the first that fails run twice. Raises NotDeterministic if the
    two runs differ, and NeverHappened for a condition of sometimes() that never held.

        hoop.sim.explore(main, seeds=1000, order="mix")
    """
    Exploration(main, range(seeds) if isinstance(seeds, int) else seeds, order, limit).run()


class Exploration:
    """The runs of one program with many seeds."""

    def __init__(self, main: Main[Any], seeds: Iterable[int], order: str, limit: float) -> None:
        order_of(order, 0)
        self.main = main
        self.seeds = list(seeds)
        self.order = order
        self.limit = limit
        self.happened: dict[str, bool] = {}
        self.failed: int | None = None  # the first seed that has failed

    def run(self) -> None:
        """Run all, and raise the exception of the first that failed."""
        failed: list[int] = []
        first: BaseException | None = None
        if self.seeds:
            self.check(self.seeds[0])
        gc.collect()
        gc.freeze()
        try:
            for seed in self.seeds:
                error = self.once(seed, None)
                if error is not None:
                    failed.append(seed)
                    first = first or error
                    del error
        finally:
            gc.unfreeze()
        if first is not None:
            self.failed = failed[0]
            self.check(failed[0])
            shown = ", ".join(map(str, failed[:10])) + (", ..." if len(failed) > 10 else "")
            several = f" ({len(failed)} of {len(self.seeds)} seeds: {shown})"
            first.add_note(
                f"sim: seed {failed[0]} failed{several if len(self.seeds) > 1 else ''}; "
                f"order {order_of(self.order, failed[0])}; replayed: same trace"
            )
            raise first
        never = [message for message, held in self.happened.items() if not held]
        if never and len(self.seeds) > 1:
            raise NeverHappened(f"in {len(self.seeds)} seeds: {', '.join(never)}")

    def once(self, seed: int, trace: list[str] | None) -> BaseException | None:
        """Run one seed. Returns the exception that it raised."""
        try:
            _run(self.main, seed, self.order, self.limit, trace, self.happened)
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as exc:
            return exc
        except BaseException as exc:  # such as the end of a test's time: no other seed runs
            self.failed = seed
            exc.add_note(f"sim: seed {seed} ended so")
            raise
        finally:
            gc.collect(1)
        return None

    def check(self, seed: int) -> None:
        """Run one seed twice. Raises NotDeterministic if the runs differ."""
        first, second = Outcome(), Outcome()
        for outcome in (first, second):
            outcome.error = self.once(seed, outcome.trace)
        if first.trace == second.trace and first.end == second.end:
            return
        raise NotDeterministic(f"seed {seed} ran in two ways{difference(first, second)}")


def difference(first: Outcome, second: Outcome) -> str:
    """The place where two runs part, with some lines before it."""
    a, b = ([*outcome.trace, outcome.end] for outcome in (first, second))
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    lines = [f"  both:   {line}" for line in a[max(at - SHOWN, 0) : at]]
    lines += [
        f"  {name} {run[at]}" for name, run in (("first: ", a), ("second:", b)) if at < len(run)
    ]
    return "\n" + "\n".join(lines)
