"""The views that a client may ask for, by name: each makes its answer of a checked query."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.observe import resources
from hoop.observe.model import SCHEMA, GcView, LoopView, ObserverView, Overview, Rates, plain
from hoop.observe.reading import of_loop
from hoop.observe.server import Query, Wrong
from hoop.observe.snapshot import snapshot
from hoop.scheduling.histogram import Histogram

if TYPE_CHECKING:
    from hoop.observe.stalls import Watch

logger = logging.getLogger("hoop.observe")

TOP_MAX = 10_000
TOP = 200
KEPT = 10.0  # seconds that `recent` is about
SAMPLE_EVERY = 1.0


# ---- the last seconds of each loop -----------------------------------------------------------------------


class Sample:
    """The counters of a loop at one moment."""

    __slots__ = ("at", "counters", "lag", "statistics", "visits")

    def __init__(self, loop: Any, at: float) -> None:
        self.at = at
        self.counters: dict[str, Any] = Loop.counters(loop)
        self.statistics: dict[str, Any] = Loop.statistics(loop)
        self.visits: list[int] = self.statistics["visits"].counts()
        self.lag: list[int] = self.statistics["timer_lag"].counts()


def quantiles(before: list[int], after: list[int]) -> tuple[float, float, float]:
    """Median, 99th percentile and the longest of what was counted between, in seconds."""
    counts = [b - a for a, b in zip(before, after)]
    total = sum(counts)
    found = []
    for share in (0.5, 0.99, 1.0):
        seen = 0
        for bound, count in zip(Histogram.bounds(), counts):
            seen += count
            if total and seen >= share * total:
                found.append(bound * 1e-9)
                break
        else:
            found.append(0.0)
    return found[0], found[1], found[2]


class History:
    """Samples of the loops in the last ten seconds. `take()` is to be called about once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.due = 0.0
        self.samples: dict[int, deque[Sample]] = {}  # by `born`

    def take(self) -> None:
        """Take a sample of each loop, if the last one is old enough."""
        now = self.clock()
        if now < self.due:
            return
        self.due = now + SAMPLE_EVERY
        kept: dict[int, deque[Sample]] = {}
        for loop in list(registry.loops):
            if not Loop.is_closed(loop):
                sample = Sample(loop, now)
                born = sample.statistics["born"]
                samples = kept[born] = self.samples.get(born, deque())
                samples.append(sample)
                while now - samples[0].at > KEPT + SAMPLE_EVERY / 2:
                    samples.popleft()
        self.samples = kept

    def rates(self, born: int) -> Rates | None:
        """The last seconds of a loop; None if it has not been seen twice."""
        samples = self.samples.get(born)
        if samples is None or len(samples) < 2:
            return None
        first, last = samples[0], samples[-1]
        seconds = last.at - first.at

        def per_second(kind: str, name: str) -> float:
            before, after = getattr(first, kind)[name], getattr(last, kind)[name]
            return float(after - before) / seconds

        made = last.statistics["tasks"]["made"] - first.statistics["tasks"]["made"]
        return Rates(
            seconds=seconds,
            visit=quantiles(first.visits, last.visits),
            timer_lag=quantiles(first.lag, last.lag),
            idle=min(per_second("statistics", "idle_ns") * 1e-9, 1.0),
            turns=per_second("counters", "turns"),
            callbacks=per_second("counters", "callbacks"),
            bytes_in=per_second("statistics", "bytes_in"),
            bytes_out=per_second("statistics", "bytes_out"),
            tasks_made=made / seconds,
            accepted=per_second("statistics", "accepted"),
        )


# ---- the views ---------------------------------------------------------------------------------------


