"""The Unix socket at which an observed process answers: a JSON document on each line.

    <- {"hoop": "0.2.0", "schema": 1, "pid": 4711, "python": "3.13.0", "program": "server.py"}
    -> {"id": 1, "get": "tasks", "sort": "busy", "top": 50}    <- {"id": 1, "ok": [...]}
    -> {"id": 2, "follow": "overview", "every": 1}             <- {"id": 2, "event": {...}} ...
    -> {"id": 3, "get": "nonsense"}                            <- {"id": 3, "error": "no such view: nonsense"}

It is read-only: no request changes anything in the program. The observer's thread serves it, so it answers
while a loop is blocked. The Budget decides when there is time for it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from hoop.observe.places import ANSWER_MAX, LINE_MAX, listen

logger = logging.getLogger("hoop.observe")

CLIENTS_MAX = 8
FOLLOWS_MAX = 16  # of a client
TAKE_MAX = 5.0  # seconds in which a client has to take an answer
LEASE = 5.0  # seconds for which a request with "look" turns measuring on
ACCEPT_EVERY = 0.25  # seconds between new clients while the budget is used up
EVERY_MIN = 0.1
STREAMS = frozenset(("stalls",))  # follows of these are told of each event
CREDENTIALS = struct.Struct("3i")


class Budget:
    """Decides when the observer's thread may work for clients: after `c` seconds of processor time, it
    may not for `49 * c`.

    So it cannot use more than 2 % of a processor, whatever clients ask. The first AT_ONCE seconds are for the
    watch, and for a client that asks a little.
    """

    SHARE = 0.02
    AT_ONCE = 0.005
    REST_MIN = 0.01

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self.clock = clock
        self.cpu = cpu
        self.debt = 0.0
        self.rests = False
        self.spent = 0.0
        self.longest = 0.0
        self.at = clock()
        self.used = cpu()

    def begin(self) -> None:
        """Count from now on, in the thread that works."""
        self.at = self.clock()
        self.used = self.cpu()

    def account(self) -> float:
        """Take notice of what was spent. Returns the seconds until there is time to work again, 0 for now."""
        now, used = self.clock(), self.cpu()
        spent = max(used - self.used, 0.0)
        self.spent += spent
        self.debt = max(self.debt + spent - self.SHARE * max(now - self.at, 0.0), 0.0)
        self.at, self.used = now, used
        if self.debt > self.AT_ONCE:
            self.rests = True
        elif self.debt <= self.AT_ONCE / 2:
            self.rests = False
        if not self.rests:
            return 0.0
        # A rest ends with some time in hand: to wake up takes some already.
        return max((self.debt - self.AT_ONCE / 2) / self.SHARE, self.REST_MIN)

    def rest(self) -> float:
        """As account(). Remembers the longest rest of late, to be shown to clients."""
        left = self.account()
        self.longest = max(left, 0.9 * self.longest)
        return left


class Wrong(Exception):
    """A request that cannot be answered, and why."""


class Query:
    """The checked fields of a request. Those that it does not know are left out."""

    __slots__ = ("every", "fields", "follows", "id", "look", "seen", "view")

    def __init__(self, given: dict[str, Any]) -> None:
        self.id = given.get("id")
        self.follows = "follow" in given
        view = given.get("follow") if self.follows else given.get("get")
        if type(view) is not str:
            raise Wrong('a request says "get" or "follow", and the name of a view')
        self.view: str = view
        every = given.get("every", 1.0)
        if type(every) not in (int, float) or not math.isfinite(every):
            raise Wrong('"every" must be a number of seconds')
        self.every = max(float(every), EVERY_MIN)
        self.look = given.get("look") is True
        self.seen = 0
        self.fields = given

    def number(self, name: str, default: int, greatest: int) -> int:
        """A field that is a whole number, from 0 on."""
        value = self.fields.get(name, default)
        if type(value) is not int or value < 0:
            raise Wrong(f'"{name}" must be a whole number, and not negative')
        return min(value, greatest)

    def text(self, name: str, default: str) -> str:
        """A field that is a text."""
        value = self.fields.get(name, default)
        if type(value) is not str:
            raise Wrong(f'"{name}" must be a text')
        return value


class Client:
    """A connected client: the bytes that have come, the answers that it has not taken, and its follows."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.came = bytearray()
        self.leaves: list[memoryview] = []
        self.stuck_since: float | None = None
        self.follows: dict[Any, tuple[Query, float]] = {}
        self.looks_until = -math.inf
        self.ends = False  # once it has taken what was sent


