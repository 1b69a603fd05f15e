"""The loop: running, stopping, closing, and what it refuses."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import weakref

import pytest

import hoop


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def look(loop) -> None:
    """Let the loop take one turn, in which it asks its driver. A busy loop does not do so each turn."""
    loop.stop()
    loop.run_forever()
    turn(loop)


def callback(*args):
    """Do nothing."""


def said(call) -> str:
    """The type and the message of what a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.fixture
def both(loop):
    """A hoop loop and one of asyncio's."""
    stock = asyncio.new_event_loop()
    yield loop, stock
    stock.close()


# ---- what it is ----


def test_is_asyncios_kind_of_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_names_its_driver(loop, driver):
    assert loop.driver == driver


def test_weak_reference_and_attributes(loop):
    loop.colour = "red"
    assert weakref.ref(loop)().colour == "red"
    assert loop in weakref.WeakKeyDictionary({loop: 1})


def has_dict(loop):
    before = len(gc.get_referents(loop))
    vars(loop)  # makes one
    return len(gc.get_referents(loop)) == before


def test_has_no_dict_until_one_is_needed(loop):
    """With one, the interpreter searches it for each method that is called."""
    assert loop.driver
    turn(loop)
    loop.run_until_complete(asyncio.sleep(0))
    assert not has_dict(loop)
    assert has_dict(loop)


def test_a_driver_that_a_subclass_names_first_is_kept():
    class Mine(hoop.EventLoop):
        def __init__(self):
            self.driver = "mine"
            super().__init__()

    loop = Mine()
    assert loop.driver == "mine"
    del loop.driver
    assert loop.driver != "mine"
    loop.close()


def test_subclass(driver):
    class Mine(hoop.EventLoop):
        def __init__(self):
            super().__init__()
            self.called = []

        def call_soon(self, callback, *args, context=None):
            self.called.append(callback)
            return super().call_soon(callback, *args, context=context)

    loop = Mine()
    turn(loop)
    assert loop.called == [loop.stop]
    loop.close()


def test_repr(loop):
    state = "running=False closed=False debug=False"
    assert repr(loop) == f"<hoop.EventLoop driver={loop.driver} {state}>"
    loop.close()
    assert repr(loop) == "<hoop.EventLoop running=False closed=True debug=False>"


def test_repr_of_a_subclass(driver):
    class Mine(hoop.EventLoop):
        pass

    loop = Mine(driver)
    assert repr(loop).startswith(f"<{__name__}.test_repr_of_a_subclass.<locals>.Mine driver=")
    loop.close()


def test_every_public_name_of_asyncios_loop(both):
    loop, stock = both
    assert [name for name in dir(stock) if name[0] != "_" and not hasattr(loop, name)] == []


# ---- running and stopping ----


def test_run_until_complete_returns_the_result(loop):
    assert loop.run_until_complete(asyncio.sleep(0, 5)) == 5


