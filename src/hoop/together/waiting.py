"""wait_for(), wait() and as_completed(). They behave as asyncio's functions do on the running Python.

On a loop that is not hoop's they are asyncio's own. On Python 3.11 wait_for() runs a coroutine in a task of
its own. Before 3.13 as_completed() is a generator.
"""

from __future__ import annotations

import asyncio.coroutines
import asyncio.futures
import asyncio.tasks
import inspect
import sys
import types

import cython
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.loop.running import plain_loop
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    Method,
    NativeCoroutine,
    mark_coroutine_function,
    new_coroutine,
    new_coroutine_of_two,
)
from cython.cimports.hoop.scheduling.future import PENDING, Future, new_future
from cython.cimports.hoop.scheduling.notice import Notice, Watcher
from cython.cimports.hoop.scheduling.task import new_task
from cython.cimports.hoop.sync.queues import Queue
from cython.cimports.hoop.sync.waiting import wake
from cython.cimports.hoop.together.gathering import awaiter_now, is_native
from cython.cimports.hoop.together.timeouts import (
    Timeout,
    cancel_timer,
    deadline_of,
    new_timeout,
)

CancelledError = cython.declare(object, asyncio.CancelledError)
CoroutineType = cython.declare(object, types.CoroutineType)
FIRST_COMPLETED = cython.declare(object, asyncio.FIRST_COMPLETED)
FIRST_EXCEPTION = cython.declare(object, asyncio.FIRST_EXCEPTION)
ALL_COMPLETED = cython.declare(object, asyncio.ALL_COMPLETED)
_isfuture = cython.declare(object, asyncio.futures.isfuture)
_iscoroutine = cython.declare(object, asyncio.coroutines.iscoroutine)
_isawaitable = cython.declare(object, inspect.isawaitable)
_ensure_future = cython.declare(object, asyncio.tasks.ensure_future)
_release_waiter = cython.declare(object, asyncio.tasks._release_waiter)
_stock_wait_for = cython.declare(object, asyncio.tasks.wait_for)
_stock_wait = cython.declare(object, asyncio.tasks.wait)
_cancel_and_wait = cython.declare(object, getattr(asyncio.tasks, "_cancel_and_wait", None))
WAITS_FOR_TASK = cython.declare(cython.bint, sys.version_info < (3, 12))
_stock_as_completed = cython.declare(object, asyncio.tasks.as_completed)
_stock_iterator = cython.declare(object, getattr(asyncio.tasks, "_AsCompletedIterator", None))
IS_GENERATOR = cython.declare(cython.bint, _stock_iterator is None)
# A cancelled wait for the next one counts as none (3.14).
COUNTS_AGAIN = cython.declare(
    cython.bint,
    _stock_iterator is not None and "_todo_left" in _stock_iterator._wait_for_one.__code__.co_names,
)
_add_to_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_add_to_awaited_by", None)
)
_discard_from_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_discard_from_awaited_by", None)
)


# ---- wait_for ----------------------------------------------------------------------------------------


@cython.binding(True)
def wait_for(fut, timeout):
    """Wait for a future or coroutine, `timeout` seconds at most. See asyncio.wait_for.

    When the time is over, it is cancelled, and TimeoutError raised.

        page = await hoop.wait_for(fetch(url), 10)
    """
    return new_coroutine_of_two(WAIT_FOR_TASK if WAITS_FOR_TASK else WAIT_FOR, timeout, None, fut)


