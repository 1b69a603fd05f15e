"""A graceful shutdown: on SIGTERM or Ctrl-C the server ends the work that it has begun, then stops.

    python examples/graceful_shutdown.py 8888

Send it a line with `nc 127.0.0.1 8888`: the answer takes a second. If you stop the server meanwhile, the
answer still comes. `loop.drain(5)` stops accepting, closes idle connections, and waits for the others. When
most of the five seconds have passed, it cancels the tasks that are left, and then aborts their connections.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import hoop


async def serve(reader: hoop.StreamReader, writer: hoop.StreamWriter) -> None:
    """Answer each line after a second of work."""
    try:
        while line := await reader.readline():
            print("working", flush=True)
            await hoop.sleep(1)
            writer.write(b"done: " + line)
            await writer.drain()
    finally:
        writer.close()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, hoop.EventLoop)
    stop = hoop.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await hoop.start_server(serve, "127.0.0.1", port)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    outcome = await loop.drain(5)
    print(
        f"ended in order: {outcome.closed}, cancelled: {len(outcome.cancelled)},",
        f"aborted: {len(outcome.aborted)}",
    )


if __name__ == "__main__":
    hoop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8888))
