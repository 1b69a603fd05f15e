"""One script on asyncio's loop and on hoop's: the same calls, reprs, reports, logs and errors, in order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import hashlib
import io
import logging
import os
import re
import socket
import tempfile
import warnings

import pytest
from peers import turns, until

GREETING: contextvars.ContextVar[str] = contextvars.ContextVar("GREETING", default="none")


class Trace(list[str]):
    """Lines of text without the numbers that differ from run to run."""

    def add(self, *words):
        text = " ".join(word if isinstance(word, str) else repr(word) for word in words)
        text = re.sub(r"(fd=|pipe )\d+", r"\1N", text)
        text = re.sub(r"0x[0-9a-f]+", "0xN", text)
        # The handle's argument is a bound method, of Python here and of C there.
        text = re.sub(r"<(bound|built-in) met[^>]*>*", "<method>", text)
        text = re.sub(r"_add_reader\(\d+", "_add_reader(N", text)
        text = re.sub(r" created at [^>]*>", ">", text)
        self.append(re.sub(r"name=\d+", "name=N", text))


class Protocol(asyncio.Protocol):
    """Writes down each call, and runs the hook of that name."""

    def __init__(self, trace, **hooks):
        self.trace, self.hooks, self.lost, self.size = trace, hooks, False, 0
        self.transport = None

    def tell(self, name, *args):
        self.trace.add(name, *args)
        hook = self.hooks.get(name)
        if hook is not None:
            hook(self)

    def connection_made(self, transport):
        self.transport = transport
        self.tell("connection_made", transport)

    def data_received(self, data):
        self.size += len(data)
        self.tell("data_received", bytes(data[:20]))

    def eof_received(self):
        self.tell("eof_received", self.transport)

    def pause_writing(self):
        self.tell("pause_writing", str(self.transport.get_write_buffer_size()))

    def resume_writing(self):
        self.tell("resume_writing", str(self.transport.get_write_buffer_size()))

    def connection_lost(self, exc):
        self.lost = True
        self.tell("connection_lost", exc, self.transport)


class Ends:
    """The two ends of a pipe, or of a pair of sockets: file objects that are closed at the end."""

    def __init__(self, kind):
        if kind == "pipe":
            reads, writes = os.pipe()
        else:
            reads, writes = (end.detach() for end in socket.socketpair())
        self.source = io.FileIO(reads, "rb")
        self.sink = io.FileIO(writes, "wb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()
        self.sink.close()


def watch(loop, trace):
    """Write down what the loop's exception handler is told."""

    def handler(loop, context):
        words = [f"{key}={value!r}" for key, value in context.items() if key != "source_traceback"]
        trace.add("handler", *words)

    loop.set_exception_handler(handler)


async def reading(trace, loop, **hooks):
    ends = Ends("pipe")
    transport, protocol = await loop.connect_read_pipe(
        lambda: Protocol(trace, **hooks), ends.source
    )
    return ends, transport, protocol


async def writing(trace, loop, kind="pipe", **hooks):
    ends = Ends(kind)
    transport, protocol = await loop.connect_write_pipe(lambda: Protocol(trace, **hooks), ends.sink)
    return ends, transport, protocol


# ---- scripts -------------------------------------------------------------------------------------------


async def the_life_of_a_read_pipe(trace, loop):
    ends, transport, protocol = await reading(trace, loop)
    with ends:
        trace.add(transport, str(transport.is_reading()), str(transport.max_size))
        trace.add(str(transport.get_extra_info("pipe") is ends.source))
        trace.add(transport.get_extra_info("nothing"), transport.get_extra_info("nothing", 5))
        trace.add(str(os.get_blocking(ends.source.fileno())))
        ends.sink.write(b"one")
        await until(lambda: protocol.size == 3)
        transport.pause_reading()
        transport.pause_reading()
        trace.add(transport, str(transport.is_reading()))
        ends.sink.write(b"two")
        await turns(3)
        transport.resume_reading()
        transport.resume_reading()
        await until(lambda: protocol.size == 6)
        other = Protocol(trace)
        transport.set_protocol(other)
        trace.add(str(transport.get_protocol() is other))
        ends.sink.write(b"three")
        await until(lambda: other.size == 5)
        ends.sink.close()
        other.transport = transport
        await until(lambda: other.lost)
        await turns(2)
        trace.add(transport, transport.get_protocol(), str(transport.is_closing()))
        trace.add(str(ends.source.closed), str(transport.is_reading()))
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        trace.add(str(hasattr(transport, "abort")), str(hasattr(transport, "write")))
        trace.add(str(isinstance(transport, asyncio.ReadTransport)), type(transport).__name__)


