"""writer.start_tls() of a hoop.StreamWriter: what the reader held already is not lost."""

from __future__ import annotations

import socket

import pytest
from peers import end, until
from tls_peers import Wire, client_context, server_context

import hoop


@pytest.mark.parametrize("cut", [None, 20, 0])
def test_start_tls_loses_nothing(loop, cut):
    """A plain line, the ClientHello and what is encrypted may come in one segment or in several."""

    async def main():
        seen = []

        async def serve(reader, writer):
            seen.append(await reader.readline())
            await writer.start_tls(server_context())
            assert reader._transport is writer.transport
            assert not reader._paused
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await hoop.start_server(serve, "127.0.0.1", 0, limit=100)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        wire = Wire(loop, sock, client_context())
        with sock:
            words = b"STARTTLS\n" + wire.hello()
            first = len(words) if cut is None else words.index(b"\n") + 1 + cut
            await loop.sock_sendall(sock, words[:first])
            await until(lambda: seen)
            await loop.sock_sendall(sock, words[first:])
            await wire.handshake()
            for _ in range(3):
                await wire.write(b"hello\n")
                assert await wire.read(6) == b"HELLO\n"
        await until(lambda: not server._active_count if hasattr(server, "_active_count") else True)
        await end(server)

    loop.run_until_complete(main())


def test_start_tls_on_both_sides(run):
    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go ahead\n")
            await writer.start_tls(server_context())
            assert writer.get_extra_info("sslcontext") is not None
            async for line in reader:
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await hoop.start_server(serve, "127.0.0.1", 0)
        reader, writer = await hoop.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(client_context(), server_hostname="localhost")
        assert not writer.can_write_eof()
        for n in range(10):
            writer.write(b"line %d\n" % n)
            assert await reader.readline() == b"LINE %d\n" % n
        writer.close()
        await writer.wait_closed()
        await end(server)

    run(main())
