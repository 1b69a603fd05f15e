"""TLS: hazards that other loops had. The rest is in tests/tls."""

import asyncio
import gc
import os
import socket
import ssl
import sys
import threading
import time

import pytest
from peers import Recorder, end, fill, until
from tls_peers import (
    Wire,
    client_context,
    server_context,
    tls_objects,
    tls_pair,
    wired,
)

from hoop.drivers.op import count_live_ops

NAME = {"server_hostname": "localhost"}
needs_measuring = pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="asan keeps freed memory"
)


def resident_bytes():
    """The process's resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- close() ends ---------------------------------------------------------------------------------


def flood(address, found):
    """A client in a thread that sends without an end and reads nothing; how that ended, and when."""
    context = client_context()
    sock = socket.create_connection(address)
    with context.wrap_socket(sock, server_hostname="localhost") as tls:
        found["began"] = time.monotonic()
        try:
            while time.monotonic() < found["began"] + 15:
                tls.sendall(bytes(65536))
        except OSError as exc:
            found["ended"] = time.monotonic()
            found["how"] = exc


def test_close_in_the_middle_of_an_upload_ends_it(loop):
    """uvloop#471, aiohttp#6762: close() went on downloading, for up to 30 seconds."""
    found = {}
    received = 0

    class Server(Recorder):
        def data_received(self, data):
            nonlocal received
            assert not self.transport.is_closing(), "delivered after close()"
            received += len(data)
            if received > 1_000_000:
                found["closed"] = time.monotonic()
                self.transport.close()

    async def main():
        protocols = []

        def factory():
            protocols.append(Server())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        client = threading.Thread(target=flood, args=(address, found))
        client.start()
        await until(lambda: protocols and protocols[0].is_lost)
        lost = time.monotonic()
        await loop.run_in_executor(None, client.join)
        await loop.shutdown_default_executor()
        assert lost - found["closed"] < 1
        assert found["ended"] - found["closed"] < 1
        assert isinstance(found["how"], OSError)
        await end(server)

    loop.run_until_complete(main())


# ---- memory ---------------------------------------------------------------------------------------


async def abort_handshake(loop, address):
    """Say half a ClientHello, and go."""
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, b"\x16\x03\x01\x02\x00\x01" + bytes(50))


