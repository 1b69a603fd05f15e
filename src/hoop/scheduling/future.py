"""Futures: a result that is not there yet. See asyncio.Future, whose behaviour this follows.

A future is its own iterator, so that `await future` makes no object, and the StopIteration that ends the
await is used again. Most futures have one waiter, a native task. It is kept in a C field, and pushed onto the
ready ring itself when the future is done.

A future belongs to the thread that runs its loop. The loop may be any asyncio loop: `loop` is set if it
is one of ours, `foreign_loop` otherwise.
"""

from __future__ import annotations

import asyncio
import reprlib
import sys
import types
from asyncio import base_futures, events, format_helpers

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    Py_INCREF,
    Py_XDECREF,
    PyContext_CopyCurrent,
    PyErr_SetObject,
    PyErr_WriteUnraisable,
    PyException_SetTraceback,
    PyExceptionInstance_Check,
    PyObject_CallFinalizerFromDealloc,
    PyObject_GC_UnTrack,
    PyObject_GenericGetDict,
    Ref,
    call_one_quiet,
    destructor,
    hoop_check_spared,
    hoop_drop_stop,
    hoop_free,
    hoop_is_sole,
    hoop_iter_return,
    hoop_may_spare,
    hoop_revive,
    hoop_set_await,
    hoop_set_dictoffset,
    hoop_set_iternext,
    hoop_set_signature,
    hoop_spare,
    hoop_spares,
    hoop_swap_clear,
    hoop_swap_dealloc,
    hoop_swap_traverse,
    hoop_traceback,
    hoop_visit,
    inquiry,
    is_error,
    iternextfunc,
    ref,
    take,
    traverseproc,
    unaryfunc,
    visitproc,
)
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.scheduling import notice as listed
from cython.cimports.hoop.scheduling.base import LoopBase, as_native
from cython.cimports.hoop.scheduling.notice import NEAR, Notice, Watcher, new_notice
from cython.cimports.hoop.scheduling.throwing import thrown_exception

CancelledError = cython.declare(object, asyncio.CancelledError)
InvalidStateError = cython.declare(object, asyncio.InvalidStateError)
_asyncio_future = cython.declare(object, asyncio.Future)


def _wraps_stop_iteration():
    """Whether this Python's futures wrap a StopIteration in a RuntimeError; else it is a TypeError."""

    class NoLoop:
        def get_debug(self):
            return False

    future = asyncio.Future(loop=NoLoop())
    try:
        future.set_exception(StopIteration())
    except TypeError:
        return False
    return future.exception() is not None


STOP_ITERATION_IS_WRAPPED = cython.declare(cython.bint, _wraps_stop_iteration())
STATE_NAMES = cython.declare(tuple, ("PENDING", "FINISHED", "CANCELLED"))