def test_run_until_complete_takes_a_future(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7


def test_run_until_complete_raises(loop):
    async def fails():
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        loop.run_until_complete(fails())


def test_run_until_complete_stopped_before_its_end(both):
    messages = []
    for each in both:
        future = each.create_future()
        each.call_soon(each.stop)
        messages.append(said(lambda each=each, future=future: each.run_until_complete(future)))
    assert messages == ["RuntimeError: Event loop stopped before Future completed."] * 2


def test_stop_before_running_runs_one_turn(loop):
    order = []
    loop.call_soon(order.append, 1)
    loop.call_soon(loop.call_soon, order.append, 2)
    loop.stop()
    loop.run_forever()
    assert order == [1]
    turn(loop)
    assert order == [1, 2]


def test_stop_finishes_the_turn(loop):
    order = []
    loop.call_soon(loop.stop)
    loop.call_soon(order.append, "same turn")
    loop.call_soon(loop.call_soon, order.append, "next turn")
    loop.run_forever()
    assert order == ["same turn"]
    turn(loop)


def test_stop_from_a_task(loop):
    async def stops():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "went on"

    task = loop.create_task(stops())
    loop.run_forever()
    assert not task.done()
    assert loop.run_until_complete(task) == "went on"


def test_running_state(loop):
    seen = []
    assert (loop.is_running(), loop.is_closed()) == (False, False)
    loop.call_soon(lambda: seen.append((loop.is_running(), asyncio.get_running_loop())))
    turn(loop)
    assert seen == [(True, loop)]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


def test_runs_many_times(loop):
    assert [loop.run_until_complete(asyncio.sleep(0, i)) for i in range(50)] == list(range(50))


def test_run_within_a_run_as_in_asyncio(both):
    messages = []
    for each, other in (both, both[::-1]):
        each.call_soon(lambda other=other: messages.append(said(other.run_forever)))
        each.call_soon(lambda each=each: messages.append(said(each.run_forever)))
        turn(each)
    assert messages[:2] == [
        "RuntimeError: Cannot run the event loop while another loop is running",
        "RuntimeError: This event loop is already running",
    ]
    assert messages[2:] == messages[:2]


def test_failed_run_within_a_run_leaves_the_outer_one_running(loop, new_loop):
    other = new_loop()
    seen = []
    loop.call_soon(lambda: said(other.run_forever))
    loop.call_soon(lambda: said(loop.run_forever))
    loop.call_soon(lambda: seen.append((asyncio.get_running_loop(), loop.is_running())))
    turn(loop)
    assert seen == [(loop, True)]


def test_thread_id(loop):
    import threading

    seen = []
    assert loop._thread_id is None
    loop.call_soon(lambda: seen.append(loop._thread_id))
    turn(loop)
    assert seen == [threading.get_ident()]


# ---- closing ----


def test_close(loop):
    loop.close()
    assert loop.is_closed()
    loop.close()


def test_close_while_running(both):
    messages = []
    for each in both:
        each.call_soon(lambda each=each: messages.append(said(each.close)))
        turn(each)
    assert messages == ["RuntimeError: Cannot close a running event loop"] * 2


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(callback),
        lambda loop: loop.call_soon_threadsafe(callback),
        lambda loop: loop.call_later(1, callback),
        lambda loop: loop.call_later(1.5, callback),
        lambda loop: loop.call_at(1, callback),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(loop.create_future()),
        lambda loop: loop.run_in_executor(None, callback),
        lambda loop: loop.create_task(None),
        lambda loop: loop.add_signal_handler(2, callback),
        lambda loop: loop.add_reader(0, callback),
        lambda loop: loop.add_writer(0, callback),
        lambda loop: loop.getaddrinfo("127.0.0.1", 80).send(None),
    ],
)
def test_closed_loop_refuses_as_asyncios(both, call):
    for each in both:
        each.close()
    messages = [said(lambda each=each: call(each)) for each in both]
    assert messages == ["RuntimeError: Event loop is closed"] * 2


def test_remove_reader_of_a_closed_loop(both):
    for each in both:
        each.close()
        assert each.remove_reader(0) is False
        assert each.remove_writer(0) is False


def test_unclosed_loop_warns():
    loop = hoop.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop


def test_close_closes_the_drivers_descriptors(new_loop):
    import os

    loop = new_loop()
    turn(loop)
    opened = set(os.listdir("/proc/self/fd"))
    loop.close()
    assert len(opened - set(os.listdir("/proc/self/fd"))) >= 2


# ---- watching descriptors ----


@pytest.fixture
def pair():
    """Two connected sockets."""
    a, b = socket.socketpair()
    with a, b:
        yield a, b


@pytest.mark.parametrize("as_given", [socket.socket.fileno, lambda sock: sock])
def test_add_reader(loop, pair, as_given):
    seen = []

    def readable(*args):
        seen.append((args, pair[0].recv(10)))
        loop.stop()

    loop.add_reader(as_given(pair[0]), readable, 1, 2)
    pair[1].send(b"x")
    loop.run_forever()
    assert seen == [((1, 2), b"x")]
    assert loop.remove_reader(as_given(pair[0])) is True
    assert loop.remove_reader(as_given(pair[0])) is False


def test_add_writer(loop, pair):
    loop.add_writer(pair[0].fileno(), loop.stop)
    loop.run_forever()
    assert loop.remove_writer(pair[0].fileno()) is True


def test_reader_and_writer_of_one_descriptor(loop, pair):
    seen = []
    fd = pair[0].fileno()
    loop.add_reader(fd, seen.append, "reader")
    loop.add_writer(fd, seen.append, "writer")
    pair[1].send(b"x")
    look(loop)
    assert set(seen) == {"reader", "writer"}
    loop.remove_writer(fd)
    seen.clear()
    look(loop)
    assert set(seen) == {"reader"}
    loop.remove_reader(fd)


def test_reader_is_replaced(loop, pair):
    loop.add_reader(pair[0].fileno(), pytest.fail, "was called")
    loop.add_reader(pair[0].fileno(), loop.stop)
    pair[1].send(b"x")
    loop.run_forever()
    loop.remove_reader(pair[0].fileno())


def test_reader_removed_in_the_turn_in_which_it_is_ready(loop, pair):
    others = []
    for mine, other in (pair, pair[::-1]):
        fd = mine.fileno()
        loop.add_reader(fd, lambda other=other: others.append(loop.remove_reader(other.fileno())))
        mine.send(b"x")
    look(loop)
    look(loop)
    assert others[0] is True
    assert set(others[1:]) <= {False}
    for each in pair:
        loop.remove_reader(each.fileno())


