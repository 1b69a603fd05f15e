from hoop._c.linux cimport epoll_event
from hoop.drivers.op cimport Op
from hoop.drivers.ready cimport ReadyRing

cdef enum:
    RECEIVE_MAX = 16384             # as much as the driver of io_uring receives at once
    EVENTS_MAX = 512                # descriptors that one look finds readable

# The ops for which the driver itself receives and sends, as that of io_uring does.
cdef class Completions:
    cdef dict receiving             # by descriptor: the number of the submission, and the op
    cdef unsigned long submitted    # the last of those numbers
    cdef int epfd                   # an epoll that watches those descriptors
    cdef list calls
    cdef int receive_max, send_max  # bytes
    cdef char *buffer
    cdef epoll_event *events        # room for EVENTS_MAX
    cdef int submit(self, Op op) except -1
    cdef int watch(self, int fd) except -1
    cdef bint cancel(self, Op op) except -1
    cdef Op receiver(self, int fd)
    cdef bint send(self, ReadyRing ready) except -1
    cdef bint receive(self, ReadyRing ready) except -1
    cdef bint receive_once(self, Op op) except -1
    cdef int close(self) except -1
