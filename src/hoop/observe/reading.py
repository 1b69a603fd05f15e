"""Reads fields of tasks, loops and other objects for those who look, and makes texts of them.

No code of the program runs here. An attribute is read only of objects whose exact type is known, or through
the descriptor of hoop's own class. So a property or a `__getattr__` of the program cannot be reached.
"""

from __future__ import annotations

import _asyncio
import itertools
import types
import weakref
from collections.abc import Callable
from typing import Any

from hoop.loop import registry
from hoop.loop.event_loop import EventLoop
from hoop.loop.turn import Loop
from hoop.scheduling.future import Future
from hoop.scheduling.task import Task

LABEL_MAX = 200

_name: Any = type.__dict__["__name__"]
_qualname: Any = type.__dict__["__qualname__"]
_module: Any = type.__dict__["__module__"]
_mro: Any = type.__dict__["__mro__"]
_members: Any = type.__dict__["__dict__"]
# Descriptors that are written in C: to read them runs no code of the program.
_slots: tuple[Any, ...] = (types.MemberDescriptorType, types.GetSetDescriptorType)
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


# asyncio's own class of tasks, which some libraries make by name, and what is known of them.
AsyncioTask: Any = _asyncio.Task
_raw_of_asyncio: dict[str, Any] = {
    "_fut_waiter": AsyncioTask.__dict__["_fut_waiter"].__get__,
    "_coro": AsyncioTask.__dict__["_coro"].__get__,
    "_callbacks": _asyncio.Future.__dict__["_callbacks"].__get__,
    "_polls": lambda _: 0,
    "_created_at": lambda _: None,
}
_task_types = (Task, AsyncioTask)
_pending: Any = _asyncio.Future.__dict__["_state"].__get__
_of_asyncio_loop: Any = _asyncio.Future.__dict__["_loop"].__get__
_get_context: Any = getattr(AsyncioTask, "get_context", lambda _: None)  # from Python 3.12 on


def raw(task: Any, name: str) -> Any:
    """A field of a task, or "_callbacks" of a future, also if a subclass has a property of that name."""
    if issubclass(type(task), AsyncioTask):
        return _raw_of_asyncio[name](task)
    return _raw[name].__get__(task)


def is_task(o: object) -> bool:
    """Whether an object is a task, of hoop's class or of asyncio's."""
    return issubclass(type(o), _task_types)


def task_name(task: Any) -> str:
    cls = AsyncioTask if issubclass(type(task), AsyncioTask) else Task
    return str.__str__(cls.get_name(task))


def cancelling(task: Any) -> int:
    cls = AsyncioTask if issubclass(type(task), AsyncioTask) else Task
    return int(cls.cancelling(task))


def context_of(task: Any) -> Any:
    """The context of a task; None if it does not tell."""
    return (_get_context if issubclass(type(task), AsyncioTask) else Task.get_context)(task)


def is_done(task: Any) -> bool:
    if issubclass(type(task), AsyncioTask):
        return bool(_pending(task) != "PENDING")
    return Future.done(task)


def asyncio_tasks_of(loop: Any) -> list[Any]:
    """The unfinished tasks of asyncio's own class that a loop drives, in the order of their numbers."""
    found = [
        task
        for task in registry.other_tasks(loop)
        if issubclass(type(task), AsyncioTask)
        and _of_asyncio_loop(task) is loop
        and _pending(task) == "PENDING"
    ]
    return sorted(found, key=serials.of)


def of_loop(loop: Any, name: str) -> Any:
    """An attribute of a loop, also if a subclass has a property of that name."""
    return getattr(Loop, name).__get__(loop)


def kept(loop: Any, name: str) -> Any:
    """A table of an EventLoop, read from its slot; None if it has none."""
    try:
        return EventLoop.__dict__[name].__get__(loop)
    except AttributeError:
        return None


def type_name(o: object) -> str:
    """The name of an object's class, also if a metaclass pretends another."""
    return str(_name.__get__(type(o)))


def qualname_of(cls: type) -> str:
    """The qualified name of a class, also if a metaclass pretends another."""
    return str(_qualname.__get__(cls))


# ---- fields of any object --------------------------------------------------------------------------


def variable(frame: types.FrameType, name: str) -> Any:
    """A local variable of a frame, which may be another thread's."""
    variables = frame.f_locals
    value = variables.get(name)
    if type(variables) is dict:
        variables.clear()  # before Python 3.13 the frame keeps this copy, and the values with it
    return value


def field(o: Any, name: str) -> Any:
    """A field of an object: from its slot, or from its dictionary. A property is not called."""
    for cls in _mro.__get__(type(o)):
        members = _members.__get__(cls)
        if name in members:
            descriptor = members[name]
            if type(descriptor) not in _slots:
                return None
            try:
                return descriptor.__get__(o)
            except AttributeError:
                return None  # the slot is empty
    if name == "__dict__":
        return None
    values = field(o, "__dict__")
    return values.get(name) if type(values) is dict else None


# ---- texts ------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Cut a text, and replace what a terminal or a log would not take as text."""
    text = str.__str__(text)[:LABEL_MAX]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def peer(address: Any) -> str:
    """The address of a peer as text."""
    if type(address) is tuple and len(address) >= 2 and type(address[0]) is str:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return plain(f"{host}:{address[1]}") if type(address[1]) is int else plain(host)
    return plain(address) if type(address) is str else ""


# ---- numbers ---------------------------------------------------------------------------------------


class Numbers:
    """Gives objects small numbers, the same ones at each look. It keeps no object alive."""

    def __init__(self, following: Callable[[], int]) -> None:
        self.known: dict[int, tuple[Any, int]] = {}
        self.following = following

    def of(self, o: Any) -> int:
        """The number of an object that takes weak references."""
        reference, number = self.known.get(id(o), (None, 0))
        if reference is not None and reference() is o:
            return number
        if len(self.known) >= 1000 and len(self.known) & (len(self.known) - 1) == 0:
            self.known = {k: v for k, v in list(self.known.items()) if v[0]() is not None}
        number = self.following()
        self.known[id(o)] = weakref.ref(o), number
        return number


numbers = Numbers(itertools.count(1).__next__)
serials = Numbers(Loop._next_serial)  # of asyncio's own tasks: no task of hoop's has one of these
_raw_of_asyncio["_serial"] = serials.of
