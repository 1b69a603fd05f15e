"""Datagram transports and the loop's turns: one delivery each, answers that leave, kernels that cry wolf."""

import asyncio
import socket
import sys
import time

import pytest
from peers import same_as_asyncio, turns, until
from test_datagram import Datagrams, closed, endpoint, plain

CLOCK_MONOTONIC_COARSE = 6


def waiting(sock: socket.socket) -> list[bytes]:
    """The datagrams that a socket has received so far."""
    found = []
    while True:
        try:
            found.append(sock.recv(70000))
        except BlockingIOError:
            return found


def a_tick() -> None:
    """Hold the loop up until the kernel's coarse clock moves."""
    before = time.clock_gettime(CLOCK_MONOTONIC_COARSE)
    while time.clock_gettime(CLOCK_MONOTONIC_COARSE) == before:
        pass


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_each_datagram_has_a_turn_of_its_own(loop, family):
    """Behind what the one before it has queued: who keeps the last address answers the right peer."""

    async def main():
        log = []

        def received(protocol, data, addr):
            log.append(data)
            loop.call_soon(log.append, data + b" soon")
            tasks.append(loop.create_task(step(data)))

        async def step(data):
            log.append(data + b" step")

        tasks = []
        transport, protocol, address = await endpoint(loop, family, datagram_received=received)
        sender = plain(family)
        for burst in range(5):  # by now many are asked for at once
            for n in range(10):
                sender.sendto(b"%d" % (10 * burst + n), address)
            await until(lambda: len(protocol.received) == 10 * (burst + 1))  # noqa: B023
            await asyncio.gather(*tasks)
        assert log == [b"%d" % n + what for n in range(50) for what in (b"", b" soon", b" step")]
        sender.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_other_endpoints_have_turns_between(loop):
    async def main():
        order = []
        ends = [
            await endpoint(
                loop, datagram_received=lambda p, data, addr, name=name: order.append(name)
            )
            for name in "ab"
        ]
        sender = plain()
        for _ in range(6):  # so many that both ask for batches
            order.clear()
            for _ in range(20):
                for _, _, address in ends:
                    sender.sendto(b"x", address)
            await until(lambda: len(order) == 40)
        assert order[:30] in (list("ab" * 15), list("ba" * 15))
        sender.close()
        await closed(*[transport for transport, _, _ in ends])

    loop.run_until_complete(main())


