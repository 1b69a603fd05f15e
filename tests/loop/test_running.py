"""hoop.sleep and hoop.create_task, beside asyncio's: on loops of ours, and on others."""

import asyncio
import contextvars
import inspect
import math
import warnings

import pytest
from peers import same_as_asyncio, turns

import hoop


def theirs(loop):
    """asyncio's function on asyncio's loop, ours on ours."""
    return hoop if isinstance(loop, hoop.EventLoop) else asyncio


async def ending(awaitable):
    """The result of an awaitable, or the kind and text of its exception."""
    try:
        return await awaitable
    except Exception as exc:
        return type(exc).__name__, str(exc)


@pytest.fixture(params=["ours", "asyncio's", "a subclass", "ours with another call_later", "debug"])
def any_loop(request, new_loop):
    """Loops of which each makes hoop.sleep go another way."""
    if request.param == "asyncio's":
        loop = asyncio.SelectorEventLoop()
        yield loop
        loop.close()
        return
    if request.param == "a subclass":

        class Loop(hoop.EventLoop):
            def call_later(self, delay, callback, *args, context=None):
                return super().call_later(delay, callback, *args, context=context)

        loop = Loop(new_loop().driver)
        yield loop
        loop.close()
        return
    loop = new_loop()
    if request.param == "debug":
        loop.set_debug(True)
    if request.param == "ours with another call_later":
        called = []
        by_class = loop.call_later
        loop.call_later = lambda *args: called.append(args) or by_class(*args)
    yield loop
    if request.param == "ours with another call_later":
        assert called
        del loop.call_later


# ---- sleep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delay",
    [0, 0.0, -1, -math.inf, 0.001, 1e-300, True, "x", None, 1j, math.nan, 10**400],
    ids=repr,
)
def test_sleep_takes_what_asyncios_takes(loop, delay):
    async def script(loop):
        return await ending(theirs(loop).sleep(delay, "result"))

    if math.nan is delay and not isinstance(delay, str):
        with warnings.catch_warnings():
            same_as_asyncio(loop, script)
        return
    same_as_asyncio(loop, script)


def test_sleep_waits_and_gives_its_result(any_loop):
    async def main():
        began = any_loop.time()
        assert await hoop.sleep(0.01) is None
        assert any_loop.time() - began >= 0.01
        assert await hoop.sleep(0.001, 5) == 5
        assert await asyncio.gather(*(hoop.sleep(n / 1000, n) for n in (3, 1, 2, 0, -1))) == [
            3,
            1,
            2,
            0,
            -1,
        ]

    any_loop.run_until_complete(main())


def test_a_cancelled_sleep_leaves_no_timer(any_loop):
    async def main():
        for late in range(3):
            tasks = [asyncio.ensure_future(hoop.sleep(1000)) for _ in range(100)]
            await turns(late)
            for task in tasks:
                assert task.cancel("enough")
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(exc, asyncio.CancelledError) for exc in found)
        await asyncio.sleep(0)
        assert sum(not handle._cancelled for handle in any_loop._scheduled) == 0

    any_loop.run_until_complete(main())


def test_a_sleep_cancelled_in_the_turn_of_its_end(any_loop):
    async def main():
        task = asyncio.ensure_future(hoop.sleep(0))
        await asyncio.sleep(0)
        task.cancel()
        assert await asyncio.wait([task])
        assert task.cancelled()
        task = asyncio.ensure_future(hoop.sleep(0.001))
        await asyncio.sleep(0)
        while not task._fut_waiter.done():
            await asyncio.sleep(0)
            if task.done():
                return
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    any_loop.run_until_complete(main())


def test_asyncio_works_with_it(any_loop):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await hoop.sleep(1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hoop.sleep(1000), 0.001)
        assert await asyncio.wait_for(hoop.sleep(0.001, 5), 10) == 5
        assert await asyncio.shield(hoop.sleep(0.001, 6)) == 6
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hoop.sleep(0.001, n)) for n in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(hoop.sleep(n)) for n in (0, 1000)], timeout=0.01
        )
        assert len(done) == len(pending) == 1
        pending.pop().cancel()

    any_loop.run_until_complete(main())


def test_sleepers_wake_in_the_order_of_their_deadlines(loop):
    async def script(loop):
        order = []

        async def sleeper(n, delay):
            await theirs(loop).sleep(delay)
            order.append(n)

        await asyncio.gather(*(sleeper(n, delay) for n, delay in enumerate((0.02, 0, 0.01, -1, 0))))
        return order

    assert same_as_asyncio(loop, script) == [1, 3, 4, 2, 0]


def test_sleep_yields_as_often_as_asyncios(loop):
    async def script(loop):
        order = []

        async def one():
            for n in range(3):
                order.append(n)
                await theirs(loop).sleep(0)

        async def other():
            for n in range(3):
                order.append(-n)
                await asyncio.sleep(0)

        await asyncio.gather(one(), other())
        return order

    same_as_asyncio(loop, script)


def test_sleep_looks_like_a_coroutine_function():
    coro = hoop.sleep(1)
    assert asyncio.iscoroutine(coro)
    assert repr(coro).startswith("<coroutine object sleep at ")
    assert (coro.__name__, coro.__qualname__) == ("sleep", "sleep")
    coro.close()
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(hoop.sleep)
    assert str(inspect.signature(hoop.sleep)) == str(inspect.signature(asyncio.sleep))
    with pytest.warns(RuntimeWarning, match="coroutine 'sleep' was never awaited"):
        hoop.sleep(0)
    with pytest.raises(RuntimeError, match="no running event loop"):
        hoop.sleep(1).send(None)


# ---- create_task -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"name": "a name"},
        {"name": 5},
        {"context": contextvars.Context()},
        {"eager_start": True},
        {"eager_start": False},
        {"no_such": 1},
    ],
    ids=str,
)
def test_create_task_takes_what_asyncios_takes(loop, keywords):
    variable = contextvars.ContextVar("variable", default="outside")

    async def work():
        return variable.get()

    async def script(loop):
        variable.set("inside")
        coro = work()
        try:
            task = theirs(loop).create_task(coro, **keywords)
        except TypeError as exc:
            coro.close()
            return type(exc)
        return await task, task.get_name() if "name" in keywords else None

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("what", [None, 5, asyncio.sleep, hoop.sleep])
def test_create_task_refuses_what_is_no_coroutine(loop, what):
    async def script(loop):
        with pytest.raises(TypeError) as caught:
            theirs(loop).create_task(what)
        return str(caught.value)

    same_as_asyncio(loop, script)


def test_create_task_needs_a_running_loop():
    async def work():
        pass

    coro = work()
    with pytest.raises(RuntimeError, match=r"^no running event loop$"):
        hoop.create_task(coro)
    coro.close()


def test_create_task_asks_the_factory(loop):
    made = []

    def factory(loop, coro, **keywords):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **keywords)

    async def main():
        assert type(await hoop.create_task(hoop.sleep(0, hoop.Task))) is type
        loop.set_task_factory(factory)
        assert await hoop.create_task(hoop.sleep(0, 5), name="x") == 5
        assert len(made) == 1

    loop.run_until_complete(main())


def test_create_task_is_the_loops_own_where_that_was_replaced(loop):
    made = []
    by_class = loop.create_task
    loop.create_task = lambda *args, **keywords: made.append(args) or by_class(*args, **keywords)

    async def main():
        await hoop.create_task(hoop.sleep(0))

    try:
        loop.run_until_complete(main())
    finally:
        del loop.create_task
    assert len(made) == 2