@cython.cclass
class Future(Runnable):
    """A result that will be set later. Await a future to wait for it. See asyncio.Future.

    `loop` is the loop that runs the callbacks; without one the running loop. Awaiting the future raises the
    exception that was set, or CancelledError.

        future = hoop.Future()
        loop.call_later(1, future.set_result, "done")
        print(await future)
    """

    def __init__(self, *, loop=None):
        self.check_new()
        self.attach(events.get_event_loop() if loop is None else loop)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_new(self) -> cython.int:
        if self.loop is not None or self.foreign_loop is not None:
            raise RuntimeError(f"{type(self).__name__} object is already initialized")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attach(self, loop) -> cython.int:
        self.loop = as_native(loop)
        self.foreign_loop = loop if self.loop is None else None
        if self.loop.debug if self.loop is not None else loop.get_debug():
            self.source_traceback = format_helpers.extract_stack(sys._getframe(0))
        return 0

    @property
    def __class__(self):
        return _asyncio_future

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    @property
    def __dict__(self):
        return PyObject_GenericGetDict(self, cython.NULL)

    def __del__(self):
        if self.log_traceback:
            self.complain()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complain(self) -> cython.int:
        """Dropped with an exception that nobody has seen: say so."""
        self.log_traceback = False
        context = {
            "message": f"{type(self).__name__} exception was never retrieved",
            "exception": self.error,
            "future": self,
        }
        if self.source_traceback:
            context["source_traceback"] = self.source_traceback
        return report_dropped(self.get_loop(), context)

    # ---- asking ----

    def get_loop(self):
        """The loop this future belongs to."""
        if self.loop is not None:
            return self.loop
        self.check_ready()
        return self.foreign_loop

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_ready(self) -> cython.int:
        if self.loop is None and self.foreign_loop is None:
            raise RuntimeError("Future object is not initialized.")
        return 0

    def done(self):
        """Whether it has a result, an exception, or was cancelled."""
        return self.state != PENDING

    def cancelled(self):
        """Whether it was cancelled."""
        return self.state == CANCELLED

    def result(self):
        """The result.

        Raises the exception that was set, CancelledError, or InvalidStateError while pending.
        """
        return self.get_result()

    @cython.cfunc
    def get_result(self) -> object:
        if self.state == FINISHED and self.error is None:
            return self.outcome
        raise self.take_error()

    @cython.cfunc
    def take_error(self) -> object:
        """The exception to raise instead of a result that is not there."""
        if self.state == FINISHED:
            self.log_traceback = False
            PyException_SetTraceback(self.error, self.outcome)
            return self.error
        if self.state == CANCELLED:
            return self.cancelled_exception()
        return InvalidStateError("Result is not set.")

    def exception(self):
        """The exception that was set, or None.

        Raises CancelledError if cancelled, InvalidStateError while pending.
        """
        if self.state == CANCELLED:
            raise self.cancelled_exception()
        if self.state == PENDING:
            raise InvalidStateError("Exception is not set.")
        self.log_traceback = False
        return self.error

    @cython.cfunc
    def cancelled_exception(self) -> object:
        exc = self.error
        if exc is not None and self.state == CANCELLED:
            self.error = None  # once: it would gather a traceback each time it is raised
            return exc
        if self.cancel_message is None:
            return CancelledError()
        return CancelledError(self.cancel_message)

    def _make_cancelled_error(self):
        return self.cancelled_exception()

    # ---- settling ----

    def set_result(self, result, /):
        """Mark it done with a result. Raises InvalidStateError if it is done already."""
        self.finish(result)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finish(self, result) -> cython.int:
        if self.state != PENDING:
            raise InvalidStateError("invalid state")
        if self.loop is None:
            self.check_ready()
        self.outcome = result
        self.state = FINISHED
        return self.schedule()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def expire(self, loop: Ref) -> cython.bint:
        if self.state == CANCELLED:
            return True
        if (
            self.state != PENDING
            or ref(self.loop) != loop
            or self.loop.debug
            or self.loop.own_soon  # it may look at the context
        ):
            return False
        self.finish(None)
        return True

    def set_exception(self, exception, /):
        """Mark it done with an exception (an instance or a class).

        Raises InvalidStateError if it is done already, TypeError for what is no exception.
        """
        self.fail(exception)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exception) -> cython.int:
        if self.state != PENDING:
            raise InvalidStateError("invalid state")
        self.check_ready()
        if isinstance(exception, type):
            exception = exception()
            if self.state != PENDING:
                raise InvalidStateError("invalid state")
        if not PyExceptionInstance_Check(exception):
            raise TypeError("invalid exception object")
        if is_error(exception, StopIteration):
            message = (
                "StopIteration interacts badly with generators and cannot be raised into a Future"
            )
            if not STOP_ITERATION_IS_WRAPPED:
                raise TypeError(message)
            wrapped = RuntimeError(message)
            wrapped.__cause__ = exception
            wrapped.__context__ = exception
            exception = wrapped
        self.error = exception
        self.outcome = hoop_traceback(exception)
        self.state = FINISHED
        self.log_traceback = True
        return self.schedule()

    def cancel(self, msg=None):
        """Cancel it. False if it was done already."""
        self.log_traceback = False
        if self.state != PENDING:
            return False
        self.check_ready()
        self.cancel_future(msg)
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel_future(self, message) -> cython.int:
        self.state = CANCELLED
        self.cancel_message = message
        return self.schedule()

    # ---- telling ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finished(self) -> cython.int:
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def schedule(self) -> cython.int:
        """Queue all tasks and callbacks that wait, in the order in which they came."""
        self.finished()
        if self.waiter is not None:
            if self.loop.debug:
                self.loop.check_thread()
            if self.loop.closed:
                self.loop.check_open()
            self.loop.push(self.waiter)
            self.waiter = None
        if self.callbacks is not None:
            self.schedule_listed()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def schedule_listed(self) -> cython.int:
        entries = self.callbacks
        self.callbacks = None
        self.gaps = 0
        for entry in entries:
            if entry is None:
                continue
            if type(entry) is not tuple:
                self.loop.push(entry)
            elif self.loop is not None:
                if self.loop.debug:
                    self.loop.check_thread()
                self.loop.check_open()
                if self.loop.own_soon:
                    cython.cast(object, self.loop).call_soon(entry[0], self, context=entry[1])
                else:
                    self.loop.soon(entry[0], (self,), entry[1])
            else:
                self.foreign_loop.call_soon(entry[0], self, context=entry[1])
        return 0

    def add_done_callback(self, fn, /, *, context=None):
        """Call fn(self) through the loop once this is done, in `context` or a copy of the current."""
        self.check_ready()
        if context is None:
            context = PyContext_CopyCurrent()
        if self.state == PENDING:
            self.add_listed((fn, context))
        else:
            self.get_loop().call_soon(fn, self, context=context)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add_listed(self, entry) -> cython.int:
        if self.callbacks is None:
            self.callbacks = [entry]
        else:
            self.callbacks.append(entry)
        return 0

    def remove_done_callback(self, fn, /):
        """Forget every use of a callback. Returns how many there were."""
        count: cython.Py_ssize_t = 0
        self.check_ready()
        if type(self.waiter) is Notice and cython.cast(object, self.waiter)._wakeup == fn:
            self.waiter = None
            count = 1
        if self.callbacks is None:
            return count
        # Comparing runs user code, which may add, remove or settle: work on a copy, then look again.
        gone = listed.uses_of(fn, list(self.callbacks))
        if self.callbacks is not None:
            self.close_gaps(listed.leave_gaps(self.callbacks, gone))
        return count + len(gone)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, watcher: Watcher, context) -> cython.int:
        """Let a watcher know when this is done: in the next turn, if it is done already."""
        notice: Notice = new_notice(self, watcher, context)
        if self.state != PENDING:
            return self.loop.push(notice)
        if self.waiter is None and self.callbacks is None:
            self.waiter = notice
            return 0
        self.add_listed(notice)
        return listed.note_place(self.callbacks)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell_no_more(self, watcher: Watcher) -> cython.int:
        """Forget a watcher, unless its notice is on the ring already."""
        if type(self.waiter) is Notice and cython.cast(Notice, self.waiter).watcher is watcher:
            self.waiter = None
        elif self.callbacks is not None:
            place: cython.Py_ssize_t = listed.place_of(self.callbacks, watcher, id(self))
            if place >= 0:
                self.callbacks[place] = None
                self.close_gaps(1)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_gaps(self, more: cython.Py_ssize_t) -> cython.int:
        """Count more gaps in the list, and make it short again once most of it are gaps."""
        n: cython.Py_ssize_t = len(self.callbacks)
        self.gaps += more
        if self.gaps == n or (self.gaps >= NEAR and self.gaps * 2 > n):
            self.callbacks = listed.without_gaps(self.callbacks, id(self)) or None
            self.gaps = 0
        return 0

    @cython.cfunc
    def waiting(self) -> list:
        """All that wait, in the order in which they came."""
        entries = [] if self.waiter is None else [self.waiter]
        entries.extend([entry for entry in self.callbacks or () if entry is not None])
        return entries

    # ---- awaiting ----

    def __await__(self):
        # For Python subclasses and for callers by name; `await` itself finds the slot below.
        self.check_ready()
        return FutureIterator(self)

    def __iter__(self):
        self.check_ready()
        return FutureIterator(self)

    # ---- the names that asyncio's own code, its debuggers and its users read ----

    @property
    def _asyncio_future_blocking(self):
        return self.blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value: cython.bint):
        self.blocking = value

    @_asyncio_future_blocking.deleter
    def _asyncio_future_blocking(self):
        raise AttributeError("cannot delete attribute")

    @property
    def _loop(self):
        return self.loop if self.loop is not None else self.foreign_loop

    @property
    def _state(self):
        return STATE_NAMES[self.state]

    @property
    def _result(self):
        return self.outcome if self.error is None else None

    @property
    def _exception(self):
        return self.error if self.state == FINISHED else None

    @property
    def _callbacks(self):
        """The callbacks as asyncio lists them: (callable, context)."""
        return [
            entry if type(entry) is tuple else (entry._wakeup, entry._context)
            for entry in self.waiting()
        ] or None

    @property
    def _asyncio_awaited_by(self):
        tasks = [
            cython.cast(Notice, entry).watcher.awaiter if type(entry) is Notice else entry
            for entry in self.waiting()
            if type(entry) is not tuple
        ]
        return frozenset([task for task in tasks if task is not None]) or None

    @property
    def _cancel_message(self):
        return self.cancel_message

    @_cancel_message.setter
    def _cancel_message(self, message):
        self.cancel_message = message

    @_cancel_message.deleter
    def _cancel_message(self):
        raise AttributeError("cannot delete attribute")

    @property
    def _source_traceback(self):
        return self.source_traceback

    @property
    def _log_traceback(self):
        return self.log_traceback

    @_log_traceback.setter
    def _log_traceback(self, value):
        if value:
            raise ValueError("_log_traceback can only be set to False")
        self.log_traceback = False

    @_log_traceback.deleter
    def _log_traceback(self):
        raise AttributeError("cannot delete attribute")

    def _repr_info(self):
        return base_futures._future_repr_info(self)

    def __repr__(self):
        self.check_ready()
        return _repr(self)


