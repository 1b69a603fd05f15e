"""Eager tasks: the first step is taken at once, inside whatever is running."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys

import pytest

import hoop

variable = contextvars.ContextVar("variable", default="outside")


@pytest.fixture
def eagerly(run):
    """Run a coroutine on a loop whose tasks start eagerly."""

    def eagerly(coro):
        async def main():
            asyncio.get_running_loop().set_task_factory(hoop.eager_task_factory)
            return await coro

        return run(main())

    return eagerly


def test_first_step_is_taken_at_once(eagerly):
    async def main():
        order = []

        async def child():
            order.append("first step")
            await asyncio.sleep(0)
            order.append("second step")

        task = asyncio.create_task(child())
        order.append("created")
        await task
        assert order == ["first step", "created", "second step"]

    eagerly(main())


def test_that_ends_in_its_first_step_is_done(eagerly):
    async def main():
        async def child():
            return 7

        task = asyncio.create_task(child())
        assert (type(task), task.done(), task.result()) == (hoop.Task, True, 7)
        assert task not in asyncio.all_tasks()
        assert await task == 7

    eagerly(main())


def test_that_fails_in_its_first_step(eagerly):
    async def main():
        async def child():
            raise KeyError("x")

        task = asyncio.create_task(child())
        assert repr(task.exception()) == "KeyError('x')"

    eagerly(main())


def test_current_task_nested(eagerly):
    async def main():
        outer = asyncio.current_task()

        async def child(depth):
            me = asyncio.current_task()
            assert me is not outer
            assert me in asyncio.all_tasks()
            if depth:
                inner = asyncio.create_task(child(depth - 1))
                assert asyncio.current_task() is me
                await inner
            await asyncio.sleep(0)
            assert asyncio.current_task() is me

        await asyncio.create_task(child(4))
        assert asyncio.current_task() is outer

    eagerly(main())


def test_current_task_is_restored_after_a_failure(eagerly, logged):
    async def main():
        me = asyncio.current_task()

        async def child(exc):
            raise exc

        asyncio.create_task(child(KeyError())).exception()
        assert asyncio.current_task() is me
        with pytest.raises(KeyboardInterrupt):
            asyncio.create_task(child(KeyboardInterrupt()))
        assert asyncio.current_task() is me

    eagerly(main())


def test_current_task_is_none_again_in_a_handle(eagerly):
    async def main():
        seen = []

        def callback():
            seen.append(asyncio.current_task())
            tasks.append(asyncio.create_task(asyncio.sleep(0)))
            seen.append(asyncio.current_task())

        tasks = []
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        await tasks[0]
        assert seen == [None, None]

    eagerly(main())


def test_runs_in_a_copy_of_the_context(eagerly):
    async def main():
        variable.set("parent")

        async def child():
            assert variable.get() == "parent"
            variable.set("child")
            await asyncio.sleep(0)
            assert variable.get() == "child"

        task = asyncio.create_task(child())
        assert variable.get() == "parent"
        await task

    eagerly(main())


def test_in_the_context_that_is_entered_already(run):
    # It cannot be entered twice: RuntimeError, and nothing is left.
    async def main():
        me = asyncio.current_task()

        async def child():
            return 1

        coro = child()
        with pytest.raises(RuntimeError, match="cannot enter context"):
            hoop.Task(
                coro, loop=asyncio.get_running_loop(), context=me.get_context(), eager_start=True
            )
        coro.close()
        assert asyncio.current_task() is me
        gc.collect()
        assert asyncio.all_tasks() == {me}

    run(main())


def test_name_and_context_are_passed_on(eagerly):
    async def main():
        context = contextvars.copy_context()
        context.run(variable.set, "given")

        async def child():
            return variable.get()

        task = asyncio.create_task(child(), name="it", context=context)
        assert (task.get_name(), task.result()) == ("it", "given")

    eagerly(main())


def test_not_eager_while_the_loop_does_not_run(loop):
    loop.set_task_factory(hoop.eager_task_factory)
    began = []

    async def child():
        began.append(1)

    task = loop.create_task(child())
    assert began == []
    loop.run_until_complete(task)
    assert began == [1]


def test_cancel_after_the_first_step(eagerly):
    async def main():
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task

    eagerly(main())


def test_cancels_itself_in_the_first_step(eagerly):
    async def main():
        async def child():
            asyncio.current_task().cancel("early")
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError, match="early"):
            await asyncio.create_task(child())

    eagerly(main())


def test_pending_eager_task_is_kept_by_the_loop(eagerly):
    async def main():
        ended = []

        async def child():
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            await future
            ended.append(1)

        asyncio.create_task(child())
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ended == [1]

    eagerly(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has it since Python 3.12")
def test_asyncios_factory_gives_native_tasks(run):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        assert loop.get_task_factory() is asyncio.eager_task_factory
        began = []

        async def child():
            began.append(1)

        task = asyncio.create_task(child())
        assert (type(task), began) == (hoop.Task, [1])

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has it since Python 3.12")
def test_asyncios_eager_task_inside_ours_inside_theirs(run):
    async def main():
        loop = asyncio.get_running_loop()
        kinds = [asyncio.Task, hoop.Task]

        async def child(depth):
            me = asyncio.current_task()
            assert type(me) is kinds[depth % 2]
            if depth:
                await kinds[(depth - 1) % 2](child(depth - 1), loop=loop, eager_start=True)
            assert asyncio.current_task() is me
            await asyncio.sleep(0)
            assert asyncio.current_task() is me

        await hoop.Task(child(5), loop=loop, eager_start=True)

    run(main())


def test_coroutine_is_forgotten_as_asyncio_does(run):
    async def main():
        async def child():
            pass

        task = hoop.Task(child(), loop=asyncio.get_running_loop(), eager_start=True)
        assert (task.get_coro() is None) == (sys.version_info >= (3, 12))
        assert repr(task).startswith("<Task finished name=")

    run(main())
