"""sleep() and create_task(): functions on the running loop, by asyncio's names.

On a hoop loop whose methods are its own, neither calls a method by name. On any other loop they do the same
as asyncio's functions.
"""

from __future__ import annotations

import asyncio.tasks
import math
import sys
from asyncio import events, futures

import cython
from cython.cimports.hoop._c.python import Ref, hoop_forbid_new
from cython.cimports.hoop._c.swap import hoop_fast_function, hoop_put_before
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    Method,
    NativeCoroutine,
    mark_coroutine_function,
    new_coroutine,
)
from cython.cimports.hoop.scheduling.future import PENDING, new_future
from cython.cimports.hoop.scheduling.task import new_task
from cython.cimports.hoop.scheduling.timers import TimerHandle

_get_running_loop = cython.declare(object, events._get_running_loop)
_get_running_loop_or_raise = cython.declare(object, events.get_running_loop)
_set_result_unless_cancelled = cython.declare(object, futures._set_result_unless_cancelled)
_stock_create_task = cython.declare(object, asyncio.tasks.create_task)
REFUSES_NAN = cython.declare(cython.bint, sys.version_info >= (3, 13))

# The last class of loops found to have Loop's own methods.
_plain_class = cython.declare(object, None)


@cython.cfunc
def plain_loop() -> Loop:
    """The running loop, if it is a hoop loop and no subclass or patch has replaced its methods; else None."""
    global _plain_class
    loop = _get_running_loop()
    if type(loop) is not _plain_class:
        if not isinstance(loop, Loop):
            return None
        for name in ("call_at", "call_later", "create_future", "create_task"):
            if getattr(type(loop), name) is not getattr(Loop, name):
                return None
        _plain_class = type(loop)
    return None if cython.cast(Loop, loop).own_methods else cython.cast(Loop, loop)


# ---- sleep -------------------------------------------------------------------------------------------


@cython.binding(True)
def sleep(delay, result=None):
    """Wait for `delay` seconds, then return `result`. See asyncio.sleep.

    With a delay of 0 or less, the other tasks get one turn. From Python 3.13 on a NaN raises ValueError, as
    in asyncio.

        await hoop.sleep(0.5)
    """
    return new_coroutine(SLEEP, delay, result)


@cython.final
@cython.cclass
class SleepTimer(TimerHandle):
    """Wakes a task that sleeps."""

    @property
    def _future(self):
        return self.future

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        if not self.is_cancelled and self.future.state == PENDING:
            return self.future.finish(None)
        return 0


@cython.final
@cython.cclass
class Sleep(Method):
    """sleep(). The coroutine's owner is the delay, then the timer."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        delay = c.owner
        if delay <= 0:
            return c.wait_a_turn()
        if REFUSES_NAN and math.isnan(delay):
            raise ValueError("Invalid delay: NaN (not a number)")
        loop: Loop = plain_loop()
        if loop is None or loop.debug or type(delay) not in (float, int):
            return self.wait_on_any(c)
        timer: SleepTimer = SleepTimer.__new__(SleepTimer)
        timer.deadline = loop.now() + cython.cast(cython.double, float(delay))
        timer.loop = loop
        timer.future = new_future(loop)
        loop.timers.add(timer)
        c.owner = timer
        return c.wait_for(timer.future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_on_any(self, c: NativeCoroutine) -> cython.int:
        """Sleep by the methods of another library's loop."""
        loop = _get_running_loop_or_raise()
        future = loop.create_future()
        c.owner = loop.call_later(c.owner, _set_result_unless_cancelled, future, None)
        return c.wait_for(future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.future is not None and type(c.owner) is not SleepTimer:
            c.owner.cancel()
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if c.future is not None:
            c.owner.cancel()
        raise error


SLEEP = cython.declare(Sleep, Sleep("sleep", object))


# ---- tasks -------------------------------------------------------------------------------------------


def create_task(coro, *, name=None, context=None, **kwargs):
    """Run a coroutine as a task of the running loop, and return the task. See asyncio.create_task.

    `name` is the task's name, and `context` its contextvars.Context. Raises RuntimeError if no loop is
    running. A hoop loop keeps the task alive until it is done.

        task = hoop.create_task(fetch(url))
        page = await task
    """
    loop: Loop = plain_loop()
    if loop is None or loop.task_factory is not None or kwargs:
        return _stock_create_task(coro, name=name, context=context, **kwargs)
    return new_task(loop, coro, name, context, False)


@cython.cfunc
def create_plain_task(
    module: Ref, args: cython.pointer[Ref], n: cython.Py_ssize_t, names: Ref
) -> object:
    """Call create_task(coro) without a dict for keywords."""
    loop: Loop
    if n == 1 and names is cython.NULL:
        loop = plain_loop()
        if loop is not None and loop.task_factory is None:
            return new_task(loop, cython.cast(object, args[0]), None, None, False)
    return _create_task(module, args, n, names)


mark_coroutine_function(sleep)

hoop_forbid_new(SleepTimer)
_create_task = cython.declare(hoop_fast_function, hoop_put_before(create_task, create_plain_task))
