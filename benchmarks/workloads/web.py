"""Servers and a client of the web: uvicorn, aiohttp and websockets, with as little on top as can be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import workloads

BACKLOG = 4096
BODY = b"Hello, World!"
CLIENTS = 16
KEEP_ALIVE_S = 3600  # A connection stays while others have their turns.


async def uvicorn(sock: socket.socket) -> object:
    """Answer over HTTP as an ASGI application under uvicorn, which parses with httptools."""
    package = workloads.module("uvicorn")
    workloads.module("httptools")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    config = package.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        loop="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        log_level="error",
        access_log=False,
    )
    server = package.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    return serving


async def aiohttp(sock: socket.socket) -> object:
    """Answer over HTTP as an application of aiohttp."""
    web = workloads.module("aiohttp.web")

    async def hello(request: Any) -> Any:
        return web.Response(body=BODY, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=KEEP_ALIVE_S)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    return runner


async def websocket(sock: socket.socket) -> object:
    """Send back every WebSocket message, with the websockets package."""
    serve = workloads.module("websockets.asyncio.server").serve

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return await serve(echo, sock=sock, compression=None, ping_interval=None)


@asynccontextmanager
async def aiohttp_client(address: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Fetch from a server on that port, sixteen requests at a time on kept connections."""
    package = workloads.module("aiohttp")
    url = f"http://127.0.0.1:{address}/"

    async with package.ClientSession() as session:

        async def fetch(times: int) -> None:
            for _ in range(times):
                async with session.get(url) as response:
                    if await response.read() != BODY:
                        raise AssertionError("the server sent another body")

        async def work(n: int) -> None:
            await asyncio.gather(*(fetch(-(-n // CLIENTS)) for _ in range(CLIENTS)))

        yield work
