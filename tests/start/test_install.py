"""hoop.install() makes hoop the loop of a process, and uninstall() gives asyncio everything back."""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.events
import logging
import sys
import threading
import traceback
import warnings

import pytest

import hoop
from hoop import names

PLACES = [(module, name) for module, found in names.REPLACED.items() for name in found]


def state() -> dict[str, object]:
    """Everything that install() may change."""
    found = {f"{module}.{name}": getattr(sys.modules[module], name) for module, name in PLACES}
    found |= {f"asyncio.{name}": getattr(asyncio, name) for _, name in PLACES}
    found["policy"] = asyncio.events._event_loop_policy
    found["run_forever"] = asyncio.base_events.BaseEventLoop.run_forever
    found["Runner._lazy_init"] = asyncio.Runner._lazy_init
    found["EventLoop"] = getattr(asyncio, "EventLoop", None)
    return found


@pytest.fixture
def undone():
    """A test that installs hoop; afterwards everything is as before."""
    asyncio.new_event_loop().close()  # makes asyncio's own policy, if there was none yet
    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        hoop.uninstall()
    assert state() == before


@pytest.fixture
def told():
    """The messages of the log `hoop`."""
    messages: list[tuple[int, str]] = []

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append((record.levelno, record.getMessage()))

    logger = logging.getLogger("hoop")
    handler, level, propagate = Handler(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture
def chosen(driver, monkeypatch):
    """The driver that loops have which are made without one."""
    monkeypatch.setenv("HOOP_DRIVER", driver)
    return driver


async def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_a_loop_that_runs_already_is_told(undone, told):
    async def main():
        hoop.install()
        hoop.install()

    stock = asyncio.new_event_loop()
    stock.run_until_complete(main())
    stock.close()
    assert [level for level, _ in told] == [logging.WARNING]
    assert "runs another loop" in told[0][1]


def test_no_warning_in_a_loop_of_hoops(undone, told, run):
    async def main():
        told.clear()
        hoop.install()

    run(main())
    assert told == []


def test_asyncio_run_runs_on_hoop(undone, chosen):
    hoop.install()
    loop = asyncio.run(running())
    assert type(loop) is hoop.EventLoop


def test_the_driver_is_the_chosen_one(undone, chosen):
    async def name():
        return asyncio.get_running_loop().driver

    hoop.install()
    assert asyncio.run(name()) == chosen


def test_runner_and_new_event_loop_make_hoop_s(undone, chosen):
    hoop.install()
    with asyncio.Runner() as runner:
        assert type(runner.run(running())) is hoop.EventLoop
    loop = asyncio.new_event_loop()
    assert type(loop) is hoop.EventLoop
    loop.close()
    loop = asyncio.events.new_event_loop()
    assert type(loop) is hoop.EventLoop
    loop.close()


def test_the_policy_makes_hoop_s(undone, chosen):
    hoop.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
    loop = policy.new_event_loop()
    assert type(loop) is hoop.EventLoop
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    loop.close()


def test_another_thread_gets_hoop_s(undone, chosen):
    hoop.install()
    kinds = []
    thread = threading.Thread(target=lambda: kinds.append(type(asyncio.run(running()))))
    thread.start()
    thread.join()
    assert kinds == [hoop.EventLoop]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.EventLoop came with 3.13")
def test_the_usual_loop_s_name_means_hoop_s(undone):
    hoop.install()
    assert asyncio.EventLoop is hoop.EventLoop


def test_the_loop_alone(undone):
    before = asyncio.Queue
    hoop.install(names=False)
    assert asyncio.Queue is before
    assert type(asyncio.run(running())) is hoop.EventLoop


def test_the_names_alone(undone):
    hoop.install(loop=False)
    assert asyncio.Queue is hoop.Queue
    assert type(asyncio.run(running())) is not hoop.EventLoop


def test_the_parts_one_after_the_other(undone):
    hoop.install(loop=False)
    hoop.install(names=False)
    hoop.install()
    assert asyncio.Queue is hoop.Queue
    assert type(asyncio.run(running())) is hoop.EventLoop


def test_neither_part_does_nothing():
    before = state()
    hoop.install(loop=False, names=False)
    assert state() == before


def test_it_takes_its_parts_by_name_only():
    with pytest.raises(TypeError):
        hoop.install(True)


def test_undone_the_loop_is_asyncio_s(undone):
    hoop.install()
    hoop.uninstall()
    assert type(asyncio.run(running())) is not hoop.EventLoop


def test_it_can_be_installed_again(undone):
    for _ in range(3):
        hoop.install()
        assert type(asyncio.run(running())) is hoop.EventLoop
        hoop.uninstall()
        assert type(asyncio.run(running())) is not hoop.EventLoop


def test_a_policy_set_meanwhile_stays(undone):
    before = asyncio.events._event_loop_policy
    hoop.install()
    mine = type(asyncio.events._event_loop_policy)()
    asyncio.events._event_loop_policy = mine
    hoop.uninstall()
    assert asyncio.events._event_loop_policy is mine
    asyncio.events._event_loop_policy = before


def test_installed_within_a_running_loop(undone, run):
    async def main():
        hoop.install()
        return await asyncio.create_task(running())

    assert type(run(main())) is hoop.EventLoop


def test_another_loop_is_told_once(undone, told):
    hoop.install()
    for _ in range(2):
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            assert type(runner.run(running())) is not hoop.EventLoop
    warned = [text for level, text in told if level == logging.WARNING]
    assert len(warned) == 1
    assert "_UnixSelectorEventLoop" in warned[0]
    assert "hoop.EventLoop" in warned[0]


def test_a_loop_that_is_not_asyncio_s_is_told(python):
    """uvicorn takes uvloop if that is installed, whose loop is not of asyncio's classes."""
    pytest.importorskip("uvloop")
    code = """
        import asyncio, logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        import hoop, uvloop
        hoop.install()
        for _ in range(2):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(asyncio.sleep(0))
        """
    warned = [line for line in python(code).splitlines() if "another loop" in line]
    assert len(warned) == 1
    assert warned[0].startswith("hoop WARNING ")
    assert "it has made a uvloop.Loop itself" in warned[0]


def test_a_runner_within_a_running_loop_is_refused_as_before(undone, told):
    async def main():
        coro = running()
        try:
            asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(coro)
        finally:
            coro.close()

    hoop.install()
    with pytest.raises(RuntimeError, match=r"cannot be called from a running event loop"):
        asyncio.run(main())
    assert [text for level, text in told if level == logging.WARNING] == []


def test_hoop_s_own_loop_is_no_other(undone, told, new_loop):
    hoop.install()
    asyncio.run(running(), **({"loop_factory": new_loop} if sys.version_info >= (3, 12) else {}))
    assert [text for level, text in told if level == logging.WARNING] == []


def test_the_first_loop_of_a_process_is_told(driver, python):
    code = f"""
        import asyncio, logging, sys
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
        import hoop
        loop = hoop.new_event_loop({driver!r})
        for _ in range(2):
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        hoop.run(asyncio.sleep(0), loop_factory=lambda: hoop.new_event_loop({driver!r}))
        """
    lines = [line for line in python(code).splitlines() if "runs in process" in line]
    assert len(lines) == 1
    assert lines[0].startswith("hoop hoop's event loop runs in process ")
    assert lines[0].endswith(f"with the driver {driver}")


def test_off_linux_it_warns_and_changes_nothing(monkeypatch):
    before = state()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.warns(RuntimeWarning, match="needs Linux"):
        hoop.install()
    hoop.uninstall()
    monkeypatch.undo()
    assert state() == before


def test_a_traceback_has_no_frame_of_the_switch(undone):
    """asyncio.run() with hoop's loop fails through the same functions before and after."""

    async def fails():
        raise ValueError("on purpose")

    def functions(**options):
        with (
            asyncio.Runner(**options) as runner,
            pytest.raises(ValueError, match="on purpose") as raised,
        ):
            runner.run(fails())
        frames = traceback.walk_tb(raised.value.__traceback__)
        return [frame.f_code.co_qualname for frame, _ in frames]

    before = functions(loop_factory=hoop.EventLoop)
    hoop.install()
    assert functions() == before
