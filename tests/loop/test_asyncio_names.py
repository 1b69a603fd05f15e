"""asyncio's functions on top of a loop, on a hoop loop; and each library's tasks on the other's loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading

import pytest

import hoop


class Seen(Exception):
    """An exception of our own."""


async def value(result, turns=1):
    """End with a result after some turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return result


async def fails(turns=1):
    """Fail after some turns."""
    await value(None, turns)
    raise Seen


async def kind():
    """The class of the task that runs this."""
    return type(asyncio.current_task())


# ---- tasks and futures are native ----


@pytest.mark.parametrize(
    "make",
    [
        lambda: asyncio.create_task(kind()),
        lambda: asyncio.ensure_future(kind()),
        lambda: asyncio.get_running_loop().create_task(kind()),
        lambda: asyncio.wait_for(kind(), 10),
        lambda: asyncio.wait_for(kind(), None),
        lambda: asyncio.shield(kind()),
    ],
)
def test_tasks_are_native(run, make):
    async def main():
        return await make()

    assert run(main()) is hoop.Task


def test_tasks_of_gather_are_native(run):
    async def main():
        return await asyncio.gather(kind(), kind())

    assert run(main()) == [hoop.Task, hoop.Task]


def test_tasks_of_a_group_are_native(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(kind())
        return task.result()

    assert run(main()) is hoop.Task


def test_main_task_is_native():
    assert hoop.run(kind()) is hoop.Task


def test_wrapped_futures_are_native(run):
    async def main():
        loop = asyncio.get_running_loop()
        return type(loop.run_in_executor(None, int)), type(asyncio.wrap_future(done))

    done = concurrent.futures.Future()
    done.set_result(1)
    assert run(main()) == (hoop.Future, hoop.Future)


# ---- gather ----


def test_gather(run):
    async def main():
        return await asyncio.gather(value(1, 3), value(2), value(3, 2))

    assert run(main()) == [1, 2, 3]


def test_gather_of_nothing(run):
    async def main():
        return await asyncio.gather()

    assert run(main()) == []


def test_gather_raises_the_first_exception(run):
    async def main():
        slow = asyncio.create_task(value(1, 5))
        with pytest.raises(Seen):
            await asyncio.gather(slow, fails())
        assert not slow.done()
        assert await slow == 1

    run(main())


def test_gather_returns_exceptions(run):
    async def main():
        return await asyncio.gather(value(1), fails(), return_exceptions=True)

    one, error = run(main())
    assert one == 1
    assert type(error) is Seen


def test_gather_cancelled_when_a_child_has_failed(run):
    # The CancelledError comes from a child that failed: it must not be that child's exception.
    async def main():
        outer = asyncio.gather(asyncio.sleep(1000), fails(2), return_exceptions=True)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    run(main())


def test_gather_cancelled_with_a_child_that_fails_last(run):
    async def fails_when_cancelled():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise Seen from None

    async def main():
        outer = asyncio.gather(asyncio.sleep(1000), fails_when_cancelled(), return_exceptions=True)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    run(main())


def test_gather_the_same_awaitable_twice(run):
    async def main():
        task = asyncio.create_task(value(1))
        return await asyncio.gather(task, task, task)

    assert run(main()) == [1, 1, 1]


# ---- TaskGroup ----


def test_group_waits_for_all(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(value(i, i)) for i in range(10)]
        return [task.result() for task in tasks]

    assert run(main()) == list(range(10))


def test_group_cancels_the_others(run):
    async def main():
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                other = group.create_task(asyncio.sleep(1000))
                group.create_task(fails())
        assert other.cancelled()
        assert [type(error) for error in caught.value.exceptions] == [Seen]

    run(main())


def test_group_in_group(run):
    async def main():
        async with asyncio.TaskGroup() as outer:
            for _ in range(3):
                outer.create_task(inner())
        return "done"

    async def inner():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(value(1))

    assert run(main()) == "done"


# ---- timeouts ----


def test_timeout(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as scope:
                await asyncio.sleep(1000)
        assert scope.expired()
        async with asyncio.timeout(1000) as scope:
            await asyncio.sleep(0)
        assert not scope.expired()

    run(main())


def test_timeout_rescheduled(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(1000) as scope:
                scope.reschedule(loop.time())
                await asyncio.sleep(1000)

    run(main())


def test_timeouts_nested(run):
    async def main():
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.001):
                async with asyncio.timeout(1000):
                    await asyncio.sleep(1000)
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_wait_for(run):
    async def main():
        assert await asyncio.wait_for(value(1), 1000) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0)

    run(main())


# ---- wait, as_completed, shield ----


def test_wait(run):
    async def main():
        fast, slow = asyncio.create_task(value(1)), asyncio.create_task(asyncio.sleep(1000))
        done, pending = await asyncio.wait([fast, slow], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({fast}, {slow})
        done, pending = await asyncio.wait([slow], timeout=0.001)
        assert (done, pending) == (set(), {slow})
        slow.cancel()
        done, pending = await asyncio.wait([slow])
        assert (done, pending) == ({slow}, set())

    run(main())


def test_as_completed(run):
    async def main():
        return [
            await each for each in asyncio.as_completed([value("c", 5), value("a"), value("b", 3)])
        ]

    assert run(main()) == ["a", "b", "c"]


def test_as_completed_with_a_timeout(run):
    async def main():
        task = asyncio.create_task(asyncio.sleep(1000))
        with pytest.raises(TimeoutError):  # noqa: PT012
            for each in asyncio.as_completed([task], timeout=0.001):
                await each
        task.cancel()

    run(main())


def test_shield(run):
    async def main():
        inner = asyncio.create_task(value(1, 3))
        outer = asyncio.shield(inner)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert await inner == 1

    run(main())


# ---- queues and locks ----


@pytest.mark.parametrize("queue", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
def test_queue(run, queue):
    async def main():
        q = queue(2)
        got = []

        async def consume():
            while (item := await q.get()) != 99:
                got.append(item)
                q.task_done()

        task = asyncio.create_task(consume())
        for i in range(20):
            await q.put(i)
        await q.join()
        await q.put(99)
        await task
        return got

    assert sorted(run(main())) == list(range(20))


def test_lock_is_fair(run):
    async def main():
        lock, order = asyncio.Lock(), []

        async def take(i):
            async with lock:
                order.append(i)
                await asyncio.sleep(0)

        await asyncio.gather(*[take(i) for i in range(10)])
        return order

    assert run(main()) == list(range(10))


def test_semaphore(run):
    async def main():
        semaphore, inside, most = asyncio.Semaphore(3), 0, 0

        async def take():
            nonlocal inside, most
            async with semaphore:
                inside += 1
                most = max(most, inside)
                await value(None, 2)
                inside -= 1

        await asyncio.gather(*[take() for _ in range(12)])
        return most

    assert run(main()) == 3


def test_event_and_condition(run):
    async def main():
        event, condition, order = asyncio.Event(), asyncio.Condition(), []

        async def waits_for_event():
            await event.wait()
            order.append("event")

        async def waits_for_condition():
            async with condition:
                await condition.wait()
                order.append("condition")

        tasks = [asyncio.create_task(each()) for each in (waits_for_event, waits_for_condition)]
        await asyncio.sleep(0)
        event.set()
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        return sorted(order)

    assert run(main()) == ["condition", "event"]


def test_barrier(run):
    async def main():
        barrier = asyncio.Barrier(3)
        return sorted(await asyncio.gather(*[barrier.wait() for _ in range(3)]))

    assert run(main()) == [0, 1, 2]


# ---- threads ----


def test_to_thread(run):
    async def main():
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(int, "x")

    run(main())


def test_run_coroutine_threadsafe(run):
    async def main():
        loop = asyncio.get_running_loop()

        def outside():
            future = asyncio.run_coroutine_threadsafe(kind(), loop)
            failing = asyncio.run_coroutine_threadsafe(fails(), loop)
            return future.result(10), type(failing.exception(10))

        return await asyncio.to_thread(outside)

    assert run(main()) == (hoop.Task, Seen)


def test_run_coroutine_threadsafe_cancelled_from_outside(run):
    async def main():
        loop = asyncio.get_running_loop()
        started, ended = threading.Event(), asyncio.Event()

        async def waits():
            started.set()
            try:
                await asyncio.sleep(1000)
            finally:
                ended.set()

        def outside():
            future = asyncio.run_coroutine_threadsafe(waits(), loop)
            started.wait()
            return future.cancel()

        assert await asyncio.to_thread(outside) is True
        await ended.wait()

    run(main())


# ---- each one's tasks and futures with the other's ----


@pytest.fixture(params=["hoop loop", "asyncio's loop"])
def any_loop(request, new_loop):
    """A loop of either kind."""
    if request.param == "hoop loop":
        yield new_loop()
    else:
        loop = asyncio.new_event_loop()
        yield loop
        loop.close()


TASKS = [hoop.Task, asyncio.Task]
FUTURES = [hoop.Future, asyncio.Future]


@pytest.mark.parametrize("future_class", FUTURES)
@pytest.mark.parametrize("task_class", TASKS)
def test_task_awaits_future(any_loop, task_class, future_class):
    async def main():
        future = future_class(loop=any_loop)
        any_loop.call_soon(future.set_result, (1, 2))
        assert await future == (1, 2)
        failed = future_class(loop=any_loop)
        any_loop.call_soon(failed.set_exception, Seen("x"))
        with pytest.raises(Seen, match="x"):
            await failed
        cancelled = future_class(loop=any_loop)
        any_loop.call_soon(cancelled.cancel, "why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await cancelled
        return type(asyncio.current_task())

    assert any_loop.run_until_complete(task_class(main(), loop=any_loop)) is task_class


@pytest.mark.parametrize("inner_class", TASKS)
@pytest.mark.parametrize("outer_class", TASKS)
def test_task_awaits_task(any_loop, outer_class, inner_class):
    async def main():
        inner = inner_class(value("x", 3), loop=any_loop)
        assert asyncio.current_task() in asyncio.all_tasks()
        assert inner in asyncio.all_tasks()
        assert await inner == "x"
        assert inner not in asyncio.all_tasks()
        cancelled = inner_class(asyncio.sleep(1000), loop=any_loop)
        await asyncio.sleep(0)
        cancelled.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await cancelled
        assert type(asyncio.current_task()) is outer_class

    any_loop.run_until_complete(outer_class(main(), loop=any_loop))


@pytest.mark.parametrize("inner_class", TASKS)
@pytest.mark.parametrize("outer_class", TASKS)
def test_cancelling_the_outer_cancels_the_inner(any_loop, outer_class, inner_class):
    async def waits(task):
        await task

    async def main():
        inner = inner_class(asyncio.sleep(1000), loop=any_loop)
        outer = outer_class(waits(inner), loop=any_loop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await outer
        assert inner.cancelled()

    any_loop.run_until_complete(main())


@pytest.mark.parametrize("task_class", TASKS)
def test_current_task_at_every_step(any_loop, task_class):
    async def main():
        kinds = [task_class, *TASKS]
        tasks = [each(shorter(), loop=any_loop) for each in kinds]
        assert await asyncio.gather(*tasks) == kinds

    async def shorter():
        me = asyncio.current_task()
        for future_class in FUTURES * 3:
            future = future_class(loop=any_loop)
            any_loop.call_soon(future.set_result, None)
            await future
            assert asyncio.current_task() is me
            await asyncio.sleep(0)
            assert asyncio.current_task() is me
        return type(me)

    any_loop.run_until_complete(main())


@pytest.mark.parametrize("task_class", TASKS)
def test_gather_and_timeouts(any_loop, task_class):
    any_loop.set_task_factory(lambda loop, coro, **options: task_class(coro, loop=loop, **options))

    async def main():
        assert await asyncio.gather(kind(), kind()) == [task_class] * 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(kind())
        assert task.result() is task_class
        return await asyncio.shield(kind())

    assert any_loop.run_until_complete(main()) is task_class


def test_our_task_on_asyncios_loop_is_kept_alive_by_what_it_waits_for():
    loop = asyncio.new_event_loop()
    ended = []

    async def child():
        await asyncio.sleep(0.001)
        ended.append(1)

    async def main():
        hoop.Task(child(), loop=loop)
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    loop.close()
    assert ended == [1]


def test_our_task_on_asyncios_loop_that_is_dropped_complains(logged):
    loop = asyncio.new_event_loop()
    hoop.Task(asyncio.sleep(1000), loop=loop, name="dropped")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    gc.collect()
    assert "Task was destroyed but it is pending!" in logged.text


def test_our_task_on_asyncios_loop_with_an_exception_nobody_sees(logged):
    loop = asyncio.new_event_loop()
    hoop.Task(fails(0), loop=loop)
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert "Task exception was never retrieved" in logged.text
