"""hoop's wait_for(), wait() and as_completed() do what asyncio's do, on any loop, and when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sys
import weakref

import pytest
from flavours import compare_everywhere, describe, end_of
from test_task_groups import fails, gives, lasts

import hoop


def stock_or(api, name):
    """The function under test; asyncio's where hoop has asyncio's."""
    return getattr(api, name, getattr(asyncio, name))


# ---- wait_for ----


async def waits_for_coroutines(api, note):
    wait_for = stock_or(api, "wait_for")
    for limit in (None, 5, 5.5):
        note(await wait_for(gives(1, 2), limit), await wait_for(gives(2, 0), limit))
        try:
            await wait_for(fails(ValueError(1), 2), limit)
        except ValueError as exc:
            note(describe(exc))


async def is_over(api, note):
    wait_for = stock_or(api, "wait_for")
    asyncio.get_running_loop().call_soon(api.advance, 10)
    task = asyncio.create_task(lasts(note, "task"))
    for make in (lambda: lasts(note, "coroutine"), lambda: task):
        try:
            await wait_for(make(), 5)
        except TimeoutError as exc:
            note(describe(exc), asyncio.current_task().cancelling())
        asyncio.get_running_loop().call_soon(api.advance, 10)
    note(end_of(task))


async def waits_no_time(api, note):
    wait_for = stock_or(api, "wait_for")
    task = asyncio.create_task(gives(1))
    await task
    for make, limit in (
        (lambda: gives(1, 0), 0),
        (lambda: task, 0),
        (lambda: task, -1),
        (lambda: lasts(note, "one"), -1),
    ):
        try:
            note(await wait_for(make(), limit))
        except TimeoutError as exc:
            note(describe(exc))


async def waits_for_futures(api, note):
    wait_for = stock_or(api, "wait_for")
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    note(await wait_for(future, 5), await wait_for(future, 5))
    future = loop.create_future()
    loop.call_soon(future.set_exception, ValueError(1))
    for _ in range(2):
        try:
            await wait_for(future, 5)
        except ValueError as exc:
            note(describe(exc))
    future = loop.create_future()
    loop.call_soon(loop.call_soon, future.cancel)
    try:
        await wait_for(future, 5)
    finally:
        note(end_of(future))


async def ignores_the_end(api, note):
    wait_for = stock_or(api, "wait_for")

    async def stays():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "stayed"

    async def fails_instead():
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("instead")

    if sys.version_info < (3, 12):
        # A task that fails unseen is reported when it dies. A frame of asyncio's keeps it a little longer.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    for make in (stays, fails_instead):
        asyncio.get_running_loop().call_soon(api.advance, 10)
        try:
            note(await wait_for(make(), 5))
        except (KeyError, TimeoutError) as exc:
            note(describe(exc))


async def is_inside_a_handler(api, note):
    """The exception that is being handled is the context of what comes."""
    wait_for = stock_or(api, "wait_for")

    async def chained():
        try:
            raise KeyError("first")
        except KeyError:
            await asyncio.sleep(0)
            raise ValueError("second")  # noqa: B904

    try:
        raise OSError("outer")
    except OSError:
        for make in (chained, lambda: lasts(note, "one")):
            asyncio.get_running_loop().call_soon(api.advance, 10)
            try:
                await wait_for(make(), 5)
            except (ValueError, TimeoutError) as exc:
                note(describe(exc))


async def waits_for_others(api, note):
    wait_for = stock_or(api, "wait_for")

    class Awaitable:
        def __await__(self):
            got = yield
            return got, "mine"

    note(await wait_for(Awaitable(), 5))
    note(await wait_for(wait_for(gives(1), 10), 5))
    try:
        await wait_for(1, 5)
    except TypeError as exc:
        note(type(exc).__name__)
    coro = gives(1)
    await coro
    try:
        await wait_for(coro, 5)
    except RuntimeError as exc:
        note(describe(exc))


# ---- wait ----


async def waits(api, note):
    tasks = [asyncio.create_task(gives(n, n)) for n in range(4)]
    done, pending = await api.wait(tasks)
    note(len(done), len(pending), done == set(tasks))
    note(len((await api.wait(set(tasks)))[0]), len((await api.wait(iter(tasks)))[0]))


async def waits_for_the_first(api, note):
    for condition in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION):
        tasks = [
            asyncio.create_task(one)
            for one in (gives(1, 2), gives(2, 6), fails(ValueError(1), 4), lasts(note, "one"))
        ]
        done, pending = await api.wait(tasks, return_when=condition)
        note([task in done for task in tasks], [task in pending for task in tasks])
        note([task._callbacks for task in pending])
        tasks[3].cancel()
        note(len((await api.wait(tasks))[0]))
        note(end_of(tasks[2]))


async def waits_for_some_time(api, note):
    task = asyncio.create_task(lasts(note, "one"))
    asyncio.get_running_loop().call_soon(api.advance, 10)
    note([len(found) for found in await api.wait([task], timeout=5)])
    note([len(found) for found in await api.wait([task], timeout=0)])
    task.cancel()
    note([len(found) for found in await api.wait([task], timeout=5)])


async def refuses(api, note):
    coro = gives(1)
    task = asyncio.create_task(gives(1))
    for wrong in ([], coro, task, [coro], 1):
        try:
            await api.wait(wrong)
        except (TypeError, ValueError) as exc:
            note(describe(exc))
    try:
        await api.wait([task], return_when="never")
    except ValueError as exc:
        note(describe(exc))
    await coro
    await task


async def waits_for_others_futures(api, note):
    class Mine(asyncio.Future):
        pass

    future = Mine()
    asyncio.get_running_loop().call_soon(future.set_result, 1)
    task = asyncio.create_task(gives(1, 3))
    note([len(f) for f in await api.wait([future, task], return_when=asyncio.FIRST_COMPLETED)])
    note([len(f) for f in await api.wait([future, task])], future._callbacks, task._callbacks)


# ---- as_completed ----


async def comes_in_order(api, note):
    as_completed = stock_or(api, "as_completed")
    found = []
    for one in as_completed([asyncio.create_task(gives(n, n)) for n in (3, 1, 2)]):
        note(asyncio.iscoroutine(one))
        found.append(await one)
    note(found)
    for one in as_completed([gives(1)]):
        note(await one)
    for one in as_completed([asyncio.create_task(c) for c in (fails(ValueError(1)), gives(1, 3))]):
        try:
            note(await one)
        except ValueError as exc:
            note(describe(exc))


async def comes_too_late(api, note):
    as_completed = stock_or(api, "as_completed")
    task = asyncio.create_task(lasts(note, "one"))
    asyncio.get_running_loop().call_later(1, note, "unrelated")
    for one in as_completed([asyncio.create_task(gives(1, 0)), task], timeout=5):
        try:
            note(await one)
        except TimeoutError as exc:
            note(describe(exc))
        api.advance(10)
    note(task._callbacks)
    task.cancel()


async def comes_as_the_tasks(api, note):
    if sys.version_info < (3, 13):
        return
    tasks = [asyncio.create_task(gives(n, n)) for n in (3, 1, 2)]
    them = api.as_completed(tasks)
    note(type(them).__name__, iter(them) is them, aiter(them) is them)
    async for task in them:
        note(tasks.index(task), await task)
    with contextlib.suppress(StopAsyncIteration):
        await anext(them)
        note("more")
    note(next(them, "none"))
    async for task in api.as_completed([gives(1), gives(2)]):
        note(type(task).__name__, task.done())


async def is_asked_again(api, note):
    """After a cancelled wait for the next one."""
    as_completed = stock_or(api, "as_completed")
    them = iter(as_completed([asyncio.create_task(gives(n, n)) for n in (4, 5)]))
    try:
        await next(them)
    except asyncio.CancelledError as exc:
        note(describe(exc))
    for one in them:
        note(await one)


async def refuses_one(api, note):
    as_completed = stock_or(api, "as_completed")
    coro = gives(1)
    for wrong in (coro, 1):
        try:
            list(as_completed(wrong))
        except TypeError as exc:
            note(describe(exc))
    await coro


PROGRAMS = [
    waits_for_coroutines,
    is_over,
    waits_no_time,
    waits_for_futures,
    ignores_the_end,
    is_inside_a_handler,
    waits_for_others,
    waits,
    waits_for_the_first,
    waits_for_some_time,
    refuses,
    waits_for_others_futures,
    comes_in_order,
    comes_too_late,
    comes_as_the_tasks,
    is_asked_again,
    refuses_one,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program):
    compare_everywhere(new_loop, program)


def test_they_are_coroutine_functions():
    # On 3.11 only asyncio's finds the mark; from 3.14 on that one is deprecated.
    found = asyncio if sys.version_info < (3, 12) else inspect
    for function in (hoop.wait, hoop.wait_for):
        assert found.iscoroutinefunction(function)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there is no graph of tasks")
def test_what_they_wait_for_is_awaited_by_the_task(run):
    async def main():
        me = asyncio.current_task()

        async def child():
            await asyncio.sleep(0)
            graph = asyncio.capture_call_graph()
            return me in [by.future for by in graph.awaited_by]

        done, _ = await hoop.wait([asyncio.create_task(child())])
        assert done.pop().result()
        for one in hoop.as_completed([child()]):
            assert await one

    run(main())


def test_nothing_is_left_of_it(run):
    class Result:
        pass

    async def result():
        return Result()

    async def main():
        for turns in range(2):
            gone = weakref.ref(await hoop.wait_for(result(), 10))
            assert gone() is None
            task = asyncio.create_task(result())
            for _ in range(turns):
                await asyncio.sleep(0)
            await hoop.wait([task])
            gone = weakref.ref(task)
            del task
            gc.collect()
            assert gone() is None
            for one in hoop.as_completed([result()]):
                gone = weakref.ref(await one)
            del one
            gc.collect()
            assert gone() is None
        pending = asyncio.get_running_loop().create_future()
        await hoop.wait([pending], timeout=0)
        assert pending._callbacks is None

    run(main())
