"""Programs that use hoop in a simulation as hard as they can, and check all that they see.

    connections     protocols, streams and sockets send each other random bytes, also over TLS
    sharing         tasks share queues, locks and semaphores, and are cancelled at any await
    families        groups, timeouts and gatherings inside each other, some of which fail

`make simulate` runs each with very many seeds, and test_own.py with a few. The module `random` is the seed's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import random
import socket
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from peers import make_certificate

import hoop
import hoop.sim

HOST, PORT = "10.0.0.1", 4000
LIMITS = (100, 3000, 65536)  # of streams: they stop to read at twice that
# A fault may raise these in a connection.
FAILURES = (OSError, asyncio.IncompleteReadError)
FULL = (errno.EMFILE, errno.ENFILE)
FAULTS = hoop.sim.Faults(
    reset=0.01,
    refuse=0.05,
    timeout=0.02,
    emfile=0.02,
    enobufs=0.003,
    econnaborted=0.02,
    epipe=0.003,
)


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server and for the clients. Signatures by RSA have one length, so traces can be equal."""
    with tempfile.TemporaryDirectory() as folder:
        cert, key = make_certificate(Path(folder), "rsa:2048")
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(cert, key)
        asking = ssl.create_default_context(cafile=cert)
    asking.check_hostname = False
    return serving, asking


# ---- connections: the servers give back what they get ----------------------------------------------------


class Checked(asyncio.Protocol):
    """Checks the order of what it is told."""

    def __init__(self) -> None:
        self.state = "new"
        self.paused = False
        self.room = asyncio.Event()
        self.room.set()
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        assert self.state == "new"
        self.state = "open"
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.state == "open"
        assert data

    def eof_received(self) -> bool | None:
        assert self.state == "open"
        self.state = "ended"
        return None

    def pause_writing(self) -> None:
        assert not self.paused
        assert self.state in ("open", "ended")
        self.paused = True
        self.room.clear()

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False
        self.room.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self.state in ("open", "ended")
        self.state = "lost"
        self.room.set()
        self.lost.set_result(exc)


class Echo(Checked):
    """Sends back what it gets. It does not read while it may not write."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        half = random.randrange(len(data) + 1)
        if random.random() < 0.3:
            self.transport.writelines([data[:half], b"", bytearray(data[half:])])
        else:
            self.transport.write(data[:half])
            self.transport.write(memoryview(data)[half:])

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.resume_reading()


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    """The same, with a buffer of its own."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(random.randrange(1, 5000))
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        assert 0 < n <= len(self.buffer)
        self.data_received(bytes(self.buffer[:n]))


async def echo_by_streams(faulty: bool, reader: Any, writer: Any) -> None:
    try:
        while data := await reader.read(random.randrange(1, 3000)):
            writer.write(data)
            if random.random() < 0.7:
                await writer.drain()
        if writer.can_write_eof() and random.random() < 0.5:
            writer.write_eof()
        writer.close()
        await writer.wait_closed()
    except FAILURES:
        assert faulty
    finally:
        writer.close()


async def patiently(make: Callable[[], Any]) -> Any:
    """Make something, once the kernel has a descriptor for it."""
    while True:
        try:
            return make()
        except OSError as exc:
            if exc.errno not in FULL:
                raise
        await asyncio.sleep(0.1)


