"""Threads that wait for disks. They are not the executor's, so no file waits behind the program's own jobs.

Each loop starts its threads as it needs them, at most `HOOP_FILE_THREADS` (16 if that is not set). A call
that may wait for ever, for example for the other end of a pipe, gets a thread to itself. So it can keep no
other file waiting. The threads are daemons: a call that the kernel never ends does not keep the process
from ending.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from hoop.drivers.capabilities import setting

THREADS_MAX = 16


def choose_threads_max() -> int:
    """The number of threads that a loop may have for its files. ValueError if HOOP_FILE_THREADS is wrong."""
    asked = setting("HOOP_FILE_THREADS")
    if asked is None:
        return THREADS_MAX
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"HOOP_FILE_THREADS must be a number from 1 on, not {asked!r}")
    return int(asked)


class Job(Protocol):
    """A task for one of the threads."""

    def perform(self) -> None:
        """Do the work, on the thread."""

    def finish(self) -> None:
        """Deliver the result to the waiting task, on the loop's thread."""

    def abandon(self) -> None:
        """The work is done, but its loop is closed: clean up."""

    def forgo(self) -> None:
        """The loop is closed, and no thread has begun the work: it will not be done."""


class LeftFile(Protocol):
    """An open file that a finaliser hands to the pool."""

    regular: bool

    def end(self) -> None:
        """Write the file out and close it, and wait for that."""

    def stop(self) -> bool:
        """Make `end` give up where it waits for the other end of a pipe. Returns whether it will."""


class PythonJob:
    """A call of a Python function. If no task waits for the result any more, a thread gives it to `undo`."""

    __slots__ = ("_args", "_call", "_error", "_pool", "_result", "_undo", "future")

    def __init__(
        self,
        pool: FilePool,
        future: asyncio.Future[Any],
        call: Callable[..., Any],
        args: tuple[Any, ...],
        undo: Callable[[Any], object] | None,
    ) -> None:
        self.future = future
        self._pool = pool
        self._call = call
        self._args = args
        self._undo = undo
        self._result: Any = None
        self._error: BaseException | None = None

    def perform(self) -> None:
        """Call the function."""
        try:
            self._result = self._call(*self._args)
        except BaseException as exc:
            self._error = exc
        self._args = ()

    def finish(self) -> None:
        """Deliver the result."""
        error, self._error = self._error, None
        if self.future.done():
            if error is None and self._undo is not None:
                self._pool.owe(self._undo, self._result)
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result)

    def abandon(self) -> None:
        """Undo the call."""
        if self._undo is not None and self._error is None:
            self._undo(self._result)

    def forgo(self) -> None:
        """Nothing was done, so there is nothing to undo."""


class OwedJob:
    """A call that closes or removes a file. It is made even if the loop closes, and no task waits for it."""

    __slots__ = ("_call", "_error", "_pool")

    def __init__(self, pool: FilePool, call: Callable[[], object]) -> None:
        self._pool = pool
        self._call = call
        self._error: BaseException | None = None

    def perform(self) -> None:
        """Make the call."""
        try:
            self._call()
        except BaseException as exc:
            self._error = exc

    def finish(self) -> None:
        """Report a failure to the loop's exception handler, since no task waits."""
        error, self._error = self._error, None
        if error is not None:
            self._pool.complain(error)

    def abandon(self) -> None:
        """Report a failure."""
        self.finish()

    def forgo(self) -> None:
        """Make the call now."""
        self.perform()
        self.finish()


