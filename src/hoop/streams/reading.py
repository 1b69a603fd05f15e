"""The calls that read a stream, step by step: each begins, waits, looks again, and takes what it wants.

A read that can be answered with what is there does not suspend. One that is cancelled has taken nothing.
"""

from __future__ import annotations

from asyncio import exceptions

import cython
from cython.cimports.cpython.buffer import PyObject_CheckBuffer
from cython.cimports.cpython.bytes import PyBytes_GET_SIZE
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine
from cython.cimports.hoop.streams.incoming import Incoming
from cython.cimports.libc.limits import LONG_MAX

EVERYTHING = cython.declare(cython.Py_ssize_t, LONG_MAX)

IncompleteReadError = cython.declare(object, exceptions.IncompleteReadError)
LimitOverrunError = cython.declare(object, exceptions.LimitOverrunError)


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
        cython.cast(Incoming, c.owner).stop_waiting(c)
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        reader: Incoming = cython.cast(Incoming, c.owner)
        reader.stop_waiting(c)
        reader.maybe_pause()  # without this waiter, the reader may hold too much
        raise error


@cython.final
@cython.cclass
class Read(Reading):
    """reader.read()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        reader: Incoming = cython.cast(Incoming, c.owner)
        if reader.has_failed():
            raise reader.error
        if c.count > 0 and not reader.eof and reader.size() == 0:
            return reader.wait(c, "read", 0)
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: Incoming = cython.cast(Incoming, c.owner)
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
        reader: Incoming = cython.cast(Incoming, c.owner)
        if reader.has_failed():
            raise reader.error
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: Incoming = cython.cast(Incoming, c.owner)
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
        reader: Incoming = cython.cast(Incoming, c.owner)
        if reader.has_failed():
            raise reader.error
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        reader: Incoming = cython.cast(Incoming, c.owner)
        limit: cython.Py_ssize_t = reader.limit if c.count == THE_READER_S else c.count
        end: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t = reader.find(c.value, c.mark, cython.address(end))
        if start >= 0:
            if start > limit:
                return self.too_long(c, "Separator is found, but chunk is longer than limit", start)
            c.value = reader.take(end)
            reader.settle()
            return OVER
        # The bytes behind could be the beginning of a separator.
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
        cython.cast(Incoming, c.owner).maybe_pause()
        raise LimitOverrunError(message, consumed)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def incomplete(self, c: NativeCoroutine) -> cython.int:
        raise IncompleteReadError(cython.cast(Incoming, c.owner).take(EVERYTHING), None)


@cython.cclass
class Line(Until):
    """reader.readline()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def too_long(self, c: NativeCoroutine, message: str, consumed: cython.Py_ssize_t) -> cython.int:
        error = LimitOverrunError(message, consumed)
        drop_line(cython.cast(Incoming, c.owner), consumed)
        try:
            raise error
        except LimitOverrunError:
            raise ValueError(message)  # noqa: B904  # with the context that asyncio's has

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def incomplete(self, c: NativeCoroutine) -> cython.int:
        c.value = cython.cast(Incoming, c.owner).take(EVERYTHING)
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
        reader: Incoming = cython.cast(Incoming, c.owner)
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
        cython.cast(Incoming, c.owner).settle()
        return OVER


@cython.cfunc
@cython.exceptval(-1, check=False)
def drop_line(reader: Incoming, consumed: cython.Py_ssize_t) -> cython.int:
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