@cython.final
@cython.cclass
class _GatheringFuture(Future):
    """The future that gather() gives."""

    @property
    def _children(self):
        return self.children

    @property
    def _cancel_requested(self):
        return self.cancel_requested

    def cancel(self, msg=None):
        """Cancel all children. The future itself is cancelled by what becomes of them."""
        if self.state != PENDING:
            return False
        cancelled = False
        for child in self.children:
            if child.cancel(msg=msg):
                cancelled = True
        if cancelled:
            self.cancel_requested = True
        return cancelled


@cython.cfunc
@cython.exceptval(-1, check=False)
def report_dropped(loop, context) -> cython.int:
    """Call the loop's exception handler from a finaliser: what that raises is for sys.unraisablehook."""
    handler = loop.call_exception_handler
    result: Ref = call_one_quiet(ref(handler), ref(context))
    if result is cython.NULL:
        PyErr_WriteUnraisable(ref(handler))
    else:
        Py_DECREF(result)
    return 0


@reprlib.recursive_repr()
def _repr(future):
    return f"<{type(future).__name__} {' '.join(future._repr_info())}>"


@cython.final
@cython.cclass
class FutureIterator:
    """The object that iter(future) gives. With send(), throw() and close() a future would be a coroutine."""

    def __init__(self, future: Future):
        self.future = future

    def __iter__(self):
        return self

    def __next__(self):
        return self.advance()

    @cython.cfunc
    def advance(self) -> object:
        future = self.future
        if future is None:
            raise StopIteration
        if future.state == PENDING:
            if future.blocking:
                raise RuntimeError("await wasn't used with future")
            future.blocking = True
            return future
        self.future = None
        raise StopIteration(future.get_result())

    def send(self, value, /):
        """Go on; the value is ignored."""
        return self.advance()

    def throw(self, typ, val=None, tb=None):
        """Raise an exception where the future is awaited."""
        self.future = None
        raise thrown_exception(typ, val, tb)

    def close(self):
        """Forget the future."""
        self.future = None


