"""hoop's TaskGroup does what asyncio's does, wherever the block is cancelled, and on any loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref

import pytest
from flavours import OURS, STOCK, compare_everywhere, describe, end_of

import hoop


async def gives(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails(error, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error


async def lasts(note, name, error=None):
    """Wait for ever. The cancellation is noted, and may lead to an error."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError as exc:
        note(name, "cancelled", describe(exc))
        if error is not None:
            raise error from None
        raise


async def ends_well(api, note):
    async with api.TaskGroup() as group:
        note(repr(group))
        tasks = [group.create_task(gives(i, i)) for i in range(4)]
        note(repr(group), len(group._tasks))
    note(repr(group), [end_of(task) for task in tasks])


async def is_empty(api, note):
    async with api.TaskGroup() as group:
        await asyncio.sleep(0)
    note(repr(group))


async def one_fails(api, note):
    group = api.TaskGroup()
    try:
        async with group:
            tasks = [
                group.create_task(fails(ValueError(1))),
                group.create_task(lasts(note, "one")),
                group.create_task(gives(3)),
            ]
            try:
                await asyncio.sleep(100)
            finally:
                note(repr(group), asyncio.current_task().cancelling())
    except* ValueError as exc:
        note(describe(exc))
    note(repr(group), [end_of(task) for task in tasks], asyncio.current_task().cancelling())


async def one_fails_at_the_end(api, note):
    try:
        async with api.TaskGroup() as group:
            group.create_task(fails(ValueError(1), 3))
            group.create_task(fails(KeyError(2), 3))
            group.create_task(lasts(note, "one", OSError(3)))
    except BaseExceptionGroup as exc:
        note(describe(exc), asyncio.current_task().cancelling())


async def the_block_fails(api, note):
    try:
        async with api.TaskGroup() as group:
            group.create_task(lasts(note, "one"))
            group.create_task(lasts(note, "two", ValueError(2)))
            await asyncio.sleep(0)
            raise KeyError("block")
    except BaseExceptionGroup as exc:
        note(describe(exc))


async def the_block_is_cancelled(api, note):
    task = asyncio.current_task()
    try:
        async with api.TaskGroup() as group:
            group.create_task(lasts(note, "one"))
            group.create_task(gives(1, 2))
            asyncio.get_running_loop().call_soon(task.cancel, "outside")
            await asyncio.sleep(100)
    except asyncio.CancelledError as exc:
        note(describe(exc), task.uncancel())


async def leaves_the_loop(api, note):
    try:
        async with api.TaskGroup() as group:
            group.create_task(lasts(note, "one"))
            await asyncio.sleep(0)
            raise KeyboardInterrupt
    except KeyboardInterrupt as exc:
        note(describe(exc), group._base_error is None)


async def makes_more(api, note):
    async def parent(group, depth):
        await asyncio.sleep(0)
        if depth:
            group.create_task(parent(group, depth - 1), name=f"at {depth}")
            note(repr(group))

    async with api.TaskGroup() as group:
        group.create_task(parent(group, 3))


async def is_nested(api, note):
    try:
        async with api.TaskGroup() as outer:
            outer.create_task(lasts(note, "outer"))
            try:
                async with api.TaskGroup() as inner:
                    inner.create_task(lasts(note, "inner"))
                    outer.create_task(fails(ValueError(1)))
                    await asyncio.sleep(100)
            finally:
                note(repr(inner), repr(outer), asyncio.current_task().cancelling())
    except BaseExceptionGroup as exc:
        note(describe(exc))
    await asyncio.sleep(0)


async def both_fail(api, note):
    try:
        async with api.TaskGroup() as outer:
            outer.create_task(fails(ValueError("outer"), 2))
            async with api.TaskGroup() as inner:
                inner.create_task(fails(ValueError("inner"), 2))
                await asyncio.sleep(100)
    except BaseExceptionGroup as exc:
        note(describe(exc), asyncio.current_task().cancelling())
    await asyncio.sleep(0)


async def swallows(api, note):
    """The block swallows the group's own cancellation, and then fails or not."""
    for error in (None, KeyError("later")):
        try:
            async with api.TaskGroup() as group:
                group.create_task(fails(ValueError(1)))
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(100)
                note(repr(group), asyncio.current_task().cancelling())
                if error is not None:
                    raise error
        except BaseExceptionGroup as exc:
            note(describe(exc), asyncio.current_task().cancelling())


