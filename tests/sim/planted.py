"""Programs with a bug that only some orders of events, or faults, show. Each has its corrected twin.

Each function is a program. Its argument `right` chooses the corrected twin. OPTIONS has what the programs
need that use the network or a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import hoop
import hoop.sim


class Store:
    """Numbers in another process. Each answer takes its time."""

    def __init__(self) -> None:
        self.numbers = {"x": 0}

    async def get(self, name: str) -> int:
        await asyncio.sleep(random.expovariate(1000))
        return self.numbers[name]

    async def set(self, name: str, value: int) -> None:
        await asyncio.sleep(random.expovariate(1000))
        self.numbers[name] = value


async def lost_update(right: bool) -> None:
    """Two tasks read a number, and write it back one higher."""
    store, lock = Store(), hoop.Lock()

    async def add() -> None:
        await asyncio.sleep(random.random() * 0.01)
        if right:
            async with lock:
                await store.set("x", await store.get("x") + 1)
        else:
            await store.set("x", await store.get("x") + 1)

    await asyncio.gather(add(), add())
    assert store.numbers == {"x": 2}


async def pool_of_connections(right: bool) -> None:
    """A task sees that a pool has a connection, asks whether it is alive, and takes it."""
    pool = ["only"]

    async def use() -> None:
        await asyncio.sleep(random.random() * 0.05)
        while not pool:
            await asyncio.sleep(0.01)
        if right:
            connection = pool.pop()
            await asyncio.sleep(random.random() * 0.01)
        else:
            await asyncio.sleep(random.random() * 0.01)
            connection = pool.pop()
        await asyncio.sleep(0.001)
        pool.append(connection)

    await asyncio.gather(use(), use())


async def relies_on_first_waiter(right: bool) -> None:
    """Two tasks wait for one event. The second takes it that the first has run."""
    ready, filled, table = asyncio.Event(), asyncio.Event(), {}

    async def first() -> None:
        await ready.wait()
        table["key"] = 1
        filled.set()

    async def second() -> None:
        await ready.wait()
        if right:
            await filled.wait()
        assert table["key"] == 1

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
        await asyncio.sleep(1)
        ready.set()


async def relies_on_turn_before(right: bool) -> None:
    """The same, but the first task is ready a turn earlier."""
    early, late, filled, table = (*(asyncio.Event() for _ in range(3)), {})

    async def first() -> None:
        await early.wait()
        table["key"] = 1
        filled.set()

    async def second() -> None:
        await late.wait()
        if right:
            await filled.wait()
        assert table["key"] == 1

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
        await asyncio.sleep(1)
        early.set()
        await asyncio.sleep(0)
        late.set()


async def relies_on_order_of_start(right: bool) -> None:
    """A task takes it that one that was made before it has begun."""
    filled, table = asyncio.Event(), {}

    async def first() -> None:
        table["key"] = 1
        filled.set()

    async def second() -> None:
        if right:
            await filled.wait()
        assert table["key"] == 1

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())


async def six_steps_ahead(right: bool) -> None:
    """One task takes six steps while another waits for one. The first takes it that it is the slower one."""
    go, seen = asyncio.Event(), asyncio.Event()

    async def quick() -> None:
        await go.wait()
        seen.set()

    async def slow() -> None:
        for _ in range(6):
            await asyncio.sleep(0)
        if right:
            await seen.wait()
        assert seen.is_set()

    async with asyncio.TaskGroup() as group:
        group.create_task(quick())
        await asyncio.sleep(1)
        group.create_task(slow())
        go.set()


async def shutdown_loses_item(right: bool) -> None:
    """A worker is cancelled while it has taken an item, and not finished it."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    done = []

    async def finish(item: int) -> None:
        await asyncio.sleep(0.0001 + 0.002 * random.random())
        done.append(item)

    async def work() -> None:
        while True:
            item = await queue.get()
            await finish(item)
            queue.task_done()

    worker = asyncio.create_task(work())
    for item in range(5):
        queue.put_nowait(item)
        await asyncio.sleep(random.random() * 0.02)
    if right:
        await queue.join()
    worker.cancel()
    left = []
    while not queue.empty():
        left.append(queue.get_nowait())
    assert sorted(done + left) == list(range(5))


async def lock_released_twice(right: bool) -> None:
    """After a timeout a task releases a lock, which it has given back already in some cases."""
    lock = asyncio.Lock()
    inside = 0

    async def use() -> None:
        nonlocal inside
        await asyncio.sleep(random.random() * 0.05)
        await lock.acquire()
        held = True
        try:
            async with asyncio.timeout(0.01):
                inside += 1
                assert inside == 1, "two tasks hold the lock"
                await asyncio.sleep(random.random() * 0.0095)
                inside -= 1
                lock.release()
                held = False
                await asyncio.sleep(random.random() * 0.005)
        except TimeoutError:
            if held or not right:
                inside -= held
                if lock.locked():
                    lock.release()

    await asyncio.gather(*(use() for _ in range(6)))


class Connection:
    """A connection that may be lost. Requests wait for their answers."""

    def __init__(self, right: bool) -> None:
        self.right = right
        self.waiters: list[asyncio.Future[str]] = []
        self.lost = False

    async def request(self) -> str:
        if self.lost:
            return "lost"
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        asyncio.get_running_loop().call_later(random.random(), self.answer, waiter)
        return await waiter

    def answer(self, waiter: asyncio.Future[str]) -> None:
        if not self.lost and not waiter.done():
            waiter.set_result("answer")

    def lose(self) -> None:
        self.lost = True
        if self.right:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result("lost")


