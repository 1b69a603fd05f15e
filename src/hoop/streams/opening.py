"""Open connections and start servers with hoop's StreamReader and StreamWriter. See asyncio's functions.

They work on any asyncio loop. On hoop's own loop the bytes go from the socket to the reader in C.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hoop.streams.reader import DEFAULT_LIMIT, StreamReader
from hoop.streams.writer import StreamProtocol, StreamWriter

# The server calls this for each connection. If it returns a coroutine, the server runs that as a task.
ClientConnected = Callable[[StreamReader, StreamWriter], Any]


async def open_connection(
    host: Any = None, port: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a host and port over TCP, and return a StreamReader and a StreamWriter.

    `limit` is the longest line for the reader, in bytes (64 KiB). The other arguments are those of
    loop.create_connection(), `ssl` among them. Raises OSError if the connection fails. See
    asyncio.open_connection.

        reader, writer = await hoop.open_connection("localhost", 8000)
        writer.write(b"ping")
        answer = await reader.read(100)
        writer.close()
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = StreamProtocol(reader, None, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def open_unix_connection(
    path: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a Unix socket, and return a StreamReader and a StreamWriter.

    `path` is the socket's file name. `limit` is the longest line for the reader, in bytes. Raises OSError
    if the connection fails. See asyncio.open_unix_connection.

        reader, writer = await hoop.open_unix_connection("/run/app.sock")
    """
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
    """Listen on a TCP port, and call `client_connected_cb(reader, writer)` for each connection.

    The callback may be a coroutine function: then each connection gets a task. `limit` is the longest line
    for the readers, in bytes. The other arguments and the result are those of loop.create_server(). Raises
    OSError if the loop cannot listen there. See asyncio.start_server.

        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        server = await hoop.start_server(echo, "127.0.0.1", 8000)
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
    """Listen on a Unix socket. Callback, `limit` and result are those of start_server().

    The other arguments are those of loop.create_unix_server(). See asyncio.start_unix_server.

        server = await hoop.start_unix_server(echo, "/run/app.sock")
    """
    loop = asyncio.get_running_loop()
    factory = _factory(loop, limit, client_connected_cb)
    return await loop.create_unix_server(factory, path, **kwds)


def _factory(
    loop: asyncio.AbstractEventLoop, limit: int, client_connected_cb: ClientConnected
) -> Callable[[], StreamProtocol]:
    def new_protocol() -> StreamProtocol:
        return StreamProtocol(StreamReader(limit, loop), client_connected_cb, loop)

    return new_protocol
