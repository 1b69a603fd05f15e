"""Callbacks that wait to be called: call_soon() returns a Handle."""

from __future__ import annotations

import asyncio
from asyncio.format_helpers import _format_callback_source as _format_callback

import cython
from cython.cimports.hoop._c.python import (
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
    hoop_set_signature,
    hoop_spare,
    hoop_spares,
    hoop_swap_dealloc,
    ref,
    take,
)
from cython.cimports.hoop.drivers.ready import ReadyRing, Runnable

_asyncio_handle = cython.declare(object, asyncio.Handle)
_format_callback_source = cython.declare(object, _format_callback)
# Later versions of Python show the arguments in debug mode only.
HIDES_ARGUMENTS = cython.declare(cython.bint, "debug" in (_format_callback.__kwdefaults__ or ()))


@cython.cclass
class Handle(Runnable):
    """A callback that the loop will call once, in its context. See asyncio.Handle.

    The loop makes handles; your code only cancels them. A handle that your code makes itself is in no queue.

        handle = loop.call_soon(print, "hello")
        handle.cancel()
    """

    # Handles of the loop come from new_handle(), which does not call this.
    def __init__(self, callback, args, loop, context=None):
        self.callback = callback
        self.args = tuple(args)
        self.context = PyContext_CopyCurrent() if context is None else context
        self.loop = loop

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
        if PyContext_Exit(context) < 0:  # C code of the callback has entered another context
            Py_XDECREF(result)
            return -1
        if result is cython.NULL:
            return -1
        Py_DECREF(result)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unpack(self) -> cython.int:
        """Make the fields that Python sees."""
        self.packed = False
        return 0

    def _run(self):
        """Call it now. asyncio's own code uses this for handles it was given."""
        try:
            self.run()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler(self.failure(exc))

    def failure(self, exc):
        """Return the context for the loop's exception handler when the callback raised `exc`."""
        context = {
            "message": f"Exception in callback {self.source()}",
            "exception": exc,
            "handle": self,
        }
        if self.source_traceback:
            context["source_traceback"] = self.source_traceback
        return context

    def cancel(self):
        """Do not call the callback. Does nothing if it was called already."""
        if not self.is_cancelled:
            self.is_cancelled = True
            if in_debug(self.loop):
                self.saved_repr = repr(self)
            self.callback = None
            self.args = None

    def cancelled(self):
        """Whether cancel() was called."""
        return self.is_cancelled

    def get_context(self):
        """Return the contextvars.Context in which the callback is called."""
        if self.packed:
            self.unpack()
        return self.context

    @cython.cfunc
    def source(self) -> str:
        """The callback with its arguments, as the running Python shows them."""
        if not HIDES_ARGUMENTS:
            return _format_callback_source(self.callback, self.args)
        return _format_callback_source(self.callback, self.args, debug=in_debug(self.loop))

    @cython.cfunc
    @cython.wraparound(True)
    def info(self) -> list:
        if self.packed:
            self.unpack()
        info = [type(self).__name__]
        if self.is_cancelled:
            info.append("cancelled")
        if self.callback is not None:
            info.append(self.source())
        if self.source_traceback:
            frame = self.source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        if self.saved_repr is not None:
            return self.saved_repr
        return f"<{' '.join(self.info())}>"

    # Names that asyncio's own code and debuggers read.
    @property
    def _callback(self):
        if self.packed:
            self.unpack()
        return self.callback

    @property
    def _args(self):
        if self.packed:
            self.unpack()
        return self.args

    @property
    def _context(self):
        if self.packed:
            self.unpack()
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
@cython.exceptval(-1, check=False)
def in_debug(loop) -> cython.bint:
    """Whether a handle's loop, if it has one, is in debug mode."""
    if isinstance(loop, ReadyRing):
        return cython.cast(ReadyRing, loop).debug
    return loop is not None and bool(loop.get_debug())


@cython.cfunc
def new_handle(callback, args: tuple, context, loop) -> Handle:
    """Make a handle; `context` None means a copy of the current one."""
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
    """Drop everything that a dying handle holds, so that its memory can be used again."""
    cython.cast(Handle, o).callback = None
    cython.cast(Handle, o).args = None
    cython.cast(Handle, o).context = None
    cython.cast(Handle, o).loop = None
    cython.cast(Handle, o).source_traceback = None
    cython.cast(Handle, o).saved_repr = None
    cython.cast(Handle, o).is_cancelled = False
    cython.cast(Handle, o).packed = False


@cython.cfunc
@cython.exceptval(check=False)
def handle_dealloc(o: Ref) -> cython.void:
    """tp_dealloc: keep the memory for the next handle. Code here must not count references to `o`."""
    if hoop_may_spare(cython.address(spare_handles), Handle, o):
        empty_handle(o)
        if hoop_spare(cython.address(spare_handles), o):
            return
    _handle_dealloc(o)


hoop_check_spared(Handle)
_handle_dealloc = hoop_swap_dealloc(Handle, cython.cast(destructor, handle_dealloc))
hoop_set_signature(Handle, b"(callback, args, loop, context=None)")
