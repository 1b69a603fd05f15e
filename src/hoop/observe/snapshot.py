"""A look at every loop and task of the process, from any thread.

The tasks are read in slices. Between them the asking thread lets go of the GIL, so that no loop waits long.
A task that ends meanwhile is shown as it was found, and it is freed when the look is over.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.observe import labels
from hoop.observe.model import SCHEMA, Cycle, LoopView, Snapshot, TaskView
from hoop.observe.waits import Waits, coroutines_of, cycles_of, of_loop, raw, stack_of, title_of
from hoop.scheduling.task import Task

SLICE = 500
SORTS = ("age", "since", "polls", "busy")
STATES = ("running", "ready", "waiting")


def snapshot(*, top: int = 200, sort: str = "age") -> Snapshot:
    """Return what the process's loops and tasks are doing now.

    Of the unfinished tasks it shows the `top` first ones, by `sort`: "age", "since", "polls" or "busy", the
    greatest first. Raises ValueError for another `sort`, or if `top` is negative.

        for task in hoop.observe.snapshot(top=10, sort="since").tasks:
            print(task.name, task.waits_for)
    """
    if sort not in SORTS:
        raise ValueError(f"sort must be one of {', '.join(SORTS)}, not {sort!r}")
    if top < 0:
        raise ValueError(f"top must not be negative, and it is {top}")
    loops = [
        (Loop.statistics(loop), loop) for loop in list(registry.loops) if not Loop.is_closed(loop)
    ]
    loops.sort(key=lambda one: one[0]["born"])
    views = []
    rows: list[tuple[int, Waits, TaskFacts]] = []
    graph: dict[int, tuple[int, ...]] = {}
    for number, (counts, loop) in enumerate(loops):
        facts, waits = read_tasks(loop, graph)
        views.append(view_loop(number, loop, counts, facts))
        rows.extend((number, waits, fact) for fact in facts)
    rows.sort(key=lambda row: row[2].key(sort), reverse=True)
    awaited_by: dict[int, list[int]] = {}
    for waiter, targets in graph.items():
        for target in targets:
            awaited_by.setdefault(target, []).append(waiter)
    return Snapshot(
        schema=SCHEMA,
        pid=os.getpid(),
        loops=tuple(views),
        tasks=tuple(
            fact.view(number, waits, tuple(awaited_by.get(fact.serial, ())))
            for number, waits, fact in rows[:top]
        ),
        total=len(rows),
        cycles=tuple(Cycle(cycle) for cycle in cycles_of(graph)),
    )


class TaskFacts:
    """The numbers of a task that are read of all tasks, before the rows to show are chosen."""

    __slots__ = ("age", "busy", "polls", "serial", "since", "state", "targets", "task")

    def __init__(self, task: Any, running: Any, now: int, targets: tuple[int, ...]) -> None:
        self.task = task
        self.targets = targets
        self.serial: int = raw(task, "_serial")
        self.polls: int = raw(task, "_polls")
        self.busy: float = raw(task, "_busy_ns") / 1e9
        self.age = seconds(now, raw(task, "_born"))
        self.since = seconds(now, raw(task, "_since"))
        if task is running:
            self.state = "running"
        else:
            self.state = "ready" if raw(task, "_fut_waiter") is None else "waiting"

    def key(self, sort: str) -> tuple[float, int]:
        """The value that the rows are sorted by. Of equal ones the older task is the greater."""
        return getattr(self, sort), -self.serial

    def view(self, loop: int, waits: Waits, awaited_by: tuple[int, ...]) -> TaskView:
        """The row of the task."""
        coroutines = coroutines_of(self.task)
        return TaskView(
            id=self.serial,
            loop=loop,
            name=str.__str__(Task.get_name(self.task)),
            state=self.state,
            since=self.since,
            age=self.age,
            polls=self.polls,
            busy=self.busy,
            coroutine=title_of(coroutines[0]) if coroutines else "",
            stack=stack_of(coroutines),
            waits_for=waits.wait_of(self.task, coroutines, self.targets),
            awaited_by=awaited_by,
            cancelling=Task.cancelling(self.task),
            site=raw(self.task, "_created_at"),
            label=labels.of_task(self.task, coroutines),
        )


def seconds(now: int, then: int) -> float:
    """The time since a stamp. 0 if the stamp was never set, or is newer than the look."""
    return max(now - then, 0) / 1e9 if then else 0.0


def is_elsewhere(loop: Any) -> bool:
    """Whether the loop runs in another thread, which may be waiting for the GIL."""
    return of_loop(loop, "_thread_id") not in (None, threading.get_ident())


def read_tasks(loop: Any, graph: dict[int, tuple[int, ...]]) -> tuple[list[TaskFacts], Waits]:
    """Read the numbers of each task of a loop, and note in the graph which tasks wait for which."""
    tasks = Loop._unfinished_tasks(loop)
    waits = Waits(loop, tasks)
    facts = []
    running = of_loop(loop, "_current_runnable")
    now = time.monotonic_ns()
    for i, task in enumerate(tasks):
        if i and i % SLICE == 0 and is_elsewhere(loop):
            time.sleep(0)
            running = of_loop(loop, "_current_runnable")
            now = time.monotonic_ns()
        targets = waits.targets(task)
        fact = TaskFacts(task, running, now, targets)
        facts.append(fact)
        if targets:
            graph[fact.serial] = targets
    return facts, waits


def thread_name(ident: int | None) -> str | None:
    """The name of a thread of Python's; its number if Python does not know it."""
    if ident is None:
        return None
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    if thread is None or type(thread._name) is not str:
        return str(ident)
    return thread._name


def view_loop(number: int, loop: Any, counts: dict[str, Any], facts: list[TaskFacts]) -> LoopView:
    """The row of a loop."""
    counters: dict[str, Any] = Loop.counters(loop)
    states = {state: sum(fact.state == state for fact in facts) for state in STATES}
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
    )


def summary(histogram: Any) -> tuple[float, float, float]:
    """Median, 99th percentile and the longest of a histogram, in seconds."""
    return histogram.quantile(0.5), histogram.quantile(0.99), histogram.max_ns / 1e9
