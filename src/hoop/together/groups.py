"""TaskGroup. It behaves as asyncio's class of the same name does on the running Python.

A group tells its tasks' ends from native notices. So a task that ends well calls no Python. The tasks of a
subclass, of another library's loop and of a task factory have asyncio's callback, `_on_task_done`.

asyncio's group differs between versions, also between those of the third number. So the running Python's own
class is looked at, to find out what it does.
"""

from __future__ import annotations

import asyncio.futures
import asyncio.taskgroups
import asyncio.tasks
from asyncio import events

import cython
from cython.cimports.cpython.object import Py_TPFLAGS_HEAPTYPE
from cython.cimports.hoop._c.python import (
    Py_TYPE,
    PyContext_CopyCurrent,
    Ref,
    enter_context,
    exit_context,
    hoop_set_signature,
    is_error,
    ref,
)
from cython.cimports.hoop._c.swap import hoop_fast_function, hoop_put_before
from cython.cimports.hoop.loop.running import plain_loop
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    Method,
    NativeCoroutine,
    new_coroutine,
    new_coroutine_of_two,
)
from cython.cimports.hoop.scheduling.future import CANCELLED, Future, new_future
from cython.cimports.hoop.scheduling.notice import Notice, Watcher
from cython.cimports.hoop.scheduling.task import Task, new_task
from cython.cimports.hoop.sync.waiting import finish_class, shown_class, wake
from cython.cimports.hoop.together.timeouts import current_task_of

CancelledError = cython.declare(object, asyncio.CancelledError)
BASE_ERRORS = cython.declare(tuple, (SystemExit, KeyboardInterrupt))
_get_running_loop = cython.declare(object, events.get_running_loop)
_current_task = cython.declare(object, asyncio.tasks.current_task)
_set_task_name = cython.declare(object, getattr(asyncio.tasks, "_set_task_name", None))
_stock = cython.declare(object, asyncio.taskgroups.TaskGroup)
MISSING = cython.declare(object, object())  # no argument was given
_exit = cython.declare(object, getattr(_stock, "_aexit", _stock.__aexit__).__code__)
_create = cython.declare(object, _stock.create_task.__code__)

# At the end of the block asyncio takes back the cancellation of the parent: late, or at once (before 3.13).
UNCANCELS_LATE = cython.declare(cython.bint, "cancelling" in _exit.co_names)
# The group lets go of its parent and of its errors (3.14).
LETS_GO = cython.declare(cython.bint, hasattr(_stock, "_aexit"))
# A cancellation from outside is raised, though it came after the group's own (3.15).
KEEPS_INTERRUPTION = cython.declare(cython.bint, "pending_cancellation_error" in _exit.co_varnames)
# The GeneratorExit of the block is raised, if nothing else is wrong; a cancelled block ends well (3.15).
LETS_GENERATORS_CLOSE = cython.declare(cython.bint, "GeneratorExit" in _exit.co_names)
# create_task() closes a coroutine that it refuses (3.13).
CLOSES_REFUSED = cython.declare(cython.bint, "close" in _create.co_names)
# It passes any keyword on (3.14), or at least the name (3.13).
TAKES_ANY_KEYWORD = cython.declare(cython.bint, "kwargs" in _create.co_varnames)
PASSES_NAME = cython.declare(cython.bint, "_set_task_name" not in _create.co_names)
# It cancels a task that has cancelled the group in its eager start (3.15).
CANCELS_EAGER = cython.declare(cython.bint, "cancel" in _create.co_names)
# It calls the callback at once if a task was done in its eager start (3.12, 3.13).
ENDS_EAGER_AT_ONCE = cython.declare(cython.bint, "done" in _create.co_names and not CANCELS_EAGER)
_add_to_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_add_to_awaited_by", None)
)
_discard_from_awaited_by = cython.declare(
    object, getattr(asyncio.futures, "future_discard_from_awaited_by", None)
)


