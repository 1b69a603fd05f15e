"""Helpers of the tests that look into a running program."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hoop.observe import snapshot


async def turns(n: int = 3) -> None:
    """Let the other tasks reach what they wait for."""
    for _ in range(n):
        await asyncio.sleep(0)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def waits_of(*tasks: Any) -> list[Any]:
    """The waits of these tasks, in their order."""
    found = {task.id: task.waits_for for task in snapshot(top=1000).tasks}
    return [found[task._serial] for task in tasks]


def port_of(server: Any) -> int:
    """The port that a server listens on."""
    port: int = server.sockets[0].getsockname()[1]
    return port
