"""`hoop web`: one page in the browser, which shows an observed process while it runs.

The command serves the page on 127.0.0.1, below an address with a token, and relays the feed of the process as
server-sent events. The process itself never opens a port. The page asks nobody else for anything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import re
import secrets
import sys
import urllib.parse
from importlib.resources import files
from typing import Any

from hoop.cli import client
from hoop.cli.client import Connection
from hoop.cli.columns import TABLES, describe, with_texts
from hoop.cli.feed import Feed

ROWS_MAX = 1000
HOSTS = ("127.0.0.1", "localhost", "[::1]")
OF_TASKS = ("tasks", "stack", "tree")  # views whose rows are tasks
SORTS = ("age", "since", "polls", "busy")


# ---- the page --------------------------------------------------------------------------------------


def page_and_policy() -> tuple[bytes, str]:
    """The page, and the policy that lets it do what it does and nothing else."""
    page = files(__package__).joinpath("page.html").read_bytes()
    page = page.replace(b"@TABLES@", json.dumps(describe()).encode())

    def hashes(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in found
        )

    return page, (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


class Server(http.server.ThreadingHTTPServer):
    """Serves the page of one feed, on 127.0.0.1 only. `url` is the address to open."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, feed: Feed, port: int = 0) -> None:
        self.feed = feed
        self.token = secrets.token_urlsafe(24)
        self.page, self.policy = page_and_policy()
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error. All else is one."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of the browser."""

    server: Server
    server_version = "hoop"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            return self.answer(421, "text/plain", b"This is for the user of this machine alone.\n")
        address = urllib.parse.urlsplit(self.path)
        token, _, rest = address.path[1:].partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return self.answer(404, "text/plain", b"The address that `hoop web` printed works.\n")
        if rest == "":
            return self.answer(200, "text/html; charset=utf-8", self.server.page)
        if rest == "events":
            return self.relay()
        kind, _, view = rest.partition("/")
        if kind == "get" and view != "stalls" and (view in TABLES or view in OF_TASKS):
            return self.table(view, dict(urllib.parse.parse_qsl(address.query)))
        return self.answer(404, "text/plain", b"There is nothing here.\n")

    def table(self, view: str, given: dict[str, str]) -> None:
        """Answer with the rows of a table."""
        fields: dict[str, Any] = {"top": ROWS_MAX, "look": True}
        for name in ("top", "task"):
            if given.get(name, "").isdecimal():
                fields[name] = min(int(given[name]), ROWS_MAX if name == "top" else 1 << 62)
        if view == "tasks":
            fields["sort"] = given["sort"] if given.get("sort") in SORTS else "since"
        answer = self.server.feed.ask(view, fields)
        if "rows" in answer:
            table = "tasks" if view in OF_TASKS else view
            answer = {"rows": [with_texts(table, row) for row in answer["rows"]]}
        self.answer(200, "application/json", json.dumps(answer).encode())

    def relay(self) -> None:
        """Send events until the browser goes away."""
        self.begin(200, "text/event-stream")
        for event in self.server.feed.events():
            kind, value = event or ("", None)
            if value is not None and kind == "stall":
                value = with_texts("stalls", value)
            line = f"event: {kind}\ndata: {json.dumps(value)}\n\n" if event else ": \n\n"
            try:
                self.wfile.write(line.encode())
            except OSError:
                return

    def begin(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.begin(status, kind)
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def serve(process: str | int | None, port: int = 0) -> None:
    """Serve the page of a process until Ctrl-C. Raises what client.connect() does."""
    with client.connect(process) as connection:
        path = connection.path
    feed = Feed(lambda: Connection(path))
    with Server(feed, port) as server:
        feed.start()
        print(f"Open {server.url}\nCtrl-C ends it.", flush=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            feed.end()
