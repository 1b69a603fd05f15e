"""The reading half of a stream. See asyncio.StreamReader, whose behaviour this follows.

A packet that comes while nothing is left of those before it stays the one `bytes` that was made of it: a
read() that wants no less gets that very object. Otherwise everything lies end to end in a bytearray. A read
that can be answered from there does not suspend, and one that is cancelled has taken nothing.

Whoever waits is woken when there is enough: readexactly() once, and not by every packet. The transport is
paused when more than twice the limit waits to be read and nobody waits for more, and goes on when it is no
more than the limit.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events, exceptions, format_helpers, streams

import cython
from cython.cimports.cpython.buffer import PyObject_CheckBuffer
from cython.cimports.cpython.bytearray import (
    PyByteArray_AS_STRING,
    PyByteArray_FromStringAndSize,
    PyByteArray_GET_SIZE,
    PyByteArray_Resize,
)
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.hoop._c.linux import memchr, memmem
from cython.cimports.hoop._c.python import (
    PyLong_AsLongAndOverflow,
    PyNumber_AsSsize_t,
    Ref,
    ref,
)
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.scheduling.future import new_future, renew_future
from cython.cimports.hoop.sync.waiting import Primitive, finish_class, is_cancelled, wake
from cython.cimports.libc.limits import LONG_MAX
from cython.cimports.libc.string import memcpy, memmove

DEFAULT_LIMIT = streams._DEFAULT_LIMIT
LIMIT_MAX = cython.declare(cython.Py_ssize_t, LONG_MAX // 4)
NEWLINE = cython.declare(bytes, b"\n")
EVERYTHING = cython.declare(cython.Py_ssize_t, LONG_MAX)
THE_READER_S = cython.declare(cython.Py_ssize_t, -1)  # the limit of a call that was given none

IncompleteReadError = cython.declare(object, exceptions.IncompleteReadError)
LimitOverrunError = cython.declare(object, exceptions.LimitOverrunError)


@cython.cclass
class StreamReader(Primitive):
    """What comes in on a connection, to be read by a task. See asyncio.StreamReader.

    `limit` is how long a line may be; above twice as much in the buffer the transport is paused. readline()
    and readuntil() can be called with a `limit` of their own, and readuntil() with a tuple of separators.
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

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def set_limit(self, limit) -> cython.int:
        self.limit_ = limit
        self.limit = int(limit) if limit < LIMIT_MAX else LIMIT_MAX
        self.high = 2 * self.limit
        return 0

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
        """Say which transport is to be paused when too much comes in. Only once."""
        if self.transport is not None:
            raise AssertionError("Transport already set")
        self.transport = transport

    def feed_data(self, data):
        """Put bytes in. Nobody may after feed_eof()."""
        if self.eof:
            raise AssertionError("feed_data after feed_eof")
        if not data:
            return
        if type(data) is not bytes:
            copy = bytearray()
            copy.extend(data)
            data = bytes(copy)
        self.add_chunk(data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        if self.chunk is None and self.store is None:
            self.chunk = PyBytes_FromStringAndSize(data, n)
        else:
            self.extend(data, n)
        return self.arrived()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add_chunk(self, chunk: bytes) -> cython.int:
        if self.chunk is None and self.store is None:
            self.chunk = chunk
        else:
            self.extend(PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
        return self.arrived()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def extend(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """Put bytes behind those that are there."""
        size: cython.Py_ssize_t = self.size()
        if self.store is None:
            self.store = PyByteArray_FromStringAndSize(self.data(), size)
            self.chunk = None
            self.start = 0
        elif self.start > size:  # so that what is moved is always less than what was read
            memmove(PyByteArray_AS_STRING(self.store), self.data(), size)
            self.start = 0
            PyByteArray_Resize(self.store, size)
        size = PyByteArray_GET_SIZE(self.store)
        PyByteArray_Resize(self.store, size + n)
        memcpy(PyByteArray_AS_STRING(self.store) + size, data, n)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arrived(self) -> cython.int:
        """There is more: wake who waits if it is enough, or stop more from coming if it is too much."""
        size: cython.Py_ssize_t = self.size()
        if self.waiter is not None:
            if size >= self.need or is_cancelled(self.waiter):
                self.wake_waiter()
            return 0  # whoever was woken takes some first
        return 0 if size <= self.high else self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        if self.size() <= self.high or self.paused or self.transport is None:
            return 0
        try:
            self.transport.pause_reading()
        except NotImplementedError:
            self.transport = None  # it cannot be paused: whatever comes has to be kept
        else:
            self.paused = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_resume(self) -> cython.int:
        if self.paused and self.size() <= self.limit:
            self.paused = False
            self.transport.resume_reading()
        return 0

    def feed_eof(self):
        """Say that nothing more comes."""
        self.end()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(self) -> cython.int:
        self.eof = True
        return self.wake_waiter()

    def at_eof(self):
        """Whether everything was read and nothing more comes."""
        return self.eof and self.size() == 0

    def exception(self):
        """What set_exception() was given; None without."""
        return self.error

    def set_exception(self, exc):
        """Make every read raise it, now and later."""
        self.bytes_first = False
        self.fail(exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, error) -> cython.int:
        self.error = error
        waiter = self.waiter
        self.waiter = None
        self.need = 0
        if waiter is not None and not is_cancelled(waiter):
            waiter.set_exception(error)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lose(self, error) -> cython.int:
        """The connection failed: what came before can be read, and then this is raised."""
        self.bytes_first = True
        return self.fail(error)

    # ---- what goes out ----

    @cython.cfunc
    def take(self, n: cython.Py_ssize_t) -> bytes:
        """The first n bytes, or all if there are no more."""
        size: cython.Py_ssize_t = self.size()
        if n >= size:
            n = size
            if self.chunk is not None and self.start == 0:
                data: bytes = self.chunk
                self.chunk = None
                return data
        if n == 0:
            return b""
        data = PyBytes_FromStringAndSize(self.data(), n)
        self.drop(n)
        return data

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop(self, n: cython.Py_ssize_t) -> cython.int:
        """Forget the first n bytes, of at least as many."""
        if self.lent:
            del self.store[:n]
            return 0
        self.start += n
        if self.size() == 0:
            self.chunk = self.store = None
            self.start = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def find(
        self, separators, offset: cython.Py_ssize_t, end: cython.pointer[cython.Py_ssize_t]
    ) -> cython.Py_ssize_t:
        """Where, from `offset` on, the separator begins that ends first; -1 if there is none."""
        if type(separators) is bytes:
            return _search(self, separators, offset, end)
        start: cython.Py_ssize_t = -1
        here: cython.Py_ssize_t
        there: cython.Py_ssize_t = 0
        for separator in cython.cast(list, separators):
            here = _search(self, separator, offset, cython.address(there))
            if here >= 0 and (start < 0 or there < end[0]):
                start = here
                end[0] = there
        return start

    @cython.binding(True)
    def read(self, n=-1):
        """Read up to `n` bytes, as soon as there are some; b"" at the end. Without `n`, all there will be."""
        return _counted(READ, self, n)

    @cython.binding(True)
    def readexactly(self, n):
        """Read `n` bytes. Raises IncompleteReadError with those there are if the end comes before."""
        return _counted(READ_EXACTLY, self, n)

    @cython.binding(True)
    def readline(self, *, limit=None):
        r"""Read up to the next "\n", or to the end. Raises ValueError if the line is longer than `limit`.

        Such a line is dropped. `limit` is the reader's, if this is not given.
        """
        if not isinstance(self, StreamReader) or not self.is_plain():
            return _readline(self, limit)  # which looks again at what it was given
        return _until(READ_LINE, self, NEWLINE, limit)

    @cython.binding(True)
    def readuntil(self, separator=NEWLINE, *, limit=None):
        """Read up to a separator, or the first of a tuple of them, which comes at the end of the result.

        Raises IncompleteReadError at the end, with what there is, and LimitOverrunError if more than
        `limit` bytes come before the separator; then nothing is taken. `limit` is the reader's, if
        this is not given.
        """
        return _until(READ_UNTIL, self, separator, limit)

    def __aiter__(self):
        return self

    def __anext__(self):
        """The next line; there is none at the end."""
        if not self.is_plain():
            return _next(self)
        return _until(NEXT, self, NEWLINE, None)

    # ---- waiting ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake_waiter(self) -> cython.int:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            self.need = 0
            wake(waiter, None)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait(self, c: NativeCoroutine, method: str, need: cython.Py_ssize_t) -> cython.int:
        """What a step does last: wait until so much is there, or the end."""
        if self.waiter is not None:
            raise RuntimeError(
                f"{method}() called while another coroutine is already waiting for incoming data"
            )
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
        native: LoopBase = self.native_loop
        if native is None or native.debug:
            self.waiter = self.bound_loop.create_future()
        else:
            if self.last_waiter is None or not renew_future(
                cython.cast(Ref, self.last_waiter)  # uncounted
            ):
                self.last_waiter = new_future(native)
            self.waiter = self.last_waiter
        self.need = need
        return c.wait_for(self.waiter)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_waiting(self, c: NativeCoroutine) -> cython.int:
        if self.waiter is c.future:
            self.waiter = None
            self.need = 0
        return 0

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


@cython.cfunc
@cython.exceptval(-2, check=False)
def _search(
    reader: StreamReader,
    separator: bytes,
    offset: cython.Py_ssize_t,
    end: cython.pointer[cython.Py_ssize_t],
) -> cython.Py_ssize_t:
    """Where, from `offset` on, a separator begins, and where it ends; -1 if it is not there."""
    size: cython.Py_ssize_t = reader.size() - offset
    length: cython.Py_ssize_t = PyBytes_GET_SIZE(separator)
    if size < length:
        return -1
    data: cython.p_char = reader.data()
    found: cython.p_char
    if length == 1:
        found = cython.cast(cython.p_char, memchr(data + offset, separator[0], size))
    else:
        found = cython.cast(
            cython.p_char, memmem(data + offset, size, PyBytes_AS_STRING(separator), length)
        )
    if found is cython.NULL:
        return -1
    end[0] = found - data + length
    return found - data


@cython.cclass
class Reading(Method):
    """A method that reads."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        """End, if there is enough, and wait if not."""
        raise NotImplementedError(self.name)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        cython.cast(StreamReader, c.owner).stop_waiting(c)
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        reader.stop_waiting(c)
        reader.maybe_pause()  # nobody waits any more for what is too much otherwise
        raise error


@cython.final
@cython.cclass
class Read(Reading):
    """reader.read()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if reader.has_failed():
            raise reader.error
        if c.count > 0 and not reader.eof and reader.size() == 0:
            return reader.wait(c, "read", 0)
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if c.count < 0 and not reader.eof:
            if reader.error is not None:
                raise reader.error
            return reader.wait(c, "read", EVERYTHING)
        c.value = reader.take(c.count if c.count >= 0 else EVERYTHING)
        reader.settle()
        return OVER


@cython.final
@cython.cclass
class ReadExactly(Reading):
    """reader.readexactly()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        if c.count < 0:
            raise ValueError("readexactly size can not be less than zero")
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if reader.has_failed():
            raise reader.error
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if reader.size() < c.count:
            if reader.error is not None:
                raise reader.error
            if not reader.eof:
                return reader.wait(c, "readexactly", c.count)
            raise IncompleteReadError(reader.take(EVERYTHING), c.count)
        c.value = reader.take(c.count)
        reader.settle()
        return OVER


@cython.cclass
class Until(Reading):
    """reader.readuntil()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        separators = c.value
        if type(separators) is not bytes:
            if isinstance(separators, tuple):
                separators = sorted([_as_bytes(each) for each in separators], key=len)
                if not separators:
                    raise ValueError("Separator should contain at least one element")
            else:
                separators = _as_bytes(separators)
            c.value = separators
        if not len(separators if type(separators) is bytes else separators[0]):
            raise ValueError("Separator should be at least one-byte string")
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if reader.has_failed():
            raise reader.error
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        limit: cython.Py_ssize_t = reader.limit if c.count == THE_READER_S else c.count
        end: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t = reader.find(c.value, c.mark, cython.address(end))
        if start >= 0:
            if start > limit:
                return self.too_long(c, "Separator is found, but chunk is longer than limit", start)
            c.value = reader.take(end)
            reader.settle()
            return OVER
        # What follows could be the beginning of a separator.
        longest = c.value if type(c.value) is bytes else c.value[len(c.value) - 1]
        end = reader.size() + 1 - PyBytes_GET_SIZE(longest)
        if end > c.mark:
            c.mark = end
            if end > limit:
                return self.too_long(c, "Separator is not found, and chunk exceed the limit", end)
        if reader.eof:
            return self.incomplete(c)
        if reader.error is not None:
            raise reader.error
        return reader.wait(c, "readuntil", 0)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def too_long(self, c: NativeCoroutine, message: str, consumed: cython.Py_ssize_t) -> cython.int:
        cython.cast(StreamReader, c.owner).maybe_pause()
        raise LimitOverrunError(message, consumed)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def incomplete(self, c: NativeCoroutine) -> cython.int:
        raise IncompleteReadError(cython.cast(StreamReader, c.owner).take(EVERYTHING), None)


@cython.cclass
class Line(Until):
    """reader.readline()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def too_long(self, c: NativeCoroutine, message: str, consumed: cython.Py_ssize_t) -> cython.int:
        error = LimitOverrunError(message, consumed)
        _drop_line(cython.cast(StreamReader, c.owner), consumed)
        try:
            raise error
        except LimitOverrunError:
            raise ValueError(message)  # noqa: B904  # with the context that asyncio's has

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def incomplete(self, c: NativeCoroutine) -> cython.int:
        c.value = cython.cast(StreamReader, c.owner).take(EVERYTHING)
        return OVER


@cython.final
@cython.cclass
class Next(Line):
    """The next step of `async for`."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def incomplete(self, c: NativeCoroutine) -> cython.int:
        Line.incomplete(self, c)
        if not c.value:
            raise StopAsyncIteration
        return OVER


@cython.final
@cython.cclass
class Wait(Reading):
    """reader._wait_for_data(), which some call that read the buffer themselves."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        reader: StreamReader = cython.cast(StreamReader, c.owner)
        if reader.eof:
            raise AssertionError("_wait_for_data after EOF")
        if reader.bytes_first and reader.error is not None:
            raise reader.error
        method = c.value
        c.value = None
        return reader.wait(c, method, 0)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        cython.cast(StreamReader, c.owner).settle()
        return OVER


@cython.cfunc
@cython.exceptval(-1, check=False)
def _drop_line(reader: StreamReader, consumed: cython.Py_ssize_t) -> cython.int:
    """Forget a line that is too long, or as much of it as there is."""
    if reader.size() > consumed and reader.data()[consumed] == 10:
        reader.drop(consumed + 1)
    else:
        reader.drop(reader.size())
    return reader.settle()


@cython.cfunc
def _as_bytes(separator) -> bytes:
    if not PyObject_CheckBuffer(separator):
        raise TypeError(
            f"argument should be integer or bytes-like object, not {type(separator).__name__!r}"
        )
    return bytes(memoryview(separator))  # bytes() would let a subclass have its say


# ---- by name, for subclasses -------------------------------------------------------------------------


async def _readline(reader: StreamReader, limit):
    """readline() where readuntil() may be somebody else's."""
    try:
        return await (reader.readuntil() if limit is None else reader.readuntil(limit=limit))
    except IncompleteReadError as exc:
        return exc.partial
    except LimitOverrunError as exc:
        _drop_line(reader, exc.consumed)
        raise ValueError(exc.args[0])  # noqa: B904


async def _next(reader):
    """A step of `async for` where readline() may be somebody else's."""
    line = await reader.readline()
    if line == b"":
        raise StopAsyncIteration
    return line


READ = cython.declare(Read, Read("read", StreamReader))
READ_EXACTLY = cython.declare(ReadExactly, ReadExactly("readexactly", StreamReader))
READ_UNTIL = cython.declare(Until, Until("readuntil", StreamReader))
READ_LINE = cython.declare(Line, Line("readline", StreamReader))
NEXT = cython.declare(Next, Next("__anext__", StreamReader))
WAIT = cython.declare(Wait, Wait("_wait_for_data", StreamReader))

finish_class(StreamReader, asyncio.StreamReader, ("read", "readexactly", "readline", "readuntil"))
