"""Signals that a program sends to itself: its handlers are called, and no real signal comes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from os import kill
from signal import raise_signal

import pytest

import hoop.sim


def by_kill(number):
    kill(os.getpid(), number)


def by_pthread_kill(number):
    signal.pthread_kill(threading.get_ident(), number)


WAYS = [by_kill, raise_signal, by_pthread_kill]


@pytest.fixture(autouse=True)
def real_signals():
    """Those that reach the process: there are none."""
    numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP
    found = []
    before = {n: signal.signal(n, lambda n, frame: found.append(n)) for n in numbers}
    handlers = {n: signal.getsignal(n) for n in (*numbers, signal.SIGINT)}
    yield
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    for number, handler in before.items():
        signal.signal(number, handler)
    assert found == []


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("send", WAYS)
def test_handlers_of_the_loop_are_called_in_order_in_the_next_turn(send, on_host):
    async def program():
        loop = asyncio.get_running_loop()
        seen, stopped = [], asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, seen.append, number)
        loop.add_signal_handler(signal.SIGHUP, stopped.set)
        loop.call_later(60, send, signal.SIGUSR1)
        loop.call_later(60, send, signal.SIGTERM)
        loop.call_later(61, send, signal.SIGHUP)
        await stopped.wait()
        assert seen == [signal.SIGUSR1, signal.SIGTERM]
        assert 61 <= hoop.sim.now() < 62
        send(signal.SIGHUP)
        stopped.clear()
        assert not stopped.is_set()
        await stopped.wait()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            assert loop.remove_signal_handler(number)
            assert signal.getsignal(number) == signal.SIG_DFL

    async def main(world):
        await (world.run("db", program) if on_host else program())

    hoop.sim.explore(main, seeds=3)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("send", WAYS)
def test_handlers_of_the_module_signal_are_called_at_once(send, on_host):
    async def program():
        seen = []

        def note(number, frame):
            seen.append((number, frame.f_code.co_name))

        assert signal.signal(signal.SIGTERM, note) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is note
        send(signal.SIGTERM)
        assert [number for number, _ in seen] == [signal.SIGTERM]
        assert signal.signal(signal.SIGTERM, signal.SIG_IGN) is note
        send(signal.SIGTERM)
        signal.signal(signal.SIGINT, note)
        send(signal.SIGINT)
        send(signal.SIGCHLD)  # without a handler nothing happens
        assert [number for number, _ in seen] == [signal.SIGTERM, signal.SIGINT]

        def fail(number, frame):
            raise KeyError(number)

        signal.signal(signal.SIGTERM, fail)
        with pytest.raises(KeyError):
            send(signal.SIGTERM)
        return "done"

    async def main(world):
        assert await (world.run("db", program) if on_host else program()) == "done"

    hoop.sim.run(main)


def test_each_host_has_handlers_of_its_own():
    async def program(name, seen):
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(name))
        await asyncio.sleep(1)
        if name == "a":
            raise_signal(signal.SIGUSR1)
        await asyncio.sleep(10)

    async def main(world):
        seen = []
        one, two = (world.host(name, lambda name=name: program(name, seen)) for name in "ab")
        await asyncio.sleep(5)
        assert seen == ["a"]
        two.signal(signal.SIGUSR1)
        await one
        await two
        assert seen == ["a", "b"]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    hoop.sim.run(main)


def test_without_a_handler_a_signal_ends_the_program():
    async def program(number, log):
        raise_signal(number)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append("never")

    async def main(world):
        log = []
        killed = world.host("killed", lambda: program(signal.SIGKILL, log))
        ended = world.host("ended", lambda: program(signal.SIGTERM, log))
        interrupted = world.host("interrupted", lambda: program(signal.SIGINT, log))
        with pytest.raises(asyncio.CancelledError):
            await interrupted
        await asyncio.sleep(10)
        assert (killed.state, ended.state, log) == ("crashed", "crashed", ["cancelled"])
        with pytest.raises(hoop.sim.SimError, match="SIGTERM has no handler, and ends the program"):
            raise_signal(signal.SIGTERM)
        raise_signal(signal.SIGINT)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)

    hoop.sim.run(main)


def test_a_crashed_program_changes_no_handler_and_sends_nothing():
    async def program():
        try:
            signal.signal(signal.SIGTERM, print)
            await asyncio.Event().wait()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            raise_signal(signal.SIGTERM)

    async def main(world):
        host = world.host("db", program)
        await asyncio.sleep(1)
        host.crash()

    hoop.sim.run(main)


def test_what_the_kernel_refuses():
    async def main():
        for call in (lambda: raise_signal(1000), lambda: by_kill(1000)):
            with pytest.raises(OSError, match="Invalid argument"):
                call()
        with pytest.raises(OSError, match="Invalid argument"):
            signal.signal(signal.SIGKILL, print)
        with pytest.raises(ValueError, match="out of range"):
            signal.signal(1000, print)
        with pytest.raises(TypeError, match="callable"):
            signal.signal(signal.SIGTERM, "handler")
        with pytest.raises(ValueError, match="main thread"):
            await asyncio.to_thread(signal.signal, signal.SIGTERM, print)
        with pytest.raises(ValueError, match="invalid signal"):
            asyncio.get_running_loop().remove_signal_handler(1000)
        kill(os.getpid(), 0)

    hoop.sim.run(main)
