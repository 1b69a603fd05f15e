"""hoop: a faster asyncio event loop for Linux, with asyncio's interface.

    import hoop

    hoop.run(main())  # was: asyncio.run(main())

Or change the import. Every name of asyncio is here too, and hoop's own stand where hoop has them:

    import hoop as asyncio

Or change nothing, and start the program with `python -m hoop program.py`. See also hoop.install().

Everything that runs for each callback, packet or task step is compiled to C.
"""

from __future__ import annotations

import asyncio  # first: importing _asyncio before it makes a second set of current tasks
import importlib
import logging
import os
import sys
import warnings
from asyncio import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AbstractEventLoop,
    AbstractServer,
    BaseEventLoop,
    BaseProtocol,
    BaseTransport,
    BrokenBarrierError,
    BufferedProtocol,
    CancelledError,
    DatagramProtocol,
    DatagramTransport,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    Protocol,
    QueueEmpty,
    QueueFull,
    ReadTransport,
    SelectorEventLoop,
    SendfileNotAvailableError,
    Server,
    StreamReaderProtocol,
    SubprocessProtocol,
    SubprocessTransport,
    TimeoutError,
    Transport,
    WriteTransport,
    _enter_task,
    _get_running_loop,
    _leave_task,
    _register_task,
    _set_running_loop,
    _unregister_task,
    all_tasks,
    create_subprocess_exec,
    create_subprocess_shell,
    current_task,
    ensure_future,
    get_event_loop,
    get_event_loop_policy,
    get_running_loop,
    iscoroutine,
    iscoroutinefunction,
    isfuture,
    set_event_loop,
    set_event_loop_policy,
    to_thread,
    wrap_future,
)
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

if sys.version_info >= (3, 12):
    from asyncio import create_eager_task_factory
if sys.version_info >= (3, 14):
    from asyncio import (
        FrameCallGraphEntry,
        FutureCallGraph,
        capture_call_graph,
        format_call_graph,
        future_add_to_awaited_by,
        future_discard_from_awaited_by,
        print_call_graph,
    )
elif sys.platform != "win32":
    from asyncio import (
        AbstractChildWatcher,
        AbstractEventLoopPolicy,
        DefaultEventLoopPolicy,
        FastChildWatcher,
        MultiLoopChildWatcher,
        PidfdChildWatcher,
        SafeChildWatcher,
        ThreadedChildWatcher,
        get_child_watcher,
        set_child_watcher,
    )

if TYPE_CHECKING:
    from hoop.installing import install, uninstall

_T = TypeVar("_T")

__version__ = "0.1.0"

# Type checkers see hoop's own names on every system.
if not TYPE_CHECKING and sys.platform != "linux":
    from asyncio import (
        Barrier,
        BoundedSemaphore,
        Condition,
        Event,
        Future,
        Handle,
        LifoQueue,
        Lock,
        PriorityQueue,
        Queue,
        Semaphore,
        StreamReader,
        StreamWriter,
        Task,
        TaskGroup,
        Timeout,
        TimerHandle,
        as_completed,
        create_task,
        gather,
        new_event_loop,
        open_connection,
        run_coroutine_threadsafe,
        shield,
        sleep,
        start_server,
        timeout,
        timeout_at,
        wait,
        wait_for,
    )
    from asyncio import (
        SelectorEventLoop as EventLoop,
    )

    if sys.version_info >= (3, 13):
        from asyncio import QueueShutDown
    else:

        class QueueShutDown(Exception):
            """Never raised here: on this Python asyncio's queues cannot be shut down."""

    if sys.platform != "win32":
        from asyncio import open_unix_connection, start_unix_server
    else:

        def open_unix_connection(*args: Any, **kwargs: Any) -> Any:
            """Raise RuntimeError: asyncio has no Unix sockets on this system."""
            raise RuntimeError(f"there are no Unix sockets on {sys.platform}")

        start_unix_server = open_unix_connection

    def _needs_linux(*args: Any, **kwargs: Any) -> Any:
        """Raise RuntimeError: hoop's files need its event loop, and that needs Linux."""
        raise RuntimeError(f"hoop's files need Linux, and this is {sys.platform}")

    BinaryFile = TextFile = Path = _needs_linux
    copy_file_range = fallocate = fdatasync = fstat = fsync = ftruncate = _needs_linux
    open = pread = preadv = pwrite = pwritev = _needs_linux
    read_bytes = read_text = write_bytes = write_text = _needs_linux
