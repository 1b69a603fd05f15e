"""Timers: exact deadlines, their order, cancelling, and numbers that are none."""

from __future__ import annotations

import asyncio
import contextvars
import fractions
import math
import random
import re
import time
import traceback
import weakref

import pytest

import hoop


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def callback(*args):
    """Do nothing."""


# ---- what it is ----


def test_a_deadline_is_not_rounded(loop, run):
    """A C float would have 24 bits."""
    loop.time = lambda: 1000.0
    assert loop.call_later(0.1, print).when() == 1000.1
    assert loop.call_at(1000.1, print).when() == 1000.1

    async def main():
        asyncio.get_running_loop().time = lambda: 1000.0
        sleeping = asyncio.create_task(hoop.sleep(0.1))
        await asyncio.sleep(0)
        (timer,) = [t for t in asyncio.get_running_loop()._scheduled if t.when() < 1001]
        assert timer.when() == 1000.1
        sleeping.cancel()

    run(main())


def test_is_an_instance_of_asyncios(loop):
    handle = loop.call_later(100, callback)
    assert type(handle) is hoop.TimerHandle
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)


def test_when_is_what_was_given(loop):
    assert loop.call_at(123.456, callback).when() == 123.456
    assert loop.call_at(7, callback).when() == 7


def test_call_later_adds_to_the_clock(loop):
    before = loop.time()
    deadline = loop.call_later(5.5, callback).when()
    assert before + 5.5 <= deadline <= loop.time() + 5.5


def test_clock_is_monotonic_time(loop):
    before = time.monotonic()
    now = loop.time()
    assert before - 1e-6 <= now <= time.monotonic() + 1e-6


def test_arguments_and_context(loop):
    import contextvars

    context = contextvars.copy_context()
    called = []
    handle = loop.call_at(0, lambda *args: called.append(args), 1, 2, context=context)
    assert handle.get_context() is context
    turn(loop)
    assert called == [(1, 2)]


# ---- when they run ----


def test_is_not_early(loop):
    late, handles = [], []

    def due():
        late.append(loop.time() - handles[-1].when())
        loop.stop()

    for delay in (0.0, 1e-6, 0.0004, 0.001, 0.0015, 0.0123):
        handles.append(loop.call_later(delay, due))
        loop.run_forever()
    assert all(seconds >= -1e-9 for seconds in late)


def test_delay_is_not_rounded_to_milliseconds(run):
    async def main():
        loop = asyncio.get_running_loop()
        for delay in (0.0002, 0.0004, 0.0006):
            before = loop.time()
            await asyncio.sleep(delay)
            assert loop.time() - before >= delay

    run(main())


def test_order_by_deadline(loop):
    order, deadlines = [], list(range(500))
    random.Random(1).shuffle(deadlines)
    for deadline in deadlines:
        loop.call_at(deadline / 1000, order.append, deadline)
    turn(loop)
    assert order == list(range(500))


def test_order_of_deadlines_that_differ_by_one_bit(loop):
    order, deadline = [], 1.0
    deadlines = []
    for _ in range(5):
        deadlines.append(deadline)
        deadline = math.nextafter(deadline, 2)
    for each in reversed(deadlines):
        loop.call_at(each, order.append, each)
    turn(loop)
    assert order == deadlines


def test_equal_deadlines_run_in_the_order_they_were_made(loop):
    order = []
    for i in range(300):
        loop.call_at(i % 3, order.append, i)
    turn(loop)
    assert order == sorted(range(300), key=lambda i: i % 3)


def test_negative_delays_keep_their_order(loop):
    order = []
    for delay in (-0.5, -1.0, 0.0, -2, -0.75):
        loop.call_later(delay, order.append, delay)
    turn(loop)
    assert order == [-2, -1.0, -0.75, -0.5, 0.0]


def test_due_timers_come_after_what_is_ready(loop):
    order = []
    loop.call_at(0, order.append, "timer")
    loop.call_soon(order.append, "soon")
    turn(loop)
    assert order == ["soon", "timer"]


