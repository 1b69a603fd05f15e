"""A look at every loop and task of the process, from any thread.

The tasks are read in slices. Between them the asking thread lets go of the GIL, so that no loop waits long.
A task that is made or ends meanwhile may be missing. One that is shown is freed when the look is over.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.net.endpoint import Endpoint
from hoop.observe import labels
from hoop.observe.model import SCHEMA, Cycle, LoopView, Snapshot, TaskView
from hoop.observe.reading import asyncio_tasks_of, cancelling, of_loop, raw, serials, task_name
from hoop.observe.waits import Graph, Waits, coroutines_of, stack_of, title_of

SLICE = 500  # tasks, or other things, that are read before other threads may have the GIL
SLICE_NS = 1_000_000
REST = 50e-6
SECOND_NS = 1_000_000_000
READ_AT_ONCE = 64
SORTS = ("age", "since", "polls", "busy", "scheduled", "waited")
STATES = ("running", "ready", "waiting")
_looks = itertools.count(1)
_kind: Any = Endpoint.__dict__["_kind"].__get__


def snapshot(*, top: int = 200, sort: str = "age") -> Snapshot:
    """Return what the process's loops and tasks are doing now.

    Of the unfinished tasks it shows the `top` first ones, by `sort`: "age", "since", "polls", "busy",
    "scheduled" or "waited", the greatest first. Raises ValueError for another `sort` or a negative `top`.

        for task in hoop.observe.snapshot(top=10, sort="since").tasks:
            print(task.name, task.waits_for)

    A cycle is shown if a look a second ago or more has found it, and none of its tasks has gone on since.
    """
    if sort not in SORTS:
        raise ValueError(f"sort must be one of {', '.join(SORTS)}, not {sort!r}")
    if top < 0:
        raise ValueError(f"top must not be negative, and it is {top}")
    views = []
    graph = Graph()
    chosen: list[TaskFacts] = []
    total = 0
    loops = loops_now()
    for number, loop in loops:
        states = dict.fromkeys(STATES, 0)
        for facts in read_in_slices(loop):
            graph.add(facts.task, facts.serial, facts.polls, facts.waited_for)
            states[facts.state] += 1
            total += 1
            facts.loop = number
            facts.waited_for = None
            chosen.append(facts)
            if len(chosen) >= 2 * top + SLICE:
                chosen = heapq.nlargest(top, chosen, key=lambda one: one.key(sort))
        views.append(view_loop(number, loop, states))
    chosen = heapq.nlargest(top, chosen, key=lambda one: one.key(sort))
    awaited_by = graph.awaited_by()
    waits = {number: Waits(loop, graph) for number, loop in loops}
    rows = []
    pace = Pace(loops[0][1] if loops else None)
    for facts in chosen:
        rows.append(facts.view(waits[facts.loop], tuple(awaited_by.get(facts.serial, ()))))
        pace.step(10)
    return Snapshot(
        schema=SCHEMA,
        pid=os.getpid(),
        loops=tuple(views),
        tasks=tuple(rows),
        total=total,
        cycles=tuple(cycles.confirm(graph, time.monotonic_ns())),
    )


def loops_now() -> list[tuple[int, Any]]:
    """The open loops of this process with their numbers, the oldest first."""
    found = [
        (of_loop(loop, "_born"), loop) for loop in list(registry.loops) if not Loop.is_closed(loop)
    ]
    found.sort(key=lambda one: one[0])
    return list(enumerate(loop for _, loop in found))


# ---- reading in slices -----------------------------------------------------------------------------


class Pace:
    """Lets go of the GIL after 500 steps or a millisecond, if the loop runs in another thread."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.steps = 0
        self.until = time.monotonic_ns() + SLICE_NS

    def step(self, steps: int = 1) -> None:
        """Something was read; perhaps it is time for a rest."""
        self.steps += steps
        if self.steps % 8 and steps == 1:
            return
        if self.steps >= SLICE or time.monotonic_ns() >= self.until:
            # A thread that lets go of the GIL without sleeping mostly gets it back before the others do.
            if self.loop is not None and is_elsewhere(self.loop):
                time.sleep(REST)
            self.steps = 0
            self.until = time.monotonic_ns() + SLICE_NS


class TaskFacts:
    """The numbers of a task that are read of all tasks, before the rows to show are chosen."""

    __slots__ = (
        "age",
        "born",
        "busy",
        "loop",
        "polls",
        "scheduled",
        "serial",
        "since",
        "site",
        "state",
        "task",
        "waited",
        "waited_for",
    )

    def __init__(self, row: tuple[Any, ...], running: tuple[Any, Any], now: int) -> None:
        self.task, self.serial, self.polls, self.born, since, self.waited_for = row[:6]
        self.loop = 0
        self.age = seconds(now, self.born)
        self.since = seconds(now, since)
        self.busy = row[6] * 1e-9
        self.scheduled = row[7] * 1e-9
        self.waited = row[8] * 1e-9
        self.site = row[9]
        if self.task is running[0] or self.task is running[1]:
            self.state = "running"
        else:
            self.state = "ready" if self.waited_for is None else "waiting"

    def key(self, sort: str) -> tuple[float, int]:
        """The value that the rows are sorted by. Of equal ones the older task is the greater."""
        return getattr(self, sort), -self.serial

    def view(self, waits: Waits, awaited_by: tuple[int, ...]) -> TaskView:
        """The row of the task."""
        coroutines = coroutines_of(self.task)
        return TaskView(
            id=self.serial,
            loop=self.loop,
            name=task_name(self.task),
            state=self.state,
            since=self.since,
            age=self.age,
            polls=self.polls,
            busy=self.busy,
            scheduled=self.scheduled,
            waited=self.waited,
            coroutine=title_of(coroutines[0]) if coroutines else "",
            stack=stack_of(coroutines),
            waits_for=waits.wait_of(self.task, self.serial, coroutines),
            awaited_by=awaited_by,
            cancelling=cancelling(self.task),
            site=raw(self.task, "_created_at"),
            label=labels.of_task(self.task, coroutines),
        )


