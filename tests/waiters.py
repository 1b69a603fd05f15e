"""Helpers of the tests of locks and queues: starting tasks, and seeing how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def started(*coros: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Tasks that have taken their first step."""
    tasks = [asyncio.create_task(coro) for coro in coros]
    await asyncio.sleep(0)
    return tasks


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Whether a task ends by being cancelled."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False
