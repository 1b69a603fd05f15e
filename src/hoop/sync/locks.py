"""Locks, semaphores and events. They behave as asyncio's classes of the same names do.

    Primitive                   (waiting.py)
      Acquirable
        Lock
        Semaphore
          BoundedSemaphore
      Event

A task takes a free lock without suspending. A task that releases a lock wakes the first waiting task, which
takes the lock when its step runs. Where the versions of Python differ, hoop follows the newest. In
particular, no wake-up is lost when the woken task is cancelled before its step.
"""

from __future__ import annotations

import asyncio
import collections

import cython
from cython.cimports.hoop._c.python import Ref
from cython.cimports.hoop.scheduling.base import LoopBase, as_native, turning
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.scheduling.task import Task
from cython.cimports.hoop.sync.waiting import (
    Primitive,
    finish_class,
    is_cancelled,
    leave,
    wait_in,
    wake,
    was_woken,
)

CancelledError = cython.declare(object, asyncio.CancelledError)
deque = cython.declare(object, collections.deque)
_get_running_loop = cython.declare(object, asyncio._get_running_loop)


@cython.cfunc
def described(primitive, state: str, waiters) -> str:
    """The repr of all these classes: object's own, then the state and the number of waiting tasks."""
    plain = object.__repr__(primitive)
    if waiters:
        state = f"{state}, waiters:{len(waiters)}"
    return f"<{plain[1 : len(plain) - 1]} [{state}]>"


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def serial_of_current() -> cython.ulong:
    """The serial number of the task that runs; 0 if it is none of hoop's."""
    loop: Ref = turning
    # PyThread_get_thread_ident() gives the same, and first asks whether threads can be had.
    thread: cython.ulong = cython.cast(cython.ulong, pthread_self())
    if loop is cython.NULL or cython.cast(LoopBase, loop).thread != thread:
        return serial_in_thread()
    if cython.cast(LoopBase, loop).entered is cython.NULL:
        return 0
    return cython.cast(Task, cython.cast(LoopBase, loop).entered).serial


@cython.cfunc
@cython.exceptval(check=False)
def serial_in_thread() -> cython.ulong:
    """The same, if several loops take turns, or none of hoop's does in this thread."""
    loop: LoopBase = as_native(_get_running_loop())
    if loop is None or loop.entered is cython.NULL:
        return 0
    return cython.cast(Task, loop.entered).serial


# ---- locks and semaphores ----------------------------------------------------------------------------


@cython.cclass
class Acquirable(Primitive):
    """Base of the classes that a task acquires and releases."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_waited_for(self) -> cython.bint:
        waiters = self.waiters  # its len() may be your code, which may replace the deque
        if waiters is None or not len(waiters):
            return False
        if not is_cancelled(waiters[0]):
            return True
        if type(waiters) is deque and len(waiters) and not is_cancelled(waiters[len(waiters) - 1]):
            return True
        return not all([is_cancelled(future) for future in waiters])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self) -> cython.bint:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def taken(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def missed(self, future, error) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.binding(True)
    def acquire(self):
        """Wait until it is free, and take it. Returns True.

        For example:

            await lock.acquire()
            try:
                ...
            finally:
                lock.release()
        """
        return acquiring(self)

    @cython.binding(True)
    def __aenter__(self):
        return entering(self)

    @cython.binding(True)
    def __aexit__(self, exc_type, exc, tb):
        return exiting(self)

    @property
    def _waiters(self):
        return self.waiters

    @_waiters.setter
    def _waiters(self, waiters):
        self.waiters = waiters


@cython.cfunc
def acquiring(lock: Acquirable) -> object:
    """The coroutine of acquire()."""
    return new_coroutine(ACQUIRE, lock, True)


@cython.cfunc
def entering(lock: Primitive) -> object:
    """The coroutine that `async with` awaits first."""
    is_known: cython.bint = isinstance(lock, Acquirable) and lock.is_plain()
    return new_coroutine(ENTER if is_known else ENTER_BY_NAME, lock, None)


@cython.cfunc
def exiting(lock: Primitive) -> object:
    """The coroutine that `async with` awaits last."""
    is_known: cython.bint = isinstance(lock, Acquirable) and lock.is_plain()
    return new_coroutine(EXIT if is_known else EXIT_BY_NAME, lock, None)


@cython.final
@cython.cclass
class Acquire(Method):
    """acquire(), and the start of `async with`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        lock: Acquirable = cython.cast(Acquirable, c.owner)
        if lock.take():
            return OVER
        if lock.waiters is None:
            lock.waiters = deque()
        return wait_in(c, lock.waiters, lock.new_waiter())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        lock: Acquirable = cython.cast(Acquirable, c.owner)
        leave(lock.waiters, c.future)
        lock.taken()
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        lock: Acquirable = cython.cast(Acquirable, c.owner)
        leave(lock.waiters, c.future)
        lock.missed(c.future, error)
        raise error


