"""Lets asyncio.all_tasks() see hoop's tasks.

A loop keeps its unfinished tasks in a list of its own, because a weak set costs more than the task itself.
The function asyncio.all_tasks() looks for tasks in a WeakSet. That set gets a subclass here, which adds the
tasks of every hoop loop. Nothing else in asyncio changes when a program imports hoop.
"""

from __future__ import annotations

import asyncio.tasks
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

loops: weakref.WeakSet[Any] = weakref.WeakSet()

# Called when a loop is about to run, if an observer is to start then: see observe/thread.py.
on_run: Callable[[], None] | None = None


class TaskSet(weakref.WeakSet[Any]):
    """asyncio's set of tasks, followed by the unfinished tasks of every hoop loop."""

    def __new__(cls, tasks: Iterable[Any] = ()) -> weakref.WeakSet[Any]:  # type: ignore[misc]
        """Make a plain set, for copies and differences of this one."""
        return weakref.WeakSet(tasks)

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        if not hasattr(_looks, "for_others"):
            yield from _native_tasks()

    def __len__(self) -> int:
        return super().__len__() + len(_native_tasks())

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or any(task is item for task in _native_tasks())


def _native_tasks() -> list[Any]:
    return [task for loop in living() if _has_tasks(loop) for task in loop._unfinished_tasks()]


def living() -> list[Any]:
    """All loops of this process that are still there."""
    # asyncio asks several times as each loop ends. So this takes the weak references without a guard.
    found = [reference() for reference in list(loops.data)]  # type: ignore[attr-defined]
    return [loop for loop in found if loop is not None]


def _has_tasks(loop: Any) -> bool:
    """Whether all_tasks() is to look at this loop. From Python 3.14 on a forked child forgets older tasks."""
    return sys.version_info < (3, 14) or not loop._is_inherited()


_looks = threading.local()  # has `for_others` while this thread wants no tasks of hoop's


def other_tasks(loop: Any) -> list[Any]:
    """The tasks of a loop that are not of hoop's class, and perhaps some of other loops. From any thread."""
    if sys.version_info >= (3, 14):  # asyncio's C code keeps them in lists of its own
        _looks.for_others = True
        try:
            return list(asyncio.all_tasks(loop))
        finally:
            del _looks.for_others
    eager: set[Any] = getattr(asyncio.tasks, "_eager_tasks", set())
    found = [reference() for reference in list(_asyncio_task_set().data)]  # type: ignore[attr-defined]
    return [task for task in (*found, *list(eager)) if task is not None]


def _asyncio_task_set() -> weakref.WeakSet[Any]:
    if sys.version_info >= (3, 14):
        # The C module keeps the set in its state, under no name.
        import _asyncio

        return next(o for o in gc.get_referents(_asyncio) if isinstance(o, weakref.WeakSet))
    if sys.version_info >= (3, 12):
        return asyncio.tasks._scheduled_tasks  # type: ignore[attr-defined, no-any-return]
    return asyncio.tasks._all_tasks  # type: ignore[attr-defined, no-any-return]


def let_go_of_tasks() -> None:
    """At the interpreter's exit: drop the tasks that the program has dropped.

    Each warns that it is pending while the logger still works, as on asyncio, whose loops own no task.
    """
    for loop in list(loops):
        loop._let_go_of_tasks()


def install() -> None:
    """Make asyncio.all_tasks() see hoop's tasks. A second call changes nothing."""
    _asyncio_task_set().__class__ = TaskSet