def test_timer_made_in_a_turn_is_not_run_in_it(loop):
    order = []
    loop.call_soon(lambda: loop.call_at(0, order.append, "timer"))
    loop.call_soon(order.append, "soon")
    turn(loop)
    assert order == ["soon"]
    turn(loop)
    assert order == ["soon", "timer"]


def test_timer_that_makes_itself_again_does_not_keep_the_turn(loop):
    count = []

    def again():
        count.append(1)
        loop.call_at(0, again)

    again()
    for _ in range(3):
        turn(loop)
    assert len(count) == 4


def test_100_000_timers(loop):
    dice, order = random.Random(2), []
    deadlines = [dice.random() for _ in range(100_000)]
    for deadline in deadlines:
        loop.call_at(deadline, order.append, deadline)
    turn(loop)
    assert order == sorted(deadlines)
    assert loop.counters()["timers"] == 0


# ---- cancelling ----


def test_cancel(loop):
    handle = loop.call_at(0, pytest.fail, "was called")
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    turn(loop)
    assert loop.counters()["timers"] == 0


def test_cancel_lets_go_of_the_callback(loop):
    class Thing:
        def method(self):
            pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_later(10, callback)
    handle = loop.call_later(5, thing.method)
    loop.call_later(20, callback)
    del thing
    handle.cancel()
    assert gone() is None


def test_newest_timer_leaves_the_heap_at_once(loop):
    for i in range(10):
        loop.call_later(100 + i, callback)
    loop.call_later(200, callback).cancel()
    assert loop.counters()["timers"] == 10


def test_cancelled_timers_are_swept_when_they_are_the_most(loop):
    handles = [loop.call_later(100 + i, callback) for i in range(1000)]
    for handle in handles[:900]:
        handle.cancel()
    assert loop.counters()["timers"] < 300
    assert {handle for handle in loop._scheduled if not handle.cancelled()} == set(handles[900:])


def test_order_after_a_sweep(loop):
    dice, order, kept = random.Random(3), [], []
    for _ in range(2000):
        deadline = dice.random()
        handle = loop.call_at(deadline, order.append, deadline)
        if dice.random() < 0.8:
            handle.cancel()
        else:
            kept.append(deadline)
    turn(loop)
    assert order == sorted(kept)


def test_cancel_of_a_due_timer_by_the_one_before(loop):
    handles = []
    loop.call_at(0, lambda: handles[0].cancel())
    handles.append(loop.call_at(1, pytest.fail, "was called"))
    turn(loop)
    assert loop.counters()["timers"] == 0


def test_cancel_of_everything_at_random(loop):
    dice = random.Random(4)
    alive = {}
    for i in range(3000):
        alive[i] = loop.call_later(100 + dice.random(), callback)
        if dice.random() < 0.6:
            alive.pop(dice.choice(list(alive)) if i % 50 == 0 else i).cancel()
    expected = set(alive.values())
    assert {handle for handle in loop._scheduled if not handle.cancelled()} == expected
    for handle in alive.values():
        handle.cancel()
    turn(loop)
    assert [handle for handle in loop._scheduled if not handle.cancelled()] == []


def test_sleep_does_not_end_for_a_cancelled_timer(loop):
    for i in range(100):
        loop.call_later(i * 0.0001, callback).cancel()
    loop.call_later(0.5, callback)
    loop.call_later(0.02, loop.stop)
    sleeps = loop.counters()["sleeps"]
    loop.run_forever()
    assert loop.counters()["sleeps"] - sleeps < 10, loop.counters()


def test_scheduled_attribute(loop):
    handle = loop.call_at(0, callback)
    assert handle._scheduled is True
    assert loop._scheduled == [handle]
    turn(loop)
    assert handle._scheduled is False


# ---- numbers ----


