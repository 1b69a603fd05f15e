"""Datagram transports: batches, addresses, errors, flow control, closing."""

import asyncio
import contextvars
import errno
import gc
import os
import socket
import weakref

import pytest
from peers import same_as_asyncio, turns, until


class Datagrams(asyncio.DatagramProtocol):
    """Writes down what it is told, then runs the hook of that name: Datagrams(datagram_received=...)."""

    def __init__(self, **hooks):
        self.hooks = hooks
        self.received, self.errors, self.events = [], [], []
        self.transport, self.lost_with = None, ...

    def _tell(self, name, *args):
        self.events.append(name)
        if name in self.hooks:
            self.hooks[name](self, *args)

    def connection_made(self, transport):
        self.transport = transport
        self._tell("connection_made")

    def datagram_received(self, data, addr):
        assert type(data) is bytes
        self.received.append((data, addr))
        self._tell("datagram_received", data, addr)

    def error_received(self, exc):
        self.errors.append(exc)
        self._tell("error_received", exc)

    def pause_writing(self):
        self._tell("pause_writing")

    def resume_writing(self):
        self._tell("resume_writing")

    def connection_lost(self, exc):
        assert self.lost_with is ...
        self.lost_with = exc
        self._tell("connection_lost")


HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


async def endpoint(loop, family=socket.AF_INET, **hooks):
    """An endpoint that is bound, its protocol and its address."""
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(**hooks), local_addr=(HOSTS[family], 0)
    )
    return transport, protocol, transport.get_extra_info("sockname")


