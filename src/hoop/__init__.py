"""hoop: a faster asyncio event loop for Linux, with asyncio's interface.

    import hoop

    hoop.run(main())  # was: asyncio.run(main())

Everything that runs for each callback, packet or task step is compiled to C.
"""

from __future__ import annotations

import asyncio  # first: importing _asyncio before it makes a second set of current tasks
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from hoop.names import install, uninstall

_T = TypeVar("_T")

__version__ = "0.1.0"

if sys.platform == "linux":
    from hoop._c import check_compiled

    check_compiled()

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
    from hoop.files.opening import open
    from hoop.files.path import Path
    from hoop.files.whole import read_bytes, read_text, write_bytes, write_text
    from hoop.loop import EventLoop, new_event_loop
    from hoop.loop.running import create_task, sleep
    from hoop.scheduling.future import Future
    from hoop.scheduling.handle import Handle
    from hoop.scheduling.task import Task
    from hoop.scheduling.timers import TimerHandle
    from hoop.streams import (
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
else:
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
        TimerHandle,
        create_task,
        new_event_loop,
        open_connection,
        sleep,
        start_server,
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

if TYPE_CHECKING:
    from hoop.loop.policy import EventLoopPolicy

__all__ = [
    "Barrier",
    "BinaryFile",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "Path",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "Runner",
    "Semaphore",
    "StreamReader",
    "StreamWriter",
    "Task",
    "TextFile",
    "TimerHandle",
    "copy_file_range",
    "create_task",
    "eager_task_factory",
    "fallocate",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "install",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "read_bytes",
    "read_text",
    "run",
    "sleep",
    "start_server",
    "start_unix_server",
    "uninstall",
    "write_bytes",
    "write_text",
]


def __getattr__(name: str) -> Any:
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.platform == "linux":
        from hoop.loop.policy import EventLoopPolicy as policy
    else:
        from asyncio import DefaultEventLoopPolicy as policy
    return policy


def __dir__() -> list[str]:
    return [*globals(), "EventLoopPolicy"]


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
) -> _T:
    """Run a coroutine on a new hoop loop, and return its result. See asyncio.run.

    `debug` turns debug mode on or off; None leaves asyncio's default. Raises the coroutine's exception, or
    RuntimeError if a loop is running in this thread already.

        hoop.run(main())  # was: asyncio.run(main())
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "hoop.run() cannot be called from a running event loop: use `await` there instead. "
            "In Jupyter, write `await main()` in the cell."
        )
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


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

if sys.platform == "linux":
    from hoop._c.shown import show_as_public

    for _public in [globals()[name] for name in __all__ if name in globals()]:
        if getattr(_public, "__module__", "").startswith("hoop."):
            show_as_public(_public)
