"""Conditions and barriers. They behave as asyncio.Condition and asyncio.Barrier do.

    Primitive           (waiting.py)
      Condition         on a Lock (locks.py)
      Barrier           on a Condition, in coroutines as Cython makes them

A condition calls its lock's methods by name only if the lock may be of another class.
"""

from __future__ import annotations

import asyncio
import collections

import cython
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.sync.locks import Lock, acquiring, described, entering, exiting
from cython.cimports.hoop.sync.waiting import (
    Primitive,
    finish_class,
    leave,
    wait_in,
    wake,
)

CancelledError = cython.declare(object, asyncio.CancelledError)
BrokenBarrierError = cython.declare(object, asyncio.BrokenBarrierError)
deque = cython.declare(object, collections.deque)
_stock_barrier = cython.declare(object, asyncio.Barrier)  # hoop.install() replaces asyncio's

BARRIER_STATES = cython.declare(tuple, ("filling", "draining", "resetting", "broken"))


@cython.cclass
class Condition(Primitive):
    """A condition variable: hold the lock, and `wait()` until another task calls `notify()`.

    `lock` is the Lock to use; without one the condition makes its own. Only a task that holds the lock may
    wait or notify: RuntimeError otherwise. See asyncio.Condition.

        async with condition:
            await condition.wait_for(lambda: items)
            item = items.pop()
    """

    def _state_names(self):
        return ("_lock", "_waiters")

    def __init__(self, lock=None):
        self.lock = Lock() if lock is None else lock
        self.waiters = deque()

    def __repr__(self):
        return described(self, "locked" if self.locked() else "unlocked", self.waiters)

    @cython.cfunc
    def own_lock(self) -> Lock:
        """The lock, if it is a plain Lock whose methods nobody has replaced; else None."""
        if type(self.lock) is Lock and self.is_plain() and cython.cast(Lock, self.lock).is_plain():
            return cython.cast(Lock, self.lock)
        return None

    def locked(self):
        """Return True if a task holds the lock."""
        return self.lock.locked()

    @cython.binding(True)
    def acquire(self):
        """Wait until the lock is free, and take it. Returns True."""
        if not isinstance(self, Condition):
            raise not_for(self, "acquire")
        return self.lock.acquire()

    def release(self):
        """Release the lock. Raises RuntimeError if no task holds it."""
        return self.lock.release()

    @cython.cfunc
    def acquiring(self) -> object:
        lock: Lock = self.own_lock()
        return self.acquire() if lock is None else acquiring(lock)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        lock: Lock = self.own_lock()
        if lock is not None:
            return lock.give_back()
        self.release()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_locked(self) -> cython.bint:
        lock: Lock = self.own_lock()
        return bool(self.locked()) if lock is None else lock.is_locked

    @cython.binding(True)
    def __aenter__(self):
        if not isinstance(self, Condition):
            raise not_for(self, "__aenter__")
        lock: Lock = self.own_lock()
        return entering(self if lock is None else lock)

    @cython.binding(True)
    def __aexit__(self, exc_type, exc, tb):
        if not isinstance(self, Condition):
            raise not_for(self, "__aexit__")
        lock: Lock = self.own_lock()
        return exiting(self if lock is None else lock)

    @cython.binding(True)
    def wait(self):
        """Release the lock, wait until another task notifies this one, and take the lock again. Returns
        True.

        A task may be woken without a notification, so check in a loop that what you wait for is true.
        Raises RuntimeError if no task holds the lock.

            async with condition:
                while not ready():
                    await condition.wait()
        """
        return new_coroutine(WAIT_FOR_NOTICE, self, None)

    @cython.binding(True)
    def wait_for(self, predicate):
        """Wait until `predicate()` is true, and return its result.

        The task calls `predicate` at once, and again after each notification. It must hold the lock.

            async with condition:
                await condition.wait_for(lambda: queue)
        """
        return new_coroutine(WAIT_UNTIL, self, predicate)

    def notify(self, n=1):
        """Wake `n` of the waiting tasks. They go on once they have the lock again.

        Raises RuntimeError if no task holds the lock.

            async with condition:
                condition.notify()
        """
        if not self.is_locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self.wake_some(n)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake_some(self, n) -> cython.int:
        woken: cython.Py_ssize_t = 0
        for future in self.waiters:
            if woken >= n:
                break
            woken += wake(future, False)
        return 0

    def notify_all(self):
        """Wake all waiting tasks. Raises RuntimeError if no task holds the lock."""
        self.notify(len(self.waiters))

    @property
    def _lock(self):
        return self.lock

    @_lock.setter
    def _lock(self, lock):
        self.lock = lock

    @property
    def _waiters(self):
        return self.waiters

    @_waiters.setter
    def _waiters(self, waiters):
        self.waiters = waiters


@cython.cfunc
def not_for(value, name: str) -> object:
    """The exception for a method that was called on its class, with an object of another class as `self`."""
    return TypeError(f"Condition.{name}() is not for {value!r}")


