"""Nothing grows faster than the work: eight times as many of something cost about eight times as much.

A cost is the CPU time of this thread, and the least of several tries counts. If each of n searched through
all n, eight times as many would cost 64 times as much. The bound lies far from both.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import sys
import time
import tracemalloc

import pytest
from peers import until

import hoop

FACTOR = 8
BOUND = 28  # between FACTOR and FACTOR squared
TRIES = 3


@pytest.fixture
def grows_with_the_work(new_loop):
    """A function that runs `await work(n)`, which returns a cost, with few and with many."""

    def check(work, few: int) -> None:
        gc.collect()
        gc.disable()  # its share grows with all objects that live
        try:
            costs = [
                min(new_loop().run_until_complete(work(n)) for _ in range(TRIES))
                for n in (few, FACTOR * few)
            ]
        finally:
            gc.enable()
        assert costs[1] < BOUND * max(costs[0], 1e-4)

    return check


def in_disorder(items: list) -> list:
    shuffled = list(items)
    random.Random(1).shuffle(shuffled)
    return shuffled


# ---- one future, and many who wait for it ---------------------------------------------------------------


@pytest.mark.parametrize("wait", [lambda f: hoop.wait([f]), hoop.shield], ids=["wait", "shield"])
@pytest.mark.parametrize("order", [list, reversed, in_disorder], ids=["first", "last", "any"])
def test_waits_for_one_future_are_cancelled(grows_with_the_work, wait, order):
    async def work(n: int) -> float:
        shared = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await wait(shared)

        tasks = [asyncio.create_task(waits()) for _ in range(n)]
        await asyncio.sleep(0)
        began = time.thread_time()
        for task in order(tasks):
            task.cancel()
        await asyncio.wait(tasks)
        took = time.thread_time() - began
        assert shared._callbacks is None
        return took

    grows_with_the_work(work, 2000)


def test_one_callback_is_added_often_and_removed_at_once(grows_with_the_work):
    async def work(n: int) -> float:
        future = asyncio.get_running_loop().create_future()
        for _ in range(n):
            future.add_done_callback(print)
        began = time.thread_time()
        assert future.remove_done_callback(print) == n
        return time.thread_time() - began

    grows_with_the_work(work, 2000)


def test_a_future_tells_those_who_are_left(run):
    async def main() -> None:
        shared = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(hoop.wait([shared])) for _ in range(300)]
        told: list[int] = []
        await asyncio.sleep(0)
        for i in range(100):
            shared.add_done_callback(lambda _, i=i: told.append(i))
        gone = in_disorder(tasks)[:250]
        for count, task in enumerate(gone, 1):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(shared._callbacks) == 400 - count
        late = asyncio.create_task(hoop.wait([shared]))
        await asyncio.sleep(0)
        assert len(shared._callbacks) == 151
        shared.set_result(1)
        left = [task for task in tasks if task not in gone]
        for task in (*left, late):
            assert await task == ({shared}, set())
        assert told == list(range(100))

    run(main())


def test_a_comparison_removes_callbacks_meanwhile(run):
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()

        class Equal:
            def __call__(self, _: object) -> None:
                raise AssertionError("it was removed")

            def __eq__(self, other: object) -> bool:
                if callbacks:
                    assert future.remove_done_callback(callbacks.pop()) == 3
                return True

            __hash__ = None

        first, second = [].append, [].append
        callbacks = [first]
        for callback in (first, Equal(), second, Equal()):
            future.add_done_callback(callback)
        assert future.remove_done_callback(Equal()) == 4
        assert future._callbacks is None

    run(main())


# ---- locks and queues --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [list, reversed], ids=["first", "last"])
def test_waiters_of_an_event_are_cancelled(grows_with_the_work, order):
    async def work(n: int) -> float:
        event = hoop.Event()
        tasks = [asyncio.create_task(event.wait()) for _ in range(n)]
        await asyncio.sleep(0)
        began = time.thread_time()
        for task in order(tasks):
            task.cancel()
        await asyncio.wait(tasks)
        return time.thread_time() - began

    grows_with_the_work(work, 2000)


# ---- timers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [list, reversed, in_disorder], ids=["first", "last", "any"])
def test_timers_are_cancelled(grows_with_the_work, order):
    async def work(n: int) -> float:
        loop = asyncio.get_running_loop()
        began = time.thread_time()
        timers = [loop.call_later(3600 + i, print) for i in range(n)]
        for timer in order(timers):
            timer.cancel()
        await asyncio.sleep(0)
        return time.thread_time() - began

    grows_with_the_work(work, 5000)


def test_a_loop_gives_the_memory_of_very_many_back(run):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.001)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for timer in [loop.call_later(3600, print) for _ in range(100_000)]:
                timer.cancel()
            del timer
            done = loop.create_future()
            for _ in range(100_000):
                loop.call_soon(int)
            loop.call_soon(done.set_result, None)
            await done
            await asyncio.sleep(0.001)
            gc.collect()
            after, most = tracemalloc.get_traced_memory()
            assert most - before > 10_000_000
            assert after - before < 500_000
        finally:
            tracemalloc.stop()

    run(main())


# ---- connections -------------------------------------------------------------------------------------------


class Counting(asyncio.Protocol):
    """Counts the connections that were made in each turn of the loop."""

    made: dict[int, int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        turn = asyncio.get_running_loop()._turns
        self.made[turn] = self.made.get(turn, 0) + 1


class Echo(asyncio.Protocol):
    """Sends back every byte."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def test_a_herd_is_accepted_in_many_turns(run):
    """Others have their turns meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        Counting.made = {}
        server = await loop.create_server(Counting, "127.0.0.1", 0, backlog=1000)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(400)]
        await until(lambda: sum(Counting.made.values()) == 400)
        assert max(Counting.made.values()) <= 64
        for client in clients:
            client.close()
        server.close()
        await until(lambda: loop.counters()["transports"] == 0)

    run(main())


def test_an_idle_connection_takes_little_memory(run):
    """Its transport, context, operations and protocol, without the weak set of clients that asyncio keeps."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        clients: list[socket.socket] = []

        async def connect(count: int) -> None:
            for _ in range(count):
                clients.append(socket.create_connection(server.sockets[0].getsockname()))
                clients[-1].send(b"x" * 64)
                await asyncio.sleep(0)
            while loop.counters()["transports"] < len(clients):
                await asyncio.sleep(0)
            for client in clients[-count:]:
                while not receive(client, 64):
                    await asyncio.sleep(0)
            gc.collect()

        def of_the_loop() -> int:
            statistics = tracemalloc.take_snapshot().statistics("filename")
            return sum(s.size for s in statistics if "event_loop" in s.traceback[0].filename)

        await connect(50)
        tracemalloc.start()
        try:
            before = of_the_loop()
            await connect(200)
            assert 500 < (of_the_loop() - before) / 200 < 1100
        finally:
            tracemalloc.stop()
        for client in clients:
            client.close()
        server.close()
        await until(lambda: loop.counters()["transports"] == 0)

    run(main())


