"""Coroutines in C: the awaitables that `queue.get()`, `lock.acquire()` and other methods return.

`await queue.get()` makes one small object, and no frame. The object's memory is used again for the next
one. If the queue has an item, the await never suspends.

Such an object behaves as a coroutine. create_task(), wait_for() and gather() take it, it does nothing
before it is awaited, and Python warns if it never is. Only inspect.iscoroutine() says False.

The steps are in a Method: there is one such object for each kind of coroutine.
"""

from __future__ import annotations

import inspect
import sys
import types
import warnings
from asyncio import coroutines

import cython
from cython.cimports.hoop._c.python import (
    PYGEN_ERROR,
    PYGEN_RETURN,
    Py_INCREF,
    Py_None,
    PyErr_SetObject,
    PyIter_Send,
    PyObject_CallFinalizerFromDealloc,
    PySendResult,
    Ref,
    destructor,
    hoop_check_spared,
    hoop_drop_stop,
    hoop_iter_return,
    hoop_may_spare,
    hoop_revive,
    hoop_set_await,
    hoop_set_iternext,
    hoop_spare,
    hoop_spares,
    hoop_stop_value,
    hoop_swap_dealloc,
    is_error,
    iternextfunc,
    own,
    ref,
    take,
    unaryfunc,
)
from cython.cimports.hoop.scheduling.future import FINISHED, PENDING, Future
from cython.cimports.hoop.scheduling.throwing import thrown_exception

CoroutineType = cython.declare(object, types.CoroutineType)
# Python's function that warns of a coroutine that was never awaited. It is private, and may be missing.
_warn_unawaited = cython.declare(object, getattr(warnings, "_warn_unawaited_coroutine", None))