@cython.final
@cython.cclass
class WaitForNotice(Method):
    """condition.wait(). The task first waits in the condition's deque. Then `inner` takes the lock again,
    even after an error, and `value` is the exception to end with.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        condition: Condition = cython.cast(Condition, c.owner)
        if not condition.is_locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        future = condition.new_waiter()
        condition.give_back()
        return wait_in(c, condition.waiters, future)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        condition: Condition = cython.cast(Condition, c.owner)
        if c.inner is None:
            leave(condition.waiters, c.future)
            return c.delegate(condition.acquiring())
        error = c.value
        if error is None:
            c.value = True
            return OVER
        c.value = None
        return self.give_up(condition, error)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        condition: Condition = cython.cast(Condition, c.owner)
        if c.inner is None:
            leave(condition.waiters, c.future)
        elif not isinstance(error, CancelledError):
            return self.give_up(condition, error)
        c.value = error
        return c.delegate(condition.acquiring())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_up(self, condition: Condition, error) -> cython.int:
        # This task may have been notified but was cancelled: pass the notification on.
        condition.wake_some(1)
        raise error


@cython.final
@cython.cclass
class WaitUntil(Method):
    """condition.wait_for()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        result = c.value()
        if result:
            c.value = result
            return OVER
        return c.delegate(cython.cast(object, c.owner).wait())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        return self.begin(c)


@cython.cclass
class Barrier(Primitive):
    """A point where `parties` tasks wait for each other: all of them go on when the last one arrives.

    Raises ValueError if `parties` is less than 1. See asyncio.Barrier.

        barrier = hoop.Barrier(3)
        place = await barrier.wait()  # in each of three tasks: 0, 1 or 2
    """

    def __init__(self, parties):
        if parties < 1:
            _stock_barrier(parties)  # raises the ValueError of this Python
        self.condition = Condition()
        self.size = parties

    def __repr__(self):
        state = BARRIER_STATES[self.state]
        if self.state != BROKEN:
            state = f"{state}, waiters:{self.n_waiting}/{self.size}"
        return described(self, state, None)

    @cython.binding(True)
    async def __aenter__(self):
        return await self.wait()

    @cython.binding(True)
    async def __aexit__(self, *exc_info):
        pass

    @cython.binding(True)
    async def wait(self):
        """Wait until as many tasks as there are parties wait here, then go on with all of them.

        Returns this task's place in the order of arrival, counted from 0. Raises asyncio.BrokenBarrierError
        if the barrier is aborted, or is reset while this task waits.

            if await barrier.wait() == 0:
                print("everybody is here")
        """
        async with self.condition:
            await self.condition.wait_for(lambda: self.state not in (DRAINING, RESETTING))
            if self.state == BROKEN:
                raise BrokenBarrierError("Barrier aborted")
            place = self.inside
            self.inside += 1
            try:
                if self.inside == self.size:
                    self.change(DRAINING)
                else:
                    await self.condition.wait_for(lambda: self.state != FILLING)
                    if self.state != DRAINING:
                        raise BrokenBarrierError("Abort or reset of barrier")
            finally:
                self.inside -= 1
                if self.inside == 0:  # all have left: tasks that wait outside may enter
                    self.change(BROKEN if self.state == BROKEN else FILLING)
            return place

    @cython.binding(True)
    async def reset(self):
        """Empty the barrier for a new use. Tasks that wait get asyncio.BrokenBarrierError."""
        async with self.condition:
            self.change(RESETTING if self.inside > 0 else FILLING)

    @cython.binding(True)
    async def abort(self):
        """Break the barrier: tasks that wait, and tasks that come later, get asyncio.BrokenBarrierError."""
        async with self.condition:
            self.change(BROKEN)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def change(self, state: BarrierState) -> cython.int:
        self.state = state
        self.condition.notify_all()
        return 0

    @property
    def parties(self):
        """The number of tasks that the barrier waits for."""
        return self.size

    @property
    def n_waiting(self):
        """The number of tasks that wait now."""
        return self.inside if self.state == FILLING else 0

    @property
    def broken(self):
        """True if the barrier was aborted."""
        return self.state == BROKEN

    @property
    def _count(self):
        return self.inside

    def __getstate__(self):
        fields = (self.condition, self.size, self.inside, self.state)
        return {**super().__getstate__(), "fields": fields}

    def __setstate__(self, state):
        self.condition, self.size, self.inside, barrier_state = state.pop("fields")
        if barrier_state not in range(len(BARRIER_STATES)):
            raise ValueError(f"not the state of a barrier: {barrier_state!r}")
        self.state = barrier_state
        super().__setstate__(state)


WAIT_FOR_NOTICE = cython.declare(WaitForNotice, WaitForNotice("wait", Condition))
WAIT_UNTIL = cython.declare(WaitUntil, WaitUntil("wait_for", Condition))

finish_class(
    Condition, asyncio.Condition, ("acquire", "wait", "wait_for", "__aenter__", "__aexit__")
)
finish_class(Barrier, asyncio.Barrier, ("wait", "reset", "abort", "__aenter__", "__aexit__"))
