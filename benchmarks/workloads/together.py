"""Functions on several tasks: timeouts, groups, gather() and the like, asyncio's or hoop's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from workloads import attribute

Work = Callable[[int], Awaitable[object]]
TOGETHER = 10  # coroutines that are waited for at once
SLEEPERS = 10_000


async def _nothing() -> None:
    pass


async def _turn() -> None:
    await asyncio.sleep(0)


def workload(
    name: str,
) -> Callable[[Callable[[Any, int], Awaitable[object]]], Callable[[str], Any]]:
    """Make a workload of a function that gets the library's object of that name, and a number."""

    def decorate(
        function: Callable[[Any, int], Awaitable[object]],
    ) -> Callable[[str], AbstractAsyncContextManager[Work]]:
        @asynccontextmanager
        async def work_with(library: str) -> AsyncIterator[Work]:
            found = attribute(library, name)

            async def work(n: int) -> None:
                await function(found, n)

            yield work

        return work_with

    return decorate


@workload("timeout")
async def timeout(timeout: Any, n: int) -> None:
    for _ in range(n):
        async with timeout(60):
            await asyncio.sleep(0)


@workload("TaskGroup")
async def task_group(TaskGroup: Any, n: int) -> None:
    for _ in range(n // TOGETHER):
        async with TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(_nothing())


@workload("gather")
async def gather(gather: Any, n: int) -> None:
    for _ in range(n // TOGETHER):
        await gather(*[_nothing() for _ in range(TOGETHER)])


@workload("wait_for")
async def wait_for(wait_for: Any, n: int) -> None:
    for _ in range(n):
        await wait_for(_turn(), 60)


@workload("wait")
async def wait(wait: Any, n: int) -> None:
    for _ in range(n // TOGETHER):
        await wait([asyncio.create_task(_nothing()) for _ in range(TOGETHER)])


@workload("as_completed")
async def as_completed(as_completed: Any, n: int) -> None:
    for _ in range(n // TOGETHER):
        for one in as_completed([_nothing() for _ in range(TOGETHER)]):
            await one


@workload("shield")
async def shield(shield: Any, n: int) -> None:
    for _ in range(n):
        await shield(_nothing())


@workload("sleep")
async def sleepers(sleep: Any, n: int) -> None:
    """10,000 tasks sleep at once, each for 10 ms."""
    for _ in range(n // SLEEPERS):
        tasks = [asyncio.create_task(sleep(0.01)) for _ in range(SLEEPERS)]
        for task in tasks:
            await task


@workload("to_thread")
async def to_thread(to_thread: Any, n: int) -> None:
    for _ in range(n):
        await to_thread(len, ())


@workload("run_coroutine_threadsafe")
async def from_thread(run_coroutine_threadsafe: Any, n: int) -> None:
    """Another thread runs one coroutine after the other on the loop."""
    loop = asyncio.get_running_loop()

    def run_all() -> None:
        for _ in range(n):
            run_coroutine_threadsafe(_nothing(), loop).result()

    await asyncio.to_thread(run_all)
