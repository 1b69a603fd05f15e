"""Sockets and loops of a simulation answer a program as real ones do."""

from __future__ import annotations

import asyncio
import inspect
import socket
import warnings

import pytest

import hoop.sim

SEEDS = range(4)  # with both ways to receive


@pytest.fixture
def same(run):
    """A function that runs a coroutine function on a real loop and in worlds, and compares the results."""

    def same(body):
        expected = run(body())
        for seed in SEEDS:
            assert hoop.sim.run(body, seed=seed) == expected
        return expected

    return same


# ---- descriptors that were closed while they were watched ------------------------------------------


async def connect_directly(sock, address):
    sock.connect_ex(address)
    await asyncio.sleep(0.05)


async def connect_by_loop(sock, address):
    await asyncio.get_running_loop().sock_connect(sock, address)


@pytest.mark.parametrize("connect", [connect_directly, connect_by_loop])
@pytest.mark.parametrize("watch", ["add_reader", "add_writer"])
def test_a_watch_of_a_closed_socket_stays_silent_when_its_number_is_taken(same, watch, connect):
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        stale = socket.socket()
        getattr(loop, watch)(stale, calls.append, "stale")
        number = stale.fileno()
        stale.close()
        with socket.socket() as sock:
            assert sock.fileno() == number
            sock.setblocking(False)
            await connect(sock, server.sockets[0].getsockname())
            await asyncio.sleep(0.01)
            loop.remove_reader(number)
            loop.remove_writer(number)
        server.close()
        await server.wait_closed()
        return calls

    assert same(main) == []


def test_a_watch_of_a_socket_that_connects_goes_on(same):
    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        with socket.socket() as sock:
            sock.setblocking(False)
            writable = asyncio.Event()
            loop.add_writer(sock, writable.set)
            sock.connect_ex(server.sockets[0].getsockname())
            await writable.wait()
            loop.remove_writer(sock)
        server.close()
        await server.wait_closed()
        return True

    assert same(main)


# ---- methods of the loop ----------------------------------------------------------------------------


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


def test_methods_of_the_loop_have_the_same_parameters():
    simulated = hoop.sim.SimEventLoop()
    simulated.close()
    real = hoop.EventLoop()
    real.close()
    names = [name for name in dir(real) if name[0] != "_" and callable(getattr(real, name))]
    assert len(names) > 50
    for name in names:
        ours, theirs = getattr(simulated, name), getattr(real, name)
        assert parameters(ours) == parameters(theirs), name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            is_function = asyncio.iscoroutinefunction(theirs)
            assert asyncio.iscoroutinefunction(ours) == is_function, name
        assert inspect.iscoroutinefunction(ours) >= inspect.iscoroutinefunction(theirs), name


async def answer(reader, writer):
    await reader.read(1)
    writer.write(b"1234")
    writer.close()


def test_methods_for_sockets_take_arguments_by_name_and_begin_when_they_are_awaited(same):
    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock=sock, address=server.sockets[0].getsockname())
            await loop.sock_sendall(sock=sock, data=b"x")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                loop.sock_recv(sock=sock, n=4).close()
            buffer = bytearray(4)
            n = await loop.sock_recv_into(sock=sock, buf=buffer)
            rest = await loop.sock_recv(sock=sock, n=4) if n < 4 else b""
            with pytest.raises(TypeError):
                await loop.sock_recv(sock)
        server.close()
        await server.wait_closed()
        return bytes(buffer[:n]) + rest

    assert same(main) == b"1234"
