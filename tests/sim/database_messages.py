"""The messages of PostgreSQL's protocol, and what both sides of a connection do with them."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from typing import Any

HOST, PORT = "10.0.0.2", 5432
USER, PASSWORD = "teller", "secret"
VERSION, CANCEL, SSL = 196608, 80877102, 80877103  # what the first message of a connection may be
ACCOUNTS, MONEY = "abcd", 1000
PATIENCE = 100.0  # seconds

INT8, TEXT = 20, 25  # types
SELECT_ALL = "SELECT name, balance, version FROM accounts"
SELECT_ONE = "SELECT balance FROM accounts WHERE name = $1 FOR UPDATE"
UPDATE = "UPDATE accounts SET balance = balance + $2 WHERE name = $1"
INSERT = "INSERT INTO transfers VALUES ($1)"
SERIES = "SELECT n FROM series($1)"
SLEEP = "SELECT sleep($1)"


class SqlError(Exception):
    """A statement failed. `code` is that of PostgreSQL."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def pack(kind: bytes, *parts: bytes) -> bytes:
    """A message: its type, its length and its body."""
    body = b"".join(parts)
    return kind + struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def encode(value: int | str | None, kind: int, binary: bool) -> bytes:
    """A value with its length."""
    if value is None:
        return struct.pack("!i", -1)
    data = struct.pack("!q", value) if kind == INT8 and binary else str(value).encode()
    return struct.pack("!i", len(data)) + data


def decode(data: bytes | None, kind: int, binary: bool) -> Any:
    if data is None:
        return None
    if kind == INT8:
        return struct.unpack("!q", data)[0] if binary else int(data)
    return data.decode()


class Body:
    """Reads the parts of a message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> Any:
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found[0] if len(found) == 1 else found

    def text(self) -> str:
        end = self.data.index(0, self.at)
        found, self.at = self.data[self.at : end].decode(), end + 1
        return found

    def values(self) -> list[bytes | None]:
        """Values with their lengths, after a count."""
        found: list[bytes | None] = []
        for _ in range(self.take("!H")):
            n = self.take("!i")
            found.append(None if n < 0 else self.take(f"!{n}s"))
        return found

    def formats(self) -> list[int]:
        return [self.take("!H") for _ in range(self.take("!H"))]


class Side(asyncio.Protocol):
    """One side of a connection: it cuts what comes into messages, and knows when it may write."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = bytearray()
        self.has_kinds = (
            True  # not in the first messages of a client, nor in the answer to an SSLRequest
        )
        self.room = asyncio.Event()
        self.room.set()
        self.is_lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            before = 1 if self.has_kinds else 0
            if len(self.buffer) < before + 4:
                return
            end = before + struct.unpack_from("!I", self.buffer, before)[0]
            if len(self.buffer) < end:
                return
            kind, body = bytes(self.buffer[:before]), bytes(self.buffer[before + 4 : end])
            del self.buffer[:end]
            self.has_kinds = True
            self.received(kind, Body(body))

    def received(self, kind: bytes, body: Body) -> None:
        """A message has come."""
        raise NotImplementedError


def hashed_password(salt: bytes) -> str:
    """The answer to the salt: PostgreSQL's "md5"."""
    inner = hashlib.md5((PASSWORD + USER).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()
