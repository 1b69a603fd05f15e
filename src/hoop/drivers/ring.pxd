from libc.stdint cimport uint32_t, uint64_t
from hoop._c.uring cimport hoop_cqe, hoop_pool, hoop_ring, hoop_sqe
from hoop.drivers.capabilities cimport Capabilities

cdef class Ring:
    cdef hoop_ring raw              # raw.fd is -1 while there is none
    cdef Capabilities able          # the features that the driver uses
    cdef unsigned long thread       # the thread to which the ring belongs
    cdef hoop_pool pool
    cdef bint has_pool
    cdef int wake_fd                # made with the first ring
    cdef int open(self) noexcept
    cdef int close(self) noexcept
    cdef bint belongs_here(self) noexcept
    cdef bint receives(self) noexcept
