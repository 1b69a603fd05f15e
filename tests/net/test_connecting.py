"""Connecting where asyncio gets it wrong: a full backlog, protocols unknown to the C library, EMFILE."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from peers import Recorder, turns, until

MPTCP = 262


# ---- a Unix socket with a full backlog ---------------------------------------------------------------


@pytest.fixture
def full(tmp_path):
    """A listening Unix socket whose backlog is full, and its path."""
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen(0)
        listening.settimeout(5)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(path)
        yield listening, path


@pytest.mark.parametrize("kind", ["stream", "sock_connect", "open_unix_connection"])
def test_connecting_waits_until_a_full_backlog_has_room(run, full, kind):
    """asyncio takes EAGAIN for a connection under way, and gives a socket that is not connected."""
    listening, path = full

    async def connect():
        loop = asyncio.get_running_loop()
        if kind == "sock_connect":
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            await loop.sock_connect(sock, path)
            return sock, sock
        if kind == "stream":
            transport, _ = await loop.create_unix_connection(Recorder, path)
            return transport, transport.get_extra_info("socket")
        _, writer = await asyncio.open_unix_connection(path)
        return writer, writer.get_extra_info("socket")

    async def main():
        connecting = asyncio.create_task(connect())
        await turns(20)
        assert not connecting.done()
        with listening.accept()[0]:
            connection, sock = await connecting
            assert sock.getpeername() == path
            connection.close()
        await turns(3)

    run(main())


def test_waiting_for_a_full_backlog_is_cancelled(run, full):
    _, path = full

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_connect(sock, path), 0.02)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_unix_connection(Recorder, path), 0.02)

    run(main())


def test_the_server_goes_away_while_its_backlog_is_full(run, full):
    listening, path = full

    async def main():
        connecting = asyncio.create_task(asyncio.open_unix_connection(path))
        await turns(5)
        listening.close()
        with pytest.raises(ConnectionRefusedError):
            await connecting

    run(main())


# ---- any protocol ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("proto", [MPTCP, 132])
def test_an_address_is_the_same_under_each_protocol(run, host, proto):
    async def main():
        loop = asyncio.get_running_loop()
        found = await loop._ensure_resolved(
            (host, 80), family=socket.AF_INET, type=socket.SOCK_STREAM, proto=proto, loop=loop
        )
        assert found[0] == (
            socket.AF_INET,
            socket.SOCK_STREAM,
            proto,
            found[0][3],
            ("127.0.0.1", 80),
        )

    run(main())


@pytest.mark.parametrize("how", ["sock_connect", "create_connection"])
def test_mptcp_connects(run, how):
    try:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    except OSError as exc:
        pytest.skip(f"this kernel has no MPTCP: {exc}")
    with listening:
        listening.bind(("127.0.0.1", 0))

        async def main():
            loop = asyncio.get_running_loop()
            served = Recorder()
            server = await loop.create_server(lambda: served, sock=listening)
            address = listening.getsockname()
            if how == "sock_connect":
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                transport, _ = await loop.create_connection(Recorder, sock=sock)
            else:
                transport, _ = await loop.create_connection(Recorder, *address, proto=MPTCP)
            assert transport.get_extra_info("socket").proto == MPTCP
            transport.write(b"x")
            transport.close()
            await until(lambda: served.is_lost)
            assert served.received == b"x"
            server.close()
            await server.wait_closed()

        run(main())


# ---- out of descriptors ------------------------------------------------------------------------------


def test_what_makes_sockets_says_that_there_are_no_descriptors(driver, python):
    printed = python(
        f"""
        import asyncio, os, resource, hoop

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            await loop.getaddrinfo("localhost", 1)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            fd = os.open("/dev/null", 0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, hard))
            fill = []
            try:
                while True:
                    fill.append(os.open("/dev/null", 0))
            except OSError:
                pass
            for what in (
                lambda: loop.create_server(asyncio.Protocol, "127.0.0.1", 0),
                lambda: loop.create_server(asyncio.Protocol, ["127.0.0.1", "::1"], 0),
                lambda: asyncio.start_server(print, "127.0.0.1", 0),
                lambda: loop.create_connection(asyncio.Protocol, *address),
                lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
                lambda: loop.create_unix_server(asyncio.Protocol, "socket"),
                lambda: loop.create_unix_connection(asyncio.Protocol, "socket"),
                lambda: asyncio.create_subprocess_exec("true"),
            ):
                try:
                    await what()
                except OSError as exc:
                    print(exc.errno)
            for fd in fill:
                os.close(fd)
            server.close()

        hoop.run(main(), loop_factory=lambda: hoop.new_event_loop({driver!r}))
        """
    )
    assert printed.split() == ["24"] * 8


def test_another_reason_is_told_as_by_asyncio(run, monkeypatch):
    """Here asyncio says nothing of the reason, for it may be any."""
    make = socket.socket

    class NoSuchProtocol(make):
        def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
            if proto == 132:
                raise OSError(93, "Protocol not supported")
            super().__init__(family, type, proto, fileno)

    async def main():
        loop = asyncio.get_running_loop()

        async def resolve(*args, **kwargs):
            return [(socket.AF_INET, socket.SOCK_STREAM, 132, "", ("127.0.0.1", 0))]

        monkeypatch.setattr(type(loop), "_ensure_resolved", resolve)
        monkeypatch.setattr(socket, "socket", NoSuchProtocol)
        result: object = (
            "could not bind on any address"  # older Pythons give a server without sockets
        )
        with contextlib.suppress(OSError):
            result = (await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)).sockets
        assert result in ((), "could not bind on any address")

    run(main())
