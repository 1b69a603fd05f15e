"""The loop's turn. calls.py has the calls that feed it.

One turn (`run_once`) sends the writes that were held back, and asks the driver. It puts the timers that are
due onto the ring, and runs what the ring then holds.

If the ring is empty, the loop sleeps in the driver until the next deadline. Otherwise it looks at the driver
without waiting. With io_uring two reads of memory tell each turn whether there is news. With epoll each look
is a system call, so a busy loop looks

- in the turn after it has sent something, which may be news to another descriptor of this loop;
- from the second turn after news for eight turns, then after twice as many turns each time, up to 64;
- at the latest after about 256 callbacks, or in every fourth turn if the coarse clock has moved on.

If a callback raises, the number of those that this turn has still to run is kept in `left`. The loop reports
the exception and goes on with the turn. KeyboardInterrupt and SystemExit leave the loop. Then the rest stays
on the ring for the next run.

`hoop.loop.EventLoop` adds the rest of asyncio's interface in ordinary Python.
"""

from __future__ import annotations

import asyncio
import os
import sys

import cython
from cython.cimports.cpython.object import PyObject_GenericSetAttr
from cython.cimports.cpython.unicode import PyUnicode_READ_CHAR
from cython.cimports.hoop._c.linux import hoop_now_ns, hoop_processors, hoop_tick
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    Py_XDECREF,
    PyErr_CheckSignals,
    PyThread_get_thread_ident,
    Ref,
    hoop_may_have_changed,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_type_version,
    hoop_visit,
    inquiry,
    ref,
    take,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop._c.still import hoop_own_state
from cython.cimports.hoop._c.watch import hoop_thread_id
from cython.cimports.hoop.drivers.driver import Driver
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.insight.watcher import watching
from cython.cimports.hoop.loop.calls import LoopCalls
from cython.cimports.hoop.loop.reports import report_slow, to_show
from cython.cimports.hoop.net.endpoint import Endpoint
from cython.cimports.hoop.net.outbox import served
from cython.cimports.hoop.scheduling import task as task_module
from cython.cimports.hoop.scheduling.base import begin_turns, end_turns
from cython.cimports.hoop.scheduling.future import PENDING
from cython.cimports.hoop.scheduling.task import Task
from cython.cimports.hoop.scheduling.timers import TimerHandle

from hoop.loop import registry

# asyncio's own: a timer is due this many seconds early, and no wait is longer than a day.
CLOCK_RESOLUTION = cython.declare(cython.double, 1e-9)
LONGEST_WAIT = cython.declare(cython.double, 24 * 3600.0)
# Methods that the loop calls without a look at its attributes.
FOLLOWED = cython.declare(
    frozenset,
    frozenset(
        (
            *("time", "call_soon", "call_soon_threadsafe", "call_at", "call_later"),
            *("create_future", "create_task"),
        )
    ),
)
UNDERSCORE = cython.declare(cython.int, ord("_"))
# A loop that is about to sleep gives the memory of a ring or a heap for more entries than this back.
LARGE = cython.declare(cython.Py_ssize_t, 1 << 14)
LONGEST_LAG = cython.declare(cython.double, 3600.0)  # a timer that was later counts as late by this


