"""hoop's timeouts do what asyncio's do, wherever the block is cancelled, and on any loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref

import pytest
from flavours import OURS, STOCK, compare_everywhere, describe

import hoop


async def finishes(api, note):
    async with api.timeout(5) as limit:
        note(repr(limit), limit.when(), limit.expired())
        await asyncio.sleep(0)
    note(repr(limit), limit.when(), limit.expired())


async def is_over(api, note):
    task = asyncio.current_task()
    try:
        async with api.timeout(5) as limit:
            await asyncio.sleep(0)
            api.advance(10)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                note(repr(limit), limit.expired(), task.cancelling())
    except TimeoutError as exc:
        note(describe(exc), task.cancelling(), repr(limit))


async def is_over_at_once(api, note):
    for when in (-1, 0, 999.5, None):
        try:
            async with api.timeout_at(when) as limit:
                note(repr(limit))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                note("not cancelled")
        except TimeoutError as exc:
            note(describe(exc), repr(limit))


async def is_moved(api, note):
    async with api.timeout(None) as limit:
        note(repr(limit))
        limit.reschedule(1005.0)
        note(repr(limit))
        limit.reschedule(1010)
        api.advance(7)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            limit.reschedule(1001.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            note(describe(exc), limit.expired())
            try:
                limit.reschedule(2000)
            except RuntimeError as refused:
                note(str(refused))
            raise


async def is_nested(api, note):
    try:
        async with api.timeout(20) as outer:
            try:
                async with api.timeout(5) as inner:
                    await asyncio.sleep(0)
                    api.advance(10)
                    await asyncio.sleep(100)
            except TimeoutError as exc:
                note("inner", describe(exc), inner.expired(), outer.expired())
                await asyncio.sleep(0)
                api.advance(10)
                await asyncio.sleep(100)
    except TimeoutError as exc:
        note("outer", describe(exc), inner.expired(), outer.expired())


async def both_are_over(api, note):
    try:
        async with api.timeout(5) as outer, api.timeout(5) as inner:
            api.advance(10)
            await asyncio.sleep(100)
    except TimeoutError as exc:
        note(describe(exc), inner.expired(), outer.expired())


async def raises_another(api, note):
    try:
        async with api.timeout(5):
            api.advance(10)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ValueError("instead")  # noqa: B904
    except ValueError as exc:
        note(describe(exc))


async def raises_a_group(api, note):
    try:
        async with api.timeout(5):
            api.advance(10)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ExceptionGroup("several", [ValueError(1), KeyError(2)])  # noqa: B904
    except ExceptionGroup as exc:
        note(describe(exc))


async def swallows(api, note):
    async with api.timeout(5) as limit:
        api.advance(10)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            note("swallowed")
    note(repr(limit), limit.expired(), asyncio.current_task().cancelling())


async def is_cancelled_as_well(api, note):
    task = asyncio.current_task()
    try:
        async with api.timeout(5):
            api.advance(10)
            await asyncio.sleep(0)
            task.cancel("from outside")
            await asyncio.sleep(100)
    except BaseException as exc:
        note(describe(exc), task.cancelling())
        raise


async def is_misused(api, note):
    limit = api.timeout(5)
    for use in (limit.reschedule, limit.__aexit__):
        try:
            result = use(*(1,) if use == limit.reschedule else (None, None, None))
            await result
        except (RuntimeError, AssertionError) as exc:
            note(describe(exc))
    async with limit:
        pass
    try:
        async with limit:
            note("again")
    except RuntimeError as exc:
        note(describe(exc))
    try:
        limit.reschedule(1)
    except RuntimeError as exc:
        note(describe(exc))


async def is_of_a_subclass(api, note):
    class Limit(api.Timeout):
        def _on_timeout(self):
            note("over", self._state.value, self._when, self._task is asyncio.current_task())
            super()._on_timeout()

        def reschedule(self, when):
            note("reschedule", when, self._state.name, self._timeout_handler is None)
            super().reschedule(when)

    try:
        async with Limit(1005.0) as limit:
            note(limit._cancelling, limit._task is asyncio.current_task())
            api.advance(10)
            await asyncio.sleep(100)
    except TimeoutError as exc:
        note(describe(exc), limit._timeout_handler)


PROGRAMS = [
    finishes,
    is_over,
    is_over_at_once,
    is_moved,
    is_nested,
    both_are_over,
    raises_another,
    raises_a_group,
    swallows,
    is_cancelled_as_well,
    is_misused,
    is_of_a_subclass,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program):
    compare_everywhere(new_loop, program)


def test_it_runs_outside_of_a_task(loop):
    said = []

    def try_it():
        for functions in (STOCK, OURS):
            enter = functions["timeout"](1).__aenter__()
            with pytest.raises(RuntimeError) as raised:
                enter.send(None)
            said.append(str(raised.value))
        loop.stop()

    loop.call_soon(try_it)
    loop.run_forever()
    assert said == ["Timeout should be used inside a task"] * 2
    for functions in (STOCK, OURS):
        with pytest.raises(RuntimeError, match="no running event loop"):
            functions["timeout"](1)


def test_it_belongs_to_an_eager_task_of_asyncio_s(run):
    """A step of another task inside a step of hoop's: the inner task is the current one."""

    async def main():
        loop = asyncio.get_running_loop()
        inside = asyncio.Task(asyncio.sleep(0), loop=loop)
        asyncio.tasks._leave_task(loop, asyncio.current_task())
        asyncio.tasks._enter_task(loop, inside)
        limit = hoop.timeout(1)
        await_it = limit.__aenter__()
        with pytest.raises(StopIteration):
            await_it.send(None)
        asyncio.tasks._leave_task(loop, inside)
        asyncio.tasks._enter_task(loop, owner)
        assert limit._task is inside
        limit._timeout_handler.cancel()
        await inside

    owner = None

    async def outer():
        nonlocal owner
        owner = asyncio.current_task()
        await main()

    run(outer())


def test_the_callback_runs_in_the_context_of_the_block(run):
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")

    async def main():
        seen = []

        class Waits(asyncio.Future):
            def cancel(self, msg=None):
                seen.append(var.get(None))
                return super().cancel(msg)

        for functions in (STOCK, OURS):
            var.set("block")
            with contextlib.suppress(TimeoutError):
                async with functions["timeout"](0.001):
                    var.set("later")
                    await Waits()
        assert seen == ["block", "block"]

    run(main())


def test_its_timer_has_its_deadline(run):
    async def main():
        async with hoop.timeout(1000.1) as limit:
            assert limit._timeout_handler.when() == limit.when()
        for _ in range(100):  # the clock cannot be before the deadline
            try:
                async with hoop.timeout(0):
                    await asyncio.sleep(0)
                pytest.fail("was not over at once")
            except TimeoutError:
                pass

    run(main())


def test_nothing_is_left_of_it(run):
    async def main():
        limit = hoop.timeout(3600)
        async with limit:
            handle = limit._timeout_handler
            limit.note = limit
        assert handle.cancelled()
        gone = weakref.ref(limit)
        del limit
        gc.collect()
        assert gone() is None
        gone = None
        for _ in range(3):  # nor of one whose block was left by an exception
            with contextlib.suppress(ValueError):
                async with hoop.timeout(10) as limit:
                    gone = weakref.ref(limit)
                    raise ValueError
            del limit
            assert gone() is None

    run(main())
