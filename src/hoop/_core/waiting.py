"""What locks and queues share: coroutines in C, and things that are waited for on one loop.

`await queue.get()` makes one small object, used again for the next, and no coroutine's frame; if there is an
item it never suspends. Still it is a coroutine to whoever looks: create_task(), wait_for() and gather() take
it, nothing happens before it is awaited, and dropping it unawaited is warned of. Only
inspect.iscoroutine() wants Python's own kind.

A waiter is a future of the running loop, ours or not, in a deque of the primitive, as in asyncio: a task of
ours that waits for one is put onto the ready ring by whoever hands over.
"""

from __future__ import annotations

import collections
import inspect
import sys
import warnings
from asyncio import coroutines, events

import cython
from cython.cimports.cpython.object import Py_TPFLAGS_HEAPTYPE
from cython.cimports.hoop._core.base import LoopBase, as_native
from cython.cimports.hoop._core.c.python import (
    Py_TYPE,
    Py_XDECREF,
    PyCFunction,
    PyObject_CallFinalizerFromDealloc,
    PyObject_GenericGetDict,
    PyThread_get_thread_ident,
    Ref,
    destructor,
    hoop_c_method,
    hoop_iter_return,
    hoop_may_spare,
    hoop_revive,
    hoop_set_await,
    hoop_set_dictoffset,
    hoop_set_iternext,
    hoop_spare,
    hoop_spares,
    hoop_swap_clear,
    hoop_swap_dealloc,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    iternextfunc,
    own,
    ref,
    take,
    traverseproc,
    unaryfunc,
    visitproc,
)
from cython.cimports.hoop._core.future import (
    CANCELLED,
    FINISHED,
    PENDING,
    Future,
    new_future,
    thrown_exception,
)

from hoop._core.loop import Loop

deque = cython.declare(type, collections.deque)
# Called as the C functions they are: Python's way of calling them takes longer than they do.
_deque_append = cython.declare(PyCFunction, hoop_c_method(collections.deque.append))
_deque_popleft = cython.declare(PyCFunction, hoop_c_method(collections.deque.popleft))
_get_running_loop = cython.declare(object, events._get_running_loop)
_create_future = cython.declare(object, Loop.create_future)
# Python's own words for a coroutine that was dropped. A name of CPython's for itself, so maybe not there.
_warn_unawaited = cython.declare(object, getattr(warnings, "_warn_unawaited_coroutine", None))

# What isinstance() takes our objects for. Not those of subclasses, who want to find their own class.
PASSES_FOR = cython.declare(dict, {})


# ---- things that are waited for ----------------------------------------------------------------------


@cython.cclass
class Primitive:
    """What locks, events and queues have in common: a loop, and attributes of any name."""

    def _state_names(self):
        """What copy and pickle take along, by the names that asyncio's objects have."""
        return ()

    def __cinit__(self):
        self.is_ours = not Py_TYPE(ref(self)).tp_flags & Py_TPFLAGS_HEAPTYPE

    def __dealloc__(self):
        Py_XDECREF(self.attributes)

    @property
    def __class__(self):
        return PASSES_FOR.get(type(self), type(self))

    @property
    def __dict__(self):
        return PyObject_GenericGetDict(self, cython.NULL)

    @property
    def _loop(self):
        return self.bound_loop

    @_loop.setter
    def _loop(self, loop):
        self.bind(loop)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def bind(self, loop) -> cython.int:
        self.bound_loop = loop
        self.native_loop = as_native(loop)
        if self.native_loop is not None and type(loop).create_future is not _create_future:
            self.native_loop = None
        return 0

    def _get_loop(self):
        """The running loop, to which this is bound from now on.

        Raises RuntimeError if it is bound to another.
        """
        loop = _get_running_loop()
        if self.bound_loop is None and loop is not None:
            self.bind(loop)
        if loop is not self.bound_loop:
            raise RuntimeError(f"{self!r} is bound to a different event loop")
        return loop

    @cython.cfunc
    def new_waiter(self) -> object:
        """A future of the running loop."""
        native: LoopBase = self.native_loop
        # A loop of ours knows the thread that runs it: no need to ask which one runs here.
        if native is None or native.thread != PyThread_get_thread_ident():
            loop = self._get_loop()
            native = self.native_loop
            if native is None:
                return loop.create_future()
        if native.debug:
            return native.create_future()
        return new_future(native)

    # ---- copying, pickling ----

    def __reduce__(self):
        return _new, (type(self),), self.__getstate__()

    def __getstate__(self):
        state = dict(PyObject_GenericGetDict(self, cython.NULL))
        if self.bound_loop is not None:
            state["_loop"] = self.bound_loop
        for name in self._state_names():
            state[name] = getattr(self, name)
        return state

    def __setstate__(self, state):
        for name, value in state.items():
            setattr(self, name, value)


