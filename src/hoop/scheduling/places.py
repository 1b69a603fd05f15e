"""The places on the ready ring that a task may take, when a simulation lets tasks change places.

A future calls its callbacks in the order in which they were added, and a task that awaits it has added one.
So the task stays behind those that were added before. Programs rely on that: asyncpg ends the timeout of a
query in a callback, before the task that has waited begins another one.
"""

from __future__ import annotations

import inspect
import types

import cython
from cython.cimports.hoop._c.python import Ref, ref
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.handle import Handle
from cython.cimports.hoop.scheduling.notice import Notice
from cython.cimports.hoop.scheduling.task import Task

_Builtin = cython.declare(object, types.BuiltinFunctionType)
_Coroutine = cython.declare(object, types.CoroutineType)
_state = cython.declare(object, inspect.getcoroutinestate)
_CREATED = cython.declare(object, inspect.CORO_CREATED)


@cython.cfunc
def first_places(loop: LoopBase, movable: list) -> list | None:
    """The first place that each of the tasks at these places may take. None if they may take all."""
    i: cython.ulong
    n: cython.Py_ssize_t = 0
    about: Ref
    behind: dict = {}  # by the address of a future: the place behind its callbacks so far
    found: list | None = None
    for i in range(loop.head, loop.head + loop.left):
        if n < len(movable) and i == movable[n]:
            about = awaited_by(loop.ring[i & loop.mask])
            place = behind.get(cython.cast(cython.ulonglong, about)) if behind else None
            if place is not None:
                if found is None:
                    found = [loop.head] * len(movable)
                found[n] = place
            n += 1
            continue
        about = called_for(loop.ring[i & loop.mask])
        if about is not cython.NULL:
            behind[cython.cast(cython.ulonglong, about)] = i + 1
    return found


@cython.cfunc
@cython.exceptval(check=False)
def awaited_by(r: Ref) -> Ref:
    """The future for which the task has waited that a runnable is, or wakes; or NULL."""
    if cython.cast(Runnable, r).is_task:
        return cython.cast(Task, r).fut_waiter
    return called_for(r)


@cython.cfunc
@cython.exceptval(check=False)
def wakes_task(r: Ref) -> cython.bint:
    """Whether a handle wakes a task: one of asyncio's own class, or one that awaits a future of asyncio's."""
    if type(cython.cast(object, r)) is not Handle:
        return False
    callback = cython.cast(Handle, r).callback
    return type(callback) is _Builtin and callback.__name__ == "task_wakeup"


@cython.cfunc
@cython.exceptval(check=False)
def steps_task(r: Ref) -> cython.bint:
    """Whether a handle is a step of a task of asyncio's own class: its first, or one after sleep(0)."""
    if type(cython.cast(object, r)) is not Handle:
        return False
    return type(cython.cast(Handle, r).callback).__name__ == "TaskStepMethWrapper"


@cython.cfunc
@cython.exceptval(-1, check=False)
def begins_task(r: Ref) -> cython.bint:
    """Whether a handle is the first step of a task of asyncio's own class."""
    if not steps_task(r):
        return False
    coroutine = cython.cast(Handle, r).callback.__self__.get_coro()
    return type(coroutine) is _Coroutine and _state(coroutine) == _CREATED


@cython.cfunc
def task_key(r: Ref) -> object:
    """The number or the name of the task that a runnable is, wakes or steps."""
    task = cython.cast(object, r)
    if not cython.cast(Runnable, r).is_task:
        task = cython.cast(Handle, r).callback.__self__
    return cython.cast(Task, task).serial if isinstance(task, Task) else task.get_name()


@cython.cfunc
@cython.exceptval(check=False)
def called_for(r: Ref) -> Ref:
    """The future of which a runnable is a callback, or the only thing that a callback gets, or NULL."""
    kind: object = type(cython.cast(object, r))
    if kind is Notice:
        return ref(cython.cast(Notice, r).future)
    if kind is Handle:
        args: tuple = cython.cast(Handle, r).args
        if args is not None and len(args) == 1:
            return ref(args[0])
    return cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def swap_places(loop: LoopBase, a: cython.ulong, b: cython.ulong) -> cython.int:
    r: Ref = loop.ring[a & loop.mask]
    loop.ring[a & loop.mask] = loop.ring[b & loop.mask]
    loop.ring[b & loop.mask] = r
    return 0
