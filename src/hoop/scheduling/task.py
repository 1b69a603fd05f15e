"""Tasks: coroutines driven step by step. See asyncio.Task, whose behaviour this follows.

A step sends None into the coroutine. The object that it yields says what to do. If that is a future of this
loop, the task becomes its waiter. None means "again next turn". A woken task goes onto the ready ring itself.

A loop owns its unfinished tasks, so a task that nobody else holds still finishes. Dropping the loop drops
them, and each complains.

On a loop that is not ours a task steps through `call_soon`, as asyncio's own does.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from asyncio import base_tasks, coroutines, events, format_helpers, tasks

import cython
from cython.cimports.cpython.object import PyTypeObject
from cython.cimports.hoop._c.linux import hoop_now_ns
from cython.cimports.hoop._c.python import (
    PYGEN_ERROR,
    PYGEN_NEXT,
    PYGEN_RETURN,
    Py_DECREF,
    Py_None,
    Py_TYPE,
    Py_XDECREF,
    PyContext_CopyCurrent,
    PyContext_Exit,
    PyIter_Send,
    PyObject_CallFinalizerFromDealloc,
    PyObject_CallMethodOneArg,
    PyObject_GC_UnTrack,
    PySendResult,
    Ref,
    destructor,
    enter_context,
    hoop_check_spared,
    hoop_free,
    hoop_may_spare,
    hoop_revive,
    hoop_set_await,
    hoop_set_dictoffset,
    hoop_set_iternext,
    hoop_set_signature,
    hoop_show_method_as,
    hoop_spare,
    hoop_spares,
    hoop_stop_value,
    hoop_swap_clear,
    hoop_swap_dealloc,
    hoop_swap_traverse,
    hoop_take_exception,
    hoop_visit,
    inquiry,
    is_error,
    iternextfunc,
    own,
    ref,
    take,
    traverseproc,
    unaryfunc,
    visitproc,
)
from cython.cimports.hoop.insight.sites import note_site, place_of, recording, sites
from cython.cimports.hoop.scheduling.base import LoopBase, swap_current_task
from cython.cimports.hoop.scheduling.future import (
    CANCELLED,
    FINISHED,
    PENDING,
    Future,
    _GatheringFuture,
    empty_future,
    future_await,
    future_iternext,
    loop_of,
    raise_in_slot,
    report_dropped,
)
from cython.cimports.hoop.scheduling.handle import new_handle

from hoop.scheduling.future import ATTRIBUTES_OFFSET

CancelledError = cython.declare(object, asyncio.CancelledError)
InvalidStateError = cython.declare(object, asyncio.InvalidStateError)
CoroutineType = cython.declare(object, types.CoroutineType)
GeneratorType = cython.declare(object, types.GeneratorType)
Context = cython.declare(object, contextvars.Context)
_asyncio_task = cython.declare(object, asyncio.Task)
_iscoroutine = cython.declare(object, coroutines.iscoroutine)
_throw = cython.declare(object, "throw")
LEAVES_THE_LOOP = cython.declare(tuple, (KeyboardInterrupt, SystemExit))
UNCANCEL_CLEARS = cython.declare(cython.bint, sys.version_info >= (3, 13))


@cython.cclass
class Task(Future):
    """A coroutine that the loop drives to its end. See asyncio.Task.

    Awaiting the task gives the coroutine's result or raises its exception.

    `_polls` counts the steps so far. While the loop measures, `_busy_ns` has the nanoseconds spent in steps.
    `_created_at` has the file and line where the task was made, if the loop measured or was observed then.
    hoop.observe.snapshot() shows all of them.

    `_born` is when the task was made, and `_since` when it began to wait or to be ready. Both are nanoseconds
    of time.monotonic_ns(), rounded down to the loop's last visit to its driver. `_serial` is a number of its
    own.

        task = hoop.create_task(fetch(url))
        task.cancel()
    """

    def __init__(self, coro, *, loop=None, name=None, context=None, eager_start=False):
        self.check_new()
        self.attach(events.get_event_loop() if loop is None else loop)
        self.start(coro, name, context, eager_start)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start(self, coro, name, context, eager: cython.bint) -> cython.int:
        global tasks_made
        if type(coro) is not CoroutineType and not _iscoroutine(coro):
            self.silent = True
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        self.is_task = True
        if context is None:
            context = PyContext_CopyCurrent()
        elif type(context) is not Context:
            self.silent = True
            raise TypeError(f"a contextvars.Context was expected, got {type(context).__name__}")
        self.context = context
        self.coro = coro
        if name is None:
            tasks_made += 1
            self.number = tasks_made
        else:
            self.name = name if type(name) is str else str(name)
        if self.loop is None:
            if eager and self.foreign_loop.is_running():
                return self.start_eagerly()
            self.foreign_loop.call_soon(self._step, context=self.context)
            tasks._register_task(self)
            return 0
        if self.loop.closed:
            self.silent = True
            self.loop.check_open()
        if self.loop.debug:
            self.loop.check_thread()
        if recording or self.loop.lookers:
            self.site = note_site()
        self.link()
        if eager and events._get_running_loop() is self.loop:
            return self.start_eagerly()
        return self.loop.push(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_eagerly(self) -> cython.int:
        """Take the first step now, inside the code that is running."""
        entered: Ref = cython.NULL
        status: PySendResult
        result: Ref = cython.NULL
        loop = self.get_loop()
        if self.loop is None:
            tasks._register_task(self)
        else:
            entered = self.loop.entered
        previous = swap_current_task(loop, self)
        try:
            if self.loop is not None:
                self.loop.entered = ref(self)
            enter_context(ref(self.context))
            self._polls += 1
            began: cython.longlong = 0
            if self.loop is not None and self.loop.lookers:
                began = hoop_now_ns()
            status = _advance(self, cython.address(result))
            if began:
                self.left_at = hoop_now_ns()
                self._busy_ns += self.left_at - began
            if PyContext_Exit(ref(self.context)) < 0:  # its C code has left another one entered
                Py_XDECREF(result)
                result = cython.NULL
                status = PYGEN_ERROR
            self.settle(status, result)
        except BaseException:
            if self.state == PENDING:  # it never started
                self.silent = True
                self.unlink()
            raise
        finally:
            swap_current_task(loop, previous)
            if self.loop is not None:
                self.loop.entered = entered
            if self.state != PENDING and sys.version_info >= (3, 12):
                self.coro = None  # as asyncio does; 3.11's repr could not bear it
        return 0

    # ---- the loop's list of unfinished tasks ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def link(self) -> cython.int:
        global tasks_linked
        loop: LoopBase = self.loop
        self.next_task = loop.first_task
        self.previous_task = cython.NULL
        if loop.first_task is not cython.NULL:
            cython.cast(Task, loop.first_task).previous_task = ref(self)
        loop.first_task = own(self)
        self.listed = True
        tasks_linked += 1
        self.serial = tasks_linked
        self.born = self.since = loop.stamp
        loop.tasks_made += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unlink(self) -> cython.int:
        """Leave the list; the list's reference goes with it."""
        if self.listed:
            self.listed = False
            if self.previous_task is not cython.NULL:
                cython.cast(Task, self.previous_task).next_task = self.next_task
            else:
                self.loop.first_task = self.next_task
            if self.next_task is not cython.NULL:
                cython.cast(Task, self.next_task).previous_task = self.previous_task
            self.next_task = self.previous_task = cython.NULL
            if self.site:
                sites[self.site].ended += 1
            Py_DECREF(ref(self))
        return 0

    def __del__(self):
        if self.state == PENDING and not self.silent:
            loop = self._loop
            if loop is not None:
                context = {"task": self, "message": "Task was destroyed but it is pending!"}
                if self.source_traceback:
                    context["source_traceback"] = self.source_traceback
                report_dropped(loop, context)
        if self.log_traceback:
            self.complain()

    # ---- a step ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        """Take a step, in the task's context."""
        status: PySendResult
        result: Ref = cython.NULL
        if self.state != PENDING:
            return 0
        self.loop.enter(ref(self), ref(self.context))
        self._polls += 1
        status = _advance(self, cython.address(result))
        if cython.likely(status == PYGEN_NEXT):
            if is_exact(result):
                return _wait_for(self, result)
            if result == Py_None:
                Py_DECREF(result)
                return self.loop.push(self)
        return self.settle(status, result)

    @cython.cfunc
    @cython.exceptval(check=False)
    def interrupt(self, waited: Ref, result: cython.pointer[Ref]) -> PySendResult:
        """Throw into the coroutine: its cancellation, or how the future it waited for ended."""
        broken = None
        error = None
        try:
            error = self.error_to_throw(waited)
        except BaseException as exc:
            broken = exc
        if broken is not None:
            raise_in_slot(broken)
            return PYGEN_ERROR
        if error is None:
            return PyIter_Send(ref(self.coro), Py_None, result)
        result[0] = PyObject_CallMethodOneArg(self.coro, _throw, error)
        return PYGEN_ERROR if result[0] is cython.NULL else PYGEN_NEXT

    @cython.cfunc
    def error_to_throw(self, waited: Ref) -> object:
        """The exception for the coroutine's next step, or None. It is not raised on its way there."""
        error = self.pending_error
        self.pending_error = None
        if waited is cython.NULL:
            pass
        elif not is_exact(waited):
            try:
                cython.cast(object, waited).result()
            except BaseException as exc:
                error = exc
        elif (
            cython.cast(Future, waited).state != FINISHED
            or cython.cast(Future, waited).error is not None
        ):
            error = cython.cast(Future, waited).take_error()
        if self.must_cancel:
            if not is_error(error, CancelledError):
                error = self.cancelled_exception()
            self.must_cancel = False
        return error

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def settle(self, status: PySendResult, result: Ref) -> cython.int:
        """Act on how a step ended. Takes over the reference."""
        if status == PYGEN_ERROR:
            return self.raised()
        o = cython.cast(object, result)
        Py_DECREF(result)
        if status == PYGEN_RETURN:
            return self.returned(o)
        if is_exact(ref(o)) and self.loop is not None:
            return _wait_for(self, own(o))
        return self.yielded(o)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def returned(self, result) -> cython.int:
        if self.must_cancel:
            self.must_cancel = False
            self.cancel_future(self.cancel_message)
        else:
            self.outcome = result
            self.state = FINISHED
            self.schedule()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def raised(self) -> cython.int:
        exc = hoop_take_exception()
        if is_error(exc, StopIteration):  # a coroutine that was thrown into, and returned
            return self.returned(hoop_stop_value(exc))
        if is_error(exc, CancelledError):
            self.error = exc  # raised again once; later callers get one without a message
            self.cancel_future(None)
            return 0
        self.fail(exc)
        if is_error(exc, LEAVES_THE_LOOP):
            raise exc
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def yielded(self, o) -> cython.int:
        """Act on anything but a future of ours: None, another's future, or a mistake."""
        if o is None:
            return self.step_again()
        blocking = getattr(o, "_asyncio_future_blocking", None)
        if blocking is not None:
            return self.wait_for_foreign(o)
        if type(o) is GeneratorType:
            return self.throw_next(
                RuntimeError(
                    "yield was used instead of yield from for "
                    f"generator in task {self!r} with {o!r}"
                )
            )
        return self.throw_next(RuntimeError(f"Task got bad yield: {o!r}"))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_for_foreign(self, o) -> cython.int:
        """Suspend until anything that speaks asyncio's future protocol is done."""
        loop = self.get_loop()
        if loop_of(o) is not loop:
            return self.throw_next(
                RuntimeError(f"Task {self!r} got Future {o!r} attached to a different loop")
            )
        if not o._asyncio_future_blocking:
            return self.throw_next(
                RuntimeError(f"yield was used instead of yield from in task {self!r} with {o!r}")
            )
        if o is self:
            return self.throw_next(RuntimeError(f"Task cannot await on itself: {self!r}"))
        o._asyncio_future_blocking = False
        # A step enters the task's context itself, so on our loop the callback gets another one.
        context = self.context if self.loop is None else self.loop.wake_context
        o.add_done_callback(self._wakeup, context=context)
        self.drop_waited()  # if that called back at once, we wait for something else already
        self.fut_waiter = own(o)
        if self.loop is not None:
            self.since = self.loop.stamp
        if self.must_cancel:
            if o.cancel(msg=self.cancel_message):
                self.must_cancel = False
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def throw_next(self, error) -> cython.int:
        self.pending_error = error
        return self.step_again()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def step_again(self) -> cython.int:
        if self.loop is not None:
            return self.loop.push(self)
        self.foreign_loop.call_soon(self._step, context=self.context)
        return 0

    def _step(self):
        """Take a step: the callback on loops that are not ours."""
        if self.state != PENDING:
            raise InvalidStateError(f"_step(): already done: {self!r}, {self.pending_error!r}")
        if self.fut_waiter is not cython.NULL and not is_exact(self.fut_waiter):
            self.drop_waited()  # called by hand while it waits for another's future
        if self.loop is not None:
            try:
                self.run()
            finally:
                self.loop.leave()  # the handle that called this leaves its own context next
        else:
            self.step_foreign()

    def failure(self, exc):
        """Return the context for the loop's exception handler when a step raised outside of the coroutine."""
        return new_handle(self._step_here, (), self.context, self.loop).failure(exc)

    def _step_here(self):
        """Take a step in the context of the caller. A call_soon() of the user's is given this."""
        status: PySendResult
        result: Ref = cython.NULL
        if self.state != PENDING or self.loop is None:
            return
        if self.fut_waiter is not cython.NULL and not cython.cast(object, self.fut_waiter).done():
            return  # somebody calls it again: it waits
        previous = swap_current_task(self.loop, self)
        try:
            self._polls += 1
            status = _advance(self, cython.address(result))
            self.settle(status, result)
        finally:
            swap_current_task(self.loop, previous)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_waited(self) -> cython.int:
        waited: Ref = self.fut_waiter
        self.fut_waiter = cython.NULL
        Py_XDECREF(waited)
        return 0

    def _wakeup(self, future):
        """Take a step because `future` is done: the callback on futures that are not ours."""
        try:
            future.result()
        except BaseException as exc:  # thrown into the coroutine by the step
            self.pending_error = exc
        self.drop_waited()
        self._step()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def step_foreign(self) -> cython.int:
        """A step on a loop that is not ours, which has entered the context already."""
        result: Ref = cython.NULL
        status: PySendResult
        loop = self.foreign_loop
        tasks._enter_task(loop, self)
        try:
            self._polls += 1
            status = _advance(self, cython.address(result))
            self.settle(status, result)
        finally:
            tasks._leave_task(loop, self)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finished(self) -> cython.int:
        if self.listed:
            self.loop.tasks_ended += 1
            if self.state == CANCELLED:
                self.loop.tasks_cancelled += 1
            elif self.error is not None:
                self.loop.tasks_failed += 1
            self.unlink()
        return 0

    # ---- cancelling ----

    def cancel(self, msg=None):
        """Throw CancelledError into the coroutine at its next step. False if it is done already.

        The coroutine may catch it; see asyncio.Task.cancel.
        """
        self.log_traceback = False
        if self.state != PENDING:
            return False
        self.check_ready()
        self.cancel_requests += 1
        if self.fut_waiter is not cython.NULL:
            waited = cython.cast(object, self.fut_waiter)
            # Keep `fut_waiter`: it may be a task that ignores this cancellation and is cancelled again.
            if waited.cancel(msg=msg):
                return True
        self.must_cancel = True
        self.cancel_message = msg
        return True

    def cancelling(self):
        """How many cancellations were requested and not taken back by uncancel()."""
        return self.cancel_requests

    def uncancel(self):
        """Take back one request to cancel. Returns how many remain."""
        if self.cancel_requests > 0:
            self.cancel_requests -= 1
            if self.cancel_requests == 0 and UNCANCEL_CLEARS:
                self.must_cancel = False
        return self.cancel_requests

    # ---- asking ----

    def get_name(self):
        """The task's name."""
        if self.name is None:
            self.name = f"Task-{self.number}"
        return self.name

    def set_name(self, value, /):
        """Give the task a name: str(value)."""
        self.name = value if type(value) is str else str(value)

    def get_coro(self):
        """The coroutine; None if it ended in an eager start."""
        return self.coro

    def get_context(self):
        """The contextvars.Context of the coroutine."""
        return self.context

    def get_stack(self, *, limit=None):
        """The stack frames of the coroutine; see asyncio.Task.get_stack."""
        return base_tasks._task_get_stack(self, limit)

    def print_stack(self, *, limit=None, file=None):
        """Print the stack of the coroutine; see asyncio.Task.print_stack."""
        return base_tasks._task_print_stack(self, limit, file)

    def set_result(self, result, /):
        """Not for tasks: RuntimeError."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception, /):
        """Not for tasks: RuntimeError."""
        raise RuntimeError("Task does not support set_exception operation")

    @property
    def __class__(self):
        return _asyncio_task

    def _repr_info(self):
        return base_tasks._task_repr_info(self)

    # ---- the names that asyncio's own code and its debuggers read ----

    @property
    def _coro(self):
        return self.coro

    @property
    def _context(self):
        return self.context

    @property
    def _fut_waiter(self):
        return None if self.fut_waiter is cython.NULL else cython.cast(object, self.fut_waiter)

    @property
    def _must_cancel(self):
        return self.must_cancel

    # ---- for tools that observe; without the underscore a program could not use the names itself ----

    @property
    def _created_at(self):
        return place_of(self.site)

    @property
    def _born(self):
        return self.born

    @property
    def _since(self):
        return self.since

    @property
    def _serial(self):
        return self.serial

    @property
    def _site(self):
        return self.site

    @property
    def _scheduled_ns(self):
        return self.scheduled_ns

    @property
    def _waited_ns(self):
        return self.waited_ns

    @property
    def _log_destroy_pending(self):
        return not self.silent

    @_log_destroy_pending.setter
    def _log_destroy_pending(self, value):
        self.silent = not value

    @_log_destroy_pending.deleter
    def _log_destroy_pending(self):
        raise AttributeError("cannot delete attribute")


@cython.cfunc
def new_task(loop: LoopBase, coro, name, context, eager: cython.bint) -> Task:
    """A started task, without the checks of the constructor."""
    spare: Ref = hoop_revive(cython.address(spare_tasks))
    task: Task = Task.__new__(Task) if spare is cython.NULL else take(spare)
    task.loop = loop
    if loop.debug:
        task.source_traceback = format_helpers.extract_stack(sys._getframe(0))
    task.start(coro, name, context, eager)
    return task


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _advance(task: Task | None, result: cython.pointer[Ref]) -> PySendResult:
    """Resume the coroutine: send None, or throw the pending error. This function itself raises nothing."""
    waited: Ref = task.fut_waiter
    status: PySendResult
    if waited is cython.NULL:
        if task.must_cancel or task.pending_error is not None:
            return task.interrupt(cython.NULL, result)
        return PyIter_Send(ref(task.coro), Py_None, result)
    task.fut_waiter = cython.NULL
    if (
        task.must_cancel
        or not is_exact(waited)
        or cython.cast(Future, waited).state != FINISHED
        or cython.cast(Future, waited).error is not None
    ):
        status = task.interrupt(waited, result)
        Py_DECREF(waited)
        return status
    Py_DECREF(waited)  # first: a reader uses its own again for the next wait, if nobody else has it
    return PyIter_Send(ref(task.coro), Py_None, result)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _wait_for(task: Task | None, o: Ref) -> cython.int:
    """Suspend until a future of exactly our own type is done. Takes over the reference."""
    f: Future = cython.cast(Future, o)
    if cython.unlikely(not f.blocking or f.loop is not task.loop or o == ref(task)):
        Py_DECREF(o)
        return task.wait_for_foreign(f)
    f.blocking = False
    task.fut_waiter = o
    task.since = task.loop.stamp
    if f.state != PENDING:
        task.loop.push(task)
    elif f.waiter is None and f.callbacks is None:
        f.waiter = task
    else:
        f.add_listed(task)
    if cython.unlikely(task.must_cancel):
        if f.cancel(task.cancel_message):
            task.must_cancel = False
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_exact(o: Ref) -> cython.bint:
    """Whether it is a Future or Task of ours, and of no subclass that may have overridden things."""
    return (
        Py_TYPE(o) == FUTURE_TYPE
        or Py_TYPE(o) == cython.cast(cython.pointer[PyTypeObject], Task)
        or Py_TYPE(o) == GATHERING_TYPE
    )


FUTURE_TYPE = cython.declare(
    cython.pointer[PyTypeObject], cython.cast(cython.pointer[PyTypeObject], Future)
)
GATHERING_TYPE = cython.declare(
    cython.pointer[PyTypeObject], cython.cast(cython.pointer[PyTypeObject], _GatheringFuture)
)


# ---- slots that Cython cannot spell -------------------------------------------------------------------

_task_traverse = cython.declare(traverseproc, cython.NULL)
_task_clear = cython.declare(inquiry, cython.NULL)
_task_dealloc = cython.declare(destructor, cython.NULL)
spare_tasks = cython.declare(hoop_spares)


@cython.cfunc
@cython.exceptval(check=False)
def task_traverse(t: Task | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    error: cython.int = hoop_visit(t.fut_waiter, visit, arg)
    if error:
        return error
    return _task_traverse(ref(t), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def task_clear(t: Task | None) -> cython.int:
    waited: Ref = t.fut_waiter
    t.unlink()  # while t.loop is still there
    t.fut_waiter = cython.NULL
    Py_XDECREF(waited)
    return _task_clear(ref(t))


@cython.cfunc
@cython.exceptval(check=False)
def task_dealloc(o: Ref) -> cython.void:
    """tp_dealloc; see future_dealloc."""
    hoop_free(o, cython.cast(destructor, task_dealloc), cython.cast(destructor, free_task))


@cython.cfunc
@cython.exceptval(check=False)
def free_task(o: Ref) -> cython.void:
    if (
        cython.cast(Task, o).state == PENDING or cython.cast(Task, o).log_traceback
    ) and PyObject_CallFinalizerFromDealloc(o) < 0:
        return  # somebody kept it
    PyObject_GC_UnTrack(o)
    waited: Ref = cython.cast(Task, o).fut_waiter
    cython.cast(Task, o).fut_waiter = cython.NULL
    Py_XDECREF(waited)
    attributes: Ref = cython.cast(Task, o).attributes
    cython.cast(Task, o).attributes = cython.NULL
    Py_XDECREF(attributes)
    if hoop_may_spare(cython.address(spare_tasks), Task, o):
        empty_future(o)
        cython.cast(Task, o).coro = None
        cython.cast(Task, o).context = None
        cython.cast(Task, o).name = None
        cython.cast(Task, o).pending_error = None
        cython.cast(Task, o).must_cancel = False
        cython.cast(Task, o).silent = False
        cython.cast(Task, o).cancel_requests = 0
        cython.cast(Task, o)._polls = 0
        cython.cast(Task, o).site = 0
        cython.cast(Task, o).seen = 0
        cython.cast(Task, o)._busy_ns = 0
        cython.cast(Task, o).scheduled_ns = 0
        cython.cast(Task, o).waited_ns = 0
        cython.cast(Task, o).left_at = 0
        if hoop_spare(cython.address(spare_tasks), o):
            return
    _task_dealloc(o)


hoop_set_dictoffset(Task, ATTRIBUTES_OFFSET)
hoop_set_signature(Task, b"(coro, *, loop=None, name=None, context=None, eager_start=False)")
hoop_show_method_as(
    Task, b"_wakeup", b"task_wakeup"
)  # as in the repr of a future that asyncio's task awaits
hoop_set_await(Task, cython.cast(unaryfunc, future_await))
hoop_set_iternext(Task, cython.cast(iternextfunc, future_iternext))
_task_traverse = hoop_swap_traverse(Task, cython.cast(traverseproc, task_traverse))
_task_clear = hoop_swap_clear(Task, cython.cast(inquiry, task_clear))
hoop_check_spared(Task)
_task_dealloc = hoop_swap_dealloc(Task, cython.cast(destructor, task_dealloc))
