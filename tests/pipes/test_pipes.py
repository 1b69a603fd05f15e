"""Transports of pipes, pseudo-terminals and terminals: what is read and written, and how it ends."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import gc
import os
import pty
import socket
import subprocess
import sys
import textwrap
import tracemalloc
import tty
import weakref

import pytest
from peers import Recorder, turns, until


@pytest.fixture
def terminal():
    """The two ends of a pseudo-terminal, and another descriptor of the terminal's open file."""
    master, slave = pty.openpty()
    shared = os.dup(slave)
    ends = master, os.fdopen(slave, "r+b", 0), shared
    yield ends
    ends[1].close()
    for fd in (master, shared):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(params=["pipe", "socket"])
def writing(request):
    """The two ends of something that connect_write_pipe() takes: a file to write to, and one to read."""
    if request.param == "pipe":
        reads, writes = os.pipe()
    else:
        reads, writes = (end.detach() for end in socket.socketpair())
    with open(reads, "rb", 0) as source, open(writes, "wb", 0) as sink:
        yield sink, source


# ---- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**16, 2**18, 2**20])
def test_as_much_is_read_at_once_as_on_asyncio(run, size):
    async def main():
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe()
        lengths = []
        protocol = Recorder()
        protocol.data_received = lambda data: lengths.append(len(data))
        with open(reads, "rb", 0) as source, open(writes, "wb", 0) as sink:
            await loop.connect_read_pipe(lambda: protocol, source)
            assert fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, size) == size
            sink.write(bytes(size))
            await until(lambda: sum(lengths) == size)
            sink.close()
            await until(lambda: protocol.is_lost)
        return lengths

    expected = asyncio.run(main())
    assert expected == [min(size, 2**18)] * len(expected)
    assert run(main()) == expected


def test_reading_takes_no_more_memory_than_a_pipe_holds(run):
    async def main():
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe()
        lengths = []
        protocol = Recorder()
        protocol.data_received = lambda data: lengths.append(len(data))
        with open(reads, "rb", 0) as source, open(writes, "wb", 0) as sink:
            await loop.connect_read_pipe(lambda: protocol, source)
            sink.write(bytes(2**16))
            tracemalloc.start()
            try:
                await until(lambda: lengths)
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            sink.close()
            await until(lambda: protocol.is_lost)
        return most

    assert 2**16 < run(main()) < 2**17


@pytest.mark.parametrize("debug", [False, True])
def test_an_exit_in_a_callback_leaves_the_loop_which_can_go_on(loop, writing, debug):
    sink, source = writing
    loop.set_debug(debug)

    def leave(protocol, data):
        if data == b"leave":
            raise SystemExit

    protocol = Recorder(data_received=leave)
    loop.run_until_complete(loop.connect_read_pipe(lambda: protocol, source))
    sink.write(b"leave")
    with pytest.raises(SystemExit):
        loop.run_forever()
    sink.write(b" and come back")
    sink.close()
    loop.run_until_complete(until(lambda: protocol.is_lost))
    assert protocol.received == b"leave and come back"


# ---- what was written is sent --------------------------------------------------------------------------


def read_to_the_end(source) -> asyncio.Future[bytes]:
    return asyncio.get_running_loop().run_in_executor(None, source.readall)


def test_what_is_written_when_writing_resumes_is_sent_before_close(run, writing):
    """asyncio drops it: it closes after resuming without a look at what is to be sent."""
    sink, source = writing
    size = 3_000_000

    def more(protocol):
        protocol.transport.write(b"y" * size)
        protocol.transport.close()

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: Recorder(resume_writing=more), sink
        )
        transport.write(b"x" * size)
        received = await read_to_the_end(source)
        assert received == b"x" * size + b"y" * size
        await until(lambda: protocol.is_lost)
        assert protocol.lost_with is None

    run(main())


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
@pytest.mark.parametrize("closing", [True, False])
def test_whatever_ends_it_when_writing_resumes_the_protocol_hears_of_it_once(
    run, writing, end, closing
):
    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: Recorder(resume_writing=lambda p: getattr(p.transport, end)()), sink
        )
        transport.write(b"x" * 1_000_000)
        if closing:
            transport.close()
        assert await read_to_the_end(source) == b"x" * 1_000_000
        await until(lambda: protocol.is_lost)
        await turns(3)  # a second connection_lost would come now
        assert protocol.lost_with is None

    run(main())


