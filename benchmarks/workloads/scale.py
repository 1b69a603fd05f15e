"""Work whose size grows from row to row: very many tasks, timers, writers, and clients of one message.

`at_once` is that size, and n a multiple of it. The work is done in batches of so many, one after the other.
Memory is reported for large batches only, as resident memory comes in pages.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from workloads import attribute
from workloads.scheduling import resident_bytes

Work = Callable[[int], Awaitable[object]]
Report = dict[str, float]

MEASURABLE_FROM = 10_000  # A batch of fewer takes too little memory to tell.
DELAY_S = 3600.0
WRITE_BYTES = 16 * 1024
SLOW_BYTES = 512 * 1024


class Weighing:
    """The resident memory that the first batch takes, for each of its parts."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._before = resident_bytes()
        self._each: float | None = None

    def take(self) -> None:
        """The batch stands."""
        if self._each is None:
            self._each = (resident_bytes() - self._before) / self._at_once

    def report(self, measurable_from: int = MEASURABLE_FROM) -> Report:
        if self._each is None or self._at_once < measurable_from:
            return {}
        return {"bytes_each": self._each}


# ---- tasks and timers ----


@asynccontextmanager
async def tasks(at_once: int) -> AsyncIterator[Work]:
    """Make so many tasks, let each take three turns, and wait for all."""

    async def body() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def work(n: int) -> Report:
        weighing = Weighing(at_once)
        for _ in range(n // at_once):
            made = [asyncio.create_task(body()) for _ in range(at_once)]
            await asyncio.sleep(0)
            weighing.take()
            for task in made:
                await task
            del made
        return weighing.report()

    yield work


@asynccontextmanager
async def cancelled_tasks(at_once: int) -> AsyncIterator[Work]:
    """Make so many tasks that sleep for an hour. Find them by all_tasks(), cancel them, and wait."""

    async def body() -> None:
        await asyncio.sleep(DELAY_S)

    async def work(n: int) -> Report:
        weighing = Weighing(at_once)
        for _ in range(n // at_once):
            made = [asyncio.create_task(body()) for _ in range(at_once)]
            await asyncio.sleep(0)
            weighing.take()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait(made)
            del made
        return weighing.report()

    yield work


@asynccontextmanager
async def timers(at_once: int) -> AsyncIterator[Work]:
    """Arm so many timers, due at once and made in no order of time, and let all of them fire."""
    loop = asyncio.get_running_loop()
    delays = [i / at_once for i in range(at_once)]
    random.Random(1).shuffle(delays)

    async def fire_all(weighing: Weighing) -> None:
        fired = loop.create_future()
        left = at_once

        def fire() -> None:
            nonlocal left
            left -= 1
            if not left:
                fired.set_result(None)

        start = loop.time() - 1
        for delay in delays:
            loop.call_at(start + delay, fire)
        weighing.take()
        await fired

    async def work(n: int) -> Report:
        weighing = Weighing(at_once)
        for _ in range(n // at_once):
            await fire_all(weighing)
        return weighing.report()

    yield work


def _never_called() -> None:
    raise AssertionError("a cancelled timer was called")


@asynccontextmanager
async def cancelled_timers(at_once: int) -> AsyncIterator[Work]:
    """Arm so many timers, and cancel all of them in another order, as timeouts are that did not happen."""
    loop = asyncio.get_running_loop()
    order = list(range(at_once))
    random.Random(1).shuffle(order)

    async def work(n: int) -> Report:
        weighing = Weighing(at_once)
        for _ in range(n // at_once):
            handles = [loop.call_later(DELAY_S, _never_called) for _ in range(at_once)]
            weighing.take()
            for i in order:
                handles[i].cancel()
            del handles
            await asyncio.sleep(0)
        return weighing.report()

    yield work


# ---- connections ----


@asynccontextmanager
async def writers(at_once: int, library: str) -> AsyncIterator[Work]:
    """So many tasks write 16 KiB again and again to one connection, and await drain() each time."""
    open_connection = attribute(library, "open_connection")
    message = b"x" * WRITE_BYTES

    async def work(n: int) -> None:
        near, far = socket.socketpair()
        _reader, writer = await open_connection(sock=near)
        far_reader, far_writer = await open_connection(sock=far)

        async def write() -> None:
            for _ in range(n // at_once):
                writer.write(message)
                await writer.drain()

        async def read() -> None:
            for _ in range(n // at_once * at_once):
                await far_reader.readexactly(WRITE_BYTES)

        await asyncio.gather(read(), *(write() for _ in range(at_once)))
        for one in (writer, far_writer):
            one.close()
            await one.wait_closed()

    yield work


class _Slow(asyncio.Protocol):
    """A client of ours that does not read what it is sent."""


@asynccontextmanager
async def slow_clients(at_once: int) -> AsyncIterator[Work]:
    """Send one message of 512 KiB to so many clients, none of whom reads. Report the memory of each."""
    loop = asyncio.get_running_loop()
    ends = [socket.socketpair() for _ in range(at_once)]
    opened = [(await loop.create_connection(_Slow, sock=near))[0] for near, _ in ends]

    async def work(n: int) -> Report:
        weighing = Weighing(at_once)
        for _ in range(n // at_once):
            message = bytes(SLOW_BYTES)
            for transport in opened:
                transport.write(message)
            await asyncio.sleep(0)
            weighing.take()
        return weighing.report(10)

    try:
        yield work
    finally:
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0)
        for _, far in ends:
            far.close()


class _Subscriber(asyncio.Protocol):
    """Sends one message to all clients as soon as each of them has asked for it."""

    transport: asyncio.Transport

    def __init__(self, waiting: list[asyncio.Transport], clients: int, message: bytes) -> None:
        self._waiting = waiting
        self._clients = clients
        self._message = message

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting.append(self.transport)
        if len(self._waiting) == self._clients:
            for transport in self._waiting:
                transport.write(self._message)
            self._waiting.clear()


async def broadcast(sock: socket.socket, clients: int, answer_bytes: int) -> asyncio.Server:
    """Serve so many clients, each of which asks with one packet."""
    waiting: list[asyncio.Transport] = []
    message = bytes(answer_bytes)
    return await asyncio.get_running_loop().create_server(
        lambda: _Subscriber(waiting, clients, message), sock=sock, backlog=4096
    )