async def a_read_pipe_closed_by_its_protocol(trace, loop):
    for event in ("connection_made", "data_received", "eof_received", "connection_lost"):
        if event == "connection_made" and loop.get_debug():
            continue  # asyncio logs the number of the closed pipe, and fails
        ends, transport, protocol = await reading(
            trace, loop, **{event: lambda p: p.transport.close()}
        )
        with ends:
            if event != "connection_made":
                ends.sink.write(b"data")
            if event not in ("connection_made", "data_received"):
                ends.sink.close()
            await until(lambda: protocol.lost)  # noqa: B023
            await turns(2)
            trace.add(transport)


async def protocols_that_raise(trace, loop):
    def fail(protocol):
        raise ZeroDivisionError

    for event in ("connection_made", "data_received", "eof_received", "connection_lost"):
        ends, transport, protocol = await reading(trace, loop, **{event: fail})
        with ends:
            ends.sink.write(b"data")
            await until(lambda: protocol.size == 4)  # noqa: B023
            ends.sink.write(b"more")
            await until(lambda: protocol.size == 8)  # noqa: B023
            ends.sink.close()
            await until(lambda: protocol.lost)  # noqa: B023
            await turns(2)
    for event in ("connection_made", "pause_writing", "resume_writing", "connection_lost"):
        ends, transport, protocol = await writing(trace, loop, **{event: fail})
        with ends:
            transport.write(bytes(200_000))
            size = 0
            while size < 200_000:
                size += len(ends.source.read(200_000))
                await turns(2)
            transport.close()
            await until(lambda: protocol.lost)  # noqa: B023
            await turns(2)


