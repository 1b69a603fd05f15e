"""Readers whose class derives from hoop's, as some libraries have them."""

from __future__ import annotations

import asyncio

from peers import tcp_pair

import hoop


def test_a_reader_of_a_class_that_derives_from_hoop_s(run):
    """aiomysql has one, for its own open_connection(), and imports asyncio after hoop.install()."""

    class Reader(hoop.StreamReader):
        has_ended = False

        def feed_eof(self):
            self.has_ended = True
            super().feed_eof()

    async def main():
        ours, theirs = tcp_pair()
        loop = asyncio.get_running_loop()
        reader = Reader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        writer = hoop.StreamWriter(transport, protocol, reader, loop)
        with theirs:
            writer.write(b"a line\n")
            await writer.drain()
            assert theirs.recv(10) == b"a line\n"
            theirs.sendall(b"another\n")
            assert await reader.readline() == b"another\n"
        assert await reader.read() == b""
        assert reader.has_ended
        writer.close()
        await writer.wait_closed()

    run(main())
