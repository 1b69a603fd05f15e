"""Futures: what asyncio.Future does, by a native type."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import types
import weakref

import pytest

import hoop


class Seen(Exception):
    """An exception of our own."""


@pytest.fixture
def future(loop):
    """A pending future of a loop that is not running."""
    return loop.create_future()


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


# ---- what it is ----


def test_create_future_gives_a_native_future(future):
    assert type(future) is hoop.Future


def test_is_an_instance_of_asyncios(future):
    assert isinstance(future, asyncio.Future)


def test_is_a_future_for_asyncio(future):
    assert asyncio.isfuture(future)


def test_is_no_task(future):
    assert not isinstance(future, asyncio.Task)


def test_generic_alias():
    alias = hoop.Future[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__args__ == (int,)


def test_weak_reference(future):
    assert weakref.ref(future)() is future


def test_arbitrary_attributes(future):
    future.colour = "red"
    assert future.colour == "red"
    assert vars(future) == {"colour": "red"}


def test_attributes_do_not_make_a_leak(loop):
    future = loop.create_future()
    future.me = future
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


def test_constructor_takes_a_loop(loop):
    assert hoop.Future(loop=loop).get_loop() is loop


def test_constructor_takes_asyncios_loop():
    stock = asyncio.new_event_loop()
    assert hoop.Future(loop=stock).get_loop() is stock
    stock.close()


def test_constructor_without_a_loop_uses_the_running_one(run):
    async def main():
        assert hoop.Future().get_loop() is asyncio.get_running_loop()

    run(main())


def test_subclass(loop):
    class Named(hoop.Future):
        def __init__(self, name):
            super().__init__(loop=loop)
            self.name = name

    future = Named("it")
    future.set_result(1)
    assert (future.name, future.result(), asyncio.isfuture(future)) == ("it", 1, True)


def test_not_initialized():
    empty = hoop.Future.__new__(hoop.Future)
    for call in (empty.get_loop, empty.cancel, lambda: empty.set_result(1), lambda: repr(empty)):
        with pytest.raises(RuntimeError, match=r"Future object is not initialized\."):
            call()


# ---- settling ----


def test_result(future):
    assert not future.done()
    future.set_result(42)
    assert future.done()
    assert not future.cancelled()
    assert future.result() == 42
    assert future.exception() is None


def test_exception(future):
    error = Seen("it")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(Seen) as caught:
        future.result()
    assert caught.value is error


def test_exception_class(future):
    future.set_exception(Seen)
    assert type(future.exception()) is Seen


def test_result_again_has_no_growing_traceback(future):
    future.set_exception(Seen())
    lengths = set()
    for _ in range(3):
        with pytest.raises(Seen) as caught:
            future.result()
        frame, length = caught.value.__traceback__, 0
        while frame is not None:
            frame, length = frame.tb_next, length + 1
        lengths.add(length)
    assert len(lengths) == 1


@pytest.mark.parametrize("wrong", [5, "text", object, None])
def test_no_exception(future, wrong):
    with pytest.raises(TypeError, match="invalid exception object"):
        future.set_exception(wrong)
    assert not future.done()


@pytest.mark.parametrize("stop", [StopIteration, StopIteration(1)])
def test_stop_iteration_as_asyncio_has_it(future, stop):
    outcomes = []
    stock_loop = asyncio.new_event_loop()
    for each in (future, stock_loop.create_future()):
        try:
            each.set_exception(stop)
            error = each.exception()
            outcomes.append((type(error), str(error), type(error.__cause__)))
        except TypeError as exc:
            outcomes.append(str(exc))
    stock_loop.close()
    assert outcomes[0] == outcomes[1]


def test_pending_has_no_result(future):
    with pytest.raises(asyncio.InvalidStateError, match=r"Result is not set\."):
        future.result()


def test_pending_has_no_exception(future):
    with pytest.raises(asyncio.InvalidStateError, match=r"Exception is not set\."):
        future.exception()


def test_is_settled_once(future):
    future.set_result(1)
    with pytest.raises(asyncio.InvalidStateError, match="invalid state"):
        future.set_result(2)
    with pytest.raises(asyncio.InvalidStateError, match="invalid state"):
        future.set_exception(Seen())
    assert future.cancel() is False
    assert future.result() == 1


# ---- cancelling ----


def test_cancel(future):
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    with pytest.raises(asyncio.CancelledError):
        future.result()
    with pytest.raises(asyncio.CancelledError):
        future.exception()


def test_cancel_twice(future):
    assert [future.cancel(), future.cancel()] == [True, False]


def test_cancel_message(future):
    future.cancel("enough")
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError) as caught:
            future.result()
        assert caught.value.args == ("enough",)


def test_cancel_message_by_keyword(future):
    future.cancel(msg="enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        future.exception()


def test_cancelled_error_of_a_failed_future_is_not_its_exception(future):
    # asyncio.gather() asks any of its children for the CancelledError to raise.
    future.set_exception(Seen())
    assert type(future._make_cancelled_error()) is asyncio.CancelledError
    assert type(future.exception()) is Seen


# ---- done-callbacks ----


def test_callbacks_are_called_in_order_next_turn(loop, future):
    called = []
    for i in range(4):
        future.add_done_callback(lambda done, i=i: called.append((i, done is future)))
    future.set_result(None)
    assert called == []
    turn(loop)
    assert called == [(0, True), (1, True), (2, True), (3, True)]


def test_callback_added_when_done(loop, future):
    called = []
    future.set_result(None)
    future.add_done_callback(called.append)
    assert called == []
    turn(loop)
    assert called == [future]


def test_remove_callback_counts_every_use(loop, future):
    called = []

    def callback(done):
        called.append("it")

    future.add_done_callback(callback)
    future.add_done_callback(called.append)
    future.add_done_callback(callback)
    assert future.remove_done_callback(callback) == 2
    assert future.remove_done_callback(callback) == 0
    future.set_result(None)
    turn(loop)
    assert called == [future]


def test_remove_callback_that_settles_while_compared(future):
    class Settles:
        def __call__(self, done):
            pass

        def __eq__(self, other):
            if not future.done():
                future.set_result(None)
            return True

        __hash__ = None

    future.add_done_callback(Settles())
    future.add_done_callback(Settles())
    assert future.remove_done_callback(Settles()) == 2


def test_callback_runs_in_a_copy_of_the_current_context(loop, future):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    def inside():
        variable.set("inside")
        future.add_done_callback(lambda _: seen.append(variable.get()))

    contextvars.copy_context().run(inside)
    future.set_result(None)
    turn(loop)
    assert seen == ["inside"]


def test_callback_runs_in_the_given_context(loop, future):
    variable = contextvars.ContextVar("variable", default="outside")
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    seen = []
    future.add_done_callback(lambda _: seen.append(variable.get()), context=context)
    future.set_result(None)
    turn(loop)
    assert seen == ["given"]


def test_callback_that_raises_does_not_stop_the_others(loop, future, logged):
    called = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    future.set_result(None)
    turn(loop)
    assert called == [future]
    assert "ZeroDivisionError" in logged.text


def test_callbacks_attribute_lists_as_asyncio_does(future):
    assert future._callbacks is None
    context = contextvars.copy_context()
    future.add_done_callback(print, context=context)
    assert future._callbacks == [(print, context)]


def test_settling_on_a_closed_loop_with_a_callback(new_loop):
    loop = new_loop()
    future = loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)


def test_settling_on_a_closed_loop_without_callbacks(new_loop):
    loop = new_loop()
    future = loop.create_future()
    loop.close()
    future.set_result(1)
    assert future.result() == 1


# ---- awaiting ----


@pytest.mark.parametrize(
    "value", [None, 0, "text", (), (1, 2), Seen("as a value"), Seen, StopIteration(3)]
)
def test_await_gives_the_result(run, value):
    async def main():
        done, later = (asyncio.get_running_loop().create_future() for _ in range(2))
        done.set_result(value)
        asyncio.get_running_loop().call_soon(later.set_result, value)
        assert await done is value
        assert await later is value

    run(main())


def test_await_raises_the_exception(run):
    async def main():
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(later.set_exception, Seen("it"))
        with pytest.raises(Seen, match="it"):
            await later

    run(main())


def test_await_of_many_by_one_task_each(run):
    async def main():
        future = asyncio.get_running_loop().create_future()
        order = []

        async def wait(i):
            order.append((i, await future))

        tasks = [asyncio.create_task(wait(i)) for i in range(5)]
        await asyncio.sleep(0)
        future.set_result("x")
        await asyncio.gather(*tasks)
        assert order == [(i, "x") for i in range(5)]

    run(main())


def test_waiting_tasks_and_callbacks_are_told_in_the_order_they_came(run):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        order = []

        async def wait(name):
            await future
            order.append(name)

        first = loop.create_task(wait("task 1"))
        await asyncio.sleep(0)
        future.add_done_callback(lambda _: order.append("callback 1"))
        second = loop.create_task(wait("task 2"))
        await asyncio.sleep(0)
        future.add_done_callback(lambda _: order.append("callback 2"))
        future.set_result(None)
        await asyncio.gather(first, second)
        assert order == ["task 1", "callback 1", "task 2", "callback 2"]

    run(main())


def test_yielding_it_without_await_is_refused(run):
    class Yields:
        def __await__(self):
            yield asyncio.get_running_loop().create_future()

    async def main():
        with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
            await Yields()

    run(main())


def test_resuming_an_await_before_it_is_done(future):
    iterator = iter(future)
    assert next(iterator) is future
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)


def test_iterator_ends_with_the_result(future):
    future.set_result((1, 2))
    with pytest.raises(StopIteration) as caught:
        next(iter(future))
    assert caught.value.value == (1, 2)


def test_stop_iteration_kept_by_the_user_keeps_its_value(loop):
    kept = []
    for i in range(4):
        future = loop.create_future()
        future.set_result(i)
        try:
            next(future.__await__())
        except StopIteration as exc:
            kept.append(exc)
    assert [exc.value for exc in kept] == [0, 1, 2, 3]


def test_iterator_has_send(future):
    iterator = future.__await__()
    assert iterator.send(None) is future
    future.set_result(7)
    with pytest.raises(StopIteration) as caught:
        iterator.send(None)
    assert caught.value.value == 7


def test_iterator_has_throw(future):
    iterator = future.__await__()
    next(iterator)
    with pytest.raises(Seen):
        iterator.throw(Seen())


def test_iterator_has_close(future):
    iterator = future.__await__()
    next(iterator)
    iterator.close()
    assert not future.done()


RESULT_OF_AN_AWAIT = """
    import asyncio, hoop, weakref

    class Thing:
        pass

    async def main():
        future = asyncio.get_running_loop().create_future()
        thing = Thing()
        gone = weakref.ref(thing)
        future.set_result(thing)
        del thing
        thing = await future
        del thing, future
        print(gone() is None)

    hoop.run(main())
    """

CAUGHT_STOP_ITERATION = """
    import asyncio, gc, hoop, weakref

    class Thing:
        pass

    def catch(thing):
        future = loop.create_future()
        future.set_result(1)
        try:
            next(iter(future))
        except StopIteration:
            pass
        return weakref.ref(thing)

    loop = hoop.new_event_loop()
    gone = catch(Thing())
    gc.collect()
    print(gone() is None)
    loop.close()
    """


def test_result_is_not_kept_alive_by_an_await(python):
    assert python(RESULT_OF_AN_AWAIT) == "True\n"


def test_frame_that_caught_a_stop_iteration_is_not_kept_alive(python):
    assert python(CAUGHT_STOP_ITERATION) == "True\n"


def test_exception_reaches_a_custom_await_at_its_yield(run):
    seen = []

    class Inside:
        def __init__(self, future):
            self.future = future

        def __await__(self):
            try:
                return (yield from self.future)
            except Seen as exc:
                seen.append(exc.args)
                return "handled"

    async def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, Seen("here"))
        return await Inside(future)

    assert run(main()) == "handled"
    assert seen == [("here",)]


def test_exception_reaches_a_generator_that_yields_the_future_itself(run):
    seen = []

    class ByHand:
        def __init__(self, future):
            self.future = future

        def __await__(self):
            self.future._asyncio_future_blocking = True
            try:
                yield self.future
            except Seen as exc:
                seen.append(exc.args)
            return "handled"

    async def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, Seen("at the yield"))
        return await ByHand(future)

    assert run(main()) == "handled"
    assert seen == [("at the yield",)]


def test_await_of_another_loops_future(run, new_loop):
    other = new_loop()
    foreign = other.create_future()

    async def main():
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await foreign

    run(main())


# ---- dropping ----


def test_exception_that_nobody_has_seen_is_loud(loop, logged):
    future = loop.create_future()
    future.set_exception(Seen("lost"))
    del future
    gc.collect()
    assert logged.messages[0].startswith("Future exception was never retrieved")
    assert "Seen: lost" in logged.text


def test_exception_is_reported_to_the_loops_handler(loop):
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context["message"]))
    loop.create_future().set_exception(Seen())
    gc.collect()
    assert contexts == ["Future exception was never retrieved"]


def test_exception_that_was_asked_for_is_not_loud(loop):
    future = loop.create_future()
    future.set_exception(Seen())
    assert future.exception()


def test_exception_that_was_raised_is_not_loud(loop):
    future = loop.create_future()
    future.set_exception(Seen())
    with pytest.raises(Seen):
        future.result()


def test_cancelling_a_failed_future_silences_it(loop):
    future = loop.create_future()
    future.set_exception(Seen())
    assert future.cancel() is False
    del future


def test_pending_future_is_dropped_silently(loop):
    future = loop.create_future()
    gone = weakref.ref(future)
    del future
    assert gone() is None


def test_log_traceback_can_only_be_turned_off(future):
    future._log_traceback = False
    with pytest.raises(ValueError, match="can only be set to False"):
        future._log_traceback = True


@pytest.mark.parametrize("name", ["_log_traceback", "_cancel_message"])
def test_what_can_be_set_cannot_be_deleted(future, name):
    with pytest.raises(AttributeError, match="delete"):
        delattr(future, name)


# ---- how it looks ----


def test_repr(loop, future):
    assert repr(future) == "<Future pending>"
    future.set_result(3)
    assert repr(future) == "<Future finished result=3>"
    failed = loop.create_future()
    failed.set_exception(Seen("it"))
    assert repr(failed) == "<Future finished exception=Seen('it')>"
    failed.exception()
    cancelled = loop.create_future()
    cancelled.cancel()
    assert repr(cancelled) == "<Future cancelled>"


def test_repr_of_callbacks_is_asyncios(loop, future):
    stock_loop = asyncio.new_event_loop()
    stock = stock_loop.create_future()
    stock_loop.close()
    for each in (future, stock):
        for _ in range(3):
            each.add_done_callback(turn)
    assert repr(future) == repr(stock)


def test_repr_of_a_future_that_holds_itself(future):
    future.set_result(future)
    assert repr(future) == "<Future finished result=...>"


def test_repr_names_where_it_was_made_in_debug_mode(loop):
    loop.set_debug(True)
    future = loop.create_future()
    assert f"created at {__file__}" in repr(future)


def test_source_traceback_ends_here(loop):
    loop.set_debug(True)
    for future in (loop.create_future(), hoop.Future(loop=loop)):
        assert future._source_traceback[-1].filename == __file__


def test_wrap_future_of_concurrent_futures(run):
    import concurrent.futures

    async def main():
        outer = concurrent.futures.Future()
        asyncio.get_running_loop().call_soon(outer.set_result, "x")
        wrapped = asyncio.wrap_future(outer)
        assert type(wrapped) is hoop.Future
        return await wrapped

    assert run(main()) == "x"


def test_no_reference_is_lost_or_kept_by_a_round(run):
    value = object()
    before = sys.getrefcount(value)

    async def main():
        for _ in range(100):
            future = asyncio.get_running_loop().create_future()
            future.set_result(value)
            await future
        await asyncio.sleep(0, "something else")

    run(main())
    assert sys.getrefcount(value) == before
