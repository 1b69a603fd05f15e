"""Sockets and loops of a simulation answer a program as real ones do."""

from __future__ import annotations

import asyncio
import socket

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
