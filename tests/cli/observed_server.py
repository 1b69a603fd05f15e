"""A program to look into: an application on uvicorn, under load by clients of its own. Prints its port.

`/` answers at once, `/report` after it has waited for a lock. `/block` blocks the loop until a byte comes on
standard input, and `/hold` does so in C code that keeps the GIL.
"""

from __future__ import annotations

import asyncio
import ctypes
import os

import uvicorn

import hoop
from hoop.observe import server as observer

observer.Budget.SHARE = 1.0  # nobody waits until the observer has rested

CLIENTS = 8


def render() -> None:
    """Block the loop, by a call that uses no processor: those are short on a machine that runs tests."""
    os.read(0, 1)  # the guilty line


class Shop:
    """The application."""

    def __init__(self) -> None:
        self.lock = hoop.Lock()

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] == "/block":
            render()
        elif scope["path"] == "/hold":
            ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
        elif scope["path"] == "/report":
            async with self.lock:
                await asyncio.gather(self.part(0.2), self.part(0.4))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def part(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def use(port: int, path: str, pause: float) -> None:
    """Ask for a page again and again, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        await reader.readuntil(b"done\r\n0\r\n\r\n")
        await asyncio.sleep(pause)


async def main() -> None:
    config = uvicorn.Config(Shop(), port=0, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="server")
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(port, flush=True)
    async with asyncio.TaskGroup() as group:
        for n in range(CLIENTS):
            path = "/report" if n < 3 else "/"
            group.create_task(use(port, path, 0.01), name=f"client {n}")
        await serving


hoop.run(main())