else:
    from hoop._c import load_core

    load_core()

    from hoop.loop import EventLoop, event_loop, new_event_loop
    from hoop.loop.running import create_task, sleep
    from hoop.scheduling.future import Future
    from hoop.scheduling.handle import Handle
    from hoop.scheduling.task import Task
    from hoop.scheduling.timers import TimerHandle

    event_loop.before_running.append("hoop.files")
    del event_loop

    if TYPE_CHECKING:
        # For type checkers. A running program imports these when it first asks for them (see _LATER).
        from asyncio import subprocess as subprocess

        from hoop import files as files
        from hoop import observe as observe
        from hoop import sim as sim
        from hoop.files.descriptors import (
            copy_file_range,
            fallocate,
            fdatasync,
            fstat,
            fsync,
            ftruncate,
            pread,
            preadv,
            pwrite,
            pwritev,
        )
        from hoop.files.file import BinaryFile, TextFile
        from hoop.files.opening import open as open
        from hoop.files.path import Path as Path
        from hoop.files.whole import read_bytes, read_text, write_bytes, write_text
        from hoop.loop.policy import EventLoopPolicy
        from hoop.streams.opening import (
            open_connection,
            open_unix_connection,
            start_server,
            start_unix_server,
        )
        from hoop.streams.reader import StreamReader
        from hoop.streams.writer import StreamWriter
        from hoop.sync.conditions import Barrier, Condition
        from hoop.sync.locks import BoundedSemaphore, Event, Lock, Semaphore
        from hoop.sync.queues import LifoQueue, PriorityQueue, Queue, QueueShutDown
        from hoop.together.gathering import gather, shield
        from hoop.together.groups import TaskGroup
        from hoop.together.threadsafe import run_coroutine_threadsafe
        from hoop.together.timeouts import Timeout, timeout, timeout_at
        from hoop.together.waiting import as_completed, wait, wait_for

# The module of each name that is imported when your program first asks for it. A program uses few of them,
# and they take time to import. Most that files need is there at the latest when a loop first runs.
_LATER = {
    "as_completed": "hoop.together.waiting",
    "Barrier": "hoop.sync.conditions",
    "BinaryFile": "hoop.files.file",
    "BoundedSemaphore": "hoop.sync.locks",
    "Condition": "hoop.sync.conditions",
    "Event": "hoop.sync.locks",
    "LifoQueue": "hoop.sync.queues",
    "Lock": "hoop.sync.locks",
    "Path": "hoop.files.path",
    "PriorityQueue": "hoop.sync.queues",
    "Queue": "hoop.sync.queues",
    "QueueShutDown": "hoop.sync.queues",
    "Semaphore": "hoop.sync.locks",
    "StreamReader": "hoop.streams.reader",
    "StreamWriter": "hoop.streams.writer",
    "TaskGroup": "hoop.together.groups",
    "TextFile": "hoop.files.file",
    "Timeout": "hoop.together.timeouts",
    "copy_file_range": "hoop.files.descriptors",
    "fallocate": "hoop.files.descriptors",
    "fdatasync": "hoop.files.descriptors",
    "fstat": "hoop.files.descriptors",
    "fsync": "hoop.files.descriptors",
    "ftruncate": "hoop.files.descriptors",
    "gather": "hoop.together.gathering",
    "install": "hoop.installing",
    "open": "hoop.files.opening",
    "open_connection": "hoop.streams.opening",
    "open_unix_connection": "hoop.streams.opening",
    "pread": "hoop.files.descriptors",
    "preadv": "hoop.files.descriptors",
    "pwrite": "hoop.files.descriptors",
    "pwritev": "hoop.files.descriptors",
    "read_bytes": "hoop.files.whole",
    "read_text": "hoop.files.whole",
    "run_coroutine_threadsafe": "hoop.together.threadsafe",
    "shield": "hoop.together.gathering",
    "start_server": "hoop.streams.opening",
    "start_unix_server": "hoop.streams.opening",
    "timeout": "hoop.together.timeouts",
    "timeout_at": "hoop.together.timeouts",
    "uninstall": "hoop.installing",
    "wait": "hoop.together.waiting",
    "wait_for": "hoop.together.waiting",
    "write_bytes": "hoop.files.whole",
    "write_text": "hoop.files.whole",
}

