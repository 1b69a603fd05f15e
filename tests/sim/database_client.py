"""A client of the database, as asyncpg is one of PostgreSQL: connections, and a pool of them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any

from database_messages import (
    CANCEL,
    HOST,
    INSERT,
    INT8,
    PATIENCE,
    PORT,
    SELECT_ALL,
    SELECT_ONE,
    SERIES,
    SLEEP,
    SSL,
    TEXT,
    UPDATE,
    USER,
    VERSION,
    Body,
    Side,
    SqlError,
    decode,
    encode,
    hashed_password,
    pack,
    text,
)


class Answer:
    """The server's answer to one query, or to several with one Sync."""

    def __init__(self, kinds: list[int] | None) -> None:
        self.kinds = kinds or []  # of the columns
        self.is_binary = kinds is not None
        self.rows: list[tuple[Any, ...]] = []
        self.tags: list[str] = []
        self.error: SqlError | None = None
        self.copying: asyncio.Future[None] = asyncio.Future()  # done when the server takes lines
        self.done: asyncio.Future[None] = asyncio.Future()

    async def get(self) -> list[tuple[Any, ...]]:
        """Wait for the end, and return the rows. Raises SqlError, or ConnectionError."""
        await asyncio.wait([self.done], timeout=PATIENCE)
        if self.error is not None:
            raise self.error
        if not self.done.done() or self.done.result() is not None:
            raise ConnectionResetError("the connection is lost")
        return self.rows


class Connection(Side):
    """The client's side of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: collections.deque[Answer] = collections.deque()
        self.kinds: dict[str, list[int]] = {}  # of the columns of prepared statements
        self.answer_to_ssl: asyncio.Future[bytes] | None = None
        self.lost: asyncio.Future[None] = asyncio.Future()
        self.key = b""
        self.is_in_block = False

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.answer_to_ssl is not None and not self.answer_to_ssl.done():
            self.answer_to_ssl.set_result(b"")
        while self.under_way:
            self.end(ConnectionResetError())
        self.lost.set_result(None)

    def end(self, error: Any = None) -> None:
        """The first of the queries under way has ended."""
        answer = self.under_way.popleft()
        for future in (answer.copying, answer.done):
            if not future.done():
                future.set_result(error)

    def data_received(self, data: bytes) -> None:
        if self.answer_to_ssl is not None and not self.answer_to_ssl.done():
            assert len(data) == 1  # the server sends nothing else before the handshake
            self.answer_to_ssl.set_result(data)
        else:
            super().data_received(data)

    def received(self, kind: bytes, body: Body) -> None:
        answer = self.under_way[0]
        if kind == b"R" and body.take("!I") == 5:
            self.transport.write(pack(b"p", text(hashed_password(body.data[4:]))))
        elif kind == b"K":
            self.key = body.data
        elif kind == b"T":
            for _ in range(body.take("!H")):
                body.text()
                answer.kinds.append(body.take("!IHIhiH")[2])
        elif kind == b"D":
            pairs = zip(body.values(), answer.kinds, strict=True)
            answer.rows.append(tuple(decode(v, oid, answer.is_binary) for v, oid in pairs))
        elif kind == b"C":
            answer.tags.append(body.text())
        elif kind == b"s":
            answer.tags.append("suspended")
        elif kind == b"G":
            answer.copying.set_result(None)
        elif kind == b"E":
            parts = body.data.split(b"\0")
            fields = {part[:1]: part[1:].decode() for part in parts if part}
            answer.error = SqlError(fields[b"C"], fields[b"M"])
        elif kind == b"Z":
            self.is_in_block = body.data != b"I"
            self.end()

    def submit(self, *messages: bytes, kinds: list[int] | None = None) -> Answer:
        """Send messages that get one answer. Others may be under way."""
        if self.is_lost or self.transport.is_closing():
            raise ConnectionResetError("the connection is lost")
        self.under_way.append(Answer(kinds))
        self.transport.writelines(messages)
        return self.under_way[-1]

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run statements without arguments."""
        return await self.submit(pack(b"Q", text(sql))).get()

    async def prepare(self, **statements: str) -> None:
        """Prepare statements by name."""
        answers = {}
        for name, sql in statements.items():
            parse = pack(b"P", text(name), text(sql), b"\0\0")
            answers[name] = self.submit(parse, pack(b"D", b"S", text(name)), pack(b"S"))
        for name, answer in answers.items():
            await answer.get()
            self.kinds[name] = answer.kinds

    def run(self, name: str, *arguments: int | str, limit: int = 0, portal: str = "") -> Answer:
        """Run a prepared statement, in a portal if it has more rows than `limit`."""
        messages = self.messages(name, arguments, limit, portal)
        return self.submit(*messages, pack(b"S"), kinds=self.kinds[name])

    def run_all(self, *several: tuple[Any, ...]) -> Answer:
        """Run prepared statements in one transaction, with one Sync."""
        messages = [m for name, *arguments in several for m in self.messages(name, arguments)]
        kinds = [oid for name, *_ in several for oid in self.kinds[name]]
        return self.submit(*messages, pack(b"S"), kinds=kinds)

    def messages(
        self, name: str, arguments: Any, limit: int = 0, portal: str = ""
    ) -> tuple[bytes, ...]:
        """The messages that run a prepared statement. Values are binary in both directions."""
        values = (encode(v, INT8 if isinstance(v, int) else TEXT, True) for v in arguments)
        count = struct.pack("!H", len(arguments))
        binary = struct.pack("!HH", 1, 1)
        bind = pack(b"B", text(portal), text(name), binary, count, *values, binary)
        return bind, pack(b"E", text(portal), struct.pack("!I", limit))

    def fetch(self, name: str, portal: str, limit: int) -> Answer:
        """Get the next rows of a portal."""
        execute = pack(b"E", text(portal), struct.pack("!I", limit))
        return self.submit(execute, pack(b"S"), kinds=self.kinds[name])

    async def copy(self, lines: AsyncIterator[bytes]) -> Answer:
        """Send lines, as fast as the server takes them."""
        answer = self.submit(pack(b"Q", text("COPY stock FROM STDIN")))
        await answer.copying
        async for piece in lines:
            await self.room.wait()
            if self.is_lost:
                break
            self.transport.write(pack(b"d", piece))
        if not self.is_lost:
            self.transport.write(pack(b"c"))
        await answer.get()
        return answer

    async def cancel(self) -> None:
        """Cancel what the server does for this connection, by another connection."""
        loop = asyncio.get_running_loop()
        _, other = await loop.create_connection(Connection, HOST, PORT)
        other.transport.write(struct.pack("!II", 16, CANCEL) + self.key)
        await other.lost

    async def close(self) -> None:
        self.transport.write(pack(b"X"))
        self.transport.close()
        await self.lost


