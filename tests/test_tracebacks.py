"""A traceback has the frames that it has on asyncio, and no more: none of the compiled core's.

Each case fails on stock asyncio, with asyncio's classes, and on hoop, with hoop's. The frames of this file
are the same in both. Inside the last of them hoop shows no frame that asyncio would not show. Between them it
shows at most the frames that asyncio has there.
"""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import gc
import pdb
import pickle
import re
import socket
import subprocess
import sys
import textwrap
import traceback
import types
import weakref
from pathlib import Path

import pytest
from tls_peers import client_context, server_context

import hoop

PACKAGE = Path(hoop.__file__).parent
IS_DEBUG_BUILD = sys.prefix.endswith("-debug")  # as the Makefile names its environment
no_frames = pytest.mark.skipif(IS_DEBUG_BUILD, reason="a debug build shows the core's frames")


def frames(exc: BaseException) -> list[tuple[str, str]]:
    """The frames of a traceback: (file, function), outermost first."""
    return [(frame.filename, frame.name) for frame in traceback.extract_tb(exc.__traceback__)]


COMPILED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.with_suffix(".pxd").exists()
]


def in_core(frame: tuple[str, str]) -> bool:
    """Whether a frame is the compiled core's: known by its file, and by the names Cython gives."""
    return frame[1].startswith(tuple(f"{module}." for module in COMPILED))


# ---- what fails --------------------------------------------------------------------------------------


async def boom():
    raise ValueError("boom")


async def nested(depth: int):
    if depth:
        await asyncio.get_running_loop().create_task(nested(depth - 1))
    else:
        await boom()


async def task(lib):
    await asyncio.create_task(boom())


async def tasks_in_tasks(lib):
    await nested(4)


async def failed_task(lib):
    done = asyncio.create_task(boom())
    await asyncio.wait([done])
    await done


async def future_result(lib):
    done = asyncio.create_task(boom())
    await asyncio.wait([done])
    done.result()


async def pending_result(lib):
    asyncio.get_running_loop().create_future().result()


async def future(lib):
    loop = asyncio.get_running_loop()
    waited = loop.create_future()
    loop.call_soon(waited.set_exception, ValueError("set"))
    await waited


async def failed_future(lib):
    waited = asyncio.get_running_loop().create_future()
    waited.set_exception(ValueError("set"))
    await waited


async def twice_settled(lib):
    waited = asyncio.get_running_loop().create_future()
    waited.set_result(1)
    waited.set_result(2)


async def gathered(lib):
    await asyncio.gather(asyncio.sleep(0), boom())


async def grouped(lib):
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(boom())
    except* ValueError as several:
        raise several.exceptions[0] from None


async def timed_out(lib):
    async with asyncio.timeout(0.001):
        await asyncio.get_running_loop().create_future()


async def waited_too_long(lib):
    await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.001)


async def waited_for(lib):
    await asyncio.wait_for(boom(), 5)


async def shielded(lib):
    await asyncio.shield(boom())


async def completed(lib):
    for each in asyncio.as_completed([boom()]):
        await each


async def bad_yield(lib):
    await types.coroutine(lambda: (yield 1))()


async def cancelled_in(awaitable):
    """Cancel a task while it waits for that."""

    async def wait():
        await awaitable

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel("enough")
    await waiting


async def cancelled_future(lib):
    await cancelled_in(asyncio.get_running_loop().create_future())


async def cancelled_sleep(lib):
    await cancelled_in(lib.sleep(10))


async def cancelled_event(lib):
    await cancelled_in(lib.Event().wait())


async def cancelled_lock(lib):
    lock = lib.Lock()
    await lock.acquire()
    await cancelled_in(lock.acquire())


async def cancelled_get(lib):
    await cancelled_in(lib.Queue().get())


async def cancelled_condition(lib):
    condition = lib.Condition()

    async def wait():
        async with condition:
            await condition.wait()

    await cancelled_in(wait())


async def released(lib):
    lib.Lock().release()


async def released_too_often(lib):
    lib.BoundedSemaphore().release()


async def unlocked(lib):
    await lib.Condition().wait()


