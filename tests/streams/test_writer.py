"""Connections of a hoop.StreamReader and a hoop.StreamWriter: over TCP, Unix sockets and TLS.

Tests of behaviour that asyncio shares run with the functions of both.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
import weakref

import pytest
from peers import end, receive, reset, tcp_pair, turns, until
from tls_peers import client_context, server_context
from waiters import cancelled, started

import hoop


@pytest.fixture(params=["hoop", "asyncio"])
def streams(request):
    """hoop, and asyncio: both have the functions."""
    return {"hoop": hoop, "asyncio": asyncio}[request.param]


@pytest.fixture(params=["tcp", "unix", "tls"])
def kind(request):
    return request.param


class Place:
    """Where a server listens, and how to connect to it."""

    def __init__(self, module, kind: str, folder, **options) -> None:
        self.module, self.kind, self.path = module, kind, str(folder / "socket")
        self.options = options

    async def serve(self, callback, **options):
        if self.kind == "unix":
            self.server = await self.module.start_unix_server(callback, self.path, **options)
            return
        if self.kind == "tls":
            options["ssl"] = server_context()
        self.server = await self.module.start_server(callback, "127.0.0.1", 0, **options)

    async def connect(self, **options):
        if self.kind == "unix":
            return await self.module.open_unix_connection(self.path, **options)
        if self.kind == "tls":
            options |= {"ssl": client_context(), "server_hostname": "localhost"}
        address = self.server.sockets[0].getsockname()
        return await self.module.open_connection(*address, **options)

    async def end(self) -> None:
        await end(self.server)
        del self.server  # it keeps the callback, and what that has seen


@pytest.fixture
def place(kind, tmp_path):
    return Place(hoop, kind, tmp_path)


async def pair(module=hoop, **options):
    """A reader and a writer, and the plain socket at the other end."""
    ours, theirs = tcp_pair()
    reader, writer = await module.open_connection(sock=ours, **options)
    return reader, writer, theirs


# ---- what they are -------------------------------------------------------------------------------


def test_they_pass_for_asyncio_s(run):
    async def main():
        reader, writer, peer = await pair()
        with peer:
            assert type(reader) is hoop.StreamReader
            assert type(writer) is hoop.StreamWriter
            assert isinstance(writer, asyncio.StreamWriter)
            assert writer.transport is writer._transport is reader._transport
            assert writer._reader is reader
            assert writer._loop is asyncio.get_running_loop()
            protocol = writer._protocol
            assert protocol is writer.transport.get_protocol()
            assert isinstance(protocol, asyncio.StreamReaderProtocol)
            assert protocol._stream_reader is reader
            assert protocol._transport is writer.transport
            assert (
                repr(writer) == f"<StreamWriter transport={writer.transport!r} reader={reader!r}>"
            )
            for function in (writer.drain, writer.wait_closed, writer.start_tls):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's, from 3.14 on
                    assert asyncio.iscoroutinefunction(function)
                assert inspect.iscoroutinefunction(function) or sys.version_info < (3, 12)
            assert writer.get_extra_info("peername") == peer.getsockname()
            assert writer.get_extra_info("nothing", 5) == 5
            assert writer.can_write_eof()
            writer.close()
            await writer.wait_closed()
            assert protocol._stream_reader is protocol._transport is None

    run(main())


def test_echo(run, place):
    async def main():
        async def echo(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        await place.serve(echo)
        reader, writer = await place.connect()
        for data in (b"x", b"y" * 1000, b"z" * 100_000):
            writer.writelines([data[:1], bytearray(data[1:])])
            assert await reader.readexactly(len(data)) == data
        if writer.can_write_eof():
            writer.write_eof()
            assert await reader.read() == b""
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await place.end()

    run(main())


def test_ten_times_the_limit_and_a_slow_reader(run, place):
    """The transport is paused while nobody reads, and every line comes."""
    total = 3_000_000

    async def main():
        done = asyncio.Event()

        async def send(reader, writer):
            for n in range(total // 1000):
                writer.write(b"%03d" % (n % 1000) * 333 + b"\n")
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            done.set()

        await place.serve(send)
        reader, writer = await place.connect(limit=2000)
        await until(lambda: reader._paused)
        held = int(repr(reader).partition(" bytes")[0].rpartition(" ")[2])
        assert held > 4000
        await turns(20)  # and nothing more comes in
        assert f"<StreamReader {held} bytes " in repr(reader)
        assert len(await reader.readexactly(20_000)) == 20_000
        for n in range(20, total // 1000):
            line = await reader.readline()
            assert line == b"%03d" % (n % 1000) * 333 + b"\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await done.wait()
        await place.end()

    run(main())


def test_a_large_request_and_answer(run, place):
    async def main():
        async def answer(reader, writer):
            data = await reader.readexactly(5_000_000)
            writer.write(data[::-1])
            await writer.drain()
            writer.close()

        await place.serve(answer)
        reader, writer = await place.connect()
        data = bytes(range(250)) * 20_000
        writer.write(data)
        assert await reader.read() == data[::-1]
        writer.close()
        await writer.wait_closed()
        await place.end()

    run(main())


def test_on_asyncio_s_loop(place):
    async def main():
        async def echo(reader, writer):
            async for line in reader:
                writer.write(line)
                await writer.drain()
            writer.close()

        await place.serve(echo)
        reader, writer = await place.connect(limit=100)
        for n in range(100):
            writer.write(b"%d\n" % n)
        for n in range(100):
            assert await reader.readline() == b"%d\n" % n
        writer.close()
        await writer.wait_closed()
        place.server.close()
        await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_a_packet_makes_one_object(run):
    """A read() that waits gets the bytes that were made of what came in."""

    async def main():
        reader, writer, peer = await pair()
        with peer:
            for _ in range(3):
                (task,) = await started(reader.read(4096))
                peer.send(b"x" * 1024)
                await until(lambda: reader._waiter is None)
                chunk = [o for o in gc.get_referents(reader) if type(o) is bytes]
                assert len(chunk) <= 1
                data = await task
                assert not chunk or chunk[0] is data
            writer.close()
            await writer.wait_closed()

    run(main())


# ---- draining ------------------------------------------------------------------------------------


def test_a_hundred_tasks_drain(run, streams):
    async def main():
        _reader, writer, peer = await pair(streams)
        with peer:
            writer.write(b"x" * 16_000_000)
            assert writer._protocol._paused
            tasks = await started(*[writer.drain() for _ in range(100)])
            assert not any(task.done() for task in tasks)
            for task in tasks[::7]:
                task.cancel()
            await turns(2)
            assert all(task.cancelled() for task in tasks[::7])
            await receive(asyncio.get_running_loop(), peer, 16_000_000)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [t for t in tasks if not t.cancelled() and t.result() is not None] == []
            assert not writer._protocol._drain_waiters
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    run(main())


def test_draining_tasks_hear_that_the_connection_is_lost(run, streams):
    async def main():
        reader, writer, peer = await pair(streams)
        with peer:
            writer.write(b"x" * 16_000_000)
            tasks = await started(*[writer.drain() for _ in range(3)])
            reset(peer)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(exc) for exc in found] == [ConnectionResetError] * 3
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()
            with pytest.raises(ConnectionResetError):
                await reader.read()

    run(main())


def test_drain_after_close_takes_a_turn_and_then_raises(run, streams):
    async def main():
        _reader, writer, peer = await pair(streams)
        with peer:
            await writer.drain()
            writer.close()
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await writer.drain()
            for _ in range(5):
                with pytest.raises(ConnectionResetError, match="Connection lost"):
                    await writer.drain()
            await writer.wait_closed()

    run(main())


def test_drain_raises_what_the_reader_has(run, streams):
    async def main():
        reader, writer, peer = await pair(streams)
        with peer:
            reader.set_exception(ValueError("from the reader"))
            with pytest.raises(ValueError, match="from the reader"):
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    run(main())


def test_drain_does_nothing_before_it_is_awaited(run):
    async def main():
        _reader, writer, peer = await pair()
        with peer:
            coro = writer.drain()
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await coro

    run(main())


def test_a_writer_on_anybody_s_protocol(run):
    """As asyncio's subprocesses have: no reader, and a protocol of another kind."""

    class Mine(asyncio.streams.FlowControlMixin):
        def __init__(self):
            super().__init__(asyncio.get_running_loop())
            self.closed = self._loop.create_future()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.closed.set_result(None)

        def _get_close_waiter(self, stream):
            return self.closed

    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = tcp_pair()
        with peer:
            transport, protocol = await loop.create_connection(Mine, sock=ours)
            writer = hoop.StreamWriter(transport, protocol, None, loop)
            await writer.drain()
            writer.write(b"x" * 16_000_000)
            tasks = await started(writer.drain(), writer.drain())
            tasks[0].cancel()
            assert await cancelled(tasks[0])
            await receive(loop, peer, 16_000_000)
            await tasks[1]
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ConnectionResetError):
                await writer.drain()

    run(main())


