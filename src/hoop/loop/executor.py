"""run_in_executor() for a plain ThreadPoolExecutor. It behaves as asyncio's, with the executor's own code.

asyncio makes a concurrent.futures.Future with a condition, three functions that chain it to the loop's
future, and a handle. Here a Job takes the place of all of them in the executor's work item. The executor's
threads run the item as they run others. The end of the job puts a notice onto the loop's ring.

Every other executor, and a loop in debug mode, gets asyncio's own code. So does a Python whose executor
submits in a way that is not known here.

All methods of a job run under the GIL without a point where another thread may take it, so they need no lock.
"""

from __future__ import annotations

import asyncio.futures
import types
from asyncio import events
from concurrent.futures import ThreadPoolExecutor as _ThreadPoolExecutor
from concurrent.futures import _base as _futures_module
from concurrent.futures import thread as _thread_module

import cython
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.scheduling import future as futures
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.future import Future, new_future
from cython.cimports.hoop.scheduling.notice import Notice, Watcher, new_notice

_base = cython.declare(object, _futures_module)
_thread = cython.declare(object, _thread_module)
ThreadPoolExecutor = cython.declare(object, _ThreadPoolExecutor)
_submit = cython.declare(object, _ThreadPoolExecutor.submit)
_concurrent_future = cython.declare(object, _futures_module.Future)
_get_running_loop = cython.declare(object, events._get_running_loop)
_convert_error = cython.declare(object, asyncio.futures._convert_future_exc)
CellType = cython.declare(object, types.CellType)
FunctionType = cython.declare(object, types.FunctionType)


def _names_of(function) -> set[str]:
    return set(function.__code__.co_names)


def _inner_code(name: str):
    """The code of a function inside asyncio's _chain_future(), or None."""
    for found in asyncio.futures._chain_future.__code__.co_consts:
        if isinstance(found, types.CodeType) and found.co_name == name:
            return found
    return None


_check_cancel = cython.declare(object, _inner_code("_call_check_cancel"))
_set_state = cython.declare(object, _inner_code("_set_state"))
# The work item gets a task that the executor makes of the function (3.14).
TAKES_TASK = cython.declare(
    cython.bint, "_resolve_work_item_task" in _names_of(_ThreadPoolExecutor.submit)
)
# A job that ends on the loop's own thread sets the future at once (3.14).
SETS_AT_ONCE = cython.declare(
    cython.bint,
    "_get_running_loop" in (_check_cancel.co_names if _check_cancel is not None else ()),
)
IS_KNOWN = cython.declare(
    cython.bint,
    _check_cancel is not None
    and _set_state is not None
    and not _set_state.co_freevars
    and set(_check_cancel.co_freevars) <= {"dest_loop", "source", "source_loop"}
    and _names_of(_ThreadPoolExecutor.submit) - {"BrokenThreadPool", "BROKEN"}
    == {"_shutdown_lock", "_global_shutdown_lock", "_broken", "_shutdown", "RuntimeError"}
    | {"_base", "Future", "_WorkItem", "_work_queue", "put", "_adjust_thread_count"}
    | ({"_resolve_work_item_task"} if TAKES_TASK else set()),
)
STATE_NAMES = cython.declare(tuple, ("PENDING", "RUNNING", "CANCELLED", "FINISHED"))


@cython.cfunc
def submit(loop: LoopBase, executor, function, args: tuple) -> Future:
    """Have an executor call a function. Returns the loop's future, or None if asyncio has to do it."""
    if (
        not IS_KNOWN
        or type(executor) is not ThreadPoolExecutor
        or ThreadPoolExecutor.submit is not _submit
        or _base.Future is not _concurrent_future
        or "submit" in executor.__dict__
    ):
        return None
    with executor._shutdown_lock, _thread._global_shutdown_lock:
        if executor._broken or executor._shutdown or _thread._shutdown:
            return None  # asyncio's code raises the error
        job: Job = Job.__new__(Job)
        job.loop = loop
        job.future = new_future(loop)
        if TAKES_TASK:
            item = _thread._WorkItem(job, executor._resolve_work_item_task(function, args, {}))
        else:
            item = _thread._WorkItem(job, function, args, {})
        executor._work_queue.put(item)
        executor._adjust_thread_count()
    job.future.tell(job, None)
    return job.future