async def predicate(lib):
    condition = lib.Condition()
    async with condition:
        await condition.wait_for(lambda: 1 // 0)


async def broken_barrier(lib):
    barrier = lib.Barrier(2)
    waiting = asyncio.create_task(barrier.wait())
    await asyncio.sleep(0)
    await barrier.abort()
    await waiting


async def empty_queue(lib):
    lib.Queue().get_nowait()


async def full_queue(lib):
    queue = lib.Queue(1)
    queue.put_nowait(1)
    queue.put_nowait(2)


async def queue_shut_down(lib):
    queue = lib.Queue()
    asyncio.get_running_loop().call_soon(queue.shutdown)
    await queue.get()


def fed(lib, data: bytes, **options):
    reader = lib.StreamReader(**options)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def incomplete_read(lib):
    await fed(lib, b"abc").readexactly(10)


async def no_separator(lib):
    await fed(lib, b"abc").readuntil(b"\n")


async def line_too_long(lib):
    await fed(lib, b"x" * 100 + b"\n", limit=10).readline()


async def reader_failed(lib):
    reader = lib.StreamReader()
    asyncio.get_running_loop().call_soon(reader.set_exception, ValueError("set"))
    await reader.read(1)


def unused_address():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


async def refused(lib):
    await lib.open_connection(*unused_address())


async def refused_socket(lib):
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, unused_address())


async def unknown_host(lib):
    await lib.open_connection("0.0.0.0.invalid", 1)


async def reset_while_receiving(lib):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        ours.setblocking(False)
        ours.send(b"unread by the peer")
        asyncio.get_running_loop().call_soon(theirs.close)
        await asyncio.get_running_loop().sock_recv(ours, 10)


async def drained_too_late(lib):
    ours, theirs = socket.socketpair()
    reader, writer = await lib.open_connection(sock=ours)
    theirs.close()
    await reader.read()
    writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.write(b"x")
    await writer.drain()


async def untrusted(lib):
    server = await lib.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_context()
    )
    async with server:
        address = server.sockets[0].getsockname()
        context = client_context()
        await lib.open_connection(*address, ssl=context, server_hostname="somebody.else")


async def executed(lib):
    def fail():
        raise ValueError("in a thread")

    await asyncio.get_running_loop().run_in_executor(None, fail)


async def missing_file(lib):
    async with lib.opened("/nowhere/at/all"):
        pass


shut_down = pytest.param(
    queue_shut_down,
    marks=pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio has it since Python 3.13"),
)
CASES = [
    task,
    tasks_in_tasks,
    failed_task,
    future_result,
    pending_result,
    future,
    failed_future,
    twice_settled,
    gathered,
    grouped,
    timed_out,
    waited_too_long,
    waited_for,
    shielded,
    completed,
    bad_yield,
    cancelled_future,
    cancelled_sleep,
    cancelled_event,
    cancelled_lock,
    cancelled_get,
    cancelled_condition,
    released,
    released_too_often,
    unlocked,
    predicate,
    broken_barrier,
    empty_queue,
    full_queue,
    shut_down,
    incomplete_read,
    no_separator,
    line_too_long,
    reader_failed,
    refused,
    refused_socket,
    unknown_host,
    reset_while_receiving,
    drained_too_late,
    untrusted,
    executed,
    missing_file,
]


class Stock:
    """asyncio's own names; a file is opened in a thread."""

    def __getattr__(self, name):
        return getattr(asyncio, name)

    class opened:
        def __init__(self, path):
            self.path = path

        async def __aenter__(self):
            return await asyncio.to_thread(open, self.path)

        async def __aexit__(self, *exc_info):
            pass


class Ours:
    """hoop's names."""

    opened = staticmethod(hoop.open)

    def __getattr__(self, name):
        return getattr(hoop, name)


async def caught(case, lib) -> BaseException:
    try:
        await case(lib)
    except BaseException as exc:
        return exc
    raise AssertionError(f"{case.__name__} does not fail")


def chain(exc: BaseException | None) -> list[str]:
    """An exception and what it came from, by kind."""
    kinds = []
    while exc is not None:
        kinds.append(type(exc).__name__)
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return kinds


