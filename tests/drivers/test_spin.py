"""Spinning before sleeping: off unless asked for, only while waits are short, and ended by whatever would
wake a sleeper."""

import asyncio
import os
import signal
import threading
import time

import pytest
from peers import tcp_pair

import hoop

SECOND_US = 1_000_000
ONE_PROCESSOR = len(os.sched_getaffinity(0)) < 2
needs_two = pytest.mark.skipif(ONE_PROCESSOR, reason="a loop spins only beside another processor")


@pytest.fixture
def spinning(driver):
    """A loop that spins for up to a second, once it has waited a few times for less."""
    loop = hoop.new_event_loop(driver, SECOND_US)

    async def wait_briefly():
        while not loop.counters()["spins"]:
            await asyncio.sleep(0.0005)

    if not ONE_PROCESSOR:
        loop.run_until_complete(wait_briefly())
    yield loop
    loop.close()


def sleeps(loop) -> int:
    return loop.counters()["sleeps"]


async def times(loop, n: int, wait) -> int:
    """How often the loop slept while something was waited for so often."""
    before = sleeps(loop)
    for _ in range(n):
        await wait()
    return sleeps(loop) - before


# ---- when --------------------------------------------------------------------------------------------


def test_it_is_off(run, monkeypatch):
    monkeypatch.delenv("HOOP_SPIN_US", raising=False)

    async def main():
        loop = asyncio.get_running_loop()
        await times(loop, 20, lambda: asyncio.sleep(0.0005))
        counters = loop.counters()
        assert counters["spins"] == counters["spins_in_vain"] == 0
        assert counters["sleeps"] >= 20

    run(main())


@needs_two
def test_the_environment_turns_it_on(driver, monkeypatch):
    monkeypatch.setenv("HOOP_SPIN_US", "1e6")
    loops = [hoop.new_event_loop(driver), hoop.new_event_loop(driver, 0)]
    for loop in loops:
        loop.run_until_complete(times(loop, 20, lambda: asyncio.sleep(0.0005)))
    assert [loop.counters()["spins"] > 0 for loop in loops] == [True, False]
    for loop in loops:
        loop.close()


@pytest.mark.parametrize("value", [-1, -0.001, 1_000_001, float("nan"), float("inf")])
def test_what_is_no_time_to_spin_is_refused(driver, value, monkeypatch):
    with pytest.raises(ValueError, match=r"^spin_us must be a number from 0 to 1000000, not "):
        hoop.new_event_loop(driver, spin_us=value)
    monkeypatch.setenv("HOOP_SPIN_US", str(value))
    with pytest.raises(ValueError, match=r"^HOOP_SPIN_US must be a number from 0 to 1000000, not "):
        hoop.EventLoop(driver)
    hoop.EventLoop(driver, 0).close()


def test_what_is_no_number_is_refused(driver, monkeypatch):
    with pytest.raises(TypeError, match=r"^spin_us must be a number, not str$"):
        hoop.new_event_loop(driver, "50")
    monkeypatch.setenv("HOOP_SPIN_US", "long")
    with pytest.raises(ValueError, match=r"^HOOP_SPIN_US must be a number from 0"):
        hoop.new_event_loop(driver)


def test_on_one_processor_it_only_sleeps(driver):
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(affinity)})
    loop = hoop.new_event_loop(driver, SECOND_US)
    try:
        loop.run_until_complete(times(loop, 20, lambda: asyncio.sleep(0.0005)))
        assert loop.counters()["spins"] == 0
    finally:
        loop.close()
        os.sched_setaffinity(0, affinity)


@needs_two
def test_long_waits_end_it_and_short_ones_bring_it_back(driver):
    loop = hoop.new_event_loop(driver, 2000)

    async def main():
        def spins():
            return loop.counters()["spins"]

        while spins() < 3:
            await asyncio.sleep(0.0001)
        while True:
            before = spins()
            await asyncio.sleep(0.02)
            if spins() == before:
                break
        assert loop.counters()["spins_in_vain"] > 0
        before = spins()
        while spins() == before:
            await asyncio.sleep(0.0001)

    loop.run_until_complete(main())
    loop.close()


# ---- what ends it --------------------------------------------------------------------------------------


@needs_two
def test_a_timer_ends_it(spinning):
    async def main():
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.001)
            assert 0.001 <= time.monotonic() - began < 0.5

    slept = sleeps(spinning)
    spinning.run_until_complete(main())
    assert sleeps(spinning) == slept


@needs_two
def test_another_thread_ends_it_and_can_run_meanwhile(spinning):
    woken = []

    def wake():
        for n in range(10):
            time.sleep(0.002)
            spinning.call_soon_threadsafe(woken.append, (n, spinning.counters()["spins_in_vain"]))
        spinning.call_soon_threadsafe(spinning.stop)

    thread = threading.Thread(target=wake)
    thread.start()
    spinning.run_forever()
    thread.join()
    assert woken == [(n, 0) for n in range(10)]


@needs_two
def test_data_end_it(spinning):
    a, b = tcp_pair()
    found = []

    def send():
        for _ in range(10):
            time.sleep(0.002)
            a.send(b"x")

    async def main():
        for _ in range(10):
            found.append(await spinning.sock_recv(b, 1))

    thread = threading.Thread(target=send)
    with a, b:
        thread.start()
        spinning.run_until_complete(main())
        thread.join()
    assert found == [b"x"] * 10
    assert spinning.counters()["spins_in_vain"] == 0


@needs_two
@pytest.mark.parametrize("by_loop", [False, True])
def test_a_signal_ends_it(spinning, by_loop):
    caught = []

    def handler(*args):
        caught.append(args)
        spinning.stop()

    if by_loop:
        spinning.add_signal_handler(signal.SIGUSR1, handler)
    else:
        before = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    began = time.monotonic()
    spinning.run_forever()
    assert time.monotonic() - began < 0.9
    timer.join()
    assert len(caught) == 1
    if by_loop:
        spinning.remove_signal_handler(signal.SIGUSR1)
    else:
        signal.signal(signal.SIGUSR1, before)


@needs_two
def test_when_nothing_ends_it_the_loop_sleeps(driver):
    """And what comes then wakes it as ever."""
    loop = hoop.new_event_loop(driver, 100)

    async def main():
        while not loop.counters()["spins"]:
            await asyncio.sleep(0.00001)
        a, b = tcp_pair()
        with a, b:
            before = sleeps(loop)
            receiving = asyncio.ensure_future(loop.sock_recv(b, 1))
            threading.Timer(0.02, a.send, (b"x",)).start()
            assert await receiving == b"x"
            assert 1 <= sleeps(loop) - before <= 3

    loop.run_until_complete(main())
    loop.close()
