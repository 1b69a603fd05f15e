"""Programs of libraries in a simulation: unmodified servers and clients, with checks of all that they answer.

    aiohttp         uploads in chunks, streamed answers, WebSocket, a timeout, a graceful shutdown
    websockets      fragments, compression, pings, and who closes with which code
    uvicorn         with httpx: lifespan, keep-alive, streams in both directions, a timeout, a shutdown
    asyncpg         its pool and connections, with the server of database.py, also over TLS
    database        the client of database.py in its place

Each also runs with faults of the network: then a client tries again until it has its answer. `make simulate`
runs them with many seeds, and test_libraries.py with one.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import logging
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import database
import database_messages as sql
import database_server
import own

import hoop.sim

HOST, PORT = "10.0.0.1", 80
NAMES = {"web": HOST}
URL = "http://web"
FAULTS = hoop.sim.Faults(
    reset=0.003, refuse=0.03, timeout=0.01, epipe=0.003, econnaborted=0.03, enobufs=0.002
)
SIZES = (0, 1, 5000, 40_000)
PATIENCE = 100.0  # seconds for an answer
TRIES = 100
LIMIT = 100_000.0
QUIET = logging.Logger("quiet", logging.CRITICAL + 1)  # for servers, which log what faults do


async def until_it_works(
    ask: Callable[[], Awaitable[Any]], failures: tuple[type[BaseException], ...], faulty: bool
) -> Any:
    """Call `ask` until it raises none of these. Without faults of the network it does not raise at all."""
    for _ in range(TRIES):
        try:
            return await ask()
        except failures:
            if not faulty:
                raise
            await asyncio.sleep(random.random())
    raise AssertionError(f"{TRIES} tries have failed")


async def send_in_pieces(data: bytes) -> AsyncIterator[bytes]:
    """The data in pieces, with rests between some of them."""
    at = 0
    while at < len(data):
        n = random.randrange(1, 9000)
        yield data[at : at + n]
        at += n
        if random.random() < 0.2:
            await asyncio.sleep(0.01)


async def no_task_is_left() -> None:
    """Wait for the tasks that libraries leave when they close. All of them end by themselves."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=PATIENCE)
        assert not pending


# ---- aiohttp ---------------------------------------------------------------------------------------------


class WebServer:
    """A server of aiohttp."""

    def __init__(self) -> None:
        from aiohttp import web

        self.web = web
        self.working = asyncio.Event()
        self.closed_with: list[int | None] = []
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/reverse", self.reverse)
        app.router.add_get("/stream", self.stream)
        app.router.add_get("/socket", self.talk)
        app.router.add_get("/sleep/{seconds}", self.sleep)
        self.runner = web.AppRunner(app, shutdown_timeout=30, access_log=None, logger=QUIET)

    async def start(self) -> None:
        await self.runner.setup()
        await self.web.TCPSite(self.runner, HOST, PORT).start()

    async def reverse(self, request: Any) -> Any:
        body = await request.read()
        return self.web.Response(body=body[::-1], headers={"sum": str(zlib.crc32(body))})

    async def stream(self, request: Any) -> Any:
        answer = self.web.StreamResponse()
        await answer.prepare(request)
        for n in range(8):
            await answer.write(bytes([n]) * 5000)
        await answer.write_eof()
        return answer

    async def talk(self, request: Any) -> Any:
        socket = self.web.WebSocketResponse(heartbeat=20)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data[::-1])
        self.closed_with.append(socket.close_code)
        return socket

    async def sleep(self, request: Any) -> Any:
        self.working.set()
        await asyncio.sleep(float(request.match_info["seconds"]))
        return self.web.Response(text="done")


