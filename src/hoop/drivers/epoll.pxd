from libc.stdint cimport uint32_t, uint64_t
from hoop._c.linux cimport epoll_event
from hoop._c.python cimport Ref
from hoop.drivers.driver cimport Driver
from hoop.drivers.op cimport Op

cdef enum:
    BATCH = 512                     # events taken by one epoll_wait

# The ops that are armed for one descriptor.
cdef struct Slot:
    Ref reader                      # owned Op, or NULL
    Ref writer                      # owned Op, or NULL
    uint32_t mask                   # the events that epoll was told to watch
    uint32_t generation             # counts registrations, to ignore events of an earlier file of this number

cdef class EpollDriver(Driver):
    cdef object gc_marker           # an object field, so that the type is garbage-collected
    cdef int epfd, wake_fd
    cdef Slot *slots                # indexed by descriptor
    cdef int n_slots
    cdef epoll_event *events        # room for BATCH of them, made with the epoll descriptor
    cdef bint is_nested             # another driver sleeps, and is woken
    cdef bint is_closed
    cdef int open(self) except -1
    cdef int grow_slots(self, int fd) except -1
    cdef Ref *place(self, Op op) noexcept
    cdef int update(self, int fd, bint anew) noexcept
    cdef Ref take_neighbour(self, Op op) noexcept
    cdef int forget(self, int fd) except -1
    cdef int drop_all(self) except -1
    cdef int start_anew(self) noexcept

cdef class NestedOp(Op):
    cdef EpollDriver epoll
    cdef Ref ready                  # the ready ring, borrowed from the driver that watches; or NULL
    cdef unsigned int pause         # how many turns look_first() leaves out after it has found nothing ...
    cdef unsigned int paused        # ... and how many of them are left

cdef NestedOp new_nested()
cdef uint64_t name_of(Slot *slot, int fd) noexcept
cdef int evict(Ref p) except -1
