"""Flow control of TLS transports, in both directions."""

import asyncio
import os
import ssl

import pytest
from peers import Recorder, fill, reports, same_as_asyncio, turns, until
from tls_peers import VERSIONS, server_context, tls_pair, wired

HIGH_WATER = 512 * 1024


async def drop(protocol):
    """Abort the connection and wait until it is lost."""
    protocol.transport.abort()
    await until(lambda: protocol.is_lost)


def test_a_slow_reader_pauses_the_writer_and_resumes_it(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            written = fill(transport)
            assert protocol.events[-1] == "pause_writing"
            assert transport._protocol_paused
            assert HIGH_WATER <= transport.get_write_buffer_size() <= HIGH_WATER + 65536
            await turns(20)
            assert protocol.events[-1] == "pause_writing"
            assert await wire.read(written) == b"x" * written
            assert protocol.events[-2:] == ["pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() == 0
            await drop(protocol)

    loop.run_until_complete(main())


def test_water_marks_may_be_fractions_and_infinite(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, _):
            transport.set_write_buffer_limits(high=float("inf"), low=0)
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 65536)
            assert "pause_writing" not in protocol.events
            size = transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=size + 0.5, low=0.5)
            assert (
                "pause_writing" not in protocol.events
            )  # asyncio pauses at a size of `high`, or more
            transport.set_write_buffer_limits(high=size - 0.5, low=0.5)
            assert protocol.events[-1] == "pause_writing"
            await drop(protocol)

    loop.run_until_complete(main())


