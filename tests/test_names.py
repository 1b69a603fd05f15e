"""hoop.install() puts what hoop has under asyncio's names, and hoop.uninstall() takes it away."""

from __future__ import annotations

import asyncio
import asyncio.locks
import asyncio.queues
import asyncio.streams
import asyncio.taskgroups
import asyncio.tasks
import asyncio.timeouts
import copy
import inspect
import socket
import sys
import types

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
    """The present meaning of each name, in asyncio and in its module."""
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
        if name.endswith(".create_task"):
            assert value is names.create_task  # see test_a_profiler_can_patch_create_task
        else:
            assert value is getattr(hoop, name.rpartition(".")[2])


def without_annotations(signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def test_signatures_are_asyncio_s():
    before = meant()
    hoop.install()
    try:
        after = meant()
    finally:
        hoop.uninstall()
    for name, value in after.items():
        signature = inspect.signature(value)
        asyncio_s = inspect.signature(before[name])
        assert without_annotations(signature) == without_annotations(asyncio_s), name
        if inspect.isfunction(before[name]):
            assert hasattr(value, "__code__"), name


def test_a_subclass_has_the_signature_of_its_own_constructor():
    class Named(hoop.Lock):
        def __init__(self, name):
            super().__init__()

    class Plain(hoop.Queue):
        pass

    assert str(inspect.signature(Named)) == "(name)"
    assert str(inspect.signature(Plain)) == "(maxsize=0)"
    assert "maxsize=0" not in str(hoop.Queue.__doc__)
    assert str(inspect.signature(hoop.Future)) == "(*, loop=None)"


def test_a_profiler_can_patch_create_task(run, installed):
    seen = []

    def patch(coro, **options):
        seen.append(coro)
        return original(coro, **options)

    function = asyncio.tasks.create_task
    original = types.FunctionType(function.__code__, function.__globals__)
    original.__kwdefaults__ = function.__kwdefaults__
    code = function.__code__
    function.__globals__["patch"] = patch
    scope: dict = {}
    exec("def create_task(coro, **options): return patch(coro, **options)", scope)
    function.__code__ = scope["create_task"].__code__
    try:

        async def main():
            coro = asyncio.sleep(0)
            task = asyncio.create_task(coro, name="named")
            await task
            assert (task.get_name(), seen) == ("named", [coro])

        run(main())
    finally:
        function.__code__ = code
        del function.__globals__["patch"]


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
