"""Random programs of tasks that wait, hand over and are cancelled.

They do the same with hoop's classes as with asyncio's. Each writes down all events in order, on both loops.

Where Pythons differ hoop follows the newest, so semaphores and conditions are compared from 3.13 on.
"""

from __future__ import annotations

import asyncio
import random
import sys

import pytest

import hoop

SEEDS = range(40)
WORKERS = 6
ROUNDS = 8
NEWEST = sys.version_info >= (3, 13)


class Program:
    """One run: workers take random steps, somebody cancels them at random, all is written down."""

    def __init__(self, library, seed: int) -> None:
        self.library = library
        self.seed = seed
        self.log: list[object] = []

    async def turns(self, most: int, dice: random.Random) -> None:
        for _ in range(dice.randrange(most + 1)):
            await asyncio.sleep(0)

    async def worker(self, name: int, step, ending) -> None:
        dice = random.Random(f"{self.seed} {name}")
        for n in range(ROUNDS):
            try:
                await self.turns(2, dice)
                await step(name, n, dice)
            except asyncio.CancelledError as exc:
                self.log.append((name, n, "cancelled", exc.args))
                asyncio.current_task().uncancel()
            except (TimeoutError, asyncio.BrokenBarrierError, hoop.QueueShutDown) as exc:
                self.log.append((name, n, type(exc).__name__))
        if ending is not None:
            await ending(name, dice)

    async def run(self, step, ending=None, cancels: int = 25, after=None) -> list[object]:
        tasks = [asyncio.create_task(self.worker(i, step, ending)) for i in range(WORKERS)]
        dice = random.Random(f"{self.seed} cancels")
        for n in range(cancels):
            await self.turns(3, dice)
            victim = dice.randrange(WORKERS)
            if not tasks[victim].done():
                tasks[victim].cancel(n)
                if dice.randrange(4) == 0:
                    tasks[victim].uncancel()
        if after is not None:
            await after(tasks)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        self.log.append([repr(result) for result in done])
        return self.log


async def lock(library, seed):
    program = Program(library, seed)
    it = library.Lock()
    holders = 0

    async def step(name, n, dice):
        nonlocal holders
        async with it:
            holders += 1
            assert holders == 1
            program.log.append((name, n, "has it"))
            try:
                await program.turns(2, dice)
            finally:
                holders -= 1

    log = await program.run(step)
    assert not it.locked()
    assert not it._waiters
    return log


async def semaphore(library, seed):
    program = Program(library, seed)
    it = library.BoundedSemaphore(2)

    async def step(name, n, dice):
        await it.acquire()
        program.log.append((name, n, "is in", it._value))
        try:
            await program.turns(3, dice)
        finally:
            it.release()

    log = await program.run(step)
    assert it._value == 2
    assert not it._waiters
    return log


async def event(library, seed):
    program = Program(library, seed)
    it = library.Event()

    async def step(name, n, dice):
        if dice.randrange(3) == 0:
            it.set()
        elif dice.randrange(3) == 0:
            it.clear()
        else:
            result = await it.wait()
            program.log.append((name, n, result, it.is_set()))

    async def after(tasks):
        while not all(task.done() for task in tasks):
            it.set()
            await asyncio.sleep(0)

    log = await program.run(step, after=after)
    assert not it._waiters
    return log


async def condition(library, seed):
    program = Program(library, seed)
    it = library.Condition()
    items = 0

    async def step(name, n, dice):
        nonlocal items
        if name % 2:
            async with it:
                items += 1
                program.log.append((name, n, "made", items))
                await program.turns(1, dice)
                it.notify(dice.randrange(1, 3))
        else:
            async with it:
                await it.wait_for(lambda: items > 0)
                items -= 1
                program.log.append((name, n, "took", items))

    async def after(tasks):
        nonlocal items
        while not all(task.done() for task in tasks):
            async with it:
                items += 1
                it.notify_all()
            await asyncio.sleep(0)

    log = await program.run(step, after=after)
    assert not it.locked()
    assert not it._waiters
    return log


async def barrier(library, seed):
    program = Program(library, seed)
    it = library.Barrier(3)

    async def step(name, n, dice):
        if dice.randrange(12) == 0:
            await it.reset()
        program.log.append((name, n, "passed", await it.wait()))

    async def after(tasks):
        for _ in range(60):
            await asyncio.sleep(0)
        while not all(task.done() for task in tasks):
            await it.abort()
            await asyncio.sleep(0)

    log = await program.run(step, cancels=10, after=after)
    assert it.n_waiting == 0
    return log


def queues(kind, maxsize):
    async def program_of_queues(library, seed):
        program = Program(library, seed)
        it = getattr(library, kind)(maxsize)

        async def step(name, n, dice):
            if name % 2:
                await it.put((dice.randrange(5), name, n))
                program.log.append((name, n, "put", it.qsize()))
            else:
                item = await it.get()
                it.task_done()
                program.log.append((name, n, "got", item))
                await program.turns(1, dice)

        async def after(tasks):
            while not all(task.done() for task in tasks):
                if it.full():
                    it.get_nowait()
                    it.task_done()
                else:
                    it.put_nowait((9, 0, 0))
                await asyncio.sleep(0)
            while not it.empty():
                it.get_nowait()
                it.task_done()
            await it.join()

        log = await program.run(step, after=after)
        assert not it._getters
        assert not it._putters
        log.append(repr(it).partition(" at ")[0])
        return log

    return program_of_queues


PROGRAMS = {
    "lock": lock,
    "event": event,
    "queue": queues("Queue", 0),
    "queue of 1": queues("Queue", 1),
    "queue of 3": queues("Queue", 3),
    "priority queue of 2": queues("PriorityQueue", 2),
    "lifo queue of 2": queues("LifoQueue", 2),
}
if NEWEST:
    PROGRAMS |= {"semaphore": semaphore, "condition": condition, "barrier": barrier}


def on_asyncio(coro):
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(coro)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_random_program_does_what_it_does_with_asyncio(run, name):
    for seed in SEEDS:
        expected = on_asyncio(PROGRAMS[name](asyncio, seed))
        assert len(expected) > ROUNDS, "nothing happened"
        assert run(PROGRAMS[name](hoop, seed)) == expected, seed
        assert on_asyncio(PROGRAMS[name](hoop, seed)) == expected, seed


@pytest.mark.parametrize("program", [semaphore, condition, barrier])
def test_a_random_program_ends_with_everything_given_back(run, program):
    for seed in SEEDS:
        on_hoop = run(program(hoop, seed))
        assert on_asyncio(program(hoop, seed)) == on_hoop, seed