# Neither `open` nor `Path`: `from hoop import *` leaves the builtin and pathlib's class alone.
__all__ = [  # noqa: RUF022
    "ALL_COMPLETED",
    "AbstractChildWatcher",
    "AbstractEventLoop",
    "AbstractEventLoopPolicy",
    "AbstractServer",
    "Barrier",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BinaryFile",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "Condition",
    "DatagramProtocol",
    "DatagramTransport",
    "DefaultEventLoopPolicy",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "FastChildWatcher",
    "FrameCallGraphEntry",
    "Future",
    "FutureCallGraph",
    "Handle",
    "IncompleteReadError",
    "InvalidStateError",
    "LifoQueue",
    "LimitOverrunError",
    "Lock",
    "MultiLoopChildWatcher",
    "PidfdChildWatcher",
    "PriorityQueue",
    "Protocol",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReadTransport",
    "Runner",
    "SafeChildWatcher",
    "SelectorEventLoop",
    "Semaphore",
    "SendfileNotAvailableError",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubprocessProtocol",
    "SubprocessTransport",
    "Task",
    "TaskGroup",
    "TextFile",
    "ThreadedChildWatcher",
    "Timeout",
    "TimeoutError",
    "TimerHandle",
    "Transport",
    "WriteTransport",
    "_enter_task",
    "_get_running_loop",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "all_tasks",
    "as_completed",
    "capture_call_graph",
    "copy_file_range",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "fallocate",
    "fdatasync",
    "format_call_graph",
    "fstat",
    "fsync",
    "ftruncate",
    "future_add_to_awaited_by",
    "future_discard_from_awaited_by",
    "gather",
    "get_child_watcher",
    "get_event_loop",
    "get_event_loop_policy",
    "get_running_loop",
    "install",
    "iscoroutine",
    "iscoroutinefunction",
    "isfuture",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "pread",
    "preadv",
    "print_call_graph",
    "pwrite",
    "pwritev",
    "read_bytes",
    "read_text",
    "run",
    "run_coroutine_threadsafe",
    "set_child_watcher",
    "set_event_loop",
    "set_event_loop_policy",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "uninstall",
    "wait",
    "wait_for",
    "wrap_future",
    "write_bytes",
    "write_text",
]
if sys.version_info < (3, 12):
    __all__.remove("create_eager_task_factory")
if sys.version_info < (3, 14):
    __all__.remove("FrameCallGraphEntry")
    __all__.remove("FutureCallGraph")
    __all__.remove("capture_call_graph")
    __all__.remove("format_call_graph")
    __all__.remove("future_add_to_awaited_by")
    __all__.remove("future_discard_from_awaited_by")
    __all__.remove("print_call_graph")
if sys.version_info >= (3, 14) or sys.platform == "win32":
    __all__.remove("AbstractChildWatcher")
    __all__.remove("AbstractEventLoopPolicy")
    __all__.remove("DefaultEventLoopPolicy")
    __all__.remove("FastChildWatcher")
    __all__.remove("MultiLoopChildWatcher")
    __all__.remove("PidfdChildWatcher")
    __all__.remove("SafeChildWatcher")
    __all__.remove("ThreadedChildWatcher")
    __all__.remove("get_child_watcher")
    __all__.remove("set_child_watcher")
if sys.version_info >= (3, 14):
    __all__.remove("EventLoopPolicy")  # to look at it gives a DeprecationWarning

