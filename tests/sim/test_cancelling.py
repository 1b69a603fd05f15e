"""A task is cancelled at each of its awaits, and whatever is left open is told with the await."""

from __future__ import annotations

import asyncio
import functools

import pytest

import hoop
import hoop.sim


async def takes_a_lock(lock_class, right, seen=None):
    """Takes a lock, works, and gives it back."""
    lock = lock_class()

    async def other():
        async with lock:
            await asyncio.sleep(0.1)

    task = asyncio.create_task(other())
    await asyncio.sleep(0.5)
    if right:
        async with lock:
            await asyncio.sleep(1)
    else:
        await lock.acquire()
        await asyncio.sleep(1)
        lock.release()
    await task


async def starts_a_task(right):
    """Starts a task that works for long, and waits for it."""
    if right:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1000), name="worker")
    else:
        task = asyncio.create_task(asyncio.sleep(1000), name="worker")
        await asyncio.sleep(1)
        await asyncio.wait([task])


async def opens_a_file(path, right):
    """Opens a file, and waits before it closes it."""
    if right:
        with open(path, "w") as file:
            await asyncio.sleep(1)
    else:
        file = open(path, "w")  # noqa: SIM115
        await asyncio.sleep(1)
        file.close()


async def opens_a_file_of_hoop(path, right):
    """The same with hoop.open()."""
    if right:
        async with hoop.open(path, "w") as file:
            await file.write("text")
    else:
        file = await hoop.open(path, "w")
        await asyncio.sleep(1)
        await file.close()


def failure(main, **options):
    with pytest.raises(hoop.sim.LeftOpen) as caught:
        hoop.sim.cancel_each(main, **options)
    return str(caught.value)


@pytest.mark.parametrize("lock_class", [asyncio.Lock, hoop.Lock])
def test_a_lock_that_is_held_is_told_with_the_await(lock_class):
    text = failure(functools.partial(takes_a_lock, lock_class, False), every_task=False)
    heading, place, held = text.splitlines()
    assert heading == "after 1 of 2 cancelled awaits something was wrong (seed 0)"
    assert place.startswith("  Task-1, cancelled at 0.500 s [test_cancelling.py:")
    assert "await" in place
    assert held.startswith("    a Lock is held")
    summary = hoop.sim.cancel_each(functools.partial(takes_a_lock, lock_class, True))
    assert summary.complete
    assert str(summary) == f"nothing was left open after {summary.runs} cancelled awaits"


def test_a_task_that_is_pending_is_told():
    text = failure(functools.partial(starts_a_task, False), every_task=False)
    assert "after 2 of 2 cancelled awaits" in text
    assert text.count("the task worker is pending [") == 2
    hoop.sim.cancel_each(functools.partial(starts_a_task, True))


@pytest.mark.parametrize("program", [opens_a_file, opens_a_file_of_hoop])
def test_a_file_that_is_open_is_told(program, tmp_path):
    text = failure(functools.partial(program, tmp_path / "notes", False))
    assert "notes" in text
    assert "open" in text
    hoop.sim.cancel_each(functools.partial(program, tmp_path / "notes", True))


def test_each_other_task_is_cancelled_too():
    async def main(right):
        queue: asyncio.Queue[int] = asyncio.Queue()
        lock = asyncio.Lock()

        async def work():
            while True:
                item = await queue.get()
                if right:
                    async with lock:
                        await asyncio.sleep(0.1)
                else:
                    await lock.acquire()
                    await asyncio.sleep(0.1)
                    lock.release()
                if item == 2:
                    return

        worker = asyncio.create_task(work(), name="worker")
        for i in range(3):
            queue.put_nowait(i)
        await asyncio.wait([worker])

    text = failure(functools.partial(main, False))
    assert "  worker, cancelled at 0.100 s [test_cancelling.py:" in text
    assert "a Lock is held" in text
    hoop.sim.cancel_each(functools.partial(main, True))


def test_an_error_in_place_of_the_cancelling_and_a_deadlock_are_told():
    async def raises():
        try:
            await asyncio.sleep(1)
        finally:
            raise KeyError("gone")

    async def main():
        try:
            await raises()
        except KeyError:
            if hoop.sim.now() < 1:
                raise

    assert "    KeyError: 'gone'" in failure(main)

    async def waits():
        done = asyncio.Event()

        async def work():
            await asyncio.sleep(1)
            done.set()

        task = asyncio.create_task(work())
        await done.wait()
        await task

    text = failure(waits)
    assert "Deadlock: at 0.000 s" in text
    hoop.sim.cancel_each(waits, every_task=False)


def test_what_is_open_without_cancelling_too_is_no_reason_to_complain():
    async def main():
        asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(1)

    hoop.sim.cancel_each(main, every_task=False)


def test_a_lock_that_is_older_than_the_runs_is_seen():
    lock = asyncio.Lock()

    async def main():
        if not lock.locked():
            await lock.acquire()
            await asyncio.sleep(1)
            lock.release()

    assert "a Lock is held" in failure(main)


def test_the_limit_of_runs_is_told_and_long_reports_are_cut():
    async def main():
        for _ in range(20):
            await asyncio.sleep(1)

    summary = hoop.sim.cancel_each(main, max_runs=5)
    assert (summary.runs, summary.complete) == (5, False)
    assert (
        str(summary) == "nothing was left open after 5 cancelled awaits, of 20: max_runs ended it"
    )

    async def wrong():
        tasks = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(9)]
        await main()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    text = failure(wrong, every_task=False)
    assert "    and 5 more" in text
    assert text.endswith("  and at 12 more")


def test_a_program_that_fails_by_itself_raises_its_own_exception():
    async def main():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        hoop.sim.cancel_each(main)


WRONG = [
    ({"max_runs": 0}, ValueError, "max_runs must be 1 or greater"),
    ({"seed": "1"}, TypeError, "a seed must be a whole number"),
    ({"order": "any"}, ValueError, "order must be one of"),
    ({"limit": -1}, ValueError, "limit must be greater than 0"),
]


def test_wrong_arguments_are_refused():
    for wrong, error, text in WRONG:
        with pytest.raises(error, match=text):
            hoop.sim.cancel_each(takes_a_lock, **wrong)
        with pytest.raises(TypeError, match="main must be a coroutine function"):
            hoop.sim.cancel_each(None)
