"""Transports of pipes and terminals: asyncio's, with three faults mended.

    ReadPipe     the closed end of a pseudo-terminal is an end of file, and no error
    WritePipe    if the protocol writes in resume_writing() and then closes, that data is sent; the pipe gets
                 the bytes of the data, whatever its class says

A terminal gets its flags back when its transport is closed, and at the interpreter's exit. The shell and
the next program share the terminal, and expect that it blocks.
"""

from __future__ import annotations

import atexit
import errno
import os
from asyncio import unix_events
from asyncio.log import logger
from typing import Any

PTY_MASTER = os.makedev(5, 2)


class TerminalFlags:
    """Whether a terminal blocked before a transport used it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._device = os.fstat(fd).st_rdev
        self._blocked = os.get_blocking(fd)
        _lent.append(self)

    def give_back(self) -> None:
        """Make the terminal block again. If another transport has the same open file, that one does it
        later.
        """
        if self not in _lent:
            return
        _lent.remove(self)
        if not self._blocked or not self._is_there():
            return
        os.set_blocking(self._fd, True)
        for other in _lent:
            if other._device == self._device and other._is_there() and os.get_blocking(other._fd):
                os.set_blocking(other._fd, False)
                other._blocked = True
                return

    def _is_there(self) -> bool:
        """Whether the descriptor is still open, and still this terminal's."""
        try:
            return os.fstat(self._fd).st_rdev == self._device
        except OSError:
            return False


_lent: list[TerminalFlags] = []


def _give_all_back() -> None:
    for flags in list(_lent):
        flags.give_back()


atexit.register(_give_all_back)
os.register_at_fork(after_in_child=_lent.clear)  # the parent restores the flags


class PipeEnd:
    """The common part of both transports, in front of asyncio's classes."""

    _pipe: Any = None  # for __del__
    _flags: TerminalFlags | None = None

    def __init__(self, loop: Any, pipe: Any, *args: Any, **kwargs: Any) -> None:
        if os.isatty(pipe.fileno()):
            self._flags = TerminalFlags(pipe.fileno())
        super().__init__(loop, pipe, *args, **kwargs)  # type: ignore[call-arg]

    def close(self) -> None:
        """Close the pipe, once everything written was sent."""
        if not self._is_over():
            super().close()  # type: ignore[misc]

    def _close(self, exc: BaseException | None = None) -> None:
        if not self._is_over():
            super()._close(exc)  # type: ignore[misc]

    def _is_over(self) -> bool:
        """Whether the pipe is closed. If the loop is closed the pipe is just closed: no protocol can be
        told.
        """
        if self._pipe is None:
            return True
        if not self._loop.is_closed():  # type: ignore[attr-defined]
            return False
        self._closing = True
        self._give_back()
        self._pipe.close()
        self._pipe = None
        return True

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._pipe is None:
            return  # the protocol knows: it called abort() in connection_lost()
        self._give_back()
        super()._call_connection_lost(exc)  # type: ignore[misc]

    def _give_back(self) -> None:
        if self._flags is not None:
            self._flags.give_back()

    def __del__(self) -> None:
        self._give_back()
        super().__del__()  # type: ignore[misc]


class ReadPipe(PipeEnd, unix_events._UnixReadPipeTransport):  # type: ignore[name-defined,misc]
    """The transport of loop.connect_read_pipe().

    os.read() takes memory for as much as it is asked for. asyncio asks for 256 KiB, though a pipe usually
    holds 64. The allocator gets so large a piece from the kernel each time, and gives it back. That took
    three quarters of the time.
    """

    def _read_ready(self) -> None:
        size = self._loop._pipe_size(self._fileno)
        size = min(size, self.max_size) if size else self.max_size
        try:
            data = os.read(self._fileno, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            if exc.errno != errno.EIO or os.fstat(self._fileno).st_rdev != PTY_MASTER:
                self._fatal_error(exc, "Fatal read error on pipe transport")
                return
            data = b""  # every process has closed the other side
        if data:
            self._protocol.data_received(data)
            return
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._loop._remove_reader(self._fileno)
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)


class WritePipe(PipeEnd, unix_events._UnixWritePipeTransport):  # type: ignore[name-defined,misc]
    """The transport of loop.connect_write_pipe()."""

    def write(self, data: Any) -> None:
        """Write the data that the pipe takes now, and the rest when the pipe takes more."""
        if isinstance(data, memoryview) and data.nbytes != len(data):
            data = data.tobytes()  # asyncio would count items instead of bytes
        elif isinstance(data, bytes) and type(data) is not bytes:
            data = memoryview(data)  # asyncio asks for the length again when some of it was sent
        super().write(data)

    def _write_ready(self) -> None:
        try:
            n = os.write(self._fileno, self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._buffer.clear()
            self._conn_lost += 1
            self._loop._remove_writer(self._fileno)
            self._fatal_error(exc, "Fatal write error on pipe transport")
            return
        if n < len(self._buffer):
            del self._buffer[:n]
            return
        self._buffer.clear()
        self._loop._remove_writer(self._fileno)
        closing = self._closing
        self._maybe_resume_protocol()
        # If the protocol has just written more and then closed, another call of this method sends that first.
        if closing:
            self._loop._remove_reader(self._fileno)
            self._call_connection_lost(None)
