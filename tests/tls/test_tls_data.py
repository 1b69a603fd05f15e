"""TLS transports: what they know, what they send and what they deliver."""

import asyncio
import contextvars
import os
import socket
import ssl
import tempfile

import pytest
from peers import (
    BufferedRecorder,
    Recorder,
    end,
    fill,
    outcome,
    reports,
    same_as_asyncio,
    tcp_pair,
    turns,
    until,
)
from tls_peers import (
    VERSIONS,
    Wire,
    accept_tls,
    client_context,
    connect_tls,
    records,
    server_context,
    tls_pair,
    wired,
)

from hoop.tls.transport import SSLTransport

SIZES = [1, 16383, 16384, 16385, 100_000, 3_000_000]


def drop(*recorders):
    """Abort the connections and wait until they are lost."""

    async def dropped():
        for recorder in recorders:
            recorder.transport.abort()
        await until(lambda: all(recorder.is_lost for recorder in recorders))

    return dropped()


async def echo_back(loop, size, client, server):
    """Send bytes there and back; the client is a Recorder."""
    data = os.urandom(size)
    client.transport.write(data)
    await until(lambda: len(client.received) >= size)
    assert bytes(client.received) == data


def echo_recorder(kind=Recorder, **hooks):
    """A recorder that sends back what it gets."""
    if kind is Recorder:
        return Recorder(data_received=lambda p, data: p.transport.write(data), **hooks)
    return BufferedTls(
        buffer_updated=lambda p, n: p.transport.write(bytes(p.buffer[:n])), size=40_000, **hooks
    )


class BufferedTls(BufferedRecorder):
    """A BufferedRecorder that takes a hint of what comes, which asyncio's TLS gives."""

    def get_buffer(self, sizehint):
        assert sizehint >= 0
        hook = self.hooks.get("get_buffer")
        return self.buffer if hook is None else hook(self)


# ---- what a transport is and knows ----------------------------------------------------------------


def test_is_our_transport_and_passes_for_asyncios(loop):
    async def main():
        client, server = Recorder(), Recorder()
        for transport in await tls_pair(loop, client, server):
            assert type(transport) is SSLTransport
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.sslproto._SSLProtocolTransport)
            assert "SSLTransport bufsize=0 over <StreamTransport fd=" in repr(transport)
        await drop(client, server)
        assert repr(client.transport) == repr(server.transport) == "<SSLTransport closed>"

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_extra_info_of_both_sides(loop, version):
    async def script(loop):
        client, server = Recorder(), Recorder()
        await tls_pair(loop, client, server, server_options={"ssl": server_context(version)})
        found = []
        for recorder in (client, server):
            ask = recorder.transport.get_extra_info
            sslobj = ask("ssl_object")
            assert isinstance(sslobj, ssl.SSLObject)
            assert isinstance(ask("sslcontext"), ssl.SSLContext)
            assert ask("cipher") == sslobj.cipher()
            assert ask("peername")[0] == ask("sockname")[0] == "127.0.0.1"
            assert ask("socket").getsockname() == ask("sockname")
            cert = ask("peercert")
            found.append((sslobj.version(), ask("compression"), cert and cert["subjectAltName"]))
            found.append((ask("nothing"), ask("nothing", "something")))
        await drop(client, server)
        for recorder in (client, server):
            ask = recorder.transport.get_extra_info
            found.append([type(ask(name)) for name in ("ssl_object", "cipher")])
        return found

    same_as_asyncio(loop, script)


def test_attributes_can_be_set_on_a_transport_and_its_protocol_side(loop):
    """Programs keep things on transports, and wait for an end by replacing the SSL protocol's methods."""

    async def main():
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server)
        transport.note = "kept"
        assert transport.note == "kept"
        layer = transport._ssl_protocol
        assert layer._sslcontext is transport.get_extra_info("sslcontext")
        assert layer._extra["ssl_object"] is transport.get_extra_info("ssl_object")
        assert isinstance(layer, asyncio.Protocol)
        assert layer._transport.get_protocol() is layer
        told = []
        before = layer.connection_lost
        layer.connection_lost = lambda exc: (told.append(exc), before(exc))
        await drop(client, server)
        assert told == [None]
        del layer.connection_lost

    loop.run_until_complete(main())