async def times_out(api, note):
    timeout = getattr(api, "timeout", asyncio.timeout)
    try:
        async with timeout(5), api.TaskGroup() as group:
            group.create_task(lasts(note, "one"))
            await asyncio.sleep(0)
            api.advance(10)
    except TimeoutError as exc:
        note(describe(exc))


async def refuses(api, note):
    def attempt(group, **options):
        coro = gives(1)
        try:
            group.create_task(coro, **options)
        except (RuntimeError, TypeError) as exc:
            note(describe(exc), coro.cr_frame is None)
        coro.close()

    group = api.TaskGroup()
    attempt(group)
    async with group:
        if sys.version_info < (3, 14):  # later versions leave it to the loop
            attempt(group, nonsense=1)
        try:
            await group.__aenter__()
        except RuntimeError as exc:
            note(describe(exc))
    attempt(group)
    try:
        async with api.TaskGroup() as group:
            group.create_task(fails(ValueError(1)))
            try:
                await asyncio.sleep(100)
            finally:
                attempt(group)
    except BaseExceptionGroup as exc:
        note(describe(exc))


async def takes_options(api, note):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()
    context.run(var.set, "given")

    async def tells():
        return asyncio.current_task().get_name(), var.get()

    async with api.TaskGroup() as group:
        one = group.create_task(tells(), name="one", context=context)
        var.set("inside")
        two = group.create_task(tells(), name="two")
        three = group.create_task(tells())
    note(one.result(), two.result(), three.result()[1], three.result()[0].startswith("Task-"))


async def is_of_a_subclass(api, note):
    class Group(api.TaskGroup):
        def __init__(self):
            super().__init__()
            self.mine = 1

        def _on_task_done(self, task):
            note("done", task.get_name(), len(self._tasks), self._entered, self._exiting)
            super()._on_task_done(task)

        def _abort(self):
            note("abort", len(self._tasks), len(self._errors), self._parent_cancel_requested)
            super()._abort()

        def _is_base_error(self, exc):
            return isinstance(exc, KeyError)

        def create_task(self, coro, *, name=None):
            return super().create_task(coro, name=f"my {name}")

    try:
        async with Group() as group:
            note(group._parent_task is asyncio.current_task(), group.mine)
            group.create_task(lasts(note, "one"), name="one")
            group.create_task(fails(KeyError(1), 2), name="two")
            await asyncio.sleep(100)
    except BaseException as exc:
        note(describe(exc), group._aborting)


async def is_a_generator(api, note):
    async def numbers():
        async with api.TaskGroup() as group:
            group.create_task(lasts(note, "one"))
            await asyncio.sleep(0)
            yield 1
            yield 2

    them = numbers()
    async for number in them:
        note(number)
        break
    try:
        await them.aclose()
    except BaseException as exc:
        note(describe(exc))


async def has_eager_tasks(api, note):
    if sys.version_info < (3, 12):
        return
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        async with api.TaskGroup() as group:
            task = group.create_task(gives(1, 0))
            note(end_of(task), repr(group))
            group.create_task(lasts(note, "one"))
            group.create_task(fails(ValueError(2), 0))
            note(repr(group))
            await asyncio.sleep(100)
    except BaseExceptionGroup as exc:
        note(describe(exc))
    finally:
        loop.set_task_factory(None)


PROGRAMS = [
    ends_well,
    is_empty,
    one_fails,
    one_fails_at_the_end,
    the_block_fails,
    the_block_is_cancelled,
    leaves_the_loop,
    makes_more,
    is_nested,
    both_fail,
    swallows,
    times_out,
    refuses,
    takes_options,
    is_of_a_subclass,
    is_a_generator,
    has_eager_tasks,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program):
    compare_everywhere(new_loop, program)


BAD_ARGUMENTS = {
    "none": lambda group, coro: group.create_task(),
    "two": lambda group, coro: group.create_task(coro, 1),
    "three": lambda group, coro: group.create_task(coro, 1, name="x"),
    "a keyword": lambda group, coro: group.create_task(coro, nme="x"),
    "two keywords": lambda group, coro: group.create_task(coro, first=1, name="x", second=2),
    "only a name": lambda group, coro: group.create_task(name="x"),
    "only a keyword": lambda group, coro: group.create_task(nme="x"),
    "no coroutine": lambda group, coro: group.create_task(3),
    "None": lambda group, coro: group.create_task(None),
    "constructor": lambda group, coro: type(group)(1),
    "constructor's keyword": lambda group, coro: type(group)(loop=1),
}


