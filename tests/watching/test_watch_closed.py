"""A descriptor that its owner closes while the loop watches it, and whoever gets its number next."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from peers import Recorder, end, outcome, reports, same_as_asyncio, turns, until

KINDS = ["reader", "writer"]
WHEN = ["in the same turn", "turns later"]


def add(loop, kind, fd, *callback):
    getattr(loop, f"add_{kind}")(fd, *callback)


def remove(loop, kind, fd):
    return getattr(loop, f"remove_{kind}")(fd)


def full_pair():
    """Two connected sockets; the first can neither be read from nor written to."""
    a, b = socket.socketpair()
    a.setblocking(False)
    try:
        while True:
            a.send(b"x" * 65536)
    except BlockingIOError:
        return a, b


def ready_pair_with(number):
    """Two connected sockets, the first of which has this number, and can be read and written at once."""
    made = []
    while True:
        a, b = socket.socketpair()
        if number in (a.fileno(), b.fileno()):
            break
        made += [a, b]
    if b.fileno() == number:
        a, b = b, a
    for sock in made:
        sock.close()
    a.setblocking(False)
    b.send(b"x")
    return a, b


def ends(peer):
    """Whether the other end of a socket is closed: at once, since closing is."""
    peer.settimeout(5)
    while peer.recv(1 << 20):
        pass
    return True


# ---- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_of_a_watched_descriptor_sees_its_end(loop, kind, when):
    async def main():
        a, b = full_pair()
        number = a.fileno()
        add(loop, kind, a, print)
        await turns(0 if when == WHEN[0] else 5)
        a.close()
        await turns(5)
        assert ends(b)
        assert remove(loop, kind, number)
        b.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("serve", [True, False], ids=["served", "watched"])
def test_a_listening_socket_that_is_closed_by_hand_accepts_nobody(loop, serve):
    async def main():
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        where, number, server = listening.getsockname(), listening.fileno(), None
        if serve:
            server = await loop.create_server(Recorder, sock=listening)
        else:
            loop.add_reader(listening, print)
        await turns(5)
        listening.close()
        await turns(5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where, 5)
        if server is None:
            loop.remove_reader(number)
        else:
            await end(server)

    loop.run_until_complete(main())


async def by_connection(loop, sock, protocol):
    return (await loop.create_connection(lambda: protocol, sock=sock))[0]


async def by_unix_connection(loop, sock, protocol):
    return (await loop.create_unix_connection(lambda: protocol, sock=sock))[0]


async def by_acceptance(loop, sock, protocol):
    return (await loop.connect_accepted_socket(lambda: protocol, sock))[0]


async def by_keyword(loop, sock, protocol):
    return (await loop.connect_accepted_socket(protocol_factory=lambda: protocol, sock=sock))[0]


@pytest.mark.parametrize("backlog", [0, 4_000_000], ids=["idle", "sending"])
@pytest.mark.parametrize("way", [by_connection, by_unix_connection, by_acceptance, by_keyword])
def test_the_peer_of_a_given_socket_that_is_closed_by_hand_sees_its_end(loop, way, backlog):
    async def main():
        ours, peer = socket.socketpair()
        protocol = Recorder()
        transport = await way(loop, ours, protocol)
        if backlog:
            transport.write(bytes(backlog))
        await turns(5)
        ours.close()
        await turns(5)
        assert ends(peer)
        transport.abort()
        await until(lambda: protocol.is_lost)
        peer.close()

    loop.run_until_complete(main())


def test_the_address_of_a_given_datagram_socket_that_is_closed_by_hand_is_free(loop):
    async def main():
        given = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        given.bind(("127.0.0.1", 0))
        given.setblocking(False)
        where = given.getsockname()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=given)
        await turns(5)
        given.close()
        await turns(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as next_one:
            next_one.bind(where)
        transport.abort()
        await turns(3)

    loop.run_until_complete(main())


def test_a_given_socket_serves_as_any_other(loop):
    """Several at once, both ways, with more than the kernel takes: none of it by requests."""

    async def main():
        ends = [socket.socketpair() for _ in range(5)]
        here = [Recorder(data_received=lambda p, data: p.transport.write(data)) for _ in ends]
        there = [Recorder() for _ in ends]
        for (a, b), left, right in zip(ends, here, there, strict=True):
            await by_connection(loop, a, left)
            await by_acceptance(loop, b, right)
        for n, protocol in enumerate(there):
            protocol.transport.write(bytes([n]) * 1_000_000)
        await until(lambda: all(len(p.received) == 1_000_000 for p in there))
        assert [set(p.received) for p in there] == [{n} for n in range(len(ends))]
        for protocol in here:
            protocol.transport.close()
        await until(lambda: all(p.is_lost for p in here + there))

    loop.run_until_complete(main())


# ---- the next file of the same number ----------------------------------------------------------------


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("then", KINDS)
@pytest.mark.parametrize("before", KINDS)
def test_who_watches_the_next_file_of_the_number_is_told(loop, before, then, when):
    """libpq closes its socket and opens another. asyncio raises FileNotFoundError, or tells nobody."""

    async def main():
        calls = []
        a, b = full_pair()
        number = a.fileno()
        stale = getattr(loop, f"_add_{before}")(a, calls.append, "stale")
        await turns(0 if when == WHEN[0] else 5)
        a.close()
        await turns(1)
        new, peer = ready_pair_with(number)
        add(loop, then, new, calls.append, "new")
        await until(lambda: calls)
        assert stale.cancelled()
        assert remove(loop, then, new)
        assert not remove(loop, before, new)
        assert set(calls) == {"new"}
        for sock in (b, new, peer):
            sock.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_gets_the_number_works(loop, kind, when):
    """The client's, then the server's: each reads and answers."""

    async def main():
        found = reports(loop)
        served = []

        def factory():
            served.append(Recorder(data_received=lambda p, data: p.transport.write(data)))
            return served[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        stale = []
        for _ in range(6):
            a, b = full_pair()
            add(loop, kind, a, print, "stale")
            stale.append((a, b))
        await turns(0 if when == WHEN[0] else 5)
        numbers = {a.fileno() for a, _ in stale}
        for a, _ in stale:
            a.close()
        clients = []
        for _ in range(6):
            client = Recorder()
            transport, _ = await loop.create_connection(lambda: client, *where)  # noqa: B023
            transport.write(b"hello")
            await until(lambda: client.received == b"hello")  # noqa: B023
            clients.append(client)
        taken = {p.transport.get_extra_info("socket").fileno() for p in clients + served}
        assert numbers & taken
        for client in clients:
            client.transport.close()
        for _, b in stale:
            b.close()
        await end(server)
        assert found == []
        for number in numbers:
            assert not remove(loop, kind, number)

    loop.run_until_complete(main())


def test_a_datagram_endpoint_that_gets_the_number_works(loop):
    class Told(asyncio.DatagramProtocol):
        def __init__(self):
            self.told = []

        def datagram_received(self, data, addr):
            self.told.append(data)

    async def main():
        a, b = full_pair()
        number = a.fileno()
        loop.add_reader(a, print)
        await turns(3)
        a.close()
        endpoint = loop.create_datagram_endpoint(Told, local_addr=("127.0.0.1", 0))
        transport, protocol = await endpoint
        assert transport.get_extra_info("socket").fileno() == number
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await until(lambda: protocol.told)
        transport.close()
        await turns(3)
        b.close()

    loop.run_until_complete(main())


def test_a_server_on_the_number_of_one_that_was_closed_by_hand_accepts(loop):
    async def main():
        first = socket.create_server(("127.0.0.1", 0))
        number = first.fileno()
        old = await loop.create_server(Recorder, sock=first)
        await turns(3)
        first.close()
        made = []
        second = socket.create_server(("127.0.0.1", 0))
        assert second.fileno() == number

        def factory():
            made.append(Recorder())
            return made[-1]

        new = await loop.create_server(factory, sock=second)
        with socket.create_connection(second.getsockname()):
            await until(lambda: made)
        await until(lambda: made[0].is_lost)
        old.close()
        with socket.create_connection(second.getsockname()):
            await until(lambda: len(made) == 2)
        await end(new)

    loop.run_until_complete(main())


def test_a_transport_on_a_given_socket_gives_way_to_the_next_connection(loop):
    """Its owner closed the socket, and has not told the transport. That closes no number of another's."""

    async def main():
        ours, theirs = socket.socketpair()
        zombie = Recorder()
        await by_connection(loop, ours, zombie)
        await turns(3)
        number = ours.fileno()
        ours.close()
        served = []

        def factory():
            served.append(Recorder(data_received=lambda p, data: p.transport.write(data)))
            return served[-1]

        listening = socket.create_server(("127.0.0.1", 0))
        taken = listening.fileno() == number
        server = await loop.create_server(factory, sock=listening)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        await until(lambda: len(served) == 3)
        numbers = [p.transport.get_extra_info("socket").fileno() for p in served]
        assert taken or number in numbers + [c.fileno() for c in clients]
        zombie.transport.abort()
        await until(lambda: zombie.is_lost)
        for client in clients:
            client.setblocking(False)
            client.send(b"still there")
            assert await loop.sock_recv(client, 100) == b"still there"
            client.close()
        theirs.close()
        await end(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("reused", [False, True], ids=["nobody's", "another's"])
def test_a_file_that_a_duplicate_keeps_open_does_not_keep_the_loop_busy(loop, reused):
    """It is ready, and nobody can take it out of epoll any more. asyncio spins."""

    async def main():
        calls = []
        a, b = socket.socketpair()
        number = a.fileno()
        loop.add_reader(a, calls.append, "stale")
        quiet, other = socket.socketpair()
        heard = []
        loop.add_reader(quiet, lambda: heard.append(quiet.recv(1)))
        await turns(3)
        duplicate = a.dup()
        a.close()
        assert loop.remove_reader(number)
        b.send(b"x")
        told, new = asyncio.Event(), []
        if reused:  # by another file, which is not ready
            new = list(socket.socketpair())
            assert number in [sock.fileno() for sock in new]
            loop.add_reader(number, told.set)
        before = loop.counters()["turns"]
        await asyncio.sleep(0.05)
        assert loop.counters()["turns"] - before < 20
        assert calls == []
        other.send(b"y")  # the others are watched as before
        await until(lambda: heard)
        await asyncio.to_thread(int)  # and threads wake the loop
        if reused:
            for sock in new:
                sock.send(b"z")
            await asyncio.wait_for(told.wait(), 10)
            loop.remove_reader(number)
        loop.remove_reader(quiet)
        for sock in (b, duplicate, quiet, other, *new):
            sock.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["write", "write_eof", "flush"])
