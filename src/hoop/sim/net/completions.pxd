from hoop.drivers.op cimport Op
from hoop.drivers.ready cimport ReadyRing

cdef enum:
    RECEIVE_MAX = 16384             # as much as the driver of io_uring receives at once

# The ops for which the driver itself receives and sends, as that of io_uring does.
cdef class Completions:
    cdef list receiving             # in the order in which they were submitted
    cdef list calls
    cdef int receive_max, send_max  # bytes
    cdef char *buffer
    cdef int submit(self, Op op) except -1
    cdef bint cancel(self, Op op) except -1
    cdef Op receiver(self, int fd)
    cdef bint send(self, ReadyRing ready) except -1
    cdef int receive(self, ReadyRing ready) except -1
    cdef bint receive_once(self, Op op) except -1
    cdef int close(self) except -1
