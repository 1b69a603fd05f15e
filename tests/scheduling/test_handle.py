"""Handles: callbacks with a context that can be cancelled."""

from __future__ import annotations

import asyncio
import contextvars
import weakref

import pytest

import hoop

variable = contextvars.ContextVar("variable", default="outside")


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def callback(*args):
    """Do nothing."""


def test_is_an_instance_of_asyncios(loop):
    handle = loop.call_soon(callback)
    assert type(handle) is hoop.Handle
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    turn(loop)


def test_runs_once_with_its_arguments(loop):
    called = []
    handle = loop.call_soon(lambda *args: called.append(args), 1, "two", None)
    turn(loop)
    turn(loop)
    assert called == [(1, "two", None)]
    assert not handle.cancelled()


def test_cancel(loop):
    handle = loop.call_soon(pytest.fail, "was called")
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    turn(loop)


def test_cancel_lets_go(loop):
    class Thing:
        def method(self, other):
            pass

    thing, other = Thing(), Thing()
    gone = weakref.ref(thing), weakref.ref(other)
    loop.call_soon(thing.method, other).cancel()
    del thing, other
    assert [ref() for ref in gone] == [None, None]
    turn(loop)


def test_cancel_from_an_earlier_callback_of_the_turn(loop):
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(pytest.fail, "was called"))
    turn(loop)


def test_cancel_from_itself(loop):
    handles = []
    handles.append(loop.call_soon(lambda: handles[0].cancel()))
    turn(loop)
    assert handles[0].cancelled()


def test_cancel_after_it_ran(loop):
    handle = loop.call_soon(callback)
    turn(loop)
    handle.cancel()
    assert handle.cancelled()


def test_copies_the_current_context(loop):
    seen = []

    def inside():
        variable.set("inside")
        loop.call_soon(lambda: seen.append(variable.get()))
        variable.set("later")

    contextvars.copy_context().run(inside)
    turn(loop)
    assert seen == ["inside"]


def test_runs_in_the_given_context(loop):
    context = contextvars.copy_context()
    handle = loop.call_soon(variable.set, "given", context=context)
    assert handle.get_context() is context
    turn(loop)
    assert context[variable] == "given"
    assert variable.get() == "outside"


def test_context_that_is_entered_already(loop, logged):
    context = contextvars.copy_context()
    loop.call_soon(pytest.fail, "was called", context=context)
    loop.call_soon(loop.stop)
    context.run(loop.run_forever)
    assert "cannot enter context" in logged.text


def test_context_that_is_no_context(loop, logged):
    loop.call_soon(pytest.fail, "was called", context="no context")
    turn(loop)
    assert logged.messages[0].startswith("Exception in callback")


def test_exception_is_reported_as_asyncio_does(loop):
    def fails(x):
        raise KeyError(x)

    contexts = []
    stock_loop = asyncio.new_event_loop()
    for each in (loop, stock_loop):
        each.set_exception_handler(lambda _, context: contexts.append(context))
        handle = each.call_soon(fails, 5)
        turn(each)
        assert contexts[-1].pop("handle") is handle
    stock_loop.close()
    assert contexts[0].keys() == contexts[1].keys() == {"message", "exception"}
    assert contexts[0]["message"] == contexts[1]["message"]
    assert repr(contexts[0]["exception"]) == "KeyError(5)"


def test_a_step_that_fails_outside_its_coroutine_is_reported_as_asyncio_does(loop):
    """Its task is as good as lost, and a handler may want to know which it is."""

    class Broken:
        """A future that nothing can wait for."""

        _asyncio_future_blocking = False

        def __init__(self, loop):
            self._loop = loop

        def get_loop(self):
            return self._loop

        def add_done_callback(self, *args, **kwargs):
            raise ZeroDivisionError

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self

    async def wait(broken):
        await broken

    contexts = []
    stock_loop = asyncio.new_event_loop()
    for each in (loop, stock_loop):
        each.set_exception_handler(lambda _, context: contexts.append(context))
        task = each.create_task(wait(Broken(each)))
        turn(each)
        turn(each)
        assert not task.done()
        task._log_destroy_pending = False
    stock_loop.close()
    assert [context.keys() for context in contexts] == [{"message", "exception", "handle"}] * 2
    assert all(context["message"].startswith("Exception in callback") for context in contexts)
    assert all(isinstance(context["handle"], asyncio.Handle) for context in contexts)
    assert repr(contexts[0]["handle"]) == "<Handle Task._step_here()>"
    contexts.clear()  # it keeps the tasks, which will never end
    del task


def test_exception_has_the_traceback_of_the_callback(loop, logged):
    def fails():
        raise KeyError

    loop.call_soon(fails)
    turn(loop)
    assert f'File "{__file__}"' in logged.text
    assert "in fails" in logged.text


def test_run_by_hand(loop):
    called = []
    loop.call_soon(called.append, 1)._run()
    assert called == [1]
    turn(loop)


def test_run_by_hand_reports_exceptions(loop, logged):
    handle = loop.call_soon(lambda: 1 / 0)
    handle._run()
    handle.cancel()
    assert "ZeroDivisionError" in logged.text
    turn(loop)


def test_repr_is_asyncios(loop):
    stock_loop = asyncio.new_event_loop()
    texts = []
    for each in (loop, stock_loop):
        handles = [
            each.call_soon(callback),
            each.call_soon(callback, 1, "two"),
            each.call_soon(print),
            each.call_at(7, callback),
            each.call_at(7.5, callback, 1),
            each.call_soon(callback),
            each.call_at(7, callback),
        ]
        for handle in handles[-2:]:
            handle.cancel()
        texts.append([repr(handle) for handle in handles])
    stock_loop.close()
    assert texts[0] == texts[1]


def test_repr_of_a_cancelled_handle_in_debug_mode(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback)
    handle.cancel()
    assert repr(handle).startswith("<Handle cancelled callback() at ")
    assert f"created at {__file__}" in repr(handle)


@pytest.mark.parametrize("debug", [False, True])
def test_arguments_are_shown_in_the_modes_in_which_asyncio_shows_them(loop, debug):
    def fail(*args):
        raise ZeroDivisionError

    texts = []
    for each in (loop, asyncio.new_event_loop()):
        each.set_debug(debug)
        reported = []
        each.set_exception_handler(
            lambda loop, context, reported=reported: reported.append(context)
        )
        handle = each.call_soon(fail, 1, "two")
        turn(each)
        texts.append((repr(handle).partition(" created at ")[0], reported[0]["message"]))
        each.close()
    assert texts[0] == texts[1]


def test_names_that_others_read(loop):
    handle = loop.call_soon(callback, 1)
    assert handle._callback is callback
    assert handle._args == (1,)
    assert handle._loop is loop
    assert handle._cancelled is False
    assert handle._source_traceback is None
    turn(loop)


def test_weak_reference(loop):
    handle = loop.call_soon(callback)
    gone = weakref.ref(handle)
    assert gone() is handle
    del handle
    turn(loop)
    assert gone() is None


def test_asyncios_handle_can_be_added(loop):
    called = []
    loop._add_callback(asyncio.Handle(called.append, (1,), loop))
    turn(loop)
    assert called == [1]
