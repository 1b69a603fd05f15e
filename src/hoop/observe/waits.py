"""Finds out what a task waits for, by its coroutines and by the future that it waits for.

No code of the program runs here. An attribute is read only of objects whose exact type is known, or through
the descriptor of hoop's own class. So a property or a `__getattr__` of the program cannot be reached.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import types
from collections.abc import Iterable
from typing import Any

from hoop.loop.turn import Loop
from hoop.observe.model import Frame, Wait
from hoop.scheduling.coroutine import NativeCoroutine
from hoop.scheduling.future import Future
from hoop.scheduling.task import Task
from hoop.scheduling.timers import TimerHandle

DEPTH_MAX = 100  # coroutines of a stack; a deeper one is cut
TEXT_MAX = 200

_name: Any = type.__dict__["__name__"]
_module: Any = type.__dict__["__module__"]
_mro: Any = type.__dict__["__mro__"]
_gathering: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
_on_task_done = asyncio.TaskGroup._on_task_done
_files = (asyncio.tasks.__file__, asyncio.futures.__file__)
_timer_call: Any = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]
_timer: Any = TimerHandle
_wait_types: Any = (Future, asyncio.Future)
_raw: dict[str, Any] = {
    name: Task.__dict__[name]
    for name in (
        "_fut_waiter",
        "_coro",
        "_polls",
        "_born",
        "_since",
        "_serial",
        "_busy_ns",
        "_created_at",
    )
}
_raw["_callbacks"] = Future.__dict__["_callbacks"]


def raw(task: Any, name: str) -> Any:
    """A field of a task, or "_callbacks" of a future, also if a subclass has a property of that name."""
    return _raw[name].__get__(task)


def of_loop(loop: Any, name: str) -> Any:
    """An attribute of a loop, also if a subclass has a property of that name."""
    return getattr(Loop, name).__get__(loop)


def type_name(o: object) -> str:
    """The name of an object's class, also if a metaclass pretends another."""
    return str(_name.__get__(type(o)))


# ---- coroutines ------------------------------------------------------------------------------------


def inner_of(coro: object) -> Any:
    """The awaitable that a suspended coroutine waits for. None if it is none whose fields are known."""
    kind = type(coro)
    if kind is types.CoroutineType:
        return coro.cr_await  # type: ignore[attr-defined]
    if kind is types.GeneratorType:
        return coro.gi_yieldfrom  # type: ignore[attr-defined]
    if kind is types.AsyncGeneratorType:
        return coro.ag_await  # type: ignore[attr-defined]
    if kind is NativeCoroutine:
        return coro.awaits  # type: ignore[attr-defined]
    return None


def title_of(coro: object) -> str:
    """The name of a coroutine: that of its function, or its class."""
    kind = type(coro)
    if kind is types.CoroutineType:
        return coro.cr_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is types.GeneratorType:
        return coro.gi_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is types.AsyncGeneratorType:
        return coro.ag_code.co_qualname  # type: ignore[attr-defined, no-any-return]
    if kind is NativeCoroutine and type(type(coro.owner)) is type:  # type: ignore[attr-defined]
        return coro.__qualname__  # type: ignore[attr-defined, no-any-return]
    return type_name(coro)


def frame_of(coro: object) -> Frame | None:
    """Where a coroutine is. None if it has no code in Python."""
    kind = type(coro)
    if kind is types.CoroutineType:
        code, frame = coro.cr_code, coro.cr_frame  # type: ignore[attr-defined]
    elif kind is types.GeneratorType:
        code, frame = coro.gi_code, coro.gi_frame  # type: ignore[attr-defined]
    elif kind is types.AsyncGeneratorType:
        code, frame = coro.ag_code, coro.ag_frame  # type: ignore[attr-defined]
    else:
        return None
    line = None if frame is None else frame.f_lineno
    return Frame(code.co_qualname, code.co_filename, line or code.co_firstlineno)


def coroutines_of(task: Any) -> list[Any]:
    """The task's coroutine, the one that this awaits, and so on."""
    found: list[Any] = []
    coro = raw(task, "_coro")
    while coro is not None and not issubclass(type(coro), _wait_types):
        found.append(coro)
        if len(found) == DEPTH_MAX:
            break
        coro = inner_of(coro)
    return found


def stack_of(coroutines: Iterable[Any]) -> tuple[Frame, ...]:
    """Where each of these coroutines is. Those in C are left out."""
    frames = (frame_of(coro) for coro in coroutines)
    return tuple(frame for frame in frames if frame is not None)


# ---- waits ----------------------------------------------------------------------------


