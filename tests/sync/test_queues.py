"""Queues: order, limits, hand-over, cancellation, shutdown, and subclasses of the user's."""

from __future__ import annotations

import asyncio
import collections
import copy
import gc
import heapq
import math
import pickle
import weakref

import pytest
from peers import turns
from waiters import cancelled, started

import hoop

KINDS = [hoop.Queue, hoop.PriorityQueue, hoop.LifoQueue]
each = pytest.mark.parametrize("kind", KINDS)


# ---- in and out ----


ORDERS = {
    hoop.Queue: [3, 1, 2, 1],
    hoop.PriorityQueue: [1, 1, 2, 3],
    hoop.LifoQueue: [1, 2, 1, 3],
}


@each
def test_items_come_out_in_the_queue_s_order(run, kind):
    async def main():
        queue = kind()
        for item in (3, 1, 2, 1):
            assert await queue.put(item) is None
        assert [await queue.get() for _ in range(4)] == ORDERS[kind]
        for item in (3, 1, 2, 1):
            assert queue.put_nowait(item) is None
        assert [queue.get_nowait() for _ in range(4)] == ORDERS[kind]

    run(main())


@each
def test_it_has_a_size(kind):
    queue = kind(maxsize=2)
    assert (queue.qsize(), queue.empty(), queue.full(), queue.maxsize) == (0, True, False, 2)
    queue.put_nowait(1)
    assert (queue.qsize(), queue.empty(), queue.full()) == (1, False, False)
    queue.put_nowait(1)
    assert (queue.qsize(), queue.empty(), queue.full()) == (2, False, True)
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(1)
    assert [queue.get_nowait(), queue.get_nowait()] == [1, 1]
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


@pytest.mark.parametrize("maxsize", [0, -3, math.inf, 2**70])
def test_it_can_be_without_limit(run, maxsize):
    async def main():
        queue = hoop.Queue(maxsize)
        for i in range(100):
            await queue.put(i)
        assert not queue.full()
        assert [await queue.get() for _ in range(100)] == list(range(100))
        assert queue.maxsize == maxsize

    run(main())


@pytest.mark.parametrize("maxsize", [2.5, True])
def test_a_limit_can_be_any_number(maxsize):
    queue = hoop.Queue(maxsize)
    while not queue.full():
        queue.put_nowait(1)
    assert queue.qsize() == math.ceil(maxsize)


def test_its_limit_can_be_changed(run):
    async def main():
        queue = hoop.Queue(1)
        await queue.put(1)
        queue._maxsize = 2
        await queue.put(2)
        assert queue.full()
        assert queue.maxsize == 2

    run(main())


def test_items_that_cannot_be_compared_fail_where_they_are_put(run):
    async def main():
        queue = hoop.PriorityQueue()
        await queue.put(1)
        with pytest.raises(TypeError, match="not supported between"):
            await queue.put("x")
        assert queue._unfinished_tasks == 1

    run(main())


# ---- waiting ----


def test_getters_are_served_in_order(run):
    async def main():
        queue = hoop.Queue()
        tasks = await started(*(queue.get() for _ in range(5)))
        assert "_getters[5]" in repr(queue)
        for i in range(5):
            queue.put_nowait(i)
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        assert not queue._getters

    run(main())


def test_putters_are_served_in_order(run):
    async def main():
        queue = hoop.Queue(1)
        queue.put_nowait("first")
        tasks = await started(*(queue.put(i) for i in range(4)))
        assert "_putters[4]" in str(queue)
        got = [await queue.get() for _ in range(5)]
        assert got == ["first", 0, 1, 2, 3]
        await asyncio.gather(*tasks)
        assert not queue._putters

    run(main())


def test_whoever_was_too_slow_waits_again(run):
    async def main():
        queue = hoop.Queue()
        (slow,) = await started(queue.get())
        queue.put_nowait(1)
        assert queue.get_nowait() == 1
        await turns(3)
        assert not slow.done()
        queue.put_nowait(2)
        assert await slow == 2

    run(main())


def test_a_getter_takes_its_item_in_its_own_turn(run):
    async def main():
        queue = hoop.Queue()
        (task,) = await started(queue.get())
        queue.put_nowait(1)
        assert queue.qsize() == 1
        assert await task == 1

    run(main())


