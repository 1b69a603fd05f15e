"""run_in_executor() and to_thread() do on hoop's loop what they do on asyncio's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import re
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import hoop

variable = contextvars.ContextVar("variable", default=None)


def described(exc):
    chain = exc.__cause__ or exc.__context__
    frames = [
        (frame.filename.rpartition("/")[2], frame.name)
        for frame in traceback.extract_tb(exc.__traceback__)
        if frame.name not in ("run_in_executor",)
    ]
    return type(exc), str(exc), frames, chain and (type(chain), str(chain))


class Blocked:
    """An executor with one thread, which waits until it is let go."""

    def __init__(self):
        self.executor = ThreadPoolExecutor(1)
        self.begun = threading.Event()
        self.go = threading.Event()

    def wait(self):
        self.begun.set()
        self.go.wait()
        return "waited"

    def __enter__(self):
        self.first = asyncio.get_running_loop().run_in_executor(self.executor, self.wait)
        self.begun.wait()
        return self

    def __exit__(self, *exc):
        self.go.set()
        self.executor.shutdown()


async def gives(note):
    def where():
        name = threading.current_thread().name.rpartition("_")[0]  # the number is a matter of luck
        return name, variable.get(), asyncio._get_running_loop()

    variable.set("of the task")
    loop = asyncio.get_running_loop()
    note(await asyncio.to_thread(where))
    note(await loop.run_in_executor(None, where))
    note(await asyncio.to_thread(int, "11", base=2))
    note(await loop.run_in_executor(None, max, 3, 5))
    note(type(loop._default_executor), loop._default_executor._max_workers)
    with ThreadPoolExecutor(2, "named") as executor:
        note(await asyncio.gather(*[loop.run_in_executor(executor, abs, -n) for n in range(50)]))
        note(await loop.run_in_executor(executor, where))
        loop.set_default_executor(executor)
        note(await asyncio.to_thread(where))


class Odd(BaseException):
    """An exception that is no Exception."""


async def fails(note):
    errors = [ValueError("one"), Odd("two"), SystemExit(3), KeyboardInterrupt()]
    errors += [
        asyncio.CancelledError("four"),
        asyncio.InvalidStateError("five"),
        TimeoutError("six"),
    ]
    errors += [concurrent.futures.CancelledError("7"), concurrent.futures.InvalidStateError("8")]
    errors += [concurrent.futures.TimeoutError("nine"), GeneratorExit()]

    def raises(error):
        raise error

    for error in errors:
        for call in (asyncio.to_thread, in_executor):
            try:
                note(await call(raises, error))
            except BaseException as exc:
                note(described(exc), exc is error)
                error.__traceback__ = None


def in_executor(function, *args):
    return asyncio.get_running_loop().run_in_executor(None, function, *args)


async def stops(note):
    """Before Python 3.12 the future refuses a StopIteration, and is never done."""
    loop = asyncio.get_running_loop()
    seen = loop.create_future()
    loop.set_exception_handler(lambda loop, context: seen.done() or seen.set_result(context))
    future = in_executor(next, iter(()))
    await asyncio.wait([future, seen], return_when=asyncio.FIRST_COMPLETED)
    if future.done():
        note(described(future.exception()))
    else:
        context = seen.result()
        note(sorted(context), type(context["exception"]), str(context["exception"]))
        note(re.sub("0x[0-9a-f]+|<Future pending .*?>|:[0-9]+", "", context["message"]))
        future.cancel()


async def is_cancelled_before_it_starts(note):
    loop = asyncio.get_running_loop()
    ran = []
    with Blocked() as blocked:
        second = loop.run_in_executor(blocked.executor, ran.append, 2)
        third = asyncio.ensure_future(asyncio.wait_for(second, 100))
        fourth = loop.run_in_executor(blocked.executor, ran.append, 4)
        await asyncio.sleep(0)
        third.cancel("reason")
        try:
            await third
        except asyncio.CancelledError as exc:
            note(described(exc))
        note(second.cancelled(), second.cancel())
        await asyncio.sleep(0)
        blocked.go.set()
        note(await blocked.first, await fourth, ran)


async def may_start_in_the_turn_of_its_cancellation(note):
    """The thread is told by a callback of the future, in the next turn."""
    loop = asyncio.get_running_loop()
    begun = threading.Event()
    with Blocked() as blocked:
        second = loop.run_in_executor(blocked.executor, begun.set)
        second.cancel()
        blocked.go.set()
        note(begun.wait(10), second.cancelled())


async def is_cancelled_while_it_runs(note):
    with Blocked() as blocked:
        note(blocked.first.cancel("no more"))
        await asyncio.sleep(0)
        blocked.go.set()
        await asyncio.get_running_loop().run_in_executor(blocked.executor, int)
        note(blocked.first.cancelled(), blocked.first.done())
        try:
            await blocked.first
        except asyncio.CancelledError as exc:
            note(exc.args)


async def is_cancelled_by_the_executor(note):
    loop = asyncio.get_running_loop()
    with Blocked() as blocked:
        others = [loop.run_in_executor(blocked.executor, abs, n) for n in range(3)]
        blocked.executor.shutdown(wait=False, cancel_futures=True)
        note([other.done() for other in others])
        note([type(one) for one in await asyncio.gather(*others, return_exceptions=True)])
        blocked.go.set()
        note(await blocked.first)
        try:
            loop.run_in_executor(blocked.executor, abs, 1)
        except RuntimeError as exc:
            note(described(exc))


async def has_a_broken_executor(note):
    def breaks():
        go.wait()
        raise ValueError("of the initializer")

    go = threading.Event()
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, initializer=breaks)
    futures = [loop.run_in_executor(executor, abs, n) for n in range(3)]
    go.set()
    for future in futures:
        try:
            note(await future)
        except concurrent.futures.BrokenExecutor as exc:
            note(described(exc))
    try:
        loop.run_in_executor(executor, abs, 1)
    except concurrent.futures.BrokenExecutor as exc:
        note(described(exc))
    executor.shutdown()


async def is_after_the_shutdown(note):
    loop = asyncio.get_running_loop()
    note(await asyncio.to_thread(abs, -1))
    await loop.shutdown_default_executor()
    for call in (asyncio.to_thread, in_executor):
        try:
            await call(abs, -1)
        except RuntimeError as exc:
            note(type(exc), str(exc))
    with ThreadPoolExecutor(1) as executor:
        note(await loop.run_in_executor(executor, abs, -2))


async def has_an_executor_of_its_own(note):
    class Own(ThreadPoolExecutor):
        def submit(self, function, /, *args, **kwargs):
            note("submitted", function, args)
            return super().submit(function, *args, **kwargs)

    loop = asyncio.get_running_loop()
    with Own(1) as own, ThreadPoolExecutor(1) as patched:
        note(await loop.run_in_executor(own, abs, -1))
        patched.submit = lambda *args: note("patched", args) or own.submit(*args)
        note(await loop.run_in_executor(patched, abs, -2))
        loop.set_default_executor(own)
        note(await in_executor(abs, -3))
    try:
        await loop.run_in_executor(object(), abs, -3)
    except AttributeError as exc:
        note(str(exc))


async def has_a_patched_class(note):
    submit = ThreadPoolExecutor.submit

    def noting(self, *args):
        note("patched", args)
        return submit(self, *args)

    ThreadPoolExecutor.submit = noting
    try:
        note(await in_executor(abs, -3))
    finally:
        ThreadPoolExecutor.submit = submit


async def is_set_by_others(note):
    loop = asyncio.get_running_loop()
    failed = loop.create_future()
    loop.set_exception_handler(lambda loop, context: failed.set_result(context))
    with Blocked() as blocked:
        blocked.first.set_result("mine")
        note(await blocked.first)
        await asyncio.sleep(0)
        blocked.go.set()
        context = await failed
        note(type(context["exception"]), sorted(context), type(blocked.first.result()))
        note(re.sub("0x[0-9a-f]+|:[0-9]+", "", context["message"]))


async def looks_like_asyncio_s(note):
    with Blocked() as blocked:
        note(re.sub("loop=.*?>", "", re.sub(":[0-9]+", "", repr(blocked.first))))
        ((callback, _),) = blocked.first._callbacks
        note(callback.__qualname__, callback.__code__, len(blocked.first._callbacks))
        blocked.first.cancel()
        note(re.sub(":[0-9]+", "", repr(blocked.first)))
    note(asyncio.isfuture(blocked.first))


async def has_callbacks(note):
    loop = asyncio.get_running_loop()
    with Blocked() as blocked:
        variable.set("of the callback")
        blocked.first.add_done_callback(lambda f: note(variable.get(), f.result()))
        variable.set("later")
        blocked.go.set()
        while not blocked.first.done():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    note(loop is blocked.first.get_loop())


async def is_waited_for_by_many(note):
    future = in_executor(abs, -1)
    note(await asyncio.gather(*[asyncio.shield(future) for _ in range(5)], future))
    note(await asyncio.wait_for(in_executor(abs, -4), 100))


PROGRAMS = [
    gives,
    fails,
    stops,
    is_cancelled_before_it_starts,
    may_start_in_the_turn_of_its_cancellation,
    is_cancelled_while_it_runs,
    is_cancelled_by_the_executor,
    has_a_broken_executor,
    is_after_the_shutdown,
    has_an_executor_of_its_own,
    has_a_patched_class,
    is_set_by_others,
    looks_like_asyncio_s,
    has_callbacks,
    is_waited_for_by_many,
]


def play(loop, program):
    seen = []
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(program(lambda *facts: seen.append(facts)))
    return seen


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("program", PROGRAMS)
def test_it_does_what_asyncio_s_does(new_loop, program, caplog):
    caplog.set_level(51, "concurrent.futures")
    expected = play(asyncio.SelectorEventLoop(), program)
    assert expected
    assert play(new_loop(), program) == expected


@pytest.mark.parametrize("debug", [False, True])
def test_its_future_is_hoop_s(run, debug):
    async def main():
        future = in_executor(abs, -1)
        assert type(future) is hoop.Future
        assert await future == 1

    run(main(), debug=debug)


async def in_a_thread():
    """Have a thread do something that ends only when the loop waits for it."""
    go = threading.Event()
    asyncio.get_running_loop().call_soon(go.set)
    return await asyncio.to_thread(go.wait)


def test_a_class_of_the_user_s_sees_the_wake(driver):
    class Own(hoop.EventLoop):
        def call_soon_threadsafe(self, *args, **kwargs):
            seen.append(args[0].__name__)
            return super().call_soon_threadsafe(*args, **kwargs)

    seen = []
    with asyncio.Runner(loop_factory=lambda: Own(driver)) as runner:
        assert runner.run(in_a_thread()) is True
    assert "_set_state" in seen


def test_a_method_of_one_loop_sees_the_wake(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        real = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: seen.append(args) or real(*args)
        assert await in_a_thread() is True
        assert len(seen) == 1

    run(main())


def test_a_thread_that_ends_after_the_loop_tells_nobody(new_loop):
    loop = new_loop()
    go = threading.Event()
    executor = ThreadPoolExecutor(1)

    async def main():
        return loop.run_in_executor(executor, go.wait)

    future = loop.run_until_complete(main())
    loop.close()
    go.set()
    executor.shutdown()
    assert not future.done()


def test_nothing_is_left_of_it(run):
    class Value:
        """Something that a function gets and returns."""

    async def main():
        value = Value()
        gone = weakref.ref(value)
        assert await asyncio.to_thread(lambda v: v, value) is value
        await asyncio.to_thread(abs, 1)  # the thread keeps its last job until the next
        del value
        gc.collect()
        assert gone() is None

    run(main())


def test_each_result_wakes_the_loop_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(abs, 1)
        before = loop.counters()
        for n in range(20):
            assert await asyncio.to_thread(abs, -n) == n
        after = loop.counters()
        assert after["wakes"] - before["wakes"] <= 20
        assert after["callbacks"] - before["callbacks"] <= 20 * 3 + 3

    run(main())
