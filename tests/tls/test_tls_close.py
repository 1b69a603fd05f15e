"""How TLS connections end: by either side, in order or not."""

import asyncio
import socket
import ssl
import time

import pytest
from peers import BufferedRecorder, Recorder, fill, reset, same_as_asyncio, tcp_pair, turns, until
from tls_peers import (
    VERSIONS,
    accept_tls,
    client_context,
    connect_tls,
    server_context,
    tls_pair,
    wired,
)


def lost(protocol):
    """The events of a recorder, and the exception with which it was lost."""
    return protocol.events, repr(protocol.lost_with)


class SizedRecorder(BufferedRecorder):
    """A BufferedRecorder for TLS, which says how much there is."""

    def __init__(self, size=100_000):
        super().__init__(size)

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def version(request):
    return {"ssl": server_context(request.param)}


def test_close_sends_what_was_written_and_close_notify(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.write(b"x" * 100_000)
            transport.write(b"bye")
            transport.close()
            assert transport.is_closing()
            found = await wire.read_to_the_end()
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
            assert await loop.sock_recv(wire.sock, 1) == b""
        return found, lost(protocol)

    same_as_asyncio(loop, script)


def test_close_waits_for_a_slow_reader(loop, version):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            written = fill(transport)
            transport.close()
            transport.close()
            await turns(20)
            assert not protocol.is_lost
            assert await wire.read_to_the_end() == b"x" * written
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_the_peer_closes(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (_, wire):
            await wire.write(b"last words")
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    same_as_asyncio(loop, script)


def test_the_peer_closes_with_data_in_the_same_segment(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (_, wire):
            wire.tls.write(b"last words")
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.unwrap()
            await wire.send()
            wire.sock.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    same_as_asyncio(loop, script)


def test_a_peer_that_closed_gets_what_is_still_to_be_sent(loop, version):
    async def script(loop):
        protocol = Recorder(eof_received=lambda p: p.transport.write(b"and this"))
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.write(b"x" * 3_000_000)
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.unwrap()
            await wire.send()
            found = await wire.read_to_the_end()
            await until(lambda: protocol.is_lost)
        return len(found), found[-9:], lost(protocol)

    same_as_asyncio(loop, script)


def test_an_end_without_close_notify_is_an_end(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (_, wire):
            await wire.write(b"data")
            wire.sock.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    same_as_asyncio(loop, script)


def test_an_end_in_the_middle_of_a_record(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (_, wire):
            wire.tls.write(b"whole")
            wire.tls.write(b"cut" * 100)
            await loop.sock_sendall(wire.sock, wire.outgoing.read()[:-50])
            wire.sock.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    same_as_asyncio(loop, script)


def test_a_reset_is_told(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            reset(wire.sock)
            await until(lambda: protocol.is_lost)
            transport.write(b"into the void")
        return lost(protocol), transport.is_closing(), transport.get_write_buffer_size()

    same_as_asyncio(loop, script)


def test_the_peer_vanishes_while_much_is_to_be_sent(loop, version):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            fill(transport)
            reset(wire.sock)
            await until(lambda: protocol.is_lost)
            assert isinstance(protocol.lost_with, ConnectionError)
            assert transport.get_write_buffer_size() == 0

    loop.run_until_complete(main())


def test_true_from_eof_received_keeps_nothing_open(loop, logged):
    async def script(loop):
        protocol = Recorder(eof_received=lambda p: True)
        async with wired(loop, protocol) as (_, wire):
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
        return lost(protocol)

    same_as_asyncio(loop, script)
    told = "returning true from eof_received() has no effect when using ssl"
    assert logged.messages == [told, told]


@pytest.mark.parametrize("end", ["close_notify", "fin"])
def test_the_end_comes_after_what_a_paused_reader_has_not_read(loop, end):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.pause_reading())
        async with wired(loop, protocol) as (transport, wire):
            await wire.write(b"first")
            await until(lambda: protocol.received)
            wire.tls.write(b"second")
            if end == "close_notify":
                with pytest.raises(ssl.SSLWantReadError):
                    wire.tls.unwrap()
            await wire.send()
            wire.sock.shutdown(socket.SHUT_WR)
            await turns(20)
            assert protocol.received == b"first"
            assert not protocol.is_lost
            transport.resume_reading()
            await until(lambda: protocol.received == b"firstsecond")
            if (
                end == "fin"
            ):  # a close_notify was decrypted with the data: it is told, as in asyncio
                await turns(20)
                assert not protocol.is_lost
            transport.resume_reading()
            await until(lambda: protocol.is_lost)
            assert protocol.events[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_abort_drops_everything(loop, version):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, _):
            fill(transport)
            transport.abort()
            transport.abort()
            assert transport.is_closing()
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None
            assert transport.get_write_buffer_size() == 0
            transport.close()
            transport.resume_reading()
            transport.pause_reading()

    loop.run_until_complete(main())


def test_writing_to_a_closed_connection_is_at_last_logged(loop, logged):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, _):
            transport.abort()
            await until(lambda: protocol.is_lost)
            for _ in range(6):
                transport.write(b"x")
            return transport.get_write_buffer_size()

    same_as_asyncio(loop, script)
    assert logged.messages == ["SSL connection is closed"] * 4


def test_a_peer_that_never_answers_is_given_up_after_the_timeout(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, ssl_shutdown_timeout=0.05, **version) as (transport, _):
            transport.close()
            await until(lambda: protocol.is_lost)
        return lost(protocol)

    same_as_asyncio(loop, script)


def test_a_peer_that_never_reads_is_given_up_after_the_timeout(loop, version):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, ssl_shutdown_timeout=0.05, **version) as (transport, _):
            fill(transport)
            transport.close()
            await until(lambda: protocol.is_lost)
            assert repr(protocol.lost_with) == "TimeoutError('SSL shutdown timed out')"

    loop.run_until_complete(main())


def test_a_peer_that_answers_but_never_reads_is_given_up_too(loop, version):
    """The transport below would otherwise wait for ever to send the rest."""

    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, ssl_shutdown_timeout=0.3, **version) as (transport, wire):
            below = transport._ssl_protocol._transport
            fill(transport)
            transport.set_write_buffer_limits(0)
            below.set_write_buffer_limits(10**9)  # takes it all
            transport.close()
            with pytest.raises(ssl.SSLWantReadError):
                wire.tls.unwrap()
            await wire.send()
            await until(lambda: protocol.is_lost)
            assert repr(protocol.lost_with) == "TimeoutError('SSL shutdown timed out')"

    loop.run_until_complete(main())


def test_close_drops_what_was_received_and_not_delivered(loop, version):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.pause_reading())
        async with wired(loop, protocol, **version) as (transport, wire):
            wire.tls.write(b"x" * 100)
            await wire.send()
            await until(lambda: protocol.received)
            transport.resume_reading()
            wire.tls.write(b"y" * 100)
            await wire.send()
            transport.pause_reading()
            transport.close()
            assert await wire.read_to_the_end() == b""
            # "y" may have come before or after close_notify was sent: then it is an error, as in asyncio.
            await until(lambda: protocol.is_lost)
            assert protocol.received == b"x" * 100

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [Recorder, SizedRecorder])
@pytest.mark.parametrize("ends", [False, True], ids=["", "ends"])
@pytest.mark.parametrize("later", [0, 1, 2])
def test_close_delivers_what_came_while_reading_was_paused(loop, version, kind, ends, later):
    """As asyncio does, which takes it in meanwhile: at once, before close() returns."""

    async def script(loop):
        protocol = kind()
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.pause_reading()
            wire.tls.write(b"x" * 40_000)
            wire.tls.write(b"y" * 10)
            if ends:
                with pytest.raises(ssl.SSLWantReadError):
                    wire.tls.unwrap()
            await wire.send()
            await turns(20)
            assert not protocol.received
            transport.resume_reading()
            await turns(later)
            transport.close()
            found = bytes(protocol.received)
            if not ends:
                await wire.read_to_the_end()
                await wire.unwrap()
            await until(lambda: protocol.is_lost)
        assert found == protocol.received
        return found, lost(protocol)

    found, _ = same_as_asyncio(loop, script)
    assert found == b"x" * 40_000 + b"y" * 10


