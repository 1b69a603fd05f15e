"""Work for the loop alone: callbacks, tasks, futures, timers, queues, locks, and two ends of a socket.

Except for `timers_firing`, n is a multiple of 100.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager

from workloads import attribute

Work = Callable[[int], Awaitable[object]]

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


@asynccontextmanager
async def sleep_zero(library: str) -> AsyncIterator[Work]:
    sleep = attribute(library, "sleep")

    async def work(n: int) -> None:
        for _ in range(n):
            await sleep(0)

    yield work


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


@asynccontextmanager
async def create_task(library: str) -> AsyncIterator[Work]:
    create_task = attribute(library, "create_task")

    async def work(n: int) -> None:
        for _ in range(n):
            await create_task(_nothing())

    yield work


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


@asynccontextmanager
async def timer_pending() -> AsyncIterator[Work]:
    """`timer` with many others pending on the loop, on both sides of the deadline it uses."""
    loop = asyncio.get_running_loop()
    handles = [
        loop.call_later(TIMER_DELAY_S * (0.5 + i / PENDING_TIMERS), _never_called)
        for i in range(PENDING_TIMERS)
    ]
    try:
        yield timer
    finally:
        for handle in handles:
            handle.cancel()


def resident_bytes() -> int:
    """Return how much memory of this process is resident now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def timers_firing(n: int) -> dict[str, float]:
    """Arm so many timers, due within a second and in no order, and let all of them fire.

    Returns how much memory each took, its callback's arguments included.
    """
    loop = asyncio.get_running_loop()
    fired = loop.create_future()
    left = n

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            fired.set_result(None)

    delays = [i / n for i in range(n)]
    random.Random(1).shuffle(delays)
    before = resident_bytes()
    start = loop.time()
    for delay in delays:
        loop.call_at(start + delay, fire)
    bytes_each = (resident_bytes() - before) / n
    await fired
    return {"bytes_each": bytes_each}


@asynccontextmanager
async def queue(library: str) -> AsyncIterator[Work]:
    """One task puts, another gets, through a queue of the library that holds ten."""
    items = attribute(library, "Queue")(10)

    async def work(n: int) -> None:
        async def put() -> None:
            for i in range(n):
                await items.put(i)

        putting = asyncio.create_task(put())
        for _ in range(n):
            await items.get()
        await putting

    yield work


@asynccontextmanager
async def lock(library: str) -> AsyncIterator[Work]:
    """Ten tasks hand one lock of the library to each other."""
    the_lock = attribute(library, "Lock")()

    async def work(n: int) -> None:
        async def take_and_yield() -> None:
            for _ in range(n // 10):
                async with the_lock:
                    await asyncio.sleep(0)  # Someone else comes to wait for it.

        await asyncio.gather(*(take_and_yield() for _ in range(10)))

    yield work


async def call_threadsafe(n: int) -> None:
    """Schedule callbacks as from another thread, on a loop that is awake."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for _ in range(n // 100):
        for _ in range(100):
            loop.call_soon_threadsafe(step)
        await asyncio.sleep(0)
    await done


class _Player(asyncio.Protocol):
    """Sends back what it gets, so many times, and closes on what comes after that."""

    transport: asyncio.Transport

    def __init__(self, returns: int) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returns = returns

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._returns:
            self._returns -= 1
            self.transport.write(data)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def socket_pair(n: int) -> None:
    """Throw 64 bytes to and fro between two transports of the loop, n times."""
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    players = [(await loop.create_connection(lambda: _Player(n // 2), sock=end))[1] for end in ends]
    players[0].transport.write(b"x" * 64)
    for player in players:
        await player.lost