@cython.cfunc
def loop_of(future) -> object:
    """Return the loop of any asyncio future."""
    get_loop = getattr(future, "get_loop", None)
    return future._loop if get_loop is None else get_loop()


@cython.cfunc
def new_future(loop: LoopBase) -> Future:
    """A pending future, without the checks of the constructor."""
    spare: Ref = hoop_revive(cython.address(spare_futures))
    future: Future = Future.__new__(Future) if spare is cython.NULL else take(spare)
    future.loop = loop
    return future


@cython.cfunc
@cython.exceptval(check=False)
def renew_future(o: Ref) -> cython.bint:
    """Make a future pending again for its one owner, as if it were new. False if somebody could tell."""
    if (
        not hoop_is_sole(o)
        or cython.cast(Future, o).state != FINISHED
        or cython.cast(Future, o).outcome is not None
        or cython.cast(Future, o).error is not None
        or cython.cast(Future, o).callbacks is not None
        or cython.cast(Future, o).attributes is not cython.NULL
    ):
        return False
    cython.cast(Future, o).state = PENDING
    cython.cast(Future, o).blocking = False
    return True


# ---- slots that Cython cannot spell -----------------------------------------------------------------
# Set here, before any subclass exists; Task sets its own copies.


@cython.cfunc
@cython.exceptval(check=False)
def future_iternext(f: Future | None) -> cython.pointer[PyObject]:
    """tp_iternext: yield the future once, then end with its result."""
    if f.state == PENDING:
        if not f.blocking:
            f.blocking = True
            Py_INCREF(ref(f))
            return ref(f)
        raise_in_slot(RuntimeError("await wasn't used with future"))
        return cython.NULL
    if f.state == FINISHED and f.error is None:
        return hoop_iter_return(ref(f.outcome))
    raise_result(f)
    return cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def future_await(f: Ref) -> Ref:
    """Fill the slot `am_await`. A future is its own iterator, so that an await makes no object."""
    if cython.cast(Future, f).loop is None and cython.cast(Future, f).foreign_loop is None:
        raise_in_slot(RuntimeError("Future object is not initialized."))
        return cython.NULL
    Py_INCREF(f)
    return f