async def use_aiohttp(faulty: bool) -> None:
    """Clients of aiohttp get from its server what they have asked for."""
    import aiohttp

    # aiohttp reads from None if its connection is lost between sending and reading.
    failures = (aiohttp.ClientError, TimeoutError, OSError, AttributeError)
    server = WebServer()
    await server.start()
    connector = aiohttp.TCPConnector(limit=2)  # some wait for a connection
    timeout = aiohttp.ClientTimeout(total=PATIENCE)

    async def reverse() -> None:
        data = random.randbytes(random.choice(SIZES))
        body = send_in_pieces(data) if random.random() < 0.5 else data
        async with session.post(f"{URL}/reverse", data=body) as answer:
            assert answer.status == 200
            assert await answer.read() == data[::-1]
            assert answer.headers["sum"] == str(zlib.crc32(data))

    async def stream() -> None:
        got = bytearray()
        async with session.get(f"{URL}/stream") as answer:
            async for piece in answer.content.iter_any():
                got += piece
                await asyncio.sleep(random.choice((0, 0, 0.01)))
        assert got == b"".join(bytes([n]) * 5000 for n in range(8))

    async def talk() -> None:
        async with session.ws_connect(f"{URL}/socket") as socket:
            for size in (1, 200, 40_000):
                data = random.randbytes(size)
                await socket.send_bytes(data)
                message = await socket.receive(PATIENCE)
                if message.type is not aiohttp.WSMsgType.BINARY:
                    raise ConnectionResetError
                assert message.data == data[::-1]
            await socket.close(code=4001)
            # Its timeout for the answer is too short for some networks.

    async def wait_too_long() -> None:
        try:
            async with session.get(f"{URL}/sleep/20", timeout=aiohttp.ClientTimeout(total=2)):
                raise AssertionError("the answer came early")
        except TimeoutError:
            pass

    async def work() -> str:
        async with session.get(f"{URL}/sleep/3") as answer:
            return await answer.text()

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        uses = [reverse, reverse, stream, talk, wait_too_long]
        async with asyncio.TaskGroup() as group:
            for use in random.sample(uses, len(uses)):
                group.create_task(until_it_works(use, failures, faulty))
        server.working.clear()
        working = asyncio.create_task(work())
        begun = asyncio.create_task(server.working.wait())
        await asyncio.wait([working, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        await server.runner.cleanup()  # a graceful one: it lets the handler end
        try:
            assert await working == "done"
        except failures:
            assert faulty
        assert not connector._acquired
    assert connector.closed
    assert faulty or server.closed_with == [4001]
    await no_task_is_left()


# ---- websockets ------------------------------------------------------------------------------------------


async def use_websockets(faulty: bool) -> None:
    """Clients of websockets get their messages back, and both sides know why a connection was closed."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    failures = (ConnectionClosed, InvalidHandshake, TimeoutError, OSError, EOFError)
    codes: list[int] = []
    patient = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "ping_timeout": PATIENCE}

    async def reverse(connection: Any) -> None:
        try:
            async for message in connection:
                await connection.send(message[::-1])
        except ConnectionClosed:
            pass
        finally:
            codes.append(connection.close_code)

    async def talk(n: int) -> None:
        async with connect("ws://web/", **patient) as connection:
            # These are around the limits of its three kinds of lengths.
            for size in (2, 124, 126, 5000, 70_000):
                text = random.randbytes(size // 2).hex()
                third = size // 3
                pieces = [text[:third], text[third : 2 * third], text[2 * third :]]
                await connection.send(pieces if random.random() < 0.5 else text)
                if random.random() < 0.3:
                    assert await (await connection.ping()) >= 0
                assert await connection.recv() == text[::-1]
            await connection.close(4000 + n, "done")
        if (connection.close_code, connection.close_reason) != (4000 + n, "done"):
            assert faulty
            assert connection.close_code == 1006

    async def idle() -> int | None:
        async with connect("ws://web/", **patient) as connection:
            waiting.set()
            async for _ in connection:
                raise AssertionError("nobody has sent anything")
        return connection.close_code

    waiting = asyncio.Event()
    async with serve(reverse, HOST, PORT, logger=QUIET, **patient) as server:
        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(until_it_works(functools.partial(talk, n), failures, faulty))
        idling = asyncio.create_task(until_it_works(idle, failures, False))
        begun = asyncio.create_task(waiting.wait())
        await asyncio.wait([idling, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        server.close()
        await server.wait_closed()
    try:
        assert await idling == 1001
    except failures:
        assert faulty
    assert faulty or sorted(codes) == [1001, 4000, 4001, 4002]
    await no_task_is_left()


# ---- uvicorn and httpx -----------------------------------------------------------------------------------


class Application:
    """An application of ASGI that answers with what it gets, the other way round."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.live(receive, send)
        if scope["path"] == "/wait":
            await asyncio.sleep(20)
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        body.reverse()
        headers = [(b"sum", b"%d" % zlib.crc32(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = len(body) // 2
        await send({"type": "http.response.body", "body": bytes(body[:half]), "more_body": True})
        await asyncio.sleep(random.choice((0, 0.01)))
        await send({"type": "http.response.body", "body": bytes(body[half:])})
        return None

    async def live(self, receive: Any, send: Any) -> None:
        for event in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{event}"
            self.events.append(event)
            await asyncio.sleep(0.5)
            await send({"type": f"lifespan.{event}.complete"})


async def use_uvicorn(faulty: bool) -> None:
    """Clients of httpx get from uvicorn what they have asked for."""
    import httpx
    import uvicorn

    app = Application()
    installed = [name for name in ("h11", "httptools") if importlib.util.find_spec(name)]
    config = uvicorn.Config(
        app, host=HOST, port=PORT, log_config=None, http=random.choice(installed), lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    limits = httpx.Limits(max_connections=2)

    async def reverse() -> None:
        data = random.randbytes(random.choice(SIZES))
        content = send_in_pieces(data) if random.random() < 0.5 else data
        answer = await client.post(f"{URL}/", content=content)
        assert answer.status_code == 200
        assert answer.content == data[::-1]
        assert answer.headers["sum"] == str(zlib.crc32(data[::-1]))

    async def wait_too_long() -> None:
        try:
            await client.get(f"{URL}/wait", timeout=httpx.Timeout(PATIENCE, read=2))
        except httpx.ReadTimeout:
            return
        raise AssertionError("the answer came early")

    async with httpx.AsyncClient(
        timeout=PATIENCE, limits=limits, trust_env=False, verify=False
    ) as client:
        async with asyncio.TaskGroup() as group:
            for use in (reverse, reverse, reverse, wait_too_long):
                group.create_task(until_it_works(use, (httpx.TransportError,), faulty))
        server.should_exit = True
        await serving
    assert app.events == ["startup", "shutdown"]
    assert not server.server_state.connections
    await no_task_is_left()


# ---- asyncpg ---------------------------------------------------------------------------------------------


async def use_asyncpg(faulty: bool, with_tls: bool = False) -> None:
    """The pool of asyncpg moves money between accounts of the small server."""
    import asyncpg

    # asyncpg counts the names of its statements on, and longer names make longer messages.
    asyncpg.connection._uid = 0
    failures = (
        asyncpg.PostgresConnectionError,
        asyncpg.DeadlockDetectedError,
        asyncpg.InterfaceError,
        TimeoutError,
        OSError,
    )
    serving, asking = own.contexts() if with_tls else (None, None)
    server = await database_server.start(serving)
    history = database.History(server)
    pool = await until_it_works(
        lambda: asyncpg.create_pool(
            host=sql.HOST,
            port=sql.PORT,
            user=sql.USER,
            password=sql.PASSWORD,
            database="bank",
            ssl=asking or False,
            min_size=1,
            max_size=3,
            timeout=PATIENCE,
            command_timeout=PATIENCE,
        ),
        failures,
        faulty,
    )

    async def transfer(id: str) -> None:
        source, target = random.sample(sorted(server.accounts), 2)
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(sql.INSERT, id)
                before = await connection.fetchval(sql.SELECT_ONE, source)
                await connection.execute(sql.UPDATE, source, -1)
                assert await connection.fetchval(sql.SELECT_ONE, source) == before - 1
                await connection.execute(sql.UPDATE, target, 1)
        except asyncpg.UniqueViolationError:  # an earlier try has succeeded
            assert faulty

    retried = failures if faulty else (asyncpg.DeadlockDetectedError,)

    async def transfer_at_last(id: str) -> None:
        await until_it_works(functools.partial(transfer, id), retried, True)

    async def move(n: int) -> None:
        for i in range(3):
            await history.write(f"{n}-{i}", transfer_at_last)

    async def look() -> None:
        async with pool.acquire() as connection:
            with history.read() as rows:
                rows += [tuple(row) for row in await connection.fetch(sql.SELECT_ALL)]

    async def count() -> None:
        async with pool.acquire() as connection, connection.transaction():
            cursor = connection.cursor(sql.SERIES, 100, prefetch=7)
            assert [row["n"] async for row in cursor] == list(range(100))

    async def copy() -> None:
        lines = b"".join(b"%d\n" % n for n in range(5000))
        async with pool.acquire() as connection:
            done = await connection.copy_to_table("stock", source=send_in_pieces(lines))
            assert done == "COPY 5000"

    async def wait_too_long() -> None:
        async with pool.acquire() as connection:
            try:
                await connection.execute(sql.SLEEP, 50, timeout=1)
                raise AssertionError("it did not sleep")
            except TimeoutError:  # asyncpg has cancelled it by a second connection
                assert await connection.fetchval(sql.SELECT_ONE, "a") is not None

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(move(n))
        for use in (look, look, count, copy, wait_too_long):
            group.create_task(until_it_works(use, retried, True))
    try:
        await pool.close()
    except failures:  # its last message could not be sent, and it has aborted its connections
        assert faulty
    await server.close()
    history.check()
    await no_task_is_left()


# ---- all -------------------------------------------------------------------------------------------------

# The libraries that a program needs, and the program.
USES: dict[str, tuple[tuple[str, ...], Callable[[bool], Coroutine[Any, Any, None]]]] = {
    "aiohttp": (("aiohttp",), use_aiohttp),
    "websockets": (("websockets",), use_websockets),
    "uvicorn": (("uvicorn", "httpx"), use_uvicorn),
    "asyncpg": (("asyncpg",), use_asyncpg),
    "asyncpg tls": (("asyncpg",), functools.partial(use_asyncpg, with_tls=True)),
    "database": ((), database.use),
    "database tls": ((), functools.partial(database.use, with_tls=True)),
}
# Those for which all libraries are here.
PROGRAMS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    f"{name}{' faults' * faulty}": functools.partial(use, faulty)
    for name, (needs, use) in USES.items()
    if all(importlib.util.find_spec(library) for library in needs)
    for faulty in (False, True)
}


def prepare(name: str) -> tuple[Callable[[], Coroutine[Any, Any, None]], dict[str, Any]]:
    """A program as a main function, and the settings of its simulation."""
    needs, _ = USES[name.removesuffix(" faults")]
    for library in needs:
        importlib.import_module(library)  # one that httpx imports draws random numbers then
    if "tls" in name:
        own.contexts()  # a simulation could not start openssl
    faults = FAULTS if "faults" in name else None
    settings = {"order": "mix", "faults": faults, "names": NAMES, "limit": LIMIT}
    forgotten = (OSError,) if faults else ()  # aiohttp has tasks that write and that nobody awaits
    return functools.partial(own.watched, PROGRAMS[name], forgotten), settings
