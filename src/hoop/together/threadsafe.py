"""run_coroutine_threadsafe(). It behaves as asyncio's function does, and returns the same kind of future.

On a loop of hoop's that has a method of your own, a task factory or debug mode, it is asyncio's function. So
it is on every other loop.
"""

from __future__ import annotations

import asyncio.coroutines
import asyncio.futures
import asyncio.tasks
import types
from asyncio import events
from concurrent.futures import Future as _Future

import cython
from cython.cimports.hoop._c.python import PyContext_CopyCurrent, hoop_forbid_new
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.future import CANCELLED
from cython.cimports.hoop.scheduling.handle import Handle
from cython.cimports.hoop.scheduling.notice import Notice, Watcher
from cython.cimports.hoop.scheduling.task import Task, new_task

CoroutineType = cython.declare(object, types.CoroutineType)
ConcurrentFuture = cython.declare(object, _Future)
_stock = cython.declare(object, asyncio.tasks.run_coroutine_threadsafe)
_chain_future = cython.declare(object, asyncio.futures._chain_future)
_convert_error = cython.declare(object, asyncio.futures._convert_future_exc)
_ensure_future = cython.declare(object, asyncio.tasks.ensure_future)
_get_running_loop = cython.declare(object, events._get_running_loop)


def _cancels_at_once():
    """Whether a cancellation on the loop's own thread reaches the task at once (3.14)."""
    for found in asyncio.futures._chain_future.__code__.co_consts:
        if isinstance(found, types.CodeType) and found.co_name == "_call_check_cancel":
            return "_get_running_loop" in found.co_names
    return False


CANCELS_AT_ONCE = cython.declare(cython.bint, _cancels_at_once())


@cython.binding(True)
def run_coroutine_threadsafe(coro, loop):
    """Run a coroutine on a loop of another thread. See asyncio.run_coroutine_threadsafe.

    Returns a concurrent.futures.Future. Raises RuntimeError if the loop is closed.

        page = hoop.run_coroutine_threadsafe(fetch(url), loop).result()
    """
    if type(coro) is not CoroutineType or not isinstance(loop, Loop):
        return _stock(coro, loop)
    native: Loop = cython.cast(Loop, loop)
    if native.task_factory is not None or not native.is_plain():
        return _stock(coro, loop)
    crossing: Crossing = Crossing.__new__(Crossing)
    crossing.loop = native
    crossing.coro = coro
    crossing.future = ConcurrentFuture()
    crossing.context = PyContext_CopyCurrent()
    native.push(crossing)
    native.rouse()
    return crossing.future


@cython.final
@cython.cclass
class Crossing(Runnable):
    """A coroutine on its way to the loop's thread."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        loop: Loop = self.loop
        coro = self.coro
        self.coro = None
        if loop.task_factory is not None or not loop.is_plain():
            self.context.run(self._start, coro)
            return 0
        try:
            task: Task = new_task(loop, coro, None, self.context, False)
        except BaseException as exc:
            self.refuse(exc)
            raise
        chain: Chain = Chain.__new__(Chain)
        chain.task = task
        chain.future = self.future
        self.future.add_done_callback(cython.cast(object, chain)._call_check_cancel)
        task.tell(chain, None)
        return 0

    def _start(self, coro):
        """Start it by asyncio's functions: something has changed since it was sent."""
        try:
            _chain_future(_ensure_future(coro, loop=self.loop), self.future)
        except BaseException as exc:
            self.refuse(exc)
            raise

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def refuse(self, exc) -> cython.int:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            return 0
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(exc)
        return 0

    def failure(self, exc):
        """Return the context for the loop's exception handler when the task could not be made."""
        return Handle(self._start, (), self.loop, self.context).failure(exc)


@cython.final
@cython.cclass
class Chain(Watcher):
    """Passes the end of the task on to the other thread, and a cancellation to the task."""

    @cython.cfunc
    def callback(self) -> object:
        return self._call_set_state

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        self._call_set_state(self.task)
        return 0

    def _call_set_state(self, task):
        """The task has ended."""
        t: Task = self.task
        future = self.future
        if t.state == CANCELLED:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        t.log_traceback = False
        if t.error is None:
            future.set_result(t.outcome)
        else:
            future.set_exception(_convert_error(t.error))

    def _call_check_cancel(self, future):
        """The other thread's future has ended, perhaps by a cancellation."""
        if future.cancelled():
            loop = cython.cast(object, self.task.loop)
            if CANCELS_AT_ONCE and _get_running_loop() is loop:
                cython.cast(object, self.task).cancel()
            else:
                loop.call_soon_threadsafe(cython.cast(object, self.task).cancel)


hoop_forbid_new(Crossing)
hoop_forbid_new(Chain)
