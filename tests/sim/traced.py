"""A program that prints the trace of one run. test_replay.py runs it in several processes.

It uses hoop's own locks, queues and groups: those of asyncio take other steps in each version of Python.
"""

from __future__ import annotations

import asyncio
import random
import sys

import hoop
import hoop.sim


async def main() -> None:
    queue: hoop.Queue[int] = hoop.Queue(2)
    lock = hoop.Lock()
    found = set()

    async def produce(first: int) -> None:
        for number in range(first, first + 5):
            await queue.put(number)
            async with lock:
                await hoop.sleep(random.random())

    async def consume() -> None:
        while True:
            item = await queue.get()
            async with lock:
                await hoop.sleep(random.random() / 2)
            found.add(item)
            queue.task_done()

    consumers = {hoop.create_task(consume()) for _ in range(3)}
    async with hoop.TaskGroup() as group:
        for first in (0, 100, 200):
            group.create_task(produce(first))
    await queue.join()
    assert len(found) == 15
    await asyncio.get_running_loop().run_in_executor(None, found.clear)
    for task in consumers:
        task.cancel()
    await hoop.wait(consumers)
    group_of_futures = hoop.gather(*(hoop.sleep(random.random()) for _ in range(5)))
    async with hoop.timeout(10):
        await group_of_futures


trace: list[str] = []
hoop.sim.run(main, seed=7, order=sys.argv[1], trace=trace)
print("\n".join(trace))
