"""Open files. They have the methods of io's files, which you await here.

    LineSource          (disk/source.py) `async for`
      AsyncFile         common to text and binary files: order, closing, positions
        BinaryFile
        TextFile        an io.TextIOWrapper over the file's Buffer handles the text

An operation first tries to do everything in memory, on the loop. If data is missing it queues for its turn
on the file, has the data fetched, and tries again. The operations on one file run one after the other, in
the order in which they were begun.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import fcntl
import io
import os
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from hoop.disk import read_text, readline_text, write_text
from hoop.disk.source import FileBuffer, LineSource, inherit_lines
from hoop.files import engine

_T = TypeVar("_T")
_Data = TypeVar("_Data", str, bytes)

TO_END, LINE = -1, -2
_EVERYTHING = (1 << 63) - 1
_NEED_MAX = 1 << 40  # a larger size means everything

# Encodings in which _CHARACTER_BYTES bytes always contain a whole character.
_PLAIN = {"utf-8", "utf-8-sig", "ascii", "iso8859-1", "latin-1", "cp1252", "iso8859-15"}
_WIDE = {"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
_CHARACTER_BYTES = 8  # no encoding of these takes more for a character, byte order mark included
_MASK = (1 << 64) - 1
_WHENCES = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE)
_TEXT_CHUNK = 8192  # how many bytes io.TextIOWrapper decodes at a time


class AsyncFile(LineSource, Generic[_Data]):
    """An open file, made by hoop.open()."""

    if TYPE_CHECKING:

        def __anext__(self) -> Awaitable[_Data]:
            """The next line."""

    __slots__ = ("__weakref__", "_lock", "_special", "_stack")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherit_lines(cls)

    def __init__(self, buffer: FileBuffer) -> None:
        self.buffer = buffer
        self._lock: asyncio.Lock | None = None
        self._special = not buffer.regular
        self._stack: Any = buffer

    # ---- asking ----

    @property
    def name(self) -> Any:
        """The path or descriptor that the file was opened with."""
        return self.buffer.name

    @property
    def mode(self) -> str:
        """The mode, in the form that the builtin's file shows."""
        mode: str = self.buffer.mode
        return mode

    @property
    def closed(self) -> bool:
        """True if the file is closed."""
        return self.buffer.closed

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError if the file is closed."""
        number: int = self._stack.fileno()
        return number

    def isatty(self) -> bool:
        """Return True if the file is a terminal."""
        answer: bool = self._stack.isatty()
        return answer

    def readable(self) -> bool:
        """Return True if the file was opened for reading."""
        answer: bool = self._stack.readable()
        return answer

    def writable(self) -> bool:
        """Return True if the file was opened for writing."""
        answer: bool = self._stack.writable()
        return answer

    def seekable(self) -> bool:
        """Return True if the file has positions: a pipe has none."""
        answer: bool = self._stack.seekable()
        return answer

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<hoop.{type(self).__name__} name={self.name!r} mode={self.mode!r}{state}>"

    # ---- order ----

    async def _operate(
        self,
        need: int | None,
        operation: Callable[..., _T],
        *args: Any,
        first_send: bool = False,
        send: bool = False,
        accepted: int | None = None,
    ) -> _T:
        """Do an operation in its turn, with `need` bytes of the file in memory; None asks for no more than
        is there.

        With `first_send` all pending data is written before the operation begins, with `send` before it
        ends. The number `accepted` counts what the buffer had accepted before an operation that has begun
        already.
        """
        self.queued += 1
        try:
            if self._lock is None:
                self._lock = asyncio.Lock()
            async with self._lock:
                if self._special:
                    return await self._on_thread(need, operation, args, first_send, send)
                if first_send and not self.buffer.closed:
                    await self._settle(True)
                if need is not None:
                    await self._prepare(need)
                if send:
                    self._hand_over()  # if the kernel refuses, this belongs to earlier operations
                if accepted is None:
                    accepted = self.buffer.accepted_bytes
                result = operation(*args)
                await self._settle(send, accepted)
                return result
        finally:
            self.queued -= 1

    async def _prepare(self, need: int) -> None:
        """Have `need` bytes of the file in memory, or all that are left."""
        buffer = self.buffer
        self._hand_over()
        while not buffer.closed and not buffer.ready(need):
            if buffer.pending_bytes or buffer.draining:
                await self._drain()
                continue
            if buffer.rest():
                await asyncio.sleep(0)
                continue
            buffer.start_filling(need)
            await buffer.next_move()
            buffer.raise_error()

    def _hand_over(self) -> None:
        """Give the buffer the data that was written."""
        self.dirty = False

    def _lines_are_plain(self) -> bool:
        """Whether a newline byte ends a line."""
        return True

    async def _settle(self, send: bool, accepted: int = _EVERYTHING) -> None:
        """After an operation: write the data that exceeds the buffer's size. See _drain()."""
        if send:
            self._hand_over()
        buffer = self.buffer
        if buffer.pending_bytes:
            if send or buffer.is_full():
                await self._drain(accepted, send)
        elif send and buffer.draining:
            # Of a cancelled operation: the kernel may take a part only, or refuse.
            await self._drain(accepted, send)

    async def _drain(self, accepted: int = _EVERYTHING, everything: bool = True) -> None:
        """Write all pending bytes, or enough of them that the rest fits the buffer.

        If the kernel refuses, the part counted by `accepted` stays pending, up to a buffer's size. The rest
        belongs to the operation that raises.
        """
        buffer = self.buffer
        while buffer.draining or (buffer.pending_bytes if everything else buffer.is_full()):
            buffer.start_draining()
            await buffer.next_move()
            try:
                buffer.raise_error()
            except OSError:
                buffer.keep(accepted)
                raise
        buffer.stand()

    # ---- files that may wait for ever ----

    async def _on_thread(
        self,
        need: int | None,
        operation: Callable[..., _T],
        args: tuple[Any, ...],
        first_send: bool,
        send: bool,
    ) -> _T:
        """Do a whole operation on a thread of its own. A cancellation stops the thread where it waits."""
        buffer = self.buffer
        if buffer.closed:
            return operation(*args)
        if buffer.abort_fd < 0:
            buffer.abort_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        pool = engine.running_loop()._file_pool
        buffer.may_wait = True
        buffer.hold()
        try:
            under_way = pool.call_alone(
                self._waiting, need, operation, args, first_send, send, stop=buffer.stop
            )
        except BaseException:
            buffer.let_go(None)
            raise
        under_way.add_done_callback(buffer.let_go)
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            buffer.stop()
            try:
                await engine.outlast(under_way)
            except OSError:
                pass  # the thread was stopped
            raise
        except GeneratorExit:
            buffer.stop()
            raise
        finally:
            if under_way.done():
                buffer.may_wait = False
                if buffer.abort_fd >= 0:  # else the descriptor is closed already
                    with contextlib.suppress(BlockingIOError):  # the thread was not told to stop
                        os.eventfd_read(buffer.abort_fd)

    def _waiting(
        self,
        need: int | None,
        operation: Callable[..., _T],
        args: tuple[Any, ...],
        first_send: bool,
        send: bool,
    ) -> _T:
        """On a thread: the operation, with system calls that wait."""
        buffer = self.buffer
        buffer.begin()
        accepted = buffer.accepted_bytes
        try:
            self._hand_over()
            if first_send:
                buffer.drain_waiting()
            if need == LINE and self._lines_are_plain():
                buffer.wait_for(need)  # stopped here, nothing is lost
            accepted = buffer.accepted_bytes
            result = operation(*args)
            if send:
                self._hand_over()
            if buffer.pending_bytes and (send or buffer.is_full()):
                buffer.drain_waiting()
        except OSError as exc:
            if exc.errno != errno.ECANCELED:
                buffer.keep(accepted)
            raise
        return result

    # ---- what both kinds do ----

    async def tell(self) -> int:
        """Return the position in bytes. In a text file it is an opaque number for seek()."""
        buffer = self.buffer
        if buffer.appends and (self.dirty or buffer.pending_bytes):
            return await self._operate(None, self._stack.tell, first_send=self.dirty)
        if self.queued or self._special:
            return await self._operate(None, self._stack.tell)
        position: int = self._stack.tell()
        return position

    async def flush(self) -> None:
        """Hand all written data to the kernel. Raises OSError if the kernel does not take it."""
        await self._operate(None, self._stack.flush, send=True)

    async def fsync(self) -> None:
        """Flush, and wait until the disk has the file. Raises OSError if that fails."""
        await self.flush()
        await engine.call(self.buffer.syncing(False), self.name)

    async def fdatasync(self) -> None:
        """Flush, and wait until the disk has the data and what reading needs. Raises OSError on failure."""
        await self.flush()
        await engine.call(self.buffer.syncing(True), self.name)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file to `size` bytes, or to the current position. Returns the new size."""
        if self.closed and self._stack is self.buffer:
            raise ValueError("truncate of closed file")
        self.queued += 1
        try:
            if self._lock is None:
                self._lock = asyncio.Lock()
            async with self._lock:
                return await self._truncate(size)
        finally:
            self.queued -= 1

    async def _truncate(self, size: int | None) -> int:
        buffer = self.buffer
        if not buffer.closed and not buffer.can_write:
            raise io.UnsupportedOperation(
                "truncate"
                if _READER_SAYS_TRUNCATE and not buffer.unbuffered
                else "File not open for writing"
            )
        self._stack.flush()
        self._hand_over()
        await self._drain()
        if size is None:
            size = buffer.tell()
        await engine.call(buffer.truncating(size))
        buffer.forget()
        return size

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write several pieces, one after the other. No newlines are added."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        for line in lines:
            await self.write(line)

    async def write(self, data: Any, /) -> int:
        """Write data. Returns its length: a file always takes everything or raises."""
        raise NotImplementedError

    async def readline(self, size: int = -1, /) -> _Data:
        """Read a line with its end. The result is empty at the end of the file."""
        raise NotImplementedError

    async def readlines(self, hint: int | None = -1, /) -> list[_Data]:
        """Read all lines that are left, or stop after about `hint` characters."""
        lines: list[_Data] = await self._operate(TO_END, self._stack.readlines, hint)
        return lines

    async def wait_for_line(self) -> _Data:
        """The next line for `async for`, if it is not in memory."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- the end ----

    async def close(self) -> None:
        """Write pending data and close the descriptor, even if cancelled. A second call does nothing.

        Raises OSError if some data could not be written. The file is closed all the same.
        """
        buffer = self.buffer
        if buffer.closed:
            return
        if (
            not self.queued
            and not self.dirty
            and buffer.local
            and not buffer.in_flight
            and not buffer.can_write
        ):
            buffer.release()
            buffer.close_left()
            return
        try:
            await engine.outlast(asyncio.ensure_future(self._close()))
        finally:
            buffer.close_forgotten()  # if closing was itself cancelled

    async def _close(self) -> None:
        buffer = self.buffer
        if buffer.may_wait:
            buffer.stop()  # a thread that reads or writes now stops
        try:
            if not buffer.closed:
                await self._operate(None, self._stack.flush, send=True)
        except GeneratorExit:
            raise  # it cannot wait any more
        except BaseException:
            await self._give_back()
            raise
        await self._give_back()

    async def _give_back(self) -> None:
        buffer = self.buffer
        buffer.release()
        while buffer.in_flight:
            await buffer.next_move()
        closing = buffer.closing()
        path, buffer.remove_when_closed = buffer.remove_when_closed, None
        try:
            if closing is not None:
                await engine.call(closing)
        except BaseException:
            if path is not None:
                buffer.pool.owe(os.unlink, path)
            raise
        if path is not None:
            await engine.in_thread(os.unlink, path)

    async def __aenter__(self) -> Self:
        self._stack.readable()  # ValueError if it is closed
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        buffer = getattr(self, "buffer", None)
        if buffer is None or buffer.closed:
            return
        if not buffer.owns:
            return
        warnings.warn(f"unclosed file {self!r}", ResourceWarning, source=self, stacklevel=2)
        try:
            self._stack.flush()  # into the buffer
        finally:
            buffer.close_forgotten()