async def the_life_of_a_write_pipe(trace, loop):
    for kind in ("pipe", "socket"):
        ends, transport, protocol = await writing(trace, loop, kind)
        with ends:
            trace.add(
                transport, transport.get_write_buffer_limits(), str(transport.can_write_eof())
            )
            for data in (b"one", bytearray(b"two"), memoryview(b"three"), b"", memoryview(b"")):
                transport.write(data)
            transport.writelines([b"four", bytearray(b"five"), memoryview(b"six")])
            trace.add(ends.source.read(100))
            for wrong in ("text", None, 5, [b"list"]):
                with pytest.raises(AssertionError) as error:
                    transport.write(wrong)
                trace.add(str(error.value))
            with pytest.raises(TypeError) as error:
                transport.writelines([b"four", 5])
            trace.add(str(error.value))
            transport.set_write_buffer_limits(high=100)
            trace.add(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(low=10)
            trace.add(transport.get_write_buffer_limits())
            with pytest.raises(ValueError, match="high") as error:
                transport.set_write_buffer_limits(high=1, low=2)
            trace.add(str(error.value))
            transport.set_write_buffer_limits(high=500_000, low=1000)
            transport.write(bytes(400_000))
            transport.write(bytes(5000))
            size = transport.get_write_buffer_size()
            trace.add(str(0 < size < 500_000))
            trace.add(repr(transport).replace(str(size), "SIZE"))
            transport.set_write_buffer_limits(0)
            left = 405_000
            while left:
                left -= len(ends.source.read(left))
                await turns(2)
            trace.add(transport)
            transport.write_eof()
            transport.write_eof()
            transport.write(b"dropped")
            trace.add(transport, str(transport.is_closing()))
            await until(lambda: protocol.lost)  # noqa: B023
            await turns(1)
            transport.close()
            trace.add(transport, ends.source.read(100), str(ends.sink.closed))
            trace.add(str(isinstance(transport, asyncio.WriteTransport)), type(transport).__name__)
            with pytest.raises(NotImplementedError):
                transport.pause_reading()


async def what_was_written_before_close(trace, loop):
    for end in ("close", "write_eof", "abort"):
        ends, transport, protocol = await writing(trace, loop)
        with ends:
            transport.write(b"x" * 200_000)
            transport.write(b"y" * 1000)
            getattr(transport, end)()
            transport.write(b"dropped")
            trace.add(str(transport.is_closing()))
            await turns(2)
            data = b""
            while not protocol.lost:
                data += ends.source.read(300_000) or b""
                await turns(2)
            data += ends.source.read(300_000) or b""
            trace.add(str(len(data) if end != "abort" else ""), data[-3:])


async def many_pieces(trace, loop):
    for kind in ("pipe", "socket"):
        ends, transport, protocol = await writing(trace, loop, kind)
        with ends:
            transport.writelines([])
            transport.writelines([b"", b""])
            transport.writelines([b"one", b"two"])
            transport.writelines(piece for piece in (b"three", b"", b"four"))
            trace.add(ends.source.read(100))
            pieces = [bytes([n]) * 9000 for n in range(60)]
            transport.writelines(pieces)
            transport.writelines(pieces)
            for piece in [bytes([n % 256]) for n in range(3000)]:
                transport.write(piece)
            transport.write(b"the end" * 30_000)
            transport.close()
            transport.writelines(pieces)
            data = b""
            while not protocol.lost:
                data += ends.source.read(300_000) or b""
                await turns(2)
            data += ends.source.read(300_000) or b""
            trace.add(str(len(data)), hashlib.sha256(data).hexdigest())
        ends, transport, protocol = await writing(trace, loop, kind)
        with ends:
            ends.source.close()
            for _ in range(8):
                transport.writelines([b"to", b"nobody"])
            await until(lambda: protocol.lost)  # noqa: B023


async def a_write_pipe_whose_reader_closes(trace, loop):
    for kind in ("pipe", "socket"):
        for waiting in (0, 1_000_000):
            ends, transport, protocol = await writing(trace, loop, kind)
            with ends:
                transport.write(bytes(waiting))
                ends.source.close()
                await until(lambda: protocol.lost)  # noqa: B023
                await turns(2)
                trace.add(transport)
        # A write may find out first.
        ends, transport, protocol = await writing(trace, loop, kind)
        with ends:
            ends.source.close()
            for _ in range(8):
                transport.write(b"to nobody")
            trace.add(transport)
            await until(lambda: protocol.lost)  # noqa: B023
            await turns(2)


async def a_socket_whose_peer_sends_counts_as_closed(trace, loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, protocol = await loop.connect_write_pipe(lambda: Protocol(trace), ours)
        theirs.send(b"unexpected")
        await until(lambda: protocol.lost)


async def a_write_pipe_that_its_protocol_ends(trace, loop):
    for event in ("pause_writing", "connection_lost"):
        for end in ("close", "abort", "write_eof"):
            if event == "connection_lost" and end == "abort":
                continue  # asyncio fails
            ends, transport, protocol = await writing(
                trace, loop, **{event: lambda p, end=end: getattr(p.transport, end)()}
            )
            with ends:
                transport.write(bytes(200_000))
                transport.close()
                while not protocol.lost:
                    ends.source.read(300_000)
                    await turns(2)
                await turns(2)
                trace.add(transport)


async def a_view_with_gaps(trace, loop):
    ends, transport, protocol = await writing(trace, loop)
    with ends:
        transport.write(bytes(200_000))
        with pytest.raises(TypeError) as error:
            transport.write(memoryview(b"abcdef")[::2])
        trace.add(str(error.value))
        transport.abort()
        transport.write(memoryview(b"abcdef")[::2])
        await until(lambda: protocol.lost)
    ends, transport, protocol = await writing(trace, loop)
    with ends:
        transport.write(memoryview(b"abcdef")[::2])
        await until(lambda: protocol.lost)


async def files_that_are_no_pipes(trace, loop):
    with tempfile.TemporaryFile() as file:
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(ValueError, match="Pipe transport") as error:
                await connect(lambda: Protocol(trace), file)
            trace.add(str(error.value), str(file.closed), str(os.get_blocking(file.fileno())))
    for connect, mode in ((loop.connect_read_pipe, "rb"), (loop.connect_write_pipe, "wb")):
        with open(os.devnull, mode, 0) as file:
            transport, protocol = await connect(lambda: Protocol(trace), file)
            trace.add(transport)
            if mode == "wb":
                transport.write(b"x" * 1_000_000)
            transport.close()
            await until(lambda: protocol.lost)  # noqa: B023
    with open("/dev/full", "wb", 0) as file:
        transport, protocol = await loop.connect_write_pipe(lambda: Protocol(trace), file)
        transport.write(b"x")
        await until(lambda: protocol.lost)


async def the_context_of_each_callback(trace, loop):
    seen = Trace()

    def look(protocol):
        seen.add(seen_by, GREETING.get())

    seen_by = "read"
    hooks = dict.fromkeys(("connection_made", "data_received", "connection_lost"), look)
    GREETING.set("at the start")
    ends, transport, protocol = await reading(trace, loop, **hooks)
    with ends:
        GREETING.set("later")
        ends.sink.write(b"one")
        await until(lambda: protocol.size == 3)
        transport.pause_reading()
        GREETING.set("at resume")
        transport.resume_reading()
        GREETING.set("after resume")
        ends.sink.write(b"two")
        await until(lambda: protocol.size == 6)
        GREETING.set("at close")
        transport.close()
        GREETING.set("after close")
        await until(lambda: protocol.lost)
    seen_by = "write"
    hooks = dict.fromkeys(("pause_writing", "resume_writing", "connection_lost"), look)
    GREETING.set("at the start")
    ends, transport, protocol = await writing(trace, loop, **hooks)
    with ends:
        GREETING.set("at write")
        transport.write(bytes(200_000))
        GREETING.set("after write")
        transport.close()
        GREETING.set("after close")
        while not protocol.lost:
            ends.source.read(300_000)
            await turns(2)
    trace.extend(seen)


async def the_order_of_callbacks(trace, loop):
    def soon(name):
        return lambda protocol: loop.call_soon(trace.add, f"soon after {name}")

    names = ("connection_made", "data_received", "eof_received", "connection_lost")
    with Ends("pipe") as ends:
        ends.sink.write(b"data")
        ends.sink.close()
        loop.call_soon(trace.add, "before")
        _, protocol = await loop.connect_read_pipe(
            lambda: Protocol(trace, **{name: soon(name) for name in names}), ends.source
        )
        trace.add("connected")
        await until(lambda: protocol.lost)
        await turns(2)


async def cancelled_at_any_turn_while_it_connects(trace, loop):
    for connect, name in ((loop.connect_read_pipe, "source"), (loop.connect_write_pipe, "sink")):
        for n in range(6):
            with Ends("pipe") as ends:
                file = getattr(ends, name)
                task = asyncio.ensure_future(connect(lambda: Protocol(trace), file))
                await turns(n)
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                trace.add(str(n), type(result).__name__)
                await turns(3)
                trace.add(str(file.closed))
                if isinstance(result, tuple):
                    transport, protocol = result
                    transport.close()
                    await until(lambda: protocol.lost)  # noqa: B023


async def a_stream_over_a_pipe(trace, loop):
    for data in (b"line\n" * 30, b"x" * 100 + b"\n", b"", b"y" * 40):
        with Ends("pipe") as ends:
            reader = asyncio.StreamReader(limit=16)
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader),  # noqa: B023
                ends.source,
            )
            ends.sink.write(data)
            ends.sink.close()
            for read in (reader.readline, lambda: reader.readexactly(7), lambda: reader.read(5)):  # noqa: B023
                try:
                    trace.add(await read())
                except (ValueError, EOFError) as exc:
                    trace.add(exc)
            trace.add(await reader.read(), str(reader.at_eof()))
            await turns(3)
            trace.add(transport, str(ends.source.closed))