@cython.final
@cython.cclass
class NativeCoroutine:
    """A coroutine whose steps are C methods. See collections.abc.Coroutine."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_for(self, future) -> cython.int:
        self.future = future
        if type(future) is Future:
            cython.cast(Future, future).blocking = True
        else:
            future._asyncio_future_blocking = True
        return WAITS

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def delegate(self, awaitable) -> cython.int:
        kind = type(awaitable)
        if kind is NativeCoroutine or (kind is CoroutineType and awaitable.cr_await is None):
            self.inner = awaitable
        else:
            self.inner = _awaiting(awaitable)
        return self.advance_inner(None)

    @cython.cfunc
    @cython.exceptval(check=False)
    def wait_a_turn(self) -> cython.int:
        self.future = None
        return WAITS

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def advance(self, error) -> cython.int:
        """Take a step. An `error` that is not None is raised where the coroutine waits."""
        progress: cython.int = RAISED
        phase: cython.uchar = self.phase
        self.phase = ENDED
        try:  # `finally` costs nothing unless an exception comes; `except` would
            if phase == CREATED:
                if error is not None:
                    raise error
                progress = cython.cast(Method, self.method).begin(self)
            elif phase == ENDED:
                raise RuntimeError("cannot reuse already awaited coroutine")
            elif self.inner is not None:
                progress = self.advance_inner(error)
            else:
                progress = self.resume(error)
        finally:
            if progress == RAISED:
                _check_raised()
        if progress == WAITS:
            self.phase = SUSPENDED
        return progress

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def resume(self, error) -> cython.int:
        """Take the step after a wait for a future, or for one turn of the loop."""
        if error is None and self.future is not None and not _has_result(self.future):
            error = _failure(self.future)
        if error is None:
            return cython.cast(Method, self.method).woken(self)
        return cython.cast(Method, self.method).failed(self, error)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def advance_inner(self, error) -> cython.int:
        """Take a step of the inner coroutine, for which this one waits. If that ends, go on with this one."""
        inner = self.inner
        try:
            if type(inner) is NativeCoroutine:
                progress: cython.int = cython.cast(NativeCoroutine, inner).advance(error)
                if progress == OVER:
                    self.result = cython.cast(NativeCoroutine, inner).value
                else:
                    self.future = cython.cast(NativeCoroutine, inner).future
            else:
                progress = self.advance_foreign(inner, error)
        except BaseException as exc:
            return cython.cast(Method, self.method).failed(self, exc)
        if progress == OVER:
            return cython.cast(Method, self.method).woken(self)
        return WAITS

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def advance_foreign(self, inner, error) -> cython.int:
        sent: Ref = cython.NULL
        status: PySendResult
        if error is None:
            status = PyIter_Send(ref(inner), Py_None, cython.address(sent))
            if status == PYGEN_ERROR:
                return RAISED  # to raise it again could change its __context__
            if status == PYGEN_RETURN:
                self.result = take(sent)
                return OVER
            self.future = take(sent)
            return WAITS
        try:
            self.future = inner.throw(error)
        except StopIteration as stop:
            self.result = hoop_stop_value(stop)
            return OVER
        return WAITS

    def __await__(self):
        # For callers by name; `await` itself finds the slot below.
        if self.phase == SUSPENDED:
            raise RuntimeError("coroutine is being awaited already")
        return CoroutineIterator(self)

    def send(self, value, /):
        """Go on until the next future, and return it. Raises StopIteration with the result."""
        if self.phase == CREATED and value is not None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        if self.advance(None) == WAITS:
            return self.future
        raise StopIteration(self.value)

    def throw(self, typ, val=None, tb=None, /):
        """Raise an exception where the coroutine waits, and go on as send() does."""
        if self.advance(thrown_exception(typ, val, tb)) == WAITS:
            return self.future
        raise StopIteration(self.value)

    def close(self):
        """End the coroutine where it waits. Does nothing if it was not awaited yet, or is over."""
        if self.phase != SUSPENDED:
            self.phase = ENDED
            return
        try:
            progress = self.advance(GeneratorExit())
        except GeneratorExit:
            return
        if progress == WAITS:
            raise RuntimeError("coroutine ignored GeneratorExit")

    def __del__(self):
        if self.phase == CREATED:
            self.phase = ENDED
            if _warn_unawaited is not None:
                _warn_unawaited(self)
            else:
                message = f"coroutine '{self.title()}' was never awaited"
                warnings.warn(message, RuntimeWarning, stacklevel=1, source=self)
        elif self.phase == SUSPENDED:
            try:
                self.close()
            finally:
                self.phase = ENDED

    def __getattr__(self, name):
        # As properties Cython would take these for the names of the class.
        if name == "__qualname__":
            return self.title()
        if name == "__name__":
            return self.title().rpartition(".")[2]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @cython.cfunc
    def title(self) -> str:
        if self.method is cython.NULL:
            return "nothing"  # a program called the class itself
        return cython.cast(Method, self.method).title(self)

    @property
    def cr_origin(self):
        return None

    @property
    def awaits(self):
        """The awaitable that it drives, or else the future that it waits for; None if there is neither."""
        if self.phase != SUSPENDED:
            return None
        return self.future if self.inner is None else self.inner

    def __repr__(self):
        return f"<coroutine object {self.title()} at {id(self):#x}>"


@cython.final
@cython.cclass
class CoroutineIterator:
    """The object that coroutine.__await__() gives. A coroutine itself cannot be iterated."""

    def __init__(self, coroutine: NativeCoroutine):
        self.coroutine = coroutine

    def __iter__(self):
        return self

    def __next__(self):
        return self.coroutine.send(None)

    def send(self, value, /):
        """Go on, as the coroutine's send() does."""
        return self.coroutine.send(value)

    def throw(self, typ, val=None, tb=None, /):
        """Raise an exception where the coroutine waits."""
        return self.coroutine.throw(typ, val, tb)

    def close(self):
        """End the coroutine where it waits."""
        self.coroutine.close()


@cython.cclass
class Method:
    """The steps of a kind of coroutine. Each returns WAITS or OVER, or raises."""

    def __init__(self, name, owner: type):
        self.name = name
        self.owner = owner

    @cython.cfunc
    def title(self, c: NativeCoroutine) -> str:
        if self.owner is object:  # it is a function, not a method
            return self.name
        return f"{type(c.owner).__name__}.{self.name}"

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        raise NotImplementedError(self.name)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        raise error


@cython.cfunc
def wrong_owner(method: Method, owner) -> object:
    """Return the error for a call like `Lock.acquire(nonsense)`. A `binding` function accepts anything as
    self.
    """
    return TypeError(f"{method.owner.__name__}.{method.name}() is not for {owner!r}")


