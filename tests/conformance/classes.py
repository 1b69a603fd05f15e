"""Adds to CPython's test modules the classes that exercise hoop's own Task, Future and loop.

CPython writes its task and future tests once, in base classes. Subclasses such as
``CTask_CFuture_Tests`` apply them to its C and its Python implementation. ``add`` does the same for
the task and future under test, under names with ``Hoop`` in them. Where the C subclass has tests of
its own (for typical errors of native code), ``add`` extends the C subclass. The tests of
``BaseEventLoop`` are applied to the loop under test in the same way.
"""

from __future__ import annotations

import asyncio
import importlib
import unittest
from asyncio import futures, tasks
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

from bind import Subject

PY_TASK: type = tasks._PyTask  # type: ignore[attr-defined]
PY_FUTURE: type = futures._PyFuture  # type: ignore[attr-defined]


def add(module: Any, subject: Subject) -> None:
    """Add to a test module the classes for what is under test, if it is a module that has any."""
    adder = _ADDERS.get(module.__name__.rpartition(".")[2])
    if adder is not None:
        adder(module, subject)


def _define(module: ModuleType, name: str, bases: tuple[type, ...], **namespace: Any) -> type:
    namespace |= {"__module__": module.__name__, "__qualname__": name}
    cls = type(name, bases, namespace)
    setattr(module, name, cls)
    return cls


def _add_to_test_tasks(module: Any, subject: Subject) -> None:
    task, future = subject.task, subject.future
    base = (module.BaseTaskTests, module.test_utils.TestCase)

    def define(name: str, bases: tuple[type, ...], task: type, future: type) -> type:
        like = module.PyTask_PyFuture_Tests if task is PY_TASK else module.CTask_CFuture_Tests
        names = (
            "all_tasks",
            "current_task",
        )  # a class that tests tasks has these since Python 3.14
        found = {name: vars(like)[name] for name in names if name in vars(like)}
        return _define(module, name, bases, Task=task, Future=future, **found)

    define("HoopTask_HoopFuture_Tests", (module.CTask_CFuture_Tests,), task, future)
    define("HoopTask_CFuture_Tests", base, task, asyncio.Future)
    define("HoopTask_PyFuture_Tests", base, task, PY_FUTURE)
    define("CTask_HoopFuture_Tests", base, asyncio.Task, future)
    define("PyTask_HoopFuture_Tests", base, PY_TASK, future)
    for cls in (
        define("HoopTask_HoopFuture_SubclassTests", base, task, future),
        define("HoopTaskSubclass_PyFuture_Tests", base, task, PY_FUTURE),
        define("PyTask_HoopFutureSubclass_Tests", base, PY_TASK, future),
    ):
        module.add_subclass_tests(cls)

    def new_task(self: Any, coro: Any) -> Any:
        return task(coro, loop=self.loop)

    _define(
        module,
        "HoopCurrentLoopTests",
        (module.BaseCurrentLoopTests, module.test_utils.TestCase),
        current_task=staticmethod(asyncio.current_task),
        new_task=new_task,
    )
    for kind in ("Future", "Coroutine"):
        stock = getattr(module, f"{kind}GatherTests")
        _define(module, f"Hoop{kind}GatherTests", (stock,), setUp=_gather_set_up(stock, subject))
        set_up = _native_set_up(stock)
        _define(module, f"Native{kind}GatherTests", (stock,), setUp=set_up, new_test_loop=_loop_for)
    _add_native_functions(module, subject)


def _native_set_up(stock: Any) -> Callable[[Any], None]:
    def set_up(self: Any) -> None:
        _install(self)
        stock.setUp(self)

    return set_up


def _install(self: Any) -> None:
    """Put hoop's functions under asyncio's names for one test."""
    switch: Any = importlib.import_module("hoop")
    switch.install(loop=False)
    self.addCleanup(switch.uninstall)


def _loop_for(self: Any, gen: Any = None) -> Any:
    """A loop under test, unless the test counts the loop's readings of the clock."""
    if gen is not None:
        return importlib.import_module("test.test_asyncio.utils").TestCase.new_test_loop(self, gen)
    loop = asyncio.new_event_loop()
    self.set_event_loop(loop)
    return loop


def _add_native_functions(module: Any, subject: Subject) -> None:
    """The tests of functions on several tasks, on a loop that is the subject's, with native functions."""
    words = ("gather", "wait", "shield", "as_completed")

    def set_up(self: Any) -> None:
        module.test_utils.TestCase.setUp(self)
        _install(self)
        self.loop = self.new_test_loop()

    base = module.CTask_CFuture_Tests
    others = [
        name
        for name in dir(base)
        if name.startswith("test") and not any(word in name for word in words)
    ]
    _define(
        module,
        "NativeFunctionTests",
        (base,),
        setUp=set_up,
        new_test_loop=_loop_for,
        Task=subject.task,
        Future=subject.future,
        **dict.fromkeys(others),
    )


