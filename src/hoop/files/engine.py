"""How hoop makes a file operation: at once, by the loop's driver, or on a thread of the loop's pool."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from hoop.disk import call as calls
from hoop.disk.call import SystemCall
from hoop.loop.event_loop import EventLoop

_P = ParamSpec("_P")
_T = TypeVar("_T")

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def encoded(path: StrOrBytesPath) -> bytes:
    """The bytes of a path, as plain bytes: the compiled modules take no subclass."""
    name = os.fsencode(path)
    return name if type(name) is bytes else bytes(memoryview(name))


def running_loop() -> EventLoop:
    """The running loop. Raises RuntimeError if it is not a hoop loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError(f"hoop's files need a hoop loop (see hoop.run), and this is {loop!r}")
    return loop


async def call(op: SystemCall, *names: object) -> int:
    """Make a system call and return its result. Raises the OSError that os would raise."""
    loop = running_loop()
    future = op.call(loop, loop._file_pool)
    try:
        result = await future
    except asyncio.CancelledError:
        op.drop()
        raise
    except GeneratorExit:
        op.gone()
        raise
    op.taken()
    if result < 0:
        raise os_error(result, *names)
    return result


def os_error(result: int, *names: object) -> OSError:
    """The exception for a negative result of a call about up to two files."""
    number = -result
    if len(names) == 2:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


async def in_thread(
    function: Callable[..., _T], *args: Any, undo: Callable[[Any], object] | None = None
) -> _T:
    """Call a function that waits for a disk. If the caller is cancelled or closed, `undo` gets the result."""
    future = running_loop()._file_pool.call(function, *args, undo=undo)
    try:
        result: _T = await future
    except (asyncio.CancelledError, GeneratorExit):
        undo_result(future, undo)
        raise
    return result


def undo_result(future: asyncio.Future[Any], undo: Callable[[Any], object] | None) -> None:
    """Undo a call that ended in the same turn of the loop in which its caller was cancelled."""
    if undo is not None and future.done() and not future.cancelled() and not future.exception():
        loop = future.get_loop()
        assert isinstance(loop, EventLoop)
        loop._file_pool.owe(undo, future.result())


def drop(fd: int) -> None:
    """Close a descriptor that no caller has received, without waiting."""
    loop = running_loop()
    calls.drop(fd, loop, loop._file_pool)


async def in_own_thread(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function that may wait for ever. Cancelling the caller does not stop the function."""
    result: _T = await running_loop()._file_pool.call_alone(function, *args)
    return result


def wrap(function: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Return a coroutine function that calls `function` on a thread for files."""

    @functools.wraps(function)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await in_thread(functools.partial(function, *args, **kwargs))

    return run


async def outlast(future: asyncio.Future[_T]) -> _T:
    """Wait for a call that cannot be stopped, even if cancelled. Raises CancelledError only after its end."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # mark it as retrieved: no warning later
        raise cancelled
    return future.result()
