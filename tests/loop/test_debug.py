"""Debug mode: what asyncio watches for, hoop's loops watch for too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def callback(*args):
    """Do nothing."""


async def coroutine():
    """Do nothing, asynchronously."""


@pytest.fixture
def both(loop):
    """A hoop loop and one of asyncio's, in debug mode."""
    stock = asyncio.new_event_loop()
    for each in (loop, stock):
        each.set_debug(True)
    yield loop, stock
    stock.close()


def said(call) -> str:
    """The type and the message of what a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


CALLS = [
    lambda loop, it: loop.call_soon(it),
    lambda loop, it: loop.call_soon_threadsafe(it),
    lambda loop, it: loop.call_later(1, it),
    lambda loop, it: loop.call_at(1, it),
]


def test_flag(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    assert "debug=True" in repr(loop)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", [5, None, coroutine])
def test_wrong_callbacks_are_refused_as_by_asyncio(both, call, wrong):
    messages = [said(lambda each=each: call(each, wrong)) for each in both]
    assert messages[0] == messages[1]


@pytest.mark.parametrize("call", CALLS)
def test_coroutines_are_refused(both, call):
    coro = coroutine()
    messages = [said(lambda each=each: call(each, coro)) for each in both]
    coro.close()
    assert messages[0] == messages[1]


def test_wrong_callback_without_debug_mode_fails_in_its_turn(loop, logged):
    loop.call_soon(5)
    turn(loop)
    assert "'int' object is not callable" in logged.text


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(callback),
        lambda loop: loop.call_later(1, callback),
        lambda loop: loop.call_at(1, callback),
    ],
)
def test_wrong_thread(loop, call):
    loop.set_debug(True)
    messages = []

    def in_thread():
        messages.append(said(lambda: call(loop)))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=in_thread)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert messages == [
        "RuntimeError: Non-thread-safe operation invoked on an event loop other than the current one"
    ]


def test_create_task_in_the_wrong_thread(loop, logged):
    loop.set_debug(True)
    messages = []

    def in_thread():
        coro = coroutine()
        messages.append(said(lambda: loop.create_task(coro)))
        coro.close()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=in_thread)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert messages[0].startswith("RuntimeError: Non-thread-safe operation")
    assert asyncio.all_tasks(loop) == set()


def test_set_result_in_the_wrong_thread(loop):
    loop.set_debug(True)
    messages = []
    future = loop.create_future()
    future.add_done_callback(callback)

    def in_thread():
        messages.append(said(lambda: future.set_result(1)))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=in_thread)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert messages[0].startswith("RuntimeError: Non-thread-safe operation")


def test_slow_callback(loop, logged):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_soon(callback)
    turn(loop)
    assert any(
        message.startswith("Executing <Handle callback() at ") and message.endswith(" seconds")
        for message in logged.messages
    )


def test_slow_task(loop, logged):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.run_until_complete(loop.create_task(coroutine(), name="slow"))
    assert any(m.startswith("Executing <Task finished name='slow' coro=") for m in logged.messages)


def test_nothing_is_slow_below_the_limit(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = 1000.0
    turn(loop)


def test_nothing_is_slow_without_debug_mode(loop):
    loop.slow_callback_duration = 0.0
    turn(loop)


def test_slow_callback_after_one_that_failed(loop, logged):
    def fails():
        raise KeyError

    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_soon(fails)
    loop.call_soon(callback)
    turn(loop)
    assert any(message.startswith("Executing <Handle callback()") for message in logged.messages)


def test_handles_know_where_they_were_made(loop):
    loop.set_debug(True)
    for handle in (
        loop.call_soon(callback),
        loop.call_soon_threadsafe(callback),
        loop.call_later(1, callback),
        loop.call_at(1, callback),
    ):
        assert handle._source_traceback[-1].filename == __file__
        assert f"created at {__file__}" in repr(handle)
    turn(loop)


def test_tasks_know_where_they_were_made(loop):
    loop.set_debug(True)
    task = loop.create_task(coroutine())
    assert task._source_traceback[-1].filename == __file__
    assert f"created at {__file__}" in repr(task)
    loop.run_until_complete(task)


def test_report_shows_where_the_handle_was_made(loop, logged):
    loop.set_debug(True)
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    assert "Object created at (most recent call last)" in logged.text


def test_report_of_a_lost_exception_shows_where_the_task_was_made(loop, logged):
    async def fails():
        raise KeyError

    loop.set_debug(True)
    loop.create_task(fails())
    turn(loop)
    turn(loop)
    assert "Object created at (most recent call last)" in logged.text


NEVER_AWAITED = """
import hoop

async def forgotten():
    pass

async def main():
    forgotten()

hoop.run(main(), debug=True)
"""


def test_never_awaited_coroutine_shows_where_it_was_made():
    done = subprocess.run(
        [sys.executable, "-c", NEVER_AWAITED],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    assert "coroutine 'forgotten' was never awaited" in done.stderr
    assert "Coroutine created at (most recent call last)" in done.stderr


def test_turning_it_on_while_running(loop):
    loop.call_soon(loop.set_debug, True)
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_everything_works_in_debug_mode(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(0.001))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.001)
        return await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(int, "2"))

    assert run(main(), debug=True) == [1, 2]
