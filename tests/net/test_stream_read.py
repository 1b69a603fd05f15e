"""StreamTransport, receiving: order, pausing, end of stream, buffered protocols, changes of protocol."""

import array
import asyncio
import socket

import pytest
from peers import (
    BufferedRecorder,
    Recorder,
    connect,
    drain,
    pair,
    receive,
    reports,
    reset,
    same_as_asyncio,
    tcp_pair,
    turns,
    until,
)

MEGABYTES = bytes(range(256)) * 4 * 4096


async def send(loop, peer, data=MEGABYTES):
    await loop.sock_sendall(peer, data)
    peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("make", [Recorder, BufferedRecorder, lambda: BufferedRecorder(1)])
def test_what_was_sent_is_received_in_order_then_eof_then_lost(loop, tcp, make):
    async def main():
        protocol = make()
        data = MEGABYTES[: 5000 if getattr(protocol, "buffer", b"xx")[1:] == b"" else None]
        if tcp:
            ours, peer = tcp_pair()
            await connect(loop, ours, protocol)
        else:
            _, peer = await pair(loop, protocol)
        await send(loop, peer, data)
        await until(lambda: protocol.is_lost)
        peer.close()
        assert protocol.received == data
        assert [e for e in protocol.events if not e.endswith(("received", "updated"))] == [
            "connection_made",
            "connection_lost",
        ]
        assert protocol.events[-2] == "eof_received"
        assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_one_read_takes_at_most_a_quarter_of_a_megabyte(loop):
    sizes = []

    async def main():
        protocol = Recorder(data_received=lambda p, data: sizes.append(len(data)))
        ours, peer = tcp_pair()
        transport = await connect(loop, ours, protocol)
        transport.pause_reading()
        writing = loop.create_task(send(loop, peer))
        await turns(20)
        transport.resume_reading()
        await writing
        await until(lambda: protocol.is_lost)
        peer.close()

    loop.run_until_complete(main())
    assert max(sizes) <= 256 * 1024
    assert sum(sizes) == len(MEGABYTES)


def test_pause_inside_data_received_holds_the_rest_back(loop):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.pause_reading())
        transport, peer = await pair(loop, protocol)
        with peer:
            peer.send(b"first")
            await until(lambda: protocol.received)
            peer.send(b"second")
            peer.shutdown(socket.SHUT_WR)
            await turns(50)
            assert protocol.received == b"first"
            assert not transport.is_reading()
            transport.resume_reading()
            await until(lambda: protocol.received == b"firstsecond")
            await turns(50)
            assert "eof_received" not in protocol.events
            transport.resume_reading()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_pause_and_resume_inside_data_received_change_nothing(loop):
    def both(protocol, data):
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    async def main():
        protocol = Recorder(data_received=both)
        _, peer = await pair(loop, protocol)
        with peer:
            await send(loop, peer)
            await until(lambda: protocol.is_lost)
        assert protocol.received == MEGABYTES

    loop.run_until_complete(main())


def test_pause_in_connection_made_holds_everything_back(loop):
    async def main():
        protocol = Recorder(connection_made=lambda p: p.transport.pause_reading())
        transport, peer = await pair(loop, protocol)
        with peer:
            peer.send(b"x")
            await turns(50)
            assert protocol.events == ["connection_made"]
            transport.resume_reading()
            await until(lambda: protocol.received)
            transport.close()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_pausing_twice_and_across_close(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            found = [transport.is_reading()]
            names = ["pause", "pause", "resume", "resume", "pause", "close", "pause", "resume"]
            for name in names:
                getattr(transport, name if name == "close" else f"{name}_reading")()
                found += [transport.is_reading(), transport.is_closing()]
            await until(lambda: protocol.is_lost)
            transport.pause_reading()
            transport.resume_reading()
            found += [transport.is_reading(), transport.is_closing()]
            return found, protocol.events

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("keep_open", [True, False, None, "yes"])
def test_eof_keeps_the_sending_half_open_if_the_protocol_says_so(loop, keep_open):
    async def script(loop):
        protocol = Recorder(eof_received=lambda p: keep_open)
        transport, peer = await pair(loop, protocol)
        with peer:
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof_received" in protocol.events)
            await turns(5)
            transport.write(b"answer")
            found = transport.is_reading(), transport.is_closing()
            transport.close()
            await until(lambda: protocol.is_lost)
            return found, await drain(loop, peer), protocol.events, protocol.lost_with

    answer = same_as_asyncio(loop, script)[1]
    assert answer == (b"answer" if keep_open else b"")


def test_reading_is_resumed_after_an_eof_that_kept_the_connection(loop):
    async def script(loop):
        told = []
        protocol = Recorder(eof_received=lambda p: told.append("eof") or len(told) < 3)
        transport, peer = await pair(loop, protocol)
        with peer:
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: told)
            transport.pause_reading()
            transport.resume_reading()
            await until(lambda: len(told) == 2)
            await turns(20)
            transport.close()
            await until(lambda: protocol.is_lost)
            return told

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("queued", [0, 3_000_000])
def test_write_eof_ends_the_stream_after_what_was_queued_and_reading_goes_on(loop, queued):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            assert transport.can_write_eof()
            transport.write(b"x" * queued)
            transport.write_eof()
            assert len(await drain(loop, peer)) == queued
            peer.send(b"still heard")
            await until(lambda: protocol.received == b"still heard")
            assert not transport.is_closing()
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
def test_a_reset_connection_is_lost_with_the_error(loop, make):
    async def script(loop):
        found = reports(loop)
        protocol = make()
        ours, peer = tcp_pair()
        await connect(loop, ours, protocol)
        reset(peer)
        await until(lambda: protocol.is_lost)
        return repr(protocol.lost_with), protocol.events, found

    assert same_as_asyncio(loop, script)[0].startswith("ConnectionResetError(104")


