"""Timers: handles with a deadline, in a heap.

A deadline is a float of seconds on the loop's clock, and is never rounded. Timers with equal deadlines run
in the order in which they were made.

Cancelling only marks the handle. Its entry leaves the heap when it comes to the top, or when more than half
of the entries are cancelled.
"""

from __future__ import annotations

import asyncio
from asyncio import futures

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Realloc
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    PyContext_Copy,
    PyContext_CopyCurrent,
    Ref,
    destructor,
    hoop_check_spared,
    hoop_may_spare,
    hoop_revive,
    hoop_set_signature,
    hoop_spare,
    hoop_spares,
    hoop_swap_clear,
    hoop_swap_dealloc,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    own,
    ref,
    take,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.scheduling.handle import Handle, empty_handle

ARITY = cython.declare(cython.Py_ssize_t, 4)  # children per entry: fewer cache misses than with 2
# Fewer cancelled entries than this are not worth a sweep.
COMPACT_FROM = cython.declare(cython.Py_ssize_t, 64)
NEVER_WAIT = cython.declare(cython.double, float("-inf"))

_set_result_unless_cancelled = cython.declare(object, futures._set_result_unless_cancelled)
_asyncio_timer_handle = cython.declare(object, asyncio.TimerHandle)


@cython.cclass
class TimerHandle(Handle):
    """A callback that the loop calls once, not before its deadline. See asyncio.TimerHandle.

    The deadline is `when()`, in seconds on the clock of `loop.time()`.

        timer = loop.call_later(5, print, "too late")
        timer.cancel()
    """

    # Timers of the loop come from new_timer(), which does not call this.
    def __init__(self, when, callback, args, loop, context=None):
        Handle.__init__(self, callback, args, loop, context)
        self.deadline = when
        self.when_given = None if type(when) is float else when

    @property
    def __class__(self):
        return _asyncio_timer_handle

    @property
    def _deadline(self):
        return self.deadline

    def when(self):
        """Return the deadline, in seconds on the loop's clock (loop.time())."""
        return self.deadline if self.when_given is None else self.when_given

    @property
    def _when(self):
        return self.when()

    @property
    def _scheduled(self):
        return self.timers is not None

    def cancel(self):
        """Do not call the callback."""
        if not self.is_cancelled:
            Handle.cancel(self)
            if self.timers is not None:
                self.timers.on_cancel(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        if (
            self.packed
            and not self.is_cancelled
            and cython.cast(Runnable, self.callback).expire(ref(self.loop))
        ):
            return 0
        if self.packed:
            self.unpack()
        return Handle.run(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unpack(self) -> cython.int:
        # Another thread may look at this timer while the loop's thread cancels it.
        while self.packed:
            future = self.callback
            args = None if future is None else (future, None)
            context = PyContext_Copy(self.context)
            if self.packed and self.callback is future:
                self.packed = False
                self.args = args
                if future is not None:
                    self.callback = _set_result_unless_cancelled
                self.context = context
        return 0

    @cython.cfunc
    def info(self) -> list:
        info = Handle.info(self)
        info.insert(2 if self.is_cancelled else 1, f"when={self.when()}")
        return info

    def __hash__(self):
        return hash(self.when())

    def __lt__(self, other):
        if isinstance(other, _asyncio_timer_handle):
            return self.when() < other.when()
        return NotImplemented

    def __le__(self, other):
        if isinstance(other, _asyncio_timer_handle):
            return self.when() < other.when() or self == other
        return NotImplemented

    def __gt__(self, other):
        if isinstance(other, _asyncio_timer_handle):
            return self.when() > other.when()
        return NotImplemented

    def __ge__(self, other):
        if isinstance(other, _asyncio_timer_handle):
            return self.when() > other.when() or self == other
        return NotImplemented

    def __eq__(self, other):
        if isinstance(other, _asyncio_timer_handle):
            return (
                self.when() == other.when()
                and self._callback == other._callback
                and self._args == other._args
                and self.is_cancelled == other._cancelled
            )
        return NotImplemented


@cython.final
@cython.cclass
class Timers:
    """A heap of timer handles; the one with the earliest deadline is on top."""

    def __dealloc__(self):
        self.drop_all()
        PyMem_Free(self.heap)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, handle: TimerHandle | None) -> cython.int:
        entry: Entry
        if self.count == self.capacity:
            capacity: cython.Py_ssize_t = self.capacity * 2 or 64
            heap = cython.cast(
                cython.pointer[Entry],
                PyMem_Realloc(self.heap, capacity * cython.sizeof(Entry)),
            )
            if heap is cython.NULL:
                raise MemoryError
            self.heap = heap
            self.capacity = capacity
        entry.deadline = handle.deadline
        if entry.deadline != entry.deadline:  # NaN compares with nothing: run it at once
            entry.deadline = NEVER_WAIT
        entry.number = self.next_number
        entry.handle = own(handle)
        self.next_number += 1
        handle.timers = self
        self.count += 1
        self.sift_up(self.count - 1, entry)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_cancel(self, handle: TimerHandle | None) -> cython.int:
        """Count a cancelled entry. Take it out at once if it is easy to reach, and sweep when most are
        cancelled.
        """
        if self.count > 0 and self.heap[self.count - 1].handle == ref(handle):
            self.count -= 1
            handle.timers = None
            Py_DECREF(ref(handle))
            return 0
        self.cancelled += 1
        if self.cancelled > COMPACT_FROM and self.cancelled * 2 > self.count:
            self.compact()
        return 0

    @cython.cfunc
    def pop(self) -> TimerHandle:
        """Take the top out of the heap, which must not be empty."""
        handle: TimerHandle = take(self.heap[0].handle)
        self.count -= 1
        if self.count:
            self.sift_down(0, self.heap[self.count])
        handle.timers = None
        return handle

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_cancelled(self) -> cython.int:
        """Take cancelled handles off the top, so that the loop sleeps until a timer that will run."""
        while self.cancelled and self.count:
            if not cython.cast(TimerHandle, self.heap[0].handle).is_cancelled:
                break
            self.cancelled -= 1
            self.pop()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def compact(self) -> cython.int:
        """Take all cancelled handles out."""
        kept: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        dead = []
        for i in range(self.count):
            if cython.cast(TimerHandle, self.heap[i].handle).is_cancelled:
                handle: TimerHandle = take(self.heap[i].handle)
                handle.timers = None
                dead.append(handle)  # free it only when the heap is whole again
            else:
                self.heap[kept] = self.heap[i]
                kept += 1
        self.count = kept
        self.cancelled = 0
        i = (kept - 2) // ARITY if kept > 1 else -1
        while i >= 0:
            self.sift_down(i, self.heap[i])
            i -= 1
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def give_back(self) -> cython.int:
        """Give memory back that was needed for many more entries."""
        capacity: cython.Py_ssize_t = max(2 * self.count, 64)
        if capacity * 4 > self.capacity:
            return 0
        heap = cython.cast(
            cython.pointer[Entry], PyMem_Realloc(self.heap, capacity * cython.sizeof(Entry))
        )
        if heap is not cython.NULL:
            self.heap = heap
            self.capacity = capacity
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def sift_up(self, i: cython.Py_ssize_t, entry: Entry) -> cython.int:
        parent: cython.Py_ssize_t
        while i > 0:
            parent = (i - 1) // ARITY
            if not _before(entry, self.heap[parent]):
                break
            self.heap[i] = self.heap[parent]
            i = parent
        self.heap[i] = entry
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def sift_down(self, i: cython.Py_ssize_t, entry: Entry) -> cython.int:
        child: cython.Py_ssize_t
        last: cython.Py_ssize_t
        best: cython.Py_ssize_t
        while True:
            child = i * ARITY + 1
            if child >= self.count:
                break
            last = min(child + ARITY, self.count)
            best = child
            child += 1
            while child < last:
                if _before(self.heap[child], self.heap[best]):
                    best = child
                child += 1
            if not _before(self.heap[best], entry):
                break
            self.heap[i] = self.heap[best]
            i = best
        self.heap[i] = entry
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def drop_all(self) -> cython.int:
        """Forget every timer."""
        handle: Ref
        while self.count:
            self.count -= 1
            handle = self.heap[self.count].handle
            cython.cast(TimerHandle, handle).timers = None
            Py_DECREF(handle)
        self.cancelled = 0
        return 0

    def __len__(self):
        return self.count

    def __iter__(self):
        """Iterate over the handles in the heap in no particular order, including cancelled ones."""
        i: cython.Py_ssize_t
        return iter([cython.cast(object, self.heap[i].handle) for i in range(self.count)])


@cython.cfunc
def new_timer(
    deadline: cython.double, when_given, callback, args: tuple, context, loop
) -> TimerHandle:
    """Make a timer handle that is in no heap yet; `context` None means a copy of the current one."""
    spare: Ref = hoop_revive(cython.address(spare_timers))
    handle: TimerHandle = TimerHandle.__new__(TimerHandle) if spare is cython.NULL else take(spare)
    handle.callback = callback
    handle.args = args
    handle.context = PyContext_CopyCurrent() if context is None else context
    handle.loop = loop
    handle.deadline = deadline
    handle.when_given = when_given
    return handle


@cython.cfunc
def new_expiry(deadline: cython.double, when_given, future: Runnable, context, loop) -> TimerHandle:
    """Make a timer that calls asyncio's function for the end of a sleep, with this future and None.

    It does so in C, and in no context. unpack() makes what asyncio's own handle would have. `context` is a
    copy of the current context, in which nothing runs: it may be that of several timers.
    """
    handle: TimerHandle = new_timer(deadline, when_given, future, None, context, loop)
    handle.packed = True
    return handle


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _before(a: Entry, b: Entry) -> cython.bint:
    if a.deadline != b.deadline:
        return a.deadline < b.deadline
    return a.number < b.number


_timers_traverse = cython.declare(traverseproc, cython.NULL)
_timers_clear = cython.declare(inquiry, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def timers_traverse(t: Timers | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    i: cython.Py_ssize_t
    error: cython.int
    for i in range(t.count):
        error = hoop_visit(t.heap[i].handle, visit, arg)
        if error:
            return error
    return _timers_traverse(ref(t), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def timers_clear(t: Timers | None) -> cython.int:
    t.drop_all()
    return _timers_clear(ref(t))


_timers_traverse = hoop_swap_traverse(Timers, cython.cast(traverseproc, timers_traverse))
_timers_clear = hoop_swap_clear(Timers, cython.cast(inquiry, timers_clear))


spare_timers = cython.declare(hoop_spares)
_timer_dealloc = cython.declare(destructor, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def timer_dealloc(o: Ref) -> cython.void:
    """tp_dealloc; see handle_dealloc."""
    if hoop_may_spare(cython.address(spare_timers), TimerHandle, o):
        empty_handle(o)
        cython.cast(TimerHandle, o).when_given = None
        cython.cast(TimerHandle, o).timers = None
        if hoop_spare(cython.address(spare_timers), o):
            return
    _timer_dealloc(o)


hoop_check_spared(TimerHandle)
_timer_dealloc = hoop_swap_dealloc(TimerHandle, cython.cast(destructor, timer_dealloc))
hoop_set_signature(TimerHandle, b"(when, callback, args, loop, context=None)")
