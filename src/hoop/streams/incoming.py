"""The bytes that came in on a stream and were not read yet, and the one call that waits for more of them.

A packet that comes while nothing is left of those before it stays the one `bytes` that was made of it. A
read() that wants no less gets that very object. Otherwise everything lies end to end in a bytearray.

A call that waits is woken when there is enough: readexactly() once, and not by every packet. The transport
is paused when more than twice the limit waits to be read and nobody waits for more. It goes on when it is no
more than the limit.
"""

from __future__ import annotations

import cython
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
from cython.cimports.hoop._c.python import Ref
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.coroutine import NativeCoroutine
from cython.cimports.hoop.scheduling.future import new_future, renew_future
from cython.cimports.hoop.sync.waiting import Primitive, is_cancelled, wake
from cython.cimports.libc.limits import LONG_MAX
from cython.cimports.libc.string import memcpy, memmove

LIMIT_MAX = cython.declare(cython.Py_ssize_t, LONG_MAX // 4)


@cython.cclass
class Incoming(Primitive):
    """The half of a StreamReader that holds what came in. reading.py has the calls that take it out."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def set_limit(self, limit) -> cython.int:
        self.limit_ = limit
        self.limit = int(limit) if limit < LIMIT_MAX else LIMIT_MAX
        self.high = 2 * self.limit
        return 0

    # ---- what comes in ----

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
        """Called when bytes came: wake the reading task if they suffice. Pause the transport at the limit."""
        size: cython.Py_ssize_t = self.size()
        if self.waiter is not None:
            if size >= self.need or is_cancelled(self.waiter):
                self.wake_waiter()
            return 0  # the one that was woken takes some first
        return 0 if size <= self.high else self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        if self.size() <= self.high or self.paused or self.transport is None:
            return 0
        try:
            self.transport.pause_reading()
        except NotImplementedError:
            self.transport = None  # it cannot be paused: all that comes has to be kept
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

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(self) -> cython.int:
        self.eof = True
        return self.wake_waiter()

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
        """Wait until `need` bytes are there, or the end of the stream. A step does this last."""
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


@cython.cfunc
@cython.exceptval(-2, check=False)
def _search(
    reader: Incoming,
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
