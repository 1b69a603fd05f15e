"""Write buffers and flow control: hazards that other loops had. The rest is in tests/net."""

import array
import asyncio
import gc
import os
import socket
import ssl
import tempfile

import pytest
from peers import (
    Recorder,
    drain,
    end,
    fill,
    make_certificate,
    pair,
    receive,
    same_as_asyncio,
    tcp_pair,
    turns,
    until,
)


def resident_bytes():
    """The process's resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_mutable_buffer_changed_after_write(loop):
    """zuvloop#61"""

    async def main():
        transport, peer = await pair(loop, Recorder())
        with peer:
            data = bytearray(b"a" * 100)
            transport.write(data)
            data[:] = b"b" * 100
            transport.close()
            assert await drain(loop, peer) == b"a" * 100
            await turns(3)

    loop.run_until_complete(main())


def test_eight_megabytes_of_words_to_a_slow_peer(loop):
    """cpython#135862: partial sends of a memoryview of words were counted in words."""
    words = array.array("H", range(65536)) * 64

    async def main():
        transport, peer = await pair(loop, Recorder())
        with peer:
            transport.write(memoryview(words))
            transport.close()
            assert await drain(loop, peer, 5000) == words.tobytes()
            await turns(3)

    loop.run_until_complete(main())


def test_a_write_to_another_transport_inside_resume_writing(loop):
    """uvloop#498"""

    async def main():
        other, other_peer = await pair(loop, Recorder())
        protocol = Recorder(resume_writing=lambda p: other.write(b"from the first"))
        transport, peer = await pair(loop, protocol)
        with peer, other_peer:
            fill(transport)
            transport.close()
            await drain(loop, peer)
            assert await receive(loop, other_peer, 14) == b"from the first"
            other.close()
            await turns(3)

    loop.run_until_complete(main())


def test_a_transport_closed_in_resume_writing_is_not_resumed_again(loop):
    """zuvloop#33"""

    async def script(loop):
        protocol = Recorder(resume_writing=lambda p: p.transport.close())
        transport, peer = await pair(loop, protocol)
        with peer:
            fill(transport)
            await drain(loop, peer)
            await until(lambda: protocol.is_lost)
        return protocol.events

    same_as_asyncio(loop, script)


def test_a_hundred_tasks_wait_for_one_drain(loop):
    """cpython#74116"""

    async def main():
        a, b = tcp_pair()
        _, writer = await asyncio.open_connection(sock=a)
        writer.write(bytes(5_000_000))
        drains = [asyncio.ensure_future(writer.drain()) for _ in range(100)]
        await turns(3)
        assert not any(task.done() for task in drains)
        assert len(await receive(loop, b, 5_000_000)) == 5_000_000
        await asyncio.gather(*drains)
        writer.close()
        await writer.wait_closed()
        b.close()

    loop.run_until_complete(main())


def test_a_read_of_ten_times_the_limit(loop):
    """rsloop: the reader paused the transport and nobody resumed it."""

    async def main():
        a, b = tcp_pair()
        reader, writer = await asyncio.open_connection(sock=a, limit=1000)
        sending = asyncio.ensure_future(loop.sock_sendall(b, b"x" * 1_000_000))
        assert await reader.readexactly(10_000) == b"x" * 10_000
        assert len(await reader.readexactly(990_000)) == 990_000
        await sending
        writer.close()
        await writer.wait_closed()
        b.close()

    loop.run_until_complete(main())


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="asan keeps freed memory")
def test_write_buffers_are_released_after_connection_lost(loop):
    """uvloop#548: kept for as long as somebody kept the transport."""

    async def main():
        kept = []
        before = resident_bytes()
        for _ in range(10):
            protocol = Recorder()
            transport, peer = await pair(loop, protocol)
            for _ in range(10):
                transport.write(os.urandom(1_000_000))
            peer.close()
            await until(lambda: protocol.is_lost)  # noqa: B023
            assert transport.get_write_buffer_size() == 0
            kept.append(transport)
        gc.collect()
        assert resident_bytes() - before < 40_000_000

    loop.run_until_complete(main())


@pytest.mark.parametrize("backlog", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_sendfile_comes_behind_what_was_written(loop, backlog, fallback):
    """uvloop#228: no sendfile. Here also its order among writes, and that nothing else may be written."""
    content = os.urandom(3_000_000)

    async def main():
        protocol = Recorder()
        a, b = tcp_pair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=a)
        reading = asyncio.ensure_future(drain(loop, b))
        written = fill(transport) if backlog else 0
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(5)
            if fallback:
                transport_of = loop._sendfile_fallback(transport, file, 5, None)
                sending = asyncio.ensure_future(transport_of)
            else:
                sending = asyncio.ensure_future(loop.sendfile(transport, file, 5))
            await turns(2)
            assert await sending == len(content) - 5
        transport.write(b"end")
        transport.close()
        assert await reading == b"x" * written + content[5:] + b"end"
        await until(lambda: protocol.is_lost)
        b.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("end", ["abort", "reset"])
def test_sendfile_ends_when_the_connection_does(loop, end):
    """It waits for what was written before: that must not be for ever."""

    async def script(loop):
        protocol = Recorder()
        a, b = tcp_pair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=a)
        fill(transport)
        with tempfile.TemporaryFile() as file:
            file.write(bytes(1000))
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns(3)
            if end == "abort":
                transport.abort()
            else:
                b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                b.close()
            await until(lambda: protocol.is_lost)
            await turns(10)
            done = sending.done()
            sending.cancel()
            found = (await asyncio.gather(sending, return_exceptions=True))[0]
        b.close()
        return done, isinstance(found, ConnectionError)

    assert same_as_asyncio(loop, script) == (True, True)


@pytest.fixture
def contexts(tmp_path):
    """TLS contexts of a server and of a client that trusts it."""
    cert, key = make_certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    return serving, ssl.create_default_context(cafile=cert)


def test_start_tls_on_a_reader_that_was_read_from(loop, contexts):
    """cpython#152431: the StreamReader stayed on the old transport."""
    serving, trusting = contexts

    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go ahead\n")
            await writer.drain()
            await writer.start_tls(serving)
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(trusting, server_hostname="localhost")
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await end(server)

    loop.run_until_complete(main())


def test_tls_writes_from_inside_data_received_and_resume_writing(loop, contexts):
    """picows#40: IndexError in the write queue."""
    serving, trusting = contexts
    total = 4_000_000

    async def main():
        echoes = []

        def factory():
            echoes.append(
                Recorder(
                    data_received=lambda p, data: p.transport.write(data),
                    resume_writing=lambda p: p.transport.write(b""),
                )
            )
            return echoes[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=serving)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=trusting, server_hostname="localhost"
        )
        data = os.urandom(total)
        writer.write(data)
        assert await reader.readexactly(total) == data
        writer.close()
        await writer.wait_closed()
        await until(lambda: echoes[0].is_lost)
        await end(server)

    loop.run_until_complete(main())