@cython.final
@cython.cclass
class WaitFor(Method):
    """wait_for(). The coroutine's owner is the delay, then the Timeout."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        delay = c.owner
        awaited = c.extra
        c.extra = None
        if delay is not None and delay <= 0:
            return c.delegate(_stock_wait_for(awaited, delay))
        limit: Timeout = new_timeout(deadline_of(delay))
        limit.enter()
        c.owner = limit
        if is_native(awaited):
            if cython.cast(Future, awaited).state == PENDING:
                return c.wait_for(awaited)
            try:
                value = cython.cast(Future, awaited).get_result()
            except BaseException as exc:
                return self.failed(c, exc)
            return self.ended(c, value)
        return c.delegate(awaited)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.inner is None:
            return self.ended(c, c.future.result())
        return self.ended(c, c.result)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ended(self, c: NativeCoroutine, value) -> cython.int:
        if type(c.owner) is Timeout:
            cython.cast(Timeout, c.owner).leave(None, None)
        c.value = value
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if type(c.owner) is not Timeout:
            raise error
        try:
            raise error  # so that it is the context of a TimeoutError
        except BaseException as exc:
            cython.cast(Timeout, c.owner).leave(type(exc), exc)
            raise


@cython.final
@cython.cclass
class TaskLimit(Watcher):
    """One call of wait_for() on Python 3.11."""

    @cython.cfunc
    def callback(self) -> object:
        return self._release_waiter

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        wake(self.waiter, None)
        return 0

    def _release_waiter(self, future):
        """Take a future that gives no notice."""
        wake(self.waiter, None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def watch(self) -> cython.int:
        if is_native(self.task):
            return cython.cast(Future, self.task).tell(self, None)
        self.task.add_done_callback(self._release_waiter)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget(self) -> cython.int:
        if is_native(self.task):
            return cython.cast(Future, self.task).tell_no_more(self)
        self.task.remove_done_callback(self._release_waiter)
        return 0


@cython.final
@cython.cclass
class WaitForTask(Method):
    """wait_for() on Python 3.11. The coroutine's owner is the delay, then a TaskLimit."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        delay = c.owner
        awaited = c.extra
        c.extra = None
        loop: Loop = plain_loop()
        if loop is None or delay is None or delay <= 0:
            return c.delegate(_stock_wait_for(awaited, delay))
        limit: TaskLimit = TaskLimit.__new__(TaskLimit)
        limit.loop = loop
        limit.waiter = cython.cast(object, loop).create_future() if loop.debug else new_future(loop)
        limit.timer = cython.cast(object, loop).call_later(delay, _release_waiter, limit.waiter)
        if type(awaited) is CoroutineType and loop.task_factory is None:
            limit.task = new_task(loop, awaited, None, None, False)
        else:
            limit.task = _ensure_future(awaited, loop=loop)
        limit.watch()
        c.owner = limit
        return c.wait_for(limit.waiter)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if type(c.owner) is not TaskLimit:
            c.value = c.result
            return OVER
        limit: TaskLimit = cython.cast(TaskLimit, c.owner)
        if limit.error is not None:  # the wait was cancelled, and now the task has ended, too
            cancel_timer(limit.timer)
            context = limit.error.__context__
            try:
                raise limit.error
            finally:
                limit.error.__context__ = context  # asyncio's code has gone on raising it
        if not limit.task.done():
            limit.forget()
            limit.is_late = True
            return c.delegate(_cancel_and_wait(limit.task, loop=limit.loop))
        cancel_timer(limit.timer)
        try:
            c.value = limit.task.result()
        except CancelledError as exc:
            if not limit.is_late:
                raise
            raise TimeoutError from exc
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if type(c.owner) is not TaskLimit:
            raise error
        limit: TaskLimit = cython.cast(TaskLimit, c.owner)
        if limit.error is None and not limit.is_late and isinstance(error, CancelledError):
            if not limit.task.done():
                limit.forget()
                limit.error = error
                return c.delegate(_cancel_and_wait(limit.task, loop=limit.loop))
            cancel_timer(limit.timer)
            try:
                raise error  # so that it is the context of the task's
            except BaseException:
                c.value = limit.task.result()
            return OVER
        cancel_timer(limit.timer)
        if limit.error is None:
            raise error
        try:
            raise limit.error
        except BaseException:
            raise error  # noqa: B904


# ---- wait --------------------------------------------------------------------------------------------


@cython.binding(True)
def wait(fs, *, timeout=None, return_when=ALL_COMPLETED):
    """Wait for tasks and futures. Returns the set of those that are done, and of those that are not.

    `return_when` is ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION. After `timeout` seconds the wait ends,
    without an exception. See asyncio.wait.

        done, pending = await hoop.wait(tasks, return_when=hoop.FIRST_COMPLETED)
    """
    return new_coroutine_of_two(WAIT, fs, timeout, return_when)


