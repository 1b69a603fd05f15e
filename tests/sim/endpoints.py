"""More programs like those of own.py: what hoop does besides streams between a server and its clients.

    datagrams   endpoints and sockets of UDP send each other datagrams
    unix        servers and clients of Unix sockets
    upgrades    connections that begin plain, and go on with TLS
    sendfile    files are sent by transports and by sockets

Some look at what is cancelled, closed or shared.

    cutting     reads and connects are cancelled, and no byte is lost
    closing     servers are closed while clients come
    files       tasks read and write a file on a disk
    executors   calls in executors, some of which fail
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

import own
from own import FAILURES, FULL, HOST, PORT, Checked, Client, Echo, contexts, patiently, send, start

import hoop
import hoop.sim

BLOCK = 64  # bytes of a block of a file
# A file that is sent.
TEXT = bytes(i * i % 251 for i in range(50_000))
FILE = tempfile.NamedTemporaryFile()  # noqa: SIM115, it stays there
FILE.write(TEXT)
FILE.flush()


# ---- datagrams -------------------------------------------------------------------------------------------


class Returning(asyncio.DatagramProtocol):
    """Sends each datagram back, or keeps it."""

    def __init__(self, faulty: bool, returns: bool) -> None:
        self.faulty = faulty
        self.returns = returns
        self.got: list[bytes] = []
        self.errors = 0
        self.state = "new"
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        assert self.state == "new"
        self.state = "open"
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        assert self.state == "open"
        self.got.append(data)
        if self.returns:
            self.transport.sendto(data, address)

    def error_received(self, exc: OSError) -> None:
        assert self.state == "open"
        assert self.faulty
        self.errors += 1

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self.state == "open"
        assert exc is None
        self.state = "lost"
        self.lost.set_result(None)


async def datagram_endpoint(faulty: bool, returns: bool, **where: Any) -> Returning:
    loop = asyncio.get_running_loop()
    while True:
        try:
            make = functools.partial(Returning, faulty, returns)
            _, protocol = await loop.create_datagram_endpoint(make, **where)
            return protocol
        except OSError as exc:
            if exc.errno not in FULL:
                raise
        await asyncio.sleep(0.1)


async def datagrams(faulty: bool) -> None:
    """Each datagram that comes back was sent. It comes at most twice on each of the two ways."""
    loop = asyncio.get_running_loop()
    server = await datagram_endpoint(faulty, True, local_addr=(HOST, PORT))

    async def by_protocol(name: int, connected: bool) -> None:
        where = {"remote_addr": (HOST, PORT)} if connected else {"local_addr": ("10.0.0.2", 0)}
        client = await datagram_endpoint(faulty, False, **where)
        sent = []
        for number in range(random.randrange(1, 20)):
            sent.append(b"%d %d " % (name, number) + random.randbytes(random.randrange(2000)))
            client.transport.sendto(sent[-1], None if connected else (HOST, PORT))
            if random.random() < 0.5:
                await asyncio.sleep(random.choice((0, 0.001, 0.1)))
        await asyncio.sleep(5)
        assert set(client.got) <= set(sent)
        assert all(client.got.count(data) <= 4 for data in sent)
        client.transport.close()
        client.transport.sendto(b"too late", None if connected else (HOST, PORT))
        await client.lost

    async def by_socket(name: int) -> None:
        sock = await patiently(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with sock:
            sock.setblocking(False)
            for number in range(5):
                data = b"%d %d" % (name, number)
                try:
                    await loop.sock_sendto(sock, data, (HOST, PORT))
                    async with asyncio.timeout(random.choice((0.001, 1))):
                        got, address = await loop.sock_recvfrom(sock, 100)
                except TimeoutError:
                    continue
                except OSError:
                    assert faulty
                    continue
                assert address == (HOST, PORT)
                assert got.startswith(b"%d " % name)

    async with asyncio.TaskGroup() as group:
        for name in range(random.randrange(1, 4)):
            if random.random() < 0.3:
                group.create_task(by_socket(name))
            else:
                group.create_task(by_protocol(name, random.random() < 0.5))
    server.transport.close()
    await server.lost


# ---- Unix sockets ----------------------------------------------------------------------------------------


async def unix(faulty: bool) -> None:
    """Streams and sockets over a path. Each byte comes back."""
    loop = asyncio.get_running_loop()
    path = "/tmp/hoop.sock"
    server: Any
    if random.random() < 0.5:
        by: Any = random.choice((asyncio.start_unix_server, hoop.start_unix_server))
        echo = functools.partial(own.echo_by_streams, faulty)
        server = await start(lambda: by(echo, path))
    else:
        server = await start(lambda: loop.create_unix_server(Echo, path))

    async def ask() -> None:
        data = random.randbytes(random.choice((1, 100, 20_000)))
        got = bytearray()
        try:
            if random.random() < 0.5:
                connect: Any = random.choice(
                    (asyncio.open_unix_connection, hoop.open_unix_connection)
                )
                reader, writer = await connect(path)

                async def write(piece: bytes) -> None:
                    writer.write(piece)
                    await writer.drain()

                sending = asyncio.create_task(send(data, write))
                try:
                    got.extend(await reader.readexactly(len(data)))
                    await sending
                finally:
                    writer.close()
                    await ended(sending)
            else:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, path)
                    sending = asyncio.create_task(send_or_end(sock, data))
                    try:
                        while len(got) < len(data):
                            piece = await loop.sock_recv(sock, 3000)
                            if not piece:
                                raise ConnectionError
                            got.extend(piece)
                    finally:
                        await ended(sending)
                    await sending
        except FAILURES:
            assert faulty
            assert data.startswith(got)
            return
        assert got == data

    async with asyncio.TaskGroup() as group:
        for _ in range(random.randrange(1, 5)):
            group.create_task(ask())
    server.close()
    await server.wait_closed()
    await others_end()


async def send_or_end(sock: socket.socket, data: bytes) -> None:
    """Send by a socket. If that fails, its reads end."""
    loop = asyncio.get_running_loop()
    try:
        await send(data, functools.partial(loop.sock_sendall, sock))
    except OSError:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        raise


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task, whatever it is."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def others_end() -> None:
    """Wait for the tasks and the connections of servers."""
    await asyncio.sleep(2000)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


# ---- TLS over what was plain ------------------------------------------------------------------------------


async def upgrades(faulty: bool) -> None:
    """Connections begin plain, and go on with TLS. Clients may give up meanwhile."""
    serving, asking = contexts()
    gave_up = False

    async def serve(reader: Any, writer: Any) -> None:
        try:
            if await reader.readline() != b"plain\n":
                raise ConnectionError
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(serving)
            await own.echo_by_streams(faulty or gave_up, reader, writer)
        except FAILURES:
            assert faulty or gave_up
        finally:
            writer.close()

    async def ask() -> None:
        nonlocal gave_up
        data = random.randbytes(random.choice((1, 100, 40_000)))
        patience = random.choice((0.001, 0.05, 1000, 1000, 1000))
        gave_up = gave_up or patience < 1000
        connect: Any = random.choice((asyncio.open_connection, hoop.open_connection))
        writer = None
        try:
            async with asyncio.timeout(patience):
                reader, writer = await connect(HOST, PORT)
                writer.write(b"plain\n")
                assert await reader.readline() in (b"go\n", b"")
                await writer.start_tls(asking, server_hostname="localhost")
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
        except FAILURES:
            assert faulty or gave_up
        finally:
            if writer is not None:
                writer.close()
                with contextlib.suppress(*FAILURES):
                    await writer.wait_closed()

    by: Any = random.choice((asyncio.start_server, hoop.start_server))
    server = await start(lambda: by(serve, HOST, PORT))
    async with asyncio.TaskGroup() as group:
        for _ in range(random.randrange(1, 4)):
            group.create_task(ask())
    server.close()
    await server.wait_closed()
    await others_end()


# ---- sendfile ---------------------------------------------------------------------------------------------


async def sendfile(faulty: bool, with_tls: bool) -> None:
    """A client sends a part of a file, by a transport or a socket. The server gets that part, or less."""
    loop = asyncio.get_running_loop()
    serving, asking = contexts() if with_tls else (None, None)
    offset, count = random.randrange(20_000), random.choice((1, 4000, 25_000))
    whole = TEXT[offset : offset + count]
    came: list[bytearray] = []

    class Keeping(Checked):
        def __init__(self) -> None:
            super().__init__()
            self.got = bytearray()
            came.append(self.got)

        def data_received(self, piece: bytes) -> None:
            super().data_received(piece)
            self.got += piece
            if random.random() < 0.1:
                self.transport.pause_reading()
                loop.call_later(0.01, self.go_on)

        def go_on(self) -> None:
            if not self.transport.is_closing():
                self.transport.resume_reading()

    server = await start(lambda: loop.create_server(Keeping, HOST, PORT, ssl=serving))
    # Processes would share the offset of FILE.
    file = open(FILE.name, "rb")  # noqa: SIM115, closed below
    done = False
    try:
        if random.random() < 0.5 or with_tls:
            transport, client = await loop.create_connection(Checked, HOST, PORT, ssl=asking)
            try:
                transport.write(b"head")
                if transport.is_closing():  # sendfile() would raise RuntimeError
                    raise ConnectionError
                assert await loop.sendfile(transport, file, offset, count) == count
                transport.write(b"tail")
            finally:
                transport.close()
            done = await client.lost is None
        else:
            with await patiently(socket.socket) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, (HOST, PORT))
                await loop.sock_sendall(sock, b"head")
                assert await loop.sock_sendfile(sock, file, offset, count) == count
                await loop.sock_sendall(sock, b"tail")
            done = True
    except FAILURES:
        assert faulty
    finally:
        file.close()
    await asyncio.sleep(2000)
    assert done or faulty
    for got in came:
        assert (b"head" + whole + b"tail").startswith(got)
        assert len(got) == 8 + count or faulty
    server.close()
    await server.wait_closed()


# ---- cancelled calls --------------------------------------------------------------------------------------


async def cutting(faulty: bool) -> None:
    """Each read gives up after a moment, and is tried again. No byte is lost, and none comes twice."""
    loop = asyncio.get_running_loop()
    end = await own.serve(random.choice(("protocol", "buffered", "asyncio", "hoop")), faulty, None)

    async def again(call: Any) -> Any:
        """Make a call again and again, until it ends in time."""
        while True:
            task = asyncio.ensure_future(call())
            if random.random() < 0.5:
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(task, random.choice((0, 0.0005, 0.01, 1)))
                # From Python 3.12 on a task may end in time, and wait_for() say that it did not.
            else:
                await asyncio.wait([task], timeout=random.choice((0, 0.0005, 0.01, 1)))
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                return task.result()

    async def by_socket(data: bytes, got: bytearray) -> None:
        with await patiently(socket.socket) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (HOST, PORT))
            sending = asyncio.create_task(send_or_end(sock, data))
            try:
                while len(got) < len(data):
                    piece = await again(lambda: loop.sock_recv(sock, 1000))
                    if not piece:
                        raise ConnectionError
                    got.extend(piece)
            finally:
                sending.cancel()
                await ended(sending)

    async def by_streams(data: bytes, got: bytearray) -> None:
        connect: Any = random.choice((asyncio.open_connection, hoop.open_connection))
        reader, writer = await connect(HOST, PORT)
        try:
            writer.write(data)
            while len(got) < len(data):
                piece = await again(lambda: reader.read(random.randrange(1, 3000)))
                if not piece:
                    raise ConnectionError
                got.extend(piece)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask() -> None:
        data = random.randbytes(random.choice((1, 100, 20_000)))
        got = bytearray()
        try:
            await random.choice((by_socket, by_streams))(data, got)
        except FAILURES:
            assert faulty
            assert data.startswith(got)
            return
        assert got == data

    async def give_up() -> None:
        """Connect, and go away at any time."""
        connect: Any = random.choice((asyncio.open_connection, hoop.open_connection))
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(random.random() * 0.1):
                _, writer = await connect(HOST, PORT)
                writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(random.randrange(1, 4)):
            group.create_task(ask())
        if random.random() < 0.5:
            group.create_task(give_up())
    await end()
    await others_end()


# ---- the end of servers and connections -------------------------------------------------------------------


class Half(Checked):
    """Keeps its half open after the end of the other one, and says how much came."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.size += len(data)

    def eof_received(self) -> bool:
        super().eof_received()
        asyncio.get_running_loop().call_later(random.random() * 0.1, self.answer)
        return True

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"%d" % self.size)
            self.transport.close()


