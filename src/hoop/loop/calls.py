"""The calls that feed a loop's ring, and the names by which asyncio's code reads the loop's state.

turn.py takes from the ring what is put onto it here.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events, format_helpers, futures

import cython
from cython.cimports.hoop._c.linux import hoop_now
from cython.cimports.hoop._c.python import Ref, hoop_snapshot
from cython.cimports.hoop._c.swap import hoop_fast_function, hoop_put_before
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.loop.executor import submit
from cython.cimports.hoop.loop.reports import check_callback
from cython.cimports.hoop.scheduling.future import Future, new_future
from cython.cimports.hoop.scheduling.handle import Handle, new_handle
from cython.cimports.hoop.scheduling.task import new_task
from cython.cimports.hoop.scheduling.timers import TimerHandle, new_expiry, new_timer
from cython.cimports.hoop.watching.watch import WatchLoop

EAGER_TASK_FACTORY = cython.declare(object, getattr(asyncio, "eager_task_factory", None))
FACTORY_TAKES_ALL = cython.declare(cython.bint, sys.version_info >= (3, 13, 3))
_set_result_unless_cancelled = cython.declare(object, futures._set_result_unless_cancelled)
_stock_run_in_executor = cython.declare(object, base_events.BaseEventLoop.run_in_executor)
# The last class of loops found to have the methods of this module.
_plain_class = cython.declare(object, None)
_extract_stack = cython.declare(object, format_helpers.extract_stack)


@cython.cclass
class LoopCalls(WatchLoop):
    """The half of the compiled loop that other code calls: to queue, to time, to make futures and tasks."""

    # ---- callbacks and timers ----

    def call_soon(self, callback, *args, context=None):
        """Call callback(*args) next turn. Returns a Handle. See asyncio.loop.call_soon."""
        if self.closed:
            self.check_open()
        if self.debug:
            self.check_thread()
            check_callback(callback, "call_soon")
            handle: Handle = self.soon(callback, args, context)
            handle.source_traceback = _extract_stack(sys._getframe(0))
            return handle
        handle = new_handle(callback, args, context, self)
        self.push(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """call_soon from any thread. Wakes the loop at most once per sleep."""
        if self.closed:
            self.check_open()
        if self.debug:
            check_callback(callback, "call_soon_threadsafe")
        handle = self.soon(callback, args, context)
        if self.debug:
            handle.source_traceback = _extract_stack(sys._getframe(0))
        self._write_to_self()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Call callback(*args) after `delay` seconds. Returns a TimerHandle."""
        if type(delay) is float:
            return self.add_timer(
                self.now() + cython.cast(cython.double, delay), None, callback, args, context
            )
        if delay is None:
            raise TypeError("delay must not be None")
        when = self.time() + delay
        return self.add_timer(when, None if type(when) is float else when, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Call callback(*args) when loop.time() reaches `when`. Returns a TimerHandle."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.add_timer(when, None if type(when) is float else when, callback, args, context)

    @cython.cfunc
    def add_timer(
        self, deadline: cython.double, when_given, callback, args: tuple, context
    ) -> object:
        if self.closed:
            self.check_open()
        if self.debug:
            self.check_thread()
            check_callback(callback, "call_at")
        handle: TimerHandle
        if callback is _set_result_unless_cancelled and context is None and may_pack(args):
            self.snapshot = hoop_snapshot(self.snapshot)
            handle = new_expiry(
                deadline, when_given, cython.cast(Runnable, args[0]), self.snapshot, self
            )
        else:
            handle = new_timer(deadline, when_given, callback, args, context, self)
        if self.debug:
            handle.source_traceback = _extract_stack(sys._getframe(0))
        self.timers.add(handle)
        return handle

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_plain(self) -> cython.bint:
        """Whether calls from threads and for them may go by C: all methods are ours, and none is to check."""
        global _plain_class
        kind = type(self)
        if kind is not _plain_class:
            for name in ("call_soon", "call_soon_threadsafe", "create_future", "create_task"):
                if getattr(kind, name) is not getattr(LoopCalls, name):
                    return False
            _plain_class = kind
        return not (self.own_methods or self.own_soon or self.debug or self.closed)

    def run_in_executor(self, executor, func, *args):
        """Call func(*args) in a thread. Returns a future. See asyncio.loop.run_in_executor."""
        chosen = executor
        if chosen is None and not cython.cast(object, self)._executor_shutdown_called:
            chosen = cython.cast(object, self)._default_executor
        if chosen is not None and self.is_plain():
            future = submit(self, chosen, func, args)
            if future is not None:
                return future
        return _stock_run_in_executor(self, executor, func, *args)

    def _write_to_self(self):
        """Wake the loop if it sleeps. From any thread."""
        self.rouse()

    def _add_callback(self, handle):
        """Queue a handle, ours or asyncio's."""
        if isinstance(handle, Handle):
            self.push(handle)
        elif not handle._cancelled:
            self.soon(handle._run, (), None)

    def _timer_handle_cancelled(self, handle):
        """Called by asyncio's own TimerHandle; ours tells the heap itself."""

    # ---- futures and tasks ----

    def create_future(self):
        """A Future of this loop."""
        future = new_future(self)
        if self.debug:
            future.source_traceback = _extract_stack(sys._getframe(0))
        return future

    def create_task(self, coro, *, name=None, context=None, eager_start=None, **kwargs):
        """Drive a coroutine as a Task (or what the task factory makes of it).

        From Python 3.13.3 on a task factory gets all other keywords, too.
        """
        return self.start_task(coro, name, context, eager_start, kwargs)

    @cython.cfunc
    def start_task(self, coro, name, context, eager_start, keywords: dict | None) -> object:
        if self.closed:
            self.check_open()
        eager: cython.bint = False
        if self.task_factory is not None:
            if self.task_factory is not EAGER_TASK_FACTORY:
                return self.call_task_factory(coro, name, context, eager_start, keywords)
            eager = True
        if keywords:
            refuse_keyword(keywords)
        if eager_start is not None:
            eager = eager_start
        return new_task(self, coro, name, context, eager)

    @cython.cfunc
    def call_task_factory(self, coro, name, context, eager_start, keywords: dict | None) -> object:
        if keywords is None:
            keywords = {}
        elif keywords and not FACTORY_TAKES_ALL:
            refuse_keyword(keywords)
        if context is not None:
            keywords["context"] = context
        if eager_start is not None:
            keywords["eager_start"] = eager_start
        if FACTORY_TAKES_ALL and name is not None:
            keywords["name"] = name
        task = self.task_factory(self, coro, **keywords)
        if not FACTORY_TAKES_ALL and name is not None:
            set_name = getattr(task, "set_name", None)
            if set_name is not None:
                set_name(name)
        return task

    @property
    def _task_factory(self):
        return self.task_factory

    @_task_factory.setter
    def _task_factory(self, factory):
        self.task_factory = factory

    # ---- state ----

    def time(self):
        """Seconds on the loop's clock: time.monotonic().

        Timers go by the method that takes the place of this one, in a subclass or on one loop.
        """
        return hoop_now()

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def now(self) -> cython.double:
        return self.time() if self.own_clock else hoop_now()

    def is_running(self):
        """Whether the loop is running, in any thread."""
        return self.thread != 0

    def is_closed(self):
        """Whether close() was called."""
        return self.closed

    def get_debug(self):
        """Whether debug mode is on."""
        return self.debug

    # ---- the names that asyncio's own code and others read ----

    @property
    def _thread_id(self):
        return self.thread or None

    @_thread_id.setter
    def _thread_id(self, value):
        self.thread = 0 if value is None else value

    @property
    def _stopping(self):
        return self.stopping

    @_stopping.setter
    def _stopping(self, value):
        self.stopping = value

    @property
    def _closed(self):
        return self.closed

    @_closed.setter
    def _closed(self, value):
        self.closed = value

    @property
    def _debug(self):
        return self.debug

    @_debug.setter
    def _debug(self, value):
        self.debug = bool(value)

    @property
    def _ready(self):
        """A copy of the queue. Changing it changes nothing."""
        i: cython.ulong = self.head
        found = []
        while i != self.tail:
            found.append(cython.cast(object, self.ring[i & self.mask]))
            i += 1
        return found

    @_ready.setter
    def _ready(self, value):
        """asyncio's constructor makes a queue of its own; ours is the ring."""

    @property
    def _scheduled(self):
        """A copy of the timers. Changing it changes nothing."""
        return list(self.timers)

    @_scheduled.setter
    def _scheduled(self, value):
        """asyncio's constructor makes a heap of its own."""


@cython.cfunc
def create_task(loop: Ref, args: cython.pointer[Ref], n: cython.Py_ssize_t, names: Ref) -> object:
    """Call create_task(coro) without the dict of keywords that Cython's code makes for each call."""
    if n == 1 and names is cython.NULL:
        return cython.cast(LoopCalls, loop).start_task(
            cython.cast(object, args[0]), None, None, None, None
        )
    return _create_task(loop, args, n, names)


@cython.cfunc
@cython.exceptval(-1, check=False)
def refuse_keyword(keywords: dict) -> cython.int:
    """Raise the TypeError of create_task() for keywords that nobody takes."""
    name = "Task" if FACTORY_TAKES_ALL else "create_task"
    raise TypeError(f"{name}() got an unexpected keyword argument {next(iter(keywords))!r}")


@cython.cfunc
@cython.exceptval(check=False)
def may_pack(args: tuple | None) -> cython.bint:
    """Whether the arguments are those of asyncio.sleep(): a future of hoop's, and no result."""
    return len(args) == 2 and args[1] is None and type(args[0]) is Future


_create_task = cython.declare(
    hoop_fast_function, hoop_put_before(LoopCalls.create_task, create_task)
)
