"""Puts hoop's classes under asyncio's names, for programs that say `asyncio.Queue()` or `asyncio.sleep(1)`.

Importing hoop changes no name. `install()` does, for the whole process. Call it before other modules take
the names from asyncio: `from asyncio import Queue` gets the class of that moment.
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
    "asyncio.tasks": ("create_task", "sleep"),
}

_originals: dict[tuple[str, str], Any] = {}


def _ours(name: str) -> Any:
    """hoop's object of that name. It is looked up when it is needed, because hoop imports this module."""
    return getattr(importlib.import_module("hoop"), name)


if sys.version_info >= (3, 14):

    def create_task(coro: Any, **kwargs: Any) -> Any:
        """Run a coroutine as a task of the running loop. See asyncio.create_task."""
        return _ours("create_task")(coro, **kwargs)
else:

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """Drive a coroutine as a task of the running loop. See asyncio.create_task."""
        return _ours("create_task")(coro, name=name, context=context)


# Profilers put code of their own into this function of asyncio's. A compiled function does not allow that.
_PATCHED = {"create_task": create_task}


def install() -> None:
    """Replace asyncio's queues, locks, streams, `sleep` and `create_task` by hoop's, in the whole process.

    Afterwards `asyncio.Queue` is `hoop.Queue`, and so on. Objects made earlier stay as they are, and a
    second call does nothing. This does not choose the event loop: use hoop.run() for that.

        hoop.install()
        hoop.run(main())  # asyncio.Queue() in here makes a hoop.Queue
    """
    for module, names in REPLACED.items():
        for name in names:
            for place in (module, "asyncio"):
                holder = importlib.import_module(place)
                _originals.setdefault((place, name), getattr(holder, name))
                setattr(holder, name, _PATCHED.get(name) or _ours(name))


def uninstall() -> None:
    """Undo install(): give asyncio its own names back. Does nothing if install() was not called.

    For example:

        hoop.uninstall()
    """
    while _originals:
        (place, name), original = _originals.popitem()
        setattr(importlib.import_module(place), name, original)
