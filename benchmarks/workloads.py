"""What the benchmarks run: scheduling workloads and echo servers, without any measuring.

A scheduling workload is `async def f(n)`: it does its operation n times, n being a multiple of 100,
and nothing else that grows with n. An echo server is `async def f(host)`: it listens on a port of
the kernel's choice. Both use only what every asyncio loop offers, so the same code runs on all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

TIMER_DELAY_S = 60.0
PENDING_TIMERS = 10_000
TIMERS_PER_TURN = 100


async def call_soon(n: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def sleep_zero(n: int) -> None:
    sleep = asyncio.sleep
    for _ in range(n):
        await sleep(0)


class BareYield:
    """Gives up one turn of the loop, with no coroutine in between."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


async def bare_yield(n: int) -> None:
    turn = BareYield()
    for _ in range(n):
        await turn


async def future(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await waiter


async def hand_over(n: int) -> None:
    """Pass the turn between two tasks, each waking the other by a future's result."""
    create_future = asyncio.get_running_loop().create_future
    ping, pong = create_future(), create_future()
    rounds = n // 2  # There and back are two operations.

    async def partner() -> None:
        nonlocal ping
        for _ in range(rounds):
            await ping
            ping = create_future()
            pong.set_result(None)

    task = asyncio.create_task(partner())
    for _ in range(rounds):
        ping.set_result(None)
        await pong
        pong = create_future()
    await task


async def _nothing() -> None:
    pass


async def create_task(n: int) -> None:
    for _ in range(n):
        await asyncio.create_task(_nothing())


async def many_tasks(n: int) -> None:
    """Yield from a hundred tasks that are all ready at once."""
    turns = n // 100

    async def worker() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    await asyncio.gather(*(worker() for _ in range(100)))


def _never_called() -> None:
    raise AssertionError("a cancelled timer was called")


async def timer(n: int) -> None:
    """Arm a timer and cancel it, as the timeout of a request that was answered does."""
    call_later = asyncio.get_running_loop().call_later
    for _ in range(n // TIMERS_PER_TURN):
        for _ in range(TIMERS_PER_TURN):
            call_later(TIMER_DELAY_S, _never_called).cancel()
        await asyncio.sleep(0)  # Lets the loop clear cancelled timers away: that is a cost too.


@contextmanager
def pending_timers(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep many timers pending on the loop, on both sides of the deadline `timer` uses."""
    handles = [
        loop.call_later(TIMER_DELAY_S * (0.5 + i / PENDING_TIMERS), _never_called)
        for i in range(PENDING_TIMERS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.cancel()


def _nothing_around(loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Scheduling:
    """A row about the loop itself; `surroundings` is set up and taken down outside the timing."""

    name: str
    operation: str
    run: Callable[[int], Awaitable[None]]
    surroundings: Callable[[asyncio.AbstractEventLoop], AbstractContextManager[None]] = (
        _nothing_around
    )


SCHEDULING = (
    Scheduling("call_soon", "a callback schedules the next one", call_soon),
    Scheduling("sleep_zero", "`await asyncio.sleep(0)`", sleep_zero),
    Scheduling("bare_yield", "`await` something that yields once", bare_yield),
    Scheduling("future", "await a future set by `call_soon(set_result)`", future),
    Scheduling("hand_over", "one task wakes another through a future", hand_over),
    Scheduling("create_task", "`await create_task(...)` of an empty coroutine", create_task),
    Scheduling("many_tasks", "`sleep(0)` with 100 tasks ready", many_tasks),
    Scheduling("timer", "`call_later(60, ...)` and cancel it", timer),
    Scheduling("timer_pending", f"the same with {PENDING_TIMERS:,} pending", timer, pending_timers),
)


class EchoProtocol(asyncio.Protocol):
    """Sends back every byte it gets."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_protocol(host: str) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(EchoProtocol, host, 0, backlog=4096)


ECHO_SERVERS: dict[str, Callable[[str], Awaitable[asyncio.Server]]] = {
    "protocol": serve_protocol,
}


@dataclass(frozen=True)
class Echo:
    """A row about bytes through a socket: one message in flight on each connection."""

    name: str
    server: str
    connections: int
    message_bytes: int


ECHO = (
    Echo("echo_1", "protocol", 1, 64),
    Echo("echo_10", "protocol", 10, 64),
    Echo("echo_50_1k", "protocol", 50, 1024),
    Echo("echo_100", "protocol", 100, 64),
    Echo("echo_10_16k", "protocol", 10, 16 * 1024),
)
