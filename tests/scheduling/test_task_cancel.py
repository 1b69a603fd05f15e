"""Cancelling tasks: requests, messages, counting, at every kind of await."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

import hoop


async def ended(task) -> str:
    """How a task ended."""
    try:
        return repr(await task)
    except asyncio.CancelledError as exc:
        return f"cancelled {exc.args}"
    except BaseException as exc:
        return repr(exc)


class BareYield:
    """Awaits nothing in particular."""

    def __await__(self):
        while True:
            yield


class Inside:
    """Awaits by a generator of its own."""

    def __await__(self):
        return (yield from asyncio.get_running_loop().create_future())


async def never():
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


async def never_asyncio():
    """Wait for ever, for a future of asyncio's own."""
    await asyncio.Future()


async def locked(make, name, *args):
    """Wait for something that never comes."""
    thing = make()
    if name == "acquire":
        await thing.acquire()
    if name == "wait_in_condition":
        async with thing:
            await thing.wait()
    await getattr(thing, name)(*args)


async def receive():
    """Wait for bytes that never come."""
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        await asyncio.get_running_loop().sock_recv(a, 1)


async def in_group():
    """Wait for a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(never())


async def in_timeout():
    """Wait under a timeout that does not come."""
    async with asyncio.timeout(1000):
        await never()


AWAITS = {
    "future": never,
    "asyncio's future": never_asyncio,
    "custom await": lambda: wait_for(Inside()),
    "bare yield": lambda: wait_for(BareYield()),
    "sleep": lambda: asyncio.sleep(1000),
    "task": lambda: wait_for(asyncio.create_task(never())),
    "asyncio's task": lambda: wait_for(asyncio.Task(never())),
    "gather": lambda: wait_for(asyncio.gather(never(), never())),
    "wait": lambda: wait_for(one_of_a_wait()),
    "wait_for": lambda: asyncio.wait_for(never(), 1000),
    "timeout": in_timeout,
    "group": in_group,
    "lock": lambda: locked(asyncio.Lock, "acquire"),
    "event": lambda: locked(asyncio.Event, "wait"),
    "queue": lambda: locked(asyncio.Queue, "get"),
    "sock_recv": receive,
}


async def wait_for(awaitable):
    """Await it in a coroutine."""
    return await awaitable


async def one_of_a_wait():
    """asyncio.wait, which does not cancel what it waits for."""
    task = asyncio.create_task(never())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()


@pytest.mark.parametrize("kind", AWAITS)
def test_cancel_at(run, kind):
    async def main():
        task = asyncio.create_task(AWAITS[kind]())
        for _ in range(4):
            await asyncio.sleep(0)
        assert task.cancel("why") is True
        assert await ended(task) in ("cancelled ('why',)", "cancelled ()")
        assert task.cancelled()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@pytest.mark.parametrize("coro", [never, never_asyncio, in_group, in_timeout, receive])
def test_cancel_before_it_began(run, coro):
    async def main():
        task = asyncio.create_task(coro())
        task.cancel("early")
        assert await ended(task) == "cancelled ('early',)"

    run(main())


def test_shield_saves_what_is_inside(run):
    async def main():
        inner = asyncio.create_task(never())
        outer = asyncio.create_task(wait_for(asyncio.shield(inner)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel()
        assert await ended(outer) == "cancelled ()"
        assert not inner.done()
        inner.cancel()
        assert await ended(inner) == "cancelled ()"

    run(main())


def test_cancel_of_an_ended_task(run):
    async def main():
        task = asyncio.create_task(asyncio.sleep(0, 5))
        await task
        assert task.cancel() is False
        assert task.result() == 5

    run(main())


def test_cancel_when_what_it_waits_for_is_done(run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(wait_for(future))
        await asyncio.sleep(0)
        future.set_result(1)
        assert task.cancel() is True
        assert await ended(task) == "cancelled ()"
        assert future.result() == 1

    run(main())


def test_cancel_in_the_turn_in_which_it_ends(run):
    async def main():
        async def cancels_itself():
            asyncio.current_task().cancel("late")
            return 5

        assert await ended(asyncio.create_task(cancels_itself())) == "cancelled ('late',)"

    run(main())


def test_cancelled_once_at_the_next_await(run):
    async def main():
        seen = []

        async def catches():
            asyncio.current_task().cancel()
            asyncio.current_task().cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                seen.append("cancelled")
            await asyncio.sleep(0)
            return "went on"

        assert await ended(asyncio.create_task(catches())) == "'went on'"
        assert seen == ["cancelled"]

    run(main())


def test_cancel_swallowed_and_cancelled_again(run):
    async def main():
        async def stubborn():
            for _ in range(2):
                try:
                    await never()
                except asyncio.CancelledError:
                    pass
            await never()

        task = asyncio.create_task(stubborn())
        for count in (1, 2, 3):
            await asyncio.sleep(0)
            task.cancel()
            assert task.cancelling() == count
        assert await ended(task) == "cancelled ()"

    run(main())


def test_cancel_of_the_future_it_waits_for(run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(wait_for(future))
        await asyncio.sleep(0)
        future.cancel("the future's")
        assert await ended(task) == 'cancelled ("the future\'s",)'
        assert task.cancelled()
        assert task.cancelling() == 0

    run(main())


def test_cancel_reaches_the_innermost_task(run):
    async def main():
        innermost = asyncio.create_task(never())
        middle = asyncio.create_task(wait_for(innermost))
        outer = asyncio.create_task(wait_for(middle))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel("deep")
        assert await ended(outer) == "cancelled ('deep',)"
        assert (innermost.cancelled(), middle.cancelled()) == (True, True)

    run(main())


def test_raising_cancelled_error_by_hand_cancels(run):
    async def main():
        async def raises():
            raise asyncio.CancelledError("by hand")

        task = asyncio.create_task(raises())
        assert await ended(task) == "cancelled ('by hand',)"
        assert task.cancelled()

    run(main())


def test_another_exception_instead_of_the_cancellation(run):
    async def main():
        async def translates():
            try:
                await never()
            except asyncio.CancelledError:
                raise KeyError("instead") from None

        task = asyncio.create_task(translates())
        await asyncio.sleep(0)
        task.cancel()
        assert await ended(task) == "KeyError('instead')"
        assert not task.cancelled()

    run(main())


def test_return_instead_of_the_cancellation(run):
    async def main():
        async def returns():
            try:
                await never()
            except asyncio.CancelledError:
                return "returned"

        task = asyncio.create_task(returns())
        await asyncio.sleep(0)
        task.cancel()
        assert await ended(task) == "'returned'"

    run(main())


# ---- messages ----


@pytest.mark.parametrize("make", [asyncio.Task, hoop.Task])
def test_message_is_raised_once(run, make):
    # asyncio's tasks forget the message with the exception they raise.
    async def main():
        task = make(never(), loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        task.cancel("message")
        await asyncio.wait([task])
        outcomes = []
        for look in (task.result, task.exception, task.result):
            with pytest.raises(asyncio.CancelledError) as caught:
                look()
            outcomes.append(caught.value.args)
        assert outcomes == [("message",), (), ()]

    run(main())


def test_last_message_counts(run):
    async def main():
        task = asyncio.create_task(never())
        task.cancel("first")
        task.cancel("second")
        assert await ended(task) == "cancelled ('second',)"

    run(main())


# ---- counting ----


def test_cancelling_counts_requests(run):
    async def main():
        task = asyncio.create_task(never())
        assert task.cancelling() == 0
        assert [task.cancel(), task.cancel()] == [True, True]
        assert task.cancelling() == 2
        await ended(task)
        assert (task.cancel(), task.cancelling()) == (False, 2)

    run(main())


def test_uncancel_counts_down_to_zero(run):
    async def main():
        task = asyncio.create_task(never())
        task.cancel()
        task.cancel()
        assert [task.uncancel(), task.uncancel(), task.uncancel()] == [1, 0, 0]
        task.cancel()
        await ended(task)

    run(main())


@pytest.mark.parametrize("make", [asyncio.Task, hoop.Task])
def test_uncancel_before_the_cancellation_was_thrown(run, make):
    async def main():
        task = make(asyncio.sleep(0, "slept"), loop=asyncio.get_running_loop())
        task.cancel()
        task.uncancel()
        expected = "'slept'" if sys.version_info >= (3, 13) else "cancelled ()"
        assert await ended(task) == expected

    run(main())


def test_timeout_leaves_no_request(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await never()
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_cancel_during_a_timeout_is_not_swallowed(run):
    async def main():
        async def under_timeout():
            async with asyncio.timeout(0):
                asyncio.current_task().cancel("outer")
                await never()

        task = asyncio.create_task(under_timeout())
        assert (await ended(task)).startswith("cancelled")
        assert task.cancelling() == 1

    run(main())


def test_group_is_cancelled_once(run):
    async def main():
        async def fails():
            raise KeyError("member")

        async def group():
            async with asyncio.TaskGroup() as members:
                members.create_task(fails())
                members.create_task(never())
                await never()

        task = asyncio.create_task(group())
        assert "KeyError('member')" in await ended(task)
        assert task.cancelling() == 0

    run(main())


def test_self_cancelling_wait_chain_does_not_recurse_for_ever(run):
    async def main():
        tasks = [asyncio.create_task(never())]
        for _ in range(300):
            tasks.append(asyncio.create_task(wait_for(tasks[-1])))
        for _ in range(3):
            await asyncio.sleep(0)
        tasks[-1].cancel()
        assert await ended(tasks[-1]) == "cancelled ()"

    run(main())