@pytest.mark.parametrize("others", [0, 1, 2])
def test_an_item_is_not_lost_to_a_getter_that_is_cancelled_after_it_was_woken(run, others):
    async def main():
        queue = hoop.Queue()
        first, *rest = await started(*(queue.get() for _ in range(1 + others)))
        queue.put_nowait("item")
        first.cancel()
        assert await cancelled(first)
        await turns(2)
        assert [task.done() for task in rest] == [True, False][:others]
        assert queue.qsize() == (0 if others else 1)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        assert not queue._getters

    run(main())


def test_a_place_is_not_lost_to_a_putter_that_is_cancelled_after_it_was_woken(run):
    async def main():
        queue = hoop.Queue(1)
        queue.put_nowait("a")
        first, second = await started(queue.put("b"), queue.put("c"))
        assert queue.get_nowait() == "a"
        first.cancel()
        assert await cancelled(first)
        await second
        assert queue.get_nowait() == "c"
        assert queue.empty()

    run(main())


def test_cancelled_before_it_is_woken_a_waiter_is_forgotten(run):
    async def main():
        queue = hoop.Queue(1)
        tasks = await started(*(queue.get() for _ in range(3)))
        tasks[1].cancel()
        assert await cancelled(tasks[1])
        assert len(queue._getters) == 2
        queue.put_nowait(1)
        assert await tasks[0] == 1
        queue.put_nowait(2)
        assert await tasks[2] == 2
        queue.put_nowait(3)
        (put,) = await started(queue.put(4))
        put.cancel()
        assert await cancelled(put)
        assert not queue._putters
        assert queue.get_nowait() == 3
        assert queue.empty()

    run(main())


def test_a_timeout_takes_no_item(run):
    async def main():
        queue = hoop.Queue()
        for wait in (asyncio.wait_for(queue.get(), 0.001), _within(queue.get(), 0)):
            with pytest.raises(TimeoutError):
                await wait
        assert not queue._getters
        queue.put_nowait(1)
        assert await asyncio.wait_for(queue.get(), 1) == 1

    async def _within(coro, seconds):
        async with asyncio.timeout(seconds):
            return await coro

    run(main())


def test_a_cancellation_taken_back_does_not_lose_the_item(run):
    async def main():
        queue = hoop.Queue()
        (task,) = await started(queue.get())
        queue.put_nowait(1)
        task.cancel()
        task.uncancel()
        if await cancelled(task):
            assert queue.get_nowait() == 1
        else:
            assert task.result() == 1

    run(main())


def test_asyncio_s_future_can_be_among_the_waiters(run):
    async def main():
        queue = hoop.Queue(1)
        queue.put_nowait(1)
        theirs = asyncio.Future()
        queue._putters.append(theirs)
        queue.get_nowait()
        assert theirs.done()
        assert not queue._putters

    run(main())


def test_it_is_bound_to_the_loop_on_which_it_was_first_waited_for(new_loop):
    queue = hoop.Queue()

    async def times_out():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)

    first, second = new_loop(), new_loop()
    first.run_until_complete(queue.put(1))
    second.run_until_complete(queue.get())
    first.run_until_complete(times_out())
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(queue.get())
    assert str(raised.value) == f"{queue!r} is bound to a different event loop"


# ---- join, shutdown ----


@each
def test_join_waits_until_everything_is_done(run, kind):
    async def main():
        queue = kind()
        await queue.join()
        for i in range(3):
            queue.put_nowait(i)
        joiners = await started(queue.join(), queue.join())
        for _ in range(3):
            assert not any(task.done() for task in joiners)
            await queue.get()
            queue.task_done()
            await turns(2)
        await asyncio.gather(*joiners)
        await queue.join()
        with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
            queue.task_done()

    run(main())


def test_an_item_put_again_is_waited_for_again(run):
    async def main():
        queue = hoop.Queue()
        queue.put_nowait(1)
        (first,) = await started(queue.join())
        queue.task_done()
        await first
        queue.put_nowait(2)
        (second,) = await started(queue.join())
        await turns(2)
        assert not second.done()
        second.cancel()
        assert await cancelled(second)

    run(main())


@each
def test_after_shutdown_what_is_in_it_can_be_got(run, kind):
    async def main():
        queue = kind()
        queue.put_nowait(1)
        queue.shutdown()
        assert repr(queue).endswith(" shutdown>")
        for refused in (queue.put(2), _called(queue.put_nowait, 2)):
            with pytest.raises(hoop.QueueShutDown):
                await refused
        assert await queue.get() == 1
        for refused in (queue.get(), _called(queue.get_nowait)):
            with pytest.raises(hoop.QueueShutDown):
                await refused
        queue.task_done()
        await queue.join()

    async def _called(function, *args):
        return function(*args)

    run(main())


