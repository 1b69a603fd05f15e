"""A small database that speaks PostgreSQL's protocol, and keeps accounts in memory, with transactions.

It has TLS after an SSLRequest, a password, prepared statements, several queries under way at once, portals,
COPY, and a cancel by a second connection. It knows only the statements of database_messages.py.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import random
import re
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from database_messages import (
    ACCOUNTS,
    CANCEL,
    HOST,
    INSERT,
    INT8,
    MONEY,
    PATIENCE,
    PORT,
    SELECT_ALL,
    SELECT_ONE,
    SERIES,
    SLEEP,
    SSL,
    TEXT,
    UPDATE,
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

LOCK_TIMEOUT = 1.0  # seconds, after which a wait for a row counts as a deadlock
INBOX = 64  # messages that wait for the server, until it stops to read


class Statement(NamedTuple):
    """A statement that the server knows."""

    run: Callable[..., Awaitable[Any]]  # returns the rows, or the tag
    takes: tuple[int, ...] = ()
    gives: tuple[tuple[str, int], ...] = ()
    ends_failed: bool = False  # whether it runs in a transaction that has failed


class Portal(NamedTuple):
    """A statement with its arguments, and the rows that were not fetched yet."""

    statement: Statement
    arguments: list[Any]
    formats: list[int]
    rows: list[Any]  # nothing, until it has run: then a list of rows, or a tag

    def is_binary(self, column: int) -> bool:
        if len(self.formats) > 1:
            return self.formats[column] == 1
        return self.formats == [1]


class Database:
    """The server: what its sessions share."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.accounts = dict.fromkeys(ACCOUNTS, MONEY)
        self.locks: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self.transfers: set[str] = set()
        self.log: list[
            tuple[str, dict[str, int]]
        ] = []  # of each commit: its transfer, and the accounts
        self.stock = 0
        self.sessions: dict[int, Session] = {}
        self.made = 0
        self.server: Any = None

    async def close(self) -> None:
        """End the server, after its sessions. Nothing is left of them."""
        self.server.close()
        for session in list(self.sessions.values()):
            async with asyncio.timeout(PATIENCE):
                await session.over.wait()
                await asyncio.wait([session.task])
        await self.server.wait_closed()
        assert not self.sessions
        assert not any(lock.locked() for lock in self.locks.values())


async def start(tls: ssl.SSLContext | None) -> Database:
    """Start a server."""
    database = Database(tls)
    loop = asyncio.get_running_loop()
    database.server = await loop.create_server(lambda: Session(database), HOST, PORT)
    return database


