"""Keeps one loop busy with everything at once for a long time, and looks whether anything is left over.

The question it answers: do descriptors, live operations, tasks or memory grow, or is a byte lost?
Connections of all kinds, files, threads and children come and go, for minutes or for hours. They are
cancelled, aborted and starved of descriptors. The question it cannot answer: how fast any of it is.

Workers go through scenarios in an order that the seed fixes. Every byte they send comes back through a
server on the same loop and is compared. From time to time all workers stop. Then every count has to be the
same as at the first such calm. At the end the memory has to be the same as halfway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import os
import random
import resource
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from loops import HOOP, LOOPS, loop_factory
from processes import BUILD, Absent, certificate
from workloads import Unavailable, attribute
from workloads.servers import make_context

WORKERS = 24
SCENARIO_TIMEOUT_S = 60
FIRST_CALM_AFTER_S, CALM_EVERY_S = 4.0, 10.0
STARVED_S, STARVED_TURNS = 0.5, 20
DESCRIPTORS_MAX = 400
MESSAGE_BYTES_MAX = 200_000
SLOW_BYTES = 3_000_000
# Memory may differ by so much between the second and the last third of the calms.
GROWTH_RATIO, GROWTH_BYTES = 1.02, 1 << 20
CALMS_FOR_MEMORY = 6

PATTERN = random.Random(0).randbytes(1 << 20)
# Asks a process for everything that it shows, again and again.
LOOKER = """
import sys
from hoop.cli import client
VIEWS = (
    "overview tasks tree stack stalls sites connections servers locks timers pools"
    " children cycles metrics"
)
asked = 0
with client.connect(sys.argv[1], patience=60) as connection:
    while True:
        for view in VIEWS.split():
            connection.ask(view, look=True, top=200)
            asked += 1
            print(asked, flush=True)
