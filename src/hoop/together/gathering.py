"""gather() and shield(): futures that stand for others. They behave as asyncio's functions do.

On a loop that is not hoop's, both are asyncio's own, unless the first child is hoop's. Any future may be a
child.
"""

from __future__ import annotations

import asyncio.futures
import asyncio.tasks
import sys
import types

import cython
from cython.cimports.hoop._c.python import (
    PyDict_GetItemWithError,
    Ref,
    hoop_forbid_new,
    ref,
)
from cython.cimports.hoop.loop.running import plain_loop
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.future import (
    CANCELLED,
    PENDING,
    Future,
    _GatheringFuture,
    loop_of,
    new_future,
)
from cython.cimports.hoop.scheduling.notice import Notice, Watcher
from cython.cimports.hoop.scheduling.task import Task, new_task
from cython.cimports.hoop.together.timeouts import current_task_of

CancelledError = cython.declare(object, asyncio.CancelledError)
CoroutineType = cython.declare(object, types.CoroutineType)
_ensure_future = cython.declare(object, asyncio.tasks.ensure_future)
_stock_gather = cython.declare(object, asyncio.tasks.gather)
_stock_shield = cython.declare(object, asyncio.tasks.shield)
# Since Python 3.12 a child that is done is counted before gather() returns.
COUNTS_DONE_AT_ONCE = cython.declare(cython.bint, sys.version_info >= (3, 12))
HAS_GRAPH = cython.declare(cython.bint, sys.version_info >= (3, 14))
# Until then an error of a shielded task counts as seen, if it comes in the turn of the shield's cancellation.
SHIELD_SEES_ERROR = cython.declare(cython.bint, sys.version_info < (3, 14))
_add_to_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_add_to_awaited_by", None)
)
_discard_from_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_discard_from_awaited_by", None)
)


@cython.cfunc
def awaiter_now() -> object:
    """Return the task that waits from now on, for the graph of Python 3.14; None on older ones."""
    if not HAS_GRAPH:
        return None
    loop: Loop = plain_loop()
    return None if loop is None else current_task_of(loop)


@cython.cfunc
@cython.exceptval(check=False)
def is_native(child) -> cython.bint:
    """Whether it gives notices: a future of one of hoop's loops, whose call_soon() need not see callbacks."""
    if not is_ours(child):
        return False
    loop: LoopBase = cython.cast(Future, child).loop
    return loop is not None and not loop.own_soon


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_ours(child) -> cython.bint:
    kind = type(child)
    return kind is Task or kind is Future or kind is _GatheringFuture


# ---- gather ------------------------------------------------------------------------------------------


@cython.binding(True)
def gather(*coros_or_futures, return_exceptions=False):
    """Run coroutines side by side, and wait for all results. See asyncio.gather.

    The result is the list of their results, in the order of the arguments. The first exception ends the wait.
    With `return_exceptions` exceptions are results too.

        page, icon = await hoop.gather(fetch(page_url), fetch(icon_url))
    """
    loop: Loop = plain_loop()
    if loop is None and not (coros_or_futures and is_ours(coros_or_futures[0])):
        return _stock_gather(*coros_or_futures, return_exceptions=return_exceptions)
    if not coros_or_futures:
        empty = cython.cast(object, loop).create_future()
        empty.set_result([])
        return empty
    gathering: Gathering = Gathering.__new__(Gathering)
    gathering.keeps_errors = bool(return_exceptions)
    gathering.awaiter = awaiter_now()
    found: Ref
    home = None
    children: list = []
    done: list = []
    known: dict = {}
    for arg in coros_or_futures:
        found = PyDict_GetItemWithError(ref(known), ref(arg))
        if found is not cython.NULL:
            children.append(cython.cast(object, found))
            continue
        child = gathering.child_of(arg, home, loop)
        if home is None:
            home = loop_of(child)
        gathering.count += 1
        known[arg] = child
        gathering.watch(child, done)
        children.append(child)
    outer: _GatheringFuture = _GatheringFuture.__new__(_GatheringFuture)
    outer.attach(home)
    outer.children = children
    gathering.outer = outer
    for child in done:
        gathering.child_done(child)
    return outer


