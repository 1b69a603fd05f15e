"""hoop's gather() and shield() do what asyncio's do, wherever they are cancelled, and on any loop."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest
from flavours import compare_everywhere, describe, end_of
from test_task_groups import fails, gives, lasts

import hoop


async def gathers(api, note):
    note(await api.gather())
    note(await api.gather(gives(1, 3), gives(2, 1), gives(3, 0)))


async def gathers_twice_the_same(api, note):
    coro = gives(1, 2)
    task = asyncio.create_task(gives(2))
    note(await api.gather(coro, task, coro, task, task))


async def looks_at_it(api, note):
    future = api.gather(gives(1), gives(2, 4))
    note(type(future).__name__, repr(future), len(future._children), future._cancel_requested)
    note(isinstance(future, asyncio.Future), asyncio.isfuture(future))
    try:
        await future
    finally:
        note(repr(future), future.cancelled(), future._cancel_requested)


async def one_fails(api, note):
    tasks = [
        asyncio.create_task(one)
        for one in (gives(1, 5), fails(ValueError(1)), lasts(note, "one"), fails(KeyError(2), 3))
    ]
    future = api.gather(*tasks)
    try:
        note(await future)
    except ValueError as exc:
        note(describe(exc), [end_of(task) for task in tasks], repr(future)[:30])
    note(future.cancel())
    for _ in range(5):
        await asyncio.sleep(0)
    note([end_of(task) for task in tasks])


async def keeps_errors(api, note):
    async def is_cancelled():
        raise asyncio.CancelledError("own")

    task = asyncio.create_task(lasts(note, "one"))
    asyncio.get_running_loop().call_soon(task.cancel, "message")
    found = await api.gather(
        gives(1), fails(ValueError(1)), is_cancelled(), task, return_exceptions=True
    )
    note([describe(f) if isinstance(f, BaseException) else f for f in found])


async def a_child_is_cancelled(api, note):
    task = asyncio.create_task(lasts(note, "one"))
    asyncio.get_running_loop().call_soon(task.cancel, "message")
    try:
        note(await api.gather(gives(1, 4), task))
    except asyncio.CancelledError as exc:
        note(describe(exc), asyncio.current_task().cancelling())


async def a_child_ignores_it(api, note):
    async def stays():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            note("ignored")
        return 1

    for keeps in (False, True):
        future = api.gather(stays(), gives(2, 0), return_exceptions=keeps)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        note(future.cancel("please"), future._cancel_requested)
        try:
            note(await future)
        except asyncio.CancelledError as exc:
            note(describe(exc))


async def is_nested(api, note):
    inner = api.gather(gives(1), gives(2))
    note(
        await api.gather(inner, gives(3), api.gather(fails(KeyError(1)), return_exceptions=True))
        != 0
    )


async def takes_futures(api, note):
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    futures[0].set_result("done")
    loop.call_soon(futures[2].set_result, 2)
    loop.call_soon(futures[1].set_result, 1)
    note(await api.gather(*futures, gives(3, 0)))
    for future in futures:
        note(repr(future))


async def takes_others(api, note):
    class Mine(asyncio.Future):
        pass

    class Awaitable:
        def __await__(self):
            yield
            return "mine"

    future = Mine()
    asyncio.get_running_loop().call_soon(future.set_result, 1)
    note(await api.gather(future, Awaitable(), gives(2)))
    try:
        await api.gather(1)
    except TypeError as exc:
        note(describe(exc))


async def has_eager_tasks(api, note):
    if sys.version_info < (3, 12):
        return
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        future = api.gather(gives(1, 0), gives(2, 0))
        note(future.done(), await future)
        future = api.gather(gives(1, 0), gives(2, 1))
        note(future.done(), await future)
        future = api.gather(gives(1, 1), fails(ValueError(1), 0))
        note(future.done())
        await future
    except ValueError as exc:
        note(describe(exc))
    finally:
        loop.set_task_factory(None)


async def shields(api, note):
    task = asyncio.create_task(gives(1, 4))
    try:
        note(await api.shield(task))
    finally:
        note(end_of(task))
        note(await task)
        note(api.shield(task) is task)


async def shields_a_coroutine(api, note):
    note(await api.shield(gives(1, 2)))
    try:
        await api.shield(fails(ValueError(1)))
    except ValueError as exc:
        note(describe(exc))


async def the_shielded_is_cancelled(api, note):
    task = asyncio.create_task(lasts(note, "one"))
    outer = api.shield(task)
    await asyncio.sleep(0)
    task.cancel("inner")
    try:
        await outer
    except asyncio.CancelledError as exc:
        note(describe(exc), outer.cancelled())


async def the_shield_is_cancelled(api, note):
    task = asyncio.create_task(gives(1, 3))
    outer = api.shield(task)
    note(outer.cancel("outer"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    note(repr(task).partition("cb=")[1], end_of(outer))
    note(await task)


PROGRAMS = [
    gathers,
    gathers_twice_the_same,
    looks_at_it,
    one_fails,
    keeps_errors,
    a_child_is_cancelled,
    a_child_ignores_it,
    is_nested,
    takes_futures,
    takes_others,
    has_eager_tasks,
    shields,
    shields_a_coroutine,
    the_shielded_is_cancelled,
    the_shield_is_cancelled,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program):
    compare_everywhere(new_loop, program)


def test_it_gathers_futures_of_a_loop_that_does_not_run(new_loop):
    loop, other = new_loop(), new_loop()
    futures = [loop.create_future() for _ in range(2)]
    outer = hoop.gather(*futures)
    assert outer.get_loop() is loop
    with pytest.raises(ValueError, match="different loop"):
        hoop.gather(futures[0], other.create_future())
    for future in futures:
        future.set_result(1)
    assert loop.run_until_complete(outer) == [1, 1]


def test_an_error_that_comes_too_late_counts_as_seen(run):
    async def main():
        tasks = [asyncio.create_task(fails(ValueError(), n)) for n in (1, 2)]
        with pytest.raises(ValueError):  # noqa: PT011
            await hoop.gather(*tasks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del tasks
        gc.collect()

    run(main())  # nothing is logged


def test_your_call_soon_sees_the_callbacks(loop):
    seen = []
    soon = loop.call_soon

    def call_soon(callback, *args, context=None):
        seen.append(getattr(callback, "__qualname__", ""))
        return soon(callback, *args, context=context)

    loop.call_soon = call_soon

    async def main():
        await asyncio.sleep(0)
        await hoop.gather(gives(1), gives(2))
        async with hoop.TaskGroup() as group:
            group.create_task(gives(1))
        await hoop.wait([asyncio.create_task(gives(1))])
        await hoop.shield(gives(1))

    loop.run_until_complete(main())
    for name, count in (("_done_callback", 2), ("_on_task_done", 1), ("_on_completion", 1)):
        assert sum(found.endswith(f".{name}") for found in seen) == count, name
    assert any(found.endswith("_inner_done_callback") for found in seen)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there is no graph of tasks")
def test_its_children_are_awaited_by_the_task_that_gathers(run):
    async def main():
        me = asyncio.current_task()

        async def child():
            graph = asyncio.capture_call_graph()
            return [by.future for by in graph.awaited_by] == [me]

        assert await hoop.gather(child(), child()) == [True, True]
        assert await hoop.shield(child())

    run(main())


def test_nothing_is_left_of_it(run):
    async def main():
        for functions in (hoop.gather, hoop.shield):
            future = functions(asyncio.create_task(gives(1)))
            gone = weakref.ref(future)
            await future
            del future
            await asyncio.sleep(0)
            assert gone() is None
            child = asyncio.get_running_loop().create_future()
            gone = weakref.ref(functions(child))
            del child
            gc.collect()
            assert gone() is None

    run(main())