"""
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset.
SHORT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


Scenario = Callable[[random.Random], Coroutine[Any, Any, None]]


class Wrong(Exception):
    """Something came back that was not sent, or did not come back."""


def payload(start: int, size: int) -> bytes:
    """Return so many bytes of an endless pattern."""
    start %= len(PATTERN)
    repeats = (start + size) // len(PATTERN) + 1
    return (PATTERN * repeats)[start : start + size]


class EchoProtocol(asyncio.Protocol):
    """Sends back every byte, and reads no more while the other side does not."""

    transport: asyncio.Transport
    open = 0  # Of all connections together.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        EchoProtocol.open += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        EchoProtocol.open -= 1


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Soak:
    """The servers, the workers and what they did."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.done: Counter[str] = Counter()
        self.bytes_verified = 0
        self.wrong: list[str] = []
        self.starved = False
        self.stopping = False
        self.may_run = asyncio.Event()
        self.resting = 0  # Workers that wait for that.
        self.client_context: ssl.SSLContext | None = None
        self.addresses: dict[str, Any] = {}
        self._servers: list[Any] = []
        self._streams_open = 0

    # ---- servers ----

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        tcp = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
        self.addresses["tcp"] = tcp.sockets[0].getsockname()
        streams = await asyncio.start_server(self._echo_stream, "127.0.0.1", 0)
        self.addresses["streams"] = streams.sockets[0].getsockname()
        path = os.path.relpath(self.folder / "socket")
        unix = await loop.create_unix_server(EchoProtocol, path)
        self.addresses["unix"] = path
        self._servers = [tcp, streams, unix]
        try:
            server_context = make_context(**certificate())
            self.client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.client_context.check_hostname = False
            self.client_context.verify_mode = ssl.CERT_NONE
            tls = await loop.create_server(EchoProtocol, "127.0.0.1", 0, ssl=server_context)
            self.addresses["tls"] = tls.sockets[0].getsockname()
            self._servers.append(tls)
        except Absent as reason:
            print(f"without TLS: {reason}")
        try:
            start_server = attribute("hoop", "start_server")
            native = await start_server(self._echo_stream, "127.0.0.1", 0)
            self.addresses["native"] = native.sockets[0].getsockname()
            self._servers.append(native)
        except Unavailable as reason:
            print(f"without native streams: {reason}")
        datagrams, _ = await loop.create_datagram_endpoint(EchoDatagrams, ("127.0.0.1", 0))
        self.addresses["udp"] = datagrams.get_extra_info("sockname")
        self._servers.append(datagrams)

    def stop_serving(self) -> None:
        for server in self._servers:
            server.close()

    async def _echo_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._streams_open += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            self.done["streams that the client reset"] += 1
        finally:
            writer.close()
            self._streams_open -= 1

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if isinstance(exc, OSError) and exc.errno in SHORT_OF_DESCRIPTORS:
            self.done["accepts without a descriptor"] += 1
        else:
            self._fail(f"{context.get('message')}: {exc!r}")

    def _fail(self, text: str) -> None:
        self.wrong.append(text)
        self.stopping = True

    # ---- what workers do ----

    async def open_stream(self, rng: random.Random) -> tuple[Any, Any]:
        kind = rng.choice([name for name in self.addresses if name != "udp"])
        address = self.addresses[kind]
        if kind == "unix":
            return await asyncio.open_unix_connection(address)
        context = self.client_context if kind == "tls" else None
        if kind == "native":
            opened = await attribute("hoop", "open_connection")(*address)
            return opened[0], opened[1]
        return await asyncio.open_connection(*address, ssl=context)

    def verify(self, got: bytes, start: int) -> None:
        if got != payload(start, len(got)):
            raise Wrong(f"{len(got)} bytes from {start} on are not what was sent")
        self.bytes_verified += len(got)

    async def exchange(self, rng: random.Random) -> None:
        """Messages of all sizes there and back."""
        reader, writer = await self.open_stream(rng)
        position = 0
        try:
            for _ in range(rng.randrange(1, 20)):
                size = (
                    int(rng.choice((1, 64, 1000, 20_000, MESSAGE_BYTES_MAX)) * rng.uniform(0.5, 1))
                    or 1
                )
                writer.write(payload(position, size))
                self.verify(await reader.readexactly(size), position)
                position += size
        finally:
            writer.close()
        await writer.wait_closed()

    async def half_close(self, rng: random.Random) -> None:
        """All is sent, then the end; all comes back, then the end."""
        reader, writer = await asyncio.open_connection(*self.addresses["streams"])
        try:
            size = rng.randrange(1, MESSAGE_BYTES_MAX)
            writer.write(payload(0, size))
            writer.write_eof()
            got = await reader.read()
            if len(got) != size:
                raise Wrong(f"{len(got)} bytes before the end instead of {size}")
            self.verify(got, 0)
        finally:
            writer.close()
        await writer.wait_closed()

    async def by_sockets(self, rng: random.Random) -> None:
        """The loop's socket methods."""
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self.addresses["tcp"])
            position = 0
            for _ in range(rng.randrange(1, 10)):
                size = rng.randrange(1, 50_000)
                await loop.sock_sendall(sock, payload(position, size))
                end = position + size
                while position < end:
                    got = await loop.sock_recv(sock, end - position)
                    if not got:
                        raise Wrong("the end came too early")
                    self.verify(got, position)
                    position += len(got)

    async def slow_reader(self, rng: random.Random) -> None:
        """A client that sends much and only then reads, in small pieces: both sides have to wait."""
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.setblocking(False)
            await loop.sock_connect(sock, self.addresses["tcp"])
            sending = asyncio.create_task(loop.sock_sendall(sock, payload(0, SLOW_BYTES)))
            try:
                position = 0
                while position < SLOW_BYTES:
                    if rng.random() < 0.05:
                        await asyncio.sleep(0.001)
                    got = await loop.sock_recv(sock, rng.randrange(1, 100_000))
                    if not got:
                        raise Wrong("the end came too early")
                    self.verify(got, position)
                    position += len(got)
                await sending
            finally:
                sending.cancel()
                await asyncio.wait([sending])

    async def abort(self, rng: random.Random) -> None:
        """A connection that is reset while bytes are under way in both directions."""
        _, writer = await self.open_stream(rng)
        writer.write(payload(0, MESSAGE_BYTES_MAX))
        for _ in range(rng.randrange(10)):
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except OSError:
            self.done["aborts that were reported"] += 1

    async def cancel(self, rng: random.Random) -> None:
        """Any other scenario, cancelled somewhere in it."""
        scenario = rng.choice([s for s in self.scenarios() if s != self.cancel])
        task = asyncio.create_task(scenario(rng))
        await asyncio.sleep(rng.uniform(0, 0.01)) if rng.random() < 0.5 else None
        for _ in range(rng.randrange(20)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]

    async def datagrams(self, rng: random.Random) -> None:
        """Datagrams there and back, one at a time. One that is lost, or late, is sent again."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[bytes] = asyncio.Queue()

        class Inbox(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                inbox.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Inbox, remote_addr=self.addresses["udp"])
        sent_twice: set[bytes] = set()  # if it was only late, the second one comes back too
        try:
            for i in range(rng.randrange(1, 30)):
                sent = payload(i * 1000, rng.randrange(1, 1400))
                got = b""
                while not got:
                    transport.sendto(sent)
                    try:
                        while not got or (got in sent_twice and got != sent):
                            got = await asyncio.wait_for(inbox.get(), 1)
                    except TimeoutError:
                        self.done["datagrams lost or late"] += 1
                        sent_twice.add(sent)
                        got = b""
                self.verify(got, i * 1000)
        finally:
            transport.close()

    async def timeouts(self, rng: random.Random) -> None:
        """Timers that fire, and many more that do not."""
        for _ in range(rng.randrange(1, 50)):
            async with asyncio.timeout(60):
                await asyncio.sleep(rng.choice((0, 0, 0.001)))
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.002)
        except TimeoutError:
            return
        raise Wrong("a time limit did not end what never ends")

    async def threads(self, rng: random.Random) -> None:
        """Work in the executor, callbacks from it, and a name looked up."""
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        await asyncio.to_thread(loop.call_soon_threadsafe, called.set)
        await called.wait()
        found = await loop.getaddrinfo(
            "localhost", rng.randrange(1, 65536), type=socket.SOCK_STREAM
        )
        if not found:
            raise Wrong("localhost has no address")

    async def child(self, rng: random.Random) -> None:
        """A child that sends back what it gets; or that is killed."""
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            if rng.random() < 0.7:
                size = rng.randrange(1, MESSAGE_BYTES_MAX)
                got, _ = await process.communicate(payload(0, size))
                if len(got) != size:
                    raise Wrong(f"{len(got)} bytes from the child instead of {size}")
                self.verify(got, 0)
        finally:
            if process.returncode is None:
                process.kill()
                await process.stdout.read()  # A pipe that is paused does not see its end.
                await process.wait()

    async def file(self, rng: random.Random) -> None:
        """A file written, read as a whole and in lines."""
        path = self.folder / f"file-{rng.randrange(1 << 60)}"
        open_file = attribute("hoop", "open")
        size = rng.randrange(1, MESSAGE_BYTES_MAX)
        try:
            async with open_file(path, "wb") as file:
                await file.write(payload(0, size))
            async with open_file(path, "rb") as file:
                self.verify(await file.read(), 0)
            async with open_file(path, "rb") as file:
                position = 0
                async for line in file:
                    self.verify(line, position)
                    position += len(line)
                if position != size:
                    raise Wrong(f"lines of {position} bytes in a file of {size}")
        finally:
            path.unlink(missing_ok=True)

    def scenarios(self) -> list[Scenario]:
        """Return them all, as often as they are to be chosen."""
        often = [self.exchange, self.exchange, self.exchange, self.by_sockets, self.datagrams]
        rare = [self.half_close, self.slow_reader, self.abort, self.cancel, self.cancel]
        rare += [self.timeouts, self.threads, self.child]
        try:
            attribute("hoop", "open")
        except Unavailable:
            return [*often, *rare]
        return [*often, *rare, self.file, self.file]

    # ---- the workers, and their calms ----

    def line(self, passed_s: float, counted: dict[str, int], memory: int) -> str:
        """Return what there is at a calm, and what was done until then."""
        there = ", ".join(f"{number} {name}" for name, number in counted.items())
        return (
            f"{passed_s / 60:6.1f} min: {there}, {memory / 1e6:.1f} MB; "
            f"{sum(self.done.values()):,} done, {self.bytes_verified / 1e6:,.0f} MB verified"
        )

    async def work(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        scenarios = self.scenarios()
        while not self.stopping:
            self.resting += 1
            await self.may_run.wait()
            self.resting -= 1
            scenario = rng.choice(scenarios)
            starved = self.starved
            try:
                async with asyncio.timeout(SCENARIO_TIMEOUT_S):
                    await scenario(rng)
                self.done[scenario.__name__] += 1
            except Exception as exc:
                starved = starved or self.starved
                if starved and isinstance(exc, OSError) and not isinstance(exc, TimeoutError):
                    self.done["errors for want of descriptors"] += 1
                    await asyncio.sleep(0.01)
                else:
                    self._fail(f"{scenario.__name__}: {exc!r}")

    async def starve(self) -> None:
        """Take all descriptors that the process may have, for a while.

        Lowering the limit would not do: a request that waits in an io_uring keeps the one it began with.
        """
        self.starved = True
        taken: list[int] = []
        try:
            for _ in range(STARVED_TURNS):
                take_all_descriptors(taken)
                os.close(taken.pop())  # Let one through.
                await asyncio.sleep(STARVED_S / STARVED_TURNS)
        finally:
            for descriptor in taken:
                os.close(descriptor)
        await asyncio.sleep(STARVED_S)  # Tasks that failed to get one may still be ending.
        self.starved = False

    async def calm(self) -> dict[str, int]:
        """Let all finish, and return what is there then."""
        self.may_run.clear()
        deadline = time.monotonic() + SCENARIO_TIMEOUT_S
        while self.resting < WORKERS and not self.stopping:
            await asyncio.sleep(0.05)
        counted: dict[str, int] = {}
        before: dict[str, int] | None = None
        while counted != before or EchoProtocol.open or self._streams_open:
            if time.monotonic() > deadline:
                open_now = EchoProtocol.open + self._streams_open
                raise Wrong(f"no calm: {open_now} connections are open at the server, {counted}")
            await asyncio.sleep(0.1)
            gc.collect()
            before, counted = counted, count_all()
        return counted


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # Without the one that lists them.


def take_all_descriptors(taken: list[int]) -> None:
    """Add to the list all descriptors that the process can still have."""
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as full:
        if full.errno not in SHORT_OF_DESCRIPTORS:
            raise


def count_all() -> dict[str, int]:
    """Return how many there are of what must not grow."""
    counted = {"descriptors": count_descriptors(), "tasks": len(asyncio.all_tasks())}
    try:
        counted["operations"] = attribute("hoop.drivers.op", "count_live_ops")()
    except Unavailable:
        pass
    return counted


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# ---- the run ----


async def run(soak: Soak, seconds: float) -> list[tuple[dict[str, int], int]]:
    """Keep the loop busy for so long. Return what was counted at each calm, and the memory then."""
    await soak.serve()
    workers = [asyncio.create_task(soak.work(number)) for number in range(WORKERS)]
    calms: list[tuple[dict[str, int], int]] = []
    began = time.monotonic()
    busy_s = min(FIRST_CALM_AFTER_S, seconds / 4)
    while not soak.stopping:
        soak.may_run.set()
        await asyncio.sleep(busy_s / 2)
        await soak.starve()
        await asyncio.sleep(busy_s / 2)
        calms.append((await soak.calm(), resident_bytes()))
        passed_s = time.monotonic() - began
        print(soak.line(passed_s, *calms[-1]), flush=True)
        if passed_s >= seconds:
            soak.stopping = True
        busy_s = min(CALM_EVERY_S, seconds / 4)
    soak.may_run.set()
    await asyncio.wait(workers)
    soak.stop_serving()
    return calms


def judge(calms: list[tuple[dict[str, int], int]]) -> list[str]:
    """Return what has grown."""
    first = calms[0][0] if calms else {}
    grown = [
        f"calm {number}: {counted[name] - first[name]:+} {name}"
        for number, (counted, _) in enumerate(calms, 1)
        for name in first
        if counted[name] > first[name]
    ]
    if len(calms) < CALMS_FOR_MEMORY:
        print("too short to say anything about memory")
        return grown
    memory = [resident for _, resident in calms]
    third = len(memory) // 3
    before, after = statistics.median(memory[third : 2 * third]), statistics.median(memory[-third:])
    print(f"memory: {before / 1e6:.1f} MB in the second third, {after / 1e6:.1f} MB in the last")
    if after > before * GROWTH_RATIO + GROWTH_BYTES:
        grown.append(f"memory: {(after - before) / 1e6:+.1f} MB")
    return grown


@contextlib.contextmanager
def observed(folder: Path) -> Iterator[None]:
    """Have this process observed, and let another one ask it for everything all the time."""
    import hoop.observe

    hoop.observe.start(path=str(folder / "socket"))
    answers = folder / "answers"
    with answers.open("wb") as file:
        looker = subprocess.Popen(
            [sys.executable, "-c", LOOKER, str(folder / "socket")], stdout=file
        )
    try:
        while not answers.read_bytes():  # it is connected once it has an answer
            time.sleep(0.1)
        yield
        if looker.poll() is not None:
            raise SystemExit("WRONG\nthe client that looks at this process has ended")
        print(f"{len(answers.read_bytes().splitlines()):,} views were looked at")
    finally:
        looker.kill()
        looker.wait()
        hoop.observe.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5, help="default: %(default)s")
    parser.add_argument("--loop", default=HOOP[0], choices=LOOPS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--observed", action="store_true", help="and somebody looks at it all the time"
    )
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, DESCRIPTORS_MAX))
    try:
        loop = loop_factory(arguments.loop)()
    except Unavailable as reason:
        raise SystemExit(str(reason)) from None
    BUILD.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="soak-") as folder:
        soak = Soak(arguments.seed, Path(folder))
        print(f"{arguments.loop}, seed {soak.seed}, {WORKERS} workers")
        with contextlib.ExitStack() as stack:
            runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
            if arguments.observed:
                runner.run(asyncio.sleep(0))
                stack.enter_context(observed(Path(folder)))
            calms = runner.run(run(soak, arguments.minutes * 60))
    for what, times in sorted(soak.done.items()):
        print(f"{times:8,} {what}")
    wrong = [*soak.wrong, *judge(calms)]
    if wrong or not calms:
        raise SystemExit("WRONG\n" + "\n".join(wrong or ["it never calmed down"]))
    print("all that was sent came back, and nothing was left over")


if __name__ == "__main__":
    main()
