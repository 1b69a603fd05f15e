"""The examples, run as their docstrings say: real processes, on ports that the kernel chooses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LINES_MAX = 60
SERVERS = {
    "chat_server",
    "echo_server",
    "feed_server",
    "graceful_shutdown",
    "http_server",
}
PROGRAMS = {
    "echo_client",
    "feed_watcher",
    "file_pipeline",
    "http_client",
    "run_parallel",
    "scraper",
}


def start(driver: str, name: str, *arguments: object) -> subprocess.Popen[str]:
    """Begin to run an example on a driver. Its warnings are errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HOOP_DRIVER": driver},
    )


def run(driver: str, name: str, *arguments: object, status: int = 0) -> list[str]:
    """Run an example to its end. Returns the lines that it printed."""
    with start(driver, name, *arguments) as process:
        try:
            printed, errors = process.communicate(timeout=15)
        finally:
            process.kill()
    assert (process.returncode, errors) == (status, "")
    return printed.splitlines()


class Server:
    """An example that serves until it is told to stop."""

    def __init__(self, driver: str, name: str) -> None:
        self.process = start(driver, name, 0)
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        found = re.fullmatch(r"listening on port (\d+)\n", self.stdout.readline())
        self.port = int(found[1]) if found else 0
        if not self.port:
            self.process.kill()
            pytest.fail(self.process.communicate()[1])

    def connect(self) -> socket.socket:
        """A new connection that gives up after a while."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def stop(self, number: int = signal.SIGINT) -> str:
        """Stop it as its user would. Returns the rest of its output."""
        self.process.send_signal(number)
        try:
            printed, errors = self.process.communicate(timeout=10)
        finally:
            self.process.kill()
        assert (self.process.returncode, errors) == (0, "")
        return printed


@pytest.fixture
def server(request: pytest.FixtureRequest, driver: str) -> Iterator[Server]:
    """The example that the test names, stopped after the test unless the test did that."""
    served = Server(driver, request.param)
    try:
        yield served
        if served.process.poll() is None:
            served.stop()
    finally:
        served.process.kill()
        served.process.wait()
        for pipe in (served.process.stdout, served.process.stderr):
            pipe.close()


def serves(name: str) -> pytest.MarkDecorator:
    """Give the test this example as `server`."""
    return pytest.mark.parametrize("server", [name], indirect=True)


# ---- the files ---------------------------------------------------------------------------------------


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SERVERS | PROGRAMS


@pytest.mark.parametrize("name", sorted(SERVERS | PROGRAMS))
def test_an_example_is_short_and_says_how_to_run_it(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= LINES_MAX
    assert f"\n    python examples/{name}.py" in text.partition('"""\n\nfrom')[0]


# ---- streams -----------------------------------------------------------------------------------------


@serves("echo_server")
def test_echo(driver, server):
    assert run(driver, "echo_client", server.port, "hello", "world") == [
        "answer: hello",
        "answer: world",
    ]


@serves("chat_server")
def test_chat(server):
    with (
        server.connect() as ada,
        server.connect() as bob,
        ada.makefile("r", encoding="utf-8") as hers,
        bob.makefile("r", encoding="utf-8") as his,
    ):
        ada.sendall(b"Ada\n")
        assert hers.readline() == "your name? * Ada joined, 1 here\n"
        bob.sendall(b"Bob\n")
        assert hers.readline() == "* Bob joined, 2 here\n"
        assert his.readline() == "your name? * Bob joined, 2 here\n"
        ada.sendall(b"hello\n")
        assert his.readline() == "Ada: hello\n"
        bob.shutdown(socket.SHUT_WR)
        assert hers.readline() == "* Bob left\n"
        assert his.readline() == ""


# ---- HTTP --------------------------------------------------------------------------------------------


@serves("http_server")
def test_http(driver, server):
    at = f"http://127.0.0.1:{server.port}"
    assert run(driver, "http_client", f"{at}/") == [
        "HTTP/1.1 200 OK",
        "Hello from hoop. There is also /time.",
    ]
    assert run(driver, "http_client", f"{at}/nothing") == [
        "HTTP/1.1 404 Not Found",
        "there is no /nothing",
    ]


@serves("http_server")
def test_http_server_keeps_its_connections(server):
    with server.connect() as client, client.makefile("rb") as answers:
        for request, status in (
            (b"GET /time", b"200 OK"),
            (b"PUT /time", b"405 Method Not Allowed"),
        ):
            client.sendall(request + b" HTTP/1.1\r\nHost: here\r\n\r\n")
            assert answers.readline() == b"HTTP/1.1 " + status + b"\r\n"
            head = b"".join(iter(answers.readline, b"\r\n"))
            length = re.search(rb"Content-Length: (\d+)", head)
            assert answers.read(int(length[1]))


class Site(BaseHTTPRequestHandler):
    """Three pages that link to each other, one of them in chunks, and a link to nowhere."""

    protocol_version = "HTTP/1.1"
    pages = {
        "/": '<title>Start</title> <a href="a">a</a> <a href="/b#part">b</a>',
        "/a": '<title>Page A</title> <a href="/">back</a> <a href="missing">?</a>',
        "/b": '<title>Page B</title> <a href="http://elsewhere.example/">away</a>',
    }

    def do_GET(self) -> None:
        page = self.pages.get(self.path)
        self.send_response(200 if page else 404)
        body = (page or "not here").encode()
        if self.path == "/b":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(x), x) for x in (body[:9], body[9:], b""))
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a small site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_scraper(driver, site):
    assert run(driver, "scraper", f"{site}/") == [
        f"{site}/\tStart",
        f"{site}/a\tPage A",
        f"{site}/b\tPage B",
        f"{site}/missing\tHTTP/1.1 404 Not Found",
    ]


# ---- files, datagrams, children ------------------------------------------------------------------------


def test_file_pipeline(driver, tmp_path):
    folder = tmp_path / "texts"
    (folder / "below").mkdir(parents=True)
    (folder / "one.txt").write_text("red green red\n" * 1500)  # more lines than a queue holds
    (folder / "below" / "two.md").write_text("Blue, red.\nÄpfel")
    (folder / "three.png").write_text("red")
    result = tmp_path / "counts"
    assert run(driver, "file_pipeline", folder, result) == ["4503 words, 4 different"]
    assert result.read_text() == "3001\tred\n1500\tgreen\n1\tblue\n1\täpfel\n"


@serves("feed_server")
def test_feed(driver, server):
    lines = run(driver, "feed_watcher", server.port, 3)
    numbers = [int(line.split()[0]) for line in lines]
    assert len(numbers) == 3
    assert numbers == sorted(numbers)
    assert all(re.fullmatch(r"\d+ \d+\.\d\d", line) for line in lines)


def test_run_parallel(driver):
    lines = run(
        driver, "run_parallel", "echo one; echo two >&2", "exit 3", "printf three", status=1
    )
    assert lines[-1] == "failed: 2"
    assert sorted(lines[:-1]) == ["[1] one", "[1] two", "[3] three"]


@serves("graceful_shutdown")
def test_graceful_shutdown(server):
    with server.connect() as busy, server.connect() as idle:
        busy.sendall(b"question\n")
        assert server.stdout.readline() == "working\n"
        printed = server.stop(signal.SIGTERM)
        assert busy.makefile("rb").read() == b"done: question\n"
        assert idle.recv(1) == b""
    assert printed == "ended in order: 2, cancelled: 0, aborted: 0\n"
