"""Clients that drive the chat room over real connections and check all they get.

Every client says its messages one at a time: the next one when its own last one has come back. So there are
never more messages under way than clients. Every client must get every message of all clients exactly once,
in the order the room numbered them, and word for word.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from aiohttp import ClientSession, ClientWebSocketResponse

DRIVE_TIMEOUT_S = 120.0
PAGE_REQUESTS_AT_ONCE = 10
CLIENT_PREFIX = "Client "  # Messages of people at the open page are not counted.


@dataclass(frozen=True)
class Outcome:
    """The clients' results, and the cost for this process: server and clients together."""

    clients: int
    messages: int
    deliveries: int
    deliveries_expected: int
    page_requests: int
    page_requests_expected: int
    faults: tuple[str, ...]
    wall_s: float
    cpu_s: float

    @property
    def complete(self) -> bool:
        return (
            not self.faults
            and self.deliveries == self.deliveries_expected
            and self.page_requests == self.page_requests_expected
        )


def spoken(name: str, number: int, of: int) -> str:
    """Return the text of a client's message; every one is different, and none is pure ASCII."""
    return f"{name} here · message {number} of {of} ✓"


class Client:
    """One client in the room."""

    def __init__(self, name: str, messages: int) -> None:
        self.name = name
        self.said = 0
        self.received: dict[str, int] = {}  # The room's number of each message, by its text.
        self.faults: list[str] = []
        self._messages = messages

    async def take_part(
        self, session: ClientSession, url: str, everyone: asyncio.Barrier, expected: frozenset[str]
    ) -> None:
        """Join, say all messages, and leave when every expected message has come."""
        async with session.ws_connect(url) as socket:
            await socket.send_json({"type": "hello", "name": self.name})
            await self._wait_welcome(socket)
            await everyone.wait()
            await self._say_next(socket)
            while len(self.received) < len(expected):
                event = await socket.receive_json()
                if event["type"] == "say" and event["name"].startswith(CLIENT_PREFIX):
                    self._receive(event["id"], event["text"], expected)
                    if event["name"] == self.name and self.said < self._messages:
                        await self._say_next(socket)

    async def _wait_welcome(self, socket: ClientWebSocketResponse) -> None:
        welcome = await socket.receive_json()
        if (welcome["type"], welcome.get("name")) != ("welcome", self.name):
            self.faults.append(f"{self.name} was not welcomed by its name: {welcome}")

    async def _say_next(self, socket: ClientWebSocketResponse) -> None:
        self.said += 1
        text = spoken(self.name, self.said, self._messages)
        await socket.send_json({"type": "say", "text": text})

    def _receive(self, number: int, text: str, expected: frozenset[str]) -> None:
        if text not in expected:
            self.faults.append(f"{self.name} got what nobody said: {text!r}")
        elif text in self.received:
            self.faults.append(f"{self.name} got {text!r} twice")
        else:
            if self.received and number <= next(reversed(self.received.values())):
                self.faults.append(f"{self.name} got {text!r} out of order")
            self.received[text] = number


async def fetch_pages(
    session: ClientSession, url: str, page: bytes, times: int, right: list[str]
) -> None:
    """Ask for the page that many times, some at once; note in `right` each time it came whole."""
    slots = asyncio.Semaphore(PAGE_REQUESTS_AT_ONCE)

    async def fetch() -> None:
        async with slots, session.get(url) as response:
            if response.ok and await response.read() == page:
                right.append(url)

    await asyncio.gather(*(fetch() for _ in range(times)))


async def drive(
    url: str, page: bytes, clients_count: int, messages_each: int, page_requests: int
) -> Outcome:
    """Let the clients talk in the room at `url`, and others fetch its page meanwhile."""
    names = [f"{CLIENT_PREFIX}{number:02}" for number in range(1, clients_count + 1)]
    clients = [Client(name, messages_each) for name in names]
    expected = frozenset(
        spoken(name, number, messages_each)
        for name in names
        for number in range(1, messages_each + 1)
    )
    everyone = asyncio.Barrier(clients_count)
    faults: list[str] = []
    pages_right: list[str] = []
    started_at, cpu_before_s = time.perf_counter(), time.process_time()
    async with ClientSession() as session:
        try:
            async with asyncio.timeout(DRIVE_TIMEOUT_S), asyncio.TaskGroup() as group:
                group.create_task(fetch_pages(session, url, page, page_requests, pages_right))
                for client in clients:
                    group.create_task(client.take_part(session, f"{url}room", everyone, expected))
        except TimeoutError:
            faults.append(f"not all was delivered within {DRIVE_TIMEOUT_S:.0f} s")
    wall_s, cpu_s = time.perf_counter() - started_at, time.process_time() - cpu_before_s

    for client in clients:
        faults += client.faults
    if len({tuple(client.received.items()) for client in clients}) > 1:
        faults.append("the clients did not all get the same messages in the same order")
    return Outcome(
        clients=clients_count,
        messages=sum(client.said for client in clients),
        deliveries=sum(len(client.received) for client in clients),
        deliveries_expected=clients_count * len(expected),
        page_requests=len(pages_right),
        page_requests_expected=page_requests,
        faults=tuple(faults),
        wall_s=wall_s,
        cpu_s=cpu_s,
    )
