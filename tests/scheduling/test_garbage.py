"""Garbage: cycles of loop, task, future and handle are freed, and nothing breaks while they are."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref

import pytest

import hoop


class Thing:
    """Something that can be seen to die."""


@pytest.fixture
def silent(logged):
    """Dropped tasks complain; that is tested elsewhere."""


def freed(*references) -> None:
    """Assert that everything referred to is gone after a collection."""
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


def test_closed_loop_is_freed_without_the_collector(new_loop):
    loop = hoop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    freed(gone)


def test_cycle_of_future_and_callback(loop):
    future, thing = loop.create_future(), Thing()
    thing.future = future
    future.add_done_callback(lambda _, thing=thing: thing)
    references = weakref.ref(future), weakref.ref(thing)
    del future, thing
    freed(*references)


def test_cycle_of_future_and_its_result(loop):
    future, thing = loop.create_future(), Thing()
    thing.future = future
    future.set_result(thing)
    references = weakref.ref(future), weakref.ref(thing)
    del future, thing
    freed(*references)


def test_cycle_of_future_and_its_exception(loop):
    future = loop.create_future()
    error = KeyError()
    error.future = future
    future.set_exception(error)
    future.exception()
    gone = weakref.ref(future)
    del future, error
    freed(gone)


def test_cycle_of_handle_and_itself(loop):
    thing = Thing()
    thing.handle = loop.call_later(100, lambda thing: None, thing)
    loop.call_later(200, print)
    thing.handle.cancel()
    gone = weakref.ref(thing), weakref.ref(thing.handle)
    del thing
    freed(gone[0])


def test_cycle_of_context_and_future(loop):
    import contextvars

    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    future = loop.create_future()
    context.run(variable.set, future)
    future.add_done_callback(print, context=context)
    gone = weakref.ref(future)
    del future, context
    freed(gone)


def test_cycle_of_ended_task_and_its_result(loop):
    task = loop.create_task(asyncio.sleep(0, Thing()))
    loop.run_until_complete(task)
    task.result().task = task
    references = weakref.ref(task), weakref.ref(task.result())
    del task
    loop.run_until_complete(asyncio.sleep(0, "something else"))
    freed(*references)


def test_cycle_of_task_and_coroutine_frame_that_failed(loop):
    async def fails():
        me = asyncio.current_task()
        assert me
        raise KeyError

    task = loop.create_task(fails())
    with pytest.raises(KeyError):
        loop.run_until_complete(task)
    gone = weakref.ref(task)
    del task
    freed(gone)


@pytest.mark.filterwarnings("ignore:coroutine 'never' was never awaited")
def test_dropped_loop_drops_everything_it_holds(silent):
    loop, thing = hoop.new_event_loop(), Thing()
    thing.loop = loop

    task = loop.create_task(never(thing))
    loop.call_soon(loop.stop)
    loop.run_forever()
    queued = loop.create_task(never(thing))
    loop.call_soon(print, thing)
    loop.call_later(100, print, thing)
    references = [weakref.ref(each) for each in (loop, thing, task, queued)]
    del loop, thing, task, queued
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    freed(*references)


def test_closed_loop_with_pending_tasks_is_freed(silent):
    loop = hoop.new_event_loop()
    tasks = [weakref.ref(loop.create_task(never())) for _ in range(3)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    tasks.append(weakref.ref(loop))
    del loop
    freed(*tasks)


def test_tasks_that_wait_for_each_others_future(loop, silent):
    async def waits(future):
        await future

    first, second = loop.create_future(), loop.create_future()
    tasks = [loop.create_task(waits(first)), loop.create_task(waits(second))]
    first.other, second.other = tasks[1], tasks[0]
    loop.call_soon(loop.stop)
    loop.run_forever()
    references = [weakref.ref(each) for each in (first, second, *tasks)]
    for task in tasks:
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    del first, second, tasks, task
    freed(*references)


def test_finalizer_of_a_dropped_task_makes_another(loop, silent):
    made = []

    class Last:
        def __del__(self):
            made.append(loop.create_task(asyncio.sleep(0)))

    async def holds(last):
        return None

    task = loop.create_task(holds(Last()))
    loop.run_until_complete(task)
    del task
    gc.collect()
    loop.run_until_complete(made.pop())


def test_task_resurrected_by_its_finalizer(silent):
    kept = []

    class Keeps:
        def __init__(self):
            self.task = None

        def __del__(self):
            kept.append(self.task)

    loop = hoop.new_event_loop()
    keeps = Keeps()

    async def forever(keeps):
        await loop.create_future()

    keeps.task = loop.create_task(forever(keeps))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    del keeps
    gc.collect()
    assert repr(kept[0]).startswith("<Task")
    assert kept.pop().get_loop() in (loop, None)


async def worker(depth: int, dice: random.Random) -> None:
    """Do random things that make, cancel and drop objects."""
    loop = asyncio.get_running_loop()
    for _ in range(8):
        kind = dice.randrange(10)
        if kind == 0:
            await asyncio.sleep(0)
        elif kind == 1:
            future = loop.create_future()
            loop.call_soon(future.set_result, (kind,))
            assert await future == (kind,)
        elif kind == 2 and depth < 4:
            await loop.create_task(worker(depth + 1, dice))
        elif kind == 3:
            task = loop.create_task(asyncio.sleep(5))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        elif kind == 4:
            loop.create_task(asyncio.sleep(0)).me = loop
        elif kind == 5:
            future = loop.create_future()
            future.set_exception(KeyError(1))
            try:
                await future
            except KeyError:
                pass
        elif kind == 6:
            loop.create_task(never())
            await asyncio.sleep(0)
        elif kind == 7:
            loop.call_later(dice.random() * 100, print, loop.create_future()).cancel()
            loop.call_later(50, print)
        elif kind == 8:
            await asyncio.gather(asyncio.sleep(0), hoop.Task(asyncio.sleep(0), eager_start=True))
        elif kind == 9:
            cycle = loop.create_future()
            cycle.add_done_callback(lambda _, cycle=cycle: cycle)


async def never(*kept: object) -> None:
    """Wait for a future that nobody holds."""
    await asyncio.get_running_loop().create_future()


@pytest.fixture
def eager_collector():
    """A collector that runs every seven allocations."""
    before = gc.get_threshold()
    gc.set_threshold(7)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "dropped"])
@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
@pytest.mark.filterwarnings("ignore:coroutine '(sleep|never|worker)' was never awaited")
def test_stress(seed, closed, silent, eager_collector):
    loop = hoop.new_event_loop()
    loop.run_until_complete(worker(0, random.Random(seed)))
    if closed:
        loop.close()
    gone = weakref.ref(loop)
    del loop
    freed(gone)


DYING = """
    import asyncio, gc, hoop

    class Collects:
        def __del__(self):
            gc.collect()

    async def job():
        await asyncio.sleep(0)

    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(50):
            task = asyncio.create_task(job())
            task.kept = Collects()
            await task
            del task
            future = loop.create_future()
            future.kept = Collects()
            del future
            await asyncio.sleep(0)
        print("alive")

    hoop.run(main())
    """


def test_collection_while_a_task_and_a_future_die(python):
    # Their attributes go first, and may run code: by then no collection may see them.
    assert python(DYING) == "alive\n"