class Waits:
    """Tells who waits for whom, of these tasks of one loop."""

    def __init__(self, loop: Any, tasks: Iterable[Any]) -> None:
        self.now = Loop.time(loop)
        self.by_future: dict[int, list[int]] = {}
        self.deadlines: dict[int, float] = {}
        for task in tasks:
            serial = raw(task, "_serial")
            for callback, _ in raw(task, "_callbacks") or ():
                waiter = told_by(callback)
                if waiter is not None:
                    self.by_future.setdefault(id(waiter), []).append(serial)
        for timer in of_loop(loop, "_scheduled"):
            if type(timer) is _timer and timer._callback is _timer_call:
                self.deadlines[id(timer._args[0])] = timer.when()

    def targets(self, task: Any) -> tuple[int, ...]:
        """The ids of the unfinished tasks that this one waits for."""
        waited: Any = raw(task, "_fut_waiter")
        if waited is None:
            return ()
        if issubclass(type(waited), Task):
            return (raw(waited, "_serial"),)
        if type(waited) is _gathering:
            children = waited._children
            return tuple(
                raw(child, "_serial")
                for child in children
                if issubclass(type(child), Task) and not Future.done(child)
            )
        return tuple(self.by_future.get(id(waited), ()))

    def wait_of(self, task: Any, coroutines: list[Any], targets: tuple[int, ...]) -> Wait | None:
        """Say what a task waits for; None if it waits for nothing."""
        waited: Any = raw(task, "_fut_waiter")
        if waited is None:
            return None
        if issubclass(type(waited), Task):
            return Wait("task", f"task {targets[0]}", targets)
        if targets:
            return Wait("tasks", f"{len(targets)} tasks", targets)
        last = coroutines[-1] if coroutines else None
        if type(last) is NativeCoroutine:
            return self.native_wait(last)
        if id(waited) in self.deadlines:
            left = self.deadlines[id(waited)] - self.now
            return Wait("timer", f"a timer, {left:.1f} s left", left=left)
        if type(waited) is Future and any(
            is_executor(told) for told, _ in raw(waited, "_callbacks") or ()
        ):
            return Wait("executor", "a function in an executor")
        return Wait("future", "a future that nobody known will set")

    def native_wait(self, coro: Any) -> Wait:
        """Say what the innermost coroutine waits for, which is one of hoop's own in C."""
        owner = coro.owner
        if issubclass(type(owner), TimerHandle):
            left = TimerHandle.when(owner) - self.now
            return Wait("sleep", f"sleep, {left:.1f} s left", left=left)
        return Wait(own_class(owner).lower(), title_of(coro)[:TEXT_MAX])


def own_class(o: object) -> str:
    """The name of hoop's class from which an object's class derives; else "other"."""
    for cls in _mro.__get__(type(o)):
        module = _module.__get__(cls)
        if type(module) is str and module.split(".")[0] == "hoop":
            return str(_name.__get__(cls))
    return "other"


def told_by(callback: Any) -> object | None:
    """The future of which a task's callback is to set the result, if asyncio made the callback."""
    if type(callback) is types.MethodType:
        group = callback.__self__
        if callback.__func__ is _on_task_done and type(group) is asyncio.TaskGroup:
            return group._on_completed_fut  # type: ignore[attr-defined, no-any-return]
        return None
    for name in ("waiter", "outer"):  # of wait() and of shield()
        found = closed_over(callback, name)
        if found is not None:
            return found
    return None


def is_executor(callback: Any) -> bool:
    """Whether a callback would cancel a function that is queued for a thread."""
    return type(closed_over(callback, "source")) is concurrent.futures.Future


def closed_over(function: Any, name: str) -> object | None:
    """A variable that a function of asyncio's own closes over."""
    if type(function) is not types.FunctionType or function.__code__.co_filename not in _files:
        return None
    names = function.__code__.co_freevars
    if name not in names or function.__closure__ is None:
        return None
    try:
        return function.__closure__[names.index(name)].cell_contents  # type: ignore[no-any-return]
    except ValueError:  # an empty cell
        return None


# ---- cycles ----------------------------------------------------------------------------------------


def cycles_of(graph: dict[int, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The cycles of tasks of which each waits for just one, and that one for the next."""
    found = []
    judged: set[int] = set()
    for start in graph:
        path: list[int] = []
        at = start
        while at not in judged:
            judged.add(at)
            path.append(at)
            targets = graph.get(at, ())
            if len(targets) != 1:
                break
            at = targets[0]
        else:
            if at in path:
                found.append(tuple(path[path.index(at) :]))
    return found