def _new(cls):
    """An empty object, about to get its state: how pickle and copy make them."""
    return cls.__new__(cls)


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake(future, result) -> cython.bint:
    """Let a waiter go on, unless it is about to already, or was cancelled. Whether it was woken."""
    if type(future) is Future:
        if cython.cast(Future, future).state != PENDING:
            return False
        cython.cast(Future, future).finish(result)
        return True
    if future.done():
        return False
    future.set_result(result)
    return True


@cython.cfunc
@cython.exceptval(-1, check=False)
def is_cancelled(future) -> cython.bint:
    if type(future) is Future:
        return cython.cast(Future, future).state == CANCELLED
    return bool(future.cancelled())


@cython.cfunc
@cython.exceptval(-1, check=False)
def was_woken(future) -> cython.bint:
    if type(future) is Future:
        return cython.cast(Future, future).state == FINISHED
    return bool(future.done() and not future.cancelled())


@cython.cfunc
@cython.exceptval(-1, check=False)
def append(deque_, item) -> cython.int:
    if type(deque_) is deque:
        _deque_append(deque_, item)
    else:  # somebody put something else in its place
        deque_.append(item)
    return 0


@cython.cfunc
def popleft(deque_) -> object:
    if type(deque_) is deque:
        return _deque_popleft(deque_, None)
    return deque_.popleft()


@cython.cfunc
@cython.exceptval(-1, check=False)
def leave(waiters, future) -> cython.int:
    """Take a waiter, mostly the first, out of its deque. ValueError if it is not there."""
    if len(waiters) and waiters[0] is future:
        popleft(waiters)
    else:
        waiters.remove(future)
    return 0


# ---- coroutines in C ---------------------------------------------------------------------------------


