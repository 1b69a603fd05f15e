"""EventLoop.drain(): stop accepting, close idle connections, cancel tasks, abort the rest, all in time."""

from __future__ import annotations

import asyncio
import math
from typing import Any, NamedTuple

Loop = Any  # a hoop.EventLoop; its module imports this one

LOOK_EVERY = 0.02  # seconds between two looks at the connections
CANCEL_AT = 0.75  # of the time until the deadline; the rest is for tasks to end in


class Drained(NamedTuple):
    """The result of EventLoop.drain(): how much it closed, cancelled and aborted, and which tasks still
    run.

        outcome = await loop.drain(10)
        if outcome.alive or outcome.aborted:
            print("not everything ended in time", outcome)
    """

    closed: int  # number of accepted connections that ended before they had to be aborted
    cancelled: tuple[asyncio.Task[Any], ...]  # tasks that drain() cancelled
    aborted: tuple[str, ...]  # the connections that were open at the end, described
    alive: tuple[asyncio.Task[Any], ...]  # tasks that are not done although they were cancelled


class Drain:
    """One drain of a loop. Every caller of drain() during its time shares it."""

    def __init__(self, loop: Loop, deadline: float, quiet: float) -> None:
        self._loop = loop
        self._began = loop.time()
        self._ends = self._began + deadline
        self._quiet = quiet
        self._callers: set[asyncio.Task[Any]] = set()
        self._outcome: asyncio.Future[Drained] = loop.create_future()

    def hasten(self, deadline: float) -> None:
        """End no later than this many seconds from now."""
        self._ends = min(self._ends, self._loop.time() + deadline)

    async def join(self) -> Drained:
        """Wait for the drain that another task runs."""
        self._note_caller()
        return await asyncio.shield(self._outcome)

    async def run(self) -> Drained:
        """Drain the loop. A cancellation stops the drain where it is."""
        self._note_caller()
        try:
            self._stop_accepting()
            connections = len(self._accepted())
            await self._close_idle()
            cancelled = await self._cancel_tasks()
            unfinished = len(self._accepted())
            aborted = await self._abort()
            outcome = Drained(
                closed=connections - unfinished,
                cancelled=tuple(cancelled),
                aborted=tuple(aborted),
                alive=tuple(task for task in cancelled if not task.done()),
            )
            self._outcome.set_result(outcome)
            return outcome
        finally:
            self._outcome.cancel()  # does nothing if there is an outcome

    def _note_caller(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._callers.add(task)

    def _stop_accepting(self) -> None:
        for server in self._loop._servers():
            server.close()

    def _accepted(self) -> list[Any]:
        return [t for t in self._loop._open_transports() if t._is_accepted()]

    async def _close_idle(self) -> None:
        """Close each accepted connection once it was idle for the quiet time, until none is left."""
        idle_since: dict[Any, tuple[int, float]] = {}
        while connections := self._accepted():
            now = self._loop.time()
            time_is_up = self._began + CANCEL_AT * (self._ends - self._began)
            if now >= time_is_up:
                return
            seen, idle_since = idle_since, {}
            for connection in connections:
                mark = connection._idle_mark()
                if mark is None or connection.is_closing():
                    continue
                before = seen.get(connection)
                since = before[1] if before is not None and before[0] == mark else now
                idle_since[connection] = mark, since
                if now - since >= self._quiet:
                    _outermost(connection).close()
            await asyncio.sleep(min(LOOK_EVERY, time_is_up - now))

    def _tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks to end: all but the callers of drain() and those that wait for one of these."""
        found = asyncio.all_tasks(self._loop)
        return {task for task in found if not self._waits_for_caller(task)}

    def _waits_for_caller(self, task: Any) -> bool:
        while task is not None and task not in self._callers:
            task = getattr(task, "_fut_waiter", None)
        return task is not None

    async def _cancel_tasks(self) -> list[asyncio.Task[Any]]:
        """Cancel each task once, including tasks that others start meanwhile."""
        cancelled: list[asyncio.Task[Any]] = []
        while tasks := self._tasks():
            for task in tasks.difference(cancelled):
                cancelled.append(task)
                task.cancel()
            remaining = self._ends - self._loop.time()
            await asyncio.wait(tasks, timeout=max(0.0, min(LOOK_EVERY, remaining)))
            if remaining <= 0:
                break
        return cancelled

    async def _abort(self) -> list[str]:
        transports = [*self._loop._open_transports(), *self._loop._transports.values()]
        described = [_describe(transport) for transport in transports]
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)  # connection_lost() is called in the next turn
        return described


def _outermost(connection: Any) -> Any:
    """The transport that the program knows: the TLS transport, if the connection has one."""
    return getattr(connection.get_protocol(), "_app_transport", None) or connection


def _describe(transport: Any) -> str:
    peer = transport.get_extra_info("peername") or transport.get_extra_info("sockname")
    return f"{peer} {transport!r}"


def check(deadline: float, quiet: float) -> None:
    """Raise ValueError if an argument is not a number of seconds."""
    for name, seconds in (("deadline", deadline), ("quiet", quiet)):
        if math.isnan(seconds) or seconds < 0:
            raise ValueError(f"{name} must be a number of seconds from 0 on, not {seconds!r}")
