"""The ready ring: what waits for its turn runs once, in order, whatever happens to the others."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_first_in_first_out(loop):
    order = []
    for i in range(100):
        loop.call_soon(order.append, i)
    turn(loop)
    assert order == list(range(100))


@pytest.mark.parametrize("count", [255, 256, 257, 1000, 5000])
def test_grows(loop, count):
    order = []
    for i in range(count):
        loop.call_soon(order.append, i)
    turn(loop)
    assert order == list(range(count))


def test_grows_while_it_wraps_around(loop):
    order = []

    def more(i):
        order.append(i)
        if i < 200:
            for j in range(3):
                loop.call_soon(more, 1000 * (i + 1) + j)

    for i in range(200):
        loop.call_soon(more, i)
    for _ in range(3):
        turn(loop)
    first = list(range(200))
    second = [1000 * (i + 1) + j for i in range(200) for j in range(3)]
    assert order == first + second


def test_what_is_queued_in_a_turn_waits_for_the_next(loop):
    order = []

    def first():
        order.append("first")
        loop.call_soon(order.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(order.append, "second")
    turn(loop)
    assert order == ["first", "second"]
    turn(loop)
    assert order == ["first", "second", "next turn"]


def test_a_callback_that_queues_itself_does_not_starve_timers(loop):
    def again():
        loop.call_soon(again)

    again()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


def test_a_callback_that_queues_itself_does_not_starve_descriptors(loop):
    import socket

    def again():
        loop.call_soon(again)

    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a.fileno(), loop.stop)
        again()
        b.send(b"x")
        loop.run_forever()
        loop.remove_reader(a.fileno())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_the_middle_of_a_turn_loses_nothing(loop, kind):
    order = []

    def interrupts():
        raise kind

    async def task(name):
        order.append(name)

    loop.call_soon(order.append, "before")
    loop.call_soon(interrupts)
    loop.call_soon(order.append, "after")
    tasks = [loop.create_task(task("task"))]
    future = loop.create_future()
    future.add_done_callback(lambda _: order.append("callback"))
    future.set_result(None)
    with pytest.raises(kind):
        loop.run_forever()
    assert order == ["before"]
    turn(loop)
    assert order == ["before", "after", "task", "callback"]
    assert tasks[0].done()


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError, ZeroDivisionError])
def test_other_exceptions_do_not_stop_the_turn(loop, logged, kind):
    order = []

    def fails():
        raise kind

    loop.call_soon(fails)
    loop.call_soon(order.append, "after")
    loop.call_soon(fails)
    loop.call_soon(order.append, "last")
    turn(loop)
    assert order == ["after", "last"]
    assert [message.split(" in callback")[0] for message in logged.messages] == ["Exception"] * 2


def test_several_interrupts_one_after_the_other(loop):
    order = []

    def interrupts():
        raise KeyboardInterrupt

    for i in range(5):
        loop.call_soon(interrupts)
        loop.call_soon(order.append, i)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    turn(loop)
    assert order == list(range(5))


def test_interrupt_from_a_due_timer_loses_no_timer(loop):
    order = []

    def interrupts():
        raise KeyboardInterrupt

    loop.call_at(1, order.append, 1)
    loop.call_at(2, interrupts)
    loop.call_at(3, order.append, 3)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)
    assert order == [1, 3]


def test_exception_handler_that_raises(loop, logged):
    def handler(loop, context):
        raise KeyError("in the handler")

    def fails():
        raise ZeroDivisionError

    order = []
    loop.set_exception_handler(handler)
    loop.call_soon(fails)
    loop.call_soon(order.append, "after")
    turn(loop)
    assert order == ["after"]
    assert logged.messages[0].startswith("Unhandled error in exception handler")


def test_exception_handler_that_interrupts(loop):
    def handler(loop, context):
        raise SystemExit

    def fails():
        raise ZeroDivisionError

    order = []
    loop.set_exception_handler(handler)
    loop.call_soon(fails)
    loop.call_soon(order.append, "after")
    with pytest.raises(SystemExit):
        loop.run_forever()
    turn(loop)
    assert order == ["after"]


def test_closing_lets_go_of_what_is_queued(new_loop):
    class Thing:
        def method(self):
            pass

    loop = new_loop()
    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon(thing.method)
    loop.call_later(100, thing.method)
    del thing
    loop.close()
    assert gone() is None


def test_dropping_the_loop_lets_go_of_what_is_queued():
    import hoop

    class Thing:
        def method(self):
            pass

    loop = hoop.new_event_loop()
    thing = Thing()
    thing.loop = loop
    gone = weakref.ref(thing)
    loop.call_soon(thing.method)
    loop.call_later(100, thing.method)
    del thing, loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert gone() is None


def test_finalizer_that_queues_while_the_loop_goes_to_sleep(loop):
    class Last:
        def __del__(self):
            loop.call_soon(loop.stop)

    last = [Last()]
    loop.call_soon(last.clear)
    loop.run_forever()


def test_ready_attribute_is_a_copy(loop):
    handle = loop.call_soon(print)
    assert loop._ready == [handle]
    loop._ready.clear()
    assert loop._ready == [handle]
    handle.cancel()
    turn(loop)