def _gather_set_up(stock: Any, subject: Subject) -> Callable[[Any], None]:
    def set_up(self: Any) -> None:
        stock.setUp(self)
        for loop in (self.one_loop, self.other_loop):
            loop.create_future = lambda loop=loop: subject.future(loop=loop)
            loop.set_task_factory(
                lambda loop, coro, **options: subject.task(coro, loop=loop, **options)
            )

    return set_up


def _add_to_test_futures(module: Any, subject: Subject) -> None:
    future = subject.future
    sub_future = type("HoopSubFuture", (future,), {})
    test_case = module.test_utils.TestCase

    def new(cls: Any) -> Callable[[Any], Any]:
        return lambda self: cls(loop=self.loop)

    _define(module, "HoopFutureTests", (module.CFutureTests,), cls=future)
    _define(module, "HoopSubFutureTests", (module.BaseFutureTests, test_case), cls=sub_future)
    base = (module.BaseFutureDoneCallbackTests, test_case)
    _define(module, "HoopFutureDoneCallbackTests", base, _new_future=new(future))
    _define(module, "HoopSubFutureDoneCallbackTests", base, _new_future=new(sub_future))
    base = (module.BaseFutureInheritanceTests, test_case)
    _define(module, "HoopFutureInheritanceTests", base, _get_future_cls=lambda self: future)


def _add_to_test_futures2(module: Any, subject: Subject) -> None:
    base = (module.FutureTests, unittest.IsolatedAsyncioTestCase)
    _define(module, "HoopFutureTests", base, cls=subject.task)


def _add_to_test_eager_task_factory(module: Any, subject: Subject) -> None:
    task = subject.task
    loop_tests = module.CEagerTaskFactoryLoopTests
    _define(module, "HoopEagerTaskFactoryLoopTests", (loop_tests,), Task=task)
    for kind in ("NonEager", "Eager"):
        base = (getattr(module, f"Base{kind}TaskFactoryTests"), module.test_utils.TestCase)
        _define(module, f"{kind}HoopTaskTests", base, Task=task)


def _add_to_test_base_events(module: Any, subject: Subject) -> None:
    def set_up(self: Any) -> None:
        module.test_utils.TestCase.setUp(self)
        # The subject's loop, by bind.py, with the attributes the tests expect to have set.
        self.loop = asyncio.BaseEventLoop()
        self.loop._selector = mock.Mock()
        self.loop._selector.select.return_value = ()
        self.set_event_loop(self.loop)

    _define(module, "HoopEventLoopTests", (module.BaseEventLoopTests,), setUp=set_up)


def _add_with_native_names(module: Any, subject: Subject) -> None:
    """Repeat every class of tests with what the subject has in place of asyncio's classes and functions."""
    own_names = subject.name in ("hoop", "sim")
    package: Any = importlib.import_module("hoop" if own_names else subject.name)
    replaced: list[str] = []
    if own_names:
        names = importlib.import_module("hoop.names")
        replaced = [name for group in names.REPLACED.values() for name in group]
    native = {getattr(asyncio, name): getattr(package, name) for name in replaced}

    def repeat(stock: Any) -> None:
        def set_up(self: Any) -> None:
            if own_names:
                package.install()
                self.addCleanup(package.uninstall)
            stock.setUp(self)

        attributes = {name: getattr(stock, name) for name in dir(stock)}
        ours = {n: native[v] for n, v in attributes.items() if isinstance(v, type) and v in native}
        _define(module, f"Hoop{stock.__name__}", (stock,), setUp=set_up, **ours)

    for stock in list(vars(module).values()):
        if isinstance(stock, type) and issubclass(stock, unittest.TestCase):
            repeat(stock)


_ADDERS: dict[str, Callable[[Any, Subject], None]] = {
    "test_tasks": _add_to_test_tasks,
    "test_futures": _add_to_test_futures,
    "test_futures2": _add_to_test_futures2,
    "test_eager_task_factory": _add_to_test_eager_task_factory,
    "test_base_events": _add_to_test_base_events,
    "test_locks": _add_with_native_names,
    "test_queues": _add_with_native_names,
    "test_streams": _add_with_native_names,
    "test_taskgroups": _add_with_native_names,
    "test_timeouts": _add_with_native_names,
    "test_waitfor": _add_with_native_names,
}