class Session(Side):
    """The server's side of a connection."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.has_kinds = False
        self.inbox: collections.deque[tuple[bytes, Body]] = collections.deque()
        self.news = asyncio.Event()
        self.over = asyncio.Event()
        database.made += 1
        self.pid = database.made
        self.secret = random.getrandbits(31)
        self.statements: dict[str, Statement] = {}
        self.portals: dict[str, Portal] = {}
        self.in_block = self.has_failed = self.is_cancelled = False
        self.waiting: asyncio.Timeout | None = None  # of the statement that waits
        self.begin()

    def begin(self) -> None:
        """Begin a transaction."""
        self.changed: dict[str, int] = {}
        self.inserted: list[str] = []
        self.locked: list[asyncio.Lock] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.database.sessions[self.pid] = self
        self.task = asyncio.create_task(self.serve())

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.task.cancel()
        self.end()

    def end(self) -> None:
        """Nothing more comes, and nothing more is done."""
        self.database.sessions.pop(self.pid, None)
        self.over.set()

    def received(self, kind: bytes, body: Body) -> None:
        if not kind:
            self.has_kinds = struct.unpack_from("!I", body.data)[0] == VERSION
        self.inbox.append((kind, body))
        self.news.set()
        if len(self.inbox) > INBOX:
            self.transport.pause_reading()

    async def next(self) -> tuple[bytes, Body]:
        """The next message of the client."""
        await self.room.wait()  # nothing is done while the answers are not read
        while not self.inbox:
            self.news.clear()
            await self.news.wait()
        if len(self.inbox) == INBOX and not self.is_lost:
            self.transport.resume_reading()
        return self.inbox.popleft()

    def send(self, kind: bytes, *parts: bytes) -> None:
        self.transport.write(pack(kind, *parts))

    async def serve(self) -> None:
        try:
            if await self.greet():
                while True:
                    kind, body = await self.next()
                    if kind == b"X":
                        break
                    await self.handle(kind, body)
        except OSError:  # while TLS began: then connection_lost() is not called
            self.end()
        finally:
            self.roll_back()
            self.transport.close()

    async def greet(self) -> bool:
        """Start TLS if the client asks for it, and check the password. False if there is no more to do."""
        _, body = await self.next()
        version = body.take("!I")
        if version == SSL:
            self.transport.write(b"S" if self.database.tls else b"N")
            if self.database.tls:
                loop = asyncio.get_running_loop()
                self.transport = await loop.start_tls(
                    self.transport,
                    self,
                    self.database.tls,
                    server_side=True,
                    ssl_handshake_timeout=PATIENCE,
                )
            _, body = await self.next()
            version = body.take("!I")
        if version == CANCEL:
            pid, secret = body.take("!II")
            found = self.database.sessions.get(pid)
            if found is not None and found.secret == secret:
                found.cancel()
            return False
        salt = random.randbytes(4)
        self.send(b"R", struct.pack("!I", 5), salt)
        _, body = await self.next()
        if body.text() != hashed_password(salt):
            self.fail(SqlError("28P01", "wrong password"))
            return False
        self.send(b"R", struct.pack("!I", 0))
        for name, value in (("server_version", "16.0"), ("client_encoding", "UTF8")):
            self.send(b"S", text(name), text(value))
        self.send(b"K", struct.pack("!II", self.pid, self.secret))
        self.be_ready()
        return True

    def be_ready(self) -> None:
        """All queries so far are answered. Outside of a block that ends a transaction."""
        if not self.in_block:
            if self.has_failed:
                self.roll_back()
            else:
                self.commit()
            self.has_failed = False
            self.portals.clear()
        self.send(b"Z", b"I" if not self.in_block else b"E" if self.has_failed else b"T")

    def fail(self, error: SqlError) -> None:
        fields = (b"SERROR\0", b"VERROR\0", b"C", text(error.code), b"M", text(str(error)), b"\0")
        self.send(b"E", *fields)

    async def handle(self, kind: bytes, body: Body) -> None:
        handlers = {
            b"P": self.parse,
            b"B": self.bind,
            b"D": self.describe,
            b"E": self.execute,
            b"C": self.forget,
        }
        try:
            if kind == b"Q":
                await self.query(body.text())
            elif kind in handlers:
                await handlers[kind](body)
        except SqlError as error:
            self.has_failed = True
            self.fail(error)
            if kind != b"Q":
                while kind != b"S":  # what was sent meanwhile counts for nothing
                    kind, _ = await self.next()
        if kind in (b"Q", b"S"):
            self.be_ready()

    async def parse(self, body: Body) -> None:
        name = body.text()
        self.statements[name] = self.find(body.text())
        self.send(b"1")

    async def bind(self, body: Body) -> None:
        name, statement = body.text(), self.statements[body.text()]
        formats, values = body.formats(), body.values()
        kinds = enumerate(statement.takes)
        portal = Portal(statement, [], body.formats(), [])
        for i, kind in kinds:
            binary = formats[i if len(formats) > 1 else 0] == 1 if formats else False
            portal.arguments.append(decode(values[i], kind, binary))
        self.portals[name] = portal
        self.send(b"2")

    async def describe(self, body: Body) -> None:
        kind, name = body.take("!c"), body.text()
        statement = self.statements[name] if kind == b"S" else self.portals[name].statement
        if kind == b"S":
            count = struct.pack("!H", len(statement.takes))
            self.send(b"t", count, *(struct.pack("!I", oid) for oid in statement.takes))
        self.describe_rows(statement)

    def describe_rows(self, statement: Statement) -> None:
        if not statement.gives:
            self.send(b"n")
            return
        columns = (
            text(name) + struct.pack("!IHIhiH", 0, 0, oid, -1, -1, 0)
            for name, oid in statement.gives
        )
        self.send(b"T", struct.pack("!H", len(statement.gives)), *columns)

    async def execute(self, body: Body) -> None:
        portal = self.portals.get(body.text())
        if portal is None:
            raise SqlError("34000", "there is no such portal")
        await self.send_rows(portal, body.take("!I"))

    async def send_rows(self, portal: Portal, limit: int) -> None:
        """Run a portal, unless it has run, and send so many of its rows."""
        if not portal.rows:
            if self.has_failed and not portal.statement.ends_failed:
                raise SqlError("25P02", "the transaction has failed")
            portal.rows.append(await portal.statement.run(*portal.arguments))
        found = portal.rows[0]
        if isinstance(found, str):
            self.send(b"C", text(found))
            return
        rows = found[: limit or None]
        del found[: limit or None]
        kinds = [oid for _, oid in portal.statement.gives]
        messages = []
        for row in rows:
            values = (encode(v, kinds[i], portal.is_binary(i)) for i, v in enumerate(row))
            messages.append(pack(b"D", struct.pack("!H", len(row)), *values))
        self.transport.writelines(messages)
        if found:
            self.send(b"s")
        else:
            self.send(b"C", text(f"SELECT {len(rows)}"))

    async def forget(self, body: Body) -> None:
        kind, name = body.take("!c"), body.text()
        (self.statements if kind == b"S" else self.portals).pop(name, None)
        self.send(b"3")

    async def query(self, sql: str) -> None:
        """Run statements without arguments, one after the other. Their rows are text."""
        for one in filter(None, (part.strip() for part in sql.split(";"))):
            statement = self.find(one)
            if statement.gives:
                self.describe_rows(statement)
            await self.send_rows(Portal(statement, [], [], []), 0)

    def find(self, sql: str) -> Statement:
        sql = sql.strip().rstrip(";")
        known = {
            SELECT_ALL: Statement(
                self.select_all, (), (("name", TEXT), ("balance", INT8), ("version", INT8))
            ),
            SELECT_ONE: Statement(self.select_one, (TEXT,), (("balance", INT8),)),
            UPDATE: Statement(self.update, (TEXT, INT8)),
            INSERT: Statement(self.insert, (TEXT,)),
            SERIES: Statement(self.series, (INT8,), (("n", INT8),)),
            SLEEP: Statement(self.sleep, (INT8,), (("slept", INT8),)),
        }
        if sql in known:
            return known[sql]
        if re.match('COPY "?stock"? FROM STDIN', sql):
            return Statement(self.copy)
        # The last four are those of asyncpg's pool.
        control = "BEGIN|COMMIT|ROLLBACK|CLOSE|UNLISTEN|RESET|SELECT pg_advisory_unlock_all"
        if re.match(control, sql):
            run = functools.partial(self.control, sql)
            return Statement(run, ends_failed=sql in ("COMMIT", "ROLLBACK"))
        raise SqlError("42601", f"{sql!r} is not known")

    # ---- statements ----

    async def control(self, sql: str) -> str:
        if sql == "BEGIN":
            self.in_block = True
        elif sql in ("COMMIT", "ROLLBACK"):
            if sql == "ROLLBACK" or self.has_failed:
                sql = "ROLLBACK"
                self.roll_back()
            else:
                self.commit()
            self.in_block = self.has_failed = False
        return sql.partition(" ")[0]

    def commit(self) -> None:
        database = self.database
        if self.changed or self.inserted:
            database.accounts |= self.changed
            database.log += [(id, dict(database.accounts)) for id in self.inserted]
            database.transfers.update(self.inserted)
        self.roll_back()

    def roll_back(self) -> None:
        for lock in self.locked:
            lock.release()
        self.begin()

    def cancel(self) -> None:
        """Cancel the statement that waits, if one does."""
        if self.waiting is not None:
            self.is_cancelled = True
            self.waiting.reschedule(0)

    async def wait_for(self, what: Awaitable[Any], seconds: float | None) -> None:
        """Wait for something that a CancelRequest may end."""
        self.is_cancelled = False
        try:
            async with asyncio.timeout(seconds) as self.waiting:
                await what
        except TimeoutError:
            if self.is_cancelled:
                raise SqlError("57014", "canceled by the user") from None
            raise SqlError("40P01", "deadlock detected") from None
        finally:
            self.waiting = None

    async def lock(self, name: str) -> None:
        lock = self.database.locks[name]
        if lock not in self.locked:
            await self.wait_for(lock.acquire(), LOCK_TIMEOUT)
            self.locked.append(lock)

    def balance(self, name: str) -> int:
        return self.changed.get(name, self.database.accounts[name])

    async def select_all(self) -> list[Any]:
        version = len(self.database.log)
        return [(name, self.balance(name), version) for name in self.database.accounts]

    async def select_one(self, name: str) -> list[Any]:
        await self.lock(name)
        return [(self.balance(name),)]

    async def update(self, name: str, amount: int) -> str:
        await self.lock(name)
        self.changed[name] = self.balance(name) + amount
        return "UPDATE 1"

    async def insert(self, id: str) -> str:
        await self.lock(id)  # until the other one has ended that inserts it, if there is one
        if id in self.database.transfers:
            raise SqlError("23505", "this transfer exists")
        self.inserted.append(id)
        return "INSERT 0 1"

    async def series(self, n: int) -> list[Any]:
        return [(i,) for i in range(n)]

    async def sleep(self, seconds: int) -> list[Any]:
        await self.wait_for(asyncio.sleep(seconds), None)
        return [(seconds,)]

    async def copy(self) -> str:
        """Take lines until the client says that it is done."""
        self.send(b"G", struct.pack("!bH", 0, 0))
        data = bytearray()
        while True:
            kind, body = await self.next()
            if kind == b"d":
                data += body.data
            elif kind == b"c":
                break
            elif kind == b"f":
                raise SqlError("57014", "COPY was ended by the client")
        lines = data.splitlines()
        assert lines == [b"%d" % n for n in range(len(lines))]
        self.database.stock += len(lines)
        return f"COPY {len(lines)}"
