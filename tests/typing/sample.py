"""Ordinary uses of hoop, as a type checker must see them. Only mypy reads this file (`make lint`)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Literal, assert_type

import hoop
from hoop import files as aiofiles


async def answer() -> int:
    return 42


async def wait(sock: socket.socket) -> None:
    assert_type(await hoop.sleep(0.1), None)
    assert_type(await hoop.sleep(0, "x"), str)
    assert_type(await hoop.create_task(answer(), name="asked"), int)
    loop = hoop.new_event_loop("epoll", spin_us=50)
    assert_type(await loop.sock_recv(sock, 10), bytes)
    assert_type(await loop.sock_recv_into(sock, bytearray(10)), int)
    assert_type(await loop.sock_recvfrom(sock, 10), tuple[bytes, Any])
    assert_type(await loop.sock_sendall(sock, memoryview(b"x")), None)
    assert_type((await loop.sock_accept(sock))[0], socket.socket)


async def ask() -> str:
    loop = asyncio.get_running_loop()
    future: hoop.Future[bytes] = hoop.Future(loop=loop)
    loop.call_soon(future.set_result, b"x")
    assert_type(await future, bytes)
    assert_type(future.result(), bytes)

    task = hoop.Task(answer(), loop=loop, name="asked")
    assert_type(task, hoop.Task[int])
    assert_type(await task, int)
    assert_type(task._polls, int)
    assert_type(task.get_name(), str)

    either: asyncio.Future[int] = task  # a hoop task goes wherever asyncio's do
    as_asyncio: asyncio.Task[int] = task
    done, _pending = await asyncio.wait([task, as_asyncio])
    assert_type(await asyncio.gather(task, future), tuple[int, bytes])
    assert_type(await asyncio.wait_for(either, 1), int)
    return f"{len(done)}"


def named(task: hoop.Task[int]) -> hoop.Task[int]:
    task.set_name("a name")
    wrong: hoop.Task[str] = task  # type: ignore[assignment]
    del wrong
    return task


def on_a_loop(loop: hoop.EventLoop) -> None:
    assert_type(loop.create_task(answer()), hoop.Task[int])
    assert_type(loop.create_future(), hoop.Future[Any])
    assert_type(loop.run_until_complete(answer()), int)
    handle: hoop.Handle = loop.call_soon(print, "now")
    handle.cancel()
    timer: hoop.TimerHandle = loop.call_later(0.5, print, "later")
    assert_type(timer.when(), float)
    loop.call_soon(named, 1)  # type: ignore[arg-type]
    assert_type(loop.driver, Literal["epoll", "uring"])
    hoop.new_event_loop(driver="epol")  # type: ignore[arg-type]
    accepted: asyncio.AbstractEventLoop = loop
    accepted.stop()


async def converse(reader: asyncio.StreamReader) -> None:
    """Hoop's streams go wherever asyncio's do."""
    server = await hoop.start_server(lambda r, w: w.close(), "localhost", 0, limit=1000)
    ours, writer = await hoop.open_connection("localhost", 1)
    reader = ours
    assert_type(writer, hoop.StreamWriter)
    assert_type(await ours.readuntil((b"\r\n", b"\n"), limit=100), bytes)
    assert_type(await ours.readline(limit=5), bytes)
    async for line in ours:
        assert_type(line, bytes)
    as_asyncio: asyncio.StreamWriter = writer
    as_asyncio.write(await reader.read())
    await writer.drain()
    server.close()


async def synchronise(lock: asyncio.Lock, queue: asyncio.Queue[bytes]) -> None:
    """Hoop's classes go wherever asyncio's do."""
    jobs = hoop.PriorityQueue[int](maxsize=3)
    await synchronise(hoop.Lock(), hoop.Queue())
    await jobs.put("x")  # type: ignore[arg-type]
    assert_type(await jobs.get(), int)
    assert_type(jobs.get_nowait(), int)
    assert_type(await asyncio.wait_for(jobs.get(), 1), int)
    assert_type(asyncio.create_task(jobs.get()), asyncio.Task[int])
    jobs.shutdown(immediate=True)
    async with lock, hoop.Semaphore(2), hoop.Condition(hoop.Lock()) as condition:
        assert_type(condition, None)
    assert_type(await hoop.Condition().wait_for(lambda: 3), int)
    assert_type(await hoop.Event().wait(), Literal[True])
    async with hoop.Barrier(1) as place:
        assert_type(place, int)
    try:
        await queue.put(b"x")
    except hoop.QueueShutDown:
        hoop.install()
        hoop.uninstall()


async def with_files(mode: str) -> None:
    async with hoop.open("name") as text:
        assert_type(text, hoop.TextFile)
        assert_type(await text.read(), str)
        async for line in text:
            assert_type(line, str)
    binary = await hoop.open(b"name", "rb+")
    assert_type(binary, hoop.BinaryFile)
    assert_type(await binary.readline(), bytes)
    assert_type(await hoop.open(3, mode), Any)
    path = hoop.Path("a") / "b"
    assert_type(path, hoop.Path)
    async with path.open("wb") as written:
        assert_type(await written.write(b"x"), int)
    assert_type(await path.read_text(), str)
    assert_type([below.name async for below in path.iterdir()], list[str])
    assert_type(await hoop.pread(3, 10, 0), bytes)
    assert_type(await aiofiles.os.listdir("."), list[str])


def main() -> None:
    assert_type(hoop.run(ask()), str)
    assert_type(asyncio.run(ask(), debug=True), str)
    with hoop.Runner(debug=False) as runner:
        assert_type(runner.run(answer()), int)
    with asyncio.Runner(loop_factory=hoop.new_event_loop) as stock:
        stock.get_loop().set_task_factory(hoop.eager_task_factory)
    with asyncio.Runner(loop_factory=hoop.EventLoop) as stock:
        assert_type(stock.run(answer()), int)
    asyncio.set_event_loop_policy(hoop.EventLoopPolicy())
    hoop.run(answer)  # type: ignore[arg-type]
