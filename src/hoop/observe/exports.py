"""Numbers for other programs: as the text that Prometheus reads, and as instruments of OpenTelemetry.

`metrics()` and `otel()` read what the loops and the observer count anyway. Stalls, garbage collections and
the observer's own cost are there only if the program is observed.
"""

from __future__ import annotations

import bisect
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.observe import thread
from hoop.observe.model import LoopView, PoolView
from hoop.observe.resources import pools
from hoop.observe.snapshot import snapshot
from hoop.scheduling.histogram import Histogram

FRESH = 0.05  # seconds for which numbers that were read are used again
# Upper bounds in nanoseconds, from 8 µs to 17 s: powers of two, which are bounds of hoop's own histograms.
POWERS = (13, 15, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 34)
BOUNDS = [float(1 << n) for n in POWERS]

Labels = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """How many times were not longer than each of BOUNDS, how many there were, and their sum in seconds."""

    counts: tuple[int, ...]
    count: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its labels. `kind` is "counter", "gauge" or "histogram"."""

    name: str
    kind: str
    text: str
    samples: list[tuple[Labels, float | Times]]


def metrics() -> str:
    """Return the program's numbers as text for Prometheus, to be sent as `text/plain; version=0.0.4`.

    async def handle(request):
        return web.Response(text=hoop.observe.metrics())
    """
    return "".join(line for family in numbers(snapshot(top=0).loops) for line in lines_of(family))


# ---- the numbers -----------------------------------------------------------------------------------


_read: tuple[float, tuple[LoopView, ...], list[Family]] = (0.0, (), [])


def fresh() -> tuple[float, tuple[LoopView, ...], list[Family]]:
    """The time, the loops and all numbers, read anew unless that was done a moment ago.

    Each instrument asks for all of them.
    """
    global _read
    if not 0 <= time.monotonic() - _read[0] < FRESH:
        views = snapshot(top=0).loops
        _read = time.monotonic(), views, numbers(views)
    return _read


def numbers(views: tuple[LoopView, ...]) -> list[Family]:
    """Read all numbers of these loops, and those of the process."""
    named = list(zip(names_of(views), views))
    statistics = statistics_of(views)
    found = [
        Family("hoop_info", "gauge", "The program", [((*versions(),), 1)]),
        per_loop_times(
            "hoop_loop_visit_seconds",
            "Time between two looks for events",
            named,
            statistics,
            "visits",
        ),
        per_loop_times(
            "hoop_timer_lag_seconds", "Lateness of timers", named, statistics, "timer_lag"
        ),
        per_loop("hoop_loop_idle_seconds_total", "Time asleep", named, lambda view: view.idle),
        per_loop("hoop_loop_turns_total", "Turns of the loop", named, lambda view: view.turns),
        per_loop(
            "hoop_callbacks_total",
            "Callbacks and steps of tasks",
            named,
            lambda view: view.callbacks,
        ),
        per_loop(
            "hoop_ready", "Callbacks that are to run now", named, lambda view: view.ready, "gauge"
        ),
        per_loop(
            "hoop_timers", "Timers that are not due", named, lambda view: view.timers, "gauge"
        ),
        per_loop("hoop_accepted_total", "Connections taken", named, lambda view: view.accepted),
        per_loop(
            "hoop_refused_total",
            "Connections that could not be served",
            named,
            lambda view: view.refused,
        ),
        per_loop(
            "hoop_tasks_made_total", "Tasks made", named, lambda view: view.tasks_ended["made"]
        ),
        by_label(
            "hoop_tasks", "gauge", "Unfinished tasks", "state", named, lambda view: view.tasks
        ),
        by_label("hoop_tasks_ended_total", "counter", "Tasks that ended", "how", named, ended),
        by_label("hoop_connections", "gauge", "Open connections", "kind", named, connections),
        by_label(
            "hoop_bytes_total", "counter", "Bytes of connections", "direction", named, bytes_moved
        ),
        pool_family(pools(), named),
    ]
    return [*found, *observed()]


def versions() -> Iterator[tuple[str, str]]:
    yield "version", sys.modules["hoop"].__version__  # an outer room, which is imported first
    yield "python", ".".join(map(str, sys.version_info[:3]))


def names_of(views: Iterable[LoopView]) -> list[str]:
    """A name for each loop: that of its thread, and a number if two would have the same."""
    names: list[str] = []
    for view in views:
        name, n = view.thread or "stopped", 1
        while name in names:
            n += 1
            name = f"{view.thread or 'stopped'} {n}"
        names.append(name)
    return names


def statistics_of(views: Iterable[LoopView]) -> list[dict[str, Any]]:
    """The statistics of each loop, in the order of the views."""
    found = {}
    for loop in list(registry.loops):
        one = Loop.statistics(loop)
        found[one["born"]] = one
    return [found[view.born] for view in views]


Named = list[tuple[str, LoopView]]


def per_loop(
    name: str, text: str, named: Named, value: Callable[[LoopView], float], kind: str = "counter"
) -> Family:
    return Family(name, kind, text, [((("loop", loop),), value(view)) for loop, view in named])


def per_loop_times(
    name: str, text: str, named: Named, statistics: list[dict[str, Any]], field: str
) -> Family:
    samples: list[tuple[Labels, float | Times]] = [
        ((("loop", loop),), times_of(one[field])) for (loop, _), one in zip(named, statistics)
    ]
    return Family(name, "histogram", text, samples)


def by_label(
    name: str,
    kind: str,
    text: str,
    label: str,
    named: Named,
    values: Callable[[LoopView], dict[str, int]],
) -> Family:
    samples: list[tuple[Labels, float | Times]] = [
        ((("loop", loop), (label, key)), value)
        for loop, view in named
        for key, value in values(view).items()
    ]
    return Family(name, kind, text, samples)


def ended(view: LoopView) -> dict[str, int]:
    """How tasks ended. Those that returned are the rest."""
    counts = view.tasks_ended
    failed, cancelled = counts["failed"], counts["cancelled"]
    return {
        "returned": max(counts["ended"] - failed - cancelled, 0),
        "failed": failed,
        "cancelled": cancelled,
    }


def connections(view: LoopView) -> dict[str, int]:
    return view.connections


def bytes_moved(view: LoopView) -> dict[str, int]:
    return {"in": view.bytes_in, "out": view.bytes_out}


def pool_family(found: Iterable[PoolView], named: Named) -> Family:
    """The jobs that wait for a thread, together for pools of one kind and loop."""
    queued: dict[Labels, float] = {}
    for pool in found:
        loop = named[pool.loop][0] if pool.loop is not None and pool.loop < len(named) else ""
        labels = (("loop", loop), ("pool", pool.kind))
        queued[labels] = queued.get(labels, 0) + pool.queued
    return Family("hoop_pool_queued", "gauge", "Jobs that wait for a thread", list(queued.items()))


def observed() -> Iterator[Family]:
    """The numbers that only the observer has."""
    observer = thread.current()
    if observer is None:
        return
    watch = observer.watch
    yield Family(
        "hoop_gc_pause_seconds",
        "histogram",
        "Garbage collections",
        [
            ((("generation", str(n)),), counted(counts, watch.collections.pauses[n][1]))
            for n, counts in enumerate(watch.collections.lasted)
        ],
    )
    yield Family(
        "hoop_stall_seconds",
        "histogram",
        "Times in which a loop could not run",
        [
            ((("cause", cause),), counted(counts, watch.seconds[cause]))
            for cause, counts in list(watch.lasted.items())
        ],
    )
    yield Family(
        "hoop_starved_total", "counter", "Times without a processor", [((), watch.starved)]
    )
    yield Family(
        "hoop_observer_cpu_seconds_total",
        "counter",
        "Processor time of the observer",
        [((), observer.budget.spent)],
    )


# ---- histograms --------------------------------------------------------------------------------------


def counted(counts: list[int], seconds: float) -> Times:
    """Make the buckets of a metric of counts by powers of two."""
    return Times(tuple(sum(counts[: n + 1]) for n in POWERS), sum(counts), seconds)


_ends: list[int] = []


def times_of(histogram: Any) -> Times:
    """Make the few buckets of a metric of hoop's many."""
    if not _ends:
        all_bounds = Histogram.bounds()
        _ends.extend(bisect.bisect_right(all_bounds, bound) for bound in BOUNDS)
    counts = histogram.counts()
    found, seen, at = [], 0, 0
    for end in _ends:
        seen += sum(counts[at:end])
        at = end
        found.append(seen)
    seen += sum(counts[at:])
    return Times(tuple(found), seen, histogram.total_ns * 1e-9)