@pytest.mark.parametrize("delay", [float("nan"), float("-inf"), -1e300, -(10**30), 0, -0.0, False])
def test_is_due_at_once(loop, delay):
    called = []
    loop.call_later(delay, called.append, 1)
    turn(loop)
    assert called == [1]


@pytest.mark.parametrize("delay", [float("inf"), 1e18, 1e308, 10**12])
def test_never_comes_and_does_not_harm(loop, delay):
    handle = loop.call_later(delay, pytest.fail, "was called")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert not handle.cancelled()
    handle.cancel()


@pytest.mark.parametrize("delay", [float("inf"), 1e300, 10**12])
def test_loop_with_only_such_a_timer_sleeps_and_can_be_woken(loop, delay):
    import threading

    loop.call_later(delay, pytest.fail, "was called")
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop])
    thread.start()
    loop.run_forever()
    thread.join()


def test_nan_does_not_spoil_the_order_of_others(loop):
    order = []
    for deadline in (3.0, float("nan"), 1.0, float("nan"), 2.0):
        loop.call_at(deadline, order.append, deadline)
    turn(loop)
    assert order[-3:] == [1.0, 2.0, 3.0]
    assert len(order) == 5


@pytest.mark.parametrize("delay", [2, True, fractions.Fraction(1, 3)])
def test_numbers_that_are_no_floats(loop, delay):
    handle = loop.call_later(delay, callback)
    assert type(handle.when()) is float
    assert handle.when() == pytest.approx(loop.time() + delay, abs=1)


def test_when_keeps_the_type_given_to_call_at(loop):
    when = fractions.Fraction(7, 3)
    assert loop.call_at(when, callback).when() is when


@pytest.mark.parametrize("wrong", ["1", object(), [], 1j])
def test_what_is_no_number(loop, wrong):
    with pytest.raises(TypeError):
        loop.call_later(wrong, callback)
    assert loop.counters()["timers"] == 0


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_none_as_asyncio_refuses_it(loop, method):
    stock_loop = asyncio.new_event_loop()
    messages = []
    for each in (loop, stock_loop):
        with pytest.raises(TypeError) as caught:
            getattr(each, method)(None, callback)
        messages.append(str(caught.value))
    stock_loop.close()
    assert messages[0] == messages[1]


# ---- comparing ----


def test_comparisons(loop):
    early, late = loop.call_at(100, callback), loop.call_at(200, callback)
    same = loop.call_at(100, callback)
    assert early < late
    assert late > early
    assert early <= same
    assert early >= same
    assert early == same
    assert early != late
    assert hash(early) == hash(same)


def test_comparison_with_asyncios(loop):
    ours = loop.call_at(100, callback)
    theirs = asyncio.TimerHandle(200, callback, (), loop)
    assert ours < theirs
    assert theirs > ours


def test_comparison_with_something_else(loop):
    handle = loop.call_at(100, callback)
    assert handle != 100
    with pytest.raises(TypeError):
        handle < 100  # noqa: B015


def test_overridden_clock_moves_all_timers(driver):
    # Test suites drive a loop by a clock of their own.
    class Clocked(hoop.EventLoop):
        now = 1000.0

        def time(self):
            return self.now

    loop = Clocked()
    assert [loop.call_later(delay, callback).when() for delay in (5, 5.0)] == [1005.0, 1005.0]
    loop.close()


# ---- the timers of asyncio.sleep(), which set their future in C ----


set_unless_cancelled = asyncio.futures._set_result_unless_cancelled
variable = contextvars.ContextVar("variable", default=None)


