from libc.stdint cimport uint32_t
from hoop._c.linux cimport epoll_event
from hoop.sim.driver cimport SimDriver
from hoop.sim.net.delays cimport Agenda
from hoop.sim.net.transports cimport Wire

cdef enum:
    TAKE_BYTES = 65536      # the most that is taken from a socket at once
    FOUND_MAX = 1023        # descriptors that one look finds ready

# A wire whose world's end the flow watches.
cdef class WatchedWire(Wire):
    cdef readonly unsigned long serial
    cdef readonly int fd
    cdef public object inbound          # a deque of the messages for the program, where b"" is the end
    cdef public bint ended              # the program has sent its end
    cdef public uint32_t watched        # the events of which the world hears
    cdef int arrive(self, bytes data) except -1
    cdef int take_from(self, bint ends, bint of_kernel) except -1
    cpdef int push(self) except -1

# The messages and other events of a world, and the descriptors of its ends.
cdef class Flow:
    cdef readonly SimDriver driver      # of the world's own program
    cdef Agenda events                  # calls with arguments, and ends with the bytes that arrive there
    cdef readonly dict ends             # all that are open, by descriptor
    cdef readonly dict outlets          # of UDP sockets that are connected, likewise
    cdef unsigned long serial           # the last number
    cdef list kept                      # ends whose programs have sent something that the kernel does not have
    cdef bint news                      # something is watched otherwise than at the last look
    cdef int epfd                       # an epoll that watches ends and outlets; -1 before the first
    cdef epoll_event *found             # room for FOUND_MAX
    cdef char *buffer                   # of TAKE_BYTES
    cdef int stop(self) noexcept
    cdef unsigned long next_number(self) noexcept
    cdef int look(self) except -1
    cdef list found_ends(self)
