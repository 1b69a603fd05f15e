"""StreamTransport, the end: close, abort, lost peers, descriptors, unclosed transports, repr."""

import asyncio
import gc
import os
import re
import socket
import warnings
import weakref

import pytest
from peers import (
    Recorder,
    connect,
    drain,
    fill,
    outcome,
    pair,
    reset,
    same_as_asyncio,
    tcp_pair,
    turns,
    until,
)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_close_sends_everything_queued_first(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            data = os.urandom(8_000_000)
            transport.write(data)
            transport.close()
            assert transport.is_closing()
            assert not protocol.is_lost
            await turns(5)
            assert not protocol.is_lost
            assert await drain(loop, peer) == data
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_abort_drops_what_was_not_sent(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.write(b"x" * 8_000_000)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert not protocol.is_lost
            assert len(await drain(loop, peer)) < 8_000_000
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_abort_in_the_turn_of_the_write(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.write(b"x")
            transport.abort()
            await until(lambda: protocol.is_lost)
            assert await drain(loop, peer) in (b"", b"x")

    loop.run_until_complete(main())


@pytest.mark.parametrize("backlog", [False, True])
@pytest.mark.parametrize(
    "steps", ["close close", "close abort", "abort close", "abort abort", "write_eof close"]
)
def test_connection_lost_comes_once_however_often_it_is_ended(loop, steps, backlog):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            if backlog:
                fill(transport)
            for step in steps.split():
                getattr(transport, step)()
            early = protocol.is_lost
            await drain(loop, peer)
            await until(lambda: protocol.is_lost)
            await turns(5)
            late = [outcome(getattr(transport, name)) for name in ("close", "write_eof")]
            return early, protocol.events, protocol.lost_with, late, transport.is_closing()

    assert same_as_asyncio(loop, script)[0] is False


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize(
    "inside", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
def test_a_transport_ended_inside_a_callback(loop, inside, end):
    async def script(loop):
        protocol = Recorder(**{inside: lambda p, *_: getattr(p.transport, end)()})
        _, peer = await pair(loop, protocol)
        with peer:
            if not protocol.is_lost:
                peer.sendall(b"x")
                peer.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.is_lost)
            await turns(3)
            return protocol.events, protocol.lost_with

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("tcp", [False, True])
def test_a_peer_that_goes_while_much_is_queued(loop, tcp):
    async def script(loop):
        protocol = Recorder()
        if tcp:
            ours, peer = tcp_pair()
            transport = await connect(loop, ours, protocol)
        else:
            transport, peer = await pair(loop, protocol)
        fill(transport)
        if tcp:
            reset(peer)
        else:
            peer.close()
        await until(lambda: protocol.is_lost)
        return isinstance(protocol.lost_with, ConnectionError), protocol.events[-1]

    assert same_as_asyncio(loop, script) == (True, "connection_lost")


def test_the_end_of_the_peer_is_told_to_a_protocol_that_does_not_read(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        transport.pause_reading()
        transport.write(b"x" * 3_000_000)
        await turns(3)
        peer.close()
        await until(lambda: protocol.is_lost)
        return type(protocol.lost_with), protocol.events

    assert same_as_asyncio(loop, script)[0] is BrokenPipeError


@pytest.mark.parametrize("end", ["close", "abort", "eof", "reset"])
def test_the_descriptor_is_open_in_connection_lost_and_closed_after_it(loop, end):
    async def main():
        open_inside = []
        protocol = Recorder(connection_lost=lambda p, exc: open_inside.append(is_open(fd)))
        ours, peer = tcp_pair()
        fd = ours.fileno()
        transport = await connect(loop, ours, protocol)
        if end in ("close", "abort"):
            getattr(transport, end)()
        elif end == "eof":
            peer.shutdown(socket.SHUT_WR)
        else:
            reset(peer)
        await until(lambda: protocol.is_lost)
        assert open_inside == [True]
        await turns(2)
        assert not is_open(fd)
        assert ours.fileno() == -1
        peer.close()

    loop.run_until_complete(main())


def test_a_lost_transport_keeps_nobody_alive(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        peer.close()
        await until(lambda: protocol.is_lost)
        await turns(2)
        assert transport.get_protocol() is None
        gone = weakref.ref(protocol)
        protocol.transport = None
        protocol = None
        gc.collect()
        assert gone() is None
        return weakref.ref(transport)

    transport = loop.run_until_complete(main())
    gc.collect()
    assert transport() is None


def test_the_loop_keeps_an_open_transport_alive(loop):
    async def main():
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        received = bytearray()
        with peer:
            await connect(loop, ours, Recorder(data_received=lambda p, data: received.extend(data)))
            del ours
            gc.collect()
            peer.send(b"x")
            await until(lambda: received)
            peer.shutdown(socket.SHUT_WR)
            assert await drain(loop, peer) == b""

    loop.run_until_complete(main())


def test_a_loop_closed_with_an_open_transport_closes_it_and_complains(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        fd = transport.get_extra_info("socket").fileno()
        protocol.transport = None
        return peer, fd

    peer, fd = loop.run_until_complete(main())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        loop.close()
        gc.collect()
    assert not is_open(fd)
    with peer:
        assert peer.recv(1) == b""
    words = [str(w.message) for w in found if w.category is ResourceWarning]
    assert [word for word in words if word.startswith("unclosed transport <StreamTransport ")]


def test_a_transport_that_outlives_its_loop_can_be_asked_and_dropped(loop):
    async def main():
        return await pair(loop, Recorder())

    transport, peer = loop.run_until_complete(main())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        loop.close()
        assert "StreamTransport" in repr(transport)
        assert not transport.is_closing()
        for name in ("pause_reading", "resume_reading"):
            outcome(getattr(transport, name))
        assert outcome(transport.close) == ("RuntimeError", "Event loop is closed")
        transport.get_protocol().transport = None
        del transport
        gc.collect()
    assert any(w.category is ResourceWarning for w in found)
    with peer:
        assert peer.recv(10) == b""


def test_repr_tells_the_state(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        found = [repr(transport)]
        with peer:
            transport.pause_reading()
            found.append(repr(transport))
            fill(transport)
            transport.resume_reading()
            found.append(repr(transport))
            transport.close()
            found.append(repr(transport))
            await drain(loop, peer)
            await until(lambda: protocol.is_lost)
            found.append(repr(transport))
        return [
            re.sub(r"^<\w+|fd=\d+|bufsize=[1-9]\d*", "", text).replace(" >", ">") for text in found
        ]

    found = same_as_asyncio(loop, script)
    assert "closed" in found[-1]


def test_is_an_asyncio_transport(loop):
    async def main():
        transport, peer = await pair(loop, Recorder())
        peer.close()
        for kind in (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport):
            assert isinstance(transport, kind)
        assert isinstance(transport, asyncio.BaseTransport)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert type(transport).__name__ == "StreamTransport"
        transport.close()
        await turns(3)

    loop.run_until_complete(main())


def test_a_cancelled_connection_loses_its_transport(loop):
    async def script(loop):
        ours, peer = socket.socketpair()
        protocol = Recorder()
        connecting = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
        await turns(1)
        connecting.cancel()
        with peer:
            await until(lambda: connecting.done())
            await until(lambda: protocol.is_lost or ours.fileno() == -1)
            await turns(3)
            return connecting.cancelled(), ours.fileno()

    assert same_as_asyncio(loop, script) == (True, -1)


def test_a_write_after_the_loop_was_closed_keeps_nothing_alive(loop):
    async def main():
        return await pair(loop, Recorder())

    transport, peer = loop.run_until_complete(main())
    gone = weakref.ref(transport)
    with warnings.catch_warnings(), peer:
        warnings.simplefilter("ignore")
        loop.close()
        transport.write(b"x")
        transport.get_protocol().transport = None
        del transport
        gc.collect()
        assert gone() is None