class Server:
    """Serves the clients, in the observer's thread alone.

    `answer(query)` gives what json.dumps() takes, or raises Wrong. `greeting()` gives the first line.
    `news(query)` gives the events since the last call for a view of STREAMS. `views` has the names of all.
    `on_look()` is called when a client looks at what only a measuring loop has: see looks().
    """

    def __init__(
        self,
        answer: Callable[[Query], Any],
        greeting: Callable[[], dict[str, Any]],
        news: Callable[[Query], list[Any]],
        views: Container[str],
        budget: Budget,
        path: str | None = None,
        on_look: Callable[[], object] = bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answer = answer
        self.greeting = greeting
        self.news = news
        self.views = views
        self.budget = budget
        self.on_look = on_look
        self.clock = clock
        self.clients: dict[int, Client] = {}
        self.waiting: deque[Client] = deque()  # those of which a whole line is there
        self.accepted_at = -math.inf
        self.listening, self.path = listen(path)
        about = os.stat(self.path)
        self.file = (about.st_dev, about.st_ino)
        self.comers = select.epoll()
        self.askers = select.epoll()
        self.takers = select.epoll()
        self.comers.register(self.listening, select.EPOLLIN)

    # ---- the beginning and the end ----

    def descriptors(self, rest: float) -> list[int]:
        """The descriptors to wait for. Those of clients that ask are left out while there is no time."""
        waited = [self.takers.fileno()]
        if not rest:
            waited.append(self.askers.fileno())
        if not rest or self.clock() - self.accepted_at >= ACCEPT_EVERY:
            waited.append(self.comers.fileno())
        return waited

    def next_due(self, rest: float) -> float:
        """Seconds until something is to be done, though no descriptor is ready."""
        now = self.clock()
        due = 1.0
        if rest:
            due = min(due, rest)
            if self.accepted_at + ACCEPT_EVERY > now:  # until then new clients are not waited for
                due = min(due, self.accepted_at + ACCEPT_EVERY - now)
        if self.waiting and not rest:
            due = 0.0
        for client in self.clients.values():
            if client.stuck_since is not None:
                due = min(due, client.stuck_since + TAKE_MAX - now)
            elif not rest:
                for _, at in client.follows.values():
                    due = min(due, at - now)
        return max(due, 0.0)

    def leave(self) -> None:
        """Close everything. The file is kept: after a fork it is the parent's."""
        for client in self.clients.values():
            client.sock.close()
        self.clients.clear()
        for poll in (self.comers, self.askers, self.takers):
            poll.close()
        self.listening.close()

    def close(self) -> None:
        """Close everything, and remove the file unless it is another's by now."""
        self.leave()
        try:
            about = os.stat(self.path, follow_symlinks=False)
            if (about.st_dev, about.st_ino) == self.file:
                os.unlink(self.path)
        except FileNotFoundError:
            pass  # somebody has cleaned up

    # ---- one turn ----

    def serve(self, readable: list[int]) -> None:
        """Serve those of the descriptors that are readable, and the follows that are due."""
        if self.takers.fileno() in readable:
            for fd, _ in self.takers.poll(0):
                self.send(self.clients[fd])
        for client in list(self.clients.values()):
            if client.stuck_since is not None and self.clock() - client.stuck_since >= TAKE_MAX:
                self.drop(client)
        if self.comers.fileno() in readable:
            self.accept()
        # One request at a time, each of another client.
        while not self.budget.rest():
            ready = self.askers.poll(0)
            for fd, _ in ready:
                self.receive(self.clients[fd])
            if self.waiting:
                self.take_turn(self.waiting.popleft())
            elif not ready:
                break
        self.serve_follows()

    def looks(self) -> bool:
        """Whether a client looks at what only a measuring loop has."""
        now = self.clock()
        return any(
            client.looks_until > now or any(query.look for query, _ in client.follows.values())
            for client in self.clients.values()
        )

    def accept(self) -> None:
        """Take a new client, if it is the user's own or root's, and there is room."""
        try:
            sock, _ = self.listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as exc:  # no descriptors are left
            logger.warning("cannot take a client: %s", exc)
            self.accepted_at = self.clock()
            return
        self.accepted_at = self.clock()
        if len(self.clients) >= CLIENTS_MAX:
            self.drop_gone()
        sock.setblocking(False)
        client = Client(sock)
        self.clients[sock.fileno()] = client
        self.askers.register(sock, select.EPOLLIN)
        _, uid, _ = CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
        if uid not in (0, os.geteuid()):
            client.ends = True
            self.say(client, {"error": "this process is another user's"})
        elif len(self.clients) > CLIENTS_MAX:
            client.ends = True
            self.say(client, {"error": f"there are {CLIENTS_MAX} clients already"})
        else:
            self.say(client, self.greeting())

    def drop(self, client: Client) -> None:
        self.clients.pop(client.sock.fileno(), None)
        client.sock.close()

    def drop_all(self) -> None:
        for client in list(self.clients.values()):
            self.drop(client)

    def drop_gone(self) -> None:
        """Drop the clients that have gone. While there is no time to read nobody else notices."""
        for client in list(self.clients.values()):
            try:
                if not client.sock.recv(1, socket.MSG_PEEK):
                    self.drop(client)
            except BlockingIOError:
                pass  # it is there, and silent
            except OSError:
                self.drop(client)

    # ---- a client ----

    def receive(self, client: Client) -> None:
        """Take what has come, if no whole line is left."""
        if b"\n" not in client.came:
            try:
                data = client.sock.recv(LINE_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.drop(client)
                return
            client.came += data
        if b"\n" not in client.came and len(client.came) <= LINE_MAX:
            return
        if client not in self.waiting:
            self.waiting.append(client)

    def take_turn(self, client: Client) -> None:
        """Answer the first line of a client. The others wait until the other clients have had a turn."""
        if self.clients.get(client.sock.fileno()) is not client or client.ends:
            return
        if client.stuck_since is not None:
            return  # send() has it wait again
        line = bytes(client.came).partition(b"\n")[0]
        if len(line) > LINE_MAX:
            client.ends = True
            self.say(client, {"id": None, "error": f"a line has at most {LINE_MAX} bytes"})
            return
        del client.came[: len(line) + 1]
        if line.strip():
            self.take_line(client, bytes(line))
        if b"\n" in client.came and client.stuck_since is None:
            self.waiting.append(client)

    def take_line(self, client: Client, line: bytes) -> None:
        """Answer a line, whatever is in it."""
        number = None
        try:
            try:
                given = json.loads(line.decode())
            except (ValueError, RecursionError) as exc:
                raise Wrong(f"not a line of JSON: {exc}") from None
            if type(given) is not dict:
                raise Wrong("a request is a JSON object")
            number = given.get("id")
            if type(number) not in (int, str, type(None)):
                number = None
                raise Wrong('"id" must be a number or a text')
            query = Query(given)
            if query.look:
                client.looks_until = self.clock() + LEASE
                self.on_look()
            if query.follows:
                self.begin_follow(client, query)
            else:
                self.say(client, {"id": number, "ok": self.answer(query)})
        except Wrong as exc:
            self.say(client, {"id": number, "error": str(exc)})

    def say(self, client: Client, answer: dict[str, Any]) -> None:
        """Send a document to a client, now as far as it takes it."""
        data = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        if len(data) > ANSWER_MAX:
            error = f"the answer has {len(data)} bytes, and {ANSWER_MAX} are allowed: ask for fewer rows"
            data = json.dumps({"id": answer.get("id"), "error": error}).encode() + b"\n"
        client.leaves.append(memoryview(data))
        if client.stuck_since is None:
            self.send(client)

    def send(self, client: Client) -> None:
        """Send what waits for a client. If it does not take all, wait until it does."""
        while client.leaves:
            try:
                sent = client.sock.send(client.leaves[0])
            except BlockingIOError:
                break
            except OSError:
                return self.drop(client)
            if sent < len(client.leaves[0]):
                client.leaves[0] = client.leaves[0][sent:]
            else:
                del client.leaves[0]
        if client.leaves:
            if client.stuck_since is None:
                client.stuck_since = self.clock()
                self.askers.unregister(client.sock)
                self.takers.register(client.sock, select.EPOLLOUT)
        elif client.ends:
            self.drop(client)
        elif client.stuck_since is not None:
            client.stuck_since = None
            self.takers.unregister(client.sock)
            self.askers.register(client.sock, select.EPOLLIN)
            if b"\n" in client.came:
                self.waiting.append(client)
        return None

    # ---- follows ----

    def begin_follow(self, client: Client, query: Query) -> None:
        """Send a view again and again from now on. One of the same id is replaced."""
        if len(client.follows) >= FOLLOWS_MAX and query.id not in client.follows:
            raise Wrong(f"a client may follow {FOLLOWS_MAX} views")
        stream = query.view in STREAMS
        if not stream and query.view not in self.views:
            raise Wrong(f"no such view: {query.view}")
        client.follows[query.id] = (query, math.inf if stream else self.clock())

    def serve_follows(self) -> None:
        """Send the events that are due, those first that are due for longest."""
        due = [
            (at, key, client)
            for client in self.clients.values()
            for key, (query, at) in client.follows.items()
            if client.stuck_since is None and (at <= self.clock() or query.view in STREAMS)
        ]
        due.sort(key=lambda one: one[0])
        for _, key, client in due:
            if self.budget.rest():
                break
            if self.clients.get(client.sock.fileno()) is client and client.stuck_since is None:
                self.serve_follow(client, *client.follows[key])

    def serve_follow(self, client: Client, query: Query, at: float) -> None:
        if query.view in STREAMS:
            for event in self.news(query):
                self.say(client, {"id": query.id, "event": event})
            return
        try:
            self.say(client, {"id": query.id, "event": self.answer(query)})
        except Wrong as exc:
            self.say(client, {"id": query.id, "error": str(exc)})
        client.follows[query.id] = (query, self.clock() + query.every)