def test_asyncio_s_protocol_with_hoop_s_reader(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = tcp_pair()
        with peer:
            reader = hoop.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
            writers = [
                asyncio.StreamWriter(transport, protocol, reader, loop),
                hoop.StreamWriter(transport, protocol, reader, loop),
            ]
            for writer in writers:
                writer.write(b"x")
                await writer.drain()
                peer.send(b"a line\n")
                assert await reader.readline() == b"a line\n"
            writer.close()
            await writer.wait_closed()

    run(main())


# ---- closing -------------------------------------------------------------------------------------


def test_one_of_two_that_wait_for_the_end_is_cancelled(run):
    """asyncio's wait for the same future: the other would be cancelled too."""

    async def main():
        _reader, writer, peer = await pair()
        with peer:
            one, other, third = await started(*[writer.wait_closed() for _ in range(3)])
            one.cancel()
            assert await cancelled(one)
            assert not other.done()
            writer.close()
            third.cancel()
            await other
            assert await cancelled(third)
            await writer.wait_closed()
            assert (await writer._protocol._get_close_waiter(writer)) is None

    run(main())


def test_the_close_waiter_of_the_protocol(run):
    async def main():
        _reader, writer, peer = await pair()
        waiter = writer._protocol._get_close_waiter(writer)
        writer.write(b"x" * 16_000_000)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await waiter
        del waiter
        with pytest.raises(ConnectionResetError):
            await writer._protocol._closed
        gc.collect()

    run(main())


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "__del__"), reason="asyncio's do not either")
def test_a_writer_that_is_dropped_closes_and_complains(run, streams):
    async def main():
        reader, writer, peer = await pair(streams)
        with peer, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del writer
            gc.collect()
            assert [str(w.message)[:23] for w in caught] == ["unclosed <StreamWriter "]
            assert caught[0].category is ResourceWarning
            assert await reader.read() == b""
            peer.setblocking(True)
            assert peer.recv(1) == b""
            await turns(3)

    run(main())


