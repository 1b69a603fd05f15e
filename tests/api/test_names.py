"""hoop.install() puts what hoop has under asyncio's names, and hoop.uninstall() takes it away."""

from __future__ import annotations

import asyncio
import asyncio.locks
import asyncio.queues
import asyncio.streams
import asyncio.tasks
import copy
import socket
import sys

import pytest

import hoop
from hoop import names

NAMES = [(module, name) for module, found in names.REPLACED.items() for name in found]


@pytest.fixture
def installed():
    hoop.install()
    yield
    hoop.uninstall()


def meant() -> dict[str, object]:
    """What each name means now, in asyncio and in its module."""
    return {
        f"{place.__name__}.{name}": getattr(place, name)
        for module, name in NAMES
        for place in (sys.modules[module], asyncio)
    }


def test_without_it_asyncio_s_names_mean_asyncio_s_classes():
    for name, value in meant().items():
        assert value.__module__.startswith("asyncio."), name


def test_it_puts_hoop_s_classes_under_asyncio_s_names(installed):
    for name, value in meant().items():
        assert value is getattr(hoop, name.rpartition(".")[2])


def test_it_is_undone():
    before = meant()
    hoop.install()
    hoop.install()
    assert meant() != before
    hoop.uninstall()
    assert meant() == before
    hoop.uninstall()
    assert meant() == before


def test_installed_twice_it_still_knows_asyncio_s(installed):
    hoop.install()
    hoop.uninstall()
    assert asyncio.Queue.__module__ == "asyncio.queues"


def test_a_program_runs_on_them(run, installed):
    class Jobs(asyncio.PriorityQueue):
        pass

    async def works(jobs, lock, done):
        while True:
            job = await jobs.get()
            async with lock:
                done.append(job)
            jobs.task_done()

    async def main():
        jobs, lock, done = Jobs(), asyncio.Lock(), []
        assert type(lock) is hoop.Lock
        assert isinstance(jobs, hoop.PriorityQueue)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(works(jobs, lock, done)) for _ in range(3)]
            for n in range(9):
                await jobs.put(n)
            await jobs.join()
            for worker in workers:
                worker.cancel()
        assert sorted(done) == list(range(9))
        assert isinstance(lock, asyncio.Lock)
        assert isinstance(copy.copy(lock), asyncio.Lock)
        assert await asyncio.create_task(asyncio.sleep(0.001, 5), name="sleeper") == 5
        async with asyncio.timeout(10):
            assert await asyncio.wait_for(asyncio.sleep(0.001, 6), 10) == 6
        turn = [asyncio.sleep(0, n) for n in range(3)]
        assert sorted([await each for each in asyncio.as_completed(turn)]) == [0, 1, 2]

    run(main())
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_a_program_has_connections_and_children_on_them(run, installed):
    async def main():
        async def echo(reader, writer):
            assert type(reader) is hoop.StreamReader
            async for line in reader:
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.streams.open_connection(*server.sockets[0].getsockname())
        assert type(writer) is hoop.StreamWriter
        writer.write(b"one\ntwo\n")
        assert [await reader.readline(), await reader.readuntil((b"o", b"\n"))] == [
            b"one\n",
            b"two",
        ]
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())", stdin=asyncio.subprocess.PIPE, stdout=-1
        )
        assert isinstance(child.stdout, hoop.StreamReader)
        assert await child.communicate(b"to a child\n") == (b"to a child\n", None)
        loop = asyncio.get_running_loop()
        mine = asyncio.StreamReader()
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(mine), sock=ours
            )
            theirs.send(b"to asyncio's protocol\n")
            assert await mine.readline() == b"to asyncio's protocol\n"
            transport.close()
            await asyncio.sleep(0)

    run(main())
