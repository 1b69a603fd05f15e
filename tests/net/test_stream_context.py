"""StreamTransport, what surrounds it: contexts, what get_extra_info knows, families of sockets."""

import asyncio
import contextvars
import socket

import pytest
from peers import (
    BufferedRecorder,
    Recorder,
    connect,
    end,
    fill,
    pair,
    same_as_asyncio,
    turns,
    until,
)

var = contextvars.ContextVar("var", default="nowhere")
NAMES = [
    "connection_made",
    "data_received",
    "buffer_updated",
    "get_buffer",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


def watching(found, make=Recorder):
    """A protocol that notes the context of each callback."""

    def note(name):
        def hook(protocol, *_):
            found.setdefault(name, set()).add(var.get())
            return getattr(protocol, "buffer", None) if name == "get_buffer" else None

        return hook

    return make(**{name: note(name) for name in NAMES})


async def exercise(loop, transport, peer, protocol):
    """Make every callback happen, each from a task with another context."""

    async def elsewhere(function, *args):
        var.set("elsewhere")
        return function(*args)

    peer.send(b"x")
    await until(lambda: protocol.received)
    await loop.create_task(elsewhere(transport.pause_reading))
    await loop.create_task(elsewhere(transport.resume_reading))
    peer.send(b"y")
    await until(lambda: protocol.received == b"xy")
    await loop.create_task(elsewhere(fill, transport))
    while transport.get_write_buffer_size():
        try:
            peer.recv(100_000)
        except BlockingIOError:
            await turns(1)
    peer.shutdown(socket.SHUT_WR)
    await until(lambda: protocol.is_lost)


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
def test_every_callback_of_a_client_runs_in_the_context_that_connected(loop, make):
    found = {}

    async def main():
        var.set("connector")
        protocol = watching(found, make)
        transport, peer = await pair(loop, protocol)
        var.set("later")
        with peer:
            await exercise(loop, transport, peer, protocol)

    loop.run_until_complete(main())
    assert len(found) == (6 if make is Recorder else 7)
    assert found == {name: {"connector"} for name in found}


def test_every_callback_of_an_accepted_connection_runs_in_its_copy_of_the_servers_context(loop):
    found = {}

    async def main():
        var.set("server")
        made = []

        def factory():
            made.append(watching(found))
            assert var.get() == "server"
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        var.set("later")
        peer = socket.create_connection(server.sockets[0].getsockname())
        peer.setblocking(False)
        with peer:
            await until(lambda: made and made[0].transport)
            await exercise(loop, made[0].transport, peer, made[0])
        await end(server)

    loop.run_until_complete(main())
    assert len(found) == 6
    assert found == {name: {"server"} for name in found}


def in_a_context(value):
    context = contextvars.copy_context()
    context.run(var.set, value)
    return context


@pytest.mark.parametrize("method", ["_make_socket_transport", "_create_connection_transport"])
def test_every_callback_runs_in_the_context_that_was_given(loop, method):
    """asyncio gives one from Python 3.15 on."""
    found = {}

    async def main():
        protocol = watching(found)
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        context = in_a_context("given")
        if method == "_make_socket_transport":
            ours.setblocking(False)
            transport = loop._make_socket_transport(ours, protocol, context=context)
            await until(lambda: protocol.transport)
        else:
            transport, _ = await loop._create_connection_transport(
                ours, lambda: protocol, None, None, context=context
            )
        with peer:
            await exercise(loop, transport, peer, protocol)

    loop.run_until_complete(main())
    assert len(found) == 6
    assert found == {name: {"given"} for name in found}


def test_a_server_makes_each_connection_in_a_copy_of_the_context_that_was_given(loop):
    seen = []

    async def main():
        def factory():
            seen.append(var.get())
            var.set("mine")
            return Recorder(data_received=lambda p, data: seen.append(var.get()))

        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            loop._start_serving(factory, listening, context=in_a_context("given"))
            for count in (1, 2):
                with socket.create_connection(listening.getsockname()) as peer:
                    peer.send(b"x")
                    await until(lambda: len(seen) == 2 * count)  # noqa: B023
            loop._stop_serving(listening)
        await turns(3)

    loop.run_until_complete(main())
    assert seen == ["given", "mine"] * 2


@pytest.mark.parametrize("method", ["_add_reader", "_add_writer"])
def test_a_watched_descriptor_calls_in_the_context_that_was_given(loop, method):
    seen = []

    async def main():
        ours, peer = socket.socketpair()
        with ours, peer:
            ours.setblocking(False)
            peer.send(b"x")
            handle = getattr(loop, method)(
                ours, lambda: seen.append(var.get()), context=in_a_context("given")
            )
            await until(lambda: seen)
            assert handle.get_context()[var] == "given"
            loop.remove_reader(ours)
            loop.remove_writer(ours)

    loop.run_until_complete(main())
    assert set(seen) == {"given"}


def test_what_one_callback_sets_the_next_one_finds_and_no_other_connection_does(loop):
    async def main():
        seen = []
        first = Recorder(
            connection_made=lambda p: var.set("mine"),
            data_received=lambda p, data: seen.append(var.get()) or var.set("still mine"),
            eof_received=lambda p: seen.append(var.get()),
            connection_lost=lambda p, exc: seen.append(var.get()),
        )
        second = Recorder(data_received=lambda p, data: seen.append(var.get()))
        protocols = iter([first, second])
        server = await loop.create_server(lambda: next(protocols), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for protocol in (first, second):
            with socket.create_connection(address) as peer:
                peer.send(b"x")
                await until(lambda: protocol.received)  # noqa: B023
            await until(lambda: protocol.is_lost)  # noqa: B023
        await end(server)
        assert seen == ["mine", "still mine", "still mine", "nowhere"]
        assert var.get() == "nowhere"

    loop.run_until_complete(main())


def test_two_connections_write_to_each_other_from_their_own_contexts(loop):
    """A callback that causes the other's callback, and that one the first's again."""
    contexts = []

    async def main():
        protocols = {}

        def paused(name, other):
            def hook(protocol):
                contexts.append((name, var.get()))
                if other in protocols and not protocols[other].is_lost:
                    protocols[other].transport.write(b"x" * 3_000_000)

            return hook

        pairs = []
        for name, other in (("a", "b"), ("b", "a")):
            var.set(name)
            protocols[name] = Recorder(pause_writing=paused(name, other))
            pairs.append(await pair(loop, protocols[name]))
        var.set("caller")
        pairs[0][0].write(b"x" * 3_000_000)
        for transport, peer in pairs:
            transport.abort()
            peer.close()
        await until(lambda: all(p.is_lost for p in protocols.values()))

    loop.run_until_complete(main())
    assert contexts == [("a", "a"), ("b", "b")]


def shape(value):
    """The part that can be equal on two loops: types, without ports and paths."""
    if isinstance(value, tuple):
        return tuple(0 if isinstance(part, int) and part > 1023 else part for part in value)
    return value


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "pair"])
def test_get_extra_info(loop, family, tmp_path):
    async def script(loop):
        protocol, server_side = Recorder(), Recorder()
        if family == "pair":
            transport, peer = await pair(loop, protocol)
            peer.close()
            transports = [transport]
            server = None
        elif family == "AF_UNIX":
            path = str(tmp_path / f"socket{id(loop)}")
            server = await loop.create_unix_server(lambda: server_side, path)
            await loop.create_unix_connection(lambda: protocol, path)
        else:
            host = "::1" if family == "AF_INET6" else "127.0.0.1"
            server = await loop.create_server(lambda: server_side, host, 0)
            port = server.sockets[0].getsockname()[1]
            await loop.create_connection(lambda: protocol, host, port)
        if server:
            await until(lambda: server_side.transport)
            transports = [protocol.transport, server_side.transport]
        found = []
        for transport in transports:
            sock = transport.get_extra_info("socket")
            found.append((type(sock), sock.family, sock.type, sock.proto))
            if family != "AF_UNIX":
                found += [shape(transport.get_extra_info(n)) for n in ("sockname", "peername")]
            assert transport.get_extra_info("sockname") == sock.getsockname()
            found += [transport.get_extra_info("sslcontext"), transport.get_extra_info("no", 5)]
            found += [hasattr(sock, name) for name in ("close", "detach", "recv", "setsockopt")]
            if family.startswith("AF_INET"):
                found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
            transport.close()
        await until(lambda: protocol.is_lost)
        await turns(3)
        for transport in transports:
            sock = transport.get_extra_info("socket")
            found.append((type(sock), sock.fileno()))
            if family != "AF_UNIX":
                found.append(shape(transport.get_extra_info("peername")))
        if server:
            await until(lambda: server_side.is_lost)
            await end(server)
        return found

    same_as_asyncio(loop, script)