@no_frames
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_frames_are_those_of_asyncio(new_loop, case, logged):
    loops = (asyncio.SelectorEventLoop, new_loop)
    with asyncio.Runner(loop_factory=loops[0]) as runner:
        stock = runner.run(caught(case, Stock()))
    with asyncio.Runner(loop_factory=loops[1]) as runner:
        ours = runner.run(caught(case, Ours()))
    expected, found = frames(stock), frames(ours)
    assert type(ours) is type(stock)
    assert re.sub(r"\d+", "N", str(ours)) == re.sub(
        r"\d+", "N", str(stock)
    )  # ports and lines differ
    each = ours
    while each is not None:
        assert not any(in_core(frame) for frame in frames(each)), frames(each)
        each = each.__cause__ or each.__context__
    assert [f for f in found if f[0] == __file__] == [
        f for f in expected if f[0] == __file__ and f[1] != "__aenter__"
    ]
    if case is not missing_file:  # asyncio has no files, and hoop's are Python as its streams are
        assert len(found) <= len(expected), (found, expected)
    if expected[-1][0] == __file__:
        assert found[-1] == expected[-1]
    assert chain(ours) == chain(stock)
    stock = ours = each = None


@no_frames
def test_a_failure_that_is_awaited_again_gathers_no_frames(run):
    async def main():
        failed = asyncio.create_task(boom())
        seen = []
        for _ in range(3):
            try:
                await failed
            except ValueError as exc:
                seen.append([name for _, name in frames(exc)])
        assert seen == [["main", "boom"]] * 3

    run(main())


@no_frames
def test_a_callback_that_fails_is_reported_with_its_own_frame_only(loop, logged):
    def fail():
        raise ValueError("in a callback")

    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.call_soon(lambda: loop.call_later(0.01, loop.stop))
    loop.run_forever()
    assert logged.text.count('File "') == 2
    assert logged.text.count("in fail") == 2


@no_frames
def test_a_debugger_opens_where_the_users_code_failed(run):
    async def main():
        try:
            await asyncio.create_task(nested(2))
        except ValueError as exc:
            stack, index = pdb.Pdb().get_stack(None, exc.__traceback__)
            assert stack[index][0].f_code.co_name == "boom"

        del stack
        try:
            hoop.Queue().get_nowait()
        except asyncio.QueueEmpty as exc:
            stack, index = pdb.Pdb().get_stack(None, exc.__traceback__)
            assert stack[index][0].f_code.co_name == "main"
        del stack

    run(main())