@cython.final
@cython.cclass
class Waiting(Watcher):
    """Counts the futures that are done, and wakes the task."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self) -> cython.int:
        self.count = len(self.futures)
        self.awaiter = awaiter_now()
        for future in self.futures:
            if is_native(future):
                cython.cast(Future, future).tell(self, None)
            else:
                future.add_done_callback(self._on_completion)
                if self.awaiter is not None:
                    _add_to_awaited_by(future, self.awaiter)
        return 0

    @cython.cfunc
    def callback(self) -> object:
        return self._on_completion

    @property
    def _waiter(self):
        return self.waiter

    def _on_completion(self, future):
        """Count a future that gives no notice."""
        self.future_done(future)
        if self.awaiter is not None:
            _discard_from_awaited_by(future, self.awaiter)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        return self.future_done(notice.future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def future_done(self, future) -> cython.int:
        self.count -= 1
        if (
            self.count <= 0
            or self.first
            or (self.first_error and not future.cancelled() and future.exception() is not None)
        ):
            if self.timer is not None:
                cancel_timer(self.timer)
            wake(self.waiter, None)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave(self) -> cython.int:
        """The wait is over: stop the timer, and let the other futures forget it."""
        if self.timer is not None:
            cancel_timer(self.timer)
            self.timer = None
        for future in self.futures:
            if is_native(future):
                if cython.cast(Future, future).state == PENDING:
                    cython.cast(Future, future).tell_no_more(self)
            else:
                future.remove_done_callback(self._on_completion)
                if self.awaiter is not None:
                    _discard_from_awaited_by(future, self.awaiter)
        return 0

    @cython.cfunc
    def outcome(self) -> object:
        done: set = set()
        pending: set = set()
        for future in self.futures:
            if future.done():
                done.add(future)
            else:
                pending.add(future)
        return done, pending


@cython.final
@cython.cclass
class Wait(Method):
    """wait(). The coroutine's owner is what to wait for, then a Waiting."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, futures, return_when) -> cython.int:
        if type(futures) is not list and type(futures) is not set:
            if _isfuture(futures) or _iscoroutine(futures):
                raise TypeError(f"expect a list of futures, not {type(futures).__name__}")
        if not futures:
            raise ValueError("Set of Tasks/Futures is empty.")
        if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
            raise ValueError(f"Invalid return_when value: {return_when}")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        timeout = c.value
        return_when = c.extra
        futures = c.owner
        c.value = c.extra = None
        loop: Loop = plain_loop()
        if loop is None:
            return c.delegate(_stock_wait(futures, timeout=timeout, return_when=return_when))
        self.check(futures, return_when)
        w: Waiting = Waiting.__new__(Waiting)
        w.futures = set(futures)
        for future in w.futures:
            if not is_native(future) and _iscoroutine(future):
                raise TypeError("Passing coroutines is forbidden, use tasks explicitly.")
        w.first = return_when == FIRST_COMPLETED
        w.first_error = return_when == FIRST_EXCEPTION
        w.waiter = cython.cast(object, loop).create_future() if loop.debug else new_future(loop)
        if timeout is not None:
            w.timer = cython.cast(object, loop).call_later(timeout, _release_waiter, w.waiter)
        w.begin()
        c.owner = w
        return c.wait_for(w.waiter)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.inner is not None:
            c.value = c.result
            return OVER
        w: Waiting = cython.cast(Waiting, c.owner)
        w.leave()
        c.value = w.outcome()
        w.futures = (
            None  # a notice that is on the ring keeps this object alive, and should not keep those
        )
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if c.inner is None:
            cython.cast(Waiting, c.owner).leave()
            cython.cast(Waiting, c.owner).futures = None
        raise error


# ---- as_completed ------------------------------------------------------------------------------------


@cython.binding(True)
def as_completed(fs, *, timeout=None):
    """Iterate over the results of awaitables, in the order in which they come. See asyncio.as_completed.

    If not all are done after `timeout` seconds, the next wait raises TimeoutError.

        async for task in hoop.as_completed(tasks):
            print(await task)
    """
    if IS_GENERATOR:
        return coroutines_as_completed(fs, timeout)
    if plain_loop() is None:
        return _stock_as_completed(fs, timeout=timeout)
    if _isawaitable(fs):
        raise TypeError(f"expects an iterable of awaitables, not {type(fs).__name__}")
    them: _AsCompletedIterator = _AsCompletedIterator.__new__(_AsCompletedIterator)
    them.begin(fs, timeout)
    return them


