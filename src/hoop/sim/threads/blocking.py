"""Has threads that take turns wait for each other: calls of locks, queues and joins that would block.

While a world runs, calls of CPython's own methods come here, if the thread that has the turn makes them. One
that need not wait is made as always. In place of one that would, the threads of the world decide who goes
on: see turns.py. Other threads get the real methods, and so does everybody when the world has ended.
"""

from __future__ import annotations

import _queue
import _thread
import contextlib

import cython
from cython.cimports.hoop._c.python import PyThread_get_thread_ident, Ref
from cython.cimports.hoop._c.threads import (
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    hoop_block_at,
    hoop_block_by,
    hoop_give_turn,
    hoop_really,
    hoop_unblock_at,
    hoop_wait_for,
)
from cython.cimports.hoop.sim.swaps import rule_in

from hoop.sim import swaps

LOCK = type(_thread.allocate_lock())
# In the order of Place. A version of Python may lack some.
PLACES = [
    *[(LOCK, n) for n in ("acquire", "acquire_lock", "__enter__")],
    *[(LOCK, n) for n in ("release", "release_lock", "__exit__")],
    *[(_thread.RLock, n) for n in ("acquire", "__enter__", "release", "__exit__")],
    (_thread.RLock, "_acquire_restore"),
    *[(_queue.SimpleQueue, n) for n in ("get", "put", "put_nowait")],
    (getattr(_thread, "_ThreadHandle", None), "join"),
]
TIMEOUT_MAX = cython.declare(cython.double, _thread.TIMEOUT_MAX)

threads = cython.declare(object, None)  # those of the world that runs: see turns.py
crowded = cython.declare(cython.bint, False)  # there is another thread than the loop's
owners = cython.declare(dict, {})  # of locks that are held, by address


