from hoop.sim.driver cimport Choices

cdef enum:
    PIECES_MAX = 16             # a message is cut into no more, or large ones would take too long

# How long messages take, and how they are cut. Weather derives from it, and draws the fields.
cdef class Delays:
    cdef public double high, low            # seconds
    cdef public double spikes, spike        # the chance of one, and how many times longer it takes
    cdef public double bandwidth            # bytes a second; 0 for no limit
    cdef public double pieces               # the chance that a message comes in pieces
    cdef public unsigned long piece         # the most bytes in one of them
    cdef public Py_ssize_t window           # the room for bytes in flight
    cpdef long long latency(self, Choices choices, bint spike) except? -1
    cpdef long long transfer(self, Py_ssize_t n) except? -1
    cpdef list cut(self, bytes data, Choices choices)