def test_what_is_closed_is_freed_without_the_collector(run):
    async def main():
        gc.disable()
        try:
            reader, writer, peer = await pair()
            with peer:
                (task,) = await started(reader.readline())
                peer.send(b"a line\n")
                await task
                del task
                writer.close()
                await writer.wait_closed()
                gone = [weakref.ref(o) for o in (reader, writer, writer._protocol)]
                del reader, writer
                await turns(3)
                assert [ref() for ref in gone] == [None] * 3
        finally:
            gc.enable()

    run(main())


# ---- servers -------------------------------------------------------------------------------------


def test_a_plain_function_as_callback(run, streams):
    async def main():
        met = []
        server = await streams.start_server(lambda *pair: met.append(pair), "127.0.0.1", 0)
        reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
        await until(lambda: met)
        ((_, their_writer),) = met
        their_writer.write(b"hello")
        their_writer.close()
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        await their_writer.wait_closed()
        await end(server)

    run(main())


@pytest.mark.parametrize("sort", ["coroutine", "function"])
def test_a_callback_that_fails_is_reported_as_in_asyncio(run, sort):
    async def main():
        seen = {}
        for streams in (hoop, asyncio):
            loop = asyncio.get_running_loop()
            found = []
            loop.set_exception_handler(
                lambda _, context: found.append((sorted(context), context["exception"].args))  # noqa: B023
            )
            writers = []

            async def fail(reader, writer):
                await reader.readline()
                writers.append(writer)  # noqa: B023
                raise ValueError("in the callback")

            def fail_at_once(reader, writer):
                writers.append(writer)  # noqa: B023
                raise ValueError("in the callback")

            callback = fail if sort == "coroutine" else fail_at_once
            server = await streams.start_server(callback, "127.0.0.1", 0)
            _reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x\n")
            await until(lambda: writers)  # noqa: B023
            await turns(5)
            gc.collect()
            seen[streams] = (found, writers[0].is_closing())
            loop.set_exception_handler(None)
            writers.pop().close()
            writer.close()
            await writer.wait_closed()
            await end(server)
        if sort == "coroutine":
            assert seen[hoop] == seen[asyncio]
        assert [args for _, args in seen[hoop][0]] == [("in the callback",)]

    run(main())


