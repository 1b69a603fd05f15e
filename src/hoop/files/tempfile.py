"""Temporary files and folders, to be awaited or entered with `async with`. The names are tempfile's."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

from hoop.files import engine
from hoop.files.file import AsyncFile, Opening
from hoop.files.opening import open_descriptor

__all__ = ["NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile"]


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: str | None = None,
    delete_on_close: bool = True,
) -> Opening[Any]:
    """Open a temporary file with a name. It is removed when it is closed. See tempfile.NamedTemporaryFile.

    With `delete_on_close=False` the file is removed at the end of `async with`.

        async with tempfile.NamedTemporaryFile("w") as file:
            await file.write("text")
    """

    async def opened() -> AsyncFile[Any]:
        fd, path = await engine.in_thread(tempfile.mkstemp, suffix, prefix, dir, undo=_remove_both)
        try:
            file = await open_descriptor(fd, path, mode, buffering, encoding, errors, newline)
        except BaseException:
            _remove_both((fd, path))
            raise
        if delete and delete_on_close:
            file.buffer.remove_when_closed = path
        return file

    if delete and not delete_on_close:
        return _RemovedAfter(opened)
    return Opening(opened)


def _remove_both(made: tuple[int, str]) -> None:
    os.close(made[0])
    os.unlink(made[1])


class _RemovedAfter(Opening[Any]):
    """Removes the file at the end of `async with`, and not before."""

    __slots__ = ()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._file.close()
        finally:
            try:
                await engine.in_thread(os.unlink, self._file.name)
            except FileNotFoundError:
                pass  # the program removed it already


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
) -> Opening[Any]:
    """Open a temporary file without a name. It is gone when it is closed. See tempfile.TemporaryFile."""

    async def opened() -> AsyncFile[Any]:
        fd = await engine.in_thread(_nameless, suffix, prefix, dir, undo=os.close)
        try:
            return await open_descriptor(fd, fd, mode, buffering, encoding, errors, newline)
        except BaseException:
            os.close(fd)
            raise

    return Opening(opened)


def _nameless(suffix: str | None, prefix: str | None, dir: Any) -> int:
    with tempfile.TemporaryFile("w+b", 0, None, None, suffix, prefix, dir) as file:
        return os.dup(file.fileno())


class TemporaryDirectory:
    """A folder that is removed with its content at the end of `async with`. See
    tempfile.TemporaryDirectory.

        async with tempfile.TemporaryDirectory() as name:
            await hoop.write_text(name + "/a.txt", "text")
    """

    def __init__(
        self,
        suffix: str | None = None,
        prefix: str | None = None,
        dir: Any = None,
        ignore_cleanup_errors: bool = False,
    ) -> None:
        self._make = functools.partial(
            tempfile.TemporaryDirectory,
            suffix,
            prefix,
            dir,
            ignore_cleanup_errors=ignore_cleanup_errors,
        )
        self._made: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """The path, once the folder was made."""
        if self._made is None:
            raise RuntimeError("the folder is made by `async with` or `await`")
        return self._made.name

    async def _begin(self) -> Self:
        self._made = await engine.in_thread(self._make, undo=tempfile.TemporaryDirectory.cleanup)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begin().__await__()

    async def cleanup(self) -> None:
        """Remove the folder now."""
        if self._made is not None:
            await engine.in_thread(self._made.cleanup)

    async def __aenter__(self) -> str:
        return (await self._begin()).name

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cleanup()


class SpooledTemporaryFile:
    """A temporary file that stays in memory up to `max_size` bytes. See tempfile.SpooledTemporaryFile.

    As long as the file is in memory its operations need no thread. On the disk each operation takes one.
    """

    def __init__(
        self,
        max_size: int = 0,
        mode: str = "w+b",
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: str | None = None,
        prefix: str | None = None,
        dir: Any = None,
        *,
        errors: str | None = None,
    ) -> None:
        self._max_size = max_size
        self._file: tempfile.SpooledTemporaryFile[Any] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size, mode, buffering, encoding, newline, suffix, prefix, dir, errors=errors
        )

    async def _do(self, operation: Callable[..., Any], *args: Any, grows: int = 0) -> Any:
        file: Any = self._file
        if not file._rolled and (
            not self._max_size or not grows or file.tell() + grows <= self._max_size
        ):
            return operation(*args)
        return await engine.in_thread(operation, *args)

    async def _begin(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begin().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """True if the file is closed."""
        return self._file.closed

    @property
    def name(self) -> Any:
        """The descriptor or name of the file on the disk; None while the file is in memory."""
        return self._file.name

    @property
    def mode(self) -> str:
        """The mode."""
        return self._file.mode

    async def close(self) -> None:
        """Close the file, which removes it."""
        await self._do(self._file.close)

    async def read(self, size: int = -1, /) -> Any:
        """Read up to `size` characters or bytes, or everything that is left."""
        return await self._do(self._file.read, size)

    async def readline(self, size: int = -1, /) -> Any:
        """Read a line."""
        return await self._do(self._file.readline, size)

    async def readlines(self, hint: int = -1, /) -> list[Any]:
        """Read all lines that are left."""
        lines: list[Any] = await self._do(self._file.readlines, hint)
        return lines

    async def write(self, data: Any, /) -> int:
        """Write data. Beyond `max_size` bytes the file moves to the disk."""
        size = 4 * len(data) if isinstance(data, str) else memoryview(data).nbytes
        n: int = await self._do(self._file.write, data, grows=size)
        return n

    async def writelines(self, lines: Any, /) -> None:
        """Write several pieces, one after the other."""
        for line in lines:
            await self.write(line)

    async def seek(self, target: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position. Returns the new one."""
        position: int = await self._do(self._file.seek, target, whence)
        return position

    async def tell(self) -> int:
        """Return the position."""
        position: int = await self._do(self._file.tell)
        return position

    async def truncate(self, size: int | None = None, /) -> int | None:
        """Cut or extend the file, at the position or at `size`."""
        grows = size or 0
        result: int | None = await self._do(self._file.truncate, size, grows=grows)
        return result

    async def flush(self) -> None:
        """Hand all written data to the kernel, if the file is on the disk."""
        await self._do(self._file.flush)

    async def rollover(self) -> None:
        """Move the file to the disk now."""
        await engine.in_thread(self._file.rollover)

    def fileno(self) -> int:
        """Return the descriptor. This moves the file to the disk."""
        return self._file.fileno()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line