async def an_end_that_nobody_closes(trace, loop):
    for start in (reading, writing):
        ends, transport, protocol = await start(trace, loop)
        if start is reading:
            transport.pause_reading()
        else:
            loop.remove_reader(ends.sink.fileno())
        protocol.transport = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            await turns(2)
            gc.collect()
        trace.add(*[f"{w.category.__name__} {w.message}" for w in caught])
        with ends:
            trace.add(str(ends.source.closed), str(ends.sink.closed))


async def a_reader_of_the_user_s_own(trace, loop):
    """add_reader() on the number takes the place of the transport's watch."""
    ends, transport, protocol = await reading(trace, loop)
    with ends:
        arrived = asyncio.Event()
        loop.add_reader(ends.source.fileno(), arrived.set)
        ends.sink.write(b"data")
        await arrived.wait()
        trace.add(str(protocol.size), transport)
        loop.remove_reader(ends.source.fileno())
        trace.add(transport)
        transport.pause_reading()
        transport.resume_reading()
        await until(lambda: protocol.size == 4)
        transport.close()
        await until(lambda: protocol.lost)


SCRIPTS = [
    the_life_of_a_read_pipe,
    a_read_pipe_closed_by_its_protocol,
    protocols_that_raise,
    the_life_of_a_write_pipe,
    what_was_written_before_close,
    many_pieces,
    a_write_pipe_whose_reader_closes,
    a_socket_whose_peer_sends_counts_as_closed,
    a_write_pipe_that_its_protocol_ends,
    a_view_with_gaps,
    files_that_are_no_pipes,
    the_context_of_each_callback,
    the_order_of_callbacks,
    cancelled_at_any_turn_while_it_connects,
    a_stream_over_a_pipe,
    an_end_that_nobody_closes,
    a_reader_of_the_user_s_own,
]


class Log(logging.Handler):
    """Writes asyncio's log into a trace, at once: a repr changes."""

    def __init__(self, trace):
        super().__init__()
        self.trace = trace

    def emit(self, record):
        message = record.getMessage()
        if not message.startswith(("poll ", "Using selector", "Close ")):
            self.trace.add(record.levelname, message)


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_same_happens_as_on_asyncio(run, script, debug, logged, monkeypatch):
    logger = logging.getLogger("asyncio")
    monkeypatch.setattr(logger, "propagate", False)  # pytest's handlers would keep the transports
    level = logger.level
    logger.setLevel(logging.DEBUG)

    async def traced():
        trace = Trace()
        log = Log(trace)
        logger.addHandler(log)
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 1000.0
        watch(loop, trace)
        try:
            await script(trace, loop)
        finally:
            logger.removeHandler(log)
        return trace

    try:
        expected = asyncio.run(traced(), debug=debug)
        assert expected
        assert run(traced(), debug=debug) == expected
    finally:
        logger.setLevel(level)