def test_wrong_arguments_raise_as_in_asyncio(loop):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, _):
            found = [
                outcome(transport.write, "text"),
                outcome(transport.write, 5),
                outcome(transport.write_eof),
                transport.can_write_eof(),
                outcome(transport.set_write_buffer_limits, 1, 2),
                transport.get_write_buffer_limits(),
                transport.is_reading(),
                transport.is_closing(),
            ]
            transport.set_write_buffer_limits(high=4000)
            found.append(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(low=100)
            found.append(transport.get_write_buffer_limits())
            await drop(protocol)
        return found

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("seconds", [0, -1])
def test_timeouts_must_be_positive(loop, name, seconds):
    async def script(loop):
        a, b = tcp_pair()
        with a, b:
            return [
                (type(exc).__name__, str(exc))
                for exc in await asyncio.gather(
                    connect_tls(loop, a, Recorder(), **{name: seconds}),
                    accept_tls(loop, b, Recorder(), **{name: seconds}),
                    return_exceptions=True,
                )
            ]

    same_as_asyncio(loop, script)


# ---- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [Recorder, BufferedTls])
@pytest.mark.parametrize("size", SIZES)
def test_bytes_there_and_back(loop, version, kind, size):
    async def main():
        client, server = Recorder(), echo_recorder(kind)
        await tls_pair(loop, client, server, server_options={"ssl": server_context(version)})
        await echo_back(loop, size, client, server)
        await drop(client, server)

    loop.run_until_complete(main())


def blocking_echo(sock, context, size):
    """A client in a thread: send, read as much back, close as one should."""
    sock.setblocking(True)
    data = os.urandom(size)
    with context.wrap_socket(sock, server_hostname="localhost") as tls:
        found = bytearray()
        for start in range(0, size, 50_000):
            part = data[start : start + 50_000]
            tls.sendall(part)
            while len(found) < start + len(part):
                found += tls.recv(65536)
        tls.unwrap().close()
    return bytes(found) == data


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", SIZES)
def test_a_blocking_client_in_a_thread(loop, version, size):
    async def main():
        server = echo_recorder()
        a, b = tcp_pair()
        client = loop.run_in_executor(None, blocking_echo, a, client_context(), size)
        await accept_tls(loop, b, server, ssl=server_context(version))
        assert await client
        await until(lambda: server.is_lost)
        assert server.lost_with is None
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_blocking_server_in_a_thread(loop, version):
    def serve(sock):
        sock.setblocking(True)
        with server_context(version).wrap_socket(sock, server_side=True) as tls:
            while data := tls.recv(65536):
                tls.sendall(data.upper())
            tls.unwrap().close()

    async def main():
        client = Recorder()
        a, b = tcp_pair()
        serving = loop.run_in_executor(None, serve, b)
        transport = await connect_tls(loop, a, client)
        transport.write(b"a" * 100_000)
        await until(lambda: len(client.received) == 100_000)
        assert client.received == b"A" * 100_000
        transport.close()
        await serving
        await until(lambda: client.is_lost)
        assert client.lost_with is None
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_streams_over_tls_on_tcp_and_unix_sockets(loop, tmp_path):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def talk(reader, writer):
        writer.writelines([b"one\n", b"two\n"])
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        writer.close()
        await writer.wait_closed()

    async def main():
        options = {"ssl": client_context(), "server_hostname": "localhost"}
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        await asyncio.gather(
            *[talk(*await asyncio.open_connection(*address, **options)) for _ in range(10)]
        )
        await end(server)
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(serve, path, ssl=server_context())
        await talk(*await asyncio.open_unix_connection(path, **options))
        await end(server)

    loop.run_until_complete(main())


def test_lines_leave_as_one_record(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            await wire.write(b"ready")  # so that session tickets were sent
            await until(lambda: protocol.received)
            wire.incoming.write(wire.sock.recv(65536))
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.read()
            lines = [b"%03d" % n for n in range(100)]
            transport.writelines([*lines, b"and ", bytearray(b"more"), memoryview(b"!"), b""])
            assert transport.get_write_buffer_size() == 0
            sealed = wire.sock.recv(65536)
            assert [kind for kind, _ in records(sealed)] == [23]
            wire.incoming.write(sealed)
            assert wire.tls.read(1000) == b"".join(lines) + b"and more!"
            await drop(protocol)

    loop.run_until_complete(main())


def test_small_and_large_writes_fill_their_records(loop):
    sizes = [1, 16384, 5, 40_000, 16_383, 1, 1, 70_000, 3]
    data = [os.urandom(size) for size in sizes]

    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, ssl=server_context(VERSIONS[0])) as (transport, wire):
            transport.writelines(data)
            sealed = bytearray()
            while len(sealed) < sum(sizes):
                sealed += await loop.sock_recv(wire.sock, 1 << 20)
            wire.incoming.write(sealed)
            assert wire.tls.read(1 << 20) == (b"".join(data))[:16384]
            assert await wire.read(sum(sizes) - 16384) == (b"".join(data))[16384:]
            lengths = [length for _, length in records(bytes(sealed))]
            assert len(lengths) <= sum(sizes) // 16384 + 3
            await drop(protocol)

    loop.run_until_complete(main())


def test_a_mutable_buffer_belongs_to_the_caller_again_after_write(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            data = bytearray(b"a" * 100)
            transport.write(data)
            transport.write(memoryview(data)[::2])
            data[:] = b"b" * 100
            assert await wire.read(150) == b"a" * 150
            await drop(protocol)

    loop.run_until_complete(main())


def test_writelines_takes_all_or_nothing(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            with pytest.raises(TypeError):
                transport.writelines([b"one", "two"])
            assert transport.get_write_buffer_size() == 0
            transport.writelines(chunk for chunk in (b"three", b"four"))
            assert await wire.read(9) == b"threefour"
            await drop(protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [Recorder, BufferedTls])
@pytest.mark.parametrize("step", [1, 3, 5, 700])
def test_records_cut_anywhere_are_put_together(loop, kind, step):
    """The transport tells records apart by their headers; those may arrive in pieces."""

    async def main():
        protocol = kind()
        async with wired(loop, protocol) as (_, wire):
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            messages = [os.urandom(size) for size in (1, 100, 3000, 20)]
            for message in messages:
                wire.tls.write(message)
            sealed = wire.outgoing.read()
            for start in range(0, len(sealed), step):
                await loop.sock_sendall(wire.sock, sealed[start : start + step])
                await turns(2)
            await until(lambda: len(protocol.received) == 3121)
            assert protocol.received == b"".join(messages)
            await drop(protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [Recorder, BufferedTls])
def test_many_records_at_once_are_delivered_in_order(loop, kind):
    async def main():
        protocol = kind()
        async with wired(loop, protocol) as (_, wire):
            data = os.urandom(200_000)
            for start in range(0, len(data), 321):
                wire.tls.write(data[start : start + 321])
            await wire.send()
            await until(lambda: len(protocol.received) == len(data))
            assert protocol.received == data
            await drop(protocol)

    loop.run_until_complete(main())


def test_what_is_no_record_fails_at_once_as_in_asyncio(loop):
    async def script(loop):
        found = []
        for garbage in (b"x", b"\x17\x04", b"\x17\x03\x03\xff\xff", b"\x17\x03\x03\x00\x05hello"):
            protocol = Recorder()
            async with wired(loop, protocol) as (_, wire):
                await loop.sock_sendall(wire.sock, garbage)
                wire.sock.shutdown(socket.SHUT_WR)
                await until(lambda: protocol.is_lost)  # noqa: B023
            found.append((protocol.events, repr(protocol.lost_with)))
        return found

    same_as_asyncio(loop, script)


def test_a_damaged_record_breaks_the_connection_as_in_asyncio(loop):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol) as (_, wire):
            wire.tls.write(b"a" * 100)
            sealed = bytearray(wire.outgoing.read())
            sealed[50] ^= 1
            await loop.sock_sendall(wire.sock, sealed)
            await until(lambda: protocol.is_lost)
        return protocol.events, repr(protocol.lost_with)

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("make", [Recorder, BufferedTls, lambda: BufferedTls(2)])
def test_a_record_that_begins_a_message_waits_for_no_other(loop, make):
    """The last bytes of a handshake and the first data may come as one segment, or in any pieces."""

    async def main():
        for cut in (0, 1, 4, 30):
            protocol = make()
            a, b = tcp_pair()
            wire = Wire(loop, a, client_context())
            with a:
                accepting = asyncio.ensure_future(accept_tls(loop, b, protocol))
                with pytest.raises(ssl.SSLWantReadError):
                    wire.tls.do_handshake()
                await wire.send()
                while True:
                    wire.incoming.write(await loop.sock_recv(a, 65536))
                    try:
                        wire.tls.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
                    break
                wire.tls.write(b"early")
                flight = wire.outgoing.read()
                await loop.sock_sendall(a, flight[: len(flight) - cut])
                await turns(5)
                await loop.sock_sendall(a, flight[len(flight) - cut :])
                await accepting
                await until(lambda: protocol.received == b"early")  # noqa: B023
                await drop(protocol)

    loop.run_until_complete(main())


# ---- protocols ------------------------------------------------------------------------------------


def test_set_protocol_takes_effect_at_once(loop):
    async def main():
        second = BufferedTls(1000)
        third = Recorder()
        first = Recorder(data_received=lambda p, data: p.transport.set_protocol(second))
        second.hooks["buffer_updated"] = lambda p, n: first.transport.set_protocol(third)
        async with wired(loop, first) as (transport, wire):
            assert transport.get_protocol() is first
            await wire.write(b"one")
            await until(lambda: transport.get_protocol() is second)
            await wire.write(b"two" + b"x" * 2000)  # more than the buffer takes
            await until(lambda: len(third.received) == 1003)
            assert first.received == b"one"
            assert second.received == b"two" + b"x" * 997
            transport.abort()
            await until(lambda: third.is_lost)
            assert transport.get_protocol() is None

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (b"", "get_buffer() returned an empty buffer"),
        (b"read only", ""),
        (5, "object of type 'int' has no len()"),
    ],
)
def test_a_buffer_that_cannot_be_written_breaks_the_connection(loop, buffer, message):
    async def main():
        told = reports(loop)
        protocol = BufferedTls(get_buffer=lambda p: buffer)
        async with wired(loop, protocol) as (_, wire):
            await wire.write(b"data")
            await until(lambda: protocol.is_lost)
        assert isinstance(protocol.lost_with, Exception)
        assert [(text, keys) for text, _, _, keys in told] == [
            ("Fatal error on SSL protocol", ["exception", "message", "protocol", "transport"])
        ]
        assert message in told[0][2]

    loop.run_until_complete(main())