def program_name() -> str:
    """The name of the program's file: no path, and no arguments."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if type(file) is not str:
        file = sys.argv[0] if sys.argv else ""
    if os.path.basename(file) == "__main__.py":
        file = os.path.dirname(file)
    return os.path.basename(file) or "python"


def greeting() -> dict[str, Any]:
    """The first line that a client gets."""
    return {
        "hoop": sys.modules["hoop"].__version__,  # an outer room, which is imported first
        "schema": SCHEMA,
        "pid": os.getpid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "program": program_name(),
    }


# The views that resources.py makes.
RESOURCES: dict[str, Callable[[int], Any]] = {
    "sites": resources.sites,
    "connections": resources.connections,
    "servers": resources.servers,
    "locks": resources.locks,
    "timers": resources.timers,
    "pools": resources.pools,
    "children": resources.children,
}


class Views:
    """Answers queries. `about()` tells of the observer itself."""

    def __init__(self, watch: Watch, about: Callable[[], ObserverView]) -> None:
        self.watch = watch
        self.about = about
        self.history = History()
        self.began = time.monotonic()
        self.table: dict[str, Callable[[Query], Any]] = {
            "overview": self.overview,
            "tasks": self.tasks,
            "tree": self.tree,
            "stack": self.stack,
            "stalls": self.stalls,
            "cycles": self.cycles,
            "metrics": self.metrics,
            **dict.fromkeys(RESOURCES, self.resources),
        }

    def answer(self, query: Query) -> Any:
        """Return the answer as what json.dumps() takes. Raises Wrong if there is none."""
        view = self.table.get(query.view)
        if view is None:
            raise Wrong(f"no such view: {query.view}")
        try:
            return plain(view(query))
        except Wrong:
            raise
        except Exception as exc:
            logger.exception("the view %s failed", query.view)
            raise Wrong(f"the view failed: {type(exc).__name__}") from exc

    def news(self, query: Query) -> list[Any]:
        """The reports of stalls since the last call for this query; first all that are kept."""
        new = min(self.watch.reports - query.seen, len(self.watch.recent))
        query.seen = self.watch.reports
        return [plain(stall) for stall in list(self.watch.recent)[-new:]] if new else []

    def with_rates(self, loop: LoopView, blocked: dict[int, float]) -> LoopView:
        return dataclasses.replace(
            loop,
            recent=self.history.rates(loop.born),
            blocked=blocked.get(loop.born, 0.0),
        )

    def overview(self, query: Query) -> Overview:
        found = snapshot(top=0)
        blocked = {
            of_loop(loop, "_born"): self.watch.blocked_for(loop) for loop in list(registry.loops)
        }
        pauses = enumerate(self.watch.collections.pauses)
        hello = greeting()
        return Overview(
            schema=SCHEMA,
            pid=hello["pid"],
            program=hello["program"],
            hoop=hello["hoop"],
            python=hello["python"],
            uptime=time.monotonic() - self.began,
            loops=tuple(self.with_rates(loop, blocked) for loop in found.loops),
            gc=tuple(GcView(n, int(many), took, most) for n, (many, took, most) in pauses),
            stalls=dict(self.watch.counts),
            stall_seconds=dict(self.watch.seconds),
            starved=self.watch.starved,
            last_stall=self.watch.recent[-1] if self.watch.recent else None,
            cycles=len(found.cycles),
            observer=self.about(),
            throttled=self.watch.throttling.seconds(),
        )

    def tasks(self, query: Query) -> Any:
        sort = query.text("sort", "age")
        label = query.text("label", "*")
        top = query.number("top", TOP, TOP_MAX)
        try:
            found = snapshot(top=top if label == "*" else TOP_MAX, sort=sort).tasks
        except ValueError as exc:
            raise Wrong(str(exc)) from None
        if label == "*":
            return found
        return tuple(task for task in found if fnmatch.fnmatchcase(task.label, label))[:top]

    def tree(self, query: Query) -> Any:
        """The tasks, oldest first. Each says for whom it waits, and who waits for it."""
        return snapshot(top=query.number("top", TOP, TOP_MAX)).tasks

    def stack(self, query: Query) -> Any:
        """One task, or the threads of the loops with what they run."""
        number = query.number("task", 0, sys.maxsize)
        found = snapshot(top=TOP_MAX).tasks
        if number:
            found = tuple(task for task in found if task.id == number)
            if not found:
                raise Wrong(f"no unfinished task has the id {number}")
            return found
        return found[: query.number("top", TOP, TOP_MAX)]

    def stalls(self, query: Query) -> Any:
        """The last reports, the newest first."""
        return tuple(reversed(self.watch.recent))[: query.number("top", TOP, TOP_MAX)]

    def cycles(self, query: Query) -> Any:
        return snapshot(top=0).cycles

    def metrics(self, query: Query) -> Any:
        exports: Any = importlib.import_module("hoop.observe.exports")  # it imports the thread
        return exports.metrics()

    def resources(self, query: Query) -> Any:
        return RESOURCES[query.view](query.number("top", TOP, TOP_MAX))
