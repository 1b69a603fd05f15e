"""Programs and their tests put attributes and methods of their own on transports and streams."""

import asyncio
import gc
import socket
import weakref
from unittest import mock

import pytest
from peers import Recorder, connect, pair, same_as_asyncio, tcp_pair, turns, until
from tls_peers import tls_pair

import hoop


async def make(kind, loop):
    """A transport of a kind, and what is to be closed after the test."""
    if kind == "stream":
        transport, theirs = await pair(loop, Recorder())
        return transport, [theirs]
    if kind == "tls":
        transport, other = await tls_pair(loop, Recorder(), Recorder())
        return transport, [other]
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    return transport, []


KINDS = ["stream", "tls", "datagram"]


@pytest.fixture(params=KINDS)
def on_transport(request, loop):
    """Runs a test on a transport of each kind."""

    def run(test):
        async def main():
            transport, others = await make(request.param, loop)
            try:
                result = test(transport)
                return await result if asyncio.iscoroutine(result) else result
            finally:
                transport.abort()
                for other in others:
                    getattr(other, "abort", other.close)()
                await until(lambda: not loop.counters()["transports"])

        return loop.run_until_complete(main())

    return run


def test_a_transport_has_no_dict_until_one_is_needed(on_transport):
    def test(transport):
        dicts = [each for each in gc.get_referents(transport) if type(each) is dict]
        assert {} not in dicts
        transport.peer_name = "me"
        assert vars(transport) == {"peer_name": "me"}
        added = [each for each in gc.get_referents(transport) if type(each) is dict]
        assert added.count({"peer_name": "me"}) == 1
        assert len(added) == len(dicts) + 1
        del transport.peer_name
        with pytest.raises(AttributeError):
            transport.peer_name  # noqa: B018

    on_transport(test)


@pytest.mark.parametrize("name", ["close", "abort", "get_extra_info", "is_closing", "set_protocol"])
def test_a_method_of_the_instance_goes_before_the_class_s(on_transport, name):
    def test(transport):
        original = getattr(transport, name)
        with mock.patch.object(transport, name, return_value="mine") as patched:
            assert getattr(transport, name)("here") == "mine"
            patched.assert_called_once_with("here")
        assert getattr(transport, name) == original
        assert name not in vars(transport)

    on_transport(test)


def test_a_cycle_through_an_attribute_is_collected(on_transport):
    class Mark:
        pass

    def test(transport):
        transport.me, transport.mark = transport, Mark()
        return weakref.ref(transport), weakref.ref(transport.mark)

    transport, mark = on_transport(test)
    gc.collect()
    assert transport() is None
    assert mark() is None


@pytest.mark.parametrize(
    "name", ["_closing", "_conn_lost", "_paused", "_loop", "_sock", "_extra", "_protocol"]
)
def test_names_of_asyncio_s_transports(loop, name):
    async def main():
        (ours, theirs), protocol = socket.socketpair(), Recorder()
        datagram, _ = await make("datagram", loop)
        with theirs:
            stream = await connect(loop, ours, protocol)
            for transport in (stream, datagram):
                getattr(transport, name)
                transport.abort()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_closing_and_lost_connections_say_so(on_transport):
    async def test(transport):
        assert transport._closing is False
        assert transport._conn_lost == 0
        transport.pause_reading() if hasattr(transport, "pause_reading") else None
        transport.abort()
        assert transport._closing is True
        await turns(3)
        assert transport._conn_lost > 0

    on_transport(test)


def test_asyncio_s_writer_calls_the_transport_s_own_write(loop):
    check_writer(loop, asyncio)


def test_our_writer_calls_the_transport_s_own_write(loop):
    check_writer(loop, hoop)


def check_writer(loop, streams):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await streams.open_connection(sock=ours)
            with mock.patch.object(writer.transport, "write") as write:
                writer.write(b"not sent")
                write.assert_called_once_with(b"not sent")
            writer.write(b"sent")
            await turns(2)
            assert theirs.recv(100) == b"sent"
            writer.transport.tag = 1  # no method: nothing changes
            writer.write(b"too")
            await turns(2)
            assert theirs.recv(100) == b"too"
            writer.close()
            await writer.wait_closed()

    loop.run_until_complete(main())