def test_callbacks_run_in_the_context_of_the_connection(loop):
    where = contextvars.ContextVar("where", default="nowhere")

    async def main():
        seen = []

        def note(protocol, *args):
            seen.append(where.get())
            where.set("changed")

        names = ("connection_made", "data_received", "pause_writing", "resume_writing")
        protocol = Recorder(**dict.fromkeys((*names, "eof_received", "connection_lost"), note))
        where.set("outside")
        async with wired(loop, protocol) as (transport, wire):
            await wire.write(b"data")
            await until(lambda: protocol.received)
            transport.pause_reading()
            await turns(2)
            transport.resume_reading()
            await wire.write(b"more")
            await until(lambda: protocol.received == b"datamore")
            written = fill(transport)
            await wire.read(written)
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.unwrap()
            await wire.send()
            await until(lambda: protocol.is_lost)
        assert protocol.events == [
            *("connection_made", "data_received", "pause_writing", "resume_writing"),
            *("eof_received", "connection_lost"),
        ]
        assert seen == ["outside"] + ["changed"] * 6
        assert where.get() == "outside"

    loop.run_until_complete(main())


@pytest.mark.parametrize("raised", [ValueError, asyncio.CancelledError])
@pytest.mark.parametrize(
    "method", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
def test_an_exception_in_a_callback_is_handled_as_in_asyncio(loop, method, raised):
    async def script(loop):
        told = reports(loop)

        def fail(*args):
            raise raised("no")

        protocol = Recorder(**{method: fail})
        async with wired(loop, protocol) as (_, wire):
            wire.tls.write(b"data")
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.unwrap()
            await wire.send()
            await until(lambda: protocol.is_lost)
            await turns(2)
        texts = [(text.split("<")[0], kind, words) for text, kind, words, _ in told]
        return protocol.events, repr(protocol.lost_with), texts

    if method == "connection_made":
        script = failing_connection_made(raised)
    same_as_asyncio(loop, script)


def failing_connection_made(raised):
    """A script in which connection_made() raises, after the handshake."""

    async def script(loop):
        told = reports(loop)

        def fail(*args):
            raise raised("no")

        protocol = Recorder(connection_made=fail)
        a, b = tcp_pair()
        client = Recorder()
        connecting = asyncio.ensure_future(connect_tls(loop, a, client))
        found = await asyncio.gather(
            accept_tls(loop, b, protocol), connecting, return_exceptions=True
        )
        await until(lambda: protocol.is_lost and client.is_lost)
        return protocol.events, repr(protocol.lost_with), repr(found[0]), told

    return script


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["data_received", "eof_received", "pause_writing"])
def test_an_interrupt_in_a_callback_leaves_the_loop(loop, method, raised):
    armed = True

    def interrupt(protocol, *args):
        nonlocal armed
        if armed:
            armed = False
            raise raised

    protocol = Recorder(**{method: interrupt})

    async def main():
        async with wired(loop, protocol) as (transport, wire):
            wire.tls.write(b"data")
            if method == "eof_received":
                with pytest.raises(ssl.SSLWantReadError):
                    wire.tls.unwrap()
            await wire.send()
            await until(lambda: protocol.received)
            if method == "pause_writing":
                fill(transport)
            await until(lambda: not armed)

    main_task = loop.create_task(main())
    with pytest.raises(raised):
        loop.run_until_complete(main_task)
    assert not armed
    loop.run_until_complete(asyncio.gather(main_task, return_exceptions=True))
    loop.run_until_complete(drop(protocol))


def test_sendfile_goes_through_tls(loop):
    content = os.urandom(1_000_000)

    async def main():
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            transport.write(b"before")
            assert await loop.sendfile(transport, file, 10) == len(content) - 10
            with pytest.raises(RuntimeError, match="fallback is disabled"):
                await loop.sendfile(transport, file, fallback=False)
        transport.write(b"after")
        expected = b"before" + content[10:] + b"after"
        await until(lambda: len(server.received) == len(expected))
        assert server.received == expected
        assert transport.get_protocol() is client
        await drop(client, server)

    loop.run_until_complete(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_closed_with_tls_connections_open_lets_go_of_them(new_loop):
    loop = new_loop()

    async def main():
        await tls_pair(loop, Recorder(), Recorder())

    loop.run_until_complete(main())
    loop.close()
