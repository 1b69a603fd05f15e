from hoop._c.python cimport flag
from hoop.drivers.op cimport Op

cdef enum:
    # A stream that receives this much at once asks for readiness only, and receives into a buffer that
    # stays in the cache. It does so until it receives less. All streams share the driver's buffers, and
    # none may use them up.
    BULK_BYTES = 10240
    TRICKLE_BYTES = 6144
    # If a stream received this much at once and has as much again, it goes straight into an object of its own.
    FLOOD_BYTES = 65536

cdef class Inbox(Op):
    # The data that the driver handed over: `first`, then `more`, then the end or an error.
    cdef bytes first
    cdef list more                      # None when there is nothing behind the first
    cdef Py_ssize_t size                # bytes in them
    cdef flag eof
    cdef int error                      # -errno
    cdef bint has_news(self) noexcept
    cdef bytes take_chunk(self)
    cdef int put_back(self, bytes chunk) except -1
    cdef int forget_news(self) except -1
