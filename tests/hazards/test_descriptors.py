"""The owner of a descriptor: cancellation at every await point, and no close of another owner's number."""

import asyncio
import gc
import os
import socket
import subprocess
import sys

import pytest
from peers import Recorder, drain, end, outcome, reports, tcp_pair, turns, until


class Probe:
    """Takes every descriptor number that becomes free, and finds any that was closed under it."""

    def __init__(self):
        self.mine = {}

    def take(self, n=4):
        for _ in range(n):
            fd = os.open("/dev/null", os.O_RDONLY)
            assert fd not in self.mine, f"descriptor {fd} was closed by somebody else"
            self.mine[fd] = os.fstat(fd)

    def check(self):
        for fd, stat in self.mine.items():
            found = os.fstat(fd)  # raises if somebody closed it
            assert (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino)

    def release(self):
        gc.collect()
        self.check()
        for fd in self.mine:
            os.close(fd)
        self.mine.clear()


@pytest.fixture
def probe():
    found = Probe()
    yield found
    found.release()


async def cancel_after(n, coro):
    """Run a coroutine for n turns, then cancel it. The result of a call, or None."""
    task = asyncio.ensure_future(coro)
    await turns(n)
    task.cancel()
    try:
        return await task
    except (asyncio.CancelledError, OSError):
        return None


@pytest.mark.parametrize("how", ["host", "sock", "unix", "unix sock"])
def test_cancelled_create_connection_closes_only_its_own_descriptor(loop, probe, how, tmp_path):
    """uvloop#738: the socket was closed a second time, when its number was somebody else's."""

    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        if how.startswith("unix"):
            server = await loop.create_unix_server(asyncio.Protocol, tmp_path / "s")
        else:
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for n in range(60):
            sock = None
            if how == "host":
                coro = loop.create_connection(factory, *address)
            elif how == "unix":
                coro = loop.create_unix_connection(factory, address)
            else:
                sock = socket.socket(server.sockets[0].family)
                sock.connect(address)
                create = loop.create_unix_connection if "unix" in how else loop.create_connection
                coro = create(factory, sock=sock)
            made = await cancel_after(n % 8, coro)
            probe.take()
            gc.collect()
            await turns(3)
            probe.check()
            if made is not None:
                made[0].abort()
                await turns(3)
            if sock is not None:
                gone = sock.fileno()
                sock.close()
                assert gone in (-1, *range(3, 1000))
            probe.check()
        await until(lambda: all(p.transport is None or p.is_lost for p in protocols))
        await end(server)

    loop.run_until_complete(main())


def test_sock_connect_cancelled_a_thousand_times_leaves_nothing_registered(loop, probe):
    """aiohappyeyeballs#93: the next connect got the number, and "fd is used by transport"."""

    async def main():
        server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        with server:
            for n in range(1000):
                sock = socket.socket()
                sock.setblocking(False)
                await cancel_after(n % 3, loop.sock_connect(sock, server.getsockname()))
                number = sock.fileno()
                sock.close()
                other, peer = socket.socketpair()
                if n % 50 == 0:
                    assert not loop.remove_writer(number)
                    probe.take(1)
                with peer:
                    protocol = Recorder()
                    transport, _ = await loop.create_connection(lambda: protocol, sock=other)  # noqa: B023
                    transport.abort()
                    await until(lambda: protocol.is_lost)  # noqa: B023
                if n % 200 == 0:
                    while True:
                        server.settimeout(0)
                        try:
                            server.accept()[0].close()
                        except BlockingIOError:
                            break

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "operation", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_accept"]
)
def test_cancelled_socket_operations_forget_the_descriptor(loop, probe, operation):
    async def main():
        for n in range(40):
            if operation == "sock_accept":
                ours = socket.create_server(("127.0.0.1", 0))
                ours.setblocking(False)
                peer = None
                coro = loop.sock_accept(ours)
            else:
                ours, peer = tcp_pair()
                argument = {
                    "sock_recv": 10,
                    "sock_recvfrom": 10,
                    "sock_recv_into": bytearray(10),
                    "sock_sendall": bytes(8_000_000),
                }[operation]
                coro = getattr(loop, operation)(ours, argument)
            assert await cancel_after(n % 4, coro) is None
            number = ours.fileno()
            assert not loop.remove_reader(number)
            assert not loop.remove_writer(number)
            ours.close()
            if peer is not None:
                peer.close()
            probe.take(2)
            probe.check()

    loop.run_until_complete(main())