class FilePool:
    """The threads of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads_max: int) -> None:
        self._loop = weakref.ref(loop)
        self._threads_max = threads_max
        self._queue: queue.SimpleQueue[tuple[Job, FilePool] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Since when each job is under way, in nanoseconds of time.monotonic_ns().
        self._unfinished: dict[Job, int] = {}
        self._performed: collections.deque[Job] = collections.deque()  # done, but not yet delivered
        self._alone: dict[Job, tuple[threading.Thread, Callable[[], bool]]] = {}
        self._left: collections.deque[LeftFile] = collections.deque()
        self._no_open: asyncio.Future[None] | None = None
        self.opens_in_kernel = 0  # opens under way in the driver: each may yet bring a descriptor
        self.jobs = 0  # number of jobs so far, for tests and tools

    def submit(self, job: Job) -> None:
        """Have a job done by one of the threads."""
        self.jobs += 1
        self._unfinished[job] = time.monotonic_ns()
        self._queue.put((job, self))
        if len(self._threads) < min(len(self._unfinished), self._threads_max):
            thread = threading.Thread(
                target=_work,
                args=(self._queue,),
                name=f"hoop-files-{len(self._threads)}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def call(
        self, call: Callable[..., Any], *args: Any, undo: Callable[[Any], object] | None = None
    ) -> asyncio.Future[Any]:
        """Call a function on one of the threads. Returns a future with its result."""
        job = self._job(call, args, undo)
        self.submit(job)
        return job.future

    def call_alone(
        self,
        call: Callable[..., Any],
        *args: Any,
        undo: Callable[[Any], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> asyncio.Future[Any]:
        """Call a function that may never return, on a thread of its own.

        When the loop is closed, hoop calls `stop` to end the function. `stop` returns whether that is sure.
        """
        job = self._job(call, args, undo)
        self._submit_alone(job, stop)
        return job.future

    def _submit_alone(self, job: Job, stop: Callable[[], bool] | None) -> None:
        alone: queue.SimpleQueue[tuple[Job, FilePool] | None] = queue.SimpleQueue()
        alone.put((job, self))
        alone.put(None)
        self._unfinished[job] = time.monotonic_ns()
        thread = threading.Thread(target=_work, args=(alone,), name="hoop-files-alone", daemon=True)
        thread.start()
        if stop is not None:
            self._alone[job] = thread, stop

    def _job(
        self, call: Callable[..., Any], args: tuple[Any, ...], undo: Callable[[Any], object] | None
    ) -> PythonJob:
        loop = self._loop()
        assert loop is not None
        return PythonJob(self, loop.create_future(), call, args, undo)

    # ---- files without an owner ----

    def owe(self, call: Callable[..., object], *args: Any) -> None:
        """Have a thread make a call that no task waits for. Make it here if the loop was closed.

        Call this on the loop's thread.
        """
        job = OwedJob(self, functools.partial(call, *args))
        loop = self._loop()
        if loop is None or loop.is_closed():
            job.forgo()
        else:
            self.submit(job)

    def leave(self, file: LeftFile) -> bool:
        """For a finaliser, on any thread: have a thread close the file, if a running loop would have to
        wait for it.
        """
        loop = self._loop()
        if loop is None or not loop.is_running():
            return False
        self._left.append(file)
        try:
            loop.call_soon_threadsafe(self._take_left)
        except (
            RuntimeError
        ):  # the loop was closed just now: close() ends the file, unless it came too early
            try:
                self._left.remove(file)
            except ValueError:
                return True
            return False
        return True

    def _take_left(self) -> None:
        file = self._left.popleft()
        job = OwedJob(self, file.end)
        if file.regular:
            self.submit(job)
        else:
            self._submit_alone(job, file.stop)

    def complain(self, error: BaseException) -> None:
        """Tell the loop's exception handler about a file that has no owner any more."""
        loop = self._loop()
        if loop is not None:
            loop.call_exception_handler(
                {"message": "A file could not be put away", "exception": error}
            )

    def post(self, job: Job) -> None:
        """From a thread: the job is done."""
        loop = self._loop()
        self._performed.append(job)
        try:
            if loop is None:
                raise RuntimeError("the loop is gone")
            loop.call_soon_threadsafe(self._finish_one)
        except RuntimeError:
            self._abandon_performed()

    def _finish_one(self) -> None:
        job = self._performed.popleft()
        self._unfinished.pop(job, None)
        self._alone.pop(job, None)
        job.finish()

    def _abandon_performed(self) -> None:
        while True:
            try:
                job = self._performed.popleft()
            except IndexError:
                return
            job.abandon()

    def open_ended(self) -> None:
        """The driver has ended one open."""
        self.opens_in_kernel -= 1
        if not self.opens_in_kernel and self._no_open is not None and not self._no_open.done():
            self._no_open.set_result(None)

    async def opens_ended(self) -> None:
        """Wait until the driver has no open under way."""
        while self.opens_in_kernel:
            self._no_open = asyncio.get_running_loop().create_future()
            await self._no_open

    # The default is found even when the interpreter ends, and has taken this module apart.
    def close(self, _empty: type[Exception] = queue.Empty) -> None:
        """End the threads, once the loop is closed.

        Drop the jobs that no thread has begun, wait for those on disks, and stop those that wait for pipes.
        Then clean up the results that came after the loop's last turn.
        """
        dropped: list[Job] = []
        try:
            while True:
                item = self._queue.get_nowait()
                dropped += item[:1] if item else ()
        except _empty:
            pass
        for _ in self._threads:
            self._queue.put(None)
        ending = [thread for thread, stop in self._alone.values() if stop()]
        self._alone.clear()
        for thread in self._threads + ending:
            thread.join()
        self._threads.clear()
        self._unfinished.clear()  # the closed loop may be kept for long, its files not
        self._abandon_performed()
        for job in dropped:
            job.forgo()
        while self._left:
            OwedJob(self, self._left.popleft().end).forgo()


def _work(jobs: queue.SimpleQueue[tuple[Job, FilePool] | None]) -> None:
    """The body of a thread: one job after the other, until it gets None."""
    while (item := jobs.get()) is not None:
        job, pool = item
        job.perform()
        pool.post(job)
        del item, job, pool  # keep nothing alive while waiting for the next