async def stalled(filler: int) -> tuple[asyncio.Transport, socket.socket]:
    """A connection whose peer does not read. So many bytes are written, more than the kernel takes."""
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    transport.write(bytes(filler))
    assert transport.get_write_buffer_size() > 0
    return transport, far


def receive(sock: socket.socket, n: int) -> bytes:
    sock.setblocking(False)
    try:
        return sock.recv(n)
    except BlockingIOError:
        return b""


def test_a_message_that_waits_is_not_copied(run):
    """If it is sent to thousands of clients, there is one object of it."""

    async def main() -> None:
        transport, far = await stalled(1 << 20)
        message = bytes(1000)
        alone = sys.getrefcount(message)
        for _ in range(500):
            transport.write(message)
        while transport.get_write_buffer_size() > 300_000:
            receive(far, 10_000)
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        queued = -(-transport.get_write_buffer_size() // len(message))
        assert sys.getrefcount(message) - alone == queued > 100
        transport.abort()
        far.close()
        await until(lambda: transport.get_protocol() is None)

    run(main())


def test_a_long_queue_keeps_its_order(run):
    async def main() -> None:
        transport, far = await stalled(1 << 20)
        chunks = [b"%d," % i for i in range(30_000)]
        for chunk in chunks:
            transport.write(chunk)
        wanted = bytes(1 << 20) + b"".join(chunks)
        received = bytearray()
        while len(received) < len(wanted):
            received += receive(far, 20_000)
            await asyncio.sleep(0)
        assert received == wanted
        assert transport.get_write_buffer_size() == 0
        transport.close()
        far.close()
        await until(lambda: transport.get_protocol() is None)

    run(main())