def test_answers_have_left_before_anything_else_runs(loop):
    """The datagrams that are held for the rest of the batch."""

    async def main():
        seen = []

        def received(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if int(data) % 7 == 3:
                loop.call_soon(lambda: seen.extend(waiting(client)))

        server, protocol, address = await endpoint(loop, datagram_received=received)
        client = plain()
        wanted = []
        for burst in range(4):
            for n in range(30):
                client.sendto(b"%d" % (30 * burst + n), address)
            await until(lambda: len(protocol.received) == 30 * (burst + 1))  # noqa: B023
            await turns(1)
            wanted += [b"%d" % (30 * burst + n) for n in range(30)]
            assert seen + waiting(client) == wanted
            seen[:] = wanted
        client.close()
        await closed(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("way", ["stop", "raise", "exit", "pause", "close"])
def test_answers_have_left_when_the_loop_or_the_batch_does_not_go_on(loop, logged, way):
    def received(protocol, data, addr):
        transport = protocol.transport
        transport.sendto(data, addr)
        if data != b"7" or len(protocol.received) < 80:
            return
        if way == "stop":
            loop.stop()
        elif way == "raise":
            loop.stop()
            raise ZeroDivisionError
        elif way == "exit":
            raise SystemExit
        else:
            loop.call_soon(loop.stop)
            transport.pause_reading() if way == "pause" else transport.close()

    server, protocol, address = loop.run_until_complete(endpoint(loop, datagram_received=received))
    client = plain()

    async def burst(count):
        for n in range(count):
            client.sendto(b"%d" % n, address)
        await until(lambda: len(protocol.received) == count)
        await turns(1)

    loop.run_until_complete(burst(80))  # it is quick
    protocol.received = [None] * 80
    waiting(client)
    for n in range(20):
        client.sendto(b"%d" % n, address)
    try:
        loop.run_forever()
    except SystemExit:
        assert way == "exit"
    assert waiting(client) == [b"%d" % n for n in range(8)]
    client.close()
    loop.run_until_complete(closed(server))


@pytest.mark.parametrize("where", ["a task", "a callback", "datagram_received"])
def test_what_is_sent_before_blocking_has_left(loop, where):
    async def main():
        seen = []

        def received(protocol, data, addr):
            if where == "datagram_received":
                answer(protocol.transport, data, addr)
            elif where == "a callback":
                loop.call_soon(answer, protocol.transport, data, addr)
            else:
                tasks.append(loop.create_task(step(protocol.transport, data, addr)))

        async def step(*args):
            answer(*args)

        def answer(transport, data, addr):
            transport.sendto(data, addr)
            a_tick()  # blocking
            seen.append(waiting(client))

        tasks = []
        server, _, address = await endpoint(loop, datagram_received=received)
        client = plain()
        for n in range(20):
            client.sendto(b"%d" % n, address)
        await until(lambda: len(seen) == 20)
        assert seen == [[b"%d" % n] for n in range(20)]
        client.close()
        await asyncio.gather(*tasks)
        await closed(server)

    loop.run_until_complete(main())


def test_a_protocol_that_blocks_holds_nothing_after_the_first_time(loop):
    async def main():
        seen = []

        def received(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if blocks:
                a_tick()
                seen.append(waiting(client))

        blocks = False
        server, protocol, address = await endpoint(loop, datagram_received=received)
        client = plain()
        for n in range(100):
            client.sendto(b"%d" % n, address)
        await until(lambda: len(protocol.received) == 100)
        await turns(1)
        assert len(waiting(client)) == 100
        blocks = True
        for n in range(10):
            client.sendto(b"%d" % n, address)
        await until(lambda: len(seen) == 10)
        assert seen[2:] == [[b"%d" % n] for n in range(2, 10)]
        client.close()
        await closed(server)

    loop.run_until_complete(main())


def test_what_error_received_raises_leaves_sendto_as_on_asyncio(loop):
    async def script(loop):
        found = []

        def error(protocol):
            found.append("told")
            raise ZeroDivisionError

        transport, protocol, address = await endpoint(loop)
        protocol.hooks["error_received"] = lambda p, exc: error(p)
        try:
            transport.sendto(b"x" * 70_000, address)
        except ZeroDivisionError:
            found.append("raised")
        found.append(len(protocol.errors))
        await closed(transport)
        return found

    assert same_as_asyncio(loop, script) == ["told", "raised", 1]


AUDITED = """
import asyncio, hoop, sys

async def main():
    loop = asyncio.get_running_loop()
    free, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    address = free.get_extra_info("sockname")
    bound, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=address
    )
    seen = []
    sys.addaudithook(lambda event, args: seen.append((event, args[1:])) if event == "socket.sendto" else None)
    free.sendto(b"x", address)
    free.sendto(b"x", ("localhost", address[1]))
    bound.sendto(b"x")
    print([(event, args[0][0]) for event, args in seen])
    free.close()
    bound.close()
    await asyncio.sleep(0.01)

with asyncio.Runner(loop_factory=lambda: FACTORY) as runner:
    runner.run(main())
"""


def test_audit_hooks_are_told_as_by_asyncio(python, driver):
    ours = python(AUDITED.replace("FACTORY", f"hoop.new_event_loop({driver!r})"))
    assert ours == python(AUDITED.replace("FACTORY", "asyncio.new_event_loop()"))
    assert "localhost" in ours


# ---- a kernel that tells of nothing ----------------------------------------------------------------


async def count_turns(loop, seconds: float) -> int:
    before = loop.counters()["turns"]
    await asyncio.sleep(seconds)
    return loop.counters()["turns"] - before


IP_RECVERR, IPV6_RECVERR = 11, 25


@pytest.mark.parametrize("version", [4, 6])
def test_a_queue_of_errors_is_emptied(loop, version):
    """Else the kernel calls the socket readable for as long as one is in it (libuv#4447)."""

    async def main():
        gone = plain(socket.AF_INET if version == 4 else socket.AF_INET6)
        sock = socket.socket(gone.family, socket.SOCK_DGRAM)
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        sock.connect(gone.getsockname())
        address = gone.getsockname()
        gone.close()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        transport.sendto(b"to nobody")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        await turns(20)
        assert await count_turns(loop, 0.1) < 20
        back = socket.socket(sock.family, socket.SOCK_DGRAM)
        back.bind(address)
        back.connect(transport.get_extra_info("sockname"))
        back.send(b"here I am")
        await until(lambda: protocol.received)
        back.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_a_queue_that_is_the_users_to_read_is_left_and_looked_at_less_often(loop):
    """Time stamps of what was sent."""

    async def main():
        SOF_TIMESTAMPING_TX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE = 2, 16
        receiver = plain()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
        sock.setsockopt(socket.SOL_SOCKET, 37, flags)  # SO_TIMESTAMPING
        sock.bind(("127.0.0.1", 0))
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        transport.sendto(b"x", receiver.getsockname())
        await asyncio.sleep(0.05)
        assert await count_turns(loop, 0.2) < 30
        assert sock.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[1]
        receiver.sendto(b"answer", sock.getsockname())
        await until(lambda: protocol.received)
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_a_receiver_that_takes_nothing_does_not_keep_the_loop_busy(loop, tmp_path):
    """A Unix socket that is not connected is writable, whatever its receivers."""

    async def main():
        path = str(tmp_path / "full")
        full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        full.bind(path)
        full.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=str(tmp_path / "me"), family=socket.AF_UNIX
        )
        count = 0
        while transport.get_write_buffer_size() < 1000:
            transport.sendto(b"%03d" % count, path)
            count += 1
        await turns(5)
        assert await count_turns(loop, 0.2) < 30
        received = []
        while len(received) < count:
            received += waiting(full)
            await asyncio.sleep(0.001)
        assert received == [b"%03d" % n for n in range(count)]
        assert transport.get_write_buffer_size() == 0
        for ending in ("gone", "abort"):
            while transport.get_write_buffer_size() < 1000:
                transport.sendto(b"more", path)
            if ending == "gone":
                full.close()  # the rest is refused, one by one
                await until(lambda: transport.get_write_buffer_size() == 0)
                assert {type(exc) for exc in protocol.errors} == {ConnectionRefusedError}
                (tmp_path / "full").unlink()
                full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                full.bind(path)
            else:
                transport.abort()
                await until(lambda: protocol.lost_with is None)
        full.close()

    loop.run_until_complete(main())


# ---- what runs in the middle -----------------------------------------------------------------------


class Meddler(socket.socket):
    """A socket whose sendto() does something else first."""

    hook = None

    def sendto(self, data, address):
        if self.hook is not None:
            self.hook(data)
        return super().sendto(data, address)


@pytest.mark.parametrize(
    "way", ["abort", "close", "abort, full", "sendto", "sendto, full", "raise"]
)
@pytest.mark.parametrize("queued", [False, True])
def test_a_socket_that_meddles_with_its_transport(loop, tmp_path, logged, way, queued):
    async def main():
        path = str(tmp_path / "socket")
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        receiver.setblocking(False)
        sock = Meddler(socket.AF_UNIX, socket.SOCK_DGRAM)
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        while queued and not transport.get_write_buffer_size():
            transport.sendto(b"filling", path)
        depth = 0

        def hook(data):
            nonlocal depth
            depth += 1
            if depth > 3:
                return
            if way.startswith("abort"):
                transport.abort()
            elif way == "close":
                transport.close()
            elif way.startswith("sendto"):
                for n in range(20):
                    transport.sendto(b"nested %d %d" % (depth, n), path)
            else:
                raise ZeroDivisionError
            if way.endswith("full"):
                raise BlockingIOError

        sock.hook = hook
        for n in range(40):
            transport.sendto(b"%d" % n, path)
        for _ in range(100):
            waiting(receiver)
            await asyncio.sleep(0.0001)
        if not way.startswith("sendto"):
            await until(lambda: protocol.lost_with is not ...)
        await until(lambda: waiting(receiver) or not transport.get_write_buffer_size())
        sock.hook = None
        receiver.close()
        if protocol.lost_with is ...:
            transport.abort()
            await until(lambda: protocol.lost_with is not ...)

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["abort", "close"])
def test_a_port_that_meddles_with_its_transport(loop, method):
    class Port:
        def __index__(self):
            getattr(transport, method)()
            return 9

    async def main():
        nonlocal transport
        transport, protocol, _ = await endpoint(loop)
        for _ in range(3):
            transport.sendto(b"x", ("127.0.0.1", Port()))
        await until(lambda: protocol.lost_with is None)
        assert transport.get_write_buffer_size() == 0

    transport = None
    loop.run_until_complete(main())


def test_an_address_whose_finaliser_sends(loop, tmp_path):
    """It runs when what was sent is forgotten; each datagram still goes where it was sent to."""

    class Address(str):
        __slots__ = ()

        def __del__(self):
            if not transport.is_closing() and len(protocol.events) < 100:
                protocol.events.append("finaliser")
                transport.sendto(b"b", paths[1])
                transport.sendto(b"a", paths[0])

    async def main():
        nonlocal transport, protocol
        receivers = []
        for path in paths:
            receivers.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            receivers[-1].bind(path)
            receivers[-1].setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=str(tmp_path / "me"), family=socket.AF_UNIX
        )
        for _ in range(100):
            transport.sendto(b"a", Address(paths[0]))
        got = [set(), set()]

        def receive():
            for i in (0, 1):
                got[i].update(waiting(receivers[i]))
            return not transport.get_write_buffer_size()

        await until(receive)
        receive()
        assert got == [{b"a"}, {b"b"}]
        for receiver in receivers:
            receiver.close()
        await closed(transport)

    paths = [str(tmp_path / name) for name in "ab"]
    transport = protocol = None
    loop.run_until_complete(main())
    transport = protocol = None


