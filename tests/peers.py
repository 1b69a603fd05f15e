"""Helpers of the transport tests: recording protocols, connected pairs, one script on two loops.

Nothing here sleeps: a test that must wait for the kernel takes turns of the loop until a condition holds.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from typing import Any


class Recorder(asyncio.Protocol):
    """Writes down what it is told, then runs the hook of that name: Recorder(eof_received=...)."""

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        self.hooks = hooks
        self.events: list[Any] = []
        self.received = bytearray()
        self.transport: Any = None
        self.lost_with: Any = ...  # until connection_lost

    def _tell(self, name: str, *args: Any) -> Any:
        if not self.events or self.events[-1] != name:  # several reads of one stream are one event
            self.events.append(name)
        hook = self.hooks.get(name)
        return hook(self, *args) if hook is not None else None

    def connection_made(self, transport):
        self.transport = transport
        self._tell("connection_made")

    def data_received(self, data):
        assert type(data) is bytes
        self.received += data
        self._tell("data_received", data)

    def eof_received(self):
        return self._tell("eof_received")

    def pause_writing(self):
        self._tell("pause_writing")

    def resume_writing(self):
        self._tell("resume_writing")

    def connection_lost(self, exc):
        assert self.lost_with is ..., "connection_lost was called twice"
        self.lost_with = exc
        self._tell("connection_lost", exc)

    @property
    def is_lost(self) -> bool:
        return self.lost_with is not ...


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """A Recorder that receives into a buffer of its own of `size` bytes."""

    def __init__(self, size: int = 1000, **hooks: Callable[..., Any]) -> None:
        super().__init__(**hooks)
        self.buffer: Any = bytearray(size)

    def get_buffer(self, sizehint):
        assert sizehint == -1
        hook = self.hooks.get("get_buffer")
        return self.buffer if hook is None else hook(self)

    def buffer_updated(self, nbytes):
        self.received += self.buffer[:nbytes]
        self._tell("buffer_updated", nbytes)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Take turns of the loop until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0)


async def turns(n: int) -> None:
    """Let the loop take n turns."""
    for _ in range(n):
        await asyncio.sleep(0)


async def connect(loop: Any, sock: socket.socket, protocol: Any) -> Any:
    """A transport on a connected socket, as if the loop had made that itself.

    hoop's own `create_connection(sock=)` notes that the socket is somebody else's.
    """
    make = asyncio.BaseEventLoop.create_connection
    transport, _ = await make(loop, lambda: protocol, sock=sock)
    return transport


async def pair(loop: Any, protocol: Any) -> tuple[Any, socket.socket]:
    """A transport and the plain, non-blocking socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return await connect(loop, ours, protocol), theirs


def tcp_pair(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets on the loopback interface."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        server, _ = listening.accept()
    client.setblocking(False)
    server.setblocking(False)
    return client, server


async def drain(loop: Any, sock: socket.socket, chunk: int = 65536) -> bytes:
    """All that arrives on a socket until the other side ends."""
    found = bytearray()
    while data := await loop.sock_recv(sock, chunk):
        found += data
    return bytes(found)


async def receive(loop: Any, sock: socket.socket, n: int) -> bytes:
    """Exactly n bytes from a socket."""
    found = bytearray()
    while len(found) < n:
        data = await loop.sock_recv(sock, n - len(found))
        assert data, f"ended after {len(found)} of {n} bytes"
        found += data
    return bytes(found)


async def end(server: Any) -> None:
    """Close a server, and wait until its connections and their tasks are gone too (on any Python)."""
    server.close()
    await server.wait_closed()
    loop = asyncio.get_running_loop()
    if hasattr(loop, "counters"):
        await until(lambda: not loop.counters()["transports"] and len(asyncio.all_tasks()) == 1)


def fill(transport: Any, chunk: bytes = b"x" * 65536) -> int:
    """Write until the transport has to keep some. How many bytes were written."""
    written = 0
    while transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[1]:
        transport.write(chunk)
        written += len(chunk)
    return written


def reset(sock: socket.socket) -> None:
    """Close a TCP socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def on_asyncio(script: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """The record of a script on the running Python's own loop."""
    loop = asyncio.SelectorEventLoop()
    loop.set_exception_handler(lambda *_: None)  # its own failures are not for the log
    try:
        return loop.run_until_complete(script(loop))
    finally:
        loop.close()


def same_as_asyncio(loop: Any, script: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Run a script on asyncio's loop and on ours; what it returns must be equal."""
    expected = on_asyncio(script)
    found = loop.run_until_complete(script(loop))
    assert found == expected, f"\nasyncio: {expected}\nours:    {found}"
    return found


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or the type and text of its exception."""
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        return type(exc).__name__, str(exc)


def reports(loop: Any) -> list[tuple[str, type, str, list[str]]]:
    """A list that gets what the loop's exception handler is told from now on.

    Only the message, the exception's type and words, and the keys: nothing is kept alive.
    """
    found: list[tuple[str, type, str, list[str]]] = []

    def handler(_: Any, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        found.append((context["message"], type(exc), str(exc), sorted(context)))

    loop.set_exception_handler(handler)
    return found


def make_certificate(folder: Any, algorithm: str = "") -> tuple[str, str]:
    """Paths of a self-signed certificate for localhost and of its key, made by openssl."""
    algorithm = algorithm or "ec -pkeyopt ec_paramgen_curve:prime256v1"
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    words = f"openssl req -x509 -newkey {algorithm} -nodes -days 2"
    words += " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    words += f" -keyout {key} -out {cert}"
    subprocess.run(words.split(), check=True, capture_output=True)
    return cert, key
