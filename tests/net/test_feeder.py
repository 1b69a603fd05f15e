"""asyncio's own StreamReader on a hoop loop: fed in C, and no program can tell.

The one difference is counted here: feed_data() is not called. Everything else must be as if it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

import pytest
from peers import end, pair, reset, turns, until
from tls_peers import client_context, server_context


@contextlib.contextmanager
def calls_of_python(*functions):
    """Count the calls of some Python functions, which notice nothing."""
    counted = {function.__code__: 0 for function in functions}

    def notice(frame, event, arg):
        if event == "call" and frame.f_code in counted:
            counted[frame.f_code] += 1

    sys.setprofile(notice)
    try:
        yield lambda: sum(counted.values())
    finally:
        sys.setprofile(None)


FEEDING = (
    asyncio.StreamReaderProtocol.data_received,
    asyncio.StreamReader.feed_data,
    asyncio.StreamReader._wakeup_waiter,
)


async def stock_pair(loop, limit: int = 2**16):
    """asyncio's reader and protocol on a hoop transport, and the socket at the other end."""
    reader = asyncio.StreamReader(limit=limit)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, peer = await pair(loop, protocol)
    return reader, protocol, transport, peer


def test_no_python_runs_for_a_packet(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader, _, transport, peer = await stock_pair(loop)
        with peer, calls_of_python(*FEEDING) as calls:
            for n in range(10):
                task = asyncio.create_task(reader.readline())
                await asyncio.sleep(0)
                peer.send(b"line %d\n" % n)
                assert await task == b"line %d\n" % n
            peer.send(b"a")
            await until(lambda: reader._buffer)
            peer.send(b"b")
            await until(lambda: len(reader._buffer) == 2)
            assert type(reader._buffer) is bytearray
            assert reader._buffer == b"ab"
            assert reader._waiter is None
            assert calls() == 0
            transport.close()
            await turns(3)

    run(main())


def test_over_tls_neither(run):
    async def main():
        done = asyncio.Event()

        async def echo(reader, writer):
            async for line in reader:
                writer.write(line)
            writer.close()
            done.set()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        with calls_of_python(*FEEDING[:2]) as calls:
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname="localhost"
            )
            for _ in range(5):
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
            assert calls() == 0
        writer.close()
        await writer.wait_closed()
        await done.wait()
        await end(server)

    run(main())


def feed_twice(reader):
    plain = reader.feed_data

    def feed_data(data):
        plain(data)
        plain(data)

    return feed_data


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_put_on_the_reader_is_called(run, when):
    async def main():
        reader, _, transport, peer = await stock_pair(asyncio.get_running_loop())
        with peer:
            if when == "after":
                peer.send(b"x\n")
                assert await reader.readline() == b"x\n"
            reader.feed_data = feed_twice(reader)
            peer.send(b"x\n")
            assert await reader.readexactly(4) == b"x\nx\n"
            del reader.feed_data
            transport.close()
            await turns(3)

    run(main())


def test_what_is_put_on_the_protocol_is_called(run):
    async def main():
        reader, protocol, transport, peer = await stock_pair(asyncio.get_running_loop())
        with peer:
            peer.send(b"x")
            assert await reader.read(1) == b"x"
            other = asyncio.StreamReader()
            protocol._stream_reader_wr = lambda: other
            peer.send(b"for the other")
            assert await other.read(100) == b"for the other"
            transport.close()
            await turns(3)

    run(main())


def test_what_is_put_on_the_class_is_called(run, monkeypatch):
    async def main():
        reader, _, transport, peer = await stock_pair(asyncio.get_running_loop())
        plain = asyncio.StreamReader.feed_data
        with peer:
            peer.send(b"x")
            assert await reader.read(1) == b"x"
            monkeypatch.setattr(
                asyncio.StreamReader, "feed_data", lambda self, data: plain(self, data.upper())
            )
            peer.send(b"big")
            assert await reader.read(3) == b"BIG"
            monkeypatch.undo()
            peer.send(b"small")
            with calls_of_python(*FEEDING) as calls:
                assert await reader.read(5) == b"small"
                assert calls() == 0
            transport.close()
            await turns(3)

    run(main())


