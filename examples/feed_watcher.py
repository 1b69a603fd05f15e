"""A watcher of examples/feed_server.py: subscribes, and prints so many prices.

    python examples/feed_watcher.py 9999 5

The first argument is the server's port.
"""

from __future__ import annotations

import asyncio
import sys

import hoop


class Watcher(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.news: hoop.Queue[str] = hoop.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.news.put_nowait(data.decode())


async def keep_subscribed(transport: asyncio.DatagramTransport) -> None:
    while True:
        transport.sendto(b"hello")
        await hoop.sleep(1)


async def main(port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    transport, watcher = await loop.create_datagram_endpoint(
        Watcher, remote_addr=("127.0.0.1", port)
    )
    subscribing = hoop.create_task(keep_subscribed(transport))
    for _ in range(count):
        print(await watcher.news.get(), flush=True)
    subscribing.cancel()
    transport.close()


if __name__ == "__main__":
    hoop.run(main(int(sys.argv[1]), int(sys.argv[2])))