def test_close_delivers_more_than_a_buffered_protocol_has_room_for(loop, version):
    """asyncio loses all but the first buffer of it."""

    async def main():
        protocol = SizedRecorder(1000)
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.pause_reading()
            wire.tls.write(b"x" * 40_000)
            await wire.send()
            await turns(20)
            transport.resume_reading()
            transport.close()
            assert protocol.received == b"x" * 40_000
            await wire.read_to_the_end()
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_closed_from_a_callback_of_its_own_with_more_to_come(loop, version):
    async def script(loop):
        def close(protocol, data):
            protocol.transport.close()

        protocol = Recorder(data_received=close)
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.pause_reading()
            wire.tls.write(b"x" * 100)
            await wire.send()
            await turns(20)
            transport.resume_reading()
            await wire.read_to_the_end()
            await wire.unwrap()
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    same_as_asyncio(loop, script)


def test_what_came_while_reading_was_paused_is_lost_if_it_still_is(loop, version):
    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            transport.pause_reading()
            await wire.write(b"unread")
            await turns(20)
            transport.close()
            await until(lambda: protocol.is_lost)
        return bytes(protocol.received), lost(protocol)

    _, (_, exc) = same_as_asyncio(loop, script)
    assert "APPLICATION_DATA_AFTER_CLOSE_NOTIFY" in exc