@pytest.mark.parametrize("what", ["feed_data", "StreamReader"])
def test_what_was_put_on_the_classes_before_hoop_was_imported_is_called(python, driver, what):
    said = python(
        f"""
        import asyncio, socket

        class Reader(asyncio.StreamReader):
            def feed_data(self, data):
                super().feed_data(data.upper())

        plain = asyncio.StreamReader.feed_data
        if {what!r} == "feed_data":
            asyncio.StreamReader.feed_data = lambda self, data: plain(self, data.upper())
        else:
            asyncio.StreamReader = asyncio.streams.StreamReader = Reader

        import hoop

        async def main():
            ours, peer = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            with peer:
                peer.send(b"word")
                print(await reader.read(10))
                writer.close()
                await writer.wait_closed()

        with asyncio.Runner(loop_factory=lambda: hoop.EventLoop(driver={driver!r})) as runner:
            runner.run(main())
        """
    )
    assert said == "b'WORD'\n"


def test_subclasses_are_called(run):
    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            super().feed_data(data + b"!")

    class Protocol(asyncio.StreamReaderProtocol):
        def data_received(self, data):
            super().data_received(b"?" + data)

    async def main():
        loop = asyncio.get_running_loop()
        for protocol, result in (
            (asyncio.StreamReaderProtocol(Reader()), b"x!"),
            (Protocol(asyncio.StreamReader()), b"?x"),
        ):
            reader = protocol._stream_reader
            transport, peer = await pair(loop, protocol)
            with peer:
                assert reader is None
                transport.close()
                await turns(3)
            reader = Reader() if result == b"x!" else asyncio.StreamReader()
            protocol = type(protocol)(reader)
            transport, peer = await pair(loop, protocol)
            with peer:
                peer.send(b"x")
                assert await reader.read(10) == result
                transport.close()
                await turns(3)

    run(main())


def test_flow_control(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader, _, transport, peer = await stock_pair(loop, limit=1000)
        total = 500_000
        with peer:
            sending = asyncio.create_task(loop.sock_sendall(peer, bytes(total)))
            await until(lambda: reader._paused)
            assert not transport.is_reading()
            got = len(await reader.readexactly(10_000))
            while got < total:
                got += len(await reader.read(777))
                assert reader._paused == (not transport.is_reading())
            await sending
            assert transport.is_reading()
            transport.close()
            await turns(3)

    run(main())


@pytest.mark.parametrize("limit", [sys.maxsize, 1 << 80, 1e300])
def test_limits_of_any_size(run, limit):
    async def main():
        reader, _, transport, peer = await stock_pair(asyncio.get_running_loop(), limit)
        with peer:
            for _ in range(3):
                peer.send(b"x" * 10_000)
                assert len(await reader.readexactly(10_000)) == 10_000
            transport.close()
            await turns(3)

    run(main())


def test_a_reader_that_is_gone_takes_nothing(run):
    async def main():
        reader, protocol, transport, peer = await stock_pair(asyncio.get_running_loop(), 10)
        with peer:
            peer.send(b"x")
            assert await reader.read(1) == b"x"
            del reader
            peer.send(b"y" * 1000)
            await turns(5)
            assert protocol._stream_reader is None
            assert transport.is_reading()
            transport.close()
            await turns(3)

    run(main())


def test_data_after_the_end_is_an_error(run, logged):
    async def main():
        reader, _, transport, peer = await stock_pair(asyncio.get_running_loop())
        with peer:
            reader.feed_eof()
            peer.send(b"x")
            await until(transport.is_closing)
            await turns(3)
        assert "feed_data after feed_eof" in logged.text

    run(main())


def test_a_buffer_of_which_there_is_a_view(run, logged):
    async def main():
        reader, _, transport, peer = await stock_pair(asyncio.get_running_loop())
        with peer:
            peer.send(b"x")
            await until(lambda: reader._buffer)
            view = memoryview(reader._buffer)
            peer.send(b"y")
            await until(transport.is_closing)
            view.release()
            await turns(3)
        assert "BufferError" in logged.text

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_reads_that_are_cancelled_lose_nothing(run, seed):
    async def main():
        loop = asyncio.get_running_loop()
        rng = random.Random(seed)
        reader, _, transport, peer = await stock_pair(loop, limit=300)
        data = b"".join(b"%05d\n" % n for n in range(3000))
        got = bytearray()

        async def send():
            for start in range(0, len(data), 100):
                await loop.sock_sendall(peer, data[start : start + 100])
            peer.close()

        sending = asyncio.create_task(send())
        while not reader.at_eof():
            task = asyncio.create_task(rng.choice([reader.readline, lambda: reader.read(50)])())
            await turns(rng.randrange(4))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got += await task
        assert bytes(got) == data
        await sending
        transport.close()
        await turns(3)

    run(main())


def test_a_lost_connection(run):
    async def main():
        server = await asyncio.start_server(lambda r, w: reset_of(w), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        await end(server)

    def reset_of(writer):
        reset(writer.get_extra_info("socket")._sock.dup())
        writer.transport.abort()

    run(main())
