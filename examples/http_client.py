"""An HTTP/1.1 client by hand, on streams: prints the status and the body of one address.

    python examples/http_client.py http://127.0.0.1:8080/time

It works with examples/http_server.py, and over TLS with https:// addresses.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import hoop


async def get(url: str) -> tuple[str, bytes]:
    """Fetch one address. Returns the status line and the body."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http or https address: {url}")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    reader, writer = await hoop.open_connection(parts.hostname, port, ssl=tls or None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode())
        writer.write(b"Connection: close\r\nAccept-Encoding: identity\r\n\r\n")
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if headers.get("transfer-encoding") == "chunked":
            return status, await read_chunks(reader)
        if "content-length" in headers:
            return status, await reader.readexactly(int(headers["content-length"]))
        return status, await reader.read()
    finally:
        writer.close()


async def read_chunks(reader: hoop.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    return bytes(body)


async def main(url: str) -> None:
    async with asyncio.timeout(30):
        status, body = await get(url)
    print(status)
    print(body.decode(errors="replace"), end="")


if __name__ == "__main__":
    hoop.run(main(sys.argv[1]))
