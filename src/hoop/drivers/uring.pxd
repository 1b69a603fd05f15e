from libc.stdint cimport uint32_t
from hoop._c.python cimport Ref
from hoop._c.uring cimport hoop_cqe
from hoop.drivers.epoll cimport NestedOp
from hoop.drivers.op cimport Op
from hoop.drivers.ready cimport ReadyRing
from hoop.drivers.requests cimport Requests

cdef class UringDriver(Requests):
    cdef object gc_marker           # an object field, so that the type is garbage-collected
    cdef NestedOp nested            # the epoll driver for foreign ops; None until there is one
    cdef Ref ready                  # the loop's ready ring; borrowed, because the loop owns the driver
    cdef bint reaping
    cdef bint resting               # the loop does not run, so nobody will submit the entries written

    cdef int open_ring(self) except -1
    cdef bint has_ring(self) noexcept
    cdef int submit_foreign(self, Op op) except -1
    cdef bint look_first(self, ReadyRing ready) except -1
    cdef int close_ring(self) except -1
    cdef int abandon(self, ReadyRing ready) except -1
    cdef int reap(self, ReadyRing ready) except -1
    cdef int settle(self, ReadyRing ready, hoop_cqe *cqe) except -1
    cdef int end(self, ReadyRing ready, uint32_t index, Op op, int result, bint wants_turn) except -1
    cdef int cancel_all(self) except -1
