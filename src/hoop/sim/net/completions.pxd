from hoop._c.linux cimport epoll_event
from hoop.drivers.op cimport CallOp, Op
from hoop.drivers.ready cimport ReadyRing
from hoop.sim.net.transports cimport Wire

cdef enum:
    RECEIVE_MAX = 16384             # as much as the driver of io_uring receives at once
    EVENTS_MAX = 512                # descriptors that one look finds readable

# The ops for which the driver itself receives and sends, as that of io_uring does.
cdef class Completions:
    cdef dict receiving             # by descriptor: the number of the submission, and the op
    cdef unsigned long submitted    # the last of those numbers
    cdef int epfd                   # an epoll that watches those descriptors
    cdef list calls
    cdef list handed                # of `receiving`: ops for which something was handed over
    cdef int receive_max, send_max  # bytes
    cdef char *buffer
    cdef epoll_event *events        # room for EVENTS_MAX
    cdef int submit(self, Op op) except -1
    cdef int watch(self, int fd) except -1
    cdef bint cancel(self, Op op) except -1
    cdef Op receiver(self, int fd)
    cdef bint send(self, ReadyRing ready) except -1
    cdef Py_ssize_t send_one(self, CallOp call) noexcept
    cdef bint hand(self, Wire wire, int fd, bytes data) except -1
    cdef bint receive(self, ReadyRing ready, bint asks) except -1
    cdef bint receive_for(self, Op op, ReadyRing ready) except -1
    cdef int deliver(self, Op op, bytes data) except -1
    cdef Py_ssize_t receive_once(self, Op op) except? -1
    cdef int close(self) except -1
