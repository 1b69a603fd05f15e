"""Work with child processes: starting them and waiting, and bytes through their pipes."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

MIB = 1024 * 1024
CHUNK = bytes(64 * 1024)


async def spawn(n: int) -> None:
    """Start a program that does nothing and wait for its end, one after the other."""
    for _ in range(n):
        process = await asyncio.create_subprocess_exec("/bin/true")
        if await process.wait() != 0:
            raise AssertionError("the child failed")


@asynccontextmanager
async def pipe() -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Send so many MiB through `cat` and get them back."""
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def work(n: int) -> None:
        async def feed() -> None:
            for _ in range(n * MIB // len(CHUNK)):
                stdin.write(CHUNK)
                await stdin.drain()

        feeding = asyncio.create_task(feed())
        left = n * MIB
        while left:
            data = await stdout.read(left)
            if not data:
                raise AssertionError("the child ended")
            left -= len(data)
        await feeding

    try:
        yield work
    finally:
        stdin.close()
        await process.wait()
