"""Served by several processes on one socket in test_workers.py: an ASGI application.

`/` says which process answers, and on which loop. `/block?path` keeps its process busy, without ever coming
back to the loop, until there is a file of that path.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of the process and the name of its loop's driver."""
    if scope["type"] == "lifespan":
        message = {"type": ""}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    if scope["path"] == "/block":
        path = scope["query_string"].decode()
        open(f"{path}.blocked", "w").close()
        while not os.path.exists(path):
            time.sleep(0.01)
    body = f"{os.getpid()} {getattr(asyncio.get_running_loop(), 'driver', None)}".encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
