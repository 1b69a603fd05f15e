from hoop.sim.driver cimport Choices

cdef enum:
    PIECES_MAX = 16             # a message is cut into no more, or large ones would take too long

cdef struct Entry:
    long long due               # nanoseconds
    unsigned long number        # of two that are due at one time the lower comes first
    Py_ssize_t slot             # where its call is

# The messages and other events of a world, by time: a binary heap.
cdef class Agenda:
    cdef Entry *heap            # those from `count` on have free slots
    cdef Py_ssize_t count, room
    cdef list calls, arguments  # by slot
    cdef int put(self, long long due, unsigned long number, object call, object argument) except -1
    cdef Py_ssize_t take_first(self) noexcept
    cdef int grow(self) except -1

# How long messages take, and how they are cut. Weather derives from it, and draws the fields.
cdef class Delays:
    cdef public double high, low            # seconds
    cdef public double spikes, spike        # the chance of one, and how many times longer it takes
    cdef public double bandwidth            # bytes a second; 0 for no limit
    cdef public double pieces               # the chance that a message comes in pieces
    cdef public unsigned long piece         # the most bytes in one of them
    cdef public Py_ssize_t window           # the room for bytes in flight
    cdef public double reset, epipe         # the chances that a message ends its connection
    cdef long long time_of_way(self, Choices choices, bint spike) except? -1
    cdef long long time_on_link(self, Py_ssize_t n) noexcept
    cdef list cut(self, bytes data, Choices choices)
