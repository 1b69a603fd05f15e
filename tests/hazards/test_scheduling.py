"""Timers, Ctrl-C, threads, tasks and the end of a loop: hazards that other loops had."""

import asyncio
import contextvars
import gc
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from unittest import mock

import pytest
from peers import Recorder, end, same_as_asyncio, turns, until


def test_timers_are_not_rounded_to_milliseconds(loop):
    """uvloop: `round(delay * 1000)`, and less than half a millisecond was call_soon."""

    async def main():
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.0004)
            assert time.monotonic() - began >= 0.0004
        order = []
        now = loop.time()
        for n in (3, 1, 2):
            loop.call_at(now + 0.001 + n * 1e-5, order.append, n)
        await until(lambda: len(order) == 3)
        assert order == [1, 2, 3]

    loop.run_until_complete(main())


def test_negative_delays_keep_their_order(loop):
    async def script(loop):
        order = []
        for delay in (-0.5, 0, -1, 0.0001, -2):
            loop.call_later(delay, order.append, delay)
        loop.call_soon(order.append, "soon")
        await until(lambda: len(order) == 6)
        return order

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("delay", [math.inf, 1e18, 1e300, math.nan, -math.inf])
def test_odd_delays_neither_raise_nor_spin(loop, delay):
    """rsloop#48, talyn BUG-185, zuvloop#76"""

    async def main():
        handle = loop.call_later(delay, lambda: None)
        began = loop.counters()["turns"]
        await asyncio.sleep(0.02)
        assert loop.counters()["turns"] - began < 50
        handle.cancel()

    loop.run_until_complete(main())


def test_an_interrupted_batch_loses_no_wake_up(loop):
    """rsloop#57"""
    done = []

    def interrupt():
        raise KeyboardInterrupt

    async def waiting(future, n):
        done.append((await future, n))

    async def begin():
        futures = [loop.create_future() for _ in range(5)]
        return futures, [loop.create_task(waiting(f, n)) for n, f in enumerate(futures)]

    futures, tasks = loop.run_until_complete(begin())
    loop.run_until_complete(asyncio.sleep(0))
    for n, future in enumerate(futures):
        loop.call_soon(future.set_result, n)
        loop.call_soon(interrupt)
    interrupts = 0
    while not all(task.done() for task in tasks):
        loop.call_soon(loop.stop)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            interrupts += 1
    while interrupts < 5:
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        interrupts += 1
    assert sorted(done) == [(n, n) for n in range(5)]


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_arrives_every_time(loop, busy):
    """uvloop#295, rsloop#37: ignored while idle, or only sometimes."""

    async def main():
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
        if busy:
            while True:
                await asyncio.sleep(0)
        await loop.create_future()

    for _ in range(200):
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        if task.done():  # it was raised inside the coroutine
            assert isinstance(task.exception(), KeyboardInterrupt)
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


def test_a_loop_made_here_runs_in_another_thread(loop):
    """talyn BUG-267"""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def answer():
        return threading.get_ident()

    for _ in range(50):
        assert asyncio.run_coroutine_threadsafe(answer(), loop).result(10) == thread.ident
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()


