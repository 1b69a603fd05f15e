"""Connections as a reader and a writer: what asyncio's functions of the same names do, with hoop's classes.

They work on any asyncio loop. On hoop's own the bytes go from the socket to the reader in C.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hoop.streams.reader import DEFAULT_LIMIT, StreamReader
from hoop.streams.writer import StreamProtocol, StreamWriter

# What a server calls for each connection; a coroutine that this gives becomes a task.
ClientConnected = Callable[[StreamReader, StreamWriter], Any]


async def open_connection(
    host: Any = None, port: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect, and return a reader and a writer. See asyncio.open_connection.

    `limit` is the reader's; the other arguments are those of loop.create_connection().
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = StreamProtocol(reader, None, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def open_unix_connection(
    path: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a Unix socket, and return a reader and a writer. See asyncio.open_unix_connection."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = StreamProtocol(reader, None, loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Listen, and call `client_connected_cb(reader, writer)` for each connection.

    It may be a coroutine function: then it runs as a task. `limit` is the readers'; the other arguments and
    the result are those of loop.create_server(). See asyncio.start_server.
    """
    loop = asyncio.get_running_loop()
    factory = _factory(loop, limit, client_connected_cb)
    return await loop.create_server(factory, host, port, **kwds)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Listen on a Unix socket; as start_server() otherwise. See asyncio.start_unix_server."""
    loop = asyncio.get_running_loop()
    factory = _factory(loop, limit, client_connected_cb)
    return await loop.create_unix_server(factory, path, **kwds)


def _factory(
    loop: asyncio.AbstractEventLoop, limit: int, client_connected_cb: ClientConnected
) -> Callable[[], StreamProtocol]:
    def new_protocol() -> StreamProtocol:
        return StreamProtocol(StreamReader(limit, loop), client_connected_cb, loop)

    return new_protocol