async def waiters_forgotten(right: bool) -> None:
    """A connection is lost, and nobody tells the tasks that wait for an answer."""
    connection = Connection(right)
    asyncio.get_running_loop().call_later(2 * random.random(), connection.lose)
    for _ in range(2):
        assert await connection.request() in ("answer", "lost")


# ---- programs that use the network -----------------------------------------------------------------------

HOST, PORT = "10.0.0.1", 4000


class Inbox(asyncio.DatagramProtocol):
    """Keeps the datagrams that come."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.came.put_nowait((data, address))


async def missing_timeout(right: bool) -> None:
    """A client waits for an answer that is lost."""
    loop = asyncio.get_running_loop()
    serving, requests = await loop.create_datagram_endpoint(Inbox, local_addr=(HOST, PORT))
    asking, answers = await loop.create_datagram_endpoint(Inbox, remote_addr=(HOST, PORT))

    async def serve() -> None:
        while True:
            data, address = await requests.came.get()
            serving.sendto(data.upper(), address)

    server = asyncio.create_task(serve())
    for _ in range(5):
        answer = None
        while answer is None:
            asking.sendto(b"question")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 if right else None):
                    answer, _ = await answers.came.get()
        assert answer == b"QUESTION"
    server.cancel()
    asking.close()
    serving.close()


async def reordered_datagrams(right: bool) -> None:
    """A thermometer sends its numbers, and the reader takes the last that came for the newest."""
    loop = asyncio.get_running_loop()
    reading, readings = await loop.create_datagram_endpoint(Inbox, local_addr=(HOST, PORT))
    sending, _ = await loop.create_datagram_endpoint(Inbox, remote_addr=(HOST, PORT))
    for number in range(20):
        sending.sendto(b"%d" % number)
        await asyncio.sleep(0.001)
    await asyncio.sleep(60)
    shown = -1
    while not readings.came.empty():
        data, _ = readings.came.get_nowait()
        if not right or int(data) > shown:
            assert int(data) >= shown, "an old number is shown"
            shown = int(data)
    sending.close()
    reading.close()


async def retry_that_is_not_idempotent(right: bool) -> None:
    """A client orders again if its connection is lost. Perhaps only the answer was."""
    orders: list[bytes] = []
    known: set[bytes] = set()

    async def serve(reader: Any, writer: Any) -> None:
        with contextlib.suppress(ConnectionError):
            order = await reader.readline()
            if order and not (right and order in known):
                known.add(order)
                orders.append(order)
            writer.write(b"done\n")
            await writer.drain()
        writer.close()

    async def order(number: int) -> None:
        answer = b""
        while answer != b"done\n":
            writer = None
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection(HOST, PORT)
                writer.write(b"order %d\n" % number)
                answer = await reader.readline()
            if writer is not None:
                writer.close()

    async with await asyncio.start_server(serve, HOST, PORT):
        for number in range(5):
            await order(number)
        await asyncio.sleep(10)
    assert len(orders) == len(set(orders)) == 5, "an order was carried out twice"


async def storm_of_reconnections(right: bool) -> None:
    """A server loses all clients at once, and can greet two at a time. They come back in step."""
    greeting = 0
    greeted = asyncio.Semaphore(0)
    writers: list[Any] = []

    async def serve(reader: Any, writer: Any) -> None:
        nonlocal greeting
        greeting += 1
        try:
            if greeting <= 2:
                await asyncio.sleep(0.05)
                writer.write(b"hello\n")
                writers.append(writer)
                return
        finally:
            greeting -= 1
        writer.close()

    async def stay_connected(times: int) -> None:
        for _ in range(times):
            pause = 0.1
            for _ in range(6):
                reader, writer = await asyncio.open_connection(HOST, PORT)
                if await reader.readline() == b"hello\n":
                    break
                writer.close()
                await asyncio.sleep(random.uniform(0, 2 * pause) if right else pause)
                pause *= 3
            else:
                raise AssertionError("a client has given up")
            greeted.release()
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, HOST, PORT)
    async with server, asyncio.TaskGroup() as clients:
        for _ in range(16):
            clients.create_task(stay_connected(2))
            await asyncio.sleep(0.5)
        for _ in range(2):
            for _ in range(16):
                await greeted.acquire()
            for writer in writers:
                writer.close()
            writers.clear()


async def half_written_file(right: bool) -> None:
    """The power goes while a program writes its state over the old one."""
    old, new = "old " * 300, "new " * 300

    async def save() -> None:
        if right:
            await hoop.write_text("/data/state", new, atomic=True)
        else:
            await hoop.write_text("/data/state", new)

    await hoop.write_text("/data/state", old, atomic=True)
    saved = await hoop.sim.until_power_loss(save())
    text = await hoop.read_text("/data/state")
    assert text == new or (text == old and not saved), "half of a state"


def disk() -> hoop.sim.Disk:
    """A disk with a folder for a state."""
    made = hoop.sim.Disk()
    made.write("/data/other", b"")
    return made


OPTIONS: dict[Any, dict[str, Any]] = {
    missing_timeout: {"faults": hoop.sim.Faults(loss=0.05)},
    reordered_datagrams: {},
    retry_that_is_not_idempotent: {"faults": hoop.sim.Faults(reset=0.1)},
    storm_of_reconnections: {},
    half_written_file: {"disk": disk()},
}
