"""Callbacks that wait for their turn, and the ring in which everything waits.

    Runnable            one virtual `run`
      Handle            call_soon: a callback, its arguments and its context
        TimerHandle     call_later, call_at (see timers.py)
      Future            (future.py) only because Task inherits from it
        Task            (task.py) a woken task is pushed itself
      Op                (op.py) a kernel operation whose turn has come
    ReadyRing           the queue; the loop inherits from it

Everything here belongs to the thread that holds the GIL.
"""

from __future__ import annotations

import asyncio
from asyncio.format_helpers import _format_callback_source as _format_callback

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._core.c.python import (
    Py_DECREF,
    Py_XDECREF,
    PyContext_CopyCurrent,
    PyContext_Enter,
    PyContext_Exit,
    Ref,
    destructor,
    hoop_call,
    hoop_check_spared,
    hoop_may_spare,
    hoop_revive,
    hoop_spare,
    hoop_spares,
    hoop_swap_dealloc,
    ref,
    take,
)

FIRST_RING_SIZE = cython.declare(cython.ulong, 256)
_asyncio_handle = cython.declare(object, asyncio.Handle)
_format_callback_source = cython.declare(object, _format_callback)


@cython.cclass
class Runnable:
    """Something that can be put on the ready ring."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    def calls(self) -> object:
        """What its turn calls of the user's, for debug mode's reports; None if that is not known."""
        return None

    def failure(self, exc):
        """The context for the loop's exception handler when the turn raised `exc`."""
        return {"message": f"Exception in {type(self).__name__}", "exception": exc}


@cython.cclass
class ReadyRing:
    """A growing ring of owned references to runnables, first in, first out."""

    def __cinit__(self):
        self.ring = cython.cast(
            cython.pointer[Ref], PyMem_Malloc(FIRST_RING_SIZE * cython.sizeof(Ref))
        )
        if self.ring is cython.NULL:
            raise MemoryError
        self.mask = FIRST_RING_SIZE - 1

    def __dealloc__(self):
        self.drop_ready()
        PyMem_Free(self.ring)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow_ring(self) -> cython.int:
        size: cython.ulong = self.mask + 1
        bigger: cython.pointer[Ref] = cython.cast(
            cython.pointer[Ref], PyMem_Malloc(2 * size * cython.sizeof(Ref))
        )
        if bigger is cython.NULL:
            raise MemoryError
        i: cython.ulong
        for i in range(size):
            bigger[i] = self.ring[(self.head + i) & self.mask]
        PyMem_Free(self.ring)
        self.ring = bigger
        self.woken_from -= self.head
        self.woken_to -= self.head
        self.head = 0
        self.tail = size
        self.mask = 2 * size - 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_ready(self) -> cython.int:
        """Forget everything that waits, without running it."""
        r: Ref
        while self.head != self.tail:
            r = self.ring[self.head & self.mask]
            self.head += 1
            Py_DECREF(r)
        return 0


@cython.cclass
class Handle(Runnable):
    """A callback that will run once, in its context. See asyncio.Handle."""

    @property
    def __class__(self):
        return _asyncio_handle

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        result: Ref
        context: Ref = ref(self.context)
        if self.is_cancelled:
            return 0
        if PyContext_Enter(context) < 0:
            return -1
        result = hoop_call(ref(self.callback), ref(self.args))
        if PyContext_Exit(context) < 0:  # its C code has left another one entered
            Py_XDECREF(result)
            return -1
        if result is cython.NULL:
            return -1
        Py_DECREF(result)
        return 0

    def _run(self):
        """Run it now. asyncio's own code calls this for handles it was given."""
        try:
            self.run()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler(self.failure(exc))

    def failure(self, exc):
        """The context for the loop's exception handler when the callback raised `exc`."""
        source = _format_callback_source(self.callback, self.args)
        context = {
            "message": f"Exception in callback {source}",
            "exception": exc,
            "handle": self,
        }
        if self.source_traceback:
            context["source_traceback"] = self.source_traceback
        return context

    def cancel(self):
        """Do not run the callback. Its turn may have come already: then this does nothing."""
        if not self.is_cancelled:
            self.is_cancelled = True
            if self.loop is not None and self.loop.get_debug():
                self.saved_repr = repr(self)
            self.callback = None
            self.args = None

    def cancelled(self):
        """Whether cancel() was called."""
        return self.is_cancelled

    def get_context(self):
        """The contextvars.Context in which the callback runs."""
        return self.context

    @cython.cfunc
    @cython.wraparound(True)
    def info(self) -> list:
        info = [type(self).__name__]
        if self.is_cancelled:
            info.append("cancelled")
        if self.callback is not None:
            info.append(_format_callback_source(self.callback, self.args))
        if self.source_traceback:
            frame = self.source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        if self.saved_repr is not None:
            return self.saved_repr
        return f"<{' '.join(self.info())}>"

    # The names that asyncio's own code and its debuggers read.
    @property
    def _callback(self):
        return self.callback

    @property
    def _args(self):
        return self.args

    @property
    def _context(self):
        return self.context

    @property
    def _loop(self):
        return self.loop

    @property
    def _cancelled(self):
        return self.is_cancelled

    @property
    def _source_traceback(self):
        return self.source_traceback


@cython.cfunc
def new_handle(callback, args: tuple, context, loop) -> Handle:
    """A handle; `context` None means a copy of the current one."""
    spare: Ref = hoop_revive(cython.address(spare_handles))
    handle: Handle = Handle.__new__(Handle) if spare is cython.NULL else take(spare)
    handle.callback = callback
    handle.args = args
    handle.context = PyContext_CopyCurrent() if context is None else context
    handle.loop = loop
    return handle


spare_handles = cython.declare(hoop_spares)
_handle_dealloc = cython.declare(destructor, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def empty_handle(o: Ref) -> cython.void:
    """Let go of what a dying handle holds, so that it can be used again."""
    cython.cast(Handle, o).callback = None
    cython.cast(Handle, o).args = None
    cython.cast(Handle, o).context = None
    cython.cast(Handle, o).loop = None
    cython.cast(Handle, o).source_traceback = None
    cython.cast(Handle, o).saved_repr = None
    cython.cast(Handle, o).is_cancelled = False


@cython.cfunc
@cython.exceptval(check=False)
def handle_dealloc(o: Ref) -> cython.void:
    """tp_dealloc: keep the memory for the next handle. Nothing here may count references to `o`."""
    if hoop_may_spare(cython.address(spare_handles), Handle, o):
        empty_handle(o)
        if hoop_spare(cython.address(spare_handles), o):
            return
    _handle_dealloc(o)


hoop_check_spared(Handle)
_handle_dealloc = hoop_swap_dealloc(Handle, cython.cast(destructor, handle_dealloc))