@cython.final
@cython.cclass
class Job(Watcher):
    """A call in a thread. Its methods are those that an executor calls of a concurrent.futures.Future."""

    def __repr__(self):
        return f"<Job at {id(self):#x} state={STATE_NAMES[self.state].lower()}>"

    # ---- for the executor: from any thread ----

    def set_running_or_notify_cancel(self):
        """Whether a thread is to begin. False if the job was cancelled."""
        if self.state == CANCELLED:
            return False
        self.check(PENDING)
        self.state = RUNNING
        return True

    def set_result(self, result):
        """The function has returned."""
        if self.state == CANCELLED or self.state == FINISHED:
            self.check(PENDING)
        self.state = FINISHED
        self.result = result
        self.ended()

    def set_exception(self, exception):
        """The function has raised, or the executor broke down."""
        if self.state == CANCELLED or self.state == FINISHED:
            self.check(PENDING)
        self.state = FINISHED
        self.error = exception
        self.ended()

    def cancel(self):
        """Forget the job, unless a thread has begun. Returns whether it is forgotten."""
        if self.state == RUNNING or self.state == FINISHED:
            return False
        if self.state == PENDING:
            self.state = CANCELLED
            self.ended()
        return True

    def cancelled(self):
        """Whether it was cancelled."""
        return self.state == CANCELLED

    def done(self):
        """Whether it was cancelled or has ended."""
        return self.state == CANCELLED or self.state == FINISHED

    def running(self):
        """Whether a thread has begun and not ended."""
        return self.state == RUNNING

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, expected: cython.int) -> cython.int:
        if self.state != expected:
            raise _base.InvalidStateError(f"{STATE_NAMES[self.state]}: {self!r}")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ended(self) -> cython.int:
        """Have the loop set the future."""
        loop: LoopBase = self.loop
        if loop.closed or self.future.state == futures.CANCELLED:
            return 0
        if SETS_AT_ONCE and _get_running_loop() is loop:
            return self.deliver()
        self.delivery = new_notice(self.future, self, None)
        loop.push(self.delivery)
        return loop.rouse()

    # ---- on the loop's thread ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        if notice is self.delivery:
            self.delivery = None
            return self.deliver()
        if self.future.state == futures.CANCELLED:
            self.cancel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        """Set the future as the job has ended."""
        future: Future = self.future
        error = self.error
        result = self.result
        self.error = self.result = None
        if future.state == futures.CANCELLED:
            return 0
        if future.state != futures.PENDING:
            return self.deliver_by_asyncio(result, error)
        if self.state == CANCELLED:
            cython.cast(object, future).cancel()
            return 0
        if error is None:
            return future.finish(result)
        try:
            return future.fail(_convert_error(error))
        except TypeError:  # a StopIteration, before Python 3.12
            return self.deliver_by_asyncio(None, error)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver_by_asyncio(self, result, error) -> cython.int:
        """This will fail. asyncio's functions say how."""
        source = _concurrent_future()
        if self.state == CANCELLED:
            source.cancel()
        elif error is None:
            source.set_result(result)
        else:
            source.set_exception(error)
        function = FunctionType(_set_state, asyncio.futures.__dict__)
        function.__qualname__ = _set_state.co_qualname
        self.loop.soon(function, (self.future, source), None)
        return 0

    @cython.cfunc
    def callback(self) -> object:
        """asyncio's function that cancels the job with the future, for those who look at its callbacks."""
        if self.shown is None:
            values = {"source": self, "source_loop": None, "dest_loop": self.loop}
            cells = tuple([CellType(values[name]) for name in _check_cancel.co_freevars])
            self.shown = FunctionType(_check_cancel, asyncio.futures.__dict__, None, None, cells)
            self.shown.__qualname__ = _check_cancel.co_qualname
        return self.shown


hoop_forbid_new(Job)