def test_reader_that_removes_itself(loop, pair):
    seen = []

    def readable():
        seen.append(1)
        loop.remove_reader(pair[0].fileno())

    loop.add_reader(pair[0].fileno(), readable)
    pair[1].send(b"x")
    look(loop)
    look(loop)
    assert seen == [1]


def test_reader_that_raises_is_reported_and_called_again(loop, pair, logged):
    calls = []

    def fails():
        calls.append(1)
        if len(calls) == 3:
            loop.stop()
        raise KeyError("reader")

    loop.add_reader(pair[0].fileno(), fails)
    pair[1].send(b"x")
    loop.run_forever()
    loop.remove_reader(pair[0].fileno())
    assert logged.messages[0].startswith("Exception in callback")


@pytest.mark.parametrize("wrong", [-1, "text", None, object()])
def test_add_reader_of_what_is_no_descriptor(both, wrong):
    kinds = []
    for each in both:
        with pytest.raises((ValueError, TypeError, OSError)) as caught:
            each.add_reader(wrong, callback)
        kinds.append(type(caught.value))
    assert kinds[0] is kinds[1]


def test_add_reader_of_a_regular_file(both, tmp_path):
    with open(tmp_path / "file", "w") as file:
        messages = [
            said(lambda each=each: each.add_reader(file.fileno(), callback)) for each in both
        ]
    assert messages == ["PermissionError: [Errno 1] Operation not permitted"] * 2


def test_reader_of_a_closed_descriptor_number_can_be_removed(loop, pair):
    fd = pair[0].fileno()
    loop.add_reader(fd, callback)
    pair[0].close()
    assert loop.remove_reader(fd) is True


# ---- task factories ----


def test_task_factory(loop):
    made = []

    def factory(loop, coro, **options):
        made.append(options)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(asyncio.sleep(0), name="it")
    assert task.get_name() == "it"
    loop.run_until_complete(task)
    assert len(made) == 1
    loop.set_task_factory(None)
    assert type(loop.create_task(asyncio.sleep(0))) is hoop.Task
    turn(loop)
    turn(loop)


def test_task_factory_that_is_none(both):
    messages = [said(lambda each=each: each.set_task_factory(5)) for each in both]
    assert messages == ["TypeError: task factory must be a callable or None"] * 2


# ---- asynchronous generators ----


def test_dropped_generator_is_closed(loop):
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def main():
        async for _ in numbers():
            break
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == [1]


def test_shutdown_asyncgens(loop):
    closed = []

    async def numbers():
        try:
            yield 1
        finally:
            closed.append(1)

    async def main():
        generator = numbers()
        await anext(generator)
        return generator

    generator = loop.run_until_complete(main())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == [1]
    del generator


def test_generator_hooks_are_restored(loop):
    before = sys.get_asyncgen_hooks()
    seen = []
    loop.call_soon(lambda: seen.append(sys.get_asyncgen_hooks().firstiter))
    turn(loop)
    assert seen[0] is not None
    assert sys.get_asyncgen_hooks() == before


def test_generator_dropped_in_debug_mode(loop):
    loop.set_debug(True)

    async def numbers():
        yield 1
        yield 2

    async def main():
        async for _ in numbers():
            break
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())


# ---- exception handlers ----


def test_exception_handler_gets_the_loop_and_the_context(loop):
    seen = []
    loop.set_exception_handler(lambda *args: seen.append(args))
    loop.call_exception_handler({"message": "it"})
    assert seen == [(loop, {"message": "it"})]


def test_default_exception_handler_logs(loop, logged):
    loop.call_exception_handler({"message": "it", "future": 5})
    assert logged.messages == ["it\nfuture: 5"]


def test_turn_within_a_turn_is_refused(loop):
    seen = []
    loop.call_soon(lambda: seen.append(said(loop._run_once)))
    turn(loop)
    assert seen == ["RuntimeError: The loop is in the middle of a turn"]


def test_loop_without_its_constructor_is_refused():
    class Unmade(hoop.EventLoop):
        def __init__(self):
            pass

        def __del__(self):
            pass

    unmade = Unmade()
    for call in (unmade.run_forever, unmade._run_once, lambda: unmade._add_reader(0, print)):
        assert said(call) == "RuntimeError: EventLoop.__init__() was not called"


def test_stop_after_an_exception_takes_no_further_turn(loop, logged):
    seen = []
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: loop.call_soon(seen.append, "one turn too many"))
    loop.run_forever()
    assert seen == []
    turn(loop)
    assert seen == ["one turn too many"]


def test_current_task_after_a_context_could_not_be_entered(loop, logged):
    context = contextvars.copy_context()
    seen = []

    async def nothing():
        pass

    def run_inside():
        task = loop.create_task(nothing(), context=context)
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        turn(loop)
        return task

    task = context.run(run_inside)
    assert seen == [None]
    assert asyncio.current_task(loop) is None
    task.get_coro().close()
    task._log_destroy_pending = False