@pytest.mark.parametrize("call", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_are_refused_as_by_asyncio_s(run, call):
    async def text_of(kind):
        async with kind() as group:
            coro = gives(1)
            try:
                call(group, coro)
            except TypeError as exc:
                return str(exc)
            finally:
                coro.close()

    async def main():
        expected = await text_of(asyncio.TaskGroup)
        assert await text_of(hoop.TaskGroup) == expected
        assert expected

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_failure_of_its_callback_is_shown_as_asyncio_shows_it(run, debug):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []

        def look():
            (notice,) = [r for r in loop._ready if not isinstance(r, asyncio.Handle | asyncio.Task)]
            seen.append(notice.failure(error))

        error = ValueError("of the callback")
        async with hoop.TaskGroup() as group:
            task = group.create_task(gives(1, 0))
            loop.call_soon(look)
        (context,) = seen
        handle = asyncio.Handle(group._on_task_done, (task,), loop)
        shown = repr(handle).removeprefix("<Handle ").removesuffix(">").partition(" created at ")[0]
        assert context["message"] == f"Exception in callback {shown}"
        assert context["exception"] is error
        assert shown in repr(context["handle"])
        assert isinstance(context["handle"], asyncio.Handle)

    run(main(), debug=debug)


def test_its_cancel_ends_the_block_without_an_error(run):
    """asyncio's group has cancel() from Python 3.15 on."""

    async def main():
        task = asyncio.current_task()
        ends = []
        group = hoop.TaskGroup()
        async with group:
            child = group.create_task(lasts(lambda *facts: ends.append(facts[0]), "child"))
            await asyncio.sleep(0)
            group.cancel()
            group.cancel()
            await asyncio.sleep(100)
            ends.append("not cancelled")
        assert child.cancelled()
        assert (ends, task.cancelling()) == (["child"], 0)
        group.cancel()
        await asyncio.sleep(0)

        async with hoop.TaskGroup() as group:  # while it waits for its tasks
            group.create_task(lasts(lambda *facts: None, "child"))
            asyncio.get_running_loop().call_soon(group.cancel)
        assert task.cancelling() == 0

        group = hoop.TaskGroup()  # before it was entered
        group.cancel()
        async with group:
            await asyncio.sleep(100)
            ends.append("not cancelled")
        assert (ends, task.cancelling()) == (["child"], 0)

        async def is_cancelled():
            async with hoop.TaskGroup() as group:
                group.cancel()
                asyncio.current_task().cancel()
                await asyncio.sleep(100)

        with pytest.raises(asyncio.CancelledError):  # another's cancellation is not swallowed
            await asyncio.create_task(is_cancelled())

    run(main())


def test_code_of_others_runs_in_the_context_of_create_task(run):
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")

    async def main():
        seen = []

        class Waits(asyncio.Future):
            def cancel(self, msg=None):
                seen.append(var.get())
                return super().cancel(msg)

        async def child():
            var.set("child")
            await asyncio.sleep(0)
            raise ValueError

        for functions in (STOCK, OURS):
            with contextlib.suppress(ExceptionGroup):
                async with functions["TaskGroup"]() as group:
                    var.set("create_task")
                    group.create_task(child())
                    var.set("later")
                    await Waits()
        assert seen == ["create_task", "create_task"]

    run(main())


def test_the_callback_of_its_tasks_looks_like_asyncio_s(run):
    async def main():
        async with hoop.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0))
            ((callback, context),) = task._callbacks
            assert callback == group._on_task_done
            assert type(context) is contextvars.Context
            assert "TaskGroup._on_task_done" in repr(task)
            assert task.remove_done_callback(group._on_task_done) == 1
            assert task.remove_done_callback(group._on_task_done) == 0
            assert task._callbacks is None
            task.add_done_callback(group._on_task_done)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there is no graph of tasks")
def test_its_tasks_are_awaited_by_the_parent(run):
    async def main():
        async with hoop.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0))
            graph = asyncio.capture_call_graph(task)
            assert [by.future for by in graph.awaited_by] == [asyncio.current_task()]

    run(main())


def test_nothing_is_left_of_it(run):
    async def main():
        for error in (None, ValueError("block")):
            with contextlib.suppress(ExceptionGroup):
                async with hoop.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0))
                    group.create_task(fails(KeyError()))
                    if error:
                        raise error
                    await asyncio.sleep(0)
            gone = weakref.ref(group)
            await asyncio.sleep(0)
            del group
            gc.collect()
            assert gone() is None

    run(main())
