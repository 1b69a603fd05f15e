"""timeout() and timeout_at(). They behave as asyncio's functions of the same names do.

`async with timeout(5):` makes the Timeout, two coroutines in C that never suspend, and one timer. On the loop
of another library, and in a subclass, the same methods call the loop's methods by name.
"""

from __future__ import annotations

import asyncio.tasks
import asyncio.timeouts
from asyncio import events

import cython
from cython.cimports.cpython.object import Py_TPFLAGS_HEAPTYPE
from cython.cimports.hoop._c.python import (
    Py_TYPE,
    PyDict_GetItemWithError,
    Ref,
    hoop_set_signature,
    ref,
)
from cython.cimports.hoop.loop.running import plain_loop
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.base import LoopBase, as_native
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    Method,
    NativeCoroutine,
    new_coroutine,
    new_coroutine_of_two,
)
from cython.cimports.hoop.scheduling.task import Task
from cython.cimports.hoop.scheduling.timers import TimerHandle
from cython.cimports.hoop.sync.waiting import finish_class, shown_class

CancelledError = cython.declare(object, asyncio.CancelledError)
_stock = cython.declare(object, asyncio.timeouts.Timeout)
_get_running_loop = cython.declare(object, events.get_running_loop)
_current_task = cython.declare(object, asyncio.tasks.current_task)
# asyncio's names for the phases, in the order of `Phase`.
STATES = cython.declare(tuple, tuple(asyncio.timeouts._State))
# From Python 3.13 on, a subclass of CancelledError counts. And another exception, to which the cancellation
# led, gets a TimeoutError into its chain.
MENDS_CHAIN = cython.declare(cython.bint, hasattr(_stock, "_insert_timeout_error"))


@cython.cclass
class Timeout(Attributed):
    """A limit for the time that an `async with` block takes. See asyncio.Timeout.

    timeout() and timeout_at() make it. `when` is a time on the loop's clock, or None for no limit.

        async with hoop.timeout(10) as limit:
            limit.reschedule(loop.time() + 20)
    """

    def __cinit__(self):
        self.is_ours = not Py_TYPE(ref(self)).tp_flags & Py_TPFLAGS_HEAPTYPE

    def __init__(self, when):
        self.phase = NOT_ENTERED
        self.deadline = when
        self.timer = None
        self.task = None

    @property
    def __class__(self):
        return shown_class(type(self))

    def when(self):
        """Return the deadline on the loop's clock, or None."""
        return self.deadline

    def reschedule(self, when):
        """Set another deadline. Raises RuntimeError unless the block runs, and has its time left."""
        if self.phase != ENTERED:
            if self.phase == NOT_ENTERED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {STATES[self.phase].value} Timeout")
        self.deadline = when
        self.drop_timer()
        self.arm()

    def expired(self):
        """Return True if the time was over before the block ended."""
        return self.phase == EXPIRING or self.phase == EXPIRED

    def __repr__(self):
        state = STATES[self.phase].value
        if self.phase != ENTERED:
            return f"<Timeout [{state}]>"
        when = None if self.deadline is None else round(self.deadline, 3)
        return f"<Timeout [{state}] when={when}>"

    @cython.binding(True)
    def __aenter__(self):
        return new_coroutine(ENTER, self, None)

    @cython.binding(True)
    def __aexit__(self, exc_type, exc_val, exc_tb):
        return new_coroutine_of_two(EXIT, self, exc_type, exc_val)

    def _on_timeout(self):
        """The deadline has come: cancel the task."""
        assert self.phase == ENTERED
        self.task.cancel()
        self.phase = EXPIRING
        self.timer = None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter(self) -> cython.int:
        if self.phase != NOT_ENTERED:
            raise RuntimeError("Timeout has already been entered")
        loop: Loop = plain_loop()
        task = _current_task() if loop is None else current_task_of(loop)
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
        self.phase = ENTERED
        self.task = task
        if type(task) is Task:
            self.cancels_before = cython.cast(Task, task).cancel_requests
        else:
            self.cancels_before = task.cancelling()
        if self.is_plain():
            self.arm()
        else:
            cython.cast(object, self).reschedule(self.deadline)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arm(self) -> cython.int:
        """Start the timer. At a deadline that has passed, the task is cancelled in the loop's next turn."""
        when = self.deadline
        if when is None:
            self.timer = None
            return 0
        expire = cython.cast(object, self)._on_timeout
        loop: Loop = plain_loop()
        if loop is None:
            other = _get_running_loop()
            if when <= other.time():
                self.timer = other.call_soon(expire)
            else:
                self.timer = other.call_at(when, expire)
        elif type(when) is float:
            if cython.cast(cython.double, when) <= loop.now():
                self.timer = loop.call_soon(expire)
            else:
                self.timer = loop.add_timer(
                    cython.cast(cython.double, when), None, expire, (), None
                )
        elif when <= loop.now():
            self.timer = loop.call_soon(expire)
        else:
            self.timer = loop.call_at(when, expire)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_timer(self) -> cython.int:
        if self.timer is not None:
            timer = self.timer
            self.timer = None
            cancel_timer(timer)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave(self, exc_type, exc) -> cython.int:
        """The block has ended, with an exception or without."""
        assert self.phase == ENTERED or self.phase == EXPIRING
        self.drop_timer()
        if self.phase == EXPIRING:
            self.phase = EXPIRED
            return self.leave_expired(exc_type, exc)
        if self.phase == ENTERED:
            self.phase = EXITED
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_expired(self, exc_type, exc) -> cython.int:
        """Raise TimeoutError if the exception is the cancellation that the timer requested."""
        if self.task.uncancel() > self.cancels_before or exc_type is None:
            return 0
        if not MENDS_CHAIN:
            if exc_type is CancelledError:
                raise TimeoutError from exc
            return 0
        if issubclass(exc_type, CancelledError):
            raise TimeoutError from exc
        if exc is not None:
            cython.cast(object, self)._insert_timeout_error(exc)
            if isinstance(exc, ExceptionGroup):
                for one in exc.exceptions:
                    cython.cast(object, self)._insert_timeout_error(one)
        return 0

    @staticmethod
    def _insert_timeout_error(exc_val):
        """Put a TimeoutError over the cancellation that an exception came from."""
        while exc_val.__context__ is not None:
            if isinstance(exc_val.__context__, CancelledError):
                error = TimeoutError()
                error.__context__ = error.__cause__ = exc_val.__context__
                exc_val.__context__ = error
                break
            exc_val = exc_val.__context__

    # ---- the names that asyncio's class has, for subclasses ----

    @property
    def _state(self):
        return STATES[self.phase]

    @_state.setter
    def _state(self, state):
        self.phase = STATES.index(state)

    @property
    def _when(self):
        return self.deadline

    @_when.setter
    def _when(self, when):
        self.deadline = when

    @property
    def _timeout_handler(self):
        return self.timer

    @_timeout_handler.setter
    def _timeout_handler(self, timer):
        self.timer = timer

    @property
    def _task(self):
        return self.task

    @_task.setter
    def _task(self, task):
        self.task = task

    @property
    def _cancelling(self):
        return self.cancels_before

    @_cancelling.setter
    def _cancelling(self, count):
        self.cancels_before = count