def test_tls_writes_by_the_lower_transport_s_own_write(loop):
    async def main():
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server)
        lower = transport._ssl_protocol._transport
        sealed = []
        original = lower.write
        lower.write = lambda data: (sealed.append(len(data)), original(data))
        transport.write(b"x" * 50_000)
        await until(lambda: len(server.received) == 50_000)
        assert sum(sealed) > 50_000
        del lower.write
        before = len(sealed)
        transport.write(b"y")
        await until(lambda: len(server.received) == 50_001)
        assert len(sealed) == before
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)

    loop.run_until_complete(main())


def test_our_stream_protocol_s_own_methods_are_called(loop):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await hoop.open_connection(sock=ours)
            protocol = writer.transport.get_protocol()
            original, seen = protocol.data_received, []
            protocol.data_received = lambda data: (seen.append(data), original(data + b"!"))
            protocol._drain_helper = helper = mock.AsyncMock()
            writer.transport.set_protocol(protocol)
            theirs.send(b"hello")
            assert await reader.read(100) == b"hello!"
            assert seen == [b"hello"]
            await writer.drain()
            helper.assert_awaited_once()
            writer.close()
            del protocol._drain_helper
            await writer.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.parametrize("streams", [asyncio, hoop])
def test_a_drain_whose_writer_changes_its_protocol_ends(loop, streams):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await streams.open_connection(sock=ours)
            protocol = writer.transport.get_protocol()
            protocol.pause_writing()
            task = asyncio.create_task(writer.drain())
            closing = asyncio.create_task(writer.wait_closed())
            await turns(2)
            writer._protocol = mock.MagicMock()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not protocol._drain_waiters
            protocol.resume_writing()
            writer._protocol = protocol
            writer.close()
            await closing

    loop.run_until_complete(main())


def test_a_tls_transport_is_known_by_its_type_s_name(loop):
    async def main():
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server)
        assert "SSL" in type(transport).__name__
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)

    loop.run_until_complete(main())


async def connected(loop):
    """A transport of a TCP connection, and the socket at its other end."""
    ours, theirs = tcp_pair()
    return await connect(loop, ours, Recorder()), theirs


@pytest.mark.parametrize("owner", [asyncio.BaseTransport, asyncio.Transport])
def test_who_replaces_get_extra_info_of_asyncio_is_asked(loop, owner):
    """As of asyncio's transports, which inherit it: with the arguments that they were asked with."""

    async def script(loop):
        transport, peer = await connected(loop)
        found = []
        with mock.patch.object(owner, "get_extra_info") as replaced:
            replaced.return_value = ("127.0.0.1", 1234)
            found.append(transport.get_extra_info("sockname"))
            found.append(transport.get_extra_info("other", 3))
            found.append(replaced.mock_calls)
        with mock.patch.object(owner, "get_extra_info", autospec=True) as replaced:
            transport.get_extra_info("peername")
            found.append(replaced.call_args.args[0] is transport)
        inherited = asyncio.BaseTransport.get_extra_info

        def asks_on(transport, name, default=None):
            return "asked", inherited(transport, name, default)

        names = ("sockname", "peername", "socket", "other")
        before = [transport.get_extra_info(name) for name in names]
        with mock.patch.object(owner, "get_extra_info", asks_on):
            asked = [transport.get_extra_info(name) for name in names]
        found.append([(word, was is not None) for word, was in asked])
        assert [was for _, was in asked] == before == [transport.get_extra_info(n) for n in names]
        transport.abort()
        peer.close()
        return found

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("name", ["sockname", "peername"])
def test_the_addresses_are_in_the_attribute_in_which_asyncio_keeps_them(loop, name):
    async def script(loop):
        transport, peer = await connected(loop)
        assert transport._extra[name] == transport.get_extra_info(name) is not None
        transport.abort()
        peer.close()

    loop.run_until_complete(script(loop))
