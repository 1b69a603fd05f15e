"""The feed of a screen: it follows an observed process in a thread, and keeps the last five minutes.

    feed = Feed(lambda: client.connect(4711))
    feed.start()
    for event in feed.events():
        ...

An event is "overview" or "stall" with that record, or "trouble" with a text. It is "silent" if the process
does not answer, with all that can be seen of it. The first one is "history", the points so far.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from hoop.cli import client
from hoop.cli.client import Connection, NoSuchProcess, NotAnswering, Refused

HISTORY = 302  # points, one a second
STALLS = 100
EVERY = 1.0  # seconds from one overview to the next
SILENT_AFTER = 1.2  # seconds without a word of the process
GREETS_WITHIN = 0.5
RETRY_AFTER = 1.0
PATIENCE = 30.0
PING_EVERY = 10.0
STACK = "Stack (most recent call first):"
DUMPED = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)

Event = tuple[str, Any]
TROUBLE = (NoSuchProcess, NotAnswering, Refused, OSError)


class Feed(threading.Thread):
    """Follows the process in a thread, and remembers what a page that opens later has to know."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        super().__init__(name="hoop-web", daemon=True)
        self.connect = connect
        self.changed = threading.Condition()
        self.points: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.stalls: dict[int, dict[str, Any]] = {}
        self.trouble = "connecting"
        self.last: dict[str, Any] | None = None
        self.news: deque[Event] = deque(maxlen=HISTORY)
        self.count = 0
        self.asking = threading.Lock()
        self.link: Connection | None = None
        self.following: Connection | None = None
        self.ended = False

    # ---- following ----

    def run(self) -> None:
        while not self.ended:
            try:
                with self.connect() as self.following:
                    self.follow(self.following)
            except TROUBLE as exc:
                self.tell("trouble", {"text": str(exc)})
                with self.changed:
                    self.changed.wait_for(lambda: self.ended, RETRY_AFTER)

    def follow(self, connection: Connection) -> None:
        """Take the events of one connection, until it ends."""
        overview = connection.send("follow", "overview", every=EVERY)
        stalls = connection.send("follow", "stalls")
        while not self.ended:
            try:
                line = connection.read(SILENT_AFTER)
            except NotAnswering:
                if is_over(connection):
                    raise
                if not client.greets(connection.path, GREETS_WITHIN):
                    self.tell("silent", silence(connection.pid))
                continue
            if "error" in line:
                raise Refused(str(line["error"]))
            if line.get("id") == overview:
                self.tell("overview", {**line["event"], "t": time.time()})
            elif line.get("id") == stalls:
                self.tell("stall", line["event"])

    def tell(self, kind: str, value: Any) -> None:
        """Tell all pages, and keep what a page that opens later has to know."""
        with self.changed:
            if kind == "overview":
                self.last, self.trouble = value, ""
                self.points.append(point_of(value))
            elif kind == "stall":
                self.stalls[value["number"]] = value
                if len(self.stalls) > STALLS:
                    del self.stalls[next(iter(self.stalls))]
            elif kind == "trouble":
                self.trouble = value["text"]
            self.news.append((kind, value))
            self.count += 1
            self.changed.notify_all()

    def events(self) -> Iterator[Event | None]:
        """Yield all that is known, then what comes, and None from time to time when nothing does."""
        with self.changed:
            known: list[Event] = [("history", list(self.points)[:-1])]
            known += [("stall", stall) for stall in self.stalls.values()]
            if self.last is not None:
                known.append(("overview", self.last))
            if self.trouble:
                known.append(("trouble", {"text": self.trouble}))
            seen = self.count
        yield from known
        while not self.ended:
            come: list[Event | None] = []
            with self.changed:
                if self.count == seen:
                    self.changed.wait(PING_EVERY)
                new = min(self.count - seen, len(self.news))
                seen = self.count
                come += list(self.news)[len(self.news) - new :]
            yield from come or [None]

    # ---- asking ----

    def ask(self, view: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the rows of a view, or an error, over a connection that is kept."""
        with self.asking:
            try:
                if self.ended:
                    return {"error": "nobody looks any more"}
                if self.link is None:
                    self.link = self.connect()
                return self.answer(self.link, self.link.send("get", view, **fields))
            except TROUBLE as exc:
                if self.link is not None and not isinstance(exc, Refused):
                    self.link.close()
                    self.link = None
                return {"error": str(exc)}

    def answer(self, link: Connection, number: int) -> dict[str, Any]:
        """Wait for an answer. The observer takes its time if it has used up its budget."""
        until = time.monotonic() + PATIENCE
        while not self.ended and time.monotonic() < until:
            try:
                answer = link.read(1.0)
            except NotAnswering:
                if is_over(link):
                    raise
                continue
            if answer.get("id") == number:
                return {"rows": answer["ok"]} if "ok" in answer else {"error": answer["error"]}
        raise NotAnswering("it does not answer")

    def end(self) -> None:
        """Let the thread and all pages end."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        for connection in (self.following, self.link):
            if connection is not None:
                interrupt(connection)
        with self.asking:
            if self.link is not None:
                self.link.close()
                self.link = None


def interrupt(connection: Connection) -> None:
    """Have the thread that reads from a connection find its end."""
    try:
        connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


def is_over(connection: Connection) -> bool:
    """Whether the other side has closed a connection that has nothing to read."""
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready)


def silence(pid: int | None) -> dict[str, Any]:
    """The threads of a process that does not answer, and the last stack that one of them has dumped."""
    seen: dict[str, Any] = {"dump": "", "threads": []} if pid is None else client.blocked(pid)
    stack = DUMPED.findall(seen["dump"].rpartition(STACK)[2])
    return {
        "stack": [f"{file}:{line} {function}" for file, line, function in stack],
        "threads": [
            f"{one['name']} {one['state']} {one['cpu']:.1f} s {one['wchan']}".rstrip()
            for one in seen["threads"]
        ],
    }


def point_of(overview: dict[str, Any]) -> dict[str, Any]:
    """The part of an overview that the strip shows."""
    kept = ("id", "recent", "ready", "ready_max", "tasks")
    return {
        "t": overview["t"],
        "gc": overview["gc"],
        "loops": [{name: loop[name] for name in kept} for loop in overview["loops"]],
    }
