"""`hoop metrics --all`: the numbers of all observed processes of the user as one text, with a label `pid`.

With `--listen 127.0.0.1:9464` Prometheus can fetch it there, as `/metrics`.
"""

from __future__ import annotations

import http.server
from typing import Any

from hoop.cli import client
from hoop.observe.exports import merged

ANSWER_WITHIN = 3.0
KIND = "text/plain; version=0.0.4; charset=utf-8"


def metrics_of_all() -> str:
    """Ask each process. One that does not answer is left out."""
    texts = {}
    for process in client.processes():
        if not process.path:
            continue
        try:
            with client.Connection(process.path) as connection:
                connection.send("get", "metrics")
                answer = connection.read(ANSWER_WITHIN).get("ok")
        except (client.NoSuchProcess, client.NotAnswering, client.Refused, OSError):
            continue
        if isinstance(answer, str):
            texts[process.pid] = answer
    return merged(texts)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers `/metrics`, and nothing else."""

    server_version = "hoop"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            return self.answer(404, "text/plain", b"There is only /metrics.\n")
        return self.answer(200, KIND, metrics_of_all().encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def server_of(address: str) -> http.server.ThreadingHTTPServer:
    """Listen at an address such as `127.0.0.1:9464`. Raises OSError, or ValueError if it is no address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"an address is HOST:PORT, not {address!r}")
    made = http.server.ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler)
    made.daemon_threads = True
    return made


def serve(address: str) -> None:
    """Serve the numbers until Ctrl-C."""
    with server_of(address) as server:
        host, port = server.server_address[:2]
        print(f"Serving http://{host!s}:{port}/metrics", flush=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
