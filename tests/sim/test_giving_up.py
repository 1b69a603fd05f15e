"""Connections that TCP gives up, seen by each kind of socket: ETIMEDOUT once, and then the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

import pytest

import hoop.sim

MINUTES = 60


async def swallow():
    """A server that receives and never answers."""

    async def serve(reader, writer):
        while await reader.read(1000):
            pass

    async with await asyncio.start_server(serve, "db", 80) as server:
        await server.serve_forever()


async def connected():
    sock = socket.socket()
    sock.setblocking(False)
    while True:
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("10.0.0.1", 80))
            return sock
        except ConnectionRefusedError:
            sock.close()
            sock = socket.socket()
            sock.setblocking(False)


async def send_into_partition(world, sock):
    """Send something that nobody acknowledges."""
    world.partition("db", "api")
    await asyncio.get_running_loop().sock_sendall(sock, b"lost")


async def by_sock_recv(loop, sock):
    await loop.sock_recv(sock, 10)


async def by_sock_recv_into(loop, sock):
    await loop.sock_recv_into(sock, bytearray(10))


async def by_sock_sendall(loop, sock):
    await loop.sock_sendall(sock, bytes(10_000_000))


async def by_sock_recv_later(loop, sock):
    await asyncio.sleep(20 * MINUTES)
    await loop.sock_recv(sock, 10)


async def by_sock_sendall_later(loop, sock):
    await asyncio.sleep(20 * MINUTES)
    await loop.sock_sendall(sock, b"more")


async def by_send_later(loop, sock):
    await asyncio.sleep(20 * MINUTES)
    sock.send(b"more")


async def by_add_reader(loop, sock):
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    await readable.wait()
    loop.remove_reader(sock)
    sock.recv(10)


async def by_error_of_socket(loop, sock):
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    await readable.wait()
    loop.remove_reader(sock)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    raise OSError(error, "told by SO_ERROR")


@pytest.mark.parametrize(
    "wait",
    [
        *(by_sock_recv, by_sock_recv_into, by_sock_sendall, by_sock_recv_later),
        *(by_sock_sendall_later, by_send_later, by_add_reader, by_error_of_socket),
    ],
)
def test_who_hears_nothing_for_fifteen_minutes_gets_etimedout_once(wait):
    async def client(world):
        loop = asyncio.get_running_loop()
        with await connected() as sock:
            began = loop.time()
            await send_into_partition(world, sock)
            with pytest.raises(TimeoutError) as caught:
                await wait(loop, sock)
            assert caught.value.errno == errno.ETIMEDOUT
            assert loop.time() - began >= 15 * MINUTES
            assert await loop.sock_recv(sock, 10) == b""
            with pytest.raises(BrokenPipeError):
                sock.send(b"after the end")

    async def main(world):
        world.host("db", swallow)
        await world.run("api", lambda: client(world))

    hoop.sim.explore(main, seeds=4, order="mix", limit=7200)


def test_bytes_that_have_arrived_come_before_the_error():
    async def serve(reader, writer):
        writer.write(b"arrived")
        await reader.read()

    async def run_db():
        async with await asyncio.start_server(serve, "db", 80) as server:
            await server.serve_forever()

    async def client(world):
        loop = asyncio.get_running_loop()
        with await connected() as sock:
            await asyncio.sleep(1 * MINUTES)
            await send_into_partition(world, sock)
            await asyncio.sleep(20 * MINUTES)
            assert await loop.sock_recv(sock, 3) == b"arr"
            assert sock.recv(10) == b"ived"
            with pytest.raises(TimeoutError):
                await loop.sock_recv(sock, 10)

    async def main(world):
        world.host("db", run_db)
        await world.run("api", lambda: client(world))

    hoop.sim.explore(main, seeds=4, faults=hoop.sim.Faults(pieces=0.0))


def test_a_transport_that_has_paused_reading_gets_etimedout_for_what_it_sends():
    class Protocol(asyncio.Protocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def client(world):
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Protocol, sock=await connected())
        transport.pause_reading()
        world.partition("db", "api")
        transport.write(bytes(10_000_000))
        assert (await protocol.lost).errno == errno.ETIMEDOUT

    async def main(world):
        world.host("db", swallow)
        await world.run("api", lambda: client(world))

    hoop.sim.explore(main, seeds=6)


def test_only_the_connection_that_has_failed_is_told():
    """Its descriptor may belong to another by then."""

    async def client(world):
        loop = asyncio.get_running_loop()
        sock = await connected()
        number = sock.fileno()
        await send_into_partition(world, sock)
        sock.close()
        world.heal("api")
        world.partition("db", "api")
        one, other = socket.socketpair()
        with one, other:
            assert number in (one.fileno(), other.fileno())
            waiting = one if one.fileno() == number else other
            waiting.setblocking(False)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(waiting, 1), 40 * MINUTES)

    async def main(world):
        world.host("db", swallow)
        await world.run("api", lambda: client(world))

    hoop.sim.run(main)


# ---- connecting ------------------------------------------------------------------------------------


async def by_sock_connect(loop, sock):
    await loop.sock_connect(sock, ("10.0.0.1", 80))


async def by_add_writer(loop, sock):
    writable = asyncio.Event()
    assert sock.connect_ex(("10.0.0.1", 80)) == errno.EINPROGRESS
    loop.add_writer(sock, writable.set)
    await writable.wait()
    loop.remove_writer(sock)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    raise OSError(error, "told by SO_ERROR")


async def by_connecting_again(loop, sock):
    writable = asyncio.Event()
    with contextlib.suppress(BlockingIOError):
        sock.connect(("10.0.0.1", 80))
    loop.add_writer(sock, writable.set)
    await writable.wait()
    loop.remove_writer(sock)
    sock.connect(("10.0.0.1", 80))


async def by_sending(loop, sock):
    sock.connect_ex(("10.0.0.1", 80))
    await asyncio.sleep(3 * MINUTES)
    await loop.sock_sendall(sock, b"anything")


async def by_receiving(loop, sock):
    sock.connect_ex(("10.0.0.1", 80))
    await asyncio.sleep(3 * MINUTES)
    sock.recv(10)


@pytest.mark.parametrize(
    "connect", [by_sock_connect, by_add_writer, by_connecting_again, by_sending, by_receiving]
)
def test_a_connection_without_an_answer_fails_with_etimedout(connect):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(TimeoutError) as caught:
                await connect(loop, sock)
            assert caught.value.errno == errno.ETIMEDOUT
            assert loop.time() >= 127

    hoop.sim.explore(main, seeds=4, faults=hoop.sim.Faults(timeout=1.0))