async def connect(tls: ssl.SSLContext | None) -> Connection:
    """Connect, with TLS if there is a context, and log in."""
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(Connection, HOST, PORT)
    try:
        async with asyncio.timeout(PATIENCE):
            if tls:
                connection.answer_to_ssl = loop.create_future()
                transport.write(struct.pack("!II", 8, SSL))
                if await connection.answer_to_ssl != b"S":
                    raise ConnectionResetError("there is no TLS")
                connection.transport = await loop.start_tls(
                    transport, connection, tls, ssl_handshake_timeout=PATIENCE
                )
            words = (text(word) for word in ("user", USER, "database", "bank", ""))
            await connection.submit(pack(b"", struct.pack("!I", VERSION), *words)).get()
            await connection.prepare(
                insert=INSERT,
                select=SELECT_ONE,
                update=UPDATE,
                all=SELECT_ALL,
                series=SERIES,
                sleep=SLEEP,
            )
    except BaseException:
        connection.transport.abort()
        raise
    return connection


class Pool:
    """Lends connections, and makes no more than so many at a time."""

    def __init__(self, size: int, tls: ssl.SSLContext | None) -> None:
        self.size = size
        self.tls = tls
        self.slots = asyncio.Semaphore(size)
        self.free: list[Connection] = []
        self.lent = 0

    @contextlib.asynccontextmanager
    async def acquire(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection. Raises TimeoutError if none is free within so many seconds."""
        async with asyncio.timeout(seconds):
            await self.slots.acquire()
        self.lent += 1
        assert self.lent <= self.size
        try:
            while self.free and self.free[-1].is_lost:
                self.free.pop()
            connection = self.free.pop() if self.free else await connect(self.tls)
            try:
                yield connection
            finally:
                if connection.under_way or connection.is_in_block:
                    connection.transport.abort()
                elif not connection.is_lost:
                    self.free.append(connection)
        finally:
            self.lent -= 1
            self.slots.release()

    async def close(self) -> None:
        """Close all connections, when all have come back."""
        for _ in range(self.size):
            await self.slots.acquire()
        assert self.lent == 0
        await asyncio.gather(
            *(connection.close() for connection in self.free if not connection.is_lost)
        )


@contextlib.asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Commit at the end, or roll back after an exception."""
    await connection.query("BEGIN")
    try:
        yield
    except SqlError:
        if not connection.is_lost:
            await connection.query("ROLLBACK")
        raise
    answer = connection.submit(pack(b"Q", text("COMMIT")))
    await answer.get()
    assert answer.tags == ["COMMIT"]
