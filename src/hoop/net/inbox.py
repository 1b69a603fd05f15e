"""An op that keeps received data until the transport takes it. The io_uring driver fills it.

The kernel may have received more before it sees that reading was stopped. That is kept too, in order.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.hoop.drivers.op import Op

ECANCELED = cython.declare(cython.int, errno.ECANCELED)
# As much as asyncio's transports receive at once.
CHUNK_BYTES_MAX = cython.declare(cython.Py_ssize_t, 262144)


@cython.cclass
class Inbox(Op):
    """Receives, and keeps the data in chunks."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        if not self.delivers:
            return True
        if result > 0:
            chunk = PyBytes_FromStringAndSize(data, result)
            if self.first is None:
                self.first = chunk
            elif self.more is None:
                self.more = [chunk]
            else:
                self.more.append(chunk)
            self.size += result
            if self.size >= BULK_BYTES:
                self.by_hand = True
        elif result == 0:
            self.eof = True
        elif result == -ECANCELED:
            return False
        else:
            self.error = result
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_news(self) -> cython.bint:
        return self.first is not None or self.eof or self.error != 0

    @cython.cfunc
    def take_chunk(self) -> bytes:
        """Return the received data, in one piece if it is small enough."""
        chunk = self.first
        if self.more is None:
            self.first = None
            self.size = 0
            return chunk
        if self.size <= CHUNK_BYTES_MAX:
            chunk += b"".join(self.more)
            self.first = self.more = None
            self.size = 0
            return chunk
        self.size -= PyBytes_GET_SIZE(chunk)
        self.first = self.more.pop(0)
        if not self.more:
            self.more = None
        return chunk

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget_news(self) -> cython.int:
        self.first = self.more = None
        self.size = 0
        self.eof = False
        self.error = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put_back(self, chunk: bytes) -> cython.int:
        """Put the rest of a chunk back in front."""
        if self.first is not None:
            self.more = [self.first, *(self.more or ())]
        self.first = chunk
        self.size += PyBytes_GET_SIZE(chunk)
        return 0
