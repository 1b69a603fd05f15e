"""Threads that wait for disks, so that no file waits behind what the program runs in executors.

At most `HOOP_FILE_THREADS` of them per loop (16 if that is not set), started as they are needed. What may
wait for ever, as the other end of a pipe, gets a thread to itself, so that it can keep no file waiting.
The threads are daemons: what the kernel does not let go of does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import collections
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

THREADS_MAX = 16


def choose_threads_max() -> int:
    """How many threads a loop may have for its files. ValueError if HOOP_FILE_THREADS is no such number."""
    asked = os.environ.get("HOOP_FILE_THREADS") or str(THREADS_MAX)
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"HOOP_FILE_THREADS must be a number from 1 on, not {asked!r}")
    return int(asked)


class Job(Protocol):
    """What a thread can be given."""

    def perform(self) -> None:
        """Do it, on the thread."""

    def finish(self) -> None:
        """Tell whoever waits, on the loop's thread."""

    def abandon(self) -> None:
        """Clear away: there is no loop left to tell."""


class PythonJob:
    """A call of a Python function. If nobody waits any more, `undo` gets the result."""

    __slots__ = ("_args", "_call", "_error", "_result", "_undo", "future")

    def __init__(
        self,
        future: asyncio.Future[Any],
        call: Callable[..., Any],
        args: tuple[Any, ...],
        undo: Callable[[Any], object] | None,
    ) -> None:
        self.future = future
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
        """Hand the result over."""
        error, self._error = self._error, None
        if self.future.done():
            if error is None:
                self.abandon()
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result)

    def abandon(self) -> None:
        """Undo what was done."""
        if self._undo is not None and self._error is None:
            self._undo(self._result)


class FilePool:
    """The threads of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads_max: int) -> None:
        self._loop = weakref.ref(loop)
        self._threads_max = threads_max
        self._queue: queue.SimpleQueue[tuple[Job, FilePool] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._performed: collections.deque[Job] = collections.deque()  # whoever waits is to be told
        self.opens_in_kernel = 0  # under way in the driver: each may yet bring a descriptor
        self.jobs = 0  # how many there were, for whoever looks on

    def submit(self, job: Job) -> None:
        """Have a job done by one of the threads."""
        self.jobs += 1
        self._unfinished += 1
        self._queue.put((job, self))
        if len(self._threads) < min(self._unfinished, self._threads_max):
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
        """Call a function on one of the threads."""
        job = self._job(call, args, undo)
        self.submit(job)
        return job.future

    def call_alone(
        self, call: Callable[..., Any], *args: Any, undo: Callable[[Any], object] | None = None
    ) -> asyncio.Future[Any]:
        """Call a function that may never return, on a thread of its own."""
        job = self._job(call, args, undo)
        alone: queue.SimpleQueue[tuple[Job, FilePool] | None] = queue.SimpleQueue()
        alone.put((job, self))
        alone.put(None)
        self._unfinished += 1
        threading.Thread(target=_work, args=(alone,), name="hoop-files-alone", daemon=True).start()
        return job.future

    def _job(
        self, call: Callable[..., Any], args: tuple[Any, ...], undo: Callable[[Any], object] | None
    ) -> PythonJob:
        loop = self._loop()
        assert loop is not None
        return PythonJob(loop.create_future(), call, args, undo)

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
        self._unfinished -= 1
        self._performed.popleft().finish()

    def _abandon_performed(self) -> None:
        while True:
            try:
                job = self._performed.popleft()
            except IndexError:
                return
            job.abandon()

    async def opens_ended(self) -> None:
        """Wait until the driver has no file to open any more."""
        while self.opens_in_kernel:
            await asyncio.sleep(0)

    def close(self) -> None:
        """Once the loop is closed: drop what no thread has begun, wait for what the disks are at, and clear
        away what came after the loop's last turn."""
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._abandon_performed()


def _work(jobs: queue.SimpleQueue[tuple[Job, FilePool] | None]) -> None:
    """What a thread does: one job after the other, until it is given None."""
    while (item := jobs.get()) is not None:
        job, pool = item
        job.perform()
        pool.post(job)
        del item, job, pool  # while it waits it keeps nothing