async def distrust(loop, address):
    """Fail the handshake: the certificate is not trusted."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.create_connection(
            asyncio.Protocol, *address, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **NAME
        )


async def drop_connection(loop, address):
    """Connect, and abort."""
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *address, ssl=CLIENT_CONTEXT, **NAME
    )
    transport.write(b"x" * 100_000)
    transport.abort()


async def close_connection(loop, address):
    """Connect, and close in order."""
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *address, ssl=CLIENT_CONTEXT, **NAME
    )
    transport.write(b"x" * 1000)
    transport.close()


async def fail_to_start(loop, address):
    """Fail in start_tls."""
    transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.start_tls(transport, protocol, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **NAME)


CLIENT_CONTEXT = client_context()


@needs_measuring
@pytest.mark.parametrize(
    ("how", "times"),
    [
        (abort_handshake, 3000),
        (distrust, 200),
        (fail_to_start, 200),
        (drop_connection, 250),
        (close_connection, 250),
    ],
)
def test_connections_that_end_leave_nothing_for_the_collector(loop, how, times):
    """cpython#98539, #109534, #106684: gigabytes of connections in reference cycles."""

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()

        async def all_gone():
            await until(lambda: not loop.counters()["transports"])
            await asyncio.sleep(0)

        async def some(n):
            for _ in range(n):
                await how(loop, address)
            await all_gone()

        await some(times // 5)  # what stays for good
        gc.collect()
        gc.disable()
        try:
            before = resident_bytes()
            objects = len(gc.get_objects())
            alive = tls_objects()
            ops = count_live_ops()
            await some(times)
            assert count_live_ops() == ops
            assert len(gc.get_objects()) - objects < 50
            assert resident_bytes() - before < 2_500_000  # asyncio: up to 300 kB for each
            assert tls_objects() == alive
        finally:
            gc.enable()
        await end(server)

    loop.run_until_complete(main())


@needs_measuring
def test_an_idle_connection_keeps_little(loop):
    """Stock asyncio pins 256 KiB for each side of each connection, and what its buffers grew to."""
    n = 100

    async def main():
        pairs = []

        async def connect(count):
            for _ in range(count):
                client, server = Recorder(), Recorder()
                await tls_pair(loop, client, server, {"ssl": CLIENT_CONTEXT}, {"ssl": context})
                pairs.append((client, server))

        context = server_context()
        await connect(10)
        before = resident_bytes()
        await connect(n)
        idle = (resident_bytes() - before) / n
        for client, server in pairs:
            for one, other in ((client, server), (server, client)):
                one.transport.write(bytes(300_000))
                await until(lambda: len(other.received) == 300_000)  # noqa: B023
                other.received.clear()
        used = (resident_bytes() - before) / n
        for client, _ in pairs:
            client.transport.abort()
        await until(lambda: all(c.is_lost and s.is_lost for c, s in pairs))
        assert idle < 120_000, "both sides, OpenSSL's own objects included"
        assert used < 350_000, "after 300 kB in each direction"

    loop.run_until_complete(main())


def test_a_dropped_writer_ends_its_connection(loop):
    """cpython#106684: an unclosed TLS connection lived for ever."""
    if sys.version_info < (3, 11, 5):
        pytest.skip("StreamWriter has no finaliser there")

    async def main():
        server_side = Recorder()
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        accepting = asyncio.ensure_future(
            loop.connect_accepted_socket(lambda: server_side, b, ssl=server_context())
        )
        reader, writer = await asyncio.open_connection(sock=a, ssl=CLIENT_CONTEXT, **NAME)
        await accepting
        del reader
        with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
            del writer
        await until(lambda: server_side.is_lost)
        await until(lambda: not loop.counters()["transports"])

    loop.run_until_complete(main())


# ---- writing --------------------------------------------------------------------------------------


def test_writes_from_inside_every_callback_under_load(loop):
    """picows#40: IndexError in the queue when written to from resume_writing on a backlog."""
    total = 0

    def write(protocol, *args):
        nonlocal total
        total += 1000
        protocol.transport.write(b"w" * 1000)

    async def main():
        nonlocal total
        protocol = Recorder(pause_writing=write, resume_writing=write, data_received=write)
        async with wired(loop, protocol) as (transport, wire):
            read = 0
            for _ in range(5):
                total += fill(transport, b"f" * 30_000)
                await wire.write(b"more")
                while read < total:
                    read += len(await wire.read(min(65536, total - read)))
            protocol.hooks.clear()
            transport.abort()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


# ---- start_tls ------------------------------------------------------------------------------------


def test_start_tls_takes_what_the_reader_holds(loop):
    """cpython#142352, uvloop#707: a PROXY line and the ClientHello in one segment. And cpython#152431:
    the reader stayed on the old transport."""

    async def main():
        seen = []

        async def serve(reader, writer):
            seen.append(await reader.readline())
            await writer.start_tls(server_context())
            seen.append(reader._transport is writer.transport)
            seen.append(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        wire = Wire(loop, sock, CLIENT_CONTEXT)
        with sock:
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.do_handshake()
            await loop.sock_sendall(sock, b"PROXY TCP4\r\n" + wire.outgoing.read())
            await wire.handshake()
            await wire.write(b"secret\n")
            await wire.unwrap()
        await end(server)
        assert seen == [b"PROXY TCP4\r\n", True, b"secret\n"]

    loop.run_until_complete(main())


# ---- settings -------------------------------------------------------------------------------------


def test_a_certificate_nobody_signed_is_refused_unless_the_context_says_so(loop):
    """rsloop#37: verify_mode and check_hostname were ignored. All settings: tls/test_tls_handshake.py"""

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        for context, name, refused in (
            (ssl.create_default_context(), "localhost", True),
            (CLIENT_CONTEXT, "example.org", True),
            (CLIENT_CONTEXT, "localhost", False),
        ):
            try:
                transport, _ = await loop.create_connection(
                    asyncio.Protocol, *address, ssl=context, server_hostname=name
                )
            except ssl.SSLCertVerificationError:
                assert refused
            else:
                assert not refused
                transport.abort()
        await end(server)

    loop.run_until_complete(main())
