"""When what is written is with the kernel: read by a blocking peer while the loop is held up.

The rule is in outbox.py: at once, unless another write is to be expected right behind.
"""

import asyncio
import socket

import pytest
from leaves import SHOWS, hold_up, there
from peers import Recorder, end, pair, turns, until
from tls_peers import Wire, client_context, server_context, tls_objects, wired

import hoop


async def seqpacket(loop):
    """A transport whose peer sees one packet for each send."""
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    protocol = Recorder()
    transport = loop._make_socket_transport(ours, protocol)
    await until(lambda: protocol.transport)
    await turns(1)
    return transport, peer, protocol


async def finish(transport, peer, protocol):
    transport.abort()
    await until(lambda: protocol.is_lost)
    peer.close()


async def learn_to_join(transport, peer):
    """Write twice a turn until that is expected. A busy machine may make it look as if we were slow."""
    for _ in range(1000):
        transport.write(b"1")
        joins = not there(peer)
        transport.write(b"2")
        while there(peer):
            pass
        await turns(1)
        if joins:
            return
    raise AssertionError("it was never expected")


# ---- at once ----


def test_the_writes_of_a_new_connection_leave_at_once(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        for n in range(3):
            transport.write(b"%d" % n)
            assert there(peer) == b"%d" % n
            assert transport.get_write_buffer_size() == 0
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_who_writes_once_a_turn_is_never_kept_waiting(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        for n in range(100):
            transport.write(b"%d" % n)
            assert there(peer) == b"%d" % n
            await turns(1)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("library", [asyncio, hoop], ids=["asyncio", "hoop"])
def test_what_was_drained_has_left(loop, library):
    async def main():
        ours, peer = socket.socketpair()
        _, writer = await library.open_connection(sock=ours)
        for n in range(10):  # however often in a turn it is written
            for data in (b"a%d" % n, b"b%d" % n):
                writer.write(data)
                await writer.drain()
                assert there(peer) == data
            writer.write(b"c")
            writer.write(b"d")
            await writer.drain()
            assert there(peer) == b"cd"
            await turns(1)
            writer.write(b"only one")
            await writer.drain()
            assert there(peer) == b"only one"
            await turns(n % 2)
        writer.close()
        await writer.wait_closed()
        peer.close()

    loop.run_until_complete(main())


def test_what_was_written_over_tls_has_left(loop):
    async def main():
        protocol = Recorder()
        async with wired(loop, protocol) as (transport, wire):
            await wire.write(b"ready")  # so that session tickets were sent
            await until(lambda: protocol.received)
            wire.incoming.write(wire.sock.recv(65536))
            for n in range(5):
                transport.write(b"%d" % n)
                wire.incoming.write(wire.sock.recv(65536))
                assert wire.tls.read(100) == b"%d" % n
                await turns(1)
            joins = False
            while not joins:
                transport.write(b"head ")
                sealed = there(wire.sock)
                joins = not sealed
                if not joins:
                    transport.write(b"body")
                    wire.incoming.write(sealed + there(wire.sock))
                    assert wire.tls.read(100) + wire.tls.read(100) == b"head body"
                    await turns(1)
            transport.write(b"body")
            wire.incoming.write(there(wire.sock))
            assert wire.tls.read(100) == b"head body"  # one record
            transport.write(b"more")
            wire.incoming.write(there(wire.sock))
            assert wire.tls.read(100) == b"more"
            await turns(1)
            transport.write(b"head")
            assert transport.get_write_buffer_size() == 0
            wire.incoming.write(there(wire.sock))
            assert wire.tls.read(100) == b"head"
            await turns(1)
            for _ in range(3):  # again, so that it is expected once more
                transport.write(b"head")
                transport.write(b"body")
                wire.incoming.write(there(wire.sock))
                while wire.incoming.pending:
                    wire.tls.read(100)
                await turns(1)
            transport.write(b"last")
            transport._ssl_protocol._transport.abort()  # the one below, which some programs know
            wire.incoming.write(there(wire.sock))
            assert wire.tls.read(100) == b"last"
            transport.abort()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())
    assert not tls_objects()


@pytest.mark.parametrize("library", [asyncio, hoop], ids=["asyncio", "hoop"])
def test_what_was_drained_over_tls_has_left(loop, library):
    async def main():
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        wire = Wire(loop, peer, server_context())
        opening = library.open_connection(
            sock=ours, ssl=client_context(), server_hostname="localhost"
        )
        (_, writer), _ = await asyncio.gather(opening, wire.handshake())
        await writer.drain()
        for _ in range(10):
            for texts in ((b"one ", b"two "), (b"last",), (b"very last",)):
                for text in texts:
                    writer.write(text)
                await writer.drain()
                wire.incoming.write(there(peer))
                found = b""
                while len(found) < len(b"".join(texts)):
                    found += wire.tls.read(100)
                assert found == b"".join(texts)
            await turns(1)
        writer.close()
        await wire.unwrap()
        await writer.wait_closed()
        wire.close()

    loop.run_until_complete(main())


# ---- head and body ----


def test_who_writes_twice_a_turn_has_both_leave_together(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        for _ in range(3):
            transport.write(b"head")
            assert there(peer) == b""
            transport.write(b"body")
            assert there(peer) == b"headbody"
            await turns(1)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_a_streamed_answer_leaves_chunk_by_chunk(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        for _ in range(3):
            transport.write(b"head ")
            transport.write(b"first")
            assert there(peer) == b"head first"
            for n in range(5):
                transport.write(b"%d" % n)
                assert there(peer) == b"%d" % n
            await turns(1)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_what_waits_in_vain_leaves_with_the_turn_and_the_next_at_once(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        transport.write(b"head")
        assert there(peer) == b""
        await turns(1)
        assert there(peer) == b"head"
        transport.write(b"another")
        assert there(peer) == b"another"
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_writes_far_apart_are_not_joined(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        for _ in range(4):
            transport.write(b"first")
            assert there(peer) == b"first"
            hold_up()
            transport.write(b"second")
            assert there(peer) == b"second"
            await turns(1)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_who_let_something_wait_for_long_is_not_trusted_for_long(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        transport.write(b"head")
        hold_up()
        await turns(1)
        assert there(peer) == b"head"
        for _ in range(20):
            for data in (b"head", b"body"):
                transport.write(data)
                assert there(peer) == data
            await turns(1)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_a_socket_that_was_only_looked_at_keeps_nothing_from_waiting(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        sock = transport.get_extra_info("socket")
        for _ in range(10):
            for data in (b"head", b"body"):
                transport.write(data)
                assert there(peer) == data
            await turns(1)
        del sock
        await learn_to_join(transport, peer)
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


@pytest.mark.parametrize("way", SHOWS)
def test_whatever_would_show_that_something_waits_has_it_sent(loop, way):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        transport.write(b"head")
        assert there(peer) == b""
        assert SHOWS[way](transport)
        assert there(peer) == b"head"
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_nothing_waits_while_the_loop_does_not_run(loop):
    async def begin():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        transport.write(b"at the end")
        return transport, peer, protocol

    transport, peer, protocol = loop.run_until_complete(begin())
    assert there(peer) == b"at the end"
    transport.write(b"later")
    assert there(peer) == b"later"
    loop.run_until_complete(finish(transport, peer, protocol))


def test_what_an_exception_cuts_short_has_left(loop, logged):
    def fail(protocol, data):
        protocol.transport.write(b"the last words")
        raise ValueError

    async def main():
        protocol = Recorder(data_received=fail)
        transport, peer = await pair(loop, protocol)
        await learn_to_join(transport, peer)
        peer.send(b"x")
        await until(lambda: protocol.is_lost)
        assert there(peer) == b"the last words"
        peer.close()

    loop.run_until_complete(main())
    assert len(logged.records) == 1


def test_a_large_write_waits_for_nothing(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        await learn_to_join(transport, peer)
        transport.write(bytes(20_000))
        assert len(there(peer)) == 20_000
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_a_new_connection_of_a_server_does_as_the_last_one_did(loop):
    async def main():
        made = []

        def make():
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        found = []
        while len(found) < 1000 and b"" not in found[:-1]:
            with socket.create_connection(server.sockets[0].getsockname()) as peer:
                await until(lambda: made and made[-1].transport)
                protocol = made.pop()
                protocol.transport.write(b"head")
                found.append(there(peer))
                protocol.transport.write(b"body")
                await turns(2)
                protocol.transport.close()
                while not protocol.is_lost:
                    await turns(1)
        assert found[0] == b"head"
        assert found[-2:] == [b"", b""]
        await end(server)

    loop.run_until_complete(main())


def test_a_failed_write_is_told_later(loop):
    async def main():
        lost = []
        protocol = Recorder(connection_lost=lambda p, exc: lost.append(type(exc)))
        transport, peer = await pair(loop, protocol)
        peer.close()
        transport.write(b"x")
        transport.write(b"y")
        assert lost == []
        assert transport.is_closing()
        await until(lambda: protocol.is_lost)
        assert lost == [BrokenPipeError]

    loop.run_until_complete(main())


def test_many_small_writes_of_one_callback_leave_together_once_it_is_trusted(loop):
    def answer(protocol, data):
        for n in range(20):
            protocol.transport.write(b"%d" % n)

    async def main():
        transport, peer, protocol = await seqpacket(loop)
        protocol.hooks["data_received"] = answer
        counts = []
        while not counts or (counts[-1] > 1 and len(counts) < 1000):
            peer.send(b"?")
            await until(lambda: protocol.received)
            protocol.received.clear()
            counts.append(0)
            while there(peer):
                counts[-1] += 1
        assert counts[0] == 20
        assert counts[-1] == 1
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())


def test_who_keeps_the_socket_may_shut_it_down_after_a_write(loop):
    async def main():
        transport, peer, protocol = await seqpacket(loop)
        await learn_to_join(transport, peer)
        ours = transport.get_extra_info("socket")
        transport.write(b"1")
        ours.shutdown(socket.SHUT_WR)
        assert there(peer) == b"1"
        assert there(peer) == b""
        await finish(transport, peer, protocol)

    loop.run_until_complete(main())
