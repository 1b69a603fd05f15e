"""Conditions, on locks of every kind, and barriers."""

from __future__ import annotations

import asyncio
import copy

import pytest
from peers import turns
from waiters import cancelled, started

import hoop


class OwnLock:
    """A lock of the user's own, on asyncio's."""

    def __init__(self):
        self.it = asyncio.Lock()
        self.calls = []

    def locked(self):
        return self.it.locked()

    async def acquire(self):
        self.calls.append("acquire")
        await asyncio.sleep(0)
        return await self.it.acquire()

    def release(self):
        self.calls.append("release")
        self.it.release()


@pytest.fixture(params=["its own", "given", "asyncio's", "the user's"])
def new_condition(request):
    """Makes conditions on locks of each kind."""
    make_lock = {"given": hoop.Lock, "asyncio's": asyncio.Lock, "the user's": OwnLock}
    if request.param == "its own":
        return hoop.Condition
    return lambda: hoop.Condition(make_lock[request.param]())


def test_a_condition_wakes_as_many_as_it_is_told_to(run, new_condition):
    async def main():
        condition = new_condition()
        woken = []

        async def waits(n):
            async with condition:
                assert await condition.wait() is True
                assert condition.locked()
                woken.append(n)

        tasks = [asyncio.create_task(waits(n)) for n in range(5)]
        await turns(10)
        async with condition:
            condition.notify()
        await turns(10)
        assert woken == [0]
        async with condition:
            condition.notify(2)
            assert len(condition._waiters) == 4
        await turns(20)
        assert woken == [0, 1, 2]
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        assert woken == [0, 1, 2, 3, 4]
        assert not condition.locked()

    run(main())


def test_wait_for_asks_after_each_notice(run, new_condition):
    async def main():
        condition = new_condition()
        asked = []

        async def waits():
            async with condition:
                return await condition.wait_for(
                    lambda: asked.append(1) or (len(asked) == 3 and "yes")
                )

        task = asyncio.create_task(waits())
        for n in (1, 2, 3):
            await turns(10)
            assert len(asked) == n
            async with condition:
                condition.notify()
        assert await task == "yes"

    run(main())


def test_an_error_of_the_predicate_leaves_the_lock_taken(run, new_condition):
    async def main():
        condition = new_condition()
        async with condition:
            with pytest.raises(ZeroDivisionError):
                await condition.wait_for(lambda: 1 / 0)
            assert condition.locked()
        assert not condition.locked()

    run(main())


def test_a_cancelled_wait_ends_with_the_lock_taken(run, new_condition):
    async def main():
        condition = new_condition()
        seen = []

        async def waits():
            async with condition:
                try:
                    await condition.wait()
                finally:
                    seen.append(condition.locked())

        task = asyncio.create_task(waits())
        await turns(10)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [True]
        assert not condition.locked()
        assert not condition._waiters

    run(main())


def test_cancelled_while_it_takes_the_lock_again_a_wait_goes_on_taking_it(run, new_condition):
    async def main():
        condition = new_condition()
        seen = []

        async def waits():
            async with condition:
                try:
                    await condition.wait()
                except asyncio.CancelledError as exc:
                    seen.append((condition.locked(), exc.args))
                    raise

        task = asyncio.create_task(waits())
        await turns(10)
        async with condition:
            condition.notify()
            await turns(10)  # woken, and now it wants the lock
            task.cancel("first")
            await turns(10)
            task.cancel("last")
            await turns(10)
            assert not task.done()
        assert await cancelled(task)
        assert seen == [(True, ("last",))]

    run(main())


def test_a_notice_that_a_cancelled_wait_got_goes_to_the_next(run, new_condition):
    async def main():
        condition = new_condition()

        async def waits():
            async with condition:
                return await condition.wait()

        first, second = [asyncio.create_task(waits()) for _ in range(2)]
        await turns(10)
        async with condition:
            condition.notify()
            first.cancel()
        assert await cancelled(first)
        assert await second is True

    run(main())


@pytest.mark.parametrize("call", ["wait", "notify"])
def test_a_condition_nobody_holds_refuses(run, call):
    async def main():
        condition = hoop.Condition()
        with pytest.raises(RuntimeError, match=f"^cannot {call} on un-acquired lock$"):
            await condition.wait() if call == "wait" else condition.notify()
        with pytest.raises(RuntimeError, match=f"^cannot {call} on un-acquired lock$"):
            await condition.wait() if call == "wait" else condition.notify_all()

    run(main())


def test_a_wait_on_another_loop_keeps_the_lock(new_loop):
    condition = hoop.Condition()

    async def waits(timeout):
        async with condition:
            try:
                await asyncio.wait_for(condition.wait(), timeout)
            finally:
                assert condition.locked()

    with pytest.raises(TimeoutError):
        new_loop().run_until_complete(waits(0.001))
    with pytest.raises(RuntimeError, match=r"is bound to a different event loop$"):
        new_loop().run_until_complete(waits(None))
    assert not condition.locked()


def test_a_copied_condition_has_a_lock_of_its_own(run):
    async def main():
        condition = hoop.Condition()
        twin = copy.deepcopy(condition)
        async with condition:
            assert not twin.locked()
            async with twin:
                pass

    run(main())


# ---- barriers ----


def test_a_barrier_lets_its_parties_pass_together(run):
    async def main():
        barrier = hoop.Barrier(3)
        places = []

        async def passes():
            async with barrier as place:
                places.append(place)

        tasks = await started(passes(), passes())
        await turns(5)
        assert places == []
        assert (barrier.n_waiting, barrier.parties, barrier.broken) == (2, 3, False)
        assert repr(barrier).endswith(" [filling, waiters:2/3]>")
        await asyncio.gather(passes(), *tasks)
        assert sorted(places) == [0, 1, 2]
        assert barrier.n_waiting == 0

    run(main())


def test_a_cancelled_party_does_not_count(run):
    async def main():
        barrier = hoop.Barrier(2)
        (task,) = await started(barrier.wait())
        await turns(3)
        task.cancel()
        assert await cancelled(task)
        assert barrier.n_waiting == 0
        assert sorted(await asyncio.gather(barrier.wait(), barrier.wait())) == [0, 1]

    run(main())


@pytest.mark.parametrize("how", ["reset", "abort"])
def test_a_barrier_that_is_reset_or_aborted_is_broken_for_those_who_wait(run, how):
    async def main():
        barrier = hoop.Barrier(2)
        (task,) = await started(barrier.wait())
        await turns(3)
        await getattr(barrier, how)()
        with pytest.raises(asyncio.BrokenBarrierError, match=r"^Abort or reset of barrier$"):
            await task
        assert barrier.broken == (how == "abort")
        if how == "abort":
            with pytest.raises(asyncio.BrokenBarrierError, match=r"^Barrier aborted$"):
                await barrier.wait()
            assert repr(barrier).endswith(" [broken]>")
            await barrier.reset()
        assert sorted(await asyncio.gather(barrier.wait(), barrier.wait())) == [0, 1]

    run(main())


def test_a_barrier_needs_somebody():
    with pytest.raises(ValueError, match="parties must be") as theirs:
        asyncio.Barrier(0)
    with pytest.raises(ValueError, match=f"^{theirs.value}$"):
        hoop.Barrier(0)
