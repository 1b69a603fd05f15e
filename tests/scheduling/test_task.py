"""Tasks: their steps, names, contexts and awaits. Cancelling is in test_task_cancel.py."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import gc
import io
import sys
import types
import weakref

import pytest
from peers import same_as_asyncio

import hoop


class Seen(Exception):
    """An exception of our own."""


variable = contextvars.ContextVar("variable", default="outside")


async def nothing():
    """End at once."""


async def answer():
    """End with a result, one turn later."""
    await asyncio.sleep(0)
    return 42


# ---- what it is ----


def test_create_task_gives_a_native_task(run):
    async def main():
        task = asyncio.create_task(nothing())
        await task
        assert type(task) is hoop.Task

    run(main())


def test_is_an_instance_of_asyncios(run):
    async def main():
        task = asyncio.current_task()
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert asyncio.isfuture(task)

    run(main())


def test_generic_alias():
    assert isinstance(hoop.Task[int], types.GenericAlias)


def test_weak_reference_and_attributes(run):
    async def main():
        task = asyncio.current_task()
        task.colour = "red"
        assert weakref.ref(task)().colour == "red"

    run(main())


@pytest.mark.parametrize("wrong", [None, 5, print, nothing, object()])
def test_what_is_no_coroutine(loop, wrong):
    with pytest.raises(TypeError, match="a coroutine was expected, got"):
        hoop.Task(wrong, loop=loop)


def test_result(run):
    async def main():
        task = asyncio.create_task(answer())
        assert await task == 42
        assert (task.done(), task.result(), task.exception()) == (True, 42, None)

    run(main())


def test_exception(run):
    async def main():
        async def fails():
            raise Seen("it")

        task = asyncio.create_task(fails())
        with pytest.raises(Seen, match="it"):
            await task
        assert type(task.exception()) is Seen

    run(main())


def test_result_and_exception_cannot_be_set(run):
    async def main():
        task = asyncio.current_task()
        with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
            task.set_result(1)
        with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
            task.set_exception(Seen())

    run(main())


def test_does_not_begin_before_the_next_turn(run):
    async def main():
        began = []

        async def child():
            began.append(1)

        task = asyncio.create_task(child())
        assert began == []
        await asyncio.sleep(0)
        assert began == [1]
        await task

    run(main())


def test_constructor_on_a_closed_loop(new_loop):
    loop = new_loop()
    loop.close()
    coro = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        hoop.Task(coro, loop=loop)
    coro.close()


def test_create_task_on_a_closed_loop(new_loop):
    loop = new_loop()
    loop.close()
    coro = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_not_initialized():
    empty = hoop.Task.__new__(hoop.Task)
    with pytest.raises(RuntimeError, match=r"Future object is not initialized\."):
        empty.get_loop()
    with pytest.raises(RuntimeError, match=r"Future object is not initialized\."):
        empty.cancel()


def test_initializing_twice_does_no_harm(python):
    code = """
        import asyncio, gc, hoop

        async def coro():
            return 5

        loop = hoop.new_event_loop()
        task = hoop.Task(coro(), loop=loop)
        try:
            task.__init__(coro(), loop=loop)
        except RuntimeError:
            pass
        gc.collect()
        print(len(asyncio.all_tasks(loop)), loop.run_until_complete(task))
        loop.close()
        """
    assert python(code, "-W", "ignore") == "1 5\n"


# ---- subclasses ----


def test_subclass(run):
    class Marked(hoop.Task):
        def __init__(self, coro, *, loop):
            super().__init__(coro, loop=loop, name="marked")
            self.mark = "x"

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **_: Marked(coro, loop=loop))
        task = asyncio.create_task(answer())
        assert await task == 42
        assert (type(task), task.mark, task.get_name()) == (Marked, "x", "marked")

    run(main())


@pytest.mark.parametrize("way", ["loop", "asyncio", "hoop", "group"])
def test_a_factory_gets_the_keywords_that_asyncio_gives_it(loop, way):
    """From Python 3.13.3 on all that create_task() was given, also what no task takes."""

    async def script(loop):
        given = []

        def factory(loop, coro, **keywords):
            given.append({key: value for key, value in keywords.items() if value is not None})
            return asyncio.Task(coro, loop=loop)

        async def create(library):
            async with library.TaskGroup() as group:
                makers = {"loop": loop, "asyncio": asyncio, "hoop": library, "group": group}
                coro = answer()
                try:
                    assert await makers[way].create_task(coro, name="n", mark=3) == 42
                except TypeError as exc:
                    coro.close()
                    return str(exc).rpartition("got")[2]
            return None

        library = hoop if isinstance(loop, hoop.EventLoop) else asyncio
        refused = await create(library)
        loop.set_task_factory(factory)
        return refused, await create(library), given

    refused, _, given = same_as_asyncio(loop, script)
    assert refused == " an unexpected keyword argument 'mark'"
    assert given == ([{"name": "n", "mark": 3}] if sys.version_info >= (3, 13, 3) else [])


def test_subclass_that_overrides_what_it_inherits(run):
    class Louder(hoop.Task):
        def result(self):
            return super().result() + 1

        def cancel(self, msg=None):
            return super().cancel("louder")

    async def main():
        loop = asyncio.get_running_loop()
        task = Louder(answer(), loop=loop)
        await task
        assert task.result() == 43
        cancelled = Louder(asyncio.sleep(100), loop=loop)
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError, match="louder"):
            await cancelled

    run(main())


def test_coroutine_like_object(run):
    class Custom(collections.abc.Coroutine):
        def __init__(self):
            self.sent = []

        def send(self, value):
            self.sent.append(value)
            if len(self.sent) == 3:
                raise StopIteration("end")

        def throw(self, *args):
            raise AssertionError

        def close(self):
            pass

        def __await__(self):
            return self

    custom = Custom()

    async def main():
        return await asyncio.create_task(custom)

    assert run(main()) == "end"
    assert custom.sent == [None, None, None]


# ---- the current task ----


def test_current_task_at_every_step(run):
    async def main():
        async def child():
            me = asyncio.current_task()
            for wait in (asyncio.sleep(0), asyncio.sleep(0.0001), future, nothing()):
                await wait
                assert asyncio.current_task() is me
            return me

        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        tasks = [asyncio.create_task(child()), asyncio.create_task(child())]
        assert await asyncio.gather(*tasks) == tasks

    run(main())


def test_no_current_task_in_a_handle(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        for schedule in (loop.call_soon, loop.call_soon_threadsafe):
            schedule(lambda: seen.append(asyncio.current_task()))
        loop.call_at(0, lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == [None] * 3

    run(main())


def test_no_current_task_in_a_done_callback(run):
    async def main():
        seen = []
        task = asyncio.create_task(answer())
        task.add_done_callback(lambda _: seen.append(asyncio.current_task()))
        await task
        await asyncio.sleep(0)
        assert seen == [None]

    run(main())


def test_no_current_task_between_runs(loop):
    loop.run_until_complete(answer())
    assert asyncio.current_task(loop) is None


def test_no_current_task_after_an_interrupted_run(loop):
    async def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted())
    assert asyncio.current_task(loop) is None


def test_current_task_of_another_loop(run, new_loop):
    other = new_loop()

    async def main():
        assert asyncio.current_task(other) is None

    run(main())


def test_current_task_in_a_callback_run_by_a_reader(run):
    import socket

    async def main():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        seen = loop.create_future()

        def readable():
            seen.set_result(asyncio.current_task())
            loop.remove_reader(a)

        loop.add_reader(a, readable)
        b.send(b"x")
        assert await seen is None
        a.close()
        b.close()

    run(main())


# ---- all tasks ----


def test_all_tasks(run):
    async def main():
        task = asyncio.create_task(answer())
        assert asyncio.all_tasks() == {asyncio.current_task(), task}
        await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_all_tasks_of_a_loop_that_is_not_running(loop):
    task = loop.create_task(answer())
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_keeps_loops_apart(run, new_loop):
    other = new_loop()
    theirs = other.create_task(answer())

    async def main():
        assert theirs not in asyncio.all_tasks()

    run(main())
    other.run_until_complete(theirs)


def test_task_without_another_reference_ends(run):
    async def main():
        ended = []

        async def child():
            waiting = asyncio.get_running_loop().create_future()
            handles.append(asyncio.get_running_loop().call_soon(lambda: gc.collect()))
            asyncio.get_running_loop().call_soon(waiting.set_result, None)
            await waiting
            ended.append(1)

        handles = []
        asyncio.get_running_loop().create_task(child())
        for _ in range(5):
            await asyncio.sleep(0)
        assert ended == [1]

    run(main())


def test_task_waiting_for_a_future_that_nobody_holds_is_kept(run):
    async def main():
        async def forever():
            await asyncio.get_running_loop().create_future()

        gone = weakref.ref(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        gc.collect()
        assert gone() in asyncio.all_tasks()
        gone().cancel()

    run(main())


def test_ended_task_is_let_go(run):
    async def main():
        gone = weakref.ref(asyncio.create_task(nothing()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gone() is None

    run(main())


# ---- names ----


def test_name(loop):
    task = loop.create_task(answer(), name="it")
    assert task.get_name() == "it"
    task.set_name("another")
    assert task.get_name() == "another"
    loop.run_until_complete(task)


def test_name_that_is_no_string(loop):
    task = loop.create_task(answer(), name=5)
    assert task.get_name() == "5"
    task.set_name([1])
    assert task.get_name() == "[1]"
    loop.run_until_complete(task)


def test_automatic_names_count(loop):
    tasks = [loop.create_task(nothing()) for _ in range(3)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in reversed(tasks)]
    assert numbers == [numbers[0], numbers[0] - 1, numbers[0] - 2]
    loop.run_until_complete(asyncio.wait(tasks))


# ---- contexts ----


def test_runs_in_a_copy_of_the_context(run):
    async def main():
        variable.set("parent")

        async def child():
            assert variable.get() == "parent"
            variable.set("child")
            await asyncio.sleep(0)
            assert variable.get() == "child"

        await asyncio.create_task(child())
        assert variable.get() == "parent"

    run(main())


def test_runs_in_the_given_context(run):
    async def main():
        context = contextvars.copy_context()

        async def child():
            await asyncio.sleep(0)
            variable.set("child")

        task = asyncio.create_task(child(), context=context)
        assert task.get_context() is context
        await task
        assert context[variable] == "child"
        assert variable.get() == "outside"

    run(main())


@pytest.mark.parametrize("eager", [False, True])
def test_what_is_no_context_is_refused(run, eager):
    async def main():
        loop = asyncio.get_running_loop()
        for wrong in (5, {}, "x", contextvars.Context):
            coro = asyncio.sleep(0)
            text = f"a contextvars.Context was expected, got {type(wrong).__name__}"
            with pytest.raises(TypeError, match=f"^{text}$"):
                hoop.Task(coro, loop=loop, context=wrong, eager_start=eager)
            with pytest.raises(TypeError, match=f"^{text}$"):
                loop.create_task(coro, context=wrong)
            coro.close()
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_two_tasks_share_a_context(run):
    async def main():
        context = contextvars.copy_context()
        seen = []

        async def child(value):
            seen.append(variable.get())
            variable.set(value)
            await asyncio.sleep(0)
            seen.append(variable.get())

        tasks = [asyncio.create_task(child(value), context=context) for value in "ab"]
        await asyncio.gather(*tasks)
        assert seen == ["outside", "a", "b", "b"]

    run(main())


def test_own_context_is_entered_again_after_waiting_for_an_asyncio_future(run):
    async def main():
        async def child(i):
            variable.set(i)
            future = asyncio.Future()
            asyncio.get_running_loop().call_soon(future.set_result, i)
            assert await future == variable.get() == i

        await asyncio.gather(*[child(i) for i in range(4)])

    run(main())


# ---- awaiting ----


def test_await_itself(run):
    async def main():
        with pytest.raises(RuntimeError, match="Task cannot await on itself"):
            await asyncio.current_task()

    run(main())


@pytest.mark.parametrize("wrong", [1, "text", object()])
def test_bad_yield(run, wrong):
    class Yields:
        def __await__(self):
            yield wrong

    async def main():
        with pytest.raises(RuntimeError, match="Task got bad yield"):
            await Yields()

    run(main())


def test_yield_of_a_generator(run):
    class Yields:
        def __await__(self):
            yield (x for x in "a")

    async def main():
        with pytest.raises(
            RuntimeError, match="yield was used instead of yield from for generator"
        ):
            await Yields()

    run(main())


def test_stop_iteration_in_a_coroutine(run):
    async def main():
        async def stops():
            raise StopIteration(1)

        with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
            await asyncio.create_task(stops())

    run(main())


def test_generator_exit_in_a_coroutine(loop):
    async def leaves():
        raise GeneratorExit

    with pytest.raises(GeneratorExit):
        loop.run_until_complete(loop.create_task(leaves()))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task_leaves_the_loop(loop, kind):
    async def interrupted():
        raise kind("it")

    task = loop.create_task(interrupted())
    with pytest.raises(kind, match="it"):
        loop.run_forever()
    assert type(task.exception()) is kind


def test_await_asyncios_future(run):
    async def main():
        future = asyncio.Future()
        assert type(future) is not hoop.Future
        asyncio.get_running_loop().call_soon(future.set_result, "x")
        assert await future == "x"
        failed = asyncio.Future()
        asyncio.get_running_loop().call_soon(failed.set_exception, Seen("y"))
        with pytest.raises(Seen, match="y"):
            await failed

    run(main())


def test_await_a_future_of_any_class(run):
    class Duck:
        _asyncio_future_blocking = False

        def __init__(self, loop):
            self.loop, self.callbacks, self.finished = loop, [], False

        def get_loop(self):
            return self.loop

        def add_done_callback(self, callback, *, context=None):
            self.loop.call_soon(self.end)
            self.callbacks.append((callback, context))

        def end(self):
            self.finished = True
            for callback, context in self.callbacks:
                self.loop.call_soon(callback, self, context=context)

        def result(self):
            return "quack"

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self
            return self.result()

    async def main():
        return await Duck(asyncio.get_running_loop())

    assert run(main()) == "quack"


def test_future_of_any_class_whose_add_done_callback_raises(loop, logged):
    class Broken:
        _asyncio_future_blocking = True

        def get_loop(self):
            return loop

        def add_done_callback(self, callback, *, context=None):
            raise Seen("broken")

        def __await__(self):
            yield self

    async def waits():
        await Broken()

    task = loop.create_task(waits())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert "Seen: broken" in logged.text
    assert not task.done()
    task._log_destroy_pending = False


# ---- dropping ----


def test_exception_that_nobody_has_seen_is_loud(run, logged):
    async def main():
        async def fails():
            raise Seen("lost")

        asyncio.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())
    gc.collect()
    assert logged.messages[0].startswith("Task exception was never retrieved")
    assert "Seen: lost" in logged.text


def test_destroyed_but_pending(new_loop, logged):
    loop = new_loop()

    async def forever():
        await loop.create_future()

    loop.create_task(forever(), name="forgotten")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    gc.collect()
    assert logged.messages[0].startswith("Task was destroyed but it is pending!")
    assert "name='forgotten'" in logged.messages[0]


def test_destroyed_but_pending_can_be_silenced(new_loop):
    loop = new_loop()

    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


# ---- how it looks ----


def test_repr_of_a_pending_task(run):
    async def main():
        task = asyncio.create_task(asyncio.sleep(0), name="it")
        assert repr(task).startswith("<Task pending name='it' coro=<sleep() running at ")
        await task

    run(main())


def test_repr_as_asyncios(run):
    async def main():
        loop = asyncio.get_running_loop()

        async def coro():
            await loop.create_future()

        async def fails():
            raise Seen("it")

        pairs = []
        for make in (coro, coro, nothing, answer, fails):
            ours = hoop.Task(make(), loop=loop, name="it")
            theirs = asyncio.Task(make(), loop=loop, name="it")
            pairs.append((ours, theirs))
        assert [repr(a) for a, _ in pairs] == [repr(b) for _, b in pairs]
        for _ in range(3):
            await asyncio.sleep(0)
        assert [repr(a) for a, _ in pairs] == [repr(b) for _, b in pairs]
        assert "wait_for=<Future pending cb=[Task.task_wakeup()]>" in repr(pairs[0][0])
        for task in pairs[0] + pairs[1]:
            task.cancel()
        await asyncio.sleep(0)
        assert repr(pairs[0][0]) == repr(pairs[0][1])
        for task in pairs[4]:
            task.exception()

    run(main())


def test_stack(run):
    async def main():
        async def waits():
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["waits"]
        out = io.StringIO()
        task.print_stack(file=out)
        assert "in waits" in out.getvalue()
        task.cancel()

    run(main())


def test_coroutine_of_a_task(loop):
    coro = answer()
    task = loop.create_task(coro)
    assert task.get_coro() is coro
    assert task.get_loop() is loop
    loop.run_until_complete(task)
    assert task.get_coro() is coro