async def closing(faulty: bool) -> None:
    """A server is closed while clients come. All its connections end, and wait_closed() waits for them."""
    loop = asyncio.get_running_loop()
    made: list[Half] = []

    def make() -> Half:
        made.append(Half())
        return made[-1]

    server = await start(lambda: loop.create_server(make, HOST, PORT))
    serving = asyncio.create_task(server.serve_forever()) if random.random() < 0.3 else None
    way = random.choice(("close", "close", "abort_clients", "close_clients"))
    if sys.version_info < (3, 13):
        way = "close"

    async def ask() -> None:
        size = random.choice((0, 1, 30_000))
        got = bytearray()
        await asyncio.sleep(random.random() * 0.2)
        try:
            transport, client = await loop.create_connection(lambda: Client(-1, got), HOST, PORT)
        except OSError:  # the server is closed
            return
        try:
            transport.write(bytes(size))
            if random.random() < 0.8:
                transport.write_eof()
                assert await client.lost is None or faulty or way != "close"
                assert got in (b"%d" % size, b"") or faulty or way != "close"
        finally:
            random.choice((transport.close, transport.abort))()
            await client.lost

    async with asyncio.TaskGroup() as group:
        for _ in range(random.randrange(1, 5)):
            group.create_task(ask())
        await asyncio.sleep(random.random() * 0.2)
        server.close()
        if way != "close":
            getattr(server, way)()
    if serving is not None:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    await server.wait_closed()
    await asyncio.sleep(0)
    if sys.version_info >= (3, 12):
        assert all(half.state in ("new", "lost") for half in made)
    for half in made:
        if half.state != "new":
            await half.lost