def test_a_given_socket_that_was_closed_by_hand_is_no_way_to_another_file(loop, how):
    """Data written to its transport goes nowhere, although another file may have the number now."""

    async def script(loop):
        ours, theirs = socket.socketpair()
        protocol = Recorder()
        transport = await by_connection(loop, ours, protocol)
        await turns(3)
        number = ours.fileno()
        if how == "flush":
            transport.write(bytes(4_000_000))  # the kernel takes some of it
            await turns(3)
        ours.close()
        other, peer = ready_pair_with(number)
        peer.setblocking(False)
        if how == "write_eof":
            found = outcome(transport.write_eof)
        else:
            found = outcome(transport.write, b"secret")
            await turns(5)
        with pytest.raises(BlockingIOError):
            peer.recv(10)
        transport.abort()
        await until(lambda: protocol.is_lost)
        for sock in (theirs, other, peer):
            sock.close()
        return found, isinstance(protocol.lost_with, OSError)

    if how == "flush":  # asyncio's abort() raises a FileNotFoundError then
        loop.run_until_complete(script(loop))
    else:
        same_as_asyncio(loop, script)


# ---- what cannot be watched ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_watch_that_fails_leaves_nothing_of_the_number(loop, kind):
    async def main():
        other = KINDS[1 - KINDS.index(kind)]
        a, b = full_pair()
        number = a.fileno()
        add(loop, other, number, print)
        await turns(3)
        a.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            add(loop, kind, number, print)
        assert not remove(loop, kind, number)
        assert not remove(loop, other, number)
        calls = []
        new, peer = ready_pair_with(number)
        add(loop, kind, number, calls.append, 1)
        await until(lambda: calls)
        assert remove(loop, kind, number)
        for sock in (b, new, peer):
            sock.close()

    loop.run_until_complete(main())


FILES = [
    "/proc/self/mounts",
    "/proc/self/stat",
    "/proc/swaps",
    "/proc/pressure/cpu",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/dev/null",
    "/dev/urandom",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", FILES)
def test_the_files_that_can_be_watched_are_those_of_asyncio(loop, path, kind):
    if not Path(path).exists():
        pytest.skip(f"there is no {path} here")

    async def script(loop):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            calls = []
            found = outcome(add, loop, kind, fd, calls.append, 1)
            await turns(5)
            return found, bool(calls), outcome(remove, loop, kind, fd)
        finally:
            os.close(fd)

    same_as_asyncio(loop, script)


def test_remove_reader_of_a_listening_socket_ends_its_accepting(loop):
    async def script(loop):
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        await turns(2)
        listening = server.sockets[0].fileno()
        found = [loop.remove_reader(listening), loop.remove_reader(listening)]
        with socket.create_connection(server.sockets[0].getsockname()):
            await turns(20)
        found.append(len(made))
        server.close()
        await server.wait_closed()
        return found

    assert same_as_asyncio(loop, script) == [True, False, 0]
