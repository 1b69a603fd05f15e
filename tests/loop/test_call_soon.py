"""A call_soon() of the user's sees what asyncio would give it: callbacks, and the steps of tasks."""

from __future__ import annotations

import asyncio
import contextvars
from unittest import mock

import pytest

import hoop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def program():
    """Every way in which a task comes to its next step."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await asyncio.sleep(0)
    done = loop.create_future()
    done.set_result(1)
    await done
    waited = loop.create_future()
    loop.call_soon(waited.set_result, 1)
    await waited
    await asyncio.sleep(0.001)
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    cancelled = loop.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    queue = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.get())
        group.create_task(queue.put(1))
    failing = loop.create_task(asyncio.wait_for(loop.create_future(), 0.001))
    with pytest.raises(TimeoutError):
        await failing


def watched(base, seen):
    class Watched(base):
        def call_soon(self, callback, *args, context=None):
            handle = super().call_soon(callback, *args, context=context)
            seen.append(type(getattr(callback, "__self__", callback)).__name__)
            return handle

    return Watched


def kinds(seen):
    """How often tasks took a step, and how often anything else was called."""
    steps = sum(name in ("Task", "TaskStepMethWrapper") for name in seen)
    return steps, len(seen) - steps


def test_a_subclass_sees_the_steps_that_it_would_see_on_asyncio(driver):
    counted = []
    for base, options in ((asyncio.SelectorEventLoop, ()), (hoop.EventLoop, (driver,))):
        seen: list[str] = []
        loop_class = watched(base, seen)
        with asyncio.Runner(loop_factory=lambda c=loop_class, o=options: c(*o)) as runner:
            runner.run(program())
        counted.append(kinds(seen))
    assert counted[1] == counted[0]


def wrapping(loop, ran):
    """A call_soon that wraps what it is given, as profilers do."""
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        task = getattr(callback, "__self__", None)

        def wrapped():
            if isinstance(task, asyncio.Task):
                ran.append((task.get_name(), variable.get()))
            callback(*args)

        return original(wrapped, context=context)

    return call_soon


def test_an_instances_call_soon_wraps_the_steps_of_tasks_old_and_new(run):
    async def main():
        loop = asyncio.get_running_loop()
        ran = []
        variable.set("main's")
        context = contextvars.copy_context()
        context.run(variable.set, "child's")
        asyncio.current_task().set_name("main")
        loop.call_soon = wrapping(loop, ran)
        child = loop.create_task(asyncio.sleep(0), name="child", context=context)
        await child
        assert asyncio.current_task().get_name() == "main"
        assert ran == [("child", "child's"), ("child", "child's"), ("main", "main's")]
        del loop.call_soon
        await asyncio.sleep(0)
        assert len(ran) == 3

    run(main())


def test_a_patched_class_is_seen_from_the_next_sleep_or_run_on(loop):
    seen = []

    def call_soon(self, callback, *args, context=None):
        seen.append(callback)
        return original(self, callback, *args, context=context)

    original = hoop.EventLoop.call_soon

    async def sleeps():
        await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    async def patches():
        with mock.patch.object(hoop.EventLoop, "call_soon", call_soon):
            await sleeps()
            assert len(seen) == 2
        await sleeps()
        assert len(seen) == 2

    loop.run_until_complete(patches())
    seen.clear()
    with mock.patch.object(hoop.EventLoop, "call_soon", call_soon):
        loop.run_until_complete(sleeps())
    assert len(seen) == 4  # three steps, and run_until_complete's own callback
    seen.clear()
    loop.run_until_complete(sleeps())
    assert seen == []


def test_a_class_that_has_changed_very_often_may_be_patched(driver):
    """Python gives such a class no version any more, by which a change could be seen."""

    class Own(hoop.EventLoop):
        pass

    seen = []

    def call_soon(self, callback, *args, context=None):
        seen.append(callback)
        return hoop.EventLoop.call_soon(self, callback, *args, context=context)

    for number in range(2000):
        Own.number = number
        assert Own.call_soon is hoop.EventLoop.call_soon  # Python notes a version as it looks

    async def patches():
        with mock.patch.object(Own, "call_soon", call_soon):
            await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        assert len(seen) == 2
        await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert len(seen) == 2

    with asyncio.Runner(loop_factory=lambda: Own(driver)) as runner:
        runner.run(patches())


def test_a_step_that_is_called_again_does_nothing(run):
    async def main():
        loop = asyncio.get_running_loop()
        kept = []
        original = loop.call_soon

        def call_soon(callback, *args, context=None):
            kept.append(callback)
            return original(callback, *args, context=context)

        loop.call_soon = call_soon
        waited = loop.create_future()

        async def wait():
            return await waited

        waiting = loop.create_task(wait())
        await asyncio.sleep(0)
        step = next(c for c in kept if getattr(c, "__self__", None) is waiting)
        step()
        waited.set_result(5)
        assert await waiting == 5
        step()
        assert waiting.result() == 5

    run(main())


def test_a_call_soon_that_drops_everything_drops_steps(loop):
    loop.call_soon = lambda *args, **kwargs: None
    coro = asyncio.sleep(0)
    task = loop.create_task(coro)
    for _ in range(3):
        loop.call_later(0, loop.stop)
        loop.run_forever()
    assert not task.done()
    task._log_destroy_pending = False
    coro.close()
    del loop.call_soon


def test_an_exception_in_a_step_reaches_the_task_and_the_exit_leaves_the_loop(loop):
    async def fails(error):
        raise error

    loop.call_soon = wrapping(loop, [])
    with pytest.raises(ValueError, match="it"):
        loop.run_until_complete(fails(ValueError("it")))
    with pytest.raises(SystemExit):
        loop.run_until_complete(fails(SystemExit(3)))


def test_a_loop_that_takes_its_turns_by_hand_is_not_closed_inside_one(loop, logged):
    ran = []
    loop.call_soon(loop.close)
    for i in range(20):
        loop.call_soon(ran.append, i)
    loop._run_once()
    assert ran == list(range(20))
    assert "RuntimeError: Cannot close a running event loop" in logged.text


def test_the_set_of_tasks_has_what_it_lists(run):
    async def main():
        task = asyncio.create_task(asyncio.sleep(10))
        tasks = hoop.loop.registry._asyncio_task_set()
        assert task in tasks
        assert asyncio.current_task() in tasks
        assert object() not in tasks
        assert len(tasks) == len(list(tasks)) >= 2
        for other in (tasks.copy(), tasks | {task}, tasks - set()):
            assert sorted(map(id, other)) == sorted(map(id, tasks))
        task.cancel()
        await asyncio.wait([task])
        assert task not in tasks
        assert len(tasks) == len(list(tasks))

    run(main())