@cython.cfunc
def new_coroutine(method: Method, owner, value) -> object:
    if type(owner) is not method.owner and not isinstance(owner, method.owner):
        raise wrong_owner(method, owner)
    c: Ref = hoop_revive(cython.address(spare_coroutines))
    if c is cython.NULL:
        c = own(NativeCoroutine.__new__(NativeCoroutine))
    cython.cast(NativeCoroutine, c).method = ref(method)
    cython.cast(NativeCoroutine, c).phase = CREATED
    cython.cast(NativeCoroutine, c).owner = owner
    if value is not None:
        cython.cast(NativeCoroutine, c).value = value
    return take(c)


@cython.cfunc
def new_coroutine_of_two(method: Method, owner, value, extra) -> object:
    c: NativeCoroutine = new_coroutine(method, owner, value)
    c.extra = extra
    return c


@cython.cfunc
@cython.exceptval(-1, check=False)
def mark_coroutine_function(function) -> cython.int:
    """Mark a `binding` function, so that inspect and asyncio see a coroutine function."""
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(function)
    if hasattr(coroutines, "_is_coroutine"):
        function._is_coroutine = coroutines._is_coroutine
    return 0


async def _awaiting(awaitable):
    """Await any object of Python's, to drive it from a coroutine in C."""
    return await awaitable


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _has_result(future) -> cython.bint:
    """Whether a native future has a result. This asks only for what costs nothing."""
    return (
        type(future) is Future
        and cython.cast(Future, future).state == FINISHED
        and cython.cast(Future, future).error is None
    )


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_raised() -> cython.int:
    """Turn a StopIteration into a RuntimeError, as Python does. It would look like the coroutine's end."""
    exc = sys.exc_info()[1]
    if is_error(exc, StopIteration):
        raise RuntimeError("coroutine raised StopIteration") from exc
    return 0


@cython.cfunc
def _failure(future) -> object:
    """Return the exception that awaiting the future would raise now, or None."""
    if type(future) is Future and cython.cast(Future, future).state != PENDING:
        return cython.cast(Future, future).take_error()
    try:
        if not future.done():
            return RuntimeError("await wasn't used with future")
        future.result()
    except BaseException as exc:
        return exc
    return None


# ---- slots that Cython cannot set --------------------------------------------------------------------

_coroutine_dealloc = cython.declare(destructor, cython.NULL)
spare_coroutines = cython.declare(hoop_spares)


@cython.cfunc
@cython.exceptval(check=False)
def coroutine_await(c: Ref) -> Ref:
    """am_await: a coroutine is its own iterator, so that an await makes no object."""
    if cython.cast(NativeCoroutine, c).phase == SUSPENDED:
        error = RuntimeError("coroutine is being awaited already")
        PyErr_SetObject(RuntimeError, error)
        return cython.NULL
    Py_INCREF(c)
    return c


@cython.cfunc
def coroutine_iternext(c: NativeCoroutine | None) -> Ref:
    """tp_iternext: `await` calls it."""
    if c.advance(None) == WAITS:
        return own(c.future)
    return hoop_iter_return(ref(c.value))


@cython.cfunc
@cython.exceptval(check=False)
def coroutine_dealloc(o: Ref) -> cython.void:
    """tp_dealloc: call the finaliser unless the coroutine has ended, and keep the memory for the next one.

    Code here must not count references to `o`.
    """
    if cython.cast(NativeCoroutine, o).phase != ENDED and PyObject_CallFinalizerFromDealloc(o) < 0:
        return  # the finaliser has brought it back to life
    hoop_drop_stop()
    if hoop_may_spare(cython.address(spare_coroutines), NativeCoroutine, o):
        cython.cast(NativeCoroutine, o).owner = None
        cython.cast(NativeCoroutine, o).value = None
        cython.cast(NativeCoroutine, o).extra = None
        cython.cast(NativeCoroutine, o).future = None
        cython.cast(NativeCoroutine, o).inner = None
        cython.cast(NativeCoroutine, o).result = None
        if hoop_spare(cython.address(spare_coroutines), o):
            return
    _coroutine_dealloc(o)


hoop_set_await(NativeCoroutine, cython.cast(unaryfunc, coroutine_await))
hoop_set_iternext(NativeCoroutine, cython.cast(iternextfunc, coroutine_iternext))
hoop_check_spared(NativeCoroutine)
_coroutine_dealloc = hoop_swap_dealloc(NativeCoroutine, cython.cast(destructor, coroutine_dealloc))