@cython.final
@cython.cclass
class Gate:
    """Where a thread waits until it has the turn."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock is cython.NULL:
            raise MemoryError
        hoop_wait_for(self.lock, 0)

    def __dealloc__(self):
        if self.lock is not cython.NULL:
            PyThread_free_lock(self.lock)

    def open(self) -> None:
        """Let the thread that waits here go on, or the next one that comes."""
        PyThread_release_lock(self.lock)

    def wait(self, seconds: cython.double) -> bool:
        """Wait in real time, for ever if `seconds` is negative. Returns whether somebody has opened."""
        return hoop_wait_for(self.lock, cython.cast(cython.longlong, seconds * 1e6))


# ---- locks -------------------------------------------------------------------------------------------


def _acquiring(blocking=True, timeout=-1) -> tuple:
    return bool(blocking), float(timeout)


def _getting(block=True, timeout=None) -> tuple:
    if timeout is not None and timeout < 0:
        raise ValueError
    return bool(block), -1.0 if timeout is None else float(timeout)


@cython.cfunc
def acquire(place: cython.int, self, args: tuple, kwargs: Ref) -> object:
    """Acquire a lock. While another thread holds it the others go on."""
    blocking: cython.bint = True
    seconds: cython.double = -1
    real: cython.int = LOCK_ACQUIRE if place < RLOCK_ACQUIRE else RLOCK_ACQUIRE
    if args or kwargs is not cython.NULL:
        try:
            named = {} if kwargs is cython.NULL else cython.cast(object, kwargs)
            blocking, seconds = _acquiring(*args, **named)
        except (TypeError, ValueError, OverflowError):
            return hoop_really(place, self, args, kwargs)  # it has the right message
        if (seconds != -1 and (seconds < 0 or not blocking)) or seconds > TIMEOUT_MAX:
            return hoop_really(place, self, args, kwargs)
    if crowded:
        threads.pause()
    result = hoop_really(real, self, (False,), cython.NULL)
    while blocking and result is False:
        if not threads.wait(f"{title_of(self)}.acquire()", self, _free_test(self), seconds):
            break
        result = hoop_really(real, self, (False,), cython.NULL)
    if result is not False:
        owners[id(self)] = threads.current
    return result


@cython.cfunc
def title_of(lock) -> str:
    return "Lock" if type(lock) is LOCK else "RLock"


def _free_test(lock):
    """A function that says whether nobody holds a lock."""
    if type(lock) is LOCK:
        return lambda: not lock.locked()
    return lambda: _is_free(lock)


def _is_free(lock) -> bool:
    """Whether nobody holds an RLock. It is asked for a thread that does not."""
    if lock._is_owned() or not hoop_really(RLOCK_ACQUIRE, lock, (False,), cython.NULL):
        return False
    hoop_really(RLOCK_RELEASE, lock, (), cython.NULL)
    return True


# ---- queues and threads ------------------------------------------------------------------------------


@cython.cfunc
def get(self, args: tuple, kwargs: Ref) -> object:
    """Take an item out of a queue. While it is empty the others go on."""
    block: cython.bint
    seconds: cython.double
    try:
        named = {} if kwargs is cython.NULL else cython.cast(object, kwargs)
        block, seconds = _getting(*args, **named)
    except (TypeError, ValueError, OverflowError):
        return hoop_really(QUEUE_GET, self, args, kwargs)
    if crowded:
        threads.pause()
    if block and self.empty() and seconds <= TIMEOUT_MAX:
        threads.wait("SimpleQueue.get()", self, lambda: not self.empty(), seconds)
        args = (False,)
        kwargs = cython.NULL
    return hoop_really(QUEUE_GET, self, args, kwargs)


@cython.cfunc
def join(self, args: tuple) -> object:
    """Wait for the end of a thread. Until then the others go on."""
    seconds: cython.double = -1
    if args and args[0] is not None:
        try:
            seconds = float(args[0])
        except TypeError:
            return hoop_really(HANDLE_JOIN, self, args, cython.NULL)
    if crowded:
        threads.pause()
    if not self.is_done() and threads.runs(self):
        if not threads.wait("Thread.join()", self, self.is_done, seconds):
            return None
        args = ()
    return hoop_really(HANDLE_JOIN, self, args, cython.NULL)


@cython.cfunc
def go(place: cython.int, self, args: tuple, kwargs: Ref) -> object:
    """Where calls of all the methods come to."""
    if place <= LOCK_ENTER or RLOCK_ACQUIRE <= place <= RLOCK_ENTER:
        return acquire(place, self, args, kwargs)
    if place == QUEUE_GET:
        return get(self, args, kwargs)
    if place == HANDLE_JOIN:
        return join(self, args)
    if place == RLOCK_RESTORE:  # after Condition.wait()
        test = _free_test(self)
        if not test():
            threads.wait("RLock.acquire()", self, test, -1)
        owners[id(self)] = threads.current
    result = hoop_really(place, self, args, kwargs)
    if place < QUEUE_PUT and place != RLOCK_RESTORE:
        owners.pop(id(self), None)
    if crowded and place != RLOCK_RESTORE:
        threads.pause()
    return result


# ---- the world ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def blocked(of_world):
    """Have calls of the methods come here until the block ends, for a world whose threads these are."""
    begin(of_world)
    try:
        yield
    finally:
        end()


def begin(of_world) -> None:
    """Have calls of the methods come here, for a world whose threads these are."""
    global threads
    threads = of_world
    hoop_block_by(go)
    try:
        for place, (owner, name) in enumerate(PLACES):
            method = None if owner is None else owner.__dict__.get(name)
            if method is not None:
                hoop_block_at(place, method)
    except BaseException:
        end()
        raise
    hoop_give_turn(PyThread_get_thread_ident())
    swaps.sleep_by(None)


def end() -> None:
    """Put all methods back."""
    global threads, crowded
    hoop_give_turn(0)
    for place in range(len(PLACES)):
        hoop_unblock_at(place)
    swaps.sleep_by(None)
    crowded = False
    threads = None
    owners.clear()


def give(ident: cython.ulong, crowd: cython.bint) -> None:
    """A thread has the turn: it is the one that is in the world. `crowd` says whether there are others."""
    global crowded
    crowded = crowd
    swaps.sleep_by(threads.sleep if crowd else None)
    rule_in(ident)
    hoop_give_turn(ident)


def owner_of(lock) -> object:
    """Return the thread that holds a lock, or None."""
    return owners.get(id(lock))


def really_acquire(lock) -> None:
    """Wait in real time until a lock is free, and acquire it."""
    hoop_really(LOCK_ACQUIRE, lock, (), cython.NULL)


def really_join(handle) -> None:
    """Wait in real time until a thread has ended."""
    hoop_really(HANDLE_JOIN, handle, (), cython.NULL)
