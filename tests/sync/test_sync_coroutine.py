"""Methods such as `queue.get()` and `lock.acquire()` give coroutines, however one looks at them."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import gc
import inspect
import sys
import warnings
import weakref
from unittest import mock

import pytest

import hoop


def makers():
    """A coroutine of each kind that waits, made from a fresh object; then the way to end its wait."""

    def queue_get():
        queue = hoop.Queue()
        return queue.get(), lambda: queue.put_nowait("item"), "item"

    def queue_put():
        queue = hoop.Queue(1)
        queue.put_nowait("first")
        return queue.put("second"), queue.get_nowait, None

    def queue_join():
        queue = hoop.Queue()
        queue.put_nowait("item")
        return queue.join(), queue.task_done, None

    def lock_acquire():
        lock = hoop.Lock()
        lock._locked = True
        return lock.acquire(), lock.release, True

    def lock_enter():
        lock = hoop.Lock()
        lock._locked = True
        return lock.__aenter__(), lock.release, None

    def semaphore_acquire():
        semaphore = hoop.Semaphore(0)
        return semaphore.acquire(), semaphore.release, True

    def event_wait():
        event = hoop.Event()
        return event.wait(), event.set, True

    def condition_acquire():
        condition = hoop.Condition()
        condition._lock._locked = True
        return condition.acquire(), condition.release, True

    def condition_wait():
        condition = hoop.Condition()
        condition._lock._locked = True

        def notify():
            condition._lock._locked = True
            condition.notify()
            condition.release()

        return condition.wait(), notify, True

    def condition_wait_for():
        condition = hoop.Condition()
        condition._lock._locked = True
        ready = []

        def notify():
            ready.append(1)
            condition._lock._locked = True
            condition.notify()
            condition.release()

        return condition.wait_for(lambda: len(ready)), notify, 1

    return [value for name, value in locals().items() if callable(value)]


each = pytest.mark.parametrize("make", makers(), ids=lambda make: make.__name__)


@each
def test_it_is_a_coroutine(make):
    coro = make()[0]
    assert asyncio.iscoroutine(coro)
    assert inspect.isawaitable(coro)
    assert isinstance(coro, collections.abc.Coroutine)
    assert not isinstance(coro, collections.abc.Iterator)
    assert not asyncio.isfuture(coro)
    assert coro.__qualname__.endswith("." + coro.__name__)
    assert repr(coro) == f"<coroutine object {coro.__qualname__} at {id(coro):#x}>"
    with pytest.raises(TypeError):
        iter(coro)
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.copy(coro)
    with pytest.raises(AttributeError, match="no attribute 'cr_frame'"):
        _ = coro.cr_frame
    coro.close()


@each
def test_it_is_awaited(run, make):
    async def main():
        coro, end, result = make()
        asyncio.get_running_loop().call_soon(end)
        assert await coro == result

    run(main())


@each
@pytest.mark.parametrize(
    "drive",
    [
        asyncio.create_task,
        asyncio.ensure_future,
        lambda coro: asyncio.gather(coro),
        lambda coro: asyncio.wait_for(coro, 10),
        lambda coro: asyncio.shield(coro),
        lambda coro: hoop.Task(coro, loop=asyncio.get_running_loop()),
        lambda coro: asyncio.Task(coro, loop=asyncio.get_running_loop()),
    ],
    ids=["create_task", "ensure_future", "gather", "wait_for", "shield", "Task", "asyncio.Task"],
)
def test_whatever_drives_coroutines_drives_it(run, make, drive):
    async def main():
        coro, end, result = make()
        driven = drive(coro)
        asyncio.get_running_loop().call_later(0, end)
        got = await driven
        assert (got == [result]) if isinstance(got, list) else (got == result)

    run(main())


@each
def test_it_runs_on_asyncio_s_own_loop_and_tasks(make):
    async def main():
        for _ in range(2):  # the second uses what the first left
            coro, end, result = make()
            task = asyncio.create_task(coro)
            assert type(task) is asyncio.Task
            await asyncio.sleep(0)
            end()
            assert await task == result

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_a_task_of_it_shows_what_it_waits_in(run):
    async def main():
        queue = hoop.PriorityQueue()
        task = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert "coro=<PriorityQueue.get()>" in repr(task)
        assert task.get_stack() == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


# ---- nothing before it is awaited ----


@each
def test_nobody_awaited_it_is_a_warning(make):
    coro = make()[0]
    name = coro.__qualname__
    with pytest.warns(RuntimeWarning, match=f"^coroutine '{name}' was never awaited$"):
        del coro


def test_a_warning_made_an_error_is_reported_and_no_more(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_type))
    hoop.Queue().get()
    assert seen == [RuntimeWarning]


def test_nothing_happens_before_it_is_awaited(run):
    async def main():
        queue = hoop.Queue(2)
        queue.put_nowait("item")
        get, put = queue.get(), queue.put("another")
        lock = hoop.Lock()
        acquire = lock.acquire()
        lock._locked = True
        leave = lock.__aexit__(None, None, None)
        await asyncio.sleep(0)
        assert list(queue._queue) == ["item"]
        assert lock.locked()
        for coro in (get, put, acquire, leave):
            coro.close()
        assert list(queue._queue) == ["item"]
        assert lock.locked()

    run(main())


def test_closed_unawaited_it_does_not_complain():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coro = hoop.Queue().get()
        coro.close()
        del coro


# ---- the protocol, by hand ----


def by_hand(loop, make):
    """A coroutine that has yielded its future, with the loop that future belongs to."""
    coro, end, result = make()
    yielded = []

    async def start():
        yielded.append(coro.send(None))

    loop.run_until_complete(start())
    return coro, end, result, yielded[0]


@each
def test_send_gives_the_future_then_the_result(loop, make):
    coro, end, result, future = by_hand(loop, make)
    assert isinstance(future, hoop.Future)
    assert future._asyncio_future_blocking
    assert not future.done()
    end()
    with pytest.raises(StopIteration) as stop:
        coro.send(None)
    assert stop.value.value == result


@each
def test_it_ends_once(loop, make):
    coro, end, _, _ = by_hand(loop, make)
    end()
    with pytest.raises(StopIteration):
        coro.send(None)
    for again in (lambda: coro.send(None), lambda: coro.throw(ValueError())):
        with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
            again()
    coro.close()


@each
def test_it_is_awaited_by_one(loop, make):
    coro, end, _, _ = by_hand(loop, make)
    with pytest.raises(RuntimeError, match=r"^coroutine is being awaited already$"):
        coro.__await__()
    end()
    with pytest.raises(StopIteration):
        coro.send(None)


def test_await_of_an_awaited_one_fails(run):
    async def main():
        queue = hoop.Queue()
        get = queue.get()
        task = asyncio.create_task(get)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"^coroutine is being awaited already$"):
            await get
        queue.put_nowait(1)
        assert await task == 1
        with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
            await get

    run(main())


def test_a_value_cannot_be_sent_before_the_start():
    coro = hoop.Queue().get()
    with pytest.raises(TypeError, match=r"^can't send non-None value to a just-started coroutine$"):
        coro.send(1)
    coro.close()


@each
def test_resumed_too_early_it_fails_and_leaves(loop, make):
    coro, _, _, _ = by_hand(loop, make)
    with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
        coro.send(None)


def test_thrown_into_before_the_start_it_never_starts():
    queue = hoop.Queue()
    queue.put_nowait(1)
    coro = queue.get()
    with pytest.raises(ValueError, match=r"^no$"):
        coro.throw(ValueError("no"))
    assert queue.qsize() == 1
    with pytest.raises(RuntimeError, match=r"^cannot reuse"):
        coro.send(None)


@each
def test_what_is_thrown_comes_out(loop, make):
    coro, _, _, _ = by_hand(loop, make)
    with pytest.raises(ValueError, match=r"^no$"):
        coro.throw(ValueError("no"))


@each
def test_a_thrown_stop_iteration_is_not_taken_for_the_end(loop, make):
    coro, _, _, _ = by_hand(loop, make)
    with pytest.raises(RuntimeError, match=r"^coroutine raised StopIteration$") as raised:
        coro.throw(StopIteration(3))
    assert isinstance(raised.value.__cause__, StopIteration)


@each
def test_closed_while_it_waits_it_leaves(loop, make):
    coro, _, _, future = by_hand(loop, make)
    coro.close()
    with pytest.raises(RuntimeError, match=r"^cannot reuse"):
        coro.send(None)
    assert not in_a_deque(future)


def in_a_deque(future):
    """Whether anybody still has it among the waiters."""
    return any(isinstance(o, collections.deque) for o in gc.get_referrers(future))


@each
def test_dropped_while_it_waits_it_leaves(loop, make):
    coro, _, _, future = by_hand(loop, make)
    gone = weakref.ref(coro)
    del coro
    assert gone() is None
    assert not in_a_deque(future)


def test_closed_while_its_lock_is_another_s_a_wait_for_notice_cannot_end(run):
    async def main():
        condition = hoop.Condition()
        await condition.acquire()
        wait = condition.wait()
        wait.send(None)
        await condition.acquire()  # the wait let go of it
        with pytest.raises(RuntimeError, match=r"^coroutine ignored GeneratorExit$"):
            wait.close()
        condition.release()
        with pytest.raises(GeneratorExit):
            wait.send(None)
        assert condition.locked()

    run(main())


def test_an_empty_one_is_harmless():
    coro = hoop.Queue().get()
    empty = type(coro)()
    coro.close()
    assert repr(empty).startswith("<coroutine object nothing at ")
    with pytest.raises(RuntimeError, match=r"^cannot reuse"):
        empty.send(None)
    empty.close()


def test_a_stop_iteration_of_the_user_s_is_not_taken_for_a_result(run):
    class Odd(hoop.Queue):
        def _get(self):
            raise StopIteration("no item")

    async def main():
        queue = Odd()
        await queue.put(1)
        with pytest.raises(RuntimeError, match=r"^coroutine raised StopIteration$"):
            await queue.get()
        condition = hoop.Condition()
        async with condition:
            with pytest.raises(RuntimeError, match=r"^coroutine raised StopIteration$"):
                await condition.wait_for(iter(()).__next__)

    run(main())


def test_any_result_comes_out_whole(run):
    async def main():
        queue = hoop.Queue()
        for item in ((1, 2), (), StopIteration(1), ValueError("x"), None, queue):
            queue.put_nowait(item)
            assert await queue.get() is item
            queue.put_nowait(item)
            assert await asyncio.create_task(queue.get()) is item
            getter = asyncio.create_task(queue.get())
            await asyncio.sleep(0)
            queue.put_nowait(item)
            assert await getter is item

    run(main())


# ---- it looks like a coroutine function ----


METHODS = [
    hoop.Queue.get,
    hoop.PriorityQueue.put,
    hoop.LifoQueue.join,
    hoop.Lock.acquire,
    hoop.Lock.__aenter__,
    hoop.BoundedSemaphore.__aexit__,
    hoop.Event.wait,
    hoop.Condition.acquire,
    hoop.Condition.wait,
    hoop.Condition.wait_for,
    hoop.Barrier.wait,
    hoop.Barrier.abort,
    hoop.Queue().get,
    hoop.Event().wait,
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__qualname__)
def test_its_method_passes_for_a_coroutine_function(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's, from 3.14 on
        assert asyncio.iscoroutinefunction(method)
    assert inspect.iscoroutinefunction(method) or sys.version_info < (3, 12)


def test_other_methods_are_no_coroutine_functions():
    for method in (hoop.Queue.put_nowait, hoop.Lock.release, hoop.Event.set, hoop.Condition.notify):
        assert not inspect.iscoroutinefunction(method)


def test_mocks_of_it_are_awaited(run):
    async def main():
        queue = mock.create_autospec(hoop.Queue, instance=True)
        queue.get.return_value = 3
        assert await queue.get() == 3
        queue.get.assert_awaited_once_with()
        event = mock.Mock(spec=hoop.Event())
        event.wait.return_value = True
        assert await event.wait() is True

    run(main())


# ---- memory ----


def test_a_cycle_through_one_that_waits_is_collected(run):
    class Item:
        pass

    async def main():
        queue = hoop.Queue()
        item = Item()
        item.coro = queue.put(item)  # not started: it holds the item, which holds it
        gone = weakref.ref(item)
        item.coro.close()
        del item
        gc.collect()
        assert gone() is None

        event = hoop.Event()
        event.task = asyncio.create_task(event.wait())
        await asyncio.sleep(0)
        event.task.cancel()
        await asyncio.sleep(0)
        gone = weakref.ref(event)
        del event
        gc.collect()
        assert gone() is None

    run(main())


def test_one_that_is_kept_is_not_used_again(run):
    async def main():
        queue = hoop.Queue()
        kept = []
        for i in range(300):
            queue.put_nowait(i)
            coro = queue.get()
            assert await coro == i
            assert all(coro is not other for other in kept)
            kept.append(coro)
        for coro in kept:
            with pytest.raises(RuntimeError, match=r"^cannot reuse"):
                coro.send(None)

    run(main())


def test_weak_references_to_it_end_with_it():
    for _ in range(3):
        coro = hoop.Queue().get()
        gone = weakref.ref(coro)
        coro.close()
        del coro
        assert gone() is None
