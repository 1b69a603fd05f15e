"""Locks, semaphores and events: which task gets them, also after a cancellation. And their common part."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import re
import sys
import weakref

import pytest
from peers import turns
from waiters import cancelled, started

import hoop

LOCKS = [hoop.Lock, hoop.Semaphore, hoop.BoundedSemaphore, hoop.Condition]
ALL = [*LOCKS, hoop.Event, lambda: hoop.Barrier(2)]


# ---- all of them ----


@pytest.mark.parametrize("make", ALL)
def test_it_passes_for_asyncio_s(make):
    it = make()
    assert isinstance(it, getattr(asyncio, type(it).__name__))
    assert isinstance(it, type(it))
    assert type(it).__name__ in hoop.__all__


@pytest.mark.parametrize("make", ALL)
def test_a_subclass_finds_its_own_class(make):
    class Mine(type(make())):
        pass

    it = Mine(2) if issubclass(Mine, hoop.Barrier) else Mine()
    assert it.__class__ is Mine
    assert type(it).__mro__[1] is type(make())
    it.note = 1
    assert vars(it) == {"note": 1}


@pytest.mark.parametrize("make", ALL)
def test_it_takes_attributes_and_weak_references(make):
    it = make()
    it.name = "mine"
    assert (it.name, vars(it)) == ("mine", {"name": "mine"})
    it.me = it
    gone = weakref.ref(it)
    del it
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("make", ALL)
def test_it_cannot_be_awaited(run, make):
    async def main():
        it = make()

        class NotAwaitable:
            pass

        NotAwaitable.__name__ = type(it).__name__
        with pytest.raises(TypeError) as theirs:
            await NotAwaitable()
        with pytest.raises(TypeError, match=f"^{re.escape(str(theirs.value))}$"):
            await it
        with pytest.raises(TypeError, match=r"An asyncio.Future, a coroutine or an awaitable is"):
            asyncio.ensure_future(it)

    run(main())


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_it_is_copied_before_anybody_waits(make, how):
    it = make()
    it.note = ["note"]
    twin = how(it)
    assert type(twin) is type(it)
    assert twin.note == ["note"]
    assert repr(twin).partition(" [")[2] == repr(it).partition(" [")[2]


@pytest.mark.parametrize("make", [hoop.Lock, hoop.Event, hoop.Semaphore])
def test_it_is_bound_to_the_loop_on_which_it_was_first_waited_for(make, new_loop):
    it = make()
    assert it._loop is None
    first, second = new_loop(), new_loop()
    if isinstance(it, hoop.Event):
        wait = it.wait
    else:
        wait = it.acquire
        first.run_until_complete(wait())  # at once: that binds nothing
        assert it._loop is None

    async def waits():
        task = asyncio.create_task(wait())
        await turns(1)
        task.cancel()
        assert await cancelled(task)

    first.run_until_complete(waits())
    assert it._loop is first
    first.run_until_complete(waits())
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(wait())
    assert str(raised.value) == f"{it!r} is bound to a different event loop"
    assert not it._waiters


def test_a_loop_that_makes_its_own_futures_is_asked_for_them():
    made = []

    class Loop(hoop.EventLoop):
        def create_future(self):
            made.append(super().create_future())
            return made[-1]

    async def main():
        event = hoop.Event()
        (task,) = await started(event.wait())
        assert list(event._waiters) == [made[-1]]
        event.set()
        assert await task is True

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_in_debug_mode_a_waiter_knows_where_it_was_made(run):
    async def main():
        event = hoop.Event()
        (task,) = await started(event.wait())
        assert event._waiters[0]._source_traceback
        event.set()
        await task

    run(main(), debug=True)


@pytest.mark.parametrize("make", LOCKS)
def test_async_with_takes_it_and_gives_it_back(run, make):
    async def main():
        it = make()
        async with it as value:
            assert value is None
            assert it.locked()
        assert not it.locked()
        with pytest.raises(ZeroDivisionError):
            async with it:
                raise ZeroDivisionError
        assert not it.locked()

    run(main())


@pytest.mark.parametrize("make", LOCKS)
def test_async_with_uses_the_methods_of_a_subclass(run, make):
    calls = []

    class Mine(make):
        async def acquire(self):
            calls.append("acquire")
            await asyncio.sleep(0)
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    async def main():
        it = Mine()
        async with it:
            assert it.locked()
        assert not it.locked()

    run(main())
    assert calls == ["acquire", "release"]


@pytest.mark.parametrize("make", LOCKS)
def test_async_with_uses_methods_that_were_put_on_the_object(run, make):
    calls = []

    async def acquire():
        calls.append("acquire")

    async def main():
        it = make()
        it.acquire = acquire
        it.release = lambda: calls.append("release")
        async with it:
            pass

    run(main())
    assert calls == ["acquire", "release"]


@pytest.mark.parametrize("make", [hoop.Lock, hoop.Semaphore, hoop.Condition])
def test_whoever_waits_for_async_with_can_be_cancelled(run, make):
    async def main():
        it = make()
        entered = []

        async def enters(n):
            async with it:
                entered.append(n)

        await it.acquire()
        tasks = await started(enters(0), enters(1), enters(2))
        tasks[1].cancel()
        assert await cancelled(tasks[1])
        it.release()
        await asyncio.gather(tasks[0], tasks[2])
        assert entered == [0, 2]
        assert not it.locked()

    run(main())


@pytest.mark.parametrize("make", [hoop.Lock, hoop.Semaphore])
def test_a_timeout_ends_the_wait(run, make):
    async def main():
        it = make()
        await it.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await it.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(it.acquire(), 0.001)
        assert not it._waiters
        it.release()
        assert await asyncio.wait_for(it.acquire(), 0.001) is True

    run(main())


# ---- locks ----


def test_a_lock_is_taken_in_order(run):
    async def main():
        lock = hoop.Lock()
        order = []

        async def takes(n):
            async with lock:
                order.append(n)
                await turns(n % 3)

        await asyncio.gather(*(takes(n) for n in range(20)))
        assert order == list(range(20))

    run(main())


def test_a_free_lock_is_not_taken_past_those_who_wait(run):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        (waiter,) = await started(lock.acquire())
        lock.release()
        late = asyncio.create_task(lock.acquire())
        assert not lock.locked()
        await turns(2)
        assert waiter.done()
        assert not late.done()
        lock.release()
        assert await late is True

    run(main())


@pytest.mark.parametrize("then", ["next", "none"])
def test_a_lock_whose_waiter_is_cancelled_after_it_was_woken_goes_to_the_next(run, then):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        tasks = await started(*(lock.acquire() for _ in range(2 if then == "next" else 1)))
        lock.release()
        tasks[0].cancel()
        assert await cancelled(tasks[0])
        if then == "next":
            assert await tasks[1] is True
            assert lock.locked()
        else:
            assert not lock.locked()
        assert not lock._waiters

    run(main())


def test_a_cancellation_taken_back_may_leave_the_lock_to_the_next(run):
    """Up to 3.12 uncancel() does not keep the waiter from being cancelled."""

    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        first, second = await started(lock.acquire(), lock.acquire())
        lock.release()
        first.cancel()
        first.uncancel()
        await turns(3)
        assert first.cancelled() == (sys.version_info < (3, 13))
        if not first.cancelled():
            assert await first is True
            assert not second.done()
            lock.release()
        assert await second is True

    run(main())


def test_release_of_a_free_lock_fails():
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        hoop.Lock().release()


def test_the_repr_of_a_lock_says_how_it_is(run):
    async def main():
        lock = hoop.Lock()
        assert repr(lock).endswith(" [unlocked]>")
        await lock.acquire()
        assert repr(lock).endswith(" [locked]>")
        (task,) = await started(lock.acquire())
        assert repr(lock).endswith(" [locked, waiters:1]>")
        task.cancel()
        assert await cancelled(task)

    run(main())


# ---- semaphores ----


def test_a_semaphore_lets_in_as_many_as_its_value(run):
    async def main():
        semaphore = hoop.Semaphore(3)
        inside = most = 0

        async def enters():
            nonlocal inside, most
            async with semaphore:
                inside += 1
                most = max(most, inside)
                await turns(2)
                inside -= 1

        await asyncio.gather(*(enters() for _ in range(20)))
        assert (most, semaphore._value) == (3, 3)

    run(main())


@pytest.mark.parametrize("value", [float("inf"), 10**30])
def test_a_semaphore_can_be_without_limit(run, value):
    async def main():
        semaphore = hoop.Semaphore(value)
        for _ in range(5):
            await semaphore.acquire()
        assert not semaphore.locked()
        semaphore.release()

    run(main())


def test_a_semaphore_s_place_of_a_cancelled_waiter_goes_to_the_next(run):
    async def main():
        semaphore = hoop.Semaphore(0)
        tasks = await started(*(semaphore.acquire() for _ in range(3)))
        semaphore.release()
        tasks[0].cancel()
        assert await cancelled(tasks[0])
        assert await tasks[1] is True
        assert not tasks[2].done()
        semaphore.release()
        assert await tasks[2] is True
        assert semaphore._value == 0

    run(main())


def test_nobody_passes_those_a_semaphore_has_woken(run):
    async def main():
        semaphore = hoop.Semaphore(1)
        order = []

        async def enters(n):
            async with semaphore:
                order.append(n)

        await semaphore.acquire()
        tasks = await started(enters(0), enters(1))
        semaphore.release()
        tasks.append(asyncio.create_task(enters(2)))
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]

    run(main())


def test_wrong_values_of_semaphores_fail():
    with pytest.raises(ValueError, match=r"^Semaphore initial value must be >= 0$"):
        hoop.Semaphore(-1)
    with pytest.raises(ValueError, match=r"^BoundedSemaphore released too many times$"):
        hoop.BoundedSemaphore(1).release()
    with pytest.raises(TypeError):
        hoop.Semaphore("1")
    for make in (hoop.Lock, hoop.Event):
        with pytest.raises(TypeError, match="unexpected keyword argument 'loop'"):
            make(loop=None)


# ---- events ----


def test_an_event_wakes_everybody(run):
    async def main():
        event = hoop.Event()
        tasks = await started(*(event.wait() for _ in range(5)))
        assert repr(event).endswith(" [unset, waiters:5]>")
        event.set()
        event.clear()  # whoever was woken does not care
        assert await asyncio.gather(*tasks) == [True] * 5
        assert not event.is_set()
        event.set()
        assert await event.wait() is True
        assert repr(event).endswith(" [set]>")

    run(main())


def test_a_wait_for_an_event_is_cancelled_before_and_after_it_is_set(run):
    async def main():
        event = hoop.Event()
        before, after = await started(event.wait(), event.wait())
        before.cancel()
        event.set()
        after.cancel()
        assert await cancelled(before)
        assert await cancelled(after)
        assert not event._waiters

    run(main())


# ---- the end of the loop ----


LEFT_WAITING = """
import asyncio, gc, logging, sys
import hoop

