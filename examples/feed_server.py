"""A real-time feed by datagrams: sends each new price to everyone who subscribed.

    python examples/feed_server.py 9999

Watch it by examples/feed_watcher.py. A watcher says hello every second. The server forgets a watcher that
it has not heard of for three seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import Any

import hoop


class Feed(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard_of: dict[Any, float] = {}  # hellos: address -> time
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard_of[addr] = asyncio.get_running_loop().time()

    def publish(self, news: bytes) -> None:
        """Send the news to all watchers that are still there.."""
        now = asyncio.get_running_loop().time()
        self.heard_of = {a: when for a, when in self.heard_of.items() if now - when < 3}
        for address in self.heard_of:
            self.transport.sendto(news, address)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    transport, feed = await loop.create_datagram_endpoint(Feed, ("127.0.0.1", port))
    print("listening on port", transport.get_extra_info("sockname")[1], flush=True)
    number, price = 0, 100.0
    with contextlib.closing(transport):
        while True:
            number, price = number + 1, price + random.uniform(-1, 1)
            feed.publish(f"{number} {price:.2f}".encode())
            await hoop.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        hoop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9999))
