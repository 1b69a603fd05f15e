"""run_coroutine_threadsafe() does what asyncio's does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import re
import threading
import traceback

import pytest

import hoop

variable = contextvars.ContextVar("variable", default=None)


def described(exc):
    frames = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
    return type(exc), str(exc), frames[-1]


async def gives(value):
    await asyncio.sleep(0)
    return value


async def raises(error):
    await asyncio.sleep(0)
    raise error


def ends(start, loop, note):
    variable.set("of the thread")

    async def look():
        task = asyncio.current_task()
        note(variable.get(), asyncio.get_running_loop() is loop, task.cancelling())
        variable.set("of the task")
        return 5

    future = start(look(), loop)
    note(type(future), future.result(), future.done(), future.cancel(), variable.get())
    for error in (
        *(ValueError("one"), KeyError(2), asyncio.CancelledError("three")),
        *(asyncio.InvalidStateError("four"), TimeoutError("five")),
        *(concurrent.futures.CancelledError("six"), concurrent.futures.InvalidStateError("7")),
    ):
        try:
            note(start(raises(error), loop).result())
        except BaseException as exc:
            note(described(exc), exc is error)
    futures = [start(gives(n), loop) for n in range(100)]
    note(len(concurrent.futures.wait(futures).done))
    note(sum(f.result() for f in concurrent.futures.as_completed(futures)))
    called = []
    future = start(gives(8), loop)
    future.add_done_callback(called.append)
    note(future.result(10))
    start(gives(0), loop).result()
    note(called == [future])


def is_cancelled(start, loop, note):
    for turns in range(4):
        begun = threading.Event()
        seen = []
        over = threading.Event()

        async def lasts(begun=begun, seen=seen, over=over):
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError as exc:
                seen.append(exc.args)
                raise
            finally:
                over.set()

        future = start(lasts(), loop)
        if turns:
            begun.wait()
            for _ in range(turns):
                start(gives(0), loop).result()
            note(future.running(), future.cancel(), future.cancelled())
            over.wait()
            note(seen)
        else:
            try:
                future.result(timeout=0.001)
            except TimeoutError as exc:
                note(described(exc))
            note(future.cancel())
        try:
            future.result()
        except concurrent.futures.CancelledError as exc:
            note(type(exc))
        start(gives(0), loop).result()


def is_cancelled_inside(start, loop, note):
    async def cancels_itself():
        asyncio.current_task().cancel("itself")
        await asyncio.sleep(0)

    try:
        start(cancels_itself(), loop).result()
    except concurrent.futures.CancelledError as exc:
        note(type(exc), exc.args)


def is_refused(start, loop, note):
    for wrong in (3, None, gives, loop.create_future()):
        try:
            start(wrong, loop)
        except TypeError as exc:
            note(str(exc))
    closed = type(loop)()
    closed.close()
    coro = gives(1)
    try:
        start(coro, closed)
    except RuntimeError as exc:
        note(str(exc))
    coro.close()


def has_a_task_factory(start, loop, note):
    def factory(loop, coro, **options):
        note("factory", sorted(options), variable.get())
        return asyncio.tasks.Task(coro, loop=loop, **options)

    variable.set("seen by the factory")
    loop.set_task_factory(factory)
    try:
        note(start(gives(1), loop).result())
    finally:
        loop.set_task_factory(None)
    note(start(gives(2), loop).result())


def has_a_factory_that_fails(start, loop, note):
    def factory(loop, coro, **options):
        coro.close()
        raise LookupError("of the factory")

    reported = concurrent.futures.Future()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: reported.set_result(context))
    loop.set_task_factory(factory)
    try:
        start(gives(1), loop).result()
    except LookupError as exc:
        note(described(exc))
    finally:
        loop.set_task_factory(None)
    context = reported.result()
    note(sorted(context), re.sub(" at .*", "", context["message"]), type(context["exception"]))
    loop.set_exception_handler(before)


PROGRAMS = [
    ends,
    is_cancelled,
    is_cancelled_inside,
    is_refused,
    has_a_task_factory,
    has_a_factory_that_fails,
]


def play(start, loop, program):
    seen = []

    async def main():
        await asyncio.to_thread(program, start, loop, lambda *facts: seen.append(facts))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return seen


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program):
    expected = play(asyncio.run_coroutine_threadsafe, asyncio.SelectorEventLoop(), program)
    assert expected
    assert hoop.run_coroutine_threadsafe is not asyncio.run_coroutine_threadsafe
    for start in (hoop.run_coroutine_threadsafe, asyncio.run_coroutine_threadsafe):
        assert play(start, new_loop(), program) == expected
    assert play(hoop.run_coroutine_threadsafe, asyncio.SelectorEventLoop(), program) == expected


def test_a_change_that_comes_before_it_counts(run):
    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory(loop, coro, **options):
            made.append(asyncio.tasks.Task(coro, loop=loop, **options))
            return made[-1]

        future = hoop.run_coroutine_threadsafe(gives(3), loop)
        loop.set_task_factory(factory)
        await asyncio.sleep(0)
        loop.set_task_factory(None)
        assert len(made) == 1
        assert await asyncio.wrap_future(future) == 3

    run(main())


def test_a_coroutine_that_never_arrives_is_let_go_of(new_loop):
    loop = new_loop()
    future = hoop.run_coroutine_threadsafe(gives(1), loop)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        loop.close()
    assert not future.done()


@pytest.mark.parametrize("debug", [False, True])
def test_it_cancels_from_the_loop_s_own_thread(run, debug):
    async def main():
        loop = asyncio.get_running_loop()
        future = hoop.run_coroutine_threadsafe(asyncio.sleep(100), loop)
        for _ in range(3):
            await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), debug=debug)
