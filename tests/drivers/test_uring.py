"""UringDriver: what a completion driver can get wrong, with all it can do and with each part of it off."""

import asyncio
import hashlib
import os
import random
import socket
import threading

import pytest
from peers import Recorder, connect, end, fill, pair, tcp_pair, turns, until

import hoop
from hoop.drivers.capabilities import BITS, list_capabilities, why_not
from hoop.drivers.uring import UringDriver

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

WITHOUT = ["", *BITS, "calls", "receive send", "receive send calls no_iowait"]


@pytest.fixture(params=WITHOUT, ids=lambda bits: bits.replace(" ", "+") or "all")
def partial_loop(request, monkeypatch):
    """A loop whose driver does without some of what the kernel can do."""
    monkeypatch.setenv("HOOP_URING_WITHOUT", request.param)
    loop = hoop.new_event_loop("uring")
    yield loop
    loop.close()


@pytest.fixture
def loop():
    loop = hoop.new_event_loop("uring")
    yield loop
    loop.close()


def test_capabilities_can_be_forced_off():
    for bit in BITS:
        assert UringDriver(without=[bit]).capabilities()[bit] is False
    assert UringDriver().capabilities() == list_capabilities()
    with pytest.raises(ValueError, match="no capability 'speed'"):
        UringDriver(without=["speed"])


# ---- every byte, both ways ---------------------------------------------------------------------------


class Paused(asyncio.Protocol):
    """Takes what comes, stops reading at random, and must get nothing while it has stopped."""

    def __init__(self, loop, seed):
        self.loop, self.random = loop, random.Random(seed)
        self.hash, self.got, self.ended, self.paused = hashlib.sha256(), 0, False, False
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert not self.paused
        self.hash.update(data)
        self.got += len(data)
        if self.random.random() < 0.3:
            self.paused = True
            self.transport.pause_reading()
            self.loop.call_later(self.random.choice([0, 0, 0.0005]), self.resume)

    def resume(self):
        self.paused = False
        self.transport.resume_reading()

    def eof_received(self):
        self.ended = True
        return True

    def connection_lost(self, exc):
        self.lost = True


