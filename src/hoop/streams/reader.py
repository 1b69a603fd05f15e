"""The reading half of a stream. See asyncio.StreamReader, whose behaviour this follows.

incoming.py holds what came in, and reading.py has the calls that wait for it and take it.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events, exceptions, format_helpers, streams

import cython
from cython.cimports.cpython.bytearray import PyByteArray_FromStringAndSize
from cython.cimports.hoop._c.python import PyLong_AsLongAndOverflow, PyNumber_AsSsize_t, ref
from cython.cimports.hoop.scheduling.coroutine import Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.streams.incoming import Incoming
from cython.cimports.hoop.streams.reading import THE_READER_S, drop_line
from cython.cimports.hoop.sync.waiting import finish_class

from hoop.streams.reading import Line, Next, Read, ReadExactly, Until, Wait

DEFAULT_LIMIT = streams._DEFAULT_LIMIT
NEWLINE = cython.declare(bytes, b"\n")

IncompleteReadError = cython.declare(object, exceptions.IncompleteReadError)
LimitOverrunError = cython.declare(object, exceptions.LimitOverrunError)


@cython.cclass
class StreamReader(Incoming):
    """The bytes that arrive on a connection, to be read by a task. See asyncio.StreamReader.

    open_connection() and start_server() make readers. `limit` is the longest line, in bytes. The transport
    is paused while more than twice as much waits in the buffer. You can give readline() and readuntil() a
    `limit` of their own, and readuntil() a tuple of separators.

        line = await reader.readline()
        body = await reader.readexactly(100)
    """

    def _state_names(self):
        return ("_limit", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused")

    def __init__(self, limit=DEFAULT_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        self.set_limit(limit)
        self.bind(events.get_event_loop() if loop is None else loop)
        if self.bound_loop.get_debug():
            self.source_traceback = format_helpers.extract_stack(sys._getframe(0))

    def __repr__(self):
        parts = ["StreamReader"]
        if self.size():
            parts.append(f"{self.size()} bytes")
        if self.eof:
            parts.append("eof")
        if self.limit_ != DEFAULT_LIMIT:
            parts.append(f"limit={self.limit_}")
        for name, value in (
            ("waiter", self.waiter),
            ("exception", self.error),
            ("transport", self.transport),
        ):
            if value:
                parts.append(f"{name}={value!r}")
        if self.paused:
            parts.append("paused")
        return f"<{' '.join(parts)}>"

    # ---- what comes in ----

    def set_transport(self, transport):
        """Tell the reader which transport to pause when too much arrives. Call this only once."""
        if self.transport is not None:
            raise AssertionError("Transport already set")
        self.transport = transport

    def _replace_transport(self, transport):
        # asyncio's StreamReaderProtocol calls this after start_tls, from Python 3.14 on.
        if self.transport is None:
            raise AssertionError("Transport not set")
        self.transport = transport

    def feed_data(self, data):
        """Put bytes into the buffer. Not allowed after feed_eof()."""
        if self.eof:
            raise AssertionError("feed_data after feed_eof")
        if not data:
            return
        if type(data) is not bytes:
            copy = bytearray()
            copy.extend(data)
            data = bytes(copy)
        self.add_chunk(data)

    def feed_eof(self):
        """Tell the reader that no more bytes come."""
        self.end()

    def at_eof(self):
        """Return True if everything was read and no more bytes come."""
        return self.eof and self.size() == 0

    def exception(self):
        """Return the exception given to set_exception(), or None."""
        return self.error

    def set_exception(self, exc):
        """Make every read raise this exception, now and later."""
        self.bytes_first = False
        self.fail(exc)

    # ---- what goes out ----

    @cython.binding(True)
    def read(self, n=-1):
        """Read up to `n` bytes, as soon as there are some. Without `n`, read to the end.

        At the end of the stream the result is b"". Raises the exception with which the connection was lost.

            while block := await reader.read(65536):
                print(len(block))
        """
        return _counted(READ, self, n)

    @cython.binding(True)
    def readexactly(self, n):
        """Read exactly `n` bytes. The task wakes once, when all of them are there.

        Raises asyncio.IncompleteReadError, with the bytes so far in `partial`, if the stream ends before.

            header = await reader.readexactly(16)
        """
        return _counted(READ_EXACTLY, self, n)

    @cython.binding(True)
    def readline(self, *, limit=None):
        r"""Read a line, up to the next "\n" or to the end of the stream. At the end the result is b"".

        Raises ValueError if the line is longer than `limit` bytes, and drops that line. If you give no
        `limit`, the reader's counts.

            line = await reader.readline(limit=1000)
        """
        if not isinstance(self, StreamReader) or not self.is_plain():
            return _readline(self, limit)  # which checks the limit again
        return _until(READ_LINE, self, NEWLINE, limit)

    @cython.binding(True)
    def readuntil(self, separator=NEWLINE, *, limit=None):
        """Read up to a separator, or the first of a tuple of them. The result ends with the separator.

        Raises asyncio.IncompleteReadError if the stream ends before, with the bytes so far in `partial`.
        Raises asyncio.LimitOverrunError if more than `limit` bytes come before the separator, and then
        takes nothing. If you give no `limit`, the reader's counts.

            record = await reader.readuntil((b";", b","))
        """
        return _until(READ_UNTIL, self, separator, limit)

    def __aiter__(self):
        return self

    def __anext__(self):
        """The next line, for `async for`."""
        if not self.is_plain():
            return _next(self)
        return _until(NEXT, self, NEWLINE, None)

    # ---- what asyncio's has ----

    @cython.binding(True)
    def _wait_for_data(self, func_name):
        return new_coroutine(WAIT, self, func_name)

    def _wakeup_waiter(self):
        self.wake_waiter()

    def _maybe_resume_transport(self):
        self.maybe_resume()

    @property
    def _source_traceback(self):
        return self.source_traceback

    @property
    def _buffer(self):
        if self.store is None:
            self.store = PyByteArray_FromStringAndSize(self.data(), self.size())
            self.chunk = None
        elif self.start:
            del self.store[: self.start]
        self.start = 0
        self.lent = True
        return self.store

    @_buffer.setter
    def _buffer(self, data):
        self.chunk = bytes(memoryview(data)) or None
        self.store = None
        self.start = 0
        self.lent = False

    @property
    def _limit(self):
        return self.limit_

    @_limit.setter
    def _limit(self, limit):
        self.set_limit(limit)

    @property
    def _eof(self):
        return self.eof

    @_eof.setter
    def _eof(self, value: cython.bint):
        self.eof = value

    @property
    def _waiter(self):
        return self.waiter

    @_waiter.setter
    def _waiter(self, future):
        self.waiter = future
        self.need = 0

    @property
    def _exception(self):
        return self.error

    @_exception.setter
    def _exception(self, error):
        self.error = error

    @property
    def _transport(self):
        return self.transport

    @_transport.setter
    def _transport(self, transport):
        self.transport = transport

    @property
    def _paused(self):
        return self.paused

    @_paused.setter
    def _paused(self, value: cython.bint):
        self.paused = value


# ---- how to read -------------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=True)
def _as_count(n) -> cython.Py_ssize_t:
    """A number of bytes. One that no buffer can have is the largest that one can."""
    overflow: cython.int = 0
    if type(n) is int:
        count: cython.long = PyLong_AsLongAndOverflow(ref(n), cython.address(overflow))
        if not overflow:
            return count
    return PyNumber_AsSsize_t(n, cython.NULL)


@cython.cfunc
def _counted(method: Method, reader: StreamReader, n) -> object:
    count: cython.Py_ssize_t = _as_count(n)
    c: NativeCoroutine = new_coroutine(method, reader, None)
    c.count = count
    return c


@cython.cfunc
def _until(method: Method, reader: StreamReader, separator, limit) -> object:
    most: cython.Py_ssize_t = THE_READER_S
    if limit is not None:
        most = _as_count(limit)
        if most <= 0:
            raise ValueError("Limit cannot be <= 0")
    c: NativeCoroutine = new_coroutine(method, reader, separator)
    c.count = most
    c.mark = 0
    return c


# ---- by name, for subclasses -------------------------------------------------------------------------


async def _readline(reader: StreamReader, limit):
    """readline() if a subclass may have replaced readuntil()."""
    try:
        return await (reader.readuntil() if limit is None else reader.readuntil(limit=limit))
    except IncompleteReadError as exc:
        return exc.partial
    except LimitOverrunError as exc:
        drop_line(reader, exc.consumed)
        raise ValueError(exc.args[0])  # noqa: B904


async def _next(reader):
    """A step of `async for` if a subclass may have replaced readline()."""
    line = await reader.readline()
    if line == b"":
        raise StopAsyncIteration
    return line


READ = cython.declare(Method, Read("read", StreamReader))
READ_EXACTLY = cython.declare(Method, ReadExactly("readexactly", StreamReader))
READ_UNTIL = cython.declare(Method, Until("readuntil", StreamReader))
READ_LINE = cython.declare(Method, Line("readline", StreamReader))
NEXT = cython.declare(Method, Next("__anext__", StreamReader))
WAIT = cython.declare(Method, Wait("_wait_for_data", StreamReader))

finish_class(StreamReader, asyncio.StreamReader, ("read", "readexactly", "readline", "readuntil"))
