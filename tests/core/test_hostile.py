"""Subclasses of bytes that are not what bytes() promises: only their bytes count, as for asyncio."""

from __future__ import annotations

import asyncio
import socket

import pytest
from peers import Recorder, until
from tls_peers import tls_pair

import hoop


class Odd(bytes):
    """bytes() of it is no plain bytes, and its length is a lie."""

    def __bytes__(self):
        return self

    def __len__(self):
        return 1000


ODD = Odd(b"odd bytes")


async def received_by(loop, send) -> bytes:
    """What arrives of what `send(transport)` sends."""
    ours, theirs = Recorder(), Recorder()
    a, b = socket.socketpair()
    transport, _ = await loop.create_connection(lambda: ours, sock=a)
    await loop.create_connection(lambda: theirs, sock=b)
    send(transport)
    transport.close()
    await until(lambda: theirs.is_lost)
    return bytes(theirs.received)


@pytest.mark.parametrize(
    "send",
    [
        lambda transport: transport.write(ODD),
        lambda transport: transport.writelines([ODD]),
        lambda transport: transport.writelines(iter((b"", ODD))),
    ],
    ids=["write", "writelines", "an iterator"],
)
def test_a_connection_sends_the_bytes_of_a_subclass(run, new_loop, send):
    async def main():
        return await received_by(asyncio.get_running_loop(), send)

    assert run(main()) == b"odd bytes"


def test_a_tls_connection_sends_the_bytes_of_a_subclass(run):
    async def main():
        ours, theirs = Recorder(), Recorder()
        transport, _ = await tls_pair(asyncio.get_running_loop(), ours, theirs)
        transport.write(ODD)
        transport.writelines([ODD])
        transport.close()
        await until(lambda: theirs.is_lost)
        return bytes(theirs.received)

    assert run(main()) == b"odd bytes" * 2


def test_a_datagram_has_the_bytes_of_a_subclass(run):
    async def main():
        loop = asyncio.get_running_loop()
        received = loop.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.set_result(data)

        there, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
        here, _ = await loop.create_datagram_endpoint(
            Protocol, remote_addr=there.get_extra_info("sockname")
        )
        here.sendto(ODD)
        try:
            return await received
        finally:
            here.close()
            there.close()

    assert run(main()) == b"odd bytes"


def test_a_native_reader_is_fed_the_bytes_of_a_subclass(run):
    async def main():
        reader = hoop.StreamReader()
        reader.feed_data(ODD)
        reader._buffer = ODD
        reader.feed_eof()
        return await reader.read()

    assert run(main()) == b"odd bytes"


def test_a_child_gets_the_bytes_of_a_subclass(run):
    async def main():
        child = await asyncio.create_subprocess_exec(
            "/bin/echo", Odd(b"odd argument"), stdout=asyncio.subprocess.PIPE
        )
        return (await child.communicate())[0]

    assert run(main()) == b"odd argument\n"