if not TYPE_CHECKING:  # which then know a name that does not exist

    def __getattr__(name: str) -> Any:
        """Import what is imported later. Any other name is one that asyncio has besides those above."""
        if name == "EventLoopPolicy":
            value = _event_loop_policy()
        elif name in ("files", "observe", "sim", "streams") and sys.platform == "linux":
            value = importlib.import_module(f"hoop.{name}")
        elif name in _LATER:
            value = _public(getattr(importlib.import_module(_LATER[name]), name))
            globals()[name] = value
        elif not name.startswith("__") and hasattr(asyncio, name):
            value = getattr(asyncio, name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return value

    def __dir__() -> list[str]:
        return sorted(
            {
                *globals(),
                *__all__,
                *_LATER,
                "EventLoopPolicy",
                "files",
                "observe",
                "sim",
                "subprocess",
            }
        )


def _event_loop_policy() -> Any:
    """hoop's policy, after asyncio's warning that there will be no policies, from Python 3.14 on."""
    stock = asyncio.DefaultEventLoopPolicy
    if sys.platform != "linux":
        return stock
    from hoop.loop.policy import EventLoopPolicy as policy

    return policy


def _public(value: Any) -> Any:
    """Let a class or function of one of hoop's modules have `hoop` as its `__module__`."""
    if sys.platform == "linux" and getattr(value, "__module__", "").startswith("hoop."):
        from hoop._c.shown import show_as_public

        show_as_public(value)
    return value


class Runner(asyncio.Runner):  # type: ignore[misc]  # final only to typeshed
    """asyncio.Runner on a hoop loop, unless you pass another `loop_factory`.

    `debug` turns debug mode on or off; None leaves asyncio's default. Not on Linux, the runner uses
    asyncio's loop, with a RuntimeWarning.

        with hoop.Runner() as runner:
            runner.run(main())
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        if loop_factory is None:
            loop_factory = new_event_loop
            if sys.platform != "linux":
                warnings.warn(
                    "hoop's own event loop needs Linux; "
                    f"on {sys.platform} hoop.run() and hoop.Runner use asyncio's",
                    RuntimeWarning,
                    stacklevel=2,
                )
        super().__init__(debug=debug, loop_factory=loop_factory)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    observe: bool = False,
) -> _T:
    """Run a coroutine on a new hoop loop, and return its result. See asyncio.run.

    `debug` turns debug mode on or off; None leaves asyncio's default. With `observe` the command `hoop` can
    look into the process meanwhile: see hoop.observe.start(). Raises the coroutine's exception, or
    RuntimeError if a loop is running in this thread already.

        hoop.run(main())  # was: asyncio.run(main())
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "hoop.run() cannot be called from a running event loop: use `await` there instead. "
            "In Jupyter, write `await main()` in the cell."
        )
    if observe:
        return _run_observed(main, debug, loop_factory)
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def _run_observed(main: Coroutine[Any, Any, _T], debug: bool | None, loop_factory: Any) -> _T:
    """run(), observed unless it is so anyway."""
    from hoop.observe import thread

    began = not thread.is_on()
    if began:
        try:
            thread.start()
        except BaseException:
            main.close()
            raise
    try:
        return run(main, debug=debug, loop_factory=loop_factory)
    finally:
        if began:
            thread.stop()


def _observe_by_environment() -> None:
    """Start the observer, as the first loop is about to run. If it cannot start, the program runs without."""
    try:
        from hoop.observe import thread

        thread.start_by_environment(os.environ.get("HOOP_OBSERVE", ""))
    except Exception:
        _registry.on_run = None
        _sites.record(False)
        logging.getLogger("hoop.observe").exception("this process cannot be observed")


if sys.version_info >= (3, 12):
    # Made as asyncio makes its own, because anyio recognizes an eager factory by that.
    eager_task_factory = asyncio.create_eager_task_factory(Task)
else:

    def eager_task_factory(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: str | None = None,
        context: Any = None,
        eager_start: bool = True,
    ) -> Task[_T]:
        """Make tasks that take their first step at once."""
        return Task(coro, loop=loop, name=name, context=context, eager_start=eager_start)


eager_task_factory.__doc__ = """A task factory whose tasks take their first step at once.

A task that never has to wait then costs no turn of the loop. See asyncio.eager_task_factory.

    asyncio.get_running_loop().set_task_factory(hoop.eager_task_factory)
"""

for _name in __all__:
    if _name in globals():
        _public(globals()[_name])

if sys.platform == "linux" and os.environ.get("HOOP_OBSERVE", "") not in ("", "0"):
    from hoop.insight import sites as _sites
    from hoop.loop import registry as _registry

    _registry.on_run = _observe_by_environment
    _sites.record(True)  # the first task is made before its loop runs