# ---- files ------------------------------------------------------------------------------------------------


async def files(faulty: bool) -> None:
    """Tasks write blocks to one file, and read them. A block is as it was before a write, or after it."""
    blocks = 8
    allowed: list[set[bytes]] = [{bytes(BLOCK)} for _ in range(blocks)]

    async def opened(mode: str) -> Any:
        while True:
            try:
                return await hoop.open("/data/blocks", mode)
            except OSError as exc:
                if exc.errno not in FULL:
                    raise
            await asyncio.sleep(0.01)

    async def work(own_block: int) -> None:
        file = await opened("r+b")
        async with file:
            for _ in range(random.randrange(1, 10)):
                if random.random() < 0.5:
                    block = random.randbytes(BLOCK)
                    allowed[own_block].add(block)
                    await file.seek(own_block * BLOCK)
                    await file.write(block)
                    await file.flush()
                    allowed[own_block] = {block}
                await file.seek(own_block * BLOCK)
                assert await file.read(BLOCK) in allowed[own_block]
                if random.random() < 0.2:
                    await asyncio.sleep(0.01)

    async with await opened("wb") as file:
        await file.write(bytes(BLOCK * blocks))
    tasks = [asyncio.create_task(work(i)) for i in range(random.randrange(1, blocks))]
    for task in tasks:
        if random.random() < 0.3:
            await asyncio.sleep(random.random() * 0.1)
            task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    async with await opened("rb") as file:
        data = await file.read()
    assert len(data) == BLOCK * blocks


