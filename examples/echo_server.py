"""An echo server by hoop's streams: each line that a client sends goes back to it.

    python examples/echo_server.py 8888

Talk to it with examples/echo_client.py, or with `nc 127.0.0.1 8888`. Ctrl-C ends it.
"""

from __future__ import annotations

import contextlib
import sys

import hoop


async def echo(reader: hoop.StreamReader, writer: hoop.StreamWriter) -> None:
    """Serve one client until it sends no more."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()  # waits while the client reads slower than it sends
    except ConnectionError:
        print("a client broke its connection off")
    finally:
        writer.close()


async def main(port: int) -> None:
    server = await hoop.start_server(echo, "127.0.0.1", port)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        hoop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8888))
