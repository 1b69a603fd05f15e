"""Puts the loop under test wherever CPython's asyncio tests make an event loop.

``bind(name)`` is called in a worker before any test module is imported. From then on these give
the loop under test:

* ``asyncio.new_event_loop()``, ``asyncio.run()``, ``asyncio.Runner()`` and
  ``unittest.IsolatedAsyncioTestCase``, which all ask the default policy;
* ``asyncio.DefaultEventLoopPolicy().new_event_loop()``, the policy itself;
* ``asyncio.SelectorEventLoop(...)`` (a selector given to it is closed and forgotten: the loop
  under test has a poller of its own) and, from Python 3.13 on, ``asyncio.EventLoop``;
* ``asyncio.BaseEventLoop()``, under that name, as test_pep492 and test_runners spell it.

Three things stay stock on purpose:

* ``asyncio.base_events.BaseEventLoop``, and so the loops whose internals test_base_events examines.
  The ``TestLoop`` of ``test.test_asyncio.utils`` is one too. It is a foreign loop on which the tasks
  and futures under test have to work as well;
* the other base classes that test_selector_events and test_proactor_events examine;
* Python processes that a test starts afresh.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import itertools
import os
from collections.abc import Callable
from typing import Any

LOOPS = ("hoop", "sim", "uvloop", "asyncio")


@dataclasses.dataclass(frozen=True)
class Subject:
    """The classes under test: a loop, and the task and future classes that go with it."""

    name: str
    loop_class: type[asyncio.AbstractEventLoop]
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    task: type
    future: type


def load(name: str) -> Subject:
    """Import the subject called ``name``, one of ``LOOPS``, without binding it anywhere."""
    if name == "asyncio":
        loop_class = asyncio.SelectorEventLoop
        return Subject(name, loop_class, loop_class, asyncio.Task, asyncio.Future)
    if name == "sim":
        return _simulated()
    module: Any = importlib.import_module(name)
    if name == "uvloop":
        return Subject(name, module.Loop, module.new_event_loop, asyncio.Task, asyncio.Future)
    return Subject(name, module.EventLoop, module.new_event_loop, module.Task, module.Future)


# The tests that a simulation cannot pass: part of a test's id, and the reason.
APART_IN_SIMULATION = {
    "EventTests.test_wait": "states the order of tasks that one call has woken",
    "ConditionTests.test_wait": "states the order of tasks that one call has woken",
    "ConditionTests.test_notify": "states the order of tasks that one call has woken",
    "SemaphoreTests.test_acquire_fifo_order_": "states the order of tasks that one call has woken",
    "LockTests.test_cancel_release_race": "states the turn in which a woken task takes the lock",
    "RunCoroutineThreadsafeTests": "blocks a thread until the loop has done something",
    "RunnerTests.test_interrupt_call_soon": "waits for a signal",
}


def _simulated() -> Subject:
    """hoop's loop of a simulation. Wherever it may, it changes the order in which ready tasks run."""
    hoop: Any = importlib.import_module("hoop")
    seeds = itertools.count(int(os.environ.get("SIM_SEED", "0")))

    def new_loop() -> asyncio.AbstractEventLoop:
        return hoop.sim.SimEventLoop(next(seeds), os.environ.get("SIM_ORDER", "wakes"))

    return Subject("sim", hoop.sim.SimEventLoop, new_loop, hoop.Task, hoop.Future)


def bind(name: str) -> Subject:
    """Make every entry point that creates a loop create the one called ``name``."""
    subject = load(name)
    if name != "asyncio":
        _redirect(subject)
        _make_tests_close_foreign_loops()
    _check(subject)
    return subject


def _redirect(subject: Subject) -> None:
    # getattr and setattr: type checkers rightly object to rebinding a library's names.
    policy: Any = asyncio.DefaultEventLoopPolicy
    policy._loop_factory = staticmethod(subject.new_loop)
    asyncio.set_event_loop_policy(None)
    places: tuple[Any, ...] = (asyncio, asyncio.unix_events)
    for place in places:
        place.SelectorEventLoop = _stand_in("SelectorEventLoop", subject.loop_class)
        if hasattr(place, "EventLoop"):
            place.EventLoop = subject.loop_class
    places[0].BaseEventLoop = _stand_in("BaseEventLoop", _patient(subject.loop_class))


def _patient(loop_class: Any) -> type[asyncio.AbstractEventLoop]:
    """A subclass whose loops may be treated as tests treat a bare ``BaseEventLoop``.

    To make a working loop of that, tests set attributes on it and mock the two methods that it
    leaves to its subclasses. A loop under test that has those methods goes on using its own.
    """

    class BaseEventLoop(loop_class):  # type: ignore[misc]
        __module__ = loop_class.__module__

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("_process_events", "_write_to_self") and hasattr(loop_class, name):
                value.side_effect = getattr(super(), name)
            super().__setattr__(name, value)

    return BaseEventLoop


def _stand_in(name: str, loop_class: type[asyncio.AbstractEventLoop]) -> type:
    """A class to call and to test instances against, that makes loops of ``loop_class``."""

    class Meta(type):
        def __call__(cls, selector: Any = None) -> asyncio.AbstractEventLoop:
            if selector is not None:
                selector.close()
            return loop_class()

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, loop_class)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, loop_class)

    return Meta(name, (), {})


def _make_tests_close_foreign_loops() -> None:
    """Let the tests' shared clean-up close a loop that keeps its executor to itself."""
    utils: Any = importlib.import_module("test.test_asyncio.utils")
    stock_close_loop = utils.TestCase.close_loop

    def close_loop(loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(loop, "_default_executor"):
            stock_close_loop(loop)
            return
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    utils.TestCase.close_loop = staticmethod(close_loop)


def _check(subject: Subject) -> None:
    """Raise unless every way to make a loop makes the subject's: no result may be hollow."""
    package: Any = asyncio
    names = ["new_event_loop", "SelectorEventLoop"]
    if subject.name != "asyncio":
        names.append("BaseEventLoop")
    if hasattr(package, "EventLoop"):
        names.append("EventLoop")
    makers = {name: getattr(package, name) for name in names}
    makers["DefaultEventLoopPolicy"] = package.DefaultEventLoopPolicy().new_event_loop
    for name, make in makers.items():
        loop = make()
        loop.close()
        if not isinstance(loop, subject.loop_class):
            raise RuntimeError(f"asyncio.{name} still makes {type(loop)}")
    with asyncio.Runner() as runner:
        if not isinstance(runner.get_loop(), subject.loop_class):
            raise RuntimeError(f"asyncio.Runner still makes {type(runner.get_loop())}")
    asyncio.set_event_loop_policy(None)
