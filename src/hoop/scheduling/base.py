"""The part of the event loop that futures, tasks and transports use: queue, timers, driver, current task.

This part does not run the loop: `hoop.loop.turn` does. So the classes that the loop runs can be compiled
before it.

The loop owns its open transports (`transports`), its unfinished tasks (a list linked through them, from
`first_task` on), and the buffers that all its connections receive into, one after the other.

`asyncio.current_task()` is kept right lazily. The loop enters a task before its step, and does not leave it
after the step. It leaves when something other than that task is about to run, and before it sleeps.
"""

from __future__ import annotations

import asyncio.tasks
import contextvars
import sys

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.linux import hoop_now_ns
from cython.cimports.hoop._c.observe import IN_KERNEL
from cython.cimports.hoop._c.python import (
    PyContext_Enter,
    PyContext_Exit,
    PyDict_DelItem,
    PyDict_SetItem,
    PyErr_Clear,
    PyList_GET_ITEM,
    PyThread_get_thread_ident,
    Ref,
    hoop_is_method_of,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_take_exception,
    hoop_visit,
    inquiry,
    ref,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop._c.uring import OP_SEND
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.drivers.ready import ReadyRing, Runnable
from cython.cimports.hoop.insight.watcher import unwatch_loop, watch_loop
from cython.cimports.hoop.scheduling.handle import Handle, new_handle
from cython.cimports.hoop.scheduling.histogram import Histogram
from cython.cimports.hoop.scheduling.timers import Timers

# Python 3.14 keeps the current task in the thread's state. This function changes it.
_swap_current_task = cython.declare(object, getattr(asyncio.tasks, "_swap_current_task", None))


def _current_tasks_dict():
    """Return asyncio's own dictionary of current tasks by loop.

    None from Python 3.14 on, where only asyncio's Python code uses it.
    """
    return asyncio.tasks._current_tasks if sys.version_info < (3, 14) else None


_current_tasks = cython.declare(dict, _current_tasks_dict())

# A program may make asyncio's tasks by hand. Each step of one is a method of the task on the ready ring.
_asyncio_task = cython.declare(object, asyncio.tasks.Task)


turning_loops = cython.declare(cython.int, 0)


@cython.cfunc
@cython.exceptval(check=False)
def begin_turns(loop: LoopBase | None) -> cython.int:
    """A loop takes turns from now on, perhaps while others do so in other threads."""
    global turning, turning_loops
    turning_loops += 1
    turning = ref(loop) if turning_loops == 1 else cython.NULL
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def end_turns() -> cython.int:
    """A loop takes no more turns. If others do, nobody knows which."""
    global turning, turning_loops
    turning_loops -= 1
    turning = cython.NULL
    return 0


@cython.cfunc
def as_native(loop) -> LoopBase:
    """Return the loop if it is hoop's, else None. It looks at the true type, which no mock can change."""
    return cython.cast(LoopBase, loop) if isinstance(loop, LoopBase) else None


@cython.cfunc
def swap_current_task(loop, task) -> object:
    """Make `task` (or None) the current one; returns the one before."""
    if _current_tasks is None:
        return _swap_current_task(loop, task)
    previous = _current_tasks.get(loop)
    if task is None:
        _current_tasks.pop(loop, None)
    else:
        _current_tasks[loop] = task
    return previous


@cython.cclass
class LoopBase(ReadyRing):
    """The fields and methods of the loop that compiled objects use."""

    def __cinit__(self):
        self.timers = Timers()
        self.dirty = []
        self.flushing = []
        self.transports = {}
        self.current_tasks = _current_tasks
        self.wake_context = contextvars.Context()
        self.visits = Histogram()
        self.timer_lag = Histogram()
        self.busy = {}
        self.born = self.stamp = hoop_now_ns()

    def __dealloc__(self):
        self.leave_watch()
        PyMem_Free(self.scratch)
        PyMem_Free(self.datagrams)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_task(self, task: Ref, context: Ref) -> cython.int:
        """Make a task the current one, and enter its context in this thread."""
        if self.entered is not cython.NULL:
            self.leave_context()
        if self.current_tasks is None:  # fails in a child that was forked by a callback
            _swap_current_task(self, cython.cast(object, task))
        else:
            PyDict_SetItem(ref(self.current_tasks), ref(self), task)
        if PyContext_Enter(context) < 0:
            exc = hoop_take_exception()
            self.forget_current()
            raise exc
        self.entered = task
        self.entered_context = context
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_task(self) -> cython.int:
        """Leave the current task and its context."""
        self.leave_context()
        return self.forget_current()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_context(self) -> cython.int:
        self.entered = cython.NULL
        if PyContext_Exit(self.entered_context) < 0:
            # C code of the task has entered another context. The next callback is not to blame, so only
            # report it.
            context = {"message": "A task left another context entered"}
            context["exception"] = hoop_take_exception()
            self.call_exception_handler(context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget_current(self) -> cython.int:
        if self.current_is_forgotten:
            self.current_is_forgotten = False
        elif self.current_tasks is None:
            _swap_current_task(self, None)
        elif PyDict_DelItem(ref(self.current_tasks), ref(self)) < 0:
            PyErr_Clear()  # somebody called asyncio's _leave_task() by hand, so the entry is gone already
        return 0

    @cython.cfunc
    def soon(self, callback, args: tuple, context) -> Handle:
        """call_soon() without its checks; `context` None means a copy of the current one."""
        handle: Handle = new_handle(callback, args, context, self)
        self.push(handle)
        return handle

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def mark_dirty(self, op: Op) -> cython.int:
        self.dirty.append(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unmark_dirty(self, op: Op) -> cython.int:
        """Take an op that has nothing left to send off the list, if it is the last one there.

        Elsewhere in the list it may stay, as flushing it does nothing.
        """
        n: cython.Py_ssize_t = len(self.dirty)
        if n and PyList_GET_ITEM(self.dirty, n - 1) == ref(op):
            self.dirty.pop()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_dirty(self) -> cython.int:
        """Let every op on the dirty list send. If they write more meanwhile, the next call sends it."""
        op: Op
        ops: list = self.dirty
        self.dirty = self.flushing
        self.flushing = ops
        done: cython.Py_ssize_t = 0
        self.waiting = 0
        self.replies_wait = False
        self.together = len(ops) > 1 and self.driver.supports_call(OP_SEND)
        try:
            for op in ops:
                done += 1
                op.flush()
        finally:
            self.together = False
            if done < len(ops):  # a BaseException ended the loop: flush the other ops the next time
                self.dirty.extend(ops[done:])
            ops.clear()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_waiting(self) -> cython.int:
        """Send the writes that waited for other connections."""
        self.flushing_at = hoop_now_ns()
        try:
            self.flush_dirty()
        finally:
            self.flushing_at = 0
        if self.left:  # otherwise the loop asks the driver next anyway
            return self.driver.tell()
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def steps_for_reply(self, r: Ref, i: cython.ulong) -> cython.bint:
        """Whether `r`, at `i` on the ready ring, is a step of a task that received data has woken or
        started.
        """
        if i - self.woken_from >= self.woken_to - self.woken_from:
            return False
        runnable: Runnable = cython.cast(Runnable, r)
        if type(runnable) is Handle:
            return hoop_is_method_of(ref(cython.cast(Handle, runnable).callback), _asyncio_task)
        return runnable.is_task

    def _watch(self):
        """Have the watcher look at this loop, until it is closed."""
        if self.watch_number == 0 and not self.closed:
            self.watch_number = watch_loop(
                cython.address(self.in_wait),
                cython.address(self.tid),
                cython.address(self.turns),
                cython.address(self.head),
                cython.address(self.visited),
                cython.address(self.visited_in),
                cython.address(self.thread_state),
                cython.cast(cython.pointer[cython.p_void], cython.address(self.running)),
            )

    @cython.cfunc
    @cython.exceptval(check=False)
    def leave_watch(self) -> cython.int:
        if self.watch_number:
            unwatch_loop(self.watch_number)
            self.watch_number = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_open(self) -> cython.int:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_thread(self) -> cython.int:
        """In debug mode: refuse calls from a thread that does not run this loop."""
        if self.thread and self.thread != PyThread_get_thread_ident():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lap(self, called) -> cython.int:
        """Measure, in debug mode, how long a function of the user's took. One callback may call several."""
        now: cython.longlong = hoop_now_ns()
        took: cython.longlong = now - self.lap_began_ns
        self.lap_began_ns = now
        if took > self.lap_max_ns:
            self.lap_max_ns = took
            self.slowest = called
        return 0

    @cython.cfunc
    def scratch_buffer(self) -> cython.p_char:
        if self.scratch is cython.NULL:
            self.scratch = cython.cast(cython.p_char, PyMem_Malloc(SCRATCH_BYTES))
            if self.scratch is cython.NULL:
                raise MemoryError
        return self.scratch

    @cython.cfunc
    def datagram_buffer(self, size: cython.size_t) -> cython.p_void:
        if self.datagrams is cython.NULL:
            self.datagrams = PyMem_Malloc(size)
            if self.datagrams is cython.NULL:
                raise MemoryError
        return self.datagrams

    def get_measuring(self):
        """Return whether the loop measures how long each task keeps it busy."""
        return self.lookers != 0

    def set_measuring(self, enabled: cython.bint):
        """Measure how long each task keeps the loop busy, and note where tasks are made.

        hoop.observe.snapshot() shows both. It costs a reading of the clock for each callback. While a client
        of the observer looks, the loop measures in any case.

            loop.set_measuring(True)
        """
        if enabled != self.measures:
            self.measures = enabled
            self._measure(enabled)

    # ---- for tools that observe; without the underscore a program could not use the names itself ----

    @property
    def _current_runnable(self):
        """The task, handle or op that the loop is running; None between two of them."""
        return None if self.running is cython.NULL else cython.cast(object, self.running)

    def counters(self) -> dict:
        """Return counters of what the loop did since it was made.

            turns               iterations of the loop
            callbacks           handles, task steps and operations that it ran
            ready_max           the longest queue with which an iteration began
            sleeps, wakes       how often it waited in the kernel, and how often another thread woke it
            spins               how often it looked for events again and again before it would have slept
            spins_in_vain       how often that found nothing
            lag_max             seconds by which the latest timer was late

        The loop never resets them.
        """
        return {
            "turns": self.turns,
            "callbacks": self.callbacks,
            "ready": self.tail - self.head,
            "ready_max": self.ready_max,
            "sleeps": 0 if self.driver is None else self.driver.waits,
            "wakes": 0 if self.driver is None else self.driver.wakes,
            "spins": 0 if self.driver is None else self.driver.spins,
            "spins_in_vain": 0 if self.driver is None else self.driver.spins_in_vain,
            "lag_max": self.lag_max,
            "timers": len(self.timers),
            "transports": len(self.transports),
        }

    @property
    def _turns(self):
        return self.turns

    @property
    def _born(self):
        return self.born

    def _measure(self, on: cython.bint):
        """One looks at what the loop measures from now on, or no longer."""
        if on:
            if self.lookers == 0:
                self.measured_from = hoop_now_ns()
            self.lookers += 1
        elif self.lookers:
            self.lookers -= 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count_busy(self, kind) -> cython.int:
        """A runnable of another class has run: count what those of the last one have used."""
        if self.busy_kind is not None:
            self.busy[self.busy_kind] = self.busy.get(self.busy_kind, 0) + self.busy_ns
        self.busy_kind = kind
        self.busy_ns = 0
        return 0

    @property
    def _watch_number(self):
        return self.watch_number

    def statistics(self) -> dict:
        """Return what the loop counts beside counters(), since it was made. For tools that observe it.

            visits, timer_lag   Histograms: times between two visits to the driver, and lateness of timers
            idle_ns, stamp      nanoseconds asleep in the driver, and the time of the last visit to it
            born                when the loop was made; both times are those of time.monotonic_ns()
            tasks               how many were made; ended; of those, failed; and were cancelled
            bytes_in, bytes_out by connections and datagrams
            accepted, refused   connections taken from the kernel; and those that could not be served
            driver              numbers of the driver: see Driver.statistics()
            busy                nanoseconds by class of what ran and was no task, while the loop measured

        A *visit* is a chance for an event to be seen. So the time between two is what an event may have to
        wait. A busy loop on io_uring reads no clock at most visits, but one for 256 callbacks at least.
        """
        asleep: cython.longlong = hoop_now_ns() - self.visited if self.in_wait == IN_KERNEL else 0
        self.count_busy(None)
        return {
            "visits": self.visits,
            "timer_lag": self.timer_lag,
            "idle_ns": self.idle_ns + asleep,
            "stamp": self.visited,
            "born": self.born,
            "tasks": {
                "made": self.tasks_made,
                "ended": self.tasks_ended,
                "failed": self.tasks_failed,
                "cancelled": self.tasks_cancelled,
            },
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "accepted": self.accepted,
            "refused": self.refused,
            "busy": dict(self.busy),
            "driver": {} if self.driver is None else self.driver.statistics(),
        }


# ---- the ring's references, shown to the garbage collector ---------------------------------------

_loop_traverse = cython.declare(traverseproc, cython.NULL)
_loop_clear = cython.declare(inquiry, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def loop_traverse(loop: LoopBase | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    error: cython.int
    i: cython.ulong = loop.head
    while i != loop.tail:
        error = hoop_visit(loop.ring[i & loop.mask], visit, arg)
        if error:
            return error
        i += 1
    return _loop_traverse(ref(loop), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def loop_clear(loop: LoopBase | None) -> cython.int:
    loop.drop_ready()
    return _loop_clear(ref(loop))


_loop_traverse = hoop_swap_traverse(LoopBase, cython.cast(traverseproc, loop_traverse))
_loop_clear = hoop_swap_clear(LoopBase, cython.cast(inquiry, loop_clear))