# ---- Prometheus ------------------------------------------------------------------------------------


def lines_of(family: Family) -> Iterator[str]:
    """The lines of a metric."""
    if not family.samples:
        return
    yield f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"
    for labels, value in family.samples:
        if not isinstance(value, Times):
            yield f"{family.name}{braces(labels)} {value!r}\n"
            continue
        for bound, count in zip(BOUNDS, value.counts):
            yield f"{family.name}_bucket{braces((*labels, ('le', repr(bound * 1e-9))))} {count}\n"
        yield f"{family.name}_bucket{braces((*labels, ('le', '+Inf')))} {value.count}\n"
        yield f"{family.name}_sum{braces(labels)} {value.seconds!r}\n"
        yield f"{family.name}_count{braces(labels)} {value.count}\n"


def braces(labels: Labels) -> str:
    """The labels of a sample as Prometheus reads them."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def with_label(text: str, label: str, value: str) -> str:
    """Add a label to each sample of a text of metrics()."""
    added = f'{label}="{escaped(value)}"'
    return "".join(
        line if line.startswith("#") else add_label(line, added)
        for line in text.splitlines(keepends=True)
    )


def add_label(line: str, added: str) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f"{name}{{{added},{rest}"
    name, space, rest = line.partition(" ")
    return f"{name}{{{added}}}{space}{rest}"


def merged(texts: dict[int, str]) -> str:
    """One text of those of several processes, with a label `pid`. The lines of a metric stay together."""
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for pid, text in texts.items():
        name = ""
        for line in with_label(text, "pid", str(pid)).splitlines(keepends=True):
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                heads.setdefault(name, line)
            elif line.startswith("# TYPE "):
                heads[name] = heads[name] if "# TYPE" in heads[name] else heads[name] + line
            else:
                samples.setdefault(name, []).append(line)
    return "".join(heads[name] + "".join(lines) for name, lines in samples.items())


# ---- OpenTelemetry ---------------------------------------------------------------------------------


def otel(meter: Any) -> None:
    """Make observable instruments of the program's numbers, for a meter of OpenTelemetry.

    Of the times of visits and timers there are p50, p99 and the longest, since the loop was made.
    OpenTelemetry has no histogram that can be read.

        hoop.observe.otel(opentelemetry.metrics.get_meter("hoop"))
    """
    from opentelemetry.metrics import Observation

    def observing(name: str, unit: str) -> Callable[[Any], Iterator[Any]]:
        def observe(options: Any) -> Iterator[Any]:
            for family in fresh()[2]:
                if family.name == name:
                    for labels, value in family.samples:
                        if isinstance(value, Times):
                            value = value.seconds if unit == "s" else value.count
                        yield Observation(value, dict(labels))

        return observe

    def quantiles(field: str, n: int) -> Callable[[Any], Iterator[Any]]:
        def observe(options: Any) -> Iterator[Any]:
            views = fresh()[1]
            for name, view in zip(names_of(views), views):
                yield Observation(getattr(view, field)[n], {"loop": name})

        return observe

    for name, text, field in (
        ("hoop.loop.visit", "Time between two looks for events", "visit"),
        ("hoop.timer.lag", "Lateness of timers", "timer_lag"),
    ):
        for n, what in enumerate(("p50", "p99", "max")):
            meter.create_observable_gauge(
                f"{name}.{what}", [quantiles(field, n)], unit="s", description=text
            )
    for name, kind, unit, text, source in OTEL:
        create = getattr(meter, f"create_observable_{kind}")
        create(name, [observing(source, unit)], unit=unit, description=text)


# The name of an instrument, its kind, its unit, its description, and the metric that it shows.
OTEL = (
    ("hoop.loop.idle", "counter", "s", "Time asleep", "hoop_loop_idle_seconds_total"),
    ("hoop.loop.turns", "counter", "{turn}", "Turns of the loop", "hoop_loop_turns_total"),
    ("hoop.callbacks", "counter", "{callback}", "Callbacks and steps", "hoop_callbacks_total"),
    ("hoop.ready", "gauge", "{callback}", "Callbacks that are to run now", "hoop_ready"),
    ("hoop.tasks", "gauge", "{task}", "Unfinished tasks", "hoop_tasks"),
    ("hoop.tasks.ended", "counter", "{task}", "Tasks that ended", "hoop_tasks_ended_total"),
    ("hoop.connections", "gauge", "{connection}", "Open connections", "hoop_connections"),
    ("hoop.bytes", "counter", "By", "Bytes of connections", "hoop_bytes_total"),
    ("hoop.pool.queued", "gauge", "{job}", "Jobs that wait for a thread", "hoop_pool_queued"),
    ("hoop.stall.time", "counter", "s", "Time in which a loop could not run", "hoop_stall_seconds"),
    ("hoop.stalls", "counter", "{stall}", "Times a loop could not run", "hoop_stall_seconds"),
    ("hoop.gc.pause.time", "counter", "s", "Garbage collections", "hoop_gc_pause_seconds"),
    (
        "hoop.observer.cpu",
        "counter",
        "s",
        "Cost of the observer",
        "hoop_observer_cpu_seconds_total",
    ),
)