def test_a_socket_closed_in_the_turn_of_its_sock_recv(loop):
    """uvloop#100: the process was aborted."""

    async def main():
        for n in range(5):
            a, b = tcp_pair()
            waiting = asyncio.ensure_future(loop.sock_recv(a, 10))
            await turns(n)
            a.close()
            b.close()
            await turns(5)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    loop.run_until_complete(main())


def test_mass_connects_whose_peer_closes_at_once(loop):
    """uvloop#378: spun for ever with InvalidStateError."""

    async def main():
        found = reports(loop)

        class Closing(asyncio.Protocol):
            def connection_made(self, transport):
                transport.abort()

        server = await loop.create_server(Closing, "127.0.0.1", 0, backlog=1024)
        address = server.sockets[0].getsockname()

        async def connect():
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                try:
                    return await loop.sock_recv(sock, 1)
                except ConnectionError:
                    return b""

        for _ in range(25):
            assert await asyncio.gather(*[connect() for _ in range(200)]) == [b""] * 200
        await end(server)
        assert found == []

    loop.run_until_complete(main())


def test_a_pipe_is_closed_once(loop, probe):
    """uvloop#763: the number was closed again while it was somebody else's."""

    async def main():
        for _ in range(20):
            r, w = os.pipe()
            reader, writer = Recorder(), Recorder()
            reading, _ = await loop.connect_read_pipe(lambda: reader, os.fdopen(r, "rb", 0))  # noqa: B023
            writing, _ = await loop.connect_write_pipe(lambda: writer, os.fdopen(w, "wb", 0))  # noqa: B023
            assert isinstance(reading, asyncio.ReadTransport)
            assert isinstance(writing, asyncio.WriteTransport)
            writing.write(b"x")
            writing.close()
            await until(lambda: reader.is_lost and writer.is_lost)  # noqa: B023
            assert reader.received == b"x"
            probe.take()
            gc.collect()
            await turns(3)
            probe.check()

    loop.run_until_complete(main())


def test_a_regular_file_is_no_pipe(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")

    async def main():
        for method in (loop.connect_read_pipe, loop.connect_write_pipe):
            with path.open("rb") as file, pytest.raises(ValueError, match=r"[Pp]ipe"):
                await method(asyncio.Protocol, file)

    loop.run_until_complete(main())


def test_the_socket_of_a_transport_cannot_be_closed_under_the_loop(loop):
    """zuvloop#75: get_extra_info("socket") had a close()."""

    async def main():
        protocol = Recorder()
        a, b = tcp_pair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=a)
        view = transport.get_extra_info("socket")
        assert type(view) is asyncio.trsock.TransportSocket
        assert not hasattr(view, "close")
        transport.close()
        await until(lambda: protocol.is_lost)
        await turns(2)
        assert outcome(view.getsockname)[0] == "OSError"
        b.close()

    loop.run_until_complete(main())


LIMITS = """
import asyncio, resource, socket, hoop
before = resource.getrlimit(resource.RLIMIT_NOFILE)
loop = hoop.new_event_loop()
async def main():
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    import os
    top = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, before[1]))
    hold = []
    try:
        while True:
            hold.append(os.dup(0))
    except OSError:
        pass
    try:
        await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    except OSError as exc:
        print(exc.errno)
    server.close()
loop.run_until_complete(main())
loop.close()
"""


def test_limits_are_left_alone_and_their_error_reaches_the_caller():
    """talyn BUG-260: the loop lowered RLIMIT_NOFILE and masked EMFILE."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITS], capture_output=True, text=True, timeout=18
    )
    assert done.stdout == "24\n", done.stderr


def test_drain_of_a_half_closed_peer_ends(loop):
    """A peer that ends while the transport still has much to say gets all of it."""

    async def main():
        protocol = Recorder(eof_received=lambda p: True)
        a, b = tcp_pair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=a)
        transport.write(bytes(5_000_000))
        b.shutdown(socket.SHUT_WR)
        await until(lambda: "eof_received" in protocol.events)
        transport.close()
        assert len(await drain(loop, b)) == 5_000_000
        await until(lambda: protocol.is_lost)
        b.close()

    loop.run_until_complete(main())