@cython.final
@cython.cclass
class EnterTimeout(Method):
    """The start of `async with`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        cython.cast(Timeout, c.owner).enter()
        c.value = c.owner
        return OVER


@cython.final
@cython.cclass
class ExitTimeout(Method):
    """The end of `async with`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        exc_type = c.value
        c.value = None
        cython.cast(Timeout, c.owner).leave(exc_type, c.extra)
        return OVER


@cython.cfunc
def current_task_of(loop: Loop) -> object:
    """Return the task that asyncio.current_task() finds on a running loop."""
    if loop.current_tasks is None:
        return _current_task()
    found: Ref = PyDict_GetItemWithError(ref(loop.current_tasks), ref(loop))
    return None if found is cython.NULL else cython.cast(object, found)


@cython.cfunc
@cython.exceptval(-1, check=False)
def cancel_timer(handle) -> cython.int:
    """handle.cancel(), without a call by name if the loop is hoop's."""
    if type(handle) is TimerHandle:
        timer: TimerHandle = cython.cast(TimerHandle, handle)
        loop: LoopBase = as_native(timer.loop)
        if loop is not None and not loop.debug and not timer.is_cancelled:
            timer.is_cancelled = True
            timer.callback = None
            timer.args = None
            if timer.timers is not None:
                timer.timers.on_cancel(timer)
            return 0
    handle.cancel()
    return 0


@cython.cfunc
def new_timeout(deadline) -> Timeout:
    t: Timeout = Timeout.__new__(Timeout)
    t.deadline = deadline
    return t


@cython.cfunc
def deadline_of(delay) -> object:
    """The time on the running loop's clock when a delay is over."""
    loop: Loop = plain_loop()
    if loop is None:
        other = _get_running_loop()
        return None if delay is None else other.time() + delay
    if type(delay) is float:
        return loop.now() + cython.cast(cython.double, delay)
    return None if delay is None else loop.now() + delay


@cython.binding(True)
def timeout(delay):
    """Limit the time of an `async with` block to `delay` seconds; None is no limit. See asyncio.timeout.

    When the time is over, the block is cancelled, and the `async with` raises TimeoutError.

        async with hoop.timeout(10):
            await fetch(url)
    """
    return new_timeout(deadline_of(delay))


@cython.binding(True)
def timeout_at(when):
    """Limit the time of an `async with` block: until loop.time() reaches `when`. See asyncio.timeout_at.

    For example:

        async with hoop.timeout_at(loop.time() + 10):
            await fetch(url)
    """
    return new_timeout(when)


ENTER = cython.declare(EnterTimeout, EnterTimeout("__aenter__", Timeout))
EXIT = cython.declare(ExitTimeout, ExitTimeout("__aexit__", Timeout))

finish_class(Timeout, _stock, ("__aenter__", "__aexit__"))
hoop_set_signature(Timeout, b"(when)")  # an annotation would make it unreadable