# ---- executors --------------------------------------------------------------------------------------------


async def executors() -> None:
    """Calls in executors answer once, with their own context, or are cancelled."""
    loop = asyncio.get_running_loop()
    number = contextvars.ContextVar("number", default=-1)
    calls: list[int] = []

    def work(i: int, fails: bool) -> int:
        calls.append(i)
        if fails:
            raise ZeroDivisionError
        return number.get()

    async def ask(i: int) -> None:
        number.set(i)
        fails = random.random() < 0.2
        try:
            if random.random() < 0.5:
                assert await asyncio.to_thread(work, i, fails) == i
            else:
                assert await loop.run_in_executor(None, work, i, fails) == -1
            assert not fails
        except ZeroDivisionError:
            assert fails
        assert i in calls

    tasks = [asyncio.create_task(ask(i)) for i in range(random.randrange(1, 10))]
    for task in tasks:
        if random.random() < 0.2:
            await asyncio.sleep(random.random())
            task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    assert len(calls) == len(set(calls))


PROGRAMS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    **{
        f"{program.__name__}{' with faults' if faulty else ''}": functools.partial(program, faulty)
        for program in (datagrams, unix, upgrades, cutting, closing, files)
        for faulty in (False, True)
    },
    "sendfile": functools.partial(sendfile, False, False),
    "sendfile with faults": functools.partial(sendfile, True, False),
    "sendfile over TLS": functools.partial(sendfile, False, True),
    "executors": executors,
}


def prepare(name: str) -> tuple[Callable[[], Coroutine[Any, Any, None]], dict[str, Any]]:
    """A program as a main function, and the settings of its simulation."""
    contexts()  # a simulation could not start openssl
    faults = own.FAULTS if "faults" in name else None
    settings: dict[str, Any] = {"order": "mix", "faults": faults}
    if name.startswith("files"):
        settings["disk"] = hoop.sim.Disk(short_reads=0.1, short_writes=0.1)
        settings["disk"].write("/data/other", b"")
    return functools.partial(own.watched, PROGRAMS[name]), settings