@pytest.mark.parametrize("host", ["127.0.0.1\0.example", "127.0.0.1\0", "\0", "::1\0"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_host_with_a_nul_is_refused_and_nothing_is_sent(loop, host, family):
    async def script(loop):
        reported = []
        loop.set_exception_handler(
            lambda _, context: reported.append((context["message"], repr(context["exception"])))
        )
        receiver = plain(family)
        transport, protocol, _ = await endpoint(loop, family)
        transport.sendto(b"x", (host, receiver.getsockname()[1]))
        await until(lambda: protocol.lost_with is not ...)
        found = reported, type(protocol.lost_with), waiting(receiver)
        receiver.close()
        loop.set_exception_handler(None)
        return found

    same_as_asyncio(loop, script)


def test_a_socket_that_fails_to_receive_otherwise_ends_the_endpoint(loop):
    class Broken(socket.socket):
        def recvfrom(self, size):
            raise ZeroDivisionError

    async def script(loop):
        reported = []
        loop.set_exception_handler(
            lambda _, context: reported.append((context["message"], repr(context["exception"])))
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock = Broken(fileno=ours.detach())
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        theirs.send(b"x")
        await until(lambda: protocol.lost_with is not ...)
        theirs.close()
        loop.set_exception_handler(None)
        return reported, type(protocol.lost_with), transport.is_closing()

    same_as_asyncio(loop, script)


def test_a_protocol_put_in_place_by_the_one_that_is_called(loop):
    """The bound method that runs is let go of meanwhile."""

    async def main():
        def replace(protocol, data, addr):
            protocol.transport.set_protocol(second)
            sys.intern("another" + repr(addr))

        second = Datagrams()
        transport, first, address = await endpoint(loop, datagram_received=replace)
        sender = plain()
        for n in range(3):
            sender.sendto(b"%d" % n, address)
        await until(lambda: len(second.received) == 2)
        assert [data for data, _ in first.received] == [b"0"]
        sender.close()
        transport.close()
        await until(lambda: second.lost_with is None)

    loop.run_until_complete(main())


def test_what_was_sent_before_an_abort_has_left(loop):
    """Also where the answers to a batch are held until it is delivered."""

    async def main():
        def received(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if data == b"40":
                sizes.append(protocol.transport.get_write_buffer_size())
            if data == b"end40":
                protocol.transport.abort()

        sizes = []
        transport, protocol, address = await endpoint(
            loop, socket.AF_INET, datagram_received=received
        )
        sender = plain(socket.AF_INET)
        sender.setblocking(False)
        for burst in range(1, 7):
            prefix = b"end" if burst == 6 else b""
            for n in range(60):
                sender.sendto(prefix + b"%d" % n, address)
            count = 60 * burst
            await until(lambda: len(protocol.received) == count or transport.is_closing())  # noqa: B023
            answers = waiting(sender)
        assert answers == [b"end%d" % n for n in range(41)]
        assert sizes == [0] * 5
        sender.close()
        await until(lambda: protocol.lost_with is None)

    loop.run_until_complete(main())