@cython.cclass
class TaskGroup(Watcher):
    """Tasks that an `async with` block waits for at its end. See asyncio.TaskGroup.

    If a task fails, the others and the block are cancelled. All errors come together, as an ExceptionGroup.

        async with hoop.TaskGroup() as group:
            page = group.create_task(fetch(url))
            group.create_task(log(url))
        print(page.result())
    """

    def __cinit__(self):
        self.is_ours = not Py_TYPE(ref(self)).tp_flags & Py_TPFLAGS_HEAPTYPE
        self.tasks = set()
        self.errors = []

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            _stock.__init__(self, *args, **kwargs)  # raises the TypeError of this Python

    @property
    def __class__(self):
        return shown_class(type(self))

    def __repr__(self):
        info = [""]
        if self.tasks:
            info.append(f"tasks={len(self.tasks)}")
        if self.errors:
            info.append(f"errors={len(self.errors)}")
        if self.aborting:
            info.append("cancelling")
        elif self.entered:
            info.append("entered")
        return f"<TaskGroup{' '.join(info)}>"

    @cython.binding(True)
    def __aenter__(self):
        return new_coroutine(ENTER, self, None)

    @cython.binding(True)
    def __aexit__(self, et, exc, tb):
        return new_coroutine_of_two(EXIT, self, et, exc)

    def create_task(self, coro=MISSING, *excess, name=None, context=None, **kwargs):
        """Run a coroutine as a task of this group, and return the task. See hoop.create_task.

        Raises RuntimeError if the group was not entered, is being cancelled, or has ended.
        """
        if coro is MISSING or excess or (kwargs and not TAKES_ANY_KEYWORD):
            return refused(self, coro, excess, name, context, kwargs)
        return self.add(coro, name, context, kwargs)

    def cancel(self):
        """Cancel the tasks and the block. The `async with` then ends without CancelledError.

        asyncio's group has this method from Python 3.15 on.
        """
        if not self.entered:
            self.cancel_on_enter = True
            return
        if self.exiting and not self.tasks:
            return
        if not self.aborting:
            self.was_cancelled = True
            self.abort()
            if self.awaiter is not None and not self.parent_cancel_requested:
                self.parent_cancel_requested = True
                self.awaiter.cancel()

    # ---- the beginning ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter(self) -> cython.int:
        if self.entered:
            raise RuntimeError(f"TaskGroup {self!r} has already been entered")
        native: Loop = plain_loop()
        if self.loop is None:
            self.loop = _get_running_loop() if native is None else native
        if native is not None and self.loop is native:
            self.native = native
            self.awaiter = current_task_of(native)
        else:
            self.awaiter = _current_task(self.loop)
        if self.awaiter is None:
            raise RuntimeError(f"TaskGroup {self!r} cannot determine the parent task")
        self.entered = True
        if self.cancel_on_enter:
            cython.cast(object, self).cancel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_open(self, coro) -> cython.int:
        if self.entered and not self.aborting and not (self.exiting and not self.tasks):
            return 0
        if CLOSES_REFUSED:
            coro.close()
        if not self.entered:
            raise RuntimeError(f"TaskGroup {self!r} has not been entered")
        if self.exiting and not self.tasks:
            raise RuntimeError(f"TaskGroup {self!r} is finished")
        raise RuntimeError(f"TaskGroup {self!r} is shutting down")

    @cython.cfunc
    def add(self, coro, name, context, keywords: dict | None) -> object:
        self.check_open(coro)
        loop: Loop = self.native
        if (
            loop is not None
            and not keywords
            and loop.task_factory is None
            and not loop.own_methods
            and not loop.own_soon  # your call_soon() is to see the callbacks
            and self.is_plain()
            and type(self.tasks) is set
        ):
            ours: Task = new_task(loop, coro, name, context, False)
            cython.cast(set, self.tasks).add(ours)
            ours.tell(self, PyContext_CopyCurrent())
            return ours
        if keywords is None:
            keywords = {}
        if name is not None and PASSES_NAME:
            keywords["name"] = name
        if context is not None:
            keywords["context"] = context
        task = self.loop.create_task(coro, **keywords)
        if name is not None and not PASSES_NAME:
            _set_task_name(task, name)
        if _add_to_awaited_by is not None:
            _add_to_awaited_by(task, self.awaiter)
        if ENDS_EAGER_AT_ONCE and task.done():
            cython.cast(object, self)._on_task_done(task)
            return task
        self.tasks.add(task)
        task.add_done_callback(cython.cast(object, self)._on_task_done)
        if CANCELS_EAGER and self.aborting and not task.done():
            task.cancel()
        return task

    # ---- the end of a task ----

    @cython.cfunc
    def callback(self) -> object:
        return cython.cast(object, self)._on_task_done

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        task: Future = cython.cast(Future, notice.future)
        self.tasks.discard(task)
        self.tell_completed()
        if task.state == CANCELLED or task.error is None:
            return 0
        task.log_traceback = False
        context = notice.context
        enter_context(ref(context))
        try:
            self.child_failed(task, task.error)
        finally:
            exit_context(ref(context))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell_completed(self) -> cython.int:
        if self.completed is not None and not self.tasks:
            wake(self.completed, True)
        return 0

    def _on_task_done(self, task):
        """A task of the group has ended. This is the callback of the tasks that get no notices."""
        self.tasks.discard(task)
        if _discard_from_awaited_by is not None:
            _discard_from_awaited_by(task, self.awaiter)
        self.tell_completed()
        if not task.cancelled():
            exc = task.exception()
            if exc is not None:
                self.child_failed(task, exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def child_failed(self, task, exc) -> cython.int:
        self.errors.append(exc)
        if self.is_base(exc) and self.base_error is None:
            self.base_error = exc
        if self.awaiter.done():
            self.loop.call_exception_handler(
                {
                    "message": f"Task {task!r} has errored out but its parent "
                    f"task {self.awaiter} is already completed",
                    "exception": exc,
                    "task": task,
                }
            )
            return 0
        if not self.aborting and not self.parent_cancel_requested:
            self.abort()
            self.parent_cancel_requested = True
            self.awaiter.cancel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_base(self, exc) -> cython.bint:
        if self.is_plain():
            return isinstance(exc, BASE_ERRORS)
        return bool(cython.cast(object, self)._is_base_error(exc))

    def _is_base_error(self, exc):
        assert isinstance(exc, BaseException)
        return isinstance(exc, BASE_ERRORS)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def abort(self) -> cython.int:
        if not self.is_plain():
            cython.cast(object, self)._abort()
            return 0
        self.aborting = True
        for task in self.tasks:
            if not task.done():
                task.cancel()
        return 0

    def _abort(self):
        """Cancel all tasks."""
        self.aborting = True
        for task in self.tasks:
            if not task.done():
                task.cancel()

    # ---- the end of the block ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin_exit(self, exc_type, exc) -> cython.int:
        self.exiting = True
        if exc_type is None and exc is None and not self.parent_cancel_requested:
            return 0
        if exc is not None and self.is_base(exc) and self.base_error is None:
            self.base_error = exc
        if exc_type is not None and (
            issubclass(exc_type, CancelledError) if UNCANCELS_LATE else exc_type is CancelledError
        ):
            self.propagated = exc
        if self.parent_cancel_requested and not UNCANCELS_LATE:
            self.uncancel_parent()
        if exc_type is not None and not self.aborting:
            self.abort()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def uncancel_parent(self) -> cython.int:
        """Take back the group's own cancellation of the block. If there is no other, raise none."""
        self.uncancelled = True
        if self.awaiter.uncancel() == 0:
            self.propagated = None
        elif KEEPS_INTERRUPTION and self.propagated is None:
            self.propagated = self.interruption
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def interrupted(self, error) -> cython.int:
        """The block is cancelled while it waits for the tasks."""
        self.interruption = error
        if not self.aborting:
            self.propagated = error
            self.abort()
        return 0

    @cython.cfunc
    def end(self, exc_type, exc) -> object:
        """All tasks have ended: raise their errors. True lets Python forget the block's exception."""
        if self.base_error is not None:
            raise self.base_error
        if (
            self.parent_cancel_requested
            and not self.uncancelled
            and (UNCANCELS_LATE or self.was_cancelled)
        ):
            self.uncancel_parent()
        if self.propagated is not None and not self.errors:
            raise self.propagated
        if exc_type is not None and not (
            issubclass(exc_type, CancelledError) if UNCANCELS_LATE else exc_type is CancelledError
        ):
            self.errors.append(exc)
        if self.errors:
            if UNCANCELS_LATE and self.awaiter.cancelling():
                self.awaiter.uncancel()
                self.awaiter.cancel()
            if (
                LETS_GENERATORS_CLOSE
                and exc_type is not None
                and issubclass(exc_type, GeneratorExit)
                and len(self.errors) == 1
            ):
                raise exc
            errors = self.errors
            self.errors = None
            raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors) from None
        return True if LETS_GENERATORS_CLOSE or self.was_cancelled else None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def let_go(self) -> cython.int:
        """Drop what could keep exceptions alive, as asyncio's group of this Python does."""
        self.propagated = self.interruption = None
        if LETS_GO:
            self.awaiter = self.errors = self.base_error = None
        return 0

    # ---- the names that asyncio's class has, for subclasses ----

    @property
    def _entered(self):
        return self.entered

    @_entered.setter
    def _entered(self, value: cython.bint):
        self.entered = value

    @property
    def _exiting(self):
        return self.exiting

    @_exiting.setter
    def _exiting(self, value: cython.bint):
        self.exiting = value

    @property
    def _aborting(self):
        return self.aborting

    @_aborting.setter
    def _aborting(self, value: cython.bint):
        self.aborting = value

    @property
    def _loop(self):
        return self.loop

    @_loop.setter
    def _loop(self, loop):
        self.loop = loop
        self.native = None

    @property
    def _parent_task(self):
        return self.awaiter

    @_parent_task.setter
    def _parent_task(self, task):
        self.awaiter = task

    @property
    def _parent_cancel_requested(self):
        return self.parent_cancel_requested

    @_parent_cancel_requested.setter
    def _parent_cancel_requested(self, value: cython.bint):
        self.parent_cancel_requested = value

    @property
    def _tasks(self):
        return self.tasks

    @_tasks.setter
    def _tasks(self, tasks):
        self.tasks = tasks

    @property
    def _errors(self):
        return self.errors

    @_errors.setter
    def _errors(self, errors):
        self.errors = errors

    @property
    def _base_error(self):
        return self.base_error

    @_base_error.setter
    def _base_error(self, error):
        self.base_error = error

    @property
    def _on_completed_fut(self):
        return self.completed

    @_on_completed_fut.setter
    def _on_completed_fut(self, future):
        self.completed = future


