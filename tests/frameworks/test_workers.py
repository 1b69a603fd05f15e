"""Several processes on one listening socket: each gets connections, also while another is busy."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hoop

WORKERS = 3

COMMANDS = {
    "uvicorn": [
        *("uvicorn", "workers:application", "--workers", str(WORKERS), "--port", "0"),
        *("--loop", "hoop:EventLoop", "--lifespan", "on"),
    ],
    "gunicorn": [
        *("gunicorn", "workers:application", "--workers", str(WORKERS), "--bind", "127.0.0.1:0"),
        *("--worker-class", "hoop.workers.UvicornWorker", "--graceful-timeout", "2"),
    ],
}
NEEDS = {"uvicorn": ["uvicorn"], "gunicorn": ["gunicorn", "uvicorn", "uvicorn_worker"]}
LISTENING = re.compile(r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)")


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until something has become true in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(server: str, driver: str, folder: Path) -> Iterator[tuple[str, int]]:
    """A server and its workers, once all of them have started. Gives its address."""
    path = [str(Path(hoop.__file__).parent.parent), str(Path(__file__).parent)]
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[server]],
            env={**os.environ, "HOOP_DRIVER": driver, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
        )
    try:
        wait_for(lambda: log.read_text().count("Application startup complete") == WORKERS, 15)
        port = LISTENING.search(log.read_text())
        assert port, log.read_text()
        yield "127.0.0.1", int(port[1])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(where: tuple[str, int], path: str = "/") -> socket.socket:
    """Send a request."""
    sock = socket.create_connection(where, 10)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


def answer(sock: socket.socket) -> tuple[str, str]:
    """The process that answers, and its driver."""
    text = b""
    with sock:
        while data := sock.recv(65536):
            text += data
    process, driver = text.split(b"\r\n\r\n")[1].decode().split()
    return process, driver


@pytest.mark.parametrize("server", COMMANDS)
def test_each_worker_gets_connections_and_none_waits_for_a_busy_one(server, driver, tmp_path):
    """An accept request of io_uring, or EPOLLEXCLUSIVE, gives all of them to one worker."""
    for module in NEEDS[server]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"there is no {module}")
    with serving(server, driver, tmp_path) as where:
        seen = set()
        for _ in range(3000):
            seen.add(answer(ask(where)))
            if len(seen) == WORKERS:
                break
        assert {kind for _, kind in seen} == {driver}
        assert len(seen) == WORKERS
        go_on = tmp_path / "go_on"
        blocked = ask(where, f"/block?{go_on}")
        wait_for((tmp_path / "go_on.blocked").exists, 10)
        others = {answer(ask(where))[0] for _ in range(20)}  # raises after 10 s without an answer
        go_on.touch()
        busy, _ = answer(blocked)
        assert busy not in others
        assert others <= {process for process, _ in seen}
