"""An HTTP/1.1 server by hand, on streams: GET only, connections stay open between requests.

    python examples/http_server.py 8080

Then open http://127.0.0.1:8080/ in a browser. It shows how streams are used: in earnest, take uvicorn
or aiohttp, which run on hoop as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from http import HTTPStatus

import hoop

PAGES = {"/": "Hello from hoop. There is also /time.\n"}


def answer(status: HTTPStatus, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def look_up(head: bytes) -> bytes:
    """The answer to a request, of which `head` is everything up to the empty line."""
    method, path, *_ = [*head.decode("latin-1").split(" ", 2), ""]
    if method != "GET":
        return answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET\n")
    if path == "/time":
        return answer(HTTPStatus.OK, f"{asyncio.get_running_loop().time():.6f}\n")
    if path in PAGES:
        return answer(HTTPStatus.OK, PAGES[path])
    return answer(HTTPStatus.NOT_FOUND, f"there is no {path}\n")


async def serve(reader: hoop.StreamReader, writer: hoop.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while True:
            try:
                async with asyncio.timeout(30):
                    head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                return  # closed by the client, too long, or idle for too long
            writer.write(look_up(head))
            await writer.drain()


async def main(port: int) -> None:
    server = await hoop.start_server(serve, "127.0.0.1", port)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        hoop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