@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown_wakes_everybody(run, immediate):
    async def main():
        empty, full = hoop.Queue(), hoop.Queue(1)
        full.put_nowait(1)
        tasks = await started(empty.get(), empty.get(), full.put(2), full.put(3), full.join())
        empty.shutdown(immediate)
        full.shutdown(immediate)
        ended = await asyncio.gather(*tasks[:4], return_exceptions=True)
        assert [type(exc) for exc in ended] == [hoop.QueueShutDown] * 4
        assert full.qsize() == (0 if immediate else 1)
        if not immediate:
            assert not tasks[4].done()
            full.get_nowait()
            full.task_done()
        await tasks[4]

    run(main())


def test_its_exceptions_are_asyncio_s():
    if hasattr(asyncio, "QueueShutDown"):
        assert hoop.QueueShutDown is asyncio.QueueShutDown
    else:
        assert hoop.QueueShutDown.__mro__[1] is Exception


# ---- subclasses, and what is put on a queue ----


class Counting(hoop.Queue):
    """Writes down which of its methods are called."""

    def __init__(self, maxsize=0):
        self.calls = []
        super().__init__(maxsize)

    def _init(self, maxsize):
        self.calls.append("_init")
        super()._init(maxsize)

    def _put(self, item):
        self.calls.append("_put")
        super()._put(item)

    def _get(self):
        self.calls.append("_get")
        return super()._get()


def test_a_subclass_s_methods_are_called(run):
    async def main():
        queue = Counting(3)
        await queue.put(1)
        queue.put_nowait(2)
        (waiting,) = await started(_both(queue))
        assert await waiting == [1, 2]
        (getter,) = await started(queue.get())
        await queue.put(3)
        assert await getter == 3
        queue.put_nowait(4)
        queue.shutdown(immediate=True)
        names = "_init _put _put _get _get _put _get _put _get"
        assert queue.calls == names.split()

    async def _both(queue):
        return [await queue.get(), queue.get_nowait()]

    run(main())


@pytest.mark.parametrize("base", KINDS)
def test_a_subclass_may_keep_its_items_in_anything(run, base):
    class Unique(base):
        def _init(self, maxsize):
            self._queue = set()

        def _put(self, item):
            self._queue.add(item)

        def _get(self):
            return self._queue.pop()

    async def main():
        queue = Unique(2)
        await queue.put(1)
        await queue.put(1)
        assert (queue.qsize(), queue.full()) == (1, False)
        await queue.put(2)
        (put,) = await started(queue.put(3))
        assert sorted([await queue.get(), await queue.get()]) == [1, 2]
        await put
        assert "_queue=[3]" in repr(queue)

    run(main())


def test_a_subclass_may_keep_a_list_in_a_queue_s_place(run):
    class Heap(hoop.Queue):
        def _init(self, maxsize):
            self._queue = []

        def _put(self, item):
            heapq.heappush(self._queue, item)

        def _get(self):
            return heapq.heappop(self._queue)

    async def main():
        queue = Heap()
        for item in (3, 1, 2):
            await queue.put(item)
        assert [await queue.get() for _ in range(3)] == [1, 2, 3]

    run(main())


def test_a_subclass_may_say_when_it_is_empty_or_full(run):
    class Gated(hoop.Queue):
        open = False

        def empty(self):
            return not self.open or super().empty()

        def full(self):
            return not self.open

    async def main():
        queue = Gated()
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(1)
        (put,) = await started(queue.put(1))
        queue.open = True
        queue._wakeup_next(queue._putters)
        await put
        queue.open = False
        with pytest.raises(asyncio.QueueEmpty):
            queue.get_nowait()
        (get,) = await started(queue.get())
        queue.open = True
        queue._wakeup_next(queue._getters)
        assert await get == 1

    run(main())


def test_a_subclass_s_nowait_methods_are_what_get_and_put_end_with(run):
    class Logged(hoop.Queue):
        def put_nowait(self, item):
            super().put_nowait(("put", item))
            return "put it"

        def get_nowait(self):
            return ("got", super().get_nowait())

    async def main():
        queue = Logged()
        assert await queue.put(1) == "put it"
        assert await queue.get() == ("got", ("put", 1))

    run(main())