def test_a_callback_that_is_cancelled(run, logged):
    async def main():
        seen = {}
        for streams in (hoop, asyncio):
            tasks, writers = [], []

            async def callback(reader, writer):
                tasks.append(asyncio.current_task())  # noqa: B023
                writers.append(writer)  # noqa: B023
                await reader.read()

            server = await streams.start_server(callback, "127.0.0.1", 0)
            _reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            await until(lambda: tasks)  # noqa: B023
            tasks[0].cancel()
            assert await cancelled(tasks[0])
            await turns(3)
            seen[streams] = (writers[0].is_closing(), len(logged.messages))
            logged.records.clear()
            writers.pop().close()
            writer.close()
            await writer.wait_closed()
            await end(server)
        assert seen[hoop] == seen[asyncio]

    run(main())


def test_the_connection_is_lost_while_the_callback_runs(run, streams, kind, tmp_path):
    async def main():
        ends = []

        async def callback(reader, writer):
            try:
                ends.append(await reader.readexactly(10))
            except Exception as exc:
                ends.append(type(exc))
            ends.append(writer._protocol._task if hasattr(writer._protocol, "_task") else 0)
            writer.close()

        place = Place(streams, kind, tmp_path)
        await place.serve(callback)
        _reader, writer = await place.connect()
        writer.write(b"short")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await until(lambda: len(ends) == 2)
        assert ends[0] is asyncio.IncompleteReadError
        await place.end()

    run(main())


def test_the_task_of_a_connection_is_kept(run):
    async def main():
        done = []

        async def callback(reader, writer):
            gc.collect()
            done.append(await reader.readline())
            writer.close()

        server = await hoop.start_server(callback, "127.0.0.1", 0)
        _reader, writer = await hoop.open_connection(*server.sockets[0].getsockname())
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0)
        writer.write(b"still there\n")
        await until(lambda: done)
        assert done == [b"still there\n"]
        writer.close()
        await writer.wait_closed()
        await end(server)

    run(main())


def test_a_server_s_connections_are_freed_without_the_collector(run, place):
    async def main():
        gone = []

        async def callback(reader, writer):
            gone.extend(weakref.ref(o) for o in (reader, writer, writer._protocol))
            writer.write(await reader.readline())
            writer.close()

        await place.serve(callback)
        gc.collect()
        gc.disable()
        try:
            reader, writer = await place.connect()
            writer.write(b"x\n")
            assert await reader.readline() == b"x\n"
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            await until(lambda: not any(ref() for ref in gone))
        finally:
            gc.enable()
        await place.end()

    run(main())