def test_threads_queue_in_their_order(loop):
    """uvloop 0.16, zuvloop#42"""
    found = []

    async def main():
        def call(name):
            for n in range(2000):
                loop.call_soon_threadsafe(found.append, (name, n))

        threads = [threading.Thread(target=call, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        await until(lambda: len(found) == 16_000)
        for thread in threads:
            thread.join()

    loop.run_until_complete(main())
    for name in range(8):
        assert [n for who, n in found if who == name] == list(range(2000))


def test_native_tasks_are_seen_by_asyncio(loop):
    """talyn BUG-268"""

    async def main():
        task = loop.create_task(asyncio.sleep(60))
        assert {task, asyncio.current_task()} == asyncio.all_tasks()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run_until_complete(main())


def test_a_runner_cancels_what_is_left(new_loop):
    left = []

    async def main():
        left.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert left[0].cancelled()


def test_loops_and_handles_are_what_users_take_them_for(loop):
    """rsloop#45, zuvloop#42/#47"""
    kept = weakref.WeakKeyDictionary({loop: 1})
    assert kept[loop] == 1
    soon, later, last = loop.call_soon(len), loop.call_later(60, len), loop.call_later(61, len)
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(soon, asyncio.Handle)
    assert isinstance(later, asyncio.TimerHandle)
    assert later < last
    for handle in (soon, later, last):
        handle.cancel()


@pytest.mark.parametrize("debug", [False, True])
def test_a_loop_is_closed_with_everything_pending(new_loop, debug):
    """talyn Lessons 10/12/56"""
    loop = new_loop()
    loop.set_debug(debug)

    async def never():
        await asyncio.get_running_loop().create_future()

    async def main():
        loop.create_task(never())
        loop.call_later(60, len)
        loop.call_soon(len)
        ours, theirs = socket.socketpair()
        loop.add_reader(ours.fileno(), len)
        return ours, theirs

    loop.set_exception_handler(lambda *_: None)
    a, b = loop.run_until_complete(main())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.close()
        gc.collect()
    a.close()
    b.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon(len)


def test_an_async_generator_dropped_in_mid_iteration_in_debug_mode(loop):
    """uvloop PR#756"""
    closed = []
    loop.set_debug(True)

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        async for _ in numbers():
            break
        gc.collect()
        await until(lambda: closed)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())


IMPORT = """
import asyncio, sys
def attributes():
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "asyncio"]
    return {(m.__name__, k): v for m in modules for k, v in vars(m).items() if k != "__builtins__"}
policy = asyncio.get_event_loop_policy()
before = attributes()
import hoop
after = attributes()
changed = [key for key in before if after.get(key) is not before[key]]
added = [key for key in after if key not in before and key[0] in {m for m, _ in before}]
assert policy is asyncio.get_event_loop_policy()
print(changed, added)
"""


def test_importing_changes_no_attribute_of_asyncio():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=18
    )
    assert done.stdout == "[] []\n", done.stderr


def test_pausing_here_and_resuming_in_a_task_leaves_the_context_alone(loop):
    """cpython#140947, uvloop#305"""
    var = contextvars.ContextVar("var", default=None)
    seen = []

    async def main():
        made = []

        def factory():
            made.append(Recorder(data_received=lambda p, d: seen.append(var.get())))
            return made[-1]

        var.set("server")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            await until(lambda: made and made[0].transport)
            made[0].transport.pause_reading()

            async def resume():
                var.set("task")
                made[0].transport.resume_reading()

            await loop.create_task(resume())
            peer.send(b"x")
            await until(lambda: seen)
        await until(lambda: made[0].is_lost)
        await end(server)

    loop.run_until_complete(main())
    assert seen == ["server"]


def test_a_storm_of_callbacks_runs_in_order(loop):
    """The queue grows and shrinks while it runs."""

    async def main():
        done = []
        for n in range(20_000):
            loop.call_soon(done.append, n)
        await turns(1)
        assert done == list(range(20_000))

    loop.run_until_complete(main())


def test_timers_go_by_a_patched_clock(loop):
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    async def main():
        called = []
        deadline = loop.call_later(60, called.append, "a minute has passed").when()
        assert deadline == 1060.0
        await asyncio.sleep(0)
        assert called == []
        clock.now = 1060.5
        loop.call_soon_threadsafe(lambda: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return called

    clock = Clock()
    with mock.patch.object(loop, "time", clock):
        assert loop.run_until_complete(main()) == ["a minute has passed"]
    assert loop.time() == pytest.approx(time.monotonic(), abs=5)
    assert loop.call_later(0, print).when() == pytest.approx(time.monotonic(), abs=5)