def test_the_socket_of_a_transport_that_was_first_asked_for_it_after_its_end(loop):
    async def script(loop):
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: protocol.transport)
        transport = protocol.transport
        await until(lambda: protocol.is_lost)
        await turns(3)
        sock = transport.get_extra_info("socket")
        await end(server)
        return type(sock), sock.fileno() if sock is not None else None

    same_as_asyncio(loop, script)


def test_a_socket_asked_for_is_the_same_each_time_and_survives_nothing(loop):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
        await until(lambda: protocol.transport)
        sock = protocol.transport.get_extra_info("socket")
        assert protocol.transport.get_extra_info("socket") is sock
        assert sock.getpeername() == peer.getsockname()
        protocol.transport.close()
        await until(lambda: protocol.is_lost)
        await turns(2)
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            sock.getsockname()
        peer.close()
        await end(server)

    loop.run_until_complete(main())


def test_a_socket_given_to_a_second_transport_is_refused(loop):
    """As by asyncio from Python 3.12 on."""

    async def main():
        protocol = Recorder()
        ours, peer = socket.socketpair()
        transport = await connect(loop, ours, protocol)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await connect(loop, ours, Recorder())
        transport.close()
        await until(lambda: protocol.is_lost)
        peer.close()

    loop.run_until_complete(main())


def test_streams_of_asyncio_over_every_family(loop, tmp_path):
    async def main():
        async def echo(reader, writer):
            async for line in reader:
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        servers = [
            (await asyncio.start_server(echo, "127.0.0.1", 0), asyncio.open_connection),
            (await asyncio.start_server(echo, "::1", 0), asyncio.open_connection),
            (await asyncio.start_unix_server(echo, tmp_path / "s"), asyncio.open_unix_connection),
        ]
        for server, opening in servers:
            address = server.sockets[0].getsockname()
            reader, writer = await opening(*([address] if type(address) is str else address[:2]))
            writer.write(b"one\ntwo\n")
            writer.write_eof()
            assert await reader.read() == b"ONE\nTWO\n"
            writer.close()
            await writer.wait_closed()
            await end(server)

    loop.run_until_complete(main())