def coroutines_as_completed(fs, timeout):
    """Yield a coroutine for each of them, as asyncio's generator before Python 3.13 does."""
    if plain_loop() is None:
        yield from _stock_as_completed(fs, timeout=timeout)
        return
    if _isfuture(fs) or _iscoroutine(fs):
        raise TypeError(f"expect an iterable of futures, not {type(fs).__name__}")
    them: _AsCompletedIterator = _AsCompletedIterator.__new__(_AsCompletedIterator)
    them.begin(fs, timeout)
    for _ in range(them.left):
        yield new_coroutine(NEXT_RESULT, them, None)


@cython.final
@cython.cclass
class _AsCompletedIterator(Watcher):
    """The iterator that as_completed() gives."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, awaitables, timeout) -> cython.int:
        loop: Loop = plain_loop()
        self.done = Queue()
        self.awaiter = awaiter_now()
        self.todo = set()
        for awaitable in set(awaitables):
            if type(awaitable) is CoroutineType and loop.task_factory is None:
                self.todo.add(new_task(loop, awaitable, None, None, False))
            else:
                self.todo.add(_ensure_future(awaitable, loop=loop))
        for future in self.todo:
            if is_native(future):
                cython.cast(Future, future).tell(self, None)
            else:
                future.add_done_callback(self._handle_completion)
                if self.awaiter is not None:
                    _add_to_awaited_by(future, self.awaiter)
        if self.todo and timeout is not None:
            self.timer = cython.cast(object, loop).call_later(timeout, self._handle_timeout)
        self.left = len(self.todo)
        return 0

    def __aiter__(self):
        return self

    def __iter__(self):
        return self

    @cython.binding(True)
    def __anext__(self):
        return new_coroutine(NEXT_FUTURE, self, None)

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return new_coroutine(NEXT_RESULT, self, None)

    @cython.cfunc
    def callback(self) -> object:
        return self._handle_completion

    def _handle_completion(self, future):
        """Take a future that gives no notice."""
        self.future_done(future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        return self.future_done(notice.future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def future_done(self, future) -> cython.int:
        if not self.todo:
            return 0  # the time was over
        self.todo.remove(future)
        if self.awaiter is not None and not is_native(future):
            _discard_from_awaited_by(future, self.awaiter)
        self.done.add(future)
        if not self.todo and self.timer is not None:
            cancel_timer(self.timer)
        return 0

    def _handle_timeout(self):
        """The time is over: as many waits as there are futures fail."""
        for future in self.todo:
            if is_native(future):
                cython.cast(Future, future).tell_no_more(self)
            else:
                future.remove_done_callback(self._handle_completion)
                if self.awaiter is not None:
                    _discard_from_awaited_by(future, self.awaiter)
            self.done.add(None)
        self.todo.clear()


@cython.final
@cython.cclass
class NextCompleted(Method):
    """A wait for the next future that is done."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        them: _AsCompletedIterator = cython.cast(_AsCompletedIterator, c.owner)
        if not self.gives_result:
            if them.left == 0:
                raise StopAsyncIteration
            them.left -= 1
        return c.delegate(cython.cast(object, them.done).get())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        future = c.result
        if future is None:
            raise TimeoutError
        if not self.gives_result:
            c.value = future
        elif is_native(future):
            c.value = cython.cast(Future, future).get_result()
        else:
            c.value = future.result()
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if COUNTS_AGAIN and c.inner is not None:
            cython.cast(_AsCompletedIterator, c.owner).left += 1
        raise error


WAIT_FOR = cython.declare(WaitFor, WaitFor("wait_for", object))
WAIT_FOR_TASK = cython.declare(WaitForTask, WaitForTask("wait_for", object))
WAIT = cython.declare(Wait, Wait("wait", object))
NEXT_FUTURE = cython.declare(NextCompleted, NextCompleted("__anext__", _AsCompletedIterator))
NEXT_RESULT = cython.declare(NextCompleted, NextCompleted("_wait_for_one", _AsCompletedIterator))
NEXT_RESULT.gives_result = True
mark_coroutine_function(wait_for)
mark_coroutine_function(wait)
hoop_forbid_new(TaskLimit)
hoop_forbid_new(Waiting)
hoop_forbid_new(_AsCompletedIterator)
