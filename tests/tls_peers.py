"""Helpers of the TLS tests: certificates, contexts, connected pairs, and a peer that is no event loop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import shutil
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import make_certificate, tcp_pair

VERSIONS = [
    ssl.TLSVersion.TLSv1_2,
    ssl.TLSVersion.TLSv1_3,
]


@functools.cache
def certificate() -> tuple[str, str]:
    """Paths of a self-signed certificate for localhost and of its key, the same for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="hoop-tls-"))
    atexit.register(shutil.rmtree, folder)
    return make_certificate(folder)


def server_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A server's context, for one version of TLS if that is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def client_context() -> ssl.SSLContext:
    """The context of a client that trusts our certificate."""
    return ssl.create_default_context(cafile=certificate()[0])


async def connect_tls(loop: Any, sock: socket.socket, protocol: Any, **options: Any) -> Any:
    """The transport of a TLS client on a connected socket."""
    options = {"ssl": client_context(), "server_hostname": "localhost", **options}
    transport, _ = await loop.create_connection(lambda: protocol, sock=sock, **options)
    return transport


async def accept_tls(loop: Any, sock: socket.socket, protocol: Any, **options: Any) -> Any:
    """The transport of a TLS server on a connected socket."""
    options = {"ssl": server_context(), **options}
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, **options)
    return transport


async def tls_pair(
    loop: Any,
    client: Any,
    server: Any,
    client_options: dict[str, Any] | None = None,
    server_options: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """The transports of two protocols that talk TLS to each other."""
    a, b = tcp_pair()
    return tuple(
        await asyncio.gather(
            connect_tls(loop, a, client, **(client_options or {})),
            accept_tls(loop, b, server, **(server_options or {})),
        )
    )


class Wire:
    """TLS without a loop: a plain non-blocking socket, and an SSLObject whose bytes the test moves."""

    def __init__(self, loop: Any, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.loop = loop
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=is_server,
            server_hostname=None if is_server else "localhost",
        )

    async def send(self) -> None:
        """Send what the SSLObject has to say."""
        await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def do(self, function: Any, *args: Any) -> Any:
        """Call an SSLObject's method until it has what it needs from the other side."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await self.send()
                data = await self.loop.sock_recv(self.sock, 65536)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)
            else:
                await self.send()
                return result

    def hello(self) -> bytes:
        """Begin the handshake: the ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def handshake(self) -> None:
        """Do the handshake."""
        await self.do(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        """Encrypt and send."""
        await self.do(self.tls.write, data)

    async def read(self, n: int) -> bytes:
        """Exactly n bytes."""
        found = bytearray()
        while len(found) < n:
            data = await self.do(self.tls.read, n - len(found))
            assert data, f"ended after {len(found)} of {n} bytes"
            found += data
        return bytes(found)

    async def read_to_the_end(self) -> bytes:
        """All up to close_notify."""
        found = bytearray()
        while True:
            try:
                data = await self.do(self.tls.read, 65536)
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                return bytes(found)
            found += data

    async def unwrap(self) -> None:
        """Say close_notify and wait for the other's."""
        await self.do(self.tls.unwrap)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


@contextlib.asynccontextmanager
async def wired(loop: Any, protocol: Any, **options: Any):
    """A TLS server's transport, and the wire of its client."""
    a, b = tcp_pair()
    wire = Wire(loop, a, client_context())
    with a:
        transport, _ = await asyncio.gather(
            accept_tls(loop, b, protocol, **options), wire.handshake()
        )
        yield transport, wire


def records(data: bytes) -> Iterator[tuple[int, int]]:
    """The type and the length of each record in a stream of bytes."""
    while data:
        kind, _, length = struct.unpack("!BHH", data[:5])
        yield kind, length
        data = data[5 + length :]


def tls_objects() -> int:
    """How many objects of TLS connections are alive."""
    names = ("SSLTransport", "TlsLayer", "Records", "SSLObject")
    return sum(type(o).__name__ in names for o in gc.get_objects())