class BufferedPaused(Paused, asyncio.BufferedProtocol):
    """The same, into a small buffer of its own."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.buffer = bytearray(3000)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, n):
        super().data_received(bytes(self.buffer[:n]))


async def send_all(transport, seed, total):
    """Write random pieces; the hash of them all."""
    choose, sent = random.Random(seed), hashlib.sha256()
    while total:
        n = min(total, choose.choice([1, 100, 1024, 5000, 70_000, 300_000]))
        data = choose.randbytes(n)
        sent.update(data)
        transport.write(data)
        total -= n
        if choose.random() < 0.5:
            await asyncio.sleep(0)
        while transport.get_write_buffer_size() > 300_000:
            await asyncio.sleep(0)
    transport.write_eof()
    return sent.hexdigest()


@pytest.mark.parametrize("protocol", [Paused, BufferedPaused])
def test_every_byte_arrives_in_order_both_ways(partial_loop, protocol):
    loop = partial_loop

    async def main():
        sides, sends = [], []
        for n in range(12):
            a, b = tcp_pair() if n % 2 else socket.socketpair()
            for sock in (a, b):
                sock.setblocking(False)
                sides.append(protocol(loop, len(sides)))
                await connect(loop, sock, sides[-1])
        for n, side in enumerate(sides):
            sends.append(asyncio.ensure_future(send_all(side.transport, n, 400_000)))
        hashes = await asyncio.gather(*sends)
        await until(lambda: all(side.ended for side in sides))
        for n, side in enumerate(sides):
            assert side.got == 400_000
            assert side.hash.hexdigest() == hashes[n ^ 1]
            side.transport.close()
        await until(lambda: all(side.lost for side in sides))

    loop.run_until_complete(main())


def test_connections_are_accepted_served_and_ended(partial_loop):
    loop = partial_loop

    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder(data_received=lambda p, data: p.transport.write(data)))
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = []
        for _ in range(40):
            client = socket.create_connection(server.sockets[0].getsockname())
            client.setblocking(False)
            clients.append(client)
        for n, client in enumerate(clients):
            client.send(b"%d" % n)
        for n, client in enumerate(clients):
            assert await loop.sock_recv(client, 10) == b"%d" % n
            client.close()
        await until(lambda: len(protocols) == 40 and all(p.is_lost for p in protocols))
        await end(server)

    loop.run_until_complete(main())


def test_many_streams_that_fill_all_buffers_at_once_lose_nothing(partial_loop):
    loop = partial_loop

    async def main():
        made = [await pair(loop, Recorder()) for _ in range(64)]
        protocols = [transport.get_protocol() for transport, _ in made]
        for n, (_, peer) in enumerate(made):
            peer.send(bytes([n]) * 60_000)
        await until(lambda: all(len(p.received) == 60_000 for p in protocols))
        for n, (transport, peer) in enumerate(made):
            assert set(protocols[n].received) == {n}
            transport.abort()
            peer.close()
        await until(lambda: all(p.is_lost for p in protocols))

    loop.run_until_complete(main())


# ---- what is under way when the mind is changed ------------------------------------------------------


def test_what_was_received_before_reading_was_paused_comes_after_it_is_resumed(loop):
    """Two pieces in one look at the kernel; the first makes the protocol pause."""

    async def main():
        first = Recorder(data_received=lambda p, d: p.transport.pause_reading())
        second = Recorder(data_received=lambda p, d: first.transport.pause_reading())
        transport, peer = await pair(loop, first)
        other, other_peer = await pair(loop, second)
        await turns(2)
        for n in range(
            5
        ):  # each in a batch of its own, of which the driver hands over one at least
            peer.send(b"%d" % n)
            await turns(1)
        await turns(5)
        got = bytes(first.received)
        while len(got) < 5:
            await turns(5)
            assert bytes(first.received) == got, "it was paused"
            transport.resume_reading()
            await until(lambda: len(first.received) > len(got))  # noqa: B023
            got = bytes(first.received)
        assert got == b"01234"
        for t, p in ((transport, peer), (other, other_peer)):
            t.abort()
            p.close()
        await until(lambda: first.is_lost and second.is_lost)

    loop.run_until_complete(main())


def test_an_end_that_came_while_reading_was_paused_is_told_after_the_data(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        await turns(2)
        transport.pause_reading()
        peer.send(b"last words")
        peer.close()
        await turns(10)
        assert protocol.events == ["connection_made"]
        transport.resume_reading()
        await until(lambda: protocol.is_lost)
        assert protocol.received == b"last words"
        assert protocol.events[1:] == ["data_received", "eof_received", "connection_lost"]

    loop.run_until_complete(main())


def test_pausing_and_resuming_in_one_turn_again_and_again(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        for n in range(200):
            transport.pause_reading()
            peer.send(b"%03d" % n)
            if n % 3:
                await turns(n % 3)
            transport.resume_reading()
        await until(lambda: len(protocol.received) == 600)
        assert bytes(protocol.received) == b"".join(b"%03d" % n for n in range(200))
        transport.abort()
        peer.close()
        await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_streams_that_end_while_the_kernel_is_at_work_on_them_end(loop):
    """It works off about twenty requests at a time; those that wait for that it does not find to cancel."""

    async def main():
        made = [await pair(loop, Recorder()) for _ in range(100)]
        protocols = [transport.get_protocol() for transport, _ in made]
        for rounds in range(4):
            for transport, peer in made:
                transport.pause_reading()
                peer.send(b"x" * 3000)
            await turns(3)
            for transport, _ in made:
                transport.resume_reading()
            await turns(rounds)
            for transport, _ in made:
                transport.pause_reading()
            await turns(rounds)
            for transport, _ in made:
                transport.resume_reading()
        await turns(1)
        for transport, _ in made:
            transport.abort()
        await until(lambda: all(p.is_lost for p in protocols))
        await until(lambda: not loop.counters()["transports"], 3)
        for _, peer in made:
            try:
                assert await loop.sock_recv(peer, 10) == b""
            except ConnectionResetError:
                pass
            peer.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_transport_that_ends_lets_its_peer_know_and_its_number_go(loop, how):
    async def main():
        for _ in range(50):
            protocol = Recorder()
            transport, peer = await pair(loop, protocol)
            await turns(2)  # the receive is under way
            number = transport.get_extra_info("socket").fileno()
            getattr(transport, how)()
            await until(lambda: protocol.is_lost)  # noqa: B023
            assert await loop.sock_recv(peer, 10) == b""
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(number)
            peer.close()

    loop.run_until_complete(main())


def test_an_aborted_send_that_is_under_way_frees_everything(loop):
    async def main():
        for _ in range(20):
            protocol = Recorder()
            transport, peer = await pair(loop, protocol)
            transport.write(b"x" * 4_000_000)
            await turns(3)
            assert transport.get_write_buffer_size() > 0
            transport.abort()
            await until(lambda: protocol.is_lost)  # noqa: B023
            peer.close()

    loop.run_until_complete(main())


def test_a_server_gives_its_address_back_at_once(loop):
    """A request under way would keep it: the next server could not have it in the same turn."""

    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(20):
            await turns(2)
            server.close()
            again = socket.socket()
            again.bind(address)
            again.listen()
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(server.sockets[0].fileno() if server.sockets else -1)
            again.setblocking(False)
            server = await loop.create_server(Recorder, sock=again)
        await end(server)

    loop.run_until_complete(main())


def test_connections_that_were_accepted_for_a_server_that_has_closed_are_closed(loop):
    async def main():
        made = []

        def factory():
            made.append(Recorder(connection_made=lambda p: server.close()))
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(10)]
        await until(lambda: made and made[0].transport)
        made[0].transport.close()
        for client in clients:
            client.setblocking(False)
            try:
                assert await loop.sock_recv(client, 10) == b""
            except ConnectionResetError:
                pass
            client.close()
        assert len(made) == 1
        await end(server)

    loop.run_until_complete(main())


def test_a_removed_reader_does_not_keep_its_socket_open(loop):
    async def main():
        a, b = socket.socketpair()
        loop.add_reader(a, print)
        await turns(3)
        loop.remove_reader(a)
        a.close()
        assert b.recv(1) == b""  # at once: b blocks
        b.close()

    loop.run_until_complete(main())


def test_readers_removed_outside_a_run_do_not_keep_their_sockets_open(loop):
    a, b = socket.socketpair()
    loop.add_reader(a, print)
    loop.run_until_complete(turns(3))
    loop.remove_reader(a)
    a.close()
    assert b.recv(1) == b""
    b.close()


@pytest.mark.parametrize("traffic", ["alone", "with_tasks"])
def test_sockets_that_are_not_ours_and_always_ready_hold_nothing_up(loop, traffic):
    """The driver looks at those first, and enters the ring for the others all the same."""

    async def main():
        hits = 0

        def answer(protocol, data):
            nonlocal hits
            hits += 1
            protocol.transport.write(data)

        async def lent(sock):
            transport, _ = await loop.create_connection(
                lambda: Recorder(data_received=answer), sock=sock
            )
            return transport

        left, right = [await lent(sock) for sock in socket.socketpair()]
        left.write(b"ball")
        await until(lambda: hits > 100)
        if traffic == "with_tasks":
            busy = asyncio.create_task(until(lambda: hits < 0))
        # Our own connection in both directions, a timer, another thread and a file.
        own = Recorder()
        transport, plain = await pair(loop, own)
        for n in range(20):
            plain.send(b"x" * 10)
            await own_received(own, 10 * (n + 1))
            transport.write(b"answer")
            assert await loop.sock_recv(plain, 100) == b"answer"
        await asyncio.sleep(0.001)
        called = loop.create_future()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set_result, "ran"))
        thread.start()
        assert await called == "ran"
        thread.join()
        assert await hoop.read_bytes("/dev/null") == b""
        before = hits
        await until(lambda: hits > before + 100)  # and the ball still flies
        if traffic == "with_tasks":
            busy.cancel()
        for one in (left, right, transport):
            one.abort()
        plain.close()
        await turns(3)

    async def own_received(recorder, size):
        while len(recorder.received) < size:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 15))


# ---- threads -----------------------------------------------------------------------------------------


def in_thread(function, *args):
    """Run a function in a thread of its own; its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def test_a_loop_moves_from_thread_to_thread_with_all_that_is_under_way(loop):
    protocol, flooded = Recorder(), Recorder()

    async def begin():
        calls = []
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        transport, peer = await pair(loop, protocol)
        sender, sink = await pair(loop, flooded)
        a, b = socket.socketpair()
        loop.add_reader(a, calls.append, 1)
        sent = fill(sender)
        await turns(3)
        return server, transport, peer, sender, sink, sent, (a, b, calls)

    async def go_on():
        peer.send(b"x")
        before = len(protocol.received)
        await until(lambda: len(protocol.received) == before + 1)
        b.send(b"x")
        await until(lambda: calls)
        a.recv(1)
        calls.clear()
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            await until(lambda: loop.counters()["transports"] == 3)
        await until(lambda: loop.counters()["transports"] == 2)
        sink_got.append(len(await loop.sock_recv(sink, 50_000)))

    async def finish():
        sender.write_eof()
        while data := await loop.sock_recv(sink, 65536):
            sink_got.append(len(data))
        assert sum(sink_got) == sent
        loop.remove_reader(a)
        transport.abort()
        sender.abort()
        await until(lambda: protocol.is_lost and flooded.is_lost)
        await end(server)

    sink_got = []
    server, transport, peer, sender, sink, sent, (a, b, calls) = loop.run_until_complete(begin())
    for _ in range(3):
        in_thread(loop.run_until_complete, go_on())
        loop.run_until_complete(go_on())
    loop.run_until_complete(finish())
    for sock in (peer, sink, a, b):
        sock.close()


def test_a_loop_that_ran_elsewhere_can_be_closed_here(loop):
    async def begin():
        transport, peer = await pair(loop, Recorder())
        transport.write(b"x" * 4_000_000)
        await turns(3)
        transport.abort()
        await turns(3)
        return peer

    peer = in_thread(loop.run_until_complete, begin())
    loop.close()
    peer.close()


def test_a_thousand_loops():
    for n in range(1000):
        loop = hoop.new_event_loop("uring")
        if n % 10 == 0:
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