@cython.final
@cython.cclass
class Release(Method):
    """The end of `async with`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        cython.cast(Acquirable, c.owner).give_back()
        return OVER


@cython.final
@cython.cclass
class EnterByName(Method):
    """The start of `async with` if a subclass may have replaced acquire()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        return c.delegate(cython.cast(object, c.owner).acquire())


@cython.final
@cython.cclass
class ExitByName(Method):
    """The end of `async with` if a subclass may have replaced release()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        cython.cast(object, c.owner).release()
        return OVER


@cython.cclass
class Lock(Acquirable):
    """A mutex for tasks: one task at a time can hold it. See asyncio.Lock.

    Waiting tasks get the lock in the order in which they came. The lock serves tasks of one loop. It is not
    for threads.

        lock = hoop.Lock()
        async with lock:
            ...  # no other task is in here
    """

    def _state_names(self):
        return ("_waiters", "_locked")

    def __init__(self):
        pass

    def __repr__(self):
        return described(self, "locked" if self.is_locked else "unlocked", self.waiters)

    def locked(self):
        """Return True if a task holds the lock."""
        return self.is_locked

    def release(self):
        """Release the lock, and wake the first waiting task. Raises RuntimeError if no task holds it."""
        self.give_back()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self) -> cython.bint:
        if self.is_locked or self.is_waited_for():
            return False
        self.is_locked = True
        self.taker = serial_of_current()
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def taken(self) -> cython.int:
        self.is_locked = True
        self.taker = serial_of_current()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def missed(self, future, error) -> cython.int:
        # If this task was just woken to take the lock, wake the next one instead.
        if isinstance(error, CancelledError) and not self.is_locked:
            self.wake_first()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        if not self.is_locked:
            raise RuntimeError("Lock is not acquired.")
        self.is_locked = False
        return self.wake_first()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake_first(self) -> cython.int:
        # Wake only the first waiter. If its future is done already, its task has yet to run.
        waiters = self.waiters
        if waiters is not None and len(waiters):
            wake(waiters[0], True)
        return 0

    @property
    def _taken_by(self):
        """The serial number of the task that holds the lock; 0 if none does, or nobody knows which.

        Programs that derive from asyncio.Lock often have an `_owner` of their own.
        """
        return self.taker if self.is_locked else 0

    @property
    def _locked(self):
        return self.is_locked

    @_locked.setter
    def _locked(self, locked: cython.bint):
        self.is_locked = locked


@cython.cclass
class Semaphore(Acquirable):
    """A counter: at most `value` tasks at a time can hold the semaphore. See asyncio.Semaphore.

    acquire() takes one unit and waits while none is left; release() gives one back. Raises ValueError if
    `value` is negative.

        slots = hoop.Semaphore(10)
        async with slots:
            ...  # at most ten tasks at once
    """

    def _state_names(self):
        return ("_waiters", "_value")

    def __init__(self, value=1):
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self.value = value

    def __repr__(self):
        state = "locked" if self.locked() else f"unlocked, value:{self.value}"
        return described(self, state, self.waiters)

    def locked(self):
        """Return True if acquire() would have to wait."""
        return self.value == 0 or self.is_waited_for()

    def release(self):
        """Give one unit back, and wake the first waiting task if there is one."""
        self.give_back()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self) -> cython.bint:
        if self.value == 0 or self.is_waited_for():
            return False
        self.value -= 1
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def taken(self) -> cython.int:
        # The task that woke this one has counted it already. More units may be free for the next in line.
        return self.wake_all_due()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def missed(self, future, error) -> cython.int:
        if isinstance(error, CancelledError) and was_woken(future):
            self.value += 1
        return self.wake_all_due()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        self.value += 1
        self.wake_next()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake_all_due(self) -> cython.int:
        while self.value > 0 and self.wake_next():
            pass
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake_next(self) -> cython.bint:
        """Wake the first task that was not woken yet, and count it. Returns whether there was one."""
        if self.waiters is not None and len(self.waiters):
            for future in self.waiters:
                if wake(future, True):
                    self.value -= 1
                    return True
        return False

    @property
    def _value(self):
        return self.value

    @_value.setter
    def _value(self, value):
        self.value = value


@cython.cclass
class BoundedSemaphore(Semaphore):
    """A semaphore that finds a release() too many. See asyncio.BoundedSemaphore.

    release() raises ValueError if it would give back more units than `value`.

        slots = hoop.BoundedSemaphore(2)
        async with slots:
            ...
    """

    def _state_names(self):
        return ("_waiters", "_value", "_bound_value")

    def __init__(self, value=1):
        self.bound = value
        super().__init__(value)

    def release(self):
        """Give one unit back. Raises ValueError if no unit is taken."""
        self.give_back()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        if self.value >= self.bound:
            raise ValueError("BoundedSemaphore released too many times")
        return Semaphore.give_back(self)

    @property
    def _bound_value(self):
        return self.bound

    @_bound_value.setter
    def _bound_value(self, bound):
        self.bound = bound


# ---- events ------------------------------------------------------------------------------------------


@cython.cclass
class Event(Primitive):
    """A flag that tasks can wait for. See asyncio.Event.

    For example:

        ready = hoop.Event()
        await ready.wait()  # in any number of tasks
        ready.set()  # in another: all of them go on
    """

    def _state_names(self):
        return ("_waiters", "_value")

    def __init__(self):
        pass

    def __repr__(self):
        return described(self, "set" if self.flag else "unset", self.waiters)

    def is_set(self):
        """Return True if the flag is set."""
        return self.flag

    def set(self):
        """Set the flag, and wake all tasks that wait for it."""
        self.raise_flag()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def raise_flag(self) -> cython.int:
        if not self.flag:
            self.flag = True
            if self.waiters is not None:
                for future in self.waiters:
                    wake(future, True)
        return 0

    def clear(self):
        """Reset the flag: from now on wait() waits again."""
        self.flag = False

    @cython.binding(True)
    def wait(self):
        """Wait until the flag is set. Returns True, at once if the flag is set already."""
        return new_coroutine(WAIT, self, True)

    @property
    def _waiters(self):
        if self.waiters is None:
            self.waiters = deque()
        return self.waiters

    @_waiters.setter
    def _waiters(self, waiters):
        self.waiters = waiters

    @property
    def _value(self):
        return self.flag

    @_value.setter
    def _value(self, value: cython.bint):
        self.flag = value


@cython.final
@cython.cclass
class WaitForEvent(Method):
    """event.wait()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        event: Event = cython.cast(Event, c.owner)
        if event.flag:
            return OVER
        if event.waiters is None:
            event.waiters = deque()
        return wait_in(c, event.waiters, event.new_waiter())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        leave(cython.cast(Event, c.owner).waiters, c.future)
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        leave(cython.cast(Event, c.owner).waiters, c.future)
        raise error


ACQUIRE = cython.declare(Acquire, Acquire("acquire", Acquirable))
ENTER = cython.declare(Acquire, Acquire("__aenter__", Acquirable))
EXIT = cython.declare(Release, Release("__aexit__", Acquirable))
ENTER_BY_NAME = cython.declare(EnterByName, EnterByName("__aenter__", Primitive))
EXIT_BY_NAME = cython.declare(ExitByName, ExitByName("__aexit__", Primitive))
WAIT = cython.declare(WaitForEvent, WaitForEvent("wait", Event))

# ---- what they pass for ------------------------------------------------------------------------------

finish_class(Lock, asyncio.Lock, ("acquire", "__aenter__", "__aexit__"))
finish_class(Semaphore, asyncio.Semaphore, ("acquire", "__aenter__", "__aexit__"))
finish_class(BoundedSemaphore, asyncio.BoundedSemaphore, ())
finish_class(Event, asyncio.Event, ("wait",))
