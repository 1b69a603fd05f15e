"""Runs observed_server.py, a server under load, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVER = HERE / "observed_server.py"
(GUILTY,) = [
    n for n, line in enumerate(SERVER.read_text().splitlines(), 1) if "# the guilty line" in line
]
(HOLDS,) = [n for n, line in enumerate(SERVER.read_text().splitlines(), 1) if "PyDLL" in line]


class Observed:
    """A server under load, in a process of its own."""

    def __init__(self, process: subprocess.Popen, port: int) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port

    def get(self, path: str) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            assert answer.read() == b"done"

    @contextlib.contextmanager
    def blocked(self, path: str = "/block") -> Iterator[None]:
        """Have its loop be blocked until the end of the block."""
        asking = threading.Thread(target=self.get, args=(path,))
        asking.start()
        try:
            yield
        finally:
            self.process.stdin.write("x")
            self.process.stdin.flush()
            asking.join()


@contextlib.contextmanager
def serving_program(folder: Path) -> Iterator[Observed]:
    """Run the server under load until the end of the block."""
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip("uvicorn is not installed")
    process = subprocess.Popen(
        [sys.executable, str(SERVER)],
        env={**os.environ, "HOOP_OBSERVE": "1", "XDG_RUNTIME_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Observed(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
