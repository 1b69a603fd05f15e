"""Puts hoop's classes under asyncio's names, for programs that say `asyncio.Queue()` or `asyncio.sleep(1)`.

Importing hoop changes no name. `hoop.install()` does, for the whole process. Call it before other modules
take the names from asyncio: `from asyncio import Queue` gets the class of that moment.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# Module of asyncio -> the names in it that install() replaces, there and in `asyncio` itself. Each gets
# hoop's object of the same name.
REPLACED: dict[str, tuple[str, ...]] = {
    "asyncio.locks": ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"),
    "asyncio.queues": ("LifoQueue", "PriorityQueue", "Queue"),
    "asyncio.streams": (
        "StreamReader",
        "StreamWriter",
        "open_connection",
        "open_unix_connection",
        "start_server",
        "start_unix_server",
    ),
    "asyncio.taskgroups": ("TaskGroup",),
    "asyncio.tasks": (
        *("as_completed", "create_task", "gather", "run_coroutine_threadsafe", "shield", "sleep"),
        *("wait", "wait_for"),
    ),
    "asyncio.timeouts": ("Timeout", "timeout", "timeout_at"),
}

_originals: dict[tuple[str, str], Any] = {}
_create_task: Any = None  # hoop's, once replace() was called


def _ours(name: str) -> Any:
    """hoop's object of that name. It is looked up when it is needed, because hoop imports this module."""
    return getattr(importlib.import_module("hoop"), name)


if sys.version_info >= (3, 14):

    def create_task(coro: Any, **kwargs: Any) -> Any:
        """Run a coroutine as a task of the running loop. See asyncio.create_task."""
        return _create_task(coro, **kwargs)
else:

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """Drive a coroutine as a task of the running loop. See asyncio.create_task."""
        return _create_task(coro, name=name, context=context)


# Profilers put code of their own into this function of asyncio's. A compiled function does not allow that.
_PATCHED = {"create_task": create_task}


def replace() -> None:
    """Put hoop's objects under asyncio's names. A second call does nothing."""
    global _create_task
    _create_task = _ours("create_task")
    for module, names in REPLACED.items():
        for name in names:
            for place in (module, "asyncio"):
                holder = importlib.import_module(place)
                _originals.setdefault((place, name), getattr(holder, name))
                setattr(holder, name, _PATCHED.get(name) or _ours(name))


def restore() -> None:
    """Give asyncio its own names back. Does nothing without replace()."""
    while _originals:
        (place, name), original = _originals.popitem()
        setattr(importlib.import_module(place), name, original)