@cython.final
@cython.cclass
class NativeCoroutine:
    """A coroutine whose steps are C methods. See collections.abc.Coroutine."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_in(self, waiters, future) -> cython.int:
        append(waiters, future)
        self.future = future
        if type(future) is Future:
            cython.cast(Future, future).blocking = True
        else:
            future._asyncio_future_blocking = True
        return WAITS

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def delegate(self, awaitable) -> cython.int:
        if type(awaitable) is NativeCoroutine:
            self.inner = awaitable
        else:
            self.inner = _awaiting(awaitable).__await__()
        return self.advance_inner(None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def advance(self, error) -> cython.int:
        """Take a step, with an exception raised where the coroutine is, unless that is None."""
        progress: cython.int = RAISED
        phase: cython.uchar = self.phase
        self.phase = ENDED
        try:  # with `finally`, which costs nothing on the way through; `except` would
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
        """The step after a wait for a future."""
        if error is None and not _has_result(self.future):
            error = _failure(self.future)
        if error is None:
            return cython.cast(Method, self.method).woken(self)
        return cython.cast(Method, self.method).failed(self, error)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def advance_inner(self, error) -> cython.int:
        """A step of the coroutine that this one waits for; if that is over, one of this."""
        inner = self.inner
        try:
            if type(inner) is NativeCoroutine:
                progress: cython.int = cython.cast(NativeCoroutine, inner).advance(error)
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
        try:
            self.future = next(inner) if error is None else inner.throw(error)
        except StopIteration:
            return OVER
        return WAITS

    def __await__(self):
        if self.phase == SUSPENDED:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def send(self, value, /):
        """Go on until the next future, which is returned. Raises StopIteration with the result."""
        if self.phase == CREATED and value is not None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        if self.advance(None) == WAITS:
            return self.future
        raise StopIteration(self.value)

    def throw(self, typ, val=None, tb=None, /):
        """Raise an exception where the coroutine is, and go on as send() does."""
        if self.advance(thrown_exception(typ, val, tb)) == WAITS:
            return self.future
        raise StopIteration(self.value)

    def close(self):
        """End it where it is. It does nothing more if it was not awaited yet."""
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
        # As properties Cython would take these for the class's own.
        if name == "__qualname__":
            return self.title()
        if name == "__name__":
            return self.title().rpartition(".")[2]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @cython.cfunc
    def title(self) -> str:
        if self.method is cython.NULL:
            return "nothing"  # somebody made it by its class
        return f"{type(self.owner).__name__}.{cython.cast(Method, self.method).name}"

    @property
    def cr_origin(self):
        return None

    def __repr__(self):
        return f"<coroutine object {self.title()} at {id(self):#x}>"


@cython.cclass
class Method:
    """What a coroutine does, step by step. It comes to WAITS or OVER, or raises."""

    def __init__(self, name):
        self.name = name

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
def new_coroutine(method: Method, owner: Primitive, value) -> object:
    c: Ref = hoop_revive(cython.address(spare_coroutines))
    if c is cython.NULL:
        c = own(NativeCoroutine.__new__(NativeCoroutine))
    cython.cast(NativeCoroutine, c).method = ref(method)
    cython.cast(NativeCoroutine, c).phase = CREATED
    cython.cast(NativeCoroutine, c).owner = owner
    if value is not None:
        cython.cast(NativeCoroutine, c).value = value
    return take(c)


async def _awaiting(awaitable):
    """`await` as Python does it, for what is not ours."""
    await awaitable


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _has_result(future) -> cython.bint:
    """Whether it is known at a glance that the future has a result."""
    return (
        type(future) is Future
        and cython.cast(Future, future).state == FINISHED
        and cython.cast(Future, future).error is None
    )


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_raised() -> cython.int:
    """Nobody may take a StopIteration for the end of the coroutine."""
    exc = sys.exc_info()[1]
    if isinstance(exc, StopIteration):
        raise RuntimeError("coroutine raised StopIteration") from exc
    return 0


@cython.cfunc
def _failure(future) -> object:
    """The exception with which awaiting the future now would end, or None."""
    try:
        if not future.done():
            return RuntimeError("await wasn't used with future")
        future.result()
    except BaseException as exc:
        return exc
    return None


@cython.cfunc
@cython.exceptval(-1, check=False)
def finish_class(cls, passes_for, coroutine_functions: tuple) -> cython.int:
    """What a primitive's class needs besides its body.

    isinstance() takes its objects for asyncio's; iscoroutinefunction() its methods for coroutine
    functions, if they are `binding`; and who awaits an object is told that this cannot be.
    """
    PASSES_FOR[cls] = passes_for
    for name in coroutine_functions:
        function = getattr(cls, name)
        if hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(function)
        if hasattr(coroutines, "_is_coroutine"):
            function._is_coroutine = coroutines._is_coroutine
    return hoop_set_await(cls, cython.cast(unaryfunc, primitive_await))


# ---- slots that Cython cannot spell ------------------------------------------------------------------

_primitive_traverse = cython.declare(traverseproc, cython.NULL)
_primitive_clear = cython.declare(inquiry, cython.NULL)
_coroutine_dealloc = cython.declare(destructor, cython.NULL)
spare_coroutines = cython.declare(hoop_spares)


@cython.cfunc
@cython.exceptval(check=False)
def primitive_traverse(p: Primitive | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    error: cython.int = hoop_visit(p.attributes, visit, arg)
    if error:
        return error
    return _primitive_traverse(ref(p), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def primitive_clear(p: Primitive | None) -> cython.int:
    attributes: Ref = p.attributes
    p.attributes = cython.NULL
    Py_XDECREF(attributes)
    return _primitive_clear(ref(p))


@cython.cfunc
def primitive_await(p: Ref) -> Ref:
    """am_await: Python's own message, which otherwise would have the module's name in it. There is no
    `__await__`, so nothing takes a primitive for an awaitable."""
    name = type(cython.cast(object, p)).__name__
    raise TypeError(f"object {name} can't be used in 'await' expression")


@cython.cfunc
def coroutine_iternext(c: NativeCoroutine | None) -> Ref:
    """tp_iternext: what `await` calls."""
    if c.advance(None) == WAITS:
        return own(c.future)
    return hoop_iter_return(ref(c.value))


@cython.cfunc
@cython.exceptval(check=False)
def coroutine_dealloc(o: Ref) -> cython.void:
    """tp_dealloc: call the finaliser only if it has not ended, and keep the memory for the next one.
    Nothing here may count references to `o`."""
    if cython.cast(NativeCoroutine, o).phase != ENDED and PyObject_CallFinalizerFromDealloc(o) < 0:
        return  # somebody kept it
    if hoop_may_spare(cython.address(spare_coroutines), NativeCoroutine, o):
        cython.cast(NativeCoroutine, o).owner = None
        cython.cast(NativeCoroutine, o).value = None
        cython.cast(NativeCoroutine, o).future = None
        cython.cast(NativeCoroutine, o).inner = None
        if hoop_spare(cython.address(spare_coroutines), o):
            return
    _coroutine_dealloc(o)


@cython.cfunc
def _attributes_offset() -> cython.Py_ssize_t:
    p: Primitive = Primitive.__new__(Primitive)
    return cython.cast(cython.Py_ssize_t, cython.address(p.attributes)) - cython.cast(
        cython.Py_ssize_t, ref(p)
    )


hoop_set_dictoffset(Primitive, _attributes_offset())
_primitive_traverse = hoop_swap_traverse(Primitive, cython.cast(traverseproc, primitive_traverse))
_primitive_clear = hoop_swap_clear(Primitive, cython.cast(inquiry, primitive_clear))
hoop_set_iternext(NativeCoroutine, cython.cast(iternextfunc, coroutine_iternext))
_coroutine_dealloc = hoop_swap_dealloc(NativeCoroutine, cython.cast(destructor, coroutine_dealloc))
