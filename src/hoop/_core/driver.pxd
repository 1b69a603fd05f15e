from hoop._core.handle cimport ReadyRing
from hoop._core.op cimport Op

cdef class Driver:
    cdef unsigned long generation       # of forks: the kernel's side belongs to the process that made it
    cdef bint inherited(self) noexcept
    cdef unsigned long waits, wakes     # how often it slept; how often it was woken by wake()
    cdef int submit(self, Op op) except -1
    cdef int cancel(self, Op op) except -1
    cdef int poll(self, ReadyRing ready, long long timeout_ns) except -1
    cdef int wake(self) except -1
    cdef int close(self) except -1
    cdef bint supports(self, int interest) noexcept
    cdef Op armed(self, int fd, int interest)