def test_what_is_written_while_paused_is_kept_in_order(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            written = fill(transport)
            transport.write(b"one")
            await turns(3)
            transport.writelines([b"two", b"three"])
            assert (await wire.read(written + 11))[-11:] == b"onetwothree"
            assert protocol.events.count("pause_writing") == 1
            await drop(protocol)

    loop.run_until_complete(main())


def test_with_no_buffer_allowed_only_what_the_kernel_keeps_pauses(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            transport.set_write_buffer_limits(0)
            transport.write(b"small")
            assert transport.get_write_buffer_size() == 0  # it left at once
            assert protocol.events == ["connection_made"]
            assert await wire.read(5) == b"small"
            while "pause_writing" not in protocol.events:
                transport.write(b"x" * 65536)
            assert transport.get_write_buffer_size() > 0
            transport.set_write_buffer_limits(high=10**9)
            while "resume_writing" not in protocol.events:
                await wire.read(65536)
            await drop(protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_exception_in_flow_control_is_reported_and_nothing_else(loop, method):
    async def script(loop):
        told = reports(loop)

        def fail(protocol):
            raise ValueError(method)

        protocol = Recorder(**{method: fail})
        async with wired(loop, protocol) as (transport, wire):
            written = fill(transport)
            assert await wire.read(written) == b"x" * written
            await drop(protocol)
        return protocol.events, told, repr(protocol.lost_with)

    same_as_asyncio(loop, script)


def test_a_write_from_resume_writing_comes_behind_the_rest(loop):
    async def main():
        protocol = Recorder(resume_writing=lambda p: p.transport.write(b"again"))
        async with wired(loop, protocol) as (transport, wire):
            written = fill(transport)
            assert (await wire.read(written + 5))[-5:] == b"again"
            await drop(protocol)

    loop.run_until_complete(main())


def test_closed_and_aborted_from_flow_control_callbacks(loop):
    async def main():
        for method in ("pause_writing", "resume_writing"):
            for end in ("close", "abort"):
                protocol = Recorder(**{method: lambda p, end=end: getattr(p.transport, end)()})
                async with wired(loop, protocol, ssl_shutdown_timeout=5) as (transport, wire):
                    transport.write(bytes(6_000_000))
                    try:
                        found = await wire.read_to_the_end()
                        await wire.unwrap()
                    except (EOFError, ConnectionError):
                        assert end == "abort"
                    else:
                        assert (end, len(found)) == ("close", 6_000_000)
                    await until(lambda: protocol.is_lost)  # noqa: B023
                    assert protocol.lost_with is None

    loop.run_until_complete(main())


def test_pause_reading_stops_the_transport_below_too(loop):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.pause_reading())
        async with wired(loop, protocol) as (transport, wire):
            await wire.write(b"first")
            await until(lambda: protocol.received == b"first")
            assert not transport.is_reading()
            below = transport._ssl_protocol._transport
            assert not below.is_reading()
            sending = asyncio.ensure_future(wire.write(os.urandom(20_000_000)))
            await turns(50)
            assert protocol.received == b"first"
            assert not sending.done()  # the kernel's buffers are full, and nobody empties them
            protocol.hooks.clear()
            transport.resume_reading()
            assert transport.is_reading()
            assert below.is_reading()
            await until(lambda: len(protocol.received) == 20_000_005)
            await sending
            await drop(protocol)

    loop.run_until_complete(main())


def test_what_was_read_ahead_comes_a_turn_after_resume(loop):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.pause_reading())
        async with wired(loop, protocol) as (transport, wire):
            for _ in range(100):
                wire.tls.write(b"x" * 1000)
            await wire.send()
            await until(lambda: protocol.received)
            transport.resume_reading()
            before = len(protocol.received)
            transport.pause_reading()
            await turns(3)
            assert len(protocol.received) == before
            while len(protocol.received) < 100_000:
                transport.resume_reading()
                transport.resume_reading()
                await turns(2)
            await drop(protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_streams_with_slow_readers_on_both_sides(loop, version):
    """Everybody reads a little at a time, and both write all they can."""
    total = 3_000_000

    async def talk(reader, writer):
        async def send():
            for _ in range(total // 50_000):
                writer.write(bytes(50_000))
                await writer.drain()

        sending = asyncio.ensure_future(send())
        found = 0
        while found < total:
            found += len(await reader.read(20_000))
            await asyncio.sleep(0)
        await sending

    async def main():
        client_reader, server_reader = asyncio.StreamReader(), asyncio.StreamReader()
        client = asyncio.StreamReaderProtocol(client_reader)
        server = asyncio.StreamReaderProtocol(server_reader)
        a, b = await tls_pair(loop, client, server, server_options={"ssl": server_context(version)})
        writers = [
            asyncio.StreamWriter(a, client, client_reader, loop),
            asyncio.StreamWriter(b, server, server_reader, loop),
        ]
        await asyncio.gather(talk(client_reader, writers[0]), talk(server_reader, writers[1]))
        for writer in writers:
            writer.close()
        await asyncio.gather(*[writer.wait_closed() for writer in writers])

    loop.run_until_complete(main())


class MustReadFirst:
    """The C half of an SSLObject that will not write before it has read, as in a renegotiation."""

    def __init__(self, inner):
        self.inner = inner
        self.read = inner.read
        self.refuse = False

    def write(self, data):
        if self.refuse:
            raise ssl.SSLWantReadError
        return self.inner.write(data)


def test_a_write_that_has_to_wait_for_the_peer_is_done_when_it_has_spoken(loop):
    """TLS 1.2 may negotiate again at any time; OpenSSL then refuses to write for a while."""

    async def main():
        context = server_context()
        halves = []

        class Refusing(type(context)):
            def wrap_bio(self, *args, **options):
                sslobj = super().wrap_bio(*args, **options)
                halves.append(MustReadFirst(sslobj._sslobj))
                sslobj._sslobj, inner = halves[0], sslobj._sslobj
                for name in ("do_handshake", "getpeercert", "cipher", "compression", "pending"):
                    setattr(halves[0], name, getattr(inner, name))
                halves[0].shutdown = inner.shutdown
                return sslobj

        context.__class__ = Refusing
        protocol = Recorder()
        async with wired(loop, protocol, ssl=context) as (transport, wire):
            halves[0].refuse = True
            transport.write(b"one")
            await turns(3)
            assert transport.get_write_buffer_size() == 3
            transport.write(b"two")
            transport.close()
            halves[0].refuse = False
            await wire.write(b"the peer speaks")
            assert await wire.read(6) == b"onetwo"
            await wire.unwrap()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())
