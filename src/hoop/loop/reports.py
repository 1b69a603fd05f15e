"""Debug mode: refuse wrong callbacks, and report slow turns of the loop.

asyncio's own handlers and reports know handles and tasks, but no op of hoop's. In place of an op they get
the user's function that it called.
"""

from __future__ import annotations

import inspect
import sys
from asyncio import base_events, coroutines, format_helpers

import cython
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.net.endpoint import Layer
from cython.cimports.hoop.scheduling.handle import Handle
from cython.cimports.hoop.scheduling.task import Task
from cython.cimports.hoop.watching.watch import WatchOp

# asyncio.iscoroutinefunction (deprecated in 3.14) also accepts functions decorated with types.coroutine.
_is_coroutine_function = cython.declare(
    object,
    inspect.iscoroutinefunction if sys.version_info >= (3, 14) else coroutines.iscoroutinefunction,
)
_format_source = cython.declare(object, format_helpers._format_callback_source)


@cython.cfunc
@cython.exceptval(-1, check=False)
def check_callback(callback, method: str) -> cython.int:
    """Refuse a callback that cannot be called, or that would only make a coroutine."""
    if coroutines.iscoroutine(callback) or _is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
    return 0


@cython.cfunc
def to_show(running: Runnable) -> object:
    """The object that asyncio's handlers may see: a handle or a task, never an op."""
    if isinstance(running, WatchOp):
        return cython.cast(WatchOp, running).handle
    return running if isinstance(running, (Handle, Task)) else None


@cython.cfunc
def described(called) -> str:
    """A user's function, shown as a handle. If the loop called a layer of hoop's, the application's
    function.
    """
    layer = getattr(called, "__self__", None)
    if isinstance(layer, Layer):
        app = cython.cast(Layer, layer).protocol
        called = getattr(app, called.__name__, getattr(app, "buffer_updated", called))
    return f"<Handle {_format_source(getattr(called, '__func__', called), ())}>"


@cython.cfunc
@cython.exceptval(-1, check=False)
def report_slow(what: Runnable, slowest, seconds: cython.double) -> cython.int:
    """Log the slow callback: the user's function, if an op of the loop called one."""
    shown = to_show(what)
    called = slowest
    if isinstance(what, (WatchOp, Task)):
        called = None
    elif called is None:
        called = what.calls()
    if called is not None:
        text = described(called)
    elif isinstance(shown, Task):
        text = repr(shown)
    else:
        text = f"<{type(what).__name__}>" if shown is None else base_events._format_handle(shown)
    base_events.logger.warning("Executing %s took %.3f seconds", text, seconds)
    return 0