@cython.final
@cython.cclass
class Gathering(Watcher):
    """Counts the children that are done, and then sets the result."""

    @cython.cfunc
    def child_of(self, arg, home, loop: Loop | None) -> object:
        """Return the future of an argument: the argument itself, or a new task."""
        if (
            type(arg) is CoroutineType
            and loop is not None
            and loop.task_factory is None
            and (home is None or home is loop)
        ):
            task: Task = new_task(loop, arg, None, None, False)
            task.silent = True
            return task
        child = _ensure_future(arg, loop=home)
        if child is not arg:
            child._log_destroy_pending = False
        return child

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def watch(self, child, done: list) -> cython.int:
        if is_native(child):
            if COUNTS_DONE_AT_ONCE and cython.cast(Future, child).state != PENDING:
                done.append(child)
            else:
                cython.cast(Future, child).tell(self, None)
            return 0
        if COUNTS_DONE_AT_ONCE and child.done():
            done.append(child)
            return 0
        if self.awaiter is not None:
            _add_to_awaited_by(child, self.awaiter)
        child.add_done_callback(self._done_callback)
        return 0

    @cython.cfunc
    def callback(self) -> object:
        return self._done_callback

    def _done_callback(self, child):
        """Count a child that gives no notice."""
        if self.awaiter is not None:
            _discard_from_awaited_by(child, self.awaiter)
        self.child_done(child)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        return self.child_done(notice.future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def child_done(self, child) -> cython.int:
        outer: _GatheringFuture = self.outer
        self.ended += 1
        if outer is None or outer.state != PENDING:
            if not child.cancelled():
                child.exception()  # now it was retrieved
            return 0
        if not self.keeps_errors:
            error = None
            if is_native(child):
                if cython.cast(Future, child).state == CANCELLED:
                    error = cython.cast(Future, child).cancelled_exception()
                elif cython.cast(Future, child).error is not None:
                    cython.cast(Future, child).log_traceback = False
                    error = cython.cast(Future, child).error
            else:
                error = child._make_cancelled_error() if child.cancelled() else child.exception()
            if error is not None:
                self.leave()
                return outer.fail(error)
        if self.ended < self.count:
            return 0
        results = self.results()
        if outer.cancel_requested:
            return outer.fail(outer.children[len(outer.children) - 1]._make_cancelled_error())
        return outer.finish(results)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave(self) -> cython.int:
        """The children that go on are no longer awaited by the task that has called gather()."""
        if self.awaiter is not None:
            for child in self.outer.children:
                _discard_from_awaited_by(child, self.awaiter)
            self.awaiter = None
        return 0

    @cython.cfunc
    def results(self) -> object:
        found: list = []
        for child in self.outer.children:
            if is_native(child):
                f: Future = cython.cast(Future, child)
                if f.state == CANCELLED:
                    message = f.cancel_message
                    found.append(CancelledError("" if message is None else message))
                elif f.error is not None:
                    f.log_traceback = False
                    found.append(f.error)
                else:
                    found.append(f.outcome)
            elif child.cancelled():
                message = child._cancel_message
                found.append(CancelledError("" if message is None else message))
            else:
                error = child.exception()
                found.append(child.result() if error is None else error)
        return found


# ---- shield ------------------------------------------------------------------------------------------


@cython.binding(True)
def shield(arg):
    """Wait for something that goes on when the wait is cancelled. See asyncio.shield.

    For example:

        saved = hoop.create_task(save(document))
        await hoop.shield(saved)
    """
    loop: Loop = plain_loop()
    if loop is None or loop.own_soon:
        return _stock_shield(arg)
    if type(arg) is CoroutineType and loop.task_factory is None:
        arg = new_task(loop, arg, None, None, False)
    elif not is_native(arg) or cython.cast(Future, arg).loop is not loop:
        return _stock_shield(arg)
    if cython.cast(Future, arg).state != PENDING:
        return arg
    s: Shield = Shield.__new__(Shield)
    s.inner = cython.cast(Future, arg)
    s.outer = loop.create_future() if loop.debug else new_future(loop)
    s.awaiter = awaiter_now()
    s.inner.tell(s, None)
    end: ShieldEnd = ShieldEnd.__new__(ShieldEnd)
    end.shield = s
    s.outer.tell(end, None)
    return s.outer


@cython.final
@cython.cclass
class Shield(Watcher):
    """Passes the end of the inner future on to the outer one, and never the other way round."""

    @cython.cfunc
    def callback(self) -> object:
        return self._inner_done_callback

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        return self.inner_done()

    @property
    def _outer(self):
        return self.outer

    def _inner_done_callback(self, inner):
        """Pass the end of the inner future on."""
        self.inner_done()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def inner_done(self) -> cython.int:
        inner: Future = self.inner
        outer: Future = self.outer
        if outer.state == CANCELLED:
            if SHIELD_SEES_ERROR:
                inner.log_traceback = False
            return 0
        if inner.state == CANCELLED:
            cython.cast(object, outer).cancel()
        elif inner.error is not None:
            inner.log_traceback = False
            outer.fail(inner.error)
        else:
            outer.finish(inner.outcome)
        return 0


@cython.final
@cython.cclass
class ShieldEnd(Watcher):
    """Lets the inner future forget the shield, if the outer one was cancelled."""

    @cython.cfunc
    def callback(self) -> object:
        return self._outer_done_callback

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        inner: Future = self.shield.inner
        if inner.state == PENDING:
            inner.tell_no_more(self.shield)
        return 0

    def _outer_done_callback(self, outer):
        """Let the inner future forget the shield."""
        self.notified(None)


hoop_forbid_new(Gathering)
hoop_forbid_new(Shield)
hoop_forbid_new(ShieldEnd)