seen = []
sys.unraisablehook = lambda args: seen.append(repr(args.exc_value))

class Handler(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage().splitlines()[0])

logging.getLogger("asyncio").addHandler(Handler())

async def lock(library):
    it = library.Lock()
    async with it:
        await it.acquire()

async def semaphore(library):
    it = library.Semaphore()
    async with it:
        await it.acquire()

async def event(library):
    await library.Event().wait()

async def condition(library):
    it = library.Condition()
    async with it:
        await it.wait()

async def barrier(library):
    await library.Barrier(3).wait()

async def getter(library):
    await library.Queue().get()

async def putter(library):
    it = library.Queue(1)
    await it.put(1)
    await it.put(2)

async def joiner(library):
    it = library.Queue()
    await it.put(1)
    await it.join()

for wait in (lock, semaphore, event, condition, barrier, getter, putter, joiner):
    said = []
    for library, new in ((asyncio, asyncio.SelectorEventLoop), (hoop, hoop.new_event_loop)):
        loop = new()
        tasks = [loop.create_task(wait(library)) for _ in range(3)]
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del tasks, loop
        gc.collect()
        said.append(sorted(seen))
        seen.clear()
    assert said[0] == said[1], (wait.__name__, said)
    assert len(said[1]) >= 3
print("alike")
"""


def test_a_loop_that_is_closed_under_those_who_wait_complains_as_asyncio_s(python):
    assert python(LEFT_WAITING) == "alike\n"