# ---- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(6))
def test_open_connection_cancelled_after_some_turns(run, after, place):
    async def main():
        met = []

        async def callback(reader, writer):
            met.append(writer)
            await reader.read()
            writer.close()

        await place.serve(callback)
        task = asyncio.create_task(place.connect())
        await turns(after)
        task.cancel()
        if not await cancelled(task):
            _, writer = task.result()
            writer.close()
            await writer.wait_closed()
        await turns(10)
        for writer in met:
            writer.close()
        await turns(10)
        await place.end()

    run(main())


def test_no_byte_is_lost_by_reads_that_are_cancelled(run, place):
    async def main():
        data = b"".join(b"%05d\n" % n for n in range(5000))

        async def send(reader, writer):
            for start in range(0, len(data), 777):
                writer.write(data[start : start + 777])
                if start % 5 == 0:
                    await asyncio.sleep(0)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        await place.serve(send)
        reader, writer = await place.connect(limit=500)
        got = bytearray()
        for n in range(100_000):
            if reader.at_eof():
                break
            read = [
                lambda: reader.read(50),
                lambda: reader.readline(),
                lambda: reader.readexactly(18),
                lambda: reader.readuntil(b"7\n"),
            ][n % 4]
            task = asyncio.create_task(read())
            await turns(n % 3)
            task.cancel()
            try:
                got += await task
            except asyncio.CancelledError:
                pass
            except asyncio.IncompleteReadError as exc:
                got += exc.partial
        assert bytes(got) == data
        writer.close()
        await writer.wait_closed()
        await place.end()

    run(main())


# ---- where C is not enough -----------------------------------------------------------------------


def shouted(feed_data):
    return lambda data: feed_data(data.upper())


def test_what_is_put_on_a_connection_s_reader_is_called(run, place):
    async def main():
        async def send(reader, writer):
            for _ in range(3):
                writer.write(b"line\n")
                await writer.drain()
                await reader.readline()
            writer.close()

        await place.serve(send)
        reader, writer = await place.connect()
        assert await reader.readline() == b"line\n"
        reader.feed_data = shouted(reader.feed_data)
        for _ in range(2):
            writer.write(b"next\n")
            assert await reader.readline() == b"LINE\n"
        del reader.feed_data
        writer.close()
        await writer.wait_closed()
        await place.end()

    run(main())


def test_a_reader_whose_buffer_was_lent(run, place):
    async def main():
        async def echo(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        await place.serve(echo)
        reader, writer = await place.connect()
        buffer = reader._buffer
        for n in range(5):
            writer.write(b"%d" % n)
            await until(lambda: buffer)
            assert buffer == b"%d" % n
            buffer.clear()
        writer.close()
        await writer.wait_closed()
        await place.end()

    run(main())


def test_data_after_an_end_that_was_fed_by_hand(run, logged):
    async def main():
        reader, writer, peer = await pair()
        with peer:
            reader.feed_eof()
            peer.send(b"x")
            await until(writer.is_closing)
            await turns(3)
        assert "feed_data after feed_eof" in logged.text
        assert "protocol.data_received() call failed" in logged.text
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            await writer.wait_closed()

    run(main())


def test_a_plain_callback_of_a_server_that_raises(loop, streams):
    """From Python 3.14 on its connection is closed."""
    reported = []
    names = asyncio.StreamReaderProtocol.connection_made.__code__.co_consts
    closes = "Unhandled exception in client_connected_cb" in names

    def callback(reader, writer):
        writers.append(writer)
        raise ZeroDivisionError

    def note(loop, context):
        reported.append((context["message"], type(context["exception"])))

    writers = []

    async def main():
        loop.set_exception_handler(note)
        server = await streams.start_server(callback, "127.0.0.1", 0)
        reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
        await until(lambda: reported)
        assert reported[0][1] is ZeroDivisionError
        if closes:
            assert reported[0][0] == "Unhandled exception in client_connected_cb"
            assert await reader.read() == b""
        for each in (writer, *writers):
            each.close()
            await each.wait_closed()
        await end(server)

    loop.run_until_complete(main())