def plain(family=socket.AF_INET):
    """A plain, bound, non-blocking socket."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((HOSTS[family], 0))
    sock.setblocking(False)
    return sock


async def closed(*transports):
    """Close transports and wait until they are."""
    for transport in transports:
        protocol = transport.get_protocol()
        transport.close()
        if protocol is not None:
            await until(lambda: protocol.lost_with is not ...)  # noqa: B023


def test_it_is_what_asyncio_takes_it_for(loop):
    async def main():
        transport, protocol, address = await endpoint(loop)
        assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("socket").getsockname() == address
        assert transport.get_extra_info("peername") is None
        assert f"fd={transport.get_extra_info('socket').fileno()} read=polling" in repr(transport)
        assert protocol.events == ["connection_made"]
        weak = weakref.ref(transport)
        await closed(transport)
        assert "closed" in repr(transport)
        assert protocol.events == ["connection_made", "connection_lost"]
        del transport, protocol.transport
        gc.collect()
        assert weak() is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("family", HOSTS, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("count", [1, 3, 31, 32, 33, 100])
def test_datagrams_arrive_whole_in_order_and_with_their_sender(loop, family, count):
    async def main():
        transport, protocol, address = await endpoint(loop, family)
        senders = [plain(family) for _ in range(3)]
        sent = []
        for n in range(count):
            sender = senders[n % 3]
            data = bytes([n % 256]) * (n * 7 % 1400)
            sender.sendto(data, address[:2])
            sent.append((data, sender.getsockname()))
        await until(lambda: len(protocol.received) == count)
        assert protocol.received == sent
        await closed(transport)
        for sender in senders:
            sender.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("family", HOSTS, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("connected", [False, True])
def test_what_is_sent_has_left_when_sendto_returns(loop, family, connected):
    async def main():
        receiver = plain(family)
        address = receiver.getsockname()
        if connected:
            transport, protocol = await loop.create_datagram_endpoint(
                Datagrams, remote_addr=address[:2]
            )
            where = [None, transport.get_extra_info("peername")]
        else:
            transport, protocol, _ = await endpoint(loop, family)
            where = [address, address[:2]]
        for n in range(1, 70):
            transport.sendto(bytes([n]) * (n * 9), where[n % 2])
            assert receiver.recv(70000) == bytes([n]) * (n * 9)
        assert transport.get_write_buffer_size() == 0
        assert protocol.errors == []
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_an_echo_of_a_thousand_in_flight(loop):
    async def main():
        server, _, address = await endpoint(
            loop, datagram_received=lambda p, data, addr: p.transport.sendto(data, addr)
        )
        clients = [
            (await loop.create_datagram_endpoint(Datagrams, remote_addr=address)) for _ in range(10)
        ]
        for n in range(100):
            for transport, _ in clients:
                transport.sendto(b"%d" % n)
            await until(lambda: all(len(p.received) == n + 1 for _, p in clients))  # noqa: B023
        for _, protocol in clients:
            assert [data for data, _ in protocol.received] == [b"%d" % n for n in range(100)]
            assert {addr for _, addr in protocol.received} == {address}
        await closed(server, *[t for t, _ in clients])

    loop.run_until_complete(main())


def test_the_largest_datagram_and_one_too_large(loop):
    async def main():
        receiver, received, address = await endpoint(loop)
        sender, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        sender.sendto(b"x" * 65507)
        sender.sendto(b"x" * 65508)
        sender.sendto(b"after")
        await until(lambda: len(received.received) == 2)
        assert [len(data) for data, _ in received.received] == [65507, 5]
        assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
        await closed(receiver, sender)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_buffer_belongs_to_the_caller_again(loop, kind):
    async def main():
        receiver = plain()
        transport, *_ = await endpoint(loop)
        store = bytearray(b"original")
        transport.sendto(bytes(store) if kind is bytes else kind(store), receiver.getsockname())
        store[:] = b"changed!"
        await turns(2)
        assert receiver.recv(100) == b"original"
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_wrong_arguments_are_refused_as_by_asyncio(loop):
    async def script(loop):
        found = []
        receiver = plain()
        address = receiver.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        for data, addr in [
            ("text", None),
            (3, None),
            (b"x", ("127.0.0.1", 1)),
            (memoryview(b"abcd").cast("I"), None),
            (b"fine", address),
        ]:
            try:
                transport.sendto(data, addr)
            except (TypeError, ValueError) as exc:
                found.append((type(exc), str(exc).replace(str(address[1]), "PORT")))
        await turns(3)
        found += [receiver.recv(100), receiver.recv(100)]
        receiver.close()
        await closed(transport)
        return found, protocol.errors, protocol.lost_with

    same_as_asyncio(loop, script)


@pytest.mark.parametrize(
    "address",
    [
        None,
        (),
        ("127.0.0.1",),
        ("127.0.0.1", "port"),
        ("127.0.0.1", 70000),
        ("127.0.0.1", -1),
        ("127.0.0.1", 1, 2),
        ("::1", 9),
        ("no such host.invalid", 9),
        ["127.0.0.1", 9],
        "path",
        9,
    ],
)
def test_odd_addresses_are_answered_as_by_asyncio(loop, address):
    """By error_received if it is an OSError; else the transport is lost."""

    async def script(loop):
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
        transport, protocol, _ = await endpoint(loop)
        transport.sendto(b"data", address)
        await turns(5)
        lost = type(protocol.lost_with)
        errors = [(type(exc), exc.errno) for exc in protocol.errors]
        await closed(transport)
        loop.set_exception_handler(None)
        return reported, errors, lost

    same_as_asyncio(loop, script)


def test_a_host_name_is_resolved_by_the_socket_and_keeps_its_place(loop):
    async def main():
        receiver = plain()
        port = receiver.getsockname()[1]
        transport, *_ = await endpoint(loop)
        transport.sendto(b"first", ("127.0.0.1", port))
        transport.sendto(b"second", ("localhost", port))
        transport.sendto(b"third", ("127.0.0.1", port))
        await turns(2)
        assert [receiver.recv(100) for _ in range(3)] == [b"first", b"second", b"third"]
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_unix_datagrams(loop, tmp_path):
    async def script(loop):
        path = str(tmp_path / f"socket{id(loop)}")
        server, heard = await loop.create_datagram_endpoint(
            Datagrams, local_addr=path, family=socket.AF_UNIX
        )
        client, answered = await loop.create_datagram_endpoint(
            Datagrams, local_addr=path + "c", remote_addr=path, family=socket.AF_UNIX
        )
        client.sendto(b"question" * 10_000)
        await until(lambda: heard.received)
        data, addr = heard.received[0]
        server.sendto(data[:8], addr)
        server.sendto(b"more", addr)
        await until(lambda: len(answered.received) == 2)
        found = (
            len(data),
            addr.replace(path, "PATH"),
            [(data, addr.replace(path, "PATH")) for data, addr in answered.received],
            client.get_extra_info("peername").replace(path, "PATH"),
        )
        await closed(server, client)
        os.unlink(path), os.unlink(path + "c")
        return found

    same_as_asyncio(loop, script)


def test_a_full_kernel_queues_pauses_and_resumes(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        receiver.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=path, family=socket.AF_UNIX
        )
        transport.set_write_buffer_limits(high=50_000, low=10_000)
        sent = 0
        while "pause_writing" not in protocol.events:
            transport.sendto(b"%08d" % sent * 100)
            sent += 1
        assert transport.get_write_buffer_size() > 50_000
        received = []

        def receive():
            try:
                received.append(receiver.recv(10_000))
            except BlockingIOError:
                pass
            return len(received) == sent

        await until(receive)
        assert received == [b"%08d" % n * 100 for n in range(sent)]
        assert protocol.events == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() == 0
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("connected", [False, True])
def test_close_sends_what_was_queued_and_abort_does_not(loop, tmp_path, method, connected):
    async def main():
        path = str(tmp_path / "socket")
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        receiver.setblocking(False)
        remote = {"remote_addr": path} if connected else {"local_addr": path + "c"}
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, family=socket.AF_UNIX, **remote
        )
        sent = 0
        while not transport.get_write_buffer_size() > 100:
            transport.sendto(b"%d" % sent, None if connected else path)
            sent += 1
        getattr(transport, method)()
        assert transport.is_closing()
        assert not transport.is_reading()
        received = []

        def receive():
            try:
                received.append(receiver.recv(100))
            except BlockingIOError:
                return protocol.lost_with is None
            return False

        await until(receive)
        assert received == [b"%d" % n for n in range(len(received))]
        assert (len(received) == sent) == (method == "close")
        receiver.close()

    loop.run_until_complete(main())


def test_what_is_sent_after_the_end_goes_nowhere(loop):
    async def main():
        receiver = plain()
        address = receiver.getsockname()
        for method in ("close", "abort"):
            transport, protocol, _ = await endpoint(loop)
            getattr(transport, method)()
            await until(lambda: protocol.lost_with is None)  # noqa: B023
            transport.sendto(b"too late", address)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        receiver.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_nothing_is_delivered_after_a_callback_stopped_it(loop, method):
    """In the middle of a batch."""

    async def main():
        def stop(protocol, data, addr):
            if data == b"3":
                getattr(protocol.transport, method)()

        transport, protocol, address = await endpoint(loop, datagram_received=stop)
        sender = plain()
        transport.pause_reading()
        for n in range(20):
            sender.sendto(b"%d" % n, address)
        transport.resume_reading()
        await until(lambda: len(protocol.received) >= 4)
        await turns(10)
        assert [data for data, _ in protocol.received] == [b"0", b"1", b"2", b"3"]
        if method == "pause_reading":
            assert not transport.is_reading()
            transport.resume_reading()
            await until(lambda: len(protocol.received) == 20)
            assert [data for data, _ in protocol.received] == [b"%d" % n for n in range(20)]
        sender.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_an_exception_in_the_protocol_is_reported_and_nothing_is_lost(loop, logged):
    async def main():
        def fail(protocol, data, addr):
            raise ZeroDivisionError(data.decode())

        transport, protocol, address = await endpoint(loop, datagram_received=fail)
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        sender = plain()
        for n in range(10):
            sender.sendto(b"%d" % n, address)
        await until(lambda: len(reported) == 10)
        assert [str(context["exception"]) for context in reported] == [str(n) for n in range(10)]
        assert {context["message"] for context in reported} == {
            "Exception in callback protocol.datagram_received()"
        }
        assert protocol.lost_with is ...
        reported.clear()
        sender.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_an_interrupt_in_the_middle_of_a_batch_loses_no_datagram(loop):
    def interrupt(protocol, data, addr):
        if data in (b"3", b"19"):
            raise KeyboardInterrupt

    transport, protocol, address = loop.run_until_complete(
        endpoint(loop, datagram_received=interrupt)
    )
    sender = plain()
    for n in range(20):
        sender.sendto(b"%d" % n, address)
    interrupts = 0
    while len(protocol.received) < 20:
        loop.call_later(5, loop.stop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        interrupts += 1
    assert interrupts == 2
    assert [data for data, _ in protocol.received] == [b"%d" % n for n in range(20)]
    sender.close()
    loop.run_until_complete(closed(transport))


def test_callbacks_run_in_the_context_of_the_endpoint(loop):
    who = contextvars.ContextVar("who", default="nobody")

    async def main():
        seen = []
        who.set("creator")
        transport, _, address = await endpoint(
            loop,
            connection_made=lambda p: seen.append(who.get()),
            datagram_received=lambda p, data, addr: seen.append(who.get()),
            connection_lost=lambda p: seen.append(who.get()),
        )
        who.set("somebody else")
        sender = plain()
        sender.sendto(b"x", address)
        await until(lambda: len(seen) == 2)
        await closed(transport)
        sender.close()
        assert seen == ["creator"] * 3

    loop.run_until_complete(main())


def test_a_refused_datagram_is_told_to_error_received(loop):
    async def main():
        gone = plain()
        address = gone.getsockname()
        gone.close()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        transport.sendto(b"to nobody")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        back.bind(address)
        back.connect(transport.get_extra_info("sockname"))
        back.send(b"here I am")
        await until(lambda: protocol.received)
        assert protocol.received == [(b"here I am", address)]
        back.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_broadcast_keeps_its_one_address(loop):
    async def main():
        receiver = plain()
        address = receiver.getsockname()
        transport, _protocol = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=address, allow_broadcast=True
        )
        transport.sendto(b"one")
        transport.sendto(b"two", address)
        await turns(2)
        assert [receiver.recv(9), receiver.recv(9)] == [b"one", b"two"]
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"three", ("127.0.0.1", 9))
        receiver.close()
        await closed(transport)

    loop.run_until_complete(main())


def test_a_loop_closed_with_an_endpoint_open_complains_and_closes_it(new_loop):
    loop = new_loop()
    transport, protocol, _ = loop.run_until_complete(endpoint(loop))
    fd = transport.get_extra_info("socket").fileno()
    protocol.transport = None
    loop.close()
    held = [transport]
    del transport
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        held.clear()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