def read_in_slices(loop: Any) -> Iterator[TaskFacts]:
    """Read the numbers of each unfinished task of a loop. No more than a few tasks are kept alive.

    Those of asyncio's own class come last. They do not know when they were made, nor what they did.
    """
    look = next(_looks) & 0xFFFFFFFF
    pace = Pace(loop)
    after = None
    while True:
        rows = Loop._read_tasks(loop, after, look, READ_AT_ONCE)
        if not rows:
            break
        now = time.monotonic_ns()
        running = running_in(loop)
        after = rows[-1][0]
        for row in rows:
            yield TaskFacts(row, running, now)
        del rows, row
        pace.step(READ_AT_ONCE)
    others = asyncio_tasks_of(loop)
    running = running_in(loop)
    now = time.monotonic_ns()
    while others:
        task = others.pop()
        waited = raw(task, "_fut_waiter")
        yield TaskFacts((task, serials.of(task), 0, 0, 0, waited, 0, 0, 0, 0), running, now)
        pace.step()


def running_in(loop: Any) -> tuple[Any, Any]:
    """The runnable that a loop runs, and the task that runs: one that has begun eagerly runs within another.

    Between two runnables asyncio may still tell the last task.
    """
    runnable = of_loop(loop, "_current_runnable")
    return runnable, None if runnable is None else asyncio.current_task(loop)


def seconds(now: int, then: int) -> float:
    """The time since a stamp. 0 if the stamp was never set, or is newer than the look."""
    return max(now - then, 0) / 1e9 if then else 0.0


def is_elsewhere(loop: Any) -> bool:
    """Whether the loop runs in another thread, which may be waiting for the GIL."""
    return of_loop(loop, "_thread_id") not in (None, threading.get_ident())


# ---- cycles ----------------------------------------------------------------------------------------


def cycles_of(needs: dict[int, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The cycles of tasks of which each cannot go on without the next."""
    found = []
    judged: set[int] = set()
    for start in needs:
        if start in judged:
            continue
        path: list[int] = [start]
        places = {start: 0}
        open_steps = [iter(needs[start])]
        judged.add(start)
        while path:
            target = next(open_steps[-1], None)
            if target is None:
                del places[path.pop()]
                open_steps.pop()
            elif target in places:
                found.append(tuple(path[places[target] :]))
            elif target not in judged:
                judged.add(target)
                places[target] = len(path)
                path.append(target)
                open_steps.append(iter(needs.get(target, ())))
    return found


class Cycles:
    """Remembers the cycles of the last looks. The tasks of a new one may be about to go on."""

    def __init__(self) -> None:
        self.seen: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {}

    def confirm(self, graph: Graph, now: int) -> list[Cycle]:
        """Return the cycles that a look a second ago or more has found, if no task has taken a step since."""
        found = []
        seen: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {}
        for cycle in cycles_of(graph.needs()):
            key = frozenset(cycle)
            polls = tuple(graph.polls.get(serial, 0) for serial in sorted(key))
            since, before = self.seen.get(key, (now, polls))
            if polls != before:
                since = now
            seen[key] = since, polls
            if now - since >= SECOND_NS:
                found.append(Cycle(cycle, graph.say(cycle), (now - since) * 1e-9))
        self.seen = seen
        return found


cycles = Cycles()


# ---- loops -----------------------------------------------------------------------------------------


def thread_name(ident: int | None) -> str | None:
    """The name of a thread of Python's; its number if Python does not know it."""
    if ident is None:
        return None
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    if thread is None or type(thread._name) is not str:
        return str(ident)
    return thread._name


def view_loop(number: int, loop: Any, states: dict[str, int]) -> LoopView:
    """The row of a loop."""
    counts: dict[str, Any] = Loop.statistics(loop)
    counters: dict[str, Any] = Loop.counters(loop)
    connections: dict[str, int] = {}
    pace = Pace(loop)
    for transport in Loop._open_transports(loop):
        kind = _kind(transport)
        connections[kind] = connections.get(kind, 0) + 1
        pace.step()
    return LoopView(
        id=number,
        thread=thread_name(of_loop(loop, "_thread_id")),
        driver=Loop._driver_name(loop),
        age=seconds(time.monotonic_ns(), counts["born"]),
        idle=counts["idle_ns"] / 1e9,
        turns=counters["turns"],
        callbacks=counters["callbacks"],
        ready=counters["ready"],
        ready_max=counters["ready_max"],
        visit=summary(counts["visits"]),
        timer_lag=summary(counts["timer_lag"]),
        tasks=states,
        tasks_ended=counts["tasks"],
        transports=counters["transports"],
        timers=counters["timers"],
        bytes_in=counts["bytes_in"],
        bytes_out=counts["bytes_out"],
        accepted=counts["accepted"],
        refused=counts["refused"],
        born=counts["born"],
        sleeps=counters["sleeps"],
        wakes=counters["wakes"],
        connections=connections,
        uring=counts["driver"],
    )


def summary(histogram: Any) -> tuple[float, float, float]:
    """Median, 99th percentile and the longest of a histogram, in seconds."""
    return histogram.quantile(0.5), histogram.quantile(0.99), histogram.max_ns / 1e9
