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


# ---- options and methods of sockets ------------------------------------------------------------------

LEVEL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
OPTIONS = [
    *((LEVEL, getattr(socket, f"SO_{name}")) for name in ("TYPE", "DOMAIN", "PROTOCOL", "ERROR")),
    *((LEVEL, getattr(socket, f"SO_{name}")) for name in ("REUSEADDR", "REUSEPORT", "KEEPALIVE")),
    *((LEVEL, getattr(socket, f"SO_{name}")) for name in ("LINGER", "ACCEPTCONN", "BROADCAST")),
    *((TCP, getattr(socket, f"TCP_{name}")) for name in ("NODELAY", "KEEPIDLE", "KEEPCNT")),
    *((TCP, getattr(socket, f"TCP_{name}")) for name in ("KEEPINTVL", "USER_TIMEOUT")),
    (socket.IPPROTO_IP, socket.IP_TOS),
    (socket.IPPROTO_IP, socket.IP_TTL),
    (TCP, 9999),
    (9999, 1),
]


def attempt(call, *args):
    """The result of a call, or the class and the number of its exception."""
    try:
        return call(*args)
    except (OSError, TypeError) as exc:
        return type(exc).__name__, getattr(exc, "errno", None)


def options(sock):
    """The values of all options, as numbers and as bytes, and the state of the connection."""
    found = {
        (*option, *size): attempt(sock.getsockopt, *option, *size)
        for option in OPTIONS
        for size in ((), (8,), (2000,))
    }
    return found | {"state": sock.getsockopt(TCP, socket.TCP_INFO, 1)}


async def connected(loop, family, *, before=()):
    """A listening socket, one that has connected to it, and one that it has accepted.

    The first two get the options that are to be set before.
    """
    listening, client = socket.socket(family), socket.socket(family)
    for sock in (listening, client):
        sock.setblocking(False)
        for option in before:
            sock.setsockopt(*option)
    listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    listening.listen()
    await loop.sock_connect(client, listening.getsockname())
    accepted, address = await loop.sock_accept(listening)
    assert address == accepted.getpeername() == client.getsockname()
    return listening, client, accepted


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(
    "before",
    [
        [],
        [
            (LEVEL, socket.SO_KEEPALIVE, 1),
            (TCP, socket.TCP_KEEPIDLE, 55),
            (TCP, socket.TCP_NODELAY, 1),
        ],
        [(LEVEL, socket.SO_LINGER, b"\1\0\0\0\5\0\0\0"), (socket.IPPROTO_IP, socket.IP_TOS, 16)],
    ],
)
def test_options_of_sockets_of_tcp(same, family, before):
    async def main():
        loop = asyncio.get_running_loop()
        found = []
        sockets = await connected(loop, family, before=before)
        for sock in sockets:
            found.append(options(sock))
            for option, value in (
                ((TCP, socket.TCP_NODELAY), b"\1\0\0\0"),
                ((TCP, socket.TCP_NODELAY), b"\1"),
                ((TCP, socket.TCP_NODELAY), "text"),
                ((TCP, socket.TCP_KEEPIDLE), -1),
                ((LEVEL, socket.SO_KEEPALIVE), True),
                ((TCP, 9999), 1),
            ):
                found.append(attempt(sock.setsockopt, *option, value))
                found.append(attempt(sock.getsockopt, *option))
            with socket.socket(fileno=sock.dup().detach()) as other:
                found.append((other.family, other.type, other.proto, options(other)))
        for sock in sockets:
            sock.close()
        return found

    same(main)


def test_transports_have_no_delay(same):
    async def main():
        made = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            made.set_result(writer)
            await reader.read()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        found = []
        for writer in (client, await made):
            sock = writer.get_extra_info("socket")
            found.append(sock.getsockopt(TCP, socket.TCP_NODELAY))
            sock.setsockopt(TCP, socket.TCP_NODELAY, 0)
            found.append(sock.getsockopt(TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return found

    assert same(main) == [1, 0, 1, 0]


def test_calls_that_a_socket_refuses(same):
    async def main():
        loop = asyncio.get_running_loop()
        listening, client, accepted = await connected(loop, socket.AF_INET)
        address = listening.getsockname()
        found = []
        for name, *args in (
            *(("recv", 1), ("recv_into", bytearray(1)), ("recvfrom", 1), ("recvmsg", 1)),
            *(("send", b"x"), ("sendmsg", [b"x"]), ("sendto", b"x", address)),
            *(("connect_ex", address), ("connect_ex", address), ("getpeername",)),
        ):
            for sock in (listening, client) if name[:4] != "send" else (listening,):
                result = attempt(getattr(sock, name), *args)
                found.append(result if name != "getpeername" or sock is listening else None)
        found.append(client.sendto(b"TCP ignores the address", address))
        accepted.setsockopt(LEVEL, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()
        await asyncio.sleep(5 if isinstance(loop, hoop.sim.SimEventLoop) else 0.05)
        found += [attempt(client.getsockopt, LEVEL, socket.SO_ERROR) for _ in range(2)]
        found += [attempt(client.getpeername), attempt(client.shutdown, socket.SHUT_WR)]
        found += [attempt(client.recv, 1), attempt(client.send, b"x")]
        listening.close()
        client.close()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            found += [attempt(sock.listen), attempt(sock.shutdown, socket.SHUT_RDWR)]
        return found

    same(main)


def test_what_a_simulation_does_not_carry_is_refused(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, path)
            with pytest.raises(hoop.sim.Unsimulated, match="descriptors"):
                socket.send_fds(sock, [b"x"], [0])
            with pytest.raises(hoop.sim.Unsimulated, match="urgent"):
                sock.send(b"!", socket.MSG_OOB)
        server.close()
        await server.wait_closed()

    hoop.sim.run(main)
