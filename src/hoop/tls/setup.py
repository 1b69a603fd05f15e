"""Sets up TLS connections. After that `hoop.tls.transport` moves their bytes."""

from __future__ import annotations

import asyncio
import socket
from asyncio import constants, sslproto
from collections.abc import Callable
from typing import Any

from hoop.scheduling.task import Task

try:
    import ssl
except ImportError:  # a Python built without OpenSSL: asyncio does without TLS, too
    HAS_SSL = False
else:
    from hoop.tls.transport import SSLTransport

    HAS_SSL = True

Loop = Any  # a hoop.EventLoop; the module that has it imports this one


def new_transport(
    loop: Loop,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext | None,
    waiter: asyncio.Future[None] | None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    connected: bool = False,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> SSLTransport:
    """Make a TLS transport that is not connected yet. Its `_ssl_protocol` is the protocol for the transport
    below.

    Without a context a client gets asyncio's default. Raises ValueError for timeouts that are not positive,
    and any exception of SSLContext.wrap_bio().
    """
    if not HAS_SSL:
        raise RuntimeError("stdlib ssl module not available")
    if ssl_handshake_timeout is None:
        ssl_handshake_timeout = constants.SSL_HANDSHAKE_TIMEOUT
    elif ssl_handshake_timeout <= 0:
        raise ValueError(
            f"ssl_handshake_timeout should be a positive number, got {ssl_handshake_timeout}"
        )
    if ssl_shutdown_timeout is None:
        ssl_shutdown_timeout = constants.SSL_SHUTDOWN_TIMEOUT
    elif ssl_shutdown_timeout <= 0:
        raise ValueError(
            f"ssl_shutdown_timeout should be a positive number, got {ssl_shutdown_timeout}"
        )
    if not sslcontext:
        sslcontext = sslproto._create_transport_context(server_side, server_hostname)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    sslobj = sslcontext.wrap_bio(
        incoming,
        outgoing,
        server_side=server_side,
        server_hostname=None if server_side else server_hostname or None,
    )
    return SSLTransport(
        loop,
        protocol,
        sslcontext,
        sslobj,
        incoming,
        outgoing,
        waiter,
        connected,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
    )


def accept(
    loop: Loop,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    sslcontext: ssl.SSLContext,
    server: Any,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    connection: socket.socket,
    extra: dict[str, Any],
) -> None:
    """Serve an accepted connection. As in asyncio, a failure is reported in debug mode only."""
    protocol = transport = None
    try:
        protocol = protocol_factory()
        waiter = loop.create_future()
        transport = loop._make_ssl_transport(
            connection,
            protocol,
            sslcontext,
            waiter,
            server_side=True,
            extra=extra,
            server=server,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
    except BaseException as exc:
        connection.close()
        if not isinstance(exc, Exception):
            raise
        if loop.get_debug():
            _report(loop, exc, protocol, transport)
    else:
        # Take the first step now. A task that is cancelled before its first step would not close the
        # connection.
        Task(_shake_hands(loop, waiter, protocol, transport), loop=loop, eager_start=True)


async def _shake_hands(
    loop: Loop, waiter: asyncio.Future[None] | None, protocol: Any, transport: SSLTransport
) -> None:
    """Wait for the handshake. If the task is cancelled, perhaps with all tasks, close the connection."""
    try:
        await waiter  # type: ignore[misc]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        waiter = None  # the traceback of the exception refers to this frame
        transport.close()
        if loop.get_debug():
            _report(loop, exc, protocol, transport)


def _report(loop: Loop, exc: BaseException, protocol: Any, transport: Any) -> None:
    context = {
        "message": "Error on transport creation for incoming connection",
        "exception": exc,
    }
    if protocol is not None:
        context["protocol"] = protocol
    if transport is not None:
        context["transport"] = transport
    loop.call_exception_handler(context)


async def upgrade(
    loop: Loop,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    **options: Any,
) -> SSLTransport:
    """Do the work of loop.start_tls()."""
    if not HAS_SSL:
        raise RuntimeError("Python ssl module is not available")
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
        )
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter = loop.create_future()
    tls = new_transport(loop, protocol, sslcontext, waiter, connected=True, **options)
    layer = tls._ssl_protocol
    # Nothing may be received before connection_made().
    transport.pause_reading()
    transport.set_protocol(layer)
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        _take_over_reader(protocol, transport, tls)
    connected = loop.call_soon(layer.connection_made, transport)
    reading = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        connected.cancel()
        reading.cancel()
        waiter = None  # the traceback of the exception refers to this frame
        raise
    return tls


def _take_over_reader(protocol: Any, transport: Any, tls: SSLTransport) -> None:
    """Move the data of a StreamReader to TLS, and let the reader read from there. It is encrypted data."""
    reader = protocol._stream_reader
    if reader is not None and reader._transport is transport:
        tls._ssl_protocol.data_received(reader._buffer)
        reader._buffer = bytearray()
        reader._paused = False
        reader._transport = tls