def test_a_view_of_wide_items_is_sent_whole(run, writing):
    """asyncio takes the number of bytes that were sent for a number of items."""
    sink, source = writing
    numbers = array.array("Q", range(200_000))

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(Recorder, sink)
        transport.write(memoryview(numbers))
        transport.close()
        assert await read_to_the_end(source) == numbers.tobytes()
        await until(lambda: protocol.is_lost)

    run(main())


@pytest.mark.parametrize("size", [10, 200_000])  # the pipe takes less at once
@pytest.mark.parametrize("length", [0, None])
def test_bytes_whose_class_has_code_of_its_own_are_sent_as_they_are(run, writing, size, length):
    """asyncio asks them for their length when they were sent: what raises there was sent all the same."""

    class Odd(bytes):
        def __len__(self):
            if length is None:
                raise ZeroDivisionError
            return length

    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(Recorder, sink)
        transport.write(Odd(b"x" * size))
        transport.write(b"the end")
        transport.close()
        assert await read_to_the_end(source) == b"x" * size + b"the end"
        await until(lambda: protocol.is_lost)

    run(main())


def test_closed_after_its_loop_a_pipe_is_just_closed(loop, writing):
    sink, source = writing

    async def main():
        reading, _ = await loop.connect_read_pipe(asyncio.Protocol, source)
        writing, _ = await loop.connect_write_pipe(asyncio.Protocol, sink)
        return reading, writing

    transports = loop.run_until_complete(main())
    loop.close()
    for transport in transports:
        transport.close()
        transport.close()
        assert transport.is_closing()
    transports[1].abort()
    assert sink.closed
    assert source.closed


@pytest.mark.parametrize("kind", ["connect_read_pipe", "connect_write_pipe"])
def test_a_closed_file_and_a_mere_number_are_refused(run, writing, kind):
    sink = writing[0]
    sink.close()

    async def main():
        connect = getattr(asyncio.get_running_loop(), kind)
        with pytest.raises(ValueError, match="closed file"):
            await connect(asyncio.Protocol, sink)
        with pytest.raises(AttributeError, match="fileno"):
            await connect(asyncio.Protocol, 5)

    run(main())


def test_a_pipe_closed_behind_its_transport_is_not_touched_again(run, writing):
    """The number may be another file's by now: that one is neither read, nor written, nor closed."""
    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        reader, reading = await loop.connect_read_pipe(Recorder, source)
        writer, ending = await loop.connect_write_pipe(Recorder, sink)
        numbers = [source.fileno(), sink.fileno()]
        writer.write(b"x" * 1_000_000)
        source.close()
        sink.close()
        others = [os.pipe() for _ in range(3)]
        assert set(numbers) <= {number for pair in others for number in pair}
        reader.pause_reading()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reader.resume_reading()
        for _, writes in others:
            os.write(writes, b"another's")
        await turns(5)
        writer.write(b"more")
        reader.close()
        writer.abort()
        await until(lambda: reading.is_lost and ending.is_lost)
        for reads, writes in others:
            assert os.read(reads, 100) == b"another's"
            os.close(reads)
            os.close(writes)
        assert set(reading.received) <= {ord("x")}

    run(main())


# ---- the end of a pseudo-terminal ----------------------------------------------------------------------


def test_the_end_of_a_pseudo_terminal_is_an_end(run, terminal):
    master, slave, shared = terminal

    async def main():
        loop = asyncio.get_running_loop()
        os.write(shared, b"last words")
        slave.close()
        os.close(shared)
        _, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(master, "rb", 0))
        await until(lambda: protocol.is_lost)
        assert protocol.received == b"last words"
        assert protocol.events == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert protocol.lost_with is None

    run(main())