@cython.cfunc
def refused(group, coro, excess: tuple, name, context, keywords: dict) -> object:
    """Call asyncio's create_task() with arguments that do not fit: it raises the TypeError of this Python."""
    given = {"name": name, "context": context}
    keywords.update({key: value for key, value in given.items() if value is not None})
    positional = excess if coro is MISSING else (coro, *excess)
    return _stock.create_task(group, *positional, **keywords)


@cython.cfunc
def create_task(group: Ref, args: cython.pointer[Ref], n: cython.Py_ssize_t, names: Ref) -> object:
    """Call create_task(coro) without a dict for keywords."""
    if n == 1 and names is cython.NULL:
        return cython.cast(TaskGroup, group).add(cython.cast(object, args[0]), None, None, None)
    return _create_task(group, args, n, names)


@cython.final
@cython.cclass
class EnterGroup(Method):
    """The start of `async with`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        cython.cast(TaskGroup, c.owner).enter()
        c.value = c.owner
        return OVER


@cython.final
@cython.cclass
class ExitGroup(Method):
    """The end of `async with`: it waits until all tasks have ended. Tasks may make others meanwhile."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        cython.cast(TaskGroup, c.owner).begin_exit(c.value, c.extra)
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        cython.cast(TaskGroup, c.owner).completed = None
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        group: TaskGroup = cython.cast(TaskGroup, c.owner)
        if not is_error(error, CancelledError):
            group.let_go()
            raise error
        group.interrupted(error)
        group.completed = None
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        group: TaskGroup = cython.cast(TaskGroup, c.owner)
        if group.tasks:
            if group.completed is None:
                if group.native is not None and not group.native.debug:
                    group.completed = new_future(group.native)
                else:
                    group.completed = group.loop.create_future()
            return c.wait_for(group.completed)
        try:
            c.value = group.end(c.value, c.extra)
        finally:
            group.let_go()
        return OVER


ENTER = cython.declare(EnterGroup, EnterGroup("__aenter__", TaskGroup))
EXIT = cython.declare(ExitGroup, ExitGroup("__aexit__", TaskGroup))

finish_class(TaskGroup, _stock, ("__aenter__", "__aexit__"))
hoop_set_signature(TaskGroup, b"()")
_create_task = cython.declare(
    hoop_fast_function, hoop_put_before(TaskGroup.create_task, create_task)
)
