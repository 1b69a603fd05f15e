"""Base of locks, events and queues: objects of one loop that tasks wait for.

A waiter is a future of the running loop, in a deque of the primitive, as in asyncio. If hoop's own task
waits for it, the task that wakes it puts that task straight onto the ready ring.
"""

from __future__ import annotations

import collections
import inspect
import sys
from asyncio import events

import cython
from cython.cimports.cpython.object import Py_TPFLAGS_HEAPTYPE
from cython.cimports.hoop._c.python import (
    Py_TYPE,
    PyCFunction,
    PyObject_GenericGetDict,
    PyThread_get_thread_ident,
    Ref,
    hoop_c_method,
    hoop_set_await,
    hoop_set_signature,
    ref,
    unaryfunc,
)
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.base import LoopBase, as_native
from cython.cimports.hoop.scheduling.coroutine import NativeCoroutine, mark_coroutine_function
from cython.cimports.hoop.scheduling.future import (
    CANCELLED,
    FINISHED,
    PENDING,
    Future,
    new_future,
)

from hoop._c.shown import show_as_public
from hoop.loop.turn import Loop

deque = cython.declare(type, collections.deque)
# Called directly as C functions: a call by Python's protocol takes longer than the function itself.
_deque_append = cython.declare(PyCFunction, hoop_c_method(collections.deque.append))
_deque_popleft = cython.declare(PyCFunction, hoop_c_method(collections.deque.popleft))
_get_running_loop = cython.declare(object, events._get_running_loop)
_create_future = cython.declare(object, Loop.create_future)

CANNOT_BE_AWAITED = cython.declare(
    str,
    "object %s can't be used in 'await' expression"
    if sys.version_info < (3, 14)
    else "'%s' object can't be awaited",
)

# The class of asyncio's that isinstance() sees in our objects. Subclasses show their own class.
PASSES_FOR = cython.declare(dict, {})


@cython.cfunc
def shown_class(cls) -> object:
    """Return the class that isinstance() sees in the objects of a class."""
    return PASSES_FOR.get(cls, cls)


# ---- objects that tasks wait for ----------------------------------------------------------------------


@cython.cclass
class Primitive(Attributed):
    """Base of locks, events and queues: it belongs to one loop, and takes attributes of any name."""

    def _state_names(self):
        """The attributes that copy and pickle take along, by the names that asyncio's objects have."""
        return ()

    def __cinit__(self):
        self.is_ours = not Py_TYPE(ref(self)).tp_flags & Py_TPFLAGS_HEAPTYPE

    @property
    def __class__(self):
        return shown_class(type(self))

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
        """The running loop. The object belongs to that loop from now on.

        Raises RuntimeError if the object belongs to another loop.
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
        # hoop's loop knows the thread that runs it: no need to ask for the running loop.
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
    """An empty object that is about to get its state: pickle and copy make objects this way."""
    return cls.__new__(cls)


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake(future, result) -> cython.bint:
    """Wake a waiter, unless it was woken or cancelled already. Returns whether it was woken."""
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
    else:  # your code has replaced the deque
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
    """Take a waiter, mostly the first or the last, out of its deque. ValueError if it is not there."""
    is_deque: cython.bint = type(waiters) is deque
    if len(waiters) and waiters[0] is future:
        popleft(waiters)
    elif is_deque and len(waiters) and waiters[len(waiters) - 1] is future:
        waiters.pop()
    else:
        waiters.remove(future)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def wait_in(c: NativeCoroutine, waiters, future) -> cython.int:
    """The last act of a step: wait in a deque."""
    append(waiters, future)
    return c.wait_for(future)


@cython.cfunc
@cython.exceptval(-1, check=False)
def finish_class(cls, passes_for, coroutine_functions: tuple) -> cython.int:
    """Give a public class everything besides its body.

    isinstance() takes its objects for asyncio's. iscoroutinefunction() takes its methods for coroutine
    functions, if they are `binding`. inspect.signature() finds the signature of asyncio's class. An `await`
    of the object itself raises Python's usual TypeError.
    """
    PASSES_FOR[cls] = passes_for
    show_as_public(cls)
    hoop_set_signature(cls, str(inspect.signature(passes_for)).encode())
    for name in coroutine_functions:
        mark_coroutine_function(getattr(cls, name))
    return hoop_set_await(cls, cython.cast(unaryfunc, primitive_await))


# ---- a slot that Cython cannot spell -----------------------------------------------------------------


@cython.cfunc
def primitive_await(p: Ref) -> Ref:
    """Fill the slot `am_await`: raise Python's own message, without the module's name.

    There is no `__await__`, so nothing takes a primitive for an awaitable.
    """
    name = type(cython.cast(object, p)).__name__
    raise TypeError(CANNOT_BE_AWAITED % name)
