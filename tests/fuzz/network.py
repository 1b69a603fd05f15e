"""Actions on connections of all kinds, and the protocols that act while they check what they are told."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Any

from hostile import (
    HIterable,
    buffer_of,
    hostile_bytes,
    hostile_int,
    hostile_str,
    odd_buffer,
    writable_buffer,
)
from tls_peers import client_context, server_context
from world import BaseBoom, Boom, World, action, payload

import hoop

SIZES = (0, 1, 10, 1000, 20_000, 100_000)
# Not 127.0.0.1: the kernel may give a stream's server the port that a closed server had. Protocols still
# connect to that one's address, and would take the stream's text for lost bytes.
STREAMS_HOST = "127.0.0.2"
client_context = functools.cache(client_context)
server_context = functools.cache(server_context)


class Line:
    """One end of a connection: what was sent and received there, and the state its protocols were told."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.state = "new"
        self.paused = self.sending = False
        self.transport: Any = None
        self.peer: Line | None = None
        self.checked = True
        self.lent = False  # to TLS: that is told to pause and to resume, by turns with us

    @classmethod
    def pair(cls) -> tuple[Line, Line]:
        """Both ends."""
        one, other = cls(), cls()
        one.peer, other.peer = other, one
        return one, other


class Fuzzed(asyncio.Protocol):
    """Checks the order in which it is told things, and what arrives; acts at each."""

    def __init__(self, world: World, line: Line) -> None:
        self.world = world
        self.line = line

    def told(self, what: str, allowed: tuple[str, ...]) -> None:
        if self.line.state not in allowed:
            self.world.wrong(f"{what} in state {self.line.state}")

    def after(self, what: str) -> None:
        self.world.act(what)
        self.world.may_raise()

    def connection_made(self, transport: Any) -> None:
        self.told("connection_made", ("new",))
        self.line.state = "open"
        self.line.transport = self.world.add("transports", transport)
        self.world.add("lines", self.line)
        self.after("connection_made")

    def check(self, data: bytes) -> None:
        self.told("data_received", ("open",))
        if self.line.checked and data != payload(self.line.received, len(data)):
            self.line.checked = False
            what = f"{len(data)} other bytes than were sent at {self.line.received}"
            peer = self.line.transport.get_extra_info("peername")
            self.world.wrong(f"{what} by {peer}: {self.line.transport!r}, {self!r}")
        self.line.received += len(data)

    def data_received(self, data: bytes) -> None:
        self.check(data)
        self.after("data_received")

    def eof_received(self) -> bool | None:
        self.told("eof_received", ("open", "ended"))  # who reads on finds the end again
        self.line.state = "ended"
        self.after("eof_received")
        return self.world.chance(0.3)

    def pause_writing(self) -> None:
        if self.line.paused and not self.line.lent:
            self.world.wrong("paused twice")
        self.line.paused = True
        self.after("pause_writing")

    def resume_writing(self) -> None:
        if not self.line.paused and not self.line.lent:
            self.world.wrong("resumed and not paused")
        self.line.paused = False
        self.after("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told("connection_lost", ("open", "ended"))
        self.line.state = "lost"
        self.after("connection_lost")


class FuzzedBuffer(Fuzzed, asyncio.BufferedProtocol):
    """The same, receiving into a buffer of its own, which it sometimes changes when it should not."""

    buffer: Any = None

    def get_buffer(self, sizehint: int) -> Any:
        self.buffer = writable_buffer(self.world, self.world.dice.choice((0, 1, 1000, 70_000)))
        self.after("get_buffer")
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.check(bytes(memoryview(self.buffer).cast("B")[:nbytes]))
        if isinstance(self.buffer, bytearray) and self.world.chance(0.2):
            self.buffer.clear()
        self.after("buffer_updated")


def protocol_of(world: World, line: Line) -> Any:
    world.act("protocol factory")
    world.may_raise()
    return (FuzzedBuffer if world.chance(0.3) else Fuzzed)(world, line)


# ---- connections ----


def tls_options(world: World, server: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"ssl_handshake_timeout": 2.0, "ssl_shutdown_timeout": 0.5}
    if server:
        return {"ssl": server_context(), **options}
    return {"ssl": client_context(), "server_hostname": "localhost", **options}


def connect_pair(world: World, kind: str, tls: bool) -> None:
    """Two transports, connected with each other."""
    if kind == "unix":
        ends = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            ends = client, listening.accept()[0]
    loop = world.loop
    for line, end, server in zip(Line.pair(), ends, (False, True), strict=True):
        world.cleanups.append(end.close)
        end.setblocking(False)
        if world.chance(0.3):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connect = loop.connect_accepted_socket if server else loop.create_connection
        options = tls_options(world, server) if tls else {}
        factory = functools.partial(protocol_of, world, line)
        world.spawn(connect(factory, sock=end, **options))


@action(2)
def connect(world: World) -> None:
    connect_pair(world, world.dice.choice(("tcp", "unix")), False)


@action()
def connect_tls(world: World) -> None:
    connect_pair(world, world.dice.choice(("tcp", "unix")), True)


@action()
def serve(world: World) -> None:
    async def start() -> None:
        options = tls_options(world, True) if world.chance(0.3) else {}

        def factory() -> Any:
            line = world.add("accepted", Line())
            return protocol_of(world, line)

        server = await world.loop.create_server(factory, "127.0.0.1", 0, **options)
        world.cleanups.append(server.close)
        world.add("servers", (server, bool(options), server.sockets[0].getsockname()))

    world.spawn(start())


@action(2)
def connect_to_server(world: World) -> None:
    _, tls, (host, port) = world.get("servers")
    options = tls_options(world, False) if tls else {}
    factory = functools.partial(protocol_of, world, Line())
    coro = world.loop.create_connection(
        factory, hostile_str(world, host), hostile_int(world, port), **options
    )
    world.spawn(coro)


@action()
def connect_and_leave(world: World) -> None:
    _, _, address = world.get("servers")
    with socket.create_connection(address):
        pass


@action()
def close_server(world: World) -> None:
    server, _, _ = world.get("servers")
    server.close()
    if hasattr(server, "abort_clients") and world.chance(0.3):
        server.abort_clients()


# ---- what to do with a transport ----


@action(8)
def write(world: World) -> None:
    line = world.get("lines")
    if line.sending or line.state == "lost" or not hasattr(line.transport, "write"):
        return
    size = world.dice.choice(SIZES)
    data = payload(line.sent, size)
    line.sending = True  # what acts in the middle of a write cannot know its place
    try:
        if world.chance(0.7):
            line.transport.write(buffer_of(world, data))
        else:
            cut = world.dice.randrange(size + 1)
            parts = [buffer_of(world, data[:cut]), b"", buffer_of(world, data[cut:])]
            odd = []
            if line.peer is not None and world.chance(0.1):
                line.peer.checked = False  # some of them are taken
                odd.append(odd_buffer(world))
            line.transport.writelines(HIterable(world, parts + odd))
        line.sent += size
    except (BaseBoom, KeyboardInterrupt):
        world.disturbed = True  # raised by pause_writing, say: the bytes may be on their way or not
        raise
    finally:
        line.sending = False


@action()
def write_odd(world: World) -> None:
    line = world.get("lines")
    if not line.sending and hasattr(line.transport, "write") and line.peer is not None:
        line.peer.checked = False  # who knows what it has
        line.transport.write(odd_buffer(world))


@action(2)
def pause_or_resume(world: World) -> None:
    transport = world.get("transports")
    if not hasattr(transport, "pause_reading"):
        return
    if world.chance(0.5):
        transport.pause_reading()
    else:
        transport.resume_reading()


@action(3)
def resume_reading(world: World) -> None:
    transport = world.get("transports")
    if hasattr(transport, "resume_reading"):
        transport.resume_reading()


@action()
def end_writing(world: World) -> None:
    transport = world.get("transports")
    if hasattr(transport, "write_eof"):
        transport.write_eof()


@action()
def close_transport(world: World) -> None:
    world.get("transports").close()


@action()
def abort_transport(world: World) -> None:
    transport = world.get("transports")
    if not transport.is_closing():  # asyncio's pipes cannot bear it twice
        getattr(transport, "abort", transport.close)()


@action()
def set_limits(world: World) -> None:
    high = hostile_int(world, world.dice.choice((0, 1, 10_000, -1)))
    low = hostile_int(world, world.dice.choice((0, 1, 100)))
    transport = world.get("transports")
    if hasattr(transport, "set_write_buffer_limits"):
        transport.set_write_buffer_limits(high, low)


@action()
def set_protocol(world: World) -> None:
    line = world.get("lines")
    if line.transport is not None and line.state == "open":
        kind = FuzzedBuffer if world.chance(0.5) else Fuzzed
        line.transport.set_protocol(kind(world, line))


@action()
def look_at_transport(world: World) -> None:
    transport = world.get("transports")
    repr(transport)
    for name in ("socket", "sockname", "peername", "sslcontext", "ssl_object", "pipe", None):
        transport.get_extra_info(name)
    _ = transport.is_closing(), transport.get_protocol()
    if hasattr(transport, "is_reading"):
        transport.is_reading()
    if hasattr(transport, "get_write_buffer_size"):
        _ = transport.get_write_buffer_size(), transport.get_write_buffer_limits()


@action()
def start_tls(world: World) -> None:
    line = world.get("lines")
    if line.transport is not None and line.peer is not None:
        line.checked = line.peer.checked = False
        line.lent = True
        options = tls_options(world, world.chance(0.5))
        context = options.pop("ssl")
        upgraded = Line()
        upgraded.state = "open"  # nobody tells a protocol again that it is connected
        protocol = Fuzzed(world, upgraded)
        world.spawn(world.loop.start_tls(line.transport, protocol, context, **options))


# ---- streams ----


async def use_streams(world: World, reader: Any, writer: Any) -> None:
    world.add("writers", writer)
    world.add("readers", reader)
    for _ in range(world.dice.randrange(8)):
        await one_of_streams(world, reader, writer)
        world.act("stream")
        world.may_raise()


async def one_of_streams(world: World, reader: Any, writer: Any) -> None:
    kind = world.dice.randrange(12)
    size = hostile_int(world, world.dice.choice((0, 1, 100, 70_000)))
    if kind < 3:
        writer.write(buffer_of(world, b"some\nlines\nof\ntext\n" * world.dice.choice((1, 1000))))
        await writer.drain()
    elif kind == 3:
        await reader.read(size)
    elif kind == 4:
        await reader.readexactly(size)
    elif kind == 5:
        await reader.readline()
    elif kind == 6:
        await reader.readuntil(hostile_bytes(world, world.dice.choice((b"\n", b"of\n", b""))))
    elif kind == 7:
        writer.writelines(HIterable(world, [b"one\n", buffer_of(world, b"two\n")]))
    elif kind == 8:
        writer.close()
        await writer.wait_closed()
    elif kind == 9 and writer.can_write_eof():
        writer.write_eof()
    elif kind == 10:
        async for _ in reader:
            world.act("line of a stream")
            if world.chance(0.5):
                break
    else:
        _ = reader.at_eof(), repr(reader), repr(writer), reader.exception()


def connect_streams(world: World, library: Any, tls: bool) -> None:
    async def run() -> None:
        async def connected(reader: Any, writer: Any) -> None:
            try:
                await use_streams(world, reader, writer)
            except (*world_errors(), asyncio.CancelledError):
                pass
            finally:
                writer.close()

        options = {"limit": world.dice.choice((1, 100, 65536))}
        server = await library.start_server(
            connected, STREAMS_HOST, 0, **options, **(tls_options(world, True) if tls else {})
        )
        world.cleanups.append(server.close)
        try:
            host, port = server.sockets[0].getsockname()
            reader, writer = await library.open_connection(
                host, port, **options, **(tls_options(world, False) if tls else {})
            )
            try:
                await use_streams(world, reader, writer)
            finally:
                writer.close()
        finally:
            server.close()

    world.spawn(run())


def world_errors() -> tuple[type[BaseException], ...]:
    return Boom, OSError, ValueError, RuntimeError, TypeError, EOFError, asyncio.LimitOverrunError


@action()
def stock_streams(world: World) -> None:
    connect_streams(world, asyncio, world.chance(0.2))


@action(2)
def native_streams(world: World) -> None:
    connect_streams(world, hoop, world.chance(0.2))


@action()
def use_stream_of_another(world: World) -> None:
    world.spawn(one_of_streams(world, world.get("readers"), world.get("writers")))


@action()
def feed_reader(world: World) -> None:
    reader = world.get("readers")
    kind = world.dice.randrange(4)
    if kind < 2:
        reader.feed_data(hostile_bytes(world, b"fed\n"))
    elif kind == 2:
        reader.set_exception(Boom("set in a reader"))
    else:
        reader.feed_eof()


# ---- datagrams ----


class FuzzedDatagrams(asyncio.DatagramProtocol):
    """Acts in each of its methods."""

    def __init__(self, world: World) -> None:
        self.world = world

    def connection_made(self, transport: Any) -> None:
        self.world.add("endpoints", transport)
        self.world.act("datagram connection_made")
        self.world.may_raise()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data != payload(0, len(data)):
            self.world.wrong("another datagram than was sent")
        self.world.act("datagram_received")
        self.world.may_raise()

    def error_received(self, exc: Any) -> None:
        self.world.act("error_received")
        self.world.may_raise()

    def pause_writing(self) -> None:
        self.world.act("datagram pause_writing")

    def resume_writing(self) -> None:
        self.world.act("datagram resume_writing")

    def connection_lost(self, exc: Any) -> None:
        self.world.act("datagram connection_lost")
        self.world.may_raise()


@action()
def make_endpoint(world: World) -> None:
    def factory() -> Any:
        world.act("datagram factory")
        world.may_raise()
        return FuzzedDatagrams(world)

    if world.chance(0.3):
        for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
            world.cleanups.append(end.close)
            world.spawn(world.loop.create_datagram_endpoint(factory, sock=end))
    elif world.chance(0.3):
        address = world.get("endpoints").get_extra_info("sockname")
        world.spawn(world.loop.create_datagram_endpoint(factory, remote_addr=address))
    else:
        world.spawn(world.loop.create_datagram_endpoint(factory, ("127.0.0.1", 0)))


@action(4)
def send_datagrams(world: World) -> None:
    endpoint = world.get("endpoints")
    address: Any = world.get("endpoints").get_extra_info("sockname")
    if isinstance(address, tuple) and world.chance(0.5):
        host = hostile_str(world, world.dice.choice((address[0], "127.0.0.1", "127.0.0.1\0x")))
        address = host, hostile_int(world, world.dice.choice((address[1], 1, 70_000)))
    if world.chance(0.3):
        address = None
    for _ in range(world.dice.choice((1, 1, 3, 40))):
        data = payload(0, world.dice.choice((0, 1, 1000, 9000, 70_000)))
        endpoint.sendto(buffer_of(world, data), address)


@action()
def end_endpoint(world: World) -> None:
    endpoint = world.get("endpoints")
    world.dice.choice((endpoint.close, endpoint.abort, endpoint.__repr__))()


# ---- sockets of the user's ----


@action()
def make_sockets(world: World) -> None:
    kind = world.dice.choice((socket.SOCK_STREAM, socket.SOCK_DGRAM))
    for end in socket.socketpair(socket.AF_UNIX, kind):
        end.setblocking(False)
        world.cleanups.append(end.close)
        world.add("sockets", end)


async def use_socket(world: World, sock: Any) -> None:
    loop = world.loop
    for _ in range(world.dice.randrange(1, 5)):
        kind = world.dice.randrange(7)
        size = hostile_int(world, world.dice.choice((0, 1, 1000, 100_000)))
        if kind == 0:
            await loop.sock_recv(sock, size)
        elif kind == 1:
            await loop.sock_recv_into(sock, writable_buffer(world, 1000))
        elif kind == 2:
            await loop.sock_sendall(sock, buffer_of(world, payload(0, world.dice.choice(SIZES))))
        elif kind == 3:
            await loop.sock_recvfrom(sock, size)
        elif kind == 4:
            await loop.sock_recvfrom_into(sock, writable_buffer(world, 1000), size)
        elif kind == 5:
            _, _, address = world.get("servers")
            with socket.socket() as new:
                new.setblocking(False)
                await loop.sock_connect(new, address)
                await loop.sock_sendall(new, payload(0, 20))
        else:
            await loop.sock_sendto(sock, buffer_of(world, b"datagram"), "")
        world.act("socket")
        world.may_raise()


@action(2)
def make_socket_task(world: World) -> None:
    world.spawn(use_socket(world, world.get("sockets")))


@action()
def close_socket(world: World) -> None:
    if world.chance(0.5):
        world.get("sockets").close()


@action()
def accept_by_hand(world: World) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            with socket.create_connection(listening.getsockname()):
                sock, _ = await world.loop.sock_accept(listening)
                with sock:
                    world.act("sock_accept")

    world.spawn(run())
