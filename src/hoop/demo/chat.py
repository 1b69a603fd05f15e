"""The chat room: its members, their messages, and the web application that serves it.

The room sends every event through a queue of each member, so one slow member never holds up the others. The
room cuts off a member that falls too far behind. Events are JSON objects with a `type`. A member sends
`hello` (once, first) and `say`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

Event = dict[str, Any]

HISTORY_MESSAGES = 50
OUTBOX_EVENTS = 2_000
NAME_CHARACTERS = 24
TEXT_CHARACTERS = 2_000
FRAME_BYTES = 32 * 1024
HELLO_TIMEOUT_S = 10.0
HEARTBEAT_S = 30.0
STATS_INTERVAL_S = 1.0


class Refused(Exception):
    """A member sent something that makes no sense. The message tells the member why."""


class Member:
    """One WebSocket in the room, and the frames still to be sent to it."""

    def __init__(self, name: str, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.name = name
        self._socket = socket
        self._transport = request.transport
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX_EVENTS)

    def post(self, frame: str) -> None:
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:
            if self._transport is not None:
                self._transport.abort()

    async def close(self) -> None:
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the room closes")

    async def send_posted(self, room: Room) -> None:
        """Send the posted frames, for as long as the connection lasts."""
        while True:
            frame = await self._outbox.get()
            try:
                await self._socket.send_str(frame)
            except ConnectionError:
                return  # The member is gone. The task that listens to it finds out as well, and removes it.
            room.frames_sent += 1


class Room:
    """The members by name, the last messages, and counts of all traffic."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._history: deque[Event] = deque(maxlen=HISTORY_MESSAGES)
        self._opened_at = time.time()
        self.messages = 0
        self.frames_sent = 0

    def join(self, wanted: str, socket: web.WebSocketResponse, request: web.Request) -> Member:
        """Add a member under the wanted name, or that name and a number if it is taken."""
        name, number = wanted, 1
        while name in self._members:
            number += 1
            name = f"{wanted} {number}"
        self._publish({"type": "join", "name": name})
        member = Member(name, socket, request)
        self._members[name] = member
        member.post(_frame(self._welcome(name)))
        return member

    def leave(self, member: Member) -> None:
        del self._members[member.name]
        self._publish({"type": "leave", "name": member.name})

    def say(self, member: Member, text: str) -> None:
        self.messages += 1
        event = {
            "type": "say",
            "id": self.messages,
            "name": member.name,
            "text": text,
            "at": time.time(),
        }
        self._history.append(event)
        self._publish(event)

    async def publish_stats(self) -> None:
        """Tell the members, every second, how the room is doing."""
        frames_before = self.frames_sent
        while True:
            await asyncio.sleep(STATS_INTERVAL_S)
            frames = self.frames_sent
            self._publish(
                {
                    "type": "stats",
                    "here": len(self._members),
                    "messages": self.messages,
                    "frames": frames,
                    "frames_per_second": round((frames - frames_before) / STATS_INTERVAL_S),
                    "up_s": int(time.time() - self._opened_at),
                }
            )
            frames_before = frames

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members.values()))

    def _publish(self, event: Event) -> None:
        frame = _frame(event)
        for member in self._members.values():
            member.post(frame)

    def _welcome(self, name: str) -> Event:
        return {
            "type": "welcome",
            "name": name,
            "members": list(self._members),
            "history": list(self._history),
            "opened_at": self._opened_at,
            "loop": describe_loop(asyncio.get_running_loop()),
        }


def _frame(event: Event) -> str:
    # ASCII only: half a surrogate pair, which JSON can bring in, could not be sent as UTF-8.
    return json.dumps(event, separators=(",", ":"))


def describe_loop(loop: asyncio.AbstractEventLoop) -> str:
    """Return the loop's class and, if it says so, the driver it waits with."""
    kind = type(loop)
    name = f"{kind.__module__}.{kind.__qualname__}"
    driver = getattr(loop, "driver", None)
    return name if driver is None else f"{name} ({driver})"


def _parse(data: str, expected: str) -> Event:
    """Return the event in a frame a member sent. Raises Refused if it is not of that type."""
    try:
        event = json.loads(data)
    except ValueError:
        raise Refused("that was not JSON") from None
    if not isinstance(event, dict) or event.get("type") != expected:
        raise Refused(f"expected an object with the type {expected!r}")
    return event


def _text(event: Event, key: str, characters_max: int) -> str:
    text = event.get(key)
    if not isinstance(text, str) or not text.strip():
        raise Refused(f"{key!r} must say something")
    text = text.strip()
    if len(text) > characters_max:
        raise Refused(f"{key!r} is longer than {characters_max} characters")
    return text


ROOM = web.AppKey("room", Room)
PAGE = web.AppKey("page", bytes)

# The page needs nothing but itself and its own WebSocket.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
    ),
}


async def serve_page(request: web.Request) -> web.Response:
    return web.Response(
        body=request.app[PAGE], content_type="text/html", charset="utf-8", headers=PAGE_HEADERS
    )


def _from_elsewhere(request: web.Request) -> bool:
    """Tell whether a page of another site opened this WebSocket; browsers do not forbid that."""
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.host


async def serve_room(request: web.Request) -> web.WebSocketResponse:
    if _from_elsewhere(request):
        raise web.HTTPForbidden(text="this room is only open to its own page")
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=FRAME_BYTES)
    await socket.prepare(request)
    try:
        hello = _parse(await socket.receive_str(timeout=HELLO_TIMEOUT_S), "hello")
        name = _text(hello, "name", NAME_CHARACTERS)
    except Refused as reason:
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(reason).encode())
        return socket
    except (TimeoutError, TypeError):  # TypeError: it was closed, or not a text frame.
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no hello")
        return socket

    room = request.app[ROOM]
    member = room.join(name, socket, request)
    sending = asyncio.create_task(member.send_posted(room))
    try:
        await _listen(room, member, socket)
    finally:
        room.leave(member)
        sending.cancel()
        await asyncio.wait([sending])
    return socket


async def _listen(room: Room, member: Member, socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        try:
            room.say(member, _text(_parse(message.data, "say"), "text", TEXT_CHARACTERS))
        except Refused as reason:
            member.post(_frame({"type": "refused", "reason": str(reason)}))


async def _publishing_stats(app: web.Application) -> AsyncIterator[None]:
    publishing = asyncio.create_task(app[ROOM].publish_stats())
    yield
    publishing.cancel()
    await asyncio.wait([publishing])


async def _close_room(app: web.Application) -> None:
    await app[ROOM].close()


def create_application() -> web.Application:
    app = web.Application()
    app[ROOM] = Room()
    app[PAGE] = files(__package__).joinpath("page.html").read_bytes()
    app.router.add_get("/", serve_page)
    app.router.add_get("/room", serve_room)
    app.cleanup_ctx.append(_publishing_stats)
    app.on_shutdown.append(_close_room)
    return app