def _reader_says() -> bool:
    with open(os.devnull, "rb") as f:
        try:
            f.truncate()
        except io.UnsupportedOperation as exc:
            return str(exc) == "truncate"
    return False


_READER_SAYS_TRUNCATE = _reader_says()


class BinaryFile(AsyncFile[bytes]):
    """A file of bytes, as hoop.open(path, "rb") gives it. See io.BufferedRandom.

    For example:

        async with hoop.open("image.png", "rb") as file:
            header = await file.read(8)
            await file.seek(0)
    """

    __module__ = "hoop"

    __slots__ = ("_direct",)

    def __init__(self, buffer: FileBuffer) -> None:
        super().__init__(buffer)
        if buffer.regular:
            self.next_line = buffer.can_read or None
        # With O_DIRECT the kernel moves your own bytes, and wants them at aligned addresses.
        self._direct = (
            buffer.regular
            and buffer.unbuffered
            and bool(fcntl.fcntl(buffer.fd, fcntl.F_GETFL) & os.O_DIRECT)
        )

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or everything that is left. The result is shorter only at the end of the
        file.

            block = await file.read(4096)
        """
        if not self.queued and not self._special:
            data: bytes | None = self.buffer.try_read(size)
            if data is not None:
                return data
        return await self._operate(-1 if size is None else size, self.buffer.read, size)

    async def read1(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes with at most one system call."""
        self._check("read1")
        return await self._operate(1, self.buffer.read1, size)

    async def readall(self) -> bytes:
        """Read everything that is left."""
        return await self.read(-1)

    async def readinto(self, b: Any, /) -> int:
        """Read into a writable buffer until it is full or the file ends. Returns the number of bytes.

        For example:

            n = await file.readinto(memory)
        """
        self._check("readinto")
        if self._direct:
            return await self._move(b, True)
        return await self._operate(memoryview(b).nbytes, self.buffer.readinto, b)

    async def _move(self, b: Any, into: bool) -> int:
        """Make one call with the user's own memory. The kernel uses the memory until the call ends, even if
        cancelled.
        """
        return await engine.outlast(asyncio.ensure_future(self._move_in_turn(b, into)))

    async def _move_in_turn(self, b: Any, into: bool) -> int:
        self.queued += 1
        try:
            if self._lock is None:
                self._lock = asyncio.Lock()
            async with self._lock:
                n = await engine.call(self.buffer.moving(b, into))
                self.buffer.moved_by(n)
                return n
        finally:
            self.queued -= 1

    async def readinto1(self, b: Any, /) -> int:
        """Read into a writable buffer with at most one system call. Returns the number of bytes."""
        self._check("readinto")
        return await self._operate(1, self.buffer.readinto1, b)

    async def peek(self, size: int = 0, /) -> bytes:
        """Return the next bytes without moving the position: at least one, unless the file ends."""
        self._check("peek")
        return await self._operate(1, self.buffer.peek, size)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line with its end, at most `size` bytes of it. The result is empty at the file's end."""
        limit = -1 if size is None else size
        buffer = self.buffer
        if buffer.closed or not buffer.can_read:
            return buffer.readline(limit)
        if not self.queued and not self._special and buffer.line_ready(limit):
            return buffer.readline(limit)
        if limit < 0:
            return await self._operate(LINE, buffer.readline, limit)
        return await self._operate(limit, buffer.readline, limit)

    async def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Read all lines that are left, or stop after about `hint` bytes."""
        if self.buffer.closed:
            raise ValueError("I/O operation on closed file.")
        if not self.buffer.can_read:
            self.buffer.readline()
        lines: list[bytes] = []
        total = 0
        async for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def _check(self, doing: str) -> None:
        """Raise at once what a read would raise."""
        if self.buffer.closed or not self.buffer.can_read:
            getattr(self.buffer, doing)(b"" if doing == "readinto" else 0)

    async def write(self, data: Any, /) -> int:
        """Write bytes. Returns their number: a file always takes everything or raises.

        If the task is cancelled, the data stays in the buffer. The next operation on the file writes it.
        """
        buffer = self.buffer
        if self._direct and buffer.can_write and not isinstance(data, str):
            return await self._move(data, False)
        if self.queued or self._special:
            return await self._operate(None, buffer.write, data, send=buffer.unbuffered)
        accepted = buffer.accepted_bytes
        n = buffer.write(data)
        if buffer.is_full():
            await self._operate(None, _nothing, accepted=accepted)
        return n

    async def seek(self, target: int, whence: int = 0, /) -> int:
        """Move to `target` bytes from the start, the position or the end (`whence` 0, 1 or 2). Returns the
        position.
        """
        buffer = self.buffer
        busy = self.queued or self._special or buffer.pending_bytes or buffer.draining
        if busy and not buffer.closed and whence in _WHENCES:  # any other just raises
            return await self._operate(None, buffer.seek, target, whence, first_send=True)
        return buffer.seek(target, whence)


def _nothing() -> None:
    """An operation that only takes its turn."""


class TextFile(AsyncFile[str]):
    """A file of characters, as hoop.open(path) gives it. See io.TextIOWrapper.

    For example:

        async with hoop.open("notes.txt", encoding="utf-8") as file:
            async for line in file:
                print(line, end="")
    """

    __module__ = "hoop"

    __slots__ = ("_plain", "_sends_lines", "_text")

    def __init__(
        self,
        buffer: FileBuffer,
        encoding: str | None,
        errors: str | None,
        newline: str | None,
        sends_lines: bool,
    ) -> None:
        super().__init__(buffer)
        self._text: io.TextIOWrapper[Any]
        self._stack = self._text = io.TextIOWrapper(
            buffer, encoding, errors, newline, line_buffering=sends_lines
        )
        self._text.mode = buffer.mode  # type: ignore[misc]
        self._sends_lines = sends_lines
        codec = _codec_name(self._text.encoding)
        # Whether the decoder ends lines at the same bytes as the buffer does.
        self._plain = codec in _PLAIN and newline in (None, "", "\n")
        if not self._special and codec not in _PLAIN and codec not in _WIDE:
            self._special = True  # bytes per character are not known: use a thread
        if self._plain and not self._special and buffer.can_read:
            self.next_line = readline_text.__get__(self._text)

    @property
    def encoding(self) -> str:
        """The name of the encoding."""
        return self._text.encoding

    @property
    def errors(self) -> str | None:
        """The name of the handler for characters that cannot be encoded or decoded."""
        return self._text.errors

    @property
    def newlines(self) -> Any:
        """The line ends met so far: None, one string, or a tuple of them."""
        return self._text.newlines

    @property
    def line_buffering(self) -> bool:
        """True if the file writes each line at once."""
        return self._sends_lines

    def _hand_over(self) -> None:
        if self.dirty:
            self.dirty = False
            self._text.flush()

    def _lines_are_plain(self) -> bool:
        return self._plain

    async def read(self, size: int | None = -1, /) -> str:
        """Read up to `size` characters, or everything that is left. The result is shorter only at the end.

        Raises UnicodeDecodeError if the bytes do not fit the encoding.
        """
        if self.buffer.closed or not self.buffer.can_read:
            return read_text(self._text, size)
        need = TO_END if size is None or size < 0 else _bytes_for(size)
        if not self.queued and not self._special and not self.dirty and self.buffer.ready(need):
            return read_text(self._text, size)
        return await self._operate(need, read_text, self._text, size)

    async def readline(self, size: int = -1, /) -> str:
        """Read a line, at most `size` characters of it. The result is empty at the end of the file."""
        if self.buffer.closed or not self.buffer.can_read:
            return readline_text(self._text, size)
        need = LINE if self._plain else TO_END
        if 0 <= size < 1 << 16:
            need = _bytes_for(size)
        if not self.queued and not self._special and not self.dirty and self.buffer.ready(need):
            return readline_text(self._text, size)
        return await self._operate(need, readline_text, self._text, size)

    async def readlines(self, hint: int | None = -1, /) -> list[str]:
        """Read all lines that are left, or stop after about `hint` characters."""
        if self.buffer.closed or not self.buffer.can_read:
            return self._text.readlines(-1 if hint is None else hint)
        lines: list[str] = []
        total = 0
        async for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    async def write(self, data: str, /) -> int:
        """Write characters. Returns their number: a file always takes everything or raises.

        If the task is cancelled, the text stays in the buffer. The next operation on the file writes it.
        """
        send = self._sends_lines and isinstance(data, str) and ("\n" in data or "\r" in data)
        if self.queued or self._special:
            return await self._operate(None, self._write, data, send=send)
        if send:
            self._hand_over()
        accepted = self.buffer.accepted_bytes
        n = self._write(data)
        if send or self.buffer.is_full():
            await self._operate(None, _nothing, send=send, accepted=accepted)
        return n

    def _write(self, data: str) -> int:
        n = write_text(self._text, data)
        self.dirty = True
        return n

    async def seek(self, target: int, whence: int = 0, /) -> int:
        """Move to the start, to the end, or to a number that tell() gave. Returns the position."""
        if self.buffer.closed:
            return self._text.seek(target, whence)
        again = 0
        if whence == 0 and target > _MASK:
            again = (target >> 128) & _MASK  # how many bytes to decode again
        if again and not self._special:
            await self._operate(None, _nothing, send=True)
            self.buffer.seek(target & _MASK)
            return await self._operate(again, self._text.seek, target)
        if self.queued or self._special or self.dirty or self.buffer.pending_bytes:
            return await self._operate(None, self._text.seek, target, whence, first_send=True)
        return self._text.seek(target, whence)


def _bytes_for(size: int) -> int:
    """A number of bytes that always contains `size` characters."""
    return size * _CHARACTER_BYTES + _TEXT_CHUNK if size < _NEED_MAX else TO_END


def _codec_name(encoding: str) -> str:
    """The name by which Python's registry knows an encoding."""
    return codecs.lookup(encoding).name


class Opening(Generic[_T]):
    """The result of hoop.open(): await it, or enter it with `async with`. Only that opens the file."""

    __slots__ = ("_file", "_open")

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._open = opened
        self._file: Any = None

    def __await__(self) -> Generator[Any, None, _T]:
        result: Generator[Any, None, _T] = self._open().__await__()
        return result

    async def __aenter__(self) -> _T:
        self._file = file = await self._open()
        return file  # type: ignore[no-any-return]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._file.close()
