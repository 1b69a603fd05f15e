"""start_tls: TLS on a connection that was in use, over transports of any kind."""

import asyncio
import socket
import ssl

import pytest
from peers import Recorder, end, pair, reset, same_as_asyncio, tcp_pair, turns, until
from tls_peers import VERSIONS, Wire, client_context, server_context, tls_pair

from hoop.tls.transport import SSLTransport

NAME = {"server_hostname": "localhost"}


async def upgraded(loop, protocol, sock, before=None):
    """A client's connection on a socket, upgraded to TLS: the old transport and the new."""
    plain, _ = await loop.create_connection(lambda: protocol, sock=sock)
    if before is not None:
        before(plain)
    return plain, await loop.start_tls(plain, protocol, client_context(), **NAME)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_goes_on_in_tls(loop, version):
    async def script(loop):
        a, b = tcp_pair()
        protocol = Recorder()
        with b:
            wire = Wire(loop, b, server_context(version))
            b.setblocking(True)
            b.send(b"plain")
            b.setblocking(False)
            plain, _ = await loop.create_connection(lambda: protocol, sock=a)
            await until(lambda: protocol.received == b"plain")
            starting = asyncio.ensure_future(
                loop.start_tls(plain, protocol, client_context(), **NAME)
            )
            await wire.handshake()
            transport = await starting
            assert transport.get_protocol() is protocol
            assert transport.get_extra_info("peername") == plain.get_extra_info("peername")
            assert transport.get_extra_info("ssl_object") is not None
            assert plain.get_protocol() is transport._ssl_protocol
            assert not plain.is_closing()
            assert plain.is_reading()
            transport.write(b"secret")
            assert await wire.read(6) == b"secret"
            await wire.write(b"answer")
            await until(lambda: protocol.received == b"plainanswer")
            transport.close()
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
            return protocol.events, plain.is_closing(), repr(protocol.lost_with)

    same_as_asyncio(loop, script)


def test_what_start_tls_refuses(loop):
    class Foreign:
        pass

    async def script(loop):
        transport, peer = await pair(loop, Recorder())
        found = []
        with peer:
            for arguments in (
                (transport, Recorder(), None),
                (Foreign(), Recorder(), client_context()),
            ):
                try:
                    await loop.start_tls(*arguments)
                except TypeError as exc:
                    found.append(str(exc).partition(" <")[0])
            transport.abort()
            await turns(3)
        return found

    same_as_asyncio(loop, script)


def proxy_server(loop, seen):
    """A stream server that reads a PROXY line, then starts TLS, then echoes lines."""

    async def serve(reader, writer):
        seen.append(await reader.readline())
        await writer.start_tls(server_context())
        seen.append(reader._transport is writer.transport)
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    return asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize("cut", [None, 20, 5, 1, 0])
def test_a_line_and_the_client_hello_in_one_segment(loop, cut):
    """Bytes that the StreamReader holds when TLS starts belong to TLS: all of them, some or none."""

    async def main():
        seen = []
        server = await proxy_server(loop, seen)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        wire = Wire(loop, sock, client_context())
        with sock:
            words = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + wire.hello()
            first = len(words) if cut is None else words.index(b"\n") + 1 + cut
            await loop.sock_sendall(sock, words[:first])
            await until(lambda: seen)
            await loop.sock_sendall(sock, words[first:])
            await wire.handshake()
            await wire.write(b"hello\n")
            assert await wire.read(6) == b"HELLO\n"
            await wire.unwrap()
        await end(server)
        assert seen == [b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", True]

    loop.run_until_complete(main())


def test_more_than_the_readers_limit_before_tls(loop):
    """The reader had paused the transport; it must not stay so."""

    async def main():
        done = []

        async def serve(reader, writer):
            assert await reader.readexactly(5) == b"START"
            await until(lambda: reader._paused)
            await writer.start_tls(server_context())
            done.append(await reader.readexactly(100_000))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=100)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        wire = Wire(loop, sock, client_context())
        with sock:
            await loop.sock_sendall(sock, b"START" + wire.hello())
            await wire.handshake()
            await wire.write(b"x" * 100_000)
            await until(lambda: done)
            await wire.unwrap()
        await end(server)
        assert done == [b"x" * 100_000]

    loop.run_until_complete(main())


def test_a_readers_flow_control_goes_to_the_new_transport(loop):
    async def main():
        a, b = tcp_pair()
        with b:
            wire = Wire(loop, b, server_context())
            reader, writer = await asyncio.open_connection(sock=a, limit=1000)
            handshake = asyncio.ensure_future(wire.handshake())
            await writer.start_tls(client_context(), **NAME)
            await handshake
            assert reader._transport is writer.transport
            await wire.write(b"x" * 10_000)
            await until(lambda: not writer.transport.is_reading())
            assert len(await reader.readexactly(10_000)) == 10_000
            assert writer.transport.is_reading()
            writer.close()
            await wire.unwrap()
            await writer.wait_closed()

    loop.run_until_complete(main())


# ---- over other transports --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_tls_in_tls(loop, size):
    async def main():
        client, server = Recorder(), Recorder()
        outer = await tls_pair(loop, client, server)
        inner = await asyncio.gather(
            loop.start_tls(outer[0], client, client_context(), **NAME),
            loop.start_tls(outer[1], server, server_context(), server_side=True),
        )
        server.hooks["data_received"] = lambda p, data: inner[1].write(data)
        assert isinstance(inner[0], SSLTransport)
        assert inner[0]._ssl_protocol._transport is outer[0]
        inner[0].write(b"x" * size)
        await until(lambda: len(client.received) == size)
        assert inner[0].get_extra_info("ssl_object") is not outer[0].get_extra_info("ssl_object")
        inner[0].close()
        await until(lambda: client.is_lost and server.is_lost)
        assert (client.lost_with, server.lost_with) == (None, None)

    loop.run_until_complete(main())


