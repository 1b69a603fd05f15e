"""A peer that answers and breaks the connection off before it has read all: its answer is not lost.

asyncio closes the connection as soon as a send fails, and its StreamReader raises that before it gives what
it has. Here what came before comes first.
"""

import asyncio
import select

import pytest
from peers import BufferedRecorder, Recorder, connect, tcp_pair, turns, until
from tls_peers import Wire, accept_tls, client_context, wired

import hoop
from hoop.streams.writer import StreamProtocol

ANSWER = b"HTTP/1.1 413 Too big\r\n\r\n"


def break_off(sock, answer):
    """Answer, and close with something unread: the connection is reset behind the answer."""
    select.select([sock], [], [], 5)
    sock.send(answer)
    sock.close()


async def answered(transport, sock, answer, size):
    """Write to a peer that answers and breaks off before the loop can read."""
    transport.write(b"request")
    await turns(3)
    break_off(sock, answer)
    transport.write(b"x" * size)


async def write_on(writer, size):
    """Write until that fails."""
    for _ in range(1000):
        writer.write(b"x" * size)
        await writer.drain()
        await asyncio.sleep(0)


@pytest.fixture(params=[10, 1_000_000], ids=["little", "much"])
def size(request):
    return request.param


@pytest.mark.parametrize("kind", [Recorder, lambda: BufferedRecorder(7)])
def test_a_protocol_gets_the_answer_and_then_the_error(loop, kind, size):
    async def main():
        ours, theirs = tcp_pair()
        protocol = kind()
        transport = await connect(loop, ours, protocol)
        await answered(transport, theirs, ANSWER, size)
        await until(lambda: protocol.is_lost)
        assert protocol.received == ANSWER
        assert isinstance(protocol.lost_with, ConnectionError)
        assert "eof_received" not in protocol.events

    loop.run_until_complete(main())


def test_what_is_written_meanwhile_goes_nowhere(loop):
    async def main():
        ours, theirs = tcp_pair()

        def answer(protocol, data):
            transport.write(b"too late")
            transport.write_eof()
            seen.append(transport.is_closing())

        seen = []
        protocol = Recorder(data_received=answer)
        transport = await connect(loop, ours, protocol)
        await answered(transport, theirs, ANSWER, 10)
        await until(lambda: protocol.is_lost)
        assert seen == [True]
        assert isinstance(protocol.lost_with, ConnectionError)

    loop.run_until_complete(main())


@pytest.mark.parametrize("action", ["close", "abort", "pause_reading"])
def test_the_protocol_may_have_enough(loop, action):
    async def main():
        ours, theirs = tcp_pair()
        protocol = BufferedRecorder(7, buffer_updated=lambda p, n: getattr(p.transport, action)())
        transport = await connect(loop, ours, protocol)
        await answered(transport, theirs, ANSWER, 10)
        await until(lambda: protocol.is_lost)
        assert protocol.received == ANSWER[:7]
        is_abort = action == "abort"
        assert (protocol.lost_with is None) if is_abort else protocol.lost_with is not None

    loop.run_until_complete(main())


def test_nobody_is_kept_waiting_by_a_peer_that_goes_on(loop):
    """Only what there is is received: here the sending half was shut down by hand."""

    async def main():
        ours, theirs = tcp_pair()
        protocol = Recorder()
        transport = await connect(loop, ours, protocol)
        with theirs:
            theirs.send(b"more to come")
            transport.get_extra_info("socket").shutdown(1)
            transport.write(b"x")
            await until(lambda: protocol.is_lost)
            assert protocol.received == b"more to come"
            assert isinstance(protocol.lost_with, BrokenPipeError)

    loop.run_until_complete(main())


@pytest.mark.parametrize("streams", [asyncio, hoop], ids=["stock", "native"])
def test_a_stream_s_reader_gives_the_answer_and_then_the_error(loop, streams, size):
    async def main():
        ours, theirs = tcp_pair()
        reader, writer = await streams.open_connection(sock=ours)
        writer.write(b"request")
        await writer.drain()
        break_off(theirs, ANSWER)
        with pytest.raises(ConnectionError):
            await write_on(writer, size)
        assert isinstance(reader, asyncio.StreamReader)
        assert await reader.readline() == b"HTTP/1.1 413 Too big\r\n"
        assert await reader.read(1) == b"\r"
        with pytest.raises(ConnectionError):
            await reader.readuntil(b"never")
        with pytest.raises(ConnectionError):
            await reader.readexactly(2)
        assert not reader.at_eof()
        assert await reader.read(100) == b"\n"
        for again in (reader.read(1), reader.read(), reader.readexactly(1), reader.readline()):
            with pytest.raises(ConnectionError):
                await again
        with pytest.raises(ConnectionError):
            await writer.drain()
        assert isinstance(reader.exception(), ConnectionError)
        writer.close()
        with pytest.raises(ConnectionError):
            await writer.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.parametrize("streams", [asyncio, hoop], ids=["stock", "native"])
def test_an_error_that_is_set_by_hand_still_comes_first(loop, streams):
    async def main():
        reader = streams.StreamReader()
        reader.feed_data(b"data")
        reader.set_exception(ValueError("mine"))
        with pytest.raises(ValueError, match="mine"):
            await reader.read(4)

    loop.run_until_complete(main())


def test_a_tls_protocol_gets_the_answer_and_then_the_error(loop, size):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            transport.write(b"request")
            await turns(3)
            wire.tls.write(ANSWER)
            break_off(wire.sock, wire.outgoing.read())
            transport.write(b"x" * size)
            await until(lambda: protocol.is_lost)
            assert protocol.received == ANSWER
            assert isinstance(protocol.lost_with, ConnectionError)

    loop.run_until_complete(main())


@pytest.mark.parametrize("streams", [asyncio, hoop], ids=["stock", "native"])
def test_a_tls_stream_s_reader_gives_the_answer_and_then_the_error(loop, streams, size):
    async def main():
        ours, theirs = tcp_pair()
        reader = streams.StreamReader()
        protocol = (asyncio.StreamReaderProtocol if streams is asyncio else StreamProtocol)(reader)
        wire = Wire(loop, theirs, client_context())
        transport, _ = await asyncio.gather(accept_tls(loop, ours, protocol), wire.handshake())
        writer = streams.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"request")
        await turns(3)
        wire.tls.write(ANSWER)
        break_off(theirs, wire.outgoing.read())
        with pytest.raises(ConnectionError):
            await write_on(writer, size)
        assert await reader.readuntil(b"\r\n\r\n") == ANSWER
        with pytest.raises(ConnectionError):
            await reader.read(1)

    loop.run_until_complete(main())