def test_close_delivers_through_two_layers_of_tls(loop):
    async def main():
        client, server = Recorder(), Recorder()
        outer, far = await tls_pair(loop, client, server)
        inner, inner_far = Recorder(), Recorder()
        context = {"server_hostname": "localhost"}
        inside, inside_far = await asyncio.gather(
            loop.start_tls(far, inner_far, server_context(), server_side=True),
            loop.start_tls(outer, inner, client_context(), **context),
        )
        for protocol, transport in ((inner_far, inside), (inner, inside_far)):
            protocol.transport = transport
        inside.pause_reading()
        inside_far.write(b"through both")
        await turns(30)
        assert not inner_far.received
        inside.resume_reading()
        inside.close()
        assert inner_far.received == b"through both"
        inside_far.abort()
        await until(lambda: not loop.counters()["transports"])

    loop.run_until_complete(main())


def test_data_that_comes_in_while_closing_ends_the_connection_at_once(loop, version):
    """As in asyncio connection_lost is told of it; nothing is delivered."""

    async def script(loop):
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            await wire.write(b"wanted")
            await until(lambda: protocol.received)
            transport.close()
            await wire.write(b"unwanted")
            began = time.monotonic()
            await until(lambda: protocol.is_lost)
            assert time.monotonic() - began < 1
        return bytes(protocol.received), lost(protocol)

    _, exc = same_as_asyncio(loop, script)[1]
    assert "APPLICATION_DATA_AFTER_CLOSE_NOTIFY" in exc


def test_what_was_written_is_sent_though_the_peer_goes_on_sending(loop, version):
    """asyncio drops what is still to be sent."""

    async def main():
        protocol = Recorder()
        async with wired(loop, protocol, **version) as (transport, wire):
            written = fill(transport)
            transport.close()
            await wire.write(b"unwanted" * 1000)
            assert await wire.read(written) == b"x" * written
            await until(lambda: protocol.is_lost)
            assert protocol.received == b""

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_ended_from_inside_a_callback(loop, method, end, version):
    async def main():
        protocol = Recorder(**{method: lambda p, *args: getattr(p.transport, end)()})
        peer = Recorder()
        a, b = tcp_pair()
        await asyncio.gather(
            accept_tls(loop, a, protocol, **version),
            connect_tls(loop, b, peer),
            return_exceptions=True,
        )
        if peer.transport is not None and not peer.transport.is_closing():
            peer.transport.write(b"data")
            await turns(3)
            peer.transport.close()
        await until(lambda: protocol.is_lost and (peer.transport is None or peer.is_lost))
        assert protocol.events[0] == "connection_made"
        assert protocol.events.count("connection_lost") == 1
        assert protocol.lost_with is None or method == "connection_made"

    loop.run_until_complete(main())


def test_closing_the_transport_below_ends_both(loop, version):
    async def main():
        client, server = Recorder(), Recorder()
        transport, other = await tls_pair(loop, client, server, server_options=version)
        other.write(b"behind the session tickets: unread, they would reset the connection")
        await until(lambda: client.received)
        transport._ssl_protocol._transport.close()
        await until(lambda: client.is_lost and server.is_lost)
        assert client.events == ["connection_made", "data_received", "connection_lost"]
        assert server.events == ["connection_made", "eof_received", "connection_lost"]
        assert client.lost_with is None
        assert transport.is_closing()

    loop.run_until_complete(main())


def test_both_sides_close_at_the_same_time(loop, version):
    async def main():
        client, server = Recorder(), Recorder()
        transports = await tls_pair(loop, client, server, server_options=version)
        for transport in transports:
            transport.write(b"bye")
            transport.close()
        await until(lambda: client.is_lost and server.is_lost)

    loop.run_until_complete(main())


def test_a_lost_connection_still_knows_whose_it_was(loop):
    """A peer may be gone before `await create_connection()` returns."""

    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            names = [transport.get_extra_info(name) for name in ("sockname", "peername")]
            transport.abort()
            await until(lambda: protocol.is_lost)
            del wire
        assert names != [None, None]
        assert [transport.get_extra_info(name) for name in ("sockname", "peername")] == names

    loop.run_until_complete(main())
