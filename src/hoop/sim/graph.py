"""Says in words what each task of a loop waits for, and what the loop runs."""

from __future__ import annotations

import _asyncio
import os
import re
from typing import Any

from hoop.observe.reading import raw, task_name, type_name
from hoop.observe.snapshot import cycles_of, read_in_slices
from hoop.observe.waits import (
    Graph,
    Waits,
    callable_name,
    coroutines_of,
    frame_of,
    holder_of,
    resource_of,
    stack_of,
    title_of,
)
from hoop.scheduling.future import Future
from hoop.scheduling.handle import Handle
from hoop.scheduling.task import Task
from hoop.scheduling.timers import TimerHandle

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
TASKS_MAX = 50  # lines of a report
_callback: Any = Handle.__dict__["_callback"].__get__
_coro: Any = Task.__dict__["_coro"].__get__
_wait_types: Any = (Future, _asyncio.Future)
LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep
    for module in (__import__("asyncio"), __import__("hoop"))
)


def without_addresses(text: str) -> str:
    """A text without the addresses of objects, which no seed decides. Some libraries name tasks by repr()."""
    return ADDRESS.sub("0x...", text) if "0x" in text else text


def describe(what: Any) -> str:
    """A runnable in words that are the same each time: no addresses, and no contents."""
    if isinstance(what, Task):
        coro = _coro(what)
        has_title = coro is not None and not issubclass(type(coro), _wait_types)
        name = without_addresses(task_name(what))
        return f"step {name} {title_of(coro) if has_title else ''}"
    if isinstance(what, Handle):
        callback = _callback(what)
        kind = "timer" if isinstance(what, TimerHandle) else "call"
        return f"{kind} {'nothing' if callback is None else callable_name(callback)}"
    return f"run {type_name(what)}"


def before(chosen: Any, first: Any) -> str:
    """Say that a task ran ahead of one that had been ready for longer."""
    return f"{_whereabouts(chosen)}  ran before  {_whereabouts(first)}"


def _whereabouts(what: Any) -> str:
    """A task with the place at which it goes on, and with what it awaited there."""
    if isinstance(what, Handle):  # it may wake a task that awaits a future of asyncio's
        what = getattr(_callback(what), "__self__", what)
    if not isinstance(what, Task):
        return title_of(what.get_coro()) if isinstance(what, _asyncio.Task) else describe(what)
    return f"{task_name(what)} [{awaiting(what)}]"


def awaiting(task: Any) -> str:
    """The place in your code at which a task waits, and the name of what it awaits there."""
    coroutines = coroutines_of(task)
    if not coroutines:
        return "?"
    place = place_of(coroutines)
    if not task._polls:
        return f"{place} begin {_short(title_of(coroutines[0]))}"
    inner = next(
        (
            coro
            for coro in coroutines
            if (f := frame_of(coro)) is None or f.file.startswith(LIBRARIES)
        ),
        None,
    )
    waited = raw(task, "_fut_waiter")
    if inner is not None:
        return f"{place} await {_short(title_of(inner))}"
    return f"{place} await {'' if waited is None else type_name(waited)}".rstrip()


class Words:
    """describe() and before() for the loop of a host: tasks and callbacks have its name before their own."""

    def __init__(self, host: str) -> None:
        self.host = host

    def describe(self, what: Any) -> str:
        """A runnable in words."""
        kind, _, rest = describe(what).partition(" ")
        return f"{kind} {self.host}/{rest}"

    def before(self, chosen: Any, first: Any) -> str:
        """Say that a task ran ahead of one that had been ready for longer."""
        return f"{self.host}/{_whereabouts(chosen)}  ran before  {self.host}/{_whereabouts(first)}"


def _short(title: str) -> str:
    """The name of a function without those around it."""
    return title.rpartition("<locals>.")[2]


def place_of(coroutines: list[Any]) -> str:
    """The file and line of the innermost code that is neither asyncio's nor hoop's."""
    for frame in reversed(stack_of(coroutines)):
        if not frame.file.startswith(LIBRARIES):
            return f"{os.path.basename(frame.file)}:{frame.line}"
    return "?"


def await_graph(loop: Any, now: float, host: str = "") -> str:
    """The unfinished tasks of a loop, each in a line with its place and with what it waits for."""
    graph = Graph()
    waits = Waits(loop, graph)
    waits.now = now
    found = list(read_in_slices(loop))
    of_host = f"{host}/" if host else ""
    names = {facts.serial: of_host + task_name(facts.task) for facts in found}
    for facts in found:
        graph.add(facts.task, facts.serial, facts.polls, facts.waited_for)
    lines = []
    for cycle in cycles_of(graph.needs()):
        ring = (*cycle, cycle[0])
        lines.append("a cycle: " + " -> ".join(names.get(serial, "?") for serial in ring))
    for facts in found[:TASKS_MAX]:
        coroutines = coroutines_of(facts.task)
        wait = _wait_of(waits, facts, coroutines, names)
        lines.append(f"  {names[facts.serial]:<12} {place_of(coroutines):<20} {wait}")
    if len(found) > TASKS_MAX:
        lines.append(f"  and {len(found) - TASKS_MAX} more")
    return "\n".join(lines)


def _wait_of(waits: Waits, facts: Any, coroutines: list[Any], names: dict[int, str]) -> str:
    """Say what a task waits for, with the names of other tasks instead of their numbers."""
    wait = waits.wait_of(facts.task, facts.serial, coroutines)
    if wait is None:
        return "is ready"
    if wait.targets:
        return "awaits " + ", ".join(names.get(serial, "a task") for serial in wait.targets)
    resource = resource_of(coroutines)
    holder = 0 if resource is None else holder_of(resource)
    if holder:
        return f"{title_of(coroutines[-1])}, held by {names.get(holder, 'a task that has ended')}"
    if wait.kind == "lock":
        return f"{title_of(coroutines[-1])}, held"
    return wait.text


def summary(*loops: Any) -> str:
    """How many tasks are unfinished."""
    count = sum(1 for loop in loops for _ in read_in_slices(loop))
    return f"{count} unfinished task{'' if count == 1 else 's'}"


__all__ = ["Words", "await_graph", "awaiting", "before", "describe", "place_of", "summary"]