def looks(loop, delay=0.0, result=None):
    """Look at such a timer in each of its states."""
    seen = []

    def look(timer):
        seen.append(
            (
                timer._callback is set_unless_cancelled,
                timer._args == (future, result),
                timer._context.get(variable),
                timer._context is timer._context,
                timer.cancelled(),
                re.sub("<Future .*?>|when=[0-9.]+|:[0-9]+", "", repr(timer)),
            )
        )

    variable.set("first")
    future = loop.create_future()
    timer = loop.call_later(delay, set_unless_cancelled, future, result)
    twin = loop.call_at(timer.when(), set_unless_cancelled, future, result)
    seen.append((timer == twin, hash(timer) == hash(twin)))
    variable.set("second")
    other = loop.call_later(delay, set_unless_cancelled, loop.create_future(), result)
    timer._context.run(variable.set, "third")
    seen.append((twin._context.get(variable), other._context.get(variable)))
    look(timer)
    twin.cancel()
    look(twin)
    other.cancel()
    future.add_done_callback(lambda f: (seen.append(variable.get()), loop.stop()))
    loop.run_forever()
    seen.append(future.result())
    look(timer)
    timer.cancel()
    look(timer)
    seen.append(timer == twin)
    return seen


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("result", [None, 5])
def test_timer_of_a_sleep_looks_like_asyncio_s(loop, debug, result):
    stock = asyncio.SelectorEventLoop()
    for each in (stock, loop):
        each.set_debug(debug)
    theirs = contextvars.Context().run(looks, stock, result=result)
    stock.close()
    assert contextvars.Context().run(looks, loop, result=result) == theirs


def test_timer_of_a_sleep_leaves_a_cancelled_future_alone(loop):
    future = loop.create_future()
    loop.call_later(0, set_unless_cancelled, future, None)
    future.cancel()
    turn(loop)
    turn(loop)
    assert future.cancelled()


def failures(loop):
    seen = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    future = loop.create_future()
    timer = loop.call_later(0, set_unless_cancelled, future, None)
    future.set_result(1)
    while not seen:
        turn(loop)
    (context,) = seen
    assert context["handle"] is timer
    frames = [frame.name for frame in traceback.extract_tb(context["exception"].__traceback__)]
    return context["message"], repr(context["exception"]), frames[-1:], sorted(context)


def test_timer_of_a_sleep_fails_as_asyncio_s_if_the_future_is_done(loop):
    stock = asyncio.SelectorEventLoop()
    theirs = failures(stock)
    stock.close()
    assert failures(loop) == theirs


@pytest.mark.parametrize("change", ["debug", "call_soon"])
def test_timer_of_a_sleep_obeys_what_changes_meanwhile(loop, change):
    seen = []
    future = loop.create_future()
    future.add_done_callback(lambda f: None)
    variable.set("of the timer")
    loop.call_later(0, set_unless_cancelled, future, None)
    variable.set("later")
    if change == "debug":
        loop.set_debug(True)
    else:
        call_soon = loop.call_soon

        def noting(*args, **kwargs):
            seen.append(variable.get())
            return call_soon(*args, **kwargs)

        loop.call_soon = noting
    while not future.done():
        turn(loop)
    assert future.result() is None
    if change == "call_soon":
        assert "of the timer" in seen


def test_context_of_a_sleep_is_let_go_of(loop):
    class Value:
        """A value of a variable."""

    value = Value()
    gone = weakref.ref(value)
    context = contextvars.Context()
    context.run(variable.set, value)
    del value
    task = loop.create_task(asyncio.sleep(0.001), context=context)
    assert loop.run_until_complete(task) is None
    del task, context
    assert gone() is None
    future = loop.create_future()
    context = contextvars.Context()
    context.run(variable.set, Value())
    gone = weakref.ref(context[variable])
    context.run(loop.call_later, 100, set_unless_cancelled, future, None)
    del context
    assert gone() is not None
    loop.close()
    assert gone() is None


def test_many_sleeps_by_asyncio_s_name(run):
    async def main():
        began = time.monotonic()
        tasks = [asyncio.create_task(asyncio.sleep(0.01, n)) for n in range(500)]
        tasks += [asyncio.create_task(asyncio.sleep(0.01)) for n in range(500)]
        tasks[3].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert time.monotonic() - began >= 0.01
        assert ends[:3] == [0, 1, 2]
        assert type(ends[3]) is asyncio.CancelledError
        assert ends[500:] == [None] * 500

    run(main())