@cython.cfunc
@cython.exceptval(check=False)
def raise_result(f: Future | None) -> cython.void:
    """Leave raised what there is instead of a result."""
    try:
        error = f.take_error()
    except BaseException as exc:
        error = exc
    raise_in_slot(error)


@cython.cfunc
@cython.exceptval(check=False)
def raise_in_slot(exc) -> cython.void:
    PyErr_SetObject(type(exc), exc)


_future_traverse = cython.declare(traverseproc, cython.NULL)
_future_clear = cython.declare(inquiry, cython.NULL)
_future_dealloc = cython.declare(destructor, cython.NULL)
spare_futures = cython.declare(hoop_spares)


@cython.cfunc
@cython.exceptval(check=False)
def future_traverse(f: Future | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    error: cython.int = hoop_visit(f.attributes, visit, arg)
    if error:
        return error
    return _future_traverse(ref(f), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def future_clear(f: Future | None) -> cython.int:
    attributes: Ref = f.attributes
    f.attributes = cython.NULL
    Py_XDECREF(attributes)
    return _future_clear(ref(f))


@cython.cfunc
@cython.exceptval(check=False)
def empty_future(o: Ref) -> cython.void:
    """Let go of what a dying future holds, so that it can be used again."""
    hoop_drop_stop()
    cython.cast(Future, o).loop = None
    cython.cast(Future, o).foreign_loop = None
    cython.cast(Future, o).outcome = None
    cython.cast(Future, o).error = None
    cython.cast(Future, o).waiter = None
    cython.cast(Future, o).callbacks = None
    cython.cast(Future, o).gaps = 0
    cython.cast(Future, o).cancel_message = None
    cython.cast(Future, o).source_traceback = None
    cython.cast(Future, o).state = PENDING
    cython.cast(Future, o).blocking = False
    cython.cast(Future, o).log_traceback = False


@cython.cfunc
@cython.exceptval(check=False)
def future_dealloc(o: Ref) -> cython.void:
    """Fill the slot `tp_dealloc`. `__dealloc__`, and a finaliser's call for every future, would cost more."""
    hoop_free(o, cython.cast(destructor, future_dealloc), cython.cast(destructor, free_future))


@cython.cfunc
@cython.exceptval(check=False)
def free_future(o: Ref) -> cython.void:
    if cython.cast(Future, o).log_traceback and PyObject_CallFinalizerFromDealloc(o) < 0:
        return  # somebody kept it
    PyObject_GC_UnTrack(o)  # before anything is let go: that may run code, and that a collection
    attributes: Ref = cython.cast(Future, o).attributes
    cython.cast(Future, o).attributes = cython.NULL
    Py_XDECREF(attributes)
    if hoop_may_spare(cython.address(spare_futures), Future, o):
        empty_future(o)
        if hoop_spare(cython.address(spare_futures), o):
            return
    hoop_drop_stop()
    _future_dealloc(o)


@cython.cfunc
def _attributes_offset() -> cython.Py_ssize_t:
    f: Future = Future.__new__(Future)
    return cython.cast(cython.Py_ssize_t, cython.address(f.attributes)) - cython.cast(
        cython.Py_ssize_t, ref(f)
    )


ATTRIBUTES_OFFSET = _attributes_offset()
hoop_set_dictoffset(Future, ATTRIBUTES_OFFSET)
hoop_set_signature(Future, b"(*, loop=None)")
hoop_set_await(Future, cython.cast(unaryfunc, future_await))
hoop_set_iternext(Future, cython.cast(iternextfunc, future_iternext))
_future_traverse = hoop_swap_traverse(Future, cython.cast(traverseproc, future_traverse))
_future_clear = hoop_swap_clear(Future, cython.cast(inquiry, future_clear))
hoop_check_spared(Future)
_future_dealloc = hoop_swap_dealloc(Future, cython.cast(destructor, future_dealloc))
hoop_set_dictoffset(_GatheringFuture, ATTRIBUTES_OFFSET)
hoop_set_await(_GatheringFuture, cython.cast(unaryfunc, future_await))
hoop_set_iternext(_GatheringFuture, cython.cast(iternextfunc, future_iternext))