def test_what_a_child_says_on_a_pseudo_terminal_is_read_to_the_end(run, terminal):
    master, slave, shared = terminal

    async def main():
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(master, "rb", 0)
        )
        child = await asyncio.create_subprocess_exec("echo", "hello", stdout=slave)
        slave.close()
        os.close(shared)
        assert await reader.read() == b"hello\r\n"
        assert await child.wait() == 0
        transport.close()

    run(main())


IN_THE_BACKGROUND = """
    import asyncio, os, pty, signal, hoop
    master, slave = pty.openpty()
    terminal = os.open(os.ttyname(slave), os.O_RDWR)  # the terminal of this session from now on
    os.write(master, b"words\\n")
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # so that a read fails

    loop = {new_loop}
    loop.set_debug(True)
    lost = loop.create_future()

    class Reads(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.set_result(exc)

    async def main():
        await loop.connect_read_pipe(Reads, os.fdopen(terminal, "r+b", 0))
        print(repr(await lost))

    loop.run_until_complete(main())
    loop.close()
"""


def test_another_terminal_that_cannot_be_read_is_an_error(driver):
    said = []
    for new_loop in (f"hoop.new_event_loop({driver!r})", "asyncio.new_event_loop()"):
        code = textwrap.dedent(IN_THE_BACKGROUND.format(new_loop=new_loop))
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, start_new_session=True, capture_output=True, text=True, timeout=15
        )
        said.append(done.stdout)
    assert said == ["OSError(5, 'Input/output error')\n"] * 2


def test_a_failed_read_is_reported_as_by_asyncio(run):
    """A Unix socket that was closed with data in it resets the connection."""

    async def main():
        loop = asyncio.get_running_loop()
        mine, other = socket.socketpair()
        mine.send(b"not read")
        reported = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        transport, protocol = await loop.connect_read_pipe(Recorder, mine)
        other.close()
        await until(lambda: protocol.is_lost)
        (context,) = reported
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert context["exception"] is protocol.lost_with
        return context["message"], repr(protocol.lost_with), protocol.events

    assert run(main()) == asyncio.run(main())


# ---- a terminal's flags --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort", "drop", "end of the loop"])
@pytest.mark.parametrize("kind", ["connect_read_pipe", "connect_write_pipe"])
def test_a_terminal_blocks_again_when_its_transport_is_gone(new_loop, terminal, kind, how):
    _, file, shared = terminal
    loop = new_loop()

    async def main():
        transport, protocol = await getattr(loop, kind)(Recorder, file)
        assert not os.get_blocking(shared)
        if how == "abort" and kind == "connect_write_pipe":
            transport.abort()
        elif how in ("close", "abort"):
            transport.close()
        else:
            return
        await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())
    if how in ("drop", "end of the loop"):
        loop.close()
        with pytest.warns(ResourceWarning, match="unclosed"):
            gc.collect()
    assert os.get_blocking(shared)


def test_a_terminal_that_did_not_block_is_left_so(run, terminal):
    _, file, shared = terminal
    os.set_blocking(shared, False)

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_read_pipe(Recorder, file)
        transport.close()
        await until(lambda: protocol.is_lost)
        assert not os.get_blocking(shared)

    run(main())


@pytest.mark.parametrize("first", [0, 1])
def test_a_terminal_that_two_transports_share_blocks_after_both(run, terminal, first):
    """Standard input and output of a shell's child are one open file: neither may block the other."""
    _, file, shared = terminal

    async def main():
        loop = asyncio.get_running_loop()
        other = os.fdopen(os.dup(shared), "wb", 0)
        ends = [
            await loop.connect_read_pipe(Recorder, file),
            await loop.connect_write_pipe(Recorder, other),
        ]
        for i in (first, 1 - first):
            assert not os.get_blocking(shared)
            ends[i][0].close()
            await until(lambda i=i: ends[i][1].is_lost)
        assert os.get_blocking(shared)

    run(main())