@no_frames
def test_pytest_names_the_users_line_as_the_place_of_the_crash(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """\
            import asyncio, hoop
            def test_it():
                async def main():
                    waited = asyncio.get_running_loop().create_future()
                    waited.set_exception(ValueError("here"))
                    await waited  # line 6
                hoop.run(main())
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=15,
        check=False,
    )
    places = [
        line for line in done.stdout.splitlines() if ": in " in line or ": ValueError" in line
    ]
    assert places[-1].startswith("test_it.py:6"), done.stdout
    shown = re.findall(r"hoop/(\w+/\w+)\.py", done.stdout)
    assert set(shown) <= {"loop/event_loop"}, done.stdout


@pytest.mark.skipif(not IS_DEBUG_BUILD, reason="only a debug build shows them")
def test_a_debug_build_shows_where_in_the_core():
    with pytest.raises(asyncio.QueueEmpty) as raised:
        hoop.Queue().get_nowait()
    assert in_core(frames(raised.value)[-1])
    assert traceback.extract_tb(raised.value.__traceback__)[-1].line.startswith("raise ")


# ---- the StopIteration that ends an await --------------------------------------------------------------


def ended(iterator) -> StopIteration:
    """The StopIteration of an iterator that is at its end."""
    try:
        next(iterator)
    except StopIteration as exc:
        return exc
    raise AssertionError("it goes on")


def finished(loop, value):
    done = loop.create_future()
    done.set_result(value)
    return done


def test_the_end_of_an_await_is_a_stop_iteration_like_any_other(loop):
    for value in (1, "text", ("v", 1), (), ValueError("v"), [1], {}, False):
        queue = hoop.Queue()
        queue.put_nowait(value)
        for iterator in (finished(loop, value), queue.get()):
            exc = ended(iterator)
            assert type(exc) is StopIteration
            assert exc.value is value
            assert exc.args in ((value,), value)
            assert repr(exc) == repr(StopIteration(*exc.args))
            assert (exc.__cause__, exc.__context__, exc.__suppress_context__) == (None, None, False)
            # As one that nobody else has made: libraries may have put their own copying in place.
            stock = StopIteration(*exc.args)
            same = copy.copy(exc)
            assert (type(same), same.value) == (StopIteration, copy.copy(stock).value)
            if not isinstance(value, BaseException):
                pickled = pickle.loads(pickle.dumps(exc)).value
                assert pickled == pickle.loads(pickle.dumps(stock)).value


def test_a_stop_iteration_that_is_kept_stays_as_it_was(loop):
    kept = []
    for i in range(200):
        exc = ended(finished(loop, ("v", i)))
        exc.note = i
        again = copy.copy(exc)
        kept.append((exc, exc.args, type(exc)(i), again))
        if i % 50 == 0:
            gc.collect()
    for i, (exc, _args, other, again) in enumerate(kept):
        copied = copy.copy(StopIteration(("v", i))).value
        assert (exc.value, exc.note, other.value, again.value) == (("v", i), i, i, copied)


def test_a_stop_iteration_with_a_history_is_not_used_again(loop):
    first = ended(finished(loop, 1))
    first.__context__ = KeyError()
    first.add_note("seen")
    del first
    for attribute in ("__cause__", "__context__"):
        exc = ended(finished(loop, 1))
        setattr(exc, attribute, ValueError())
        exc.__traceback__ = None
        del exc
        again = ended(finished(loop, 2))
        assert (again.__cause__, again.__context__, again.value) == (None, None, 2)
        assert not again.__suppress_context__
        assert not hasattr(again, "__notes__")


def test_the_value_of_an_await_dies_with_its_last_user(run):
    class Value:
        pass

    async def main():
        async def made():
            return Value()

        queue = hoop.Queue()
        for awaitable in (made, queue.get, lambda: finished(asyncio.get_running_loop(), Value())):
            queue.put_nowait(Value())
            value = weakref.ref(await awaitable())
            assert value() is None
            value = weakref.ref(await asyncio.create_task(made()))
            assert value() is None

    run(main())


def test_a_cycle_through_a_stop_iteration_is_collected(loop):
    class Value:
        pass

    gc.collect()
    value = Value()
    value.end = ended(finished(loop, value))
    gc.collect()
    value.end.__traceback__ = None
    gone = weakref.ref(value)
    del value
    gc.collect()
    assert gone() is None


class StopSoon(StopIteration):
    """The exceptions with which a coroutine may end that is thrown into."""

    value = property(lambda self: 1 // 0)  # an await does not ask it


@pytest.mark.parametrize("kind", [StopIteration, StopSoon])
def test_a_throw_that_ends_with_a_stop_iteration_is_the_tasks_end(run, kind):
    class Coroutine:
        def __init__(self):
            self.waited = asyncio.get_running_loop().create_future()

        def send(self, value):
            self.waited._asyncio_future_blocking = True
            return self.waited

        def throw(self, *exc):
            raise kind(42)

        def close(self):
            pass

        def __await__(self):
            return self

        __iter__ = __await__

        def __next__(self):
            return self.send(None)

    collections.abc.Coroutine.register(Coroutine)

    async def main():
        ending = asyncio.get_running_loop().create_task(Coroutine())
        await asyncio.sleep(0)
        ending.cancel()
        assert await ending == 42

    run(main())


class Hostile(Exception):
    """An exception that says nothing of itself."""

    __class__ = property(lambda self: 1 // 0)
    __traceback__ = property(lambda self: 1 // 0)
    with_traceback = None


@pytest.mark.parametrize("cancel", [False, True])
def test_an_exception_that_will_not_be_asked_ends_a_task_as_any_other(run, cancel):
    async def main():
        waited = asyncio.get_running_loop().create_future()

        async def wait():
            await waited

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waited.set_exception(Hostile())
        if cancel:
            waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled() is cancel
        if not cancel:
            assert type(waiting.exception()) is Hostile

    run(main())
