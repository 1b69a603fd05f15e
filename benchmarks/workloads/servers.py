"""Servers that send back every byte: by protocols, streams, sockets, datagrams and threads.

Each gets a socket that listens (or is bound, for datagrams); TCP_NODELAY is set on it, and what it accepts
inherits that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

from workloads import attribute

BACKLOG = 4096
READ_BYTES_MAX = 256 * 1024


def make_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class EchoProtocol(asyncio.Protocol):
    """Sends back every byte it gets."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEchoProtocol(asyncio.BufferedProtocol):
    """Sends back every byte that the loop put into its buffer.

    A transport may keep the object that it was given until all is sent. So each protocol that uses its
    buffer again has to give it a copy.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BYTES_MAX))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self._buffer[:nbytes]))


async def _serve_with(
    factory: type[asyncio.BaseProtocol],
    sock: socket.socket,
    certificate: str | None,
    key: str | None,
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    context = make_context(certificate, key)
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG, ssl=context)
    return await loop.create_server(factory, sock=sock, backlog=BACKLOG, ssl=context)


async def protocol(
    sock: socket.socket, certificate: str | None = None, key: str | None = None
) -> asyncio.Server:
    return await _serve_with(EchoProtocol, sock, certificate, key)


async def buffered(
    sock: socket.socket, certificate: str | None = None, key: str | None = None
) -> asyncio.Server:
    return await _serve_with(BufferedEchoProtocol, sock, certificate, key)


async def streams(
    sock: socket.socket,
    library: str = "asyncio",
    certificate: str | None = None,
    key: str | None = None,
) -> object:
    """Echo with the `start_server` of asyncio, or of another library that has its like."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_BYTES_MAX):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # The client is gone: there is nobody to answer.
        finally:
            writer.close()

    start_server = attribute(library, "start_server")
    context = make_context(certificate, key)
    return await start_server(echo, sock=sock, backlog=BACKLOG, ssl=context)


async def sockets(sock: socket.socket) -> asyncio.Task[None]:
    """Echo with the loop's socket methods, a task for each connection."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def echo(client: socket.socket) -> None:
        with client:
            try:
                while data := await loop.sock_recv(client, READ_BYTES_MAX):
                    await loop.sock_sendall(client, data)
            except ConnectionError:
                pass  # The client is gone: there is nobody to answer.

    async def accept() -> None:
        while True:
            client, _ = await loop.sock_accept(sock)
            task = asyncio.create_task(echo(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return asyncio.create_task(accept())


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends back every datagram to where it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def datagrams(sock: socket.socket) -> object:
    sock.setblocking(False)
    return await asyncio.get_running_loop().create_datagram_endpoint(EchoDatagrams, sock=sock)


def threads(sock: socket.socket) -> None:
    """Echo with blocking sockets, a thread for each connection. Does not return."""

    def echo(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(READ_BYTES_MAX):
                    client.sendall(data)
            except ConnectionError:
                pass  # The client is gone: there is nobody to answer.

    while True:
        client, _ = sock.accept()
        threading.Thread(target=echo, args=(client,), daemon=True).start()