def test_methods_put_on_a_queue_are_called(run):
    async def main():
        queue = hoop.Queue()
        queue.name = "jobs"  # any attribute will do, and changes nothing else
        await queue.put(0)
        assert await queue.get() == 0
        seen = []
        queue.put_nowait = seen.append
        await queue.put(1)
        assert seen == [1]
        queue.empty = lambda: False
        queue.get_nowait = lambda: "nothing"
        assert await queue.get() == "nothing"
        del queue.put_nowait, queue.empty, queue.get_nowait
        assert vars(queue) == {"name": "jobs"}
        await queue.put(2)
        assert await queue.get() == 2

    run(main())


def test_the_items_can_be_reached(run):
    async def main():
        queue = hoop.Queue()
        for i in range(4):
            queue.put_nowait(i)
        assert type(queue._queue) is collections.deque
        queue._queue.remove(1)
        queue._queue.appendleft("urgent")
        assert [queue.get_nowait() for _ in range(4)] == ["urgent", 0, 2, 3]
        queue._queue = collections.deque([7])
        assert await queue.get() == 7
        queue._queue = collections.UserList([8, 9])
        queue._get = queue._queue.pop
        assert await queue.get() == 9

    run(main())


def test_generic_classes_of_it_can_be_named():
    assert hoop.Queue[int].__origin__ is hoop.Queue

    class Jobs(hoop.PriorityQueue[int]):
        pass

    assert Jobs().maxsize == 0
    assert hoop.LifoQueue[str](3).maxsize == 3


@each
def test_it_passes_for_asyncio_s(kind):
    queue = kind()
    assert isinstance(queue, getattr(asyncio, kind.__name__))
    assert isinstance(queue, asyncio.Queue)
    assert isinstance(queue, hoop.Queue)
    assert type(queue).__name__ in hoop.__all__

    class Mine(kind):
        pass

    assert Mine().__class__ is Mine


# ---- describing, copying, memory ----


def test_the_repr_says_how_it_is(run):
    async def main():
        queue = hoop.Queue(3)
        assert str(queue) == "<Queue maxsize=3>"
        assert repr(queue) == f"<Queue at {id(queue):#x} maxsize=3>"
        queue.put_nowait("a")
        assert str(queue) == "<Queue maxsize=3 _queue=['a'] tasks=1>"

        class Jobs(hoop.LifoQueue):
            pass

        assert str(Jobs()) == "<Jobs maxsize=0>"

    run(main())


@each
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_it_is_copied_with_its_items(run, kind, how):
    async def main():
        queue = kind(2)
        await queue.put(5)
        queue.note = "note"
        twin = how(queue)
        assert (type(twin), twin.note, str(twin)) == (kind, "note", str(queue))
        if how is not copy.copy:
            assert await queue.get() == 5
        (put,) = await started(_twice(twin))
        assert await twin.get() == (6 if kind is hoop.LifoQueue else 5)
        await put
        assert twin.full()

    async def _twice(queue):
        await queue.put(6)
        await queue.put(7)

    run(main())


def test_a_copied_subclass_keeps_its_methods(run):
    async def main():
        twin = copy.deepcopy(Counting())
        twin.calls.clear()
        await twin.put(1)
        await twin.get()
        assert twin.calls == ["_put", "_get"]

    run(main())


def test_a_queue_in_a_cycle_is_collected(run):
    class Item:
        pass

    async def main():
        for kind in KINDS:
            queue = kind()
            item = Item()
            item.queue = queue
            queue.put_nowait(item)
            queue.me = queue
            gone = weakref.ref(queue)
            del queue, item
            gc.collect()
            assert gone() is None

    run(main())


def test_an_item_that_looks_for_its_queue_as_both_die_finds_nothing():
    found = []

    class Item:
        def __del__(self):
            found.append(self.queue())

    queue = hoop.Queue()
    item = Item()
    item.queue = weakref.ref(queue)
    queue.put_nowait(item)
    del item
    del queue
    assert found == [None]


def test_one_that_was_not_initialised_fails_without_harm(run):
    class Hasty(hoop.Queue):
        def __init__(self):
            pass

    async def main():
        for queue in (
            Hasty(),
            hoop.Queue.__new__(hoop.Queue),
            hoop.LifoQueue.__new__(hoop.LifoQueue),
        ):
            for call in (queue.qsize, queue.get_nowait, lambda: queue.put_nowait(1)):  # noqa: B023
                with pytest.raises((TypeError, AttributeError)):
                    call()
            for coro in (queue.get(), queue.put(1)):
                with pytest.raises((TypeError, AttributeError)):
                    await asyncio.wait_for(coro, 0.01)

    run(main())
