"""hoop.run, hoop.Runner, the policy and the factories."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading

import pytest

import hoop


async def kind_of_loop() -> type:
    """The class of the running loop."""
    return type(asyncio.get_running_loop())


# ---- run ----


def test_run_returns_the_result():
    assert hoop.run(asyncio.sleep(0, 5)) == 5


def test_run_raises():
    async def fails():
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        hoop.run(fails())


def test_run_uses_a_hoop_loop():
    assert hoop.run(kind_of_loop()) is hoop.EventLoop


def test_run_with_another_loop_factory():
    assert hoop.run(kind_of_loop(), loop_factory=asyncio.SelectorEventLoop) is not hoop.EventLoop


def test_run_in_debug_mode():
    async def debug():
        return asyncio.get_running_loop().get_debug()

    assert hoop.run(debug(), debug=True) is True
    assert hoop.run(debug(), debug=False) is False


def test_run_within_a_run():
    async def main():
        coro = asyncio.sleep(0)
        with pytest.raises(
            RuntimeError,
            match=r"hoop\.run\(\) cannot be called from a running event loop: use `await` .* Jupyter",
        ):
            hoop.run(coro)
        coro.close()

    hoop.run(main())


def test_run_within_asyncios_run():
    async def main():
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            hoop.run(coro)
        coro.close()

    asyncio.run(main())


def test_asyncios_run_within_a_run():
    async def main():
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            asyncio.run(coro)
        coro.close()

    hoop.run(main())


def test_run_in_a_thread_within_a_run():
    async def main():
        return await asyncio.to_thread(hoop.run, asyncio.sleep(0, 5))

    assert hoop.run(main()) == 5


@pytest.mark.parametrize("wrong", [None, 5, "text"])
def test_run_of_what_is_no_coroutine(wrong):
    with pytest.raises((ValueError, TypeError)) as caught:
        hoop.run(wrong)
    with pytest.raises(type(caught.value)) as expected:
        asyncio.run(wrong)
    assert str(caught.value) == str(expected.value)


def test_run_closes_the_loop():
    async def main():
        return asyncio.get_running_loop()

    assert hoop.run(main()).is_closed()


def test_run_cancels_what_is_left():
    ended = []

    async def forgotten():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append(1)
            raise

    async def main():
        asyncio.get_running_loop().create_task(forgotten())
        await asyncio.sleep(0)

    hoop.run(main())
    assert ended == [1]


def test_run_reports_what_fails_while_it_is_cancelled(logged):
    async def stubborn():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise KeyError("late") from None

    async def main():
        asyncio.get_running_loop().create_task(stubborn())
        await asyncio.sleep(0)

    hoop.run(main())
    assert logged.messages[0].startswith("unhandled exception during asyncio.run() shutdown")


def test_run_closes_asynchronous_generators():
    closed = []

    async def numbers():
        try:
            yield 1
        finally:
            closed.append(1)

    async def main():
        kept.append(numbers())
        await anext(kept[0])

    kept = []
    hoop.run(main())
    assert closed == [1]


def test_run_joins_the_default_executor():
    async def main():
        await asyncio.to_thread(int)
        return threading.active_count()

    before = threading.active_count()
    assert hoop.run(main()) > before
    assert threading.active_count() == before


def test_run_leaves_no_current_loop():
    hoop.run(asyncio.sleep(0))
    assert asyncio._get_running_loop() is None


# ---- Runner ----


def test_runner_keeps_its_loop():
    with hoop.Runner() as runner:
        loops = {id(runner.run(current_loop())) for _ in range(3)}
        assert loops == {id(runner.get_loop())}


async def current_loop():
    """The running loop."""
    return asyncio.get_running_loop()


def test_runner_keeps_its_context():
    variable = contextvars.ContextVar("variable", default="outside")

    async def sets():
        variable.set("inside")

    async def gets():
        return variable.get()

    with hoop.Runner() as runner:
        runner.run(sets())
        assert runner.run(gets()) == "inside"
        assert runner.run(gets(), context=contextvars.Context()) == "outside"
    assert variable.get() == "outside"


def test_runner_is_asyncios_kind():
    with hoop.Runner() as runner:
        assert isinstance(runner, asyncio.Runner)
        assert type(runner.get_loop()) is hoop.EventLoop


def test_asyncios_runner_takes_our_factory():
    for factory in (hoop.new_event_loop, hoop.EventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(kind_of_loop()) is hoop.EventLoop


def test_closed_runner():
    runner = hoop.Runner()
    runner.run(asyncio.sleep(0))
    runner.close()
    coro = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.run(coro)
    coro.close()


def test_runner_in_a_thread():
    results = []

    def work():
        with hoop.Runner() as runner:
            results.append(runner.run(asyncio.sleep(0.001, "x")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == ["x"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory since 3.12")
def test_asyncios_run_takes_our_factory():
    assert asyncio.run(kind_of_loop(), loop_factory=hoop.new_event_loop) is hoop.EventLoop


def test_isolated_asyncio_test_case():
    import unittest

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(hoop.new_event_loop)

        async def test(self):
            if sys.version_info >= (3, 13):
                assert type(asyncio.get_running_loop()) is hoop.EventLoop
            await asyncio.sleep(0)

    result = unittest.TestResult()
    Case("test").run(result)
    assert (result.errors, result.failures) == ([], [])
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(None)  # it had one set


# ---- the policy ----

IGNORE_DEPRECATION = "ignore:'asyncio.*[pP]olicy' is deprecated:DeprecationWarning"


@pytest.fixture
def policy():
    """Our policy, set for the test."""
    asyncio.set_event_loop_policy(hoop.EventLoopPolicy())
    yield
    asyncio.set_event_loop_policy(None)


@pytest.mark.filterwarnings(IGNORE_DEPRECATION)
def test_policy_makes_hoop_loops(policy):
    assert asyncio.run(kind_of_loop()) is hoop.EventLoop
    loop = asyncio.new_event_loop()
    assert type(loop) is hoop.EventLoop
    loop.close()


@pytest.mark.filterwarnings(IGNORE_DEPRECATION)
def test_policy_current_loop(policy):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop_policy().get_event_loop() is loop
    loop.close()


def test_importing_changes_nothing_of_asyncio(python):
    code = """
        import asyncio, asyncio.tasks, asyncio.events, sys
        policy = asyncio.get_event_loop_policy()
        before = {m: dict(vars(sys.modules[m])) for m in list(sys.modules) if m.startswith("asyncio")}
        import hoop
        changed = [
            (m, n) for m, names in before.items() for n, v in names.items()
            if vars(sys.modules[m]).get(n) is not v
        ]
        assert asyncio.get_event_loop_policy() is policy
        print(changed, asyncio.run(asyncio.sleep(0, "stock")))
        """
    assert python(code) == "[] stock\n"


# ---- task factories ----


def test_eager_task_factory(run):
    async def main():
        asyncio.get_running_loop().set_task_factory(hoop.eager_task_factory)
        began = []

        async def child():
            began.append(asyncio.current_task())

        task = asyncio.create_task(child(), name="eager")
        assert began == [task]
        assert task.get_name() == "eager"

    run(main())


def test_eager_task_factory_with_the_usual_helpers(run):
    async def main():
        asyncio.get_running_loop().set_task_factory(hoop.eager_task_factory)
        assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, i)) for i in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert await asyncio.wait_for(asyncio.sleep(0, 3), 10) == 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.001)

    run(main())


def test_module_exports():
    assert set(hoop.__all__) <= set(dir(hoop))
    done = subprocess.run(
        [sys.executable, "-c", "from hoop import *; print(run, Task)"],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert b"hoop" in done.stdout
