"""Audit hooks (PEP 578) see of hoop the same as of asyncio: events, arguments and order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hoop

PROGRAM = Path(__file__).with_name("audited.py")
told_by_asyncio: dict = {}


def told(which: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROGRAM, which],
        env={**os.environ, "PYTHONPATH": str(Path(hoop.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def expected() -> dict:
    if not told_by_asyncio:
        told_by_asyncio.update(told("asyncio"))
    return told_by_asyncio


def test_audit_hooks_are_told_what_asyncio_tells(expected, driver):
    found = told(driver)
    for action, events in expected.items():
        assert found[action] == events, action
    names = {name for events in expected.values() for name, _ in events}
    assert {"os.kill", "os.posix_spawn", "subprocess.Popen", "socket.connect"} <= names
    assert {"socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.getnameinfo"} <= names