def test_another_open_file_of_the_same_terminal_is_left_alone(run, terminal):
    _, file, shared = terminal

    async def main():
        loop = asyncio.get_running_loop()
        other = os.fdopen(os.open(os.ttyname(shared), os.O_RDWR | os.O_NOCTTY), "r+b", 0)
        watch = os.dup(other.fileno())
        reading, reader = await loop.connect_read_pipe(Recorder, file)
        writing, writer = await loop.connect_write_pipe(Recorder, other)
        reading.close()
        await until(lambda: reader.is_lost)
        assert os.get_blocking(shared)
        assert not os.get_blocking(watch)
        writing.close()
        await until(lambda: writer.is_lost)
        assert os.get_blocking(watch)
        os.close(watch)

    run(main())


def test_a_descriptor_closed_behind_the_transport_is_not_touched(run, terminal):
    """Its number may be another file's by now."""
    file = terminal[1]

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_read_pipe(Recorder, file)
        number = file.fileno()
        reads, writes = os.pipe()
        os.set_blocking(reads, False)
        os.dup2(reads, number)
        transport.close()
        await until(lambda: protocol.is_lost)
        assert not os.get_blocking(reads)
        os.close(reads)
        os.close(writes)

    run(main())


def test_the_interpreter_gives_the_flags_back_at_its_exit_and_a_forked_child_does_not(
    driver, terminal
):
    _, file, shared = terminal
    code = f"""
        import asyncio, os, sys, hoop
        loop = hoop.new_event_loop({driver!r})
        sys.keep = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, sys.stdin))
        pid = os.fork()
        if pid == 0:
            sys.exit()
        os.waitpid(pid, 0)
        print(os.get_blocking(0))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=file,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert done.stdout == "False\n", done.stderr
    assert os.get_blocking(shared)


# ---- several pieces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["/dev/null", "terminal"])
def test_a_device_gets_the_pieces_of_writelines_as_one(run, terminal, device):
    """epoll refuses /dev/null, and a device may take each write as a message of its own."""
    master, slave, _ = terminal
    tty.setraw(slave)

    async def main():
        loop = asyncio.get_running_loop()
        with open(device, "wb", 0) if device != "terminal" else slave as sink:
            transport, _ = await loop.connect_write_pipe(Recorder, sink)
            transport.writelines([b"head ", b"body"])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            await turns(3)

    run(main())
    if device == "terminal":
        assert os.read(master, 100) == b"head body"


def test_writelines_takes_what_bytes_can_join_and_goes_by_a_replaced_write(run, writing):
    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_write_pipe(Recorder, sink)
        transport.writelines(piece for piece in (b"a", bytearray(b"b"), memoryview(b"c")))
        transport.writelines((b"d", b"", b"e"))
        transport.writelines([])
        with pytest.raises(TypeError, match="can only join an iterable"):
            transport.writelines(5)
        written = []
        transport.write = written.append
        transport.writelines([b"f", b"g"])
        assert written == [b"fg"]
        transport.close()
        await turns(3)

    run(main())
    assert source.read(100) == b"abcde"


# ---- as objects ----------------------------------------------------------------------------------------


def test_transports_can_be_referred_to_weakly(run, writing):
    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(Recorder, sink)
        reader, _ = await loop.connect_read_pipe(Recorder, source)
        known = weakref.WeakSet([writer, reader])
        assert len(known) == 2
        writer.close()
        reader.close()
        await turns(3)

    run(main())


def test_a_transport_that_has_ended_bears_every_call(run, writing):
    """Also those by the names of asyncio's own, which are called before connection_lost() has its turn."""
    sink, source = writing

    async def main():
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(Recorder, sink)
        reader, _ = await loop.connect_read_pipe(Recorder, source)
        await turns(3)
        for transport in (reader, writer):
            transport._call_connection_lost(None)
            for name in ("_read_ready", "_write_ready", "pause_reading", "resume_reading", "close"):
                with contextlib.suppress(AttributeError, AssertionError, NotImplementedError):
                    getattr(transport, name)()
            if transport is writer:
                transport.write(b"x")
                transport.abort()
            assert "closed" in repr(transport)
        await turns(3)

    run(main())