@cython.cclass
class Loop(LoopCalls):
    """The compiled half of an event loop."""

    def __cinit__(self):
        self.see_class()

    def _set_driver(self, driver: Driver):
        """Give the loop its driver. Once, before anything else."""
        if self.driver is not None:
            raise RuntimeError("the loop has a driver already")
        self.driver = driver

    def _set_spin(self, spin_ns: cython.longlong):
        """Poll for up to `spin_ns` before the loop sleeps, while that is worth it."""
        self.driver.spin_ns = spin_ns
        self.driver.mean_wait_ns = spin_ns

    def _reserve_descriptors(self, fd: cython.int):
        """Hold numbers for the descriptors that the driver makes later. `fd` is the loop's own."""
        if self.driver is None:
            raise RuntimeError("a loop without a driver")
        error: cython.int = self.driver.reserve(fd)
        if error:
            raise_errno(-error)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def see_class(self) -> cython.int:
        """Find out which methods that the loop does not call by name are others than its own."""
        kind = type(self)
        self.own_clock = self.follows_clock or kind.time is not Loop.time
        self.own_soon = self.follows_soon or kind.call_soon is not Loop.call_soon
        self.class_version = hoop_type_version(kind)
        return 0

    def __setattr__(self, name, value):
        PyObject_GenericSetAttr(self, name, value)
        # If your code has replaced it on this loop, call it by name from now on.
        if PyUnicode_READ_CHAR(name, 0) != UNDERSCORE and name in FOLLOWED:
            if name == "time":
                self.own_clock = self.follows_clock = True
            elif name == "call_soon":
                self.own_soon = self.follows_soon = True
            else:
                self.own_methods = True

    def _driver_name(self):
        return None if self.driver is None else self.driver.name

    # ---- one turn ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_once(self) -> cython.int:
        count: cython.ulong
        self.turns += 1
        if self.dirty:
            self.flush_dirty()
        if self.head == self.tail and not self.stopping and not self.dirty:
            self.sleep()
        elif self.stopping or self.worth_a_look():
            self.look()
        if self.timers.count:
            self.queue_due_timers()
        if self.own_soon:
            self.announce_tasks()
        # The runnables that these put onto the ring wait for the next turn.
        count = self.tail - self.head
        if count > self.ready_max:
            self.ready_max = count
        self.unpolled += count + 3
        self.callbacks += count
        self.left = count
        if self.debug or self.lookers:
            return self.run_ready_watched()
        return self.run_ready()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def sleep(self) -> cython.int:
        """Wait in the kernel until there is something to do."""
        timeout_ns: cython.longlong = -1
        wait: cython.double
        tail: cython.ulong = self.tail
        if self.deaf:
            self.leave()  # what hears signals is not to keep the context of a task
            self.hear()
            if self.dirty:
                return 0
        if hoop_may_have_changed(type(self), self.class_version):
            self.see_class()
        self.leave()
        self.snapshot = None
        if self.timers.cancelled:
            self.timers.drop_cancelled()
        if self.timers.count:
            wait = self.timers.heap[0].deadline - self.now()
            if wait > LONGEST_WAIT:
                wait = LONGEST_WAIT
            timeout_ns = cython.cast(cython.longlong, wait * 1e9) + 1 if wait > 0 else 0
        # The lines above may have run finalisers, and those anything: look again. From here until
        # the driver lets go of the GIL nothing else can run, so no wake-up is lost.
        if self.head != self.tail or self.stopping:
            return 0
        if self.mask >= cython.cast(cython.ulong, LARGE):
            self.shrink_ring()
            tail = self.tail
        if self.timers.capacity > LARGE:
            self.timers.give_back()
        error: cython.int
        self.asleep = timeout_ns != 0
        began: cython.longlong = self.visit()
        try:
            error = self.driver.poll(self, timeout_ns)
        finally:
            self.asleep = False
            self.visited = self.stamp = hoop_now_ns()
            self.visited_in = self.turns
            self.idle_ns += self.stamp - began
        if error:
            return self.replace_driver(error)
        self.unpolled = 0
        if not self.driver.announces:
            self.look_at = 0  # even if only a timer ended it
            self.plan_look(self.tail != tail)
        # A signal may have come with other news, and the kernel then does not say so. If its handler raises,
        # that is to leave the loop: in a callback it would be taken for that callback's.
        return PyErr_CheckSignals()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hear(self) -> cython.int:
        """Before the first sleep: see that signals end it. One that has come already runs its handler now."""
        self.deaf = False
        cython.cast(object, self)._watch_signals()
        return PyErr_CheckSignals()

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def hear_early(self) -> cython.int:
        """Run the handler of a signal that has come, if no signal wakes this loop yet."""
        return PyErr_CheckSignals() if self.deaf else 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def look(self) -> cython.int:
        """Ask the driver without waiting, if it may have something."""
        tick: cython.longlong
        error: cython.int
        tail: cython.ulong = self.tail
        if self.driver.announces or self.stopping:
            self.hear_early()
            self.unpolled = 0
            self.visit()
            error = self.driver.poll(self, 0)
            return self.replace_driver(error) if error else 0
        if self.unpolled < LOOK_AFTER and self.turns < self.look_at:
            tick = hoop_tick()
            if tick == self.tick:
                return 0
            self.tick = tick
        self.hear_early()
        self.unpolled = 0
        self.visit()
        self.driver.poll(self, 0)
        return self.plan_look(self.tail != tail)

    @cython.cfunc
    @cython.exceptval(check=False)
    def plan_look(self, news: cython.bint) -> cython.int:
        """When to look next, should the loop be busy until then.

        The turn after some news is that of the tasks which they woke: it need not look.
        """
        turns: cython.ulong = 1
        if news:
            self.in_vain = 0
            turns = 2
        elif self.look_at == 0:
            self.in_vain = 0
        elif self.in_vain < LOOKS_IN_A_ROW:
            self.in_vain += 1
        else:
            turns = 2 * self.turns_between
            if turns > TURNS_BETWEEN_LOOKS:
                turns = TURNS_BETWEEN_LOOKS
        self.turns_between = turns
        self.look_at = self.turns + turns
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue_due_timers(self) -> cython.int:
        handle: TimerHandle
        now: cython.double = self.now()
        late: cython.double = now - self.timers.heap[0].deadline
        self.snapshot = None  # its variables may be nobody's any more
        while self.timers.count and self.timers.heap[0].deadline <= now + CLOCK_RESOLUTION:
            handle = self.timers.pop()
            if handle.is_cancelled:
                self.timers.cancelled -= 1
            else:
                self.push(handle)
                late = now - handle.deadline
                self.timer_lag.add(cython.cast(cython.longlong, min(late, LONGEST_LAG) * 1e9))
                if late > self.lag_max:
                    self.lag_max = late
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def announce_tasks(self) -> cython.int:
        """Give the steps of the tasks on the ring to call_soon(), which somebody has replaced.

        push() does not do so itself, because it has to cost nothing for loops whose call_soon() is their own.
        """
        count: cython.ulong = self.tail - self.head
        while count and self.head != self.tail:
            count -= 1
            r: Runnable = take(self.ring[self.head & self.mask])
            self.head += 1
            if not r.is_task:
                self.push(r)
            elif cython.cast(Task, r).state == PENDING:
                self.call_soon(
                    cython.cast(object, r)._step_here, context=cython.cast(Task, r).context
                )
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_ready(self) -> cython.int:
        """Run the next `left` runnables. The only place where anything is run.

        If one raises, it stays in `running` and the rest in `left`: see recover().
        """
        r: Ref
        while self.left:
            self.left -= 1
            r = self.ring[self.head & self.mask]
            self.head += 1
            self.running = r
            if self.entered is not cython.NULL and not cython.cast(Runnable, r).is_task:
                self.leave_task()
            cython.cast(Runnable, r).run()
            if self.attends:
                served(self)
            self.running = cython.NULL
            Py_DECREF(r)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_ready_watched(self) -> cython.int:
        """run_ready with a clock read after each one: in debug mode, or while measuring."""
        r: Ref
        now: cython.longlong = hoop_now_ns()
        began: cython.longlong
        seconds: cython.double
        while self.left:
            self.left -= 1
            r = self.ring[self.head & self.mask]
            self.head += 1
            self.running = r
            if self.entered is not cython.NULL and not cython.cast(Runnable, r).is_task:
                self.leave_task()
            began = self.lap_began_ns = now
            self.lap_max_ns = 0
            if self.lookers:
                self.stamp = now
                if cython.cast(Runnable, r).is_task:
                    cython.cast(Task, r).note_begin(now)
            self.slowest = None
            try:
                cython.cast(Runnable, r).run()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as exc:
                self.report(cython.cast(Runnable, r).failure(exc))
            now = hoop_now_ns()
            if self.lookers:
                self.note_end(r, began, now)
            seconds = (now - began) * 1e-9
            if self.debug and seconds >= self.slow_callback_duration:
                report_slow(cython.cast(Runnable, r), self.slowest, seconds)
                self.slowest = None
            if self.attends:
                served(self)
            self.end_running()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note_end(self, r: Ref, began: cython.longlong, now: cython.longlong) -> cython.int:
        """While measuring: a runnable has run, from one time to another."""
        took: cython.longlong = now - began
        if cython.cast(Runnable, r).is_task:
            cython.cast(Task, r)._busy_ns += took
            cython.cast(Task, r).left_at = now
        else:
            kind = type(cython.cast(Runnable, r))
            if self.busy_kind is not kind:
                self.count_busy(kind)
            self.busy_ns += took
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def recover(self, exc) -> cython.int:
        """After an exception in a turn: report it if a runnable raised it, and go on."""
        self.leave()
        if self.running is cython.NULL:
            raise exc  # the driver's, or our own
        failed: Runnable = cython.cast(Runnable, self.running)
        try:
            self.report(failed.failure(exc))
        finally:
            self.end_running()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def report(self, context) -> cython.int:
        """Call the exception handler, after sending the writes that wait for other connections."""
        self.timed = None
        if self.waiting:
            self.flush_waiting()
        self.call_exception_handler(context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_running(self) -> cython.int:
        r: Ref = self.running
        self.running = cython.NULL
        Py_XDECREF(r)
        return 0

    @property
    def _current_handle(self):
        """In debug mode, the handle or task that asyncio's exception handlers may look at. Never an op."""
        if not self.debug or self.running is cython.NULL:
            return None
        return to_show(cython.cast(Runnable, self.running))

    @_current_handle.setter
    def _current_handle(self, value):
        """asyncio's constructor sets it to None."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_turns(self, only_one: cython.bint) -> cython.int:
        """Take turns until stop(), or just one. Keeps going when a runnable raises."""
        if self.turning:
            raise RuntimeError("The loop is in the middle of a turn")
        self.check_driver()
        self.begin()
        self.turning = True
        begin_turns(self)
        try:
            while True:
                try:
                    if self.left:  # what an exception has cut short
                        self.run_ready()
                        if self.stopping or only_one:
                            return 0
                    while True:
                        self.run_once()
                        if self.stopping or only_one:
                            return 0
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as exc:
                    self.recover(exc)
                if self.left == 0 and (self.stopping or only_one):
                    return 0
        finally:
            self.turning = False
            end_turns()
            self.tid = 0
            self.left = 0
            self.end_running()
            self.leave()
            if not self.closed:
                try:
                    self.flush_dirty()  # nothing waits while the loop does not run
                finally:
                    self.driver.rest(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self) -> cython.int:
        """Get ready for turns: a driver that cannot serve this thread is replaced."""
        error: cython.int = self.driver.begin(self)
        if error:
            self.replace_driver(error)
        if self.driver.spin_ns:
            self.driver.may_spin = hoop_processors() > 1
        self.see_class()
        self.visited = self.stamp = hoop_now_ns()
        self.visited_in = self.turns
        self.thread_state = hoop_own_state()
        self.tid = hoop_thread_id()
        if watching:
            self._watch()
        self.unpolled = LOOK_AFTER  # the first turn asks the driver, whatever waits
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def replace_driver(self, error: cython.int) -> cython.int:
        """The driver cannot serve this thread. Another one takes over what was asked of it."""
        op: Op
        old: Driver = self.driver
        armed: list = old.take_armed()
        old.close()
        self.driver = self._new_driver(error)
        self._set_spin(old.spin_ns)
        self.driver.may_spin = old.may_spin
        self.driver.begin(self)
        for op in armed:
            self.driver.submit(op)
        return 0

    def _run_once(self):
        """Take one turn, for code that drives the loop by hand."""
        self.take_turns(True)

    def _is_inherited(self):
        """Whether the loop was made before a fork: it cannot run in the child."""
        return self.driver is not None and self.driver.inherited()

    def _check_inherited(self):
        self.check_driver()
        if self._is_inherited() and not self.ends_in_child:
            leaving = sys.exc_info()[1]
            if isinstance(leaving, (SystemExit, KeyboardInterrupt)):
                raise leaving  # a Runner wants to clean up while the child ends: that goes on
            raise RuntimeError("This event loop was made before a fork and cannot run in the child")

    def _run_turns(self):
        """Take turns until stop()."""
        self.thread = PyThread_get_thread_ident()
        self.deaf = True
        try:
            self.take_turns(False)
        finally:
            self.stopping = self.deaf = False
            self.thread = 0

    def stop(self):
        """Stop running after this turn."""
        self.stopping = True

    # ---- transports ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        """Send all held writes now."""
        self.flush_dirty()
        for transport in list(self.transports.values()):
            if isinstance(transport, Endpoint):
                cython.cast(Endpoint, transport).send_held()
        return self.driver.tell()

    def _transport_of(self, fd):
        """The open transport that owns a descriptor, or None."""
        return self.transports.get(fd)

    def _open_transports(self):
        """The open native transports."""
        return list(self.transports.values())

    def _operations(self):
        """The ops that the driver watches for or works on."""
        return [] if self.driver is None else self.driver.operations()

    def _set_transport(self, fd, transport):
        """Note who owns a descriptor; None while it is lent out."""
        if transport is None:
            self.transports.pop(fd, None)
        elif transport._sock_fd == fd:
            self.transports[fd] = transport

    # ---- state ----

    def _check_may_close(self):
        if self.thread or self.turning:  # by run_forever(), or by hand
            raise RuntimeError("Cannot close a running event loop")

    def _unfinished_tasks(self) -> list:
        """The native tasks that have not ended. From any thread."""
        found = []
        t: Ref = self.first_task
        while t is not cython.NULL:
            found.append(cython.cast(object, t))
            t = cython.cast(Task, t).next_task
        return found

    def _read_tasks(self, after, look: cython.uint, most: cython.Py_ssize_t) -> list:
        """Read the numbers of unfinished tasks that this look of an observer has not seen. From any thread.

        It goes on after the task `after`, or from the first one if that is None, or has ended meanwhile. It
        may read fewer tasks than there are, but not none. There is a tuple for each: the task, its number,
        its steps, when it was made, and since when it waits or is ready. Then follow the future that it waits
        for, or None, the nanoseconds that it was busy, ready and waiting, and the number of its site.
        """
        found = []
        t: Ref = self.first_task
        if after is not None and cython.cast(Task, after).listed:
            t = cython.cast(Task, after).next_task
        while t is not cython.NULL and most > 0:
            task: Task = cython.cast(Task, t)
            if task.seen == look:
                t = task.next_task
                continue
            task.seen = look
            most -= 1
            found.append(
                (
                    task,
                    task.serial,
                    task._polls,
                    task.born,
                    task.since,
                    None
                    if task.fut_waiter is cython.NULL
                    else cython.cast(object, task.fut_waiter),
                    task._busy_ns,
                    task.scheduled_ns,
                    task.waited_ns,
                    task.site,
                )
            )
            t = task.next_task  # not before: that may have run finalisers
        return found

    @staticmethod
    def _next_serial() -> int:
        """A number for a task of another class. No task of hoop's has it."""
        task_module.tasks_linked += 1
        return task_module.tasks_linked

    def _release(self):
        """The last part of close(): let go of everything queued, watched and kept."""
        self.closed = True
        self.leave_watch()
        self.drop_ready()
        self.timers.drop_all()
        self.snapshot = None
        self.dirty.clear()
        if self.driver is not None:
            self.driver.close()
        self.close_socket_table()
        # Transports left open are let go of: unless somebody else keeps one, it closes its descriptor
        # and complains.
        for transport in self._open_transports():
            transport._let_go()
        self.transports.clear()
        self.watched.clear()
        self._let_go_of_tasks()

    def _let_go_of_tasks(self):
        """Keep the unfinished tasks no longer. Those that nobody else keeps are freed, and complain."""
        for task in self._unfinished_tasks():
            cython.cast(Task, task).unlink()


# ---- forks -------------------------------------------------------------------------------------------


def _send_before_fork():
    """Send held writes before a fork.

    Otherwise both processes would send them, and the parent may then block on the child.
    """
    running = asyncio._get_running_loop()
    if isinstance(running, Loop):
        loop: Loop = running
        if loop.running is not cython.NULL and not loop.closed:
            loop.send_held()


def _let_it_end():
    """In the child: the loop whose callback has forked may run until that has ended, as on asyncio."""
    loop: Loop
    for loop in registry.living():
        if loop.thread == PyThread_get_thread_ident():
            loop.ends_in_child = True
            loop.current_is_forgotten = (
                loop.current_tasks is None and loop.entered is not cython.NULL
            )


os.register_at_fork(before=_send_before_fork, after_in_child=_let_it_end)

# ---- the list of tasks, shown to the garbage collector ------------------------------------------------

_loop_traverse = cython.declare(traverseproc, cython.NULL)
_loop_clear = cython.declare(inquiry, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def loop_traverse(loop: Loop | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    error: cython.int
    t: Ref = loop.first_task
    while t is not cython.NULL:
        error = hoop_visit(t, visit, arg)
        if error:
            return error
        t = cython.cast(Task, t).next_task
    return _loop_traverse(ref(loop), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def loop_clear(loop: Loop | None) -> cython.int:
    while loop.first_task is not cython.NULL:
        cython.cast(Task, loop.first_task).unlink()
    return _loop_clear(ref(loop))


_loop_traverse = hoop_swap_traverse(Loop, cython.cast(traverseproc, loop_traverse))
_loop_clear = hoop_swap_clear(Loop, cython.cast(inquiry, loop_clear))
