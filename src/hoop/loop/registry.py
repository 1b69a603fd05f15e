"""Lets asyncio.all_tasks() see native tasks.

A loop keeps its unfinished tasks in a list of its own, because a weak set costs more than the task itself.
asyncio looks for tasks in a WeakSet: that set gets a subclass that has the tasks of every hoop loop
besides. This is the one thing in asyncio that importing hoop changes.
"""

from __future__ import annotations

import asyncio.tasks
import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

loops: weakref.WeakSet[Any] = weakref.WeakSet()


class TaskSet(weakref.WeakSet[Any]):
    """asyncio's set of tasks, followed by the unfinished tasks of every hoop loop."""

    def __new__(cls, tasks: Iterable[Any] = ()) -> weakref.WeakSet[Any]:  # type: ignore[misc]
        """Make a plain set: a copy, or what is left of this one without something."""
        return weakref.WeakSet(tasks)

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield from _native_tasks()

    def __len__(self) -> int:
        return super().__len__() + len(_native_tasks())

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or any(task is item for task in _native_tasks())


def _native_tasks() -> list[Any]:
    return [task for loop in list(loops) for task in loop._unfinished_tasks()]


def _asyncio_task_set() -> weakref.WeakSet[Any]:
    if sys.version_info >= (3, 14):
        # Kept in the C module's state; not under any name.
        import _asyncio

        return next(o for o in gc.get_referents(_asyncio) if isinstance(o, weakref.WeakSet))
    if sys.version_info >= (3, 12):
        return asyncio.tasks._scheduled_tasks  # type: ignore[attr-defined, no-any-return]
    return asyncio.tasks._all_tasks  # type: ignore[attr-defined, no-any-return]


def let_go_of_tasks() -> None:
    """At the interpreter's exit: keep no task that its program has dropped.

    Each complains of being pending while there is somebody to tell, as on asyncio, whose loops own no task.
    """
    for loop in list(loops):
        loop._let_go_of_tasks()


def install() -> None:
    """Make asyncio.all_tasks() see native tasks. Doing it again changes nothing."""
    _asyncio_task_set().__class__ = TaskSet
