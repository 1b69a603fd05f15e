"""Programs that run in virtual time: on hoop.sim, and on the virtual clocks of others.

Each is `async def f()`, and returns how many operations it has done. They know of no simulation: the same
code runs on any loop of asyncio, where it takes as long as it says.
"""

from __future__ import annotations

import asyncio
import functools
import random

HOST = "127.0.0.1"
SLEEPS = 10_000
TIMEOUTS = 2_000
ITEMS = 2_000
ECHOES = 50
CHATTERS = 50
CHAT_S = 180.0


# ---- tasks and timers ----------------------------------------------------------------------------------


async def sleeps() -> int:
    """Ten thousand tasks, each of which sleeps to another moment of one minute."""
    await asyncio.gather(*[asyncio.sleep(1 + n % 997 * 0.06) for n in range(SLEEPS)])
    return SLEEPS


async def timeouts() -> int:
    """Timeouts one after the other: half of them end the wait."""
    never = asyncio.Event()
    for n in range(TIMEOUTS):
        try:
            async with asyncio.timeout(0.1):
                await (never.wait() if n % 2 else asyncio.sleep(0.05))
        except TimeoutError:
            pass
    return TIMEOUTS


async def queue() -> int:
    """A producer and a consumer with a short queue between them."""
    items: asyncio.Queue[int] = asyncio.Queue(10)

    async def produce() -> None:
        for n in range(ITEMS):
            await items.put(n)
            if n % 10 == 0:
                await asyncio.sleep(0.1)

    producing = asyncio.create_task(produce())
    for _ in range(ITEMS):
        await items.get()
    await producing
    return ITEMS


async def small() -> int:
    """A small test: two tasks with a lock, a sleep and a queue."""
    lock, items = asyncio.Lock(), asyncio.Queue[int]()

    async def produce(first: int) -> None:
        for n in range(first, first + 5):
            async with lock:
                await asyncio.sleep(0.1)
                items.put_nowait(n)

    tasks = [asyncio.create_task(produce(first)) for first in (0, 5)]
    found = {await items.get() for _ in range(10)}
    await asyncio.gather(*tasks)
    assert found == set(range(10))
    return 10


# ---- servers and clients -------------------------------------------------------------------------------


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def ask(port: int, times: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for n in range(times):
        line = b"message %d\n" % n
        writer.write(line)
        assert await reader.readline() == line
    writer.close()
    await writer.wait_closed()


async def echo(clients: int = 5, times: int = ECHOES) -> int:
    """An echo server, and clients that wait for each answer."""
    server = await asyncio.start_server(answer, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*[ask(port, times) for _ in range(clients)])
    server.close()
    await asyncio.sleep(1)  # the server sees the ends
    return 2 * clients * times


async def small_server() -> int:
    """A small test: a server with two clients, of which each asks three times."""
    return await echo(2, 3)


class Chat:
    """A chat server: a line that a client sends goes to all others in its room."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[int, asyncio.StreamWriter]] = {}
        self.joined = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        room = self.rooms.setdefault(name, {})
        self.joined += 1
        number = self.joined
        room[number] = writer
        try:
            while line := await reader.readline():
                for other, far in room.items():
                    if other != number:
                        far.write(line)
        finally:
            del room[number]
            writer.close()


class Chatter:
    """A client: it types now and then, and connects anew now and then."""

    def __init__(self, port: int, number: int, pauses: tuple[float, float], end: float) -> None:
        self.port = port
        self.number = number
        self.pauses = pauses
        self.end = end
        self.random = random.Random(number)
        self.heard = 0

    async def listen(self, reader: asyncio.StreamReader) -> None:
        while await reader.readline():
            self.heard += 1

    async def live(self) -> int:
        """Chat until the end. Returns how many lines came from others."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.random.uniform(0, self.pauses[1]))
        while loop.time() < self.end:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            writer.write(b"hall\n")
            listening = asyncio.create_task(self.listen(reader))
            leaves = min(self.end, loop.time() + self.random.uniform(20, 200))
            while (now := loop.time()) < leaves:
                await asyncio.sleep(min(self.random.uniform(*self.pauses), leaves - now + 0.001))
                writer.write(b"%d says a sentence of the usual length, or so\n" % self.number)
            writer.write_eof()
            await listening
            writer.close()
            await writer.wait_closed()
        return self.heard


async def chat(pauses: tuple[float, float]) -> int:
    """A chat of 50 clients, for three minutes. Returns how many lines were delivered."""
    server = await asyncio.start_server(Chat().serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    end = asyncio.get_running_loop().time() + CHAT_S
    chatters = [Chatter(port, number, pauses, end) for number in range(CHATTERS)]
    heard = await asyncio.gather(*[chatter.live() for chatter in chatters])
    server.close()
    return sum(heard)


busy_chat = functools.partial(chat, (1.0, 10.0))
calm_chat = functools.partial(chat, (10.0, 90.0))