def test_a_reset_while_reading_is_paused_is_told_on_resume(loop):
    async def script(loop):
        protocol = Recorder()
        ours, peer = tcp_pair()
        transport = await connect(loop, ours, protocol)
        transport.pause_reading()
        reset(peer)
        await turns(30)
        before = list(protocol.events)
        transport.resume_reading()
        await until(lambda: protocol.is_lost)
        return before, type(protocol.lost_with), protocol.events

    assert same_as_asyncio(loop, script)[0] == ["connection_made"]


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_buffered_protocol_of_any_size(loop, size):
    async def main():
        protocol = BufferedRecorder(size)
        _, peer = await pair(loop, protocol)
        with peer:
            await send(loop, peer, MEGABYTES[:20_000])
            await until(lambda: protocol.is_lost)
        assert protocol.received == MEGABYTES[:20_000]

    loop.run_until_complete(main())


def raising(_):
    raise ValueError("no buffer today")


@pytest.mark.parametrize(
    "answer",
    [
        lambda p: bytearray(),
        lambda p: None,
        lambda p: 5,
        raising,
        lambda p: b"readonly",
        lambda p: memoryview(b"readonly"),
        lambda p: memoryview(bytearray(8))[::2],
    ],
    ids=["empty", "None", "int", "raises", "readonly", "readonly view", "gaps"],
)
def test_a_get_buffer_that_cannot_be_used_ends_the_connection(loop, answer):
    async def script(loop):
        found = reports(loop)
        protocol = BufferedRecorder(get_buffer=answer)
        _, peer = await pair(loop, protocol)
        with peer:
            peer.send(b"x")
            await until(lambda: protocol.is_lost)
        return [(words[:2], words[3]) for words in found], type(protocol.lost_with), protocol.events

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("end", ["close", "abort", "pause_reading"])
def test_a_transport_ended_inside_get_buffer(loop, end):
    async def main():
        def get_buffer(protocol):
            getattr(protocol.transport, end)()
            return protocol.buffer

        protocol = BufferedRecorder(get_buffer=get_buffer)
        transport, peer = await pair(loop, protocol)
        with peer:
            peer.send(b"x")
            await until(lambda: protocol.received or protocol.is_lost)
            transport.close()
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_a_buffer_of_words_is_filled(loop):
    async def main():
        words = array.array("H", [0] * 4)
        protocol = BufferedRecorder(get_buffer=lambda p: words)
        _, peer = await pair(loop, protocol)
        with peer:
            peer.send(b"abcdefgh")
            await until(lambda: protocol.events[-1] == "buffer_updated")
            assert words.tobytes() == b"abcdefgh"
            protocol.transport.close()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_the_protocol_is_changed_in_mid_stream(loop):
    async def main():
        second, third = BufferedRecorder(), Recorder()
        first = Recorder(data_received=lambda p, data: p.transport.set_protocol(second))
        transport, peer = await pair(loop, first)
        with peer:
            peer.send(b"one")
            await until(lambda: first.received)
            assert transport.get_protocol() is second
            peer.send(b"two")
            await until(lambda: second.received)
            transport.set_protocol(third)
            peer.send(b"three")
            await until(lambda: third.received)
            transport.close()
            await until(lambda: third.is_lost)
        assert (first.received, second.received, third.received) == (b"one", b"two", b"three")
        assert not first.is_lost
        assert not second.is_lost
        assert second.events == ["buffer_updated"]

    loop.run_until_complete(main())


def test_data_answered_from_inside_data_received(loop):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.write(data))
        transport, peer = await pair(loop, protocol)
        with peer:
            writing = asyncio.ensure_future(loop.sock_sendall(peer, MEGABYTES))
            assert await receive(loop, peer, len(MEGABYTES)) == MEGABYTES
            await writing
            transport.close()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_much_and_little_by_turns_arrive_whole(loop):
    """After much, the transport asks how much there is, and makes an object of that size for it."""
    sizes = [65_535, 65_536, 65_537, 1, 100_000, 65_536, 262_144, 262_144, 5, 262_145, 300_000, 1]

    async def main():
        protocol = Recorder()
        ours, peer = socket.socketpair()
        for end in (ours, peer):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await connect(loop, ours, protocol)
        with peer:
            sent = b""
            for size in sizes:
                sent += MEGABYTES[len(sent) % 256 :][:size]
                await loop.sock_sendall(peer, sent[-size:])
                await until(lambda sent=sent: len(protocol.received) == len(sent))
                assert protocol.received == sent
        await until(lambda: protocol.is_lost)
        assert protocol.received == sent
        assert protocol.lost_with is None

    loop.run_until_complete(main())