async def start(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Start a server. Before Python 3.13 it has no sockets if the kernel has none."""
    while True:
        try:
            server = await make()
            if server.sockets:
                return server
            server.close()
        except OSError as exc:
            if exc.errno not in FULL and "could not bind" not in str(exc):
                raise
        await asyncio.sleep(0.1)


async def echo_by_sockets(faulty: bool, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    async def echo(sock: socket.socket) -> None:
        with sock:
            try:
                while data := await loop.sock_recv(sock, random.randrange(1, 3000)):
                    await loop.sock_sendall(sock, data)
            except FAILURES:
                assert faulty

    async with asyncio.TaskGroup() as group:
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError:
                assert faulty
                await asyncio.sleep(0.1)
                continue
            group.create_task(echo(sock))


async def serve(kind: str, faulty: bool, tls: ssl.SSLContext | None) -> Callable[[], Any]:
    """Start a server. Returns the coroutine function that ends it."""
    loop = asyncio.get_running_loop()
    protocols: list[Checked] = []
    server: Any
    if kind == "sockets":
        listening = await patiently(socket.socket)
        listening.setblocking(False)
        listening.bind((HOST, PORT))
        listening.listen()
        task = asyncio.create_task(echo_by_sockets(faulty, listening))

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            listening.close()

        return end
    if kind in ("asyncio", "hoop"):
        by: Any = asyncio.start_server if kind == "asyncio" else hoop.start_server
        echo = functools.partial(echo_by_streams, faulty)
        server = await start(lambda: by(echo, HOST, PORT, ssl=tls, limit=random.choice(LIMITS)))
    else:

        def make() -> Checked:
            protocols.append(Echo() if kind == "protocol" else BufferedEcho())
            return protocols[-1]

        server = await start(lambda: loop.create_server(make, HOST, PORT, ssl=tls))

    async def end() -> None:
        server.close()
        await server.wait_closed()
        for protocol in protocols:
            if protocol.state != "new":  # a handshake of TLS that fails makes no connection
                exc = await protocol.lost
                assert faulty or exc is None

    return end


async def send(data: bytes, write: Callable[[bytes], Coroutine[Any, Any, Any]]) -> None:
    """Send in pieces, and rest at times."""
    at = 0
    while at < len(data):
        n = random.randrange(1, 4000)
        await write(data[at : at + n])
        at += n
        if random.random() < 0.2:
            await asyncio.sleep(random.choice((0, 0.001, 0.1)))


async def read_some(reader: Any, left: int) -> bytes:
    """Read a part of the bytes that are left, or the end: what is there, or more than the stream keeps."""
    n = random.randrange(1, 3000)
    if left and random.random() < 0.3:
        exactly: bytes = await reader.readexactly(min(n, left))
        return exactly
    some: bytes = await reader.read(n)
    return some


async def ask_by_streams(kind: str, data: bytes, tls: Any, got: bytearray) -> None:
    connect: Any = asyncio.open_connection if kind == "asyncio" else hoop.open_connection
    reader, writer = await connect(HOST, PORT, ssl=tls, limit=random.choice(LIMITS))

    async def write(piece: bytes) -> None:
        writer.write(piece)
        await writer.drain()

    async def pump() -> None:
        await send(data, write)
        if writer.can_write_eof():
            writer.write_eof()

    async def take() -> None:
        while len(got) < len(data) or not tls:
            piece = await read_some(reader, len(data) - len(got))
            got.extend(piece)
            if not piece:
                return

    try:
        await asyncio.gather(pump(), take())
    finally:
        writer.close()
        await writer.wait_closed()


class Client(Checked):
    """Collects what it gets."""

    def __init__(self, n: int, got: bytearray) -> None:
        super().__init__()
        self.got = got
        self.n = n

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.got.extend(data)
        if len(self.got) == self.n:
            self.transport.close()
        elif random.random() < 0.1:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.01, self.go_on)

    def go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


async def ask_by_protocol(data: bytes, tls: Any, got: bytearray) -> None:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(
        lambda: Client(len(data), got), HOST, PORT, ssl=tls
    )

    async def write(piece: bytes) -> None:
        await client.room.wait()
        if not client.lost.done():
            transport.write(piece)

    try:
        await send(data, write)
        exc = await client.lost
        if exc is not None:
            raise exc
    finally:
        transport.abort()


async def ask_by_sockets(data: bytes, got: bytearray) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (HOST, PORT))

        async def take() -> None:
            while piece := await loop.sock_recv(sock, random.randrange(1, 3000)):
                got.extend(piece)

        async def pump() -> None:
            await send(data, functools.partial(loop.sock_sendall, sock))
            sock.shutdown(socket.SHUT_WR)

        taking = asyncio.create_task(take())
        pumping = asyncio.create_task(pump())
        try:
            await asyncio.gather(taking, pumping)
        finally:
            taking.cancel()
            pumping.cancel()
            await asyncio.wait([taking, pumping])


async def ask(faulty: bool, tls: ssl.SSLContext | None) -> None:
    data = random.randbytes(random.choice((1, 100, 5000, 40_000)))
    got = bytearray()
    kinds = ("protocol", "asyncio", "hoop") if tls else ("protocol", "asyncio", "hoop", "sockets")
    kind = random.choice(kinds)
    try:
        if kind == "sockets":
            await ask_by_sockets(data, got)
        elif kind == "protocol":
            await ask_by_protocol(data, tls, got)
        else:
            await ask_by_streams(kind, data, tls, got)
    except FAILURES:
        assert faulty
        assert data.startswith(got)
        return
    assert got == data or (faulty and data.startswith(got))


async def connections(faulty: bool, with_tls: bool) -> None:
    """Some clients of each kind at a server of one kind. Each byte comes back, in its place."""
    serving, asking = contexts() if with_tls else (None, None)
    kinds = ("protocol", "buffered", "asyncio", "hoop", *([] if with_tls else ["sockets"]))
    end = await serve(random.choice(kinds), faulty, serving)
    async with asyncio.TaskGroup() as group:
        for _ in range(random.randrange(1, 5)):
            group.create_task(ask(faulty, asking))
    await end()
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


# ---- sharing ---------------------------------------------------------------------------------------------


class Shared:
    """The things that the tasks share, and counts of their uses."""

    def __init__(self) -> None:
        native = random.random() < 0.5
        self.lock: Any = hoop.Lock() if native else asyncio.Lock()
        self.n = random.randrange(1, 4)
        self.slots: Any = hoop.Semaphore(self.n) if native else asyncio.Semaphore(self.n)
        self.queue: Any = (hoop.Queue if native else asyncio.Queue)(random.randrange(4))
        self.holders = self.inside = self.made = 0
        self.waiting = dict.fromkeys((self.lock, self.slots, self.queue.get, self.queue.put), 0)
        self.put: list[int] = []
        self.got: list[int] = []

    @contextlib.contextmanager
    def counted(self, what: Any) -> Iterator[None]:
        """Count a task that may have to wait for this."""
        self.waiting[what] += 1
        try:
            yield
        finally:
            self.waiting[what] -= 1

    async def hold(self) -> None:
        with self.counted(self.lock):
            await self.lock.acquire()
        self.holders += 1
        assert self.holders == 1
        try:
            await pause()
        finally:
            self.holders -= 1
            self.lock.release()

    async def enter(self) -> None:
        with self.counted(self.slots):
            await self.slots.acquire()
        self.inside += 1
        assert self.inside <= self.n
        try:
            await pause()
        finally:
            self.inside -= 1
            self.slots.release()

    async def produce(self) -> None:
        self.made += 1
        item = self.made
        with self.counted(self.queue.put):
            await self.queue.put(item)
        self.put.append(item)

    async def consume(self) -> None:
        with self.counted(self.queue.get):
            self.got.append(await self.queue.get())
        self.queue.task_done()

    def check_waiting(self) -> None:
        """When all that is ready has run, a task waits only if it has to."""
        assert self.lock.locked() or not self.waiting[self.lock]
        assert self.inside == self.n or not self.waiting[self.slots]
        assert self.queue.empty() or not self.waiting[self.queue.get]
        assert self.queue.full() or not self.waiting[self.queue.put]


async def pause() -> None:
    await asyncio.sleep(random.choice((0, 0, 0.001, 0.01)))


async def sharing() -> None:
    """Tasks share things, and are cancelled again and again. Nothing is lost, and nothing comes twice."""
    shared = Shared()
    # Not all of them in each world: then some worlds have much of one.
    uses = [shared.hold, shared.enter, shared.produce, shared.consume]
    uses = random.sample(uses, random.randrange(1, 5))
    asked: set[asyncio.Task[None]] = set()
    cancellations = random.randrange(20)

    def cancel_one() -> None:
        nonlocal cancellations
        victim = random.choice(tasks)
        if cancellations == 0 or victim is asyncio.current_task() or victim in asked:
            return
        if victim.cancel():
            cancellations -= 1
            asked.add(victim)

    async def work() -> None:
        task: Any = asyncio.current_task()
        for _ in range(random.randrange(1, 12)):
            try:
                await random.choice(uses)()
                if random.random() < 0.3:  # perhaps one that was woken just now
                    cancel_one()
                await pause()
            except asyncio.CancelledError:
                asked.remove(task)
                task.uncancel()

    tasks = [asyncio.create_task(work()) for _ in range(random.randrange(2, 7))]
    while any(not task.done() for task in tasks):
        await asyncio.sleep(random.uniform(0.0001, 0.03))  # nothing else happens at that time
        shared.check_waiting()
        cancel_one()
        cancellations = max(cancellations, 1)
    for task in tasks:
        if not task.cancelled():  # before its first step
            task.result()
    assert not shared.lock.locked()
    for _ in range(shared.n):
        assert not shared.slots.locked()
        await shared.slots.acquire()
    assert shared.slots.locked()
    while not shared.queue.empty():
        shared.got.append(shared.queue.get_nowait())
    assert len(set(shared.got)) == len(shared.got)
    assert set(shared.got) == set(shared.put)


# ---- families --------------------------------------------------------------------------------------------


class Planned(Exception):
    """A task fails on purpose."""


async def families() -> None:
    """Tasks in groups, gatherings and timeouts. None outlives its parent, and no time comes early."""
    loop = asyncio.get_running_loop()
    alive = 0

    async def node(depth: int) -> None:
        nonlocal alive
        alive += 1
        try:
            await random.choice(kinds if depth else (rest,))(depth - 1)
            if random.random() < 0.1:
                raise Planned
        finally:
            alive -= 1

    async def rest(_depth: int) -> None:
        await pause()

    async def group(depth: int) -> None:
        children = []
        cls: Any = random.choice((asyncio.TaskGroup, hoop.TaskGroup))
        try:
            async with cls() as tasks:
                for _ in range(random.randrange(1, 4)):
                    children.append(tasks.create_task(node(depth)))
                await pause()
        except* Planned:
            pass
        finally:
            assert all(child.done() for child in children)

    async def gathering(depth: int) -> None:
        gather: Any = random.choice((asyncio.gather, hoop.gather))
        children = [asyncio.create_task(node(depth)) for _ in range(random.randrange(1, 4))]
        try:
            await gather(*children)
        except Planned:
            assert any(child.done() for child in children)
        finally:
            await asyncio.gather(*children, return_exceptions=True)

    async def limited(depth: int) -> None:
        timeout: Any = random.choice((asyncio.timeout, hoop.timeout))
        seconds = random.choice((0.0005, 0.005, 0.05))
        due = loop.time() + seconds
        try:
            async with timeout(seconds):
                await node(depth)
        except TimeoutError:
            assert loop.time() >= due

    async def waited_for(depth: int) -> None:
        wait_for: Any = random.choice((asyncio.wait_for, hoop.wait_for))
        seconds = random.choice((0.0005, 0.005, 0.05))
        due = loop.time() + seconds
        try:
            await wait_for(node(depth), seconds)
        except TimeoutError:
            assert loop.time() >= due

    kinds = (rest, group, gathering, limited, waited_for)
    root = asyncio.create_task(node(4))
    if random.random() < 0.5:
        await pause()
        root.cancel()
    await asyncio.wait([root])
    if not root.cancelled() and root.exception() is not None:
        assert isinstance(root.exception(), (Planned, BaseExceptionGroup))
    await asyncio.sleep(1)
    assert alive == 0


async def watched(
    program: Callable[[], Coroutine[Any, Any, None]],
    forgotten: tuple[type[BaseException], ...] = (),
) -> None:
    """Run a program. All that its loop reports is a fault, but for planned failures that nobody looked at,
    and failures of tasks that are `forgotten`.
    """
    reports: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report))
    await program()
    for report in reports:
        exc = report.get("exception")
        out = report["message"] == "socket.accept() out of system resource"
        if isinstance(exc, forgotten) and report["message"].endswith("never retrieved"):
            continue
        assert isinstance(exc, Planned) or (out and isinstance(exc, OSError) and exc.errno in FULL)


PROGRAMS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "connections": functools.partial(connections, False, False),
    "faults": functools.partial(connections, True, False),
    "tls": functools.partial(connections, False, True),
    "tls faults": functools.partial(connections, True, True),
    "sharing": sharing,
    "families": families,
}


def prepare(name: str) -> tuple[Callable[[], Coroutine[Any, Any, None]], dict[str, Any]]:
    """A program as a main function, and the settings of its simulation."""
    if "tls" in name:
        contexts()  # a simulation could not start openssl
    faults = FAULTS if "faults" in name else None
    return functools.partial(watched, PROGRAMS[name]), {"order": "mix", "faults": faults}


def simulate(name: str, seeds: Any, **options: Any) -> None:
    """Run a program with these seeds. Raises what the first of them raises that fails."""
    main, settings = prepare(name)
    hoop.sim.explore(main, seeds=seeds, **{**settings, **options})