class Tunnel(asyncio.Transport):
    """A transport that is not ours: everything goes through queues of the loop, in small pieces."""

    _start_tls_compatible = True

    def __init__(self, loop):
        self.loop = loop
        self.other = None
        self.protocol = None
        self.closed = False
        self.paused = False
        self.kept = []

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def write(self, data):
        for start in range(0, len(data), 1000):
            self.loop.call_soon(self.other.arrive, data[start : start + 1000])

    def arrive(self, data):
        if self.paused:
            self.kept.append(data)
        elif self.protocol is not None and not self.closed:
            self.protocol.data_received(data)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        kept, self.kept = self.kept, []
        for data in kept:
            self.arrive(data)

    def get_extra_info(self, name, default=None):
        return {"peername": "the other end"}.get(name, default)

    def is_closing(self):
        return self.closed

    def close(self):
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.other.ended)
            self.loop.call_soon(self.lose, None)

    def ended(self):
        if not self.closed and not self.protocol.eof_received():
            self.close()

    def lose(self, exc):
        protocol, self.protocol = self.protocol, None
        protocol.connection_lost(exc)

    def abort(self):
        self.close()


@pytest.mark.parametrize("how", ["close", "abort"])
def test_over_a_transport_that_is_not_ours(loop, how):
    async def main():
        near, far = Tunnel(loop), Tunnel(loop)
        near.other, far.other = far, near
        client, server = Recorder(), Recorder()
        ours, theirs = await asyncio.gather(
            loop.start_tls(near, client, client_context(), **NAME),
            loop.start_tls(far, server, server_context(), server_side=True),
        )
        server.hooks["data_received"] = lambda p, data: theirs.write(data)
        assert ours.get_extra_info("peername") == "the other end"
        ours.write(b"x" * 300_000)
        await until(lambda: len(client.received) == 300_000)
        ours.pause_reading()
        ours.write(b"y" * 100)
        await turns(20)
        assert client.received[-1:] == b"x"
        ours.resume_reading()
        await until(lambda: client.received.endswith(b"y" * 100))
        getattr(ours, how)()
        await until(lambda: client.is_lost and server.is_lost)
        assert (client.lost_with, server.lost_with) == (None, None)

    loop.run_until_complete(main())


def test_over_asyncios_own_transport(loop):
    """A pipe or another library may bring one."""

    async def main():
        from asyncio.selector_events import _SelectorSocketTransport

        a, b = tcp_pair()
        client = Recorder()
        with b:
            wire = Wire(loop, b, server_context())
            lower = _SelectorSocketTransport(loop, a, client)
            await turns(2)
            starting = asyncio.ensure_future(
                loop.start_tls(lower, client, client_context(), **NAME)
            )
            await wire.handshake()
            transport = await starting
            transport.write(b"x" * 2_000_000)
            assert await wire.read(2_000_000) == b"x" * 2_000_000
            await wire.write(b"y" * 100_000)
            await until(lambda: len(client.received) == 100_000)
            transport.close()
            await wire.unwrap()
            await until(lambda: client.is_lost)
            assert client.lost_with is None
            await turns(3)

    loop.run_until_complete(main())


# ---- failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "fin", "garbage", "timeout", "closed"])
def test_a_failed_start_is_raised_and_told(loop, how):
    """asyncio tells the protocol of the end in some of these cases, and never in the others."""

    async def main():
        a, b = tcp_pair()
        protocol = Recorder()
        options = {"ssl_handshake_timeout": 0.05} if how == "timeout" else {}
        plain, _ = await loop.create_connection(lambda: protocol, sock=a)
        starting = asyncio.ensure_future(
            loop.start_tls(plain, protocol, client_context(), **NAME, **options)
        )
        await turns(4)
        if how == "reset":
            reset(b)
        elif how == "fin":
            b.shutdown(socket.SHUT_WR)
        elif how == "garbage":
            b.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif how == "closed":
            plain.close()
        found = (await asyncio.gather(starting, return_exceptions=True))[0]
        expected = {
            "reset": ConnectionResetError,
            "fin": ConnectionResetError,
            "garbage": ssl.SSLError,
            "timeout": ConnectionAbortedError,
            "closed": ConnectionResetError,
        }[how]
        assert isinstance(found, expected), repr(found)
        await until(lambda: protocol.is_lost)
        assert protocol.lost_with is (None if how == "closed" else found)
        assert plain.is_closing()
        await turns(3)
        b.close()

    loop.run_until_complete(main())


def test_tls_on_a_lost_connection_fails_after_the_time_limit(loop):
    """asyncio waits for ever."""

    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.abort()
            await until(lambda: protocol.is_lost)
            with pytest.raises(ConnectionAbortedError, match="is taking longer"):
                await loop.start_tls(
                    transport, protocol, client_context(), **NAME, ssl_handshake_timeout=0.05
                )

    loop.run_until_complete(main())


def test_streams_can_wait_for_the_end_after_a_failed_start(loop):
    async def main():
        a, b = tcp_pair()
        with b:
            _, writer = await asyncio.open_connection(sock=a)
            b.send(b"no TLS here, sorry")
            with pytest.raises(ssl.SSLError):
                await writer.start_tls(client_context(), **NAME)
            assert writer.is_closing()
            with pytest.raises(ssl.SSLError):
                await writer.wait_closed()

    loop.run_until_complete(main())
