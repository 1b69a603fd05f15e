from hoop._c.linux cimport hoop_peer
from hoop.drivers.op cimport Op
from hoop.scheduling.base cimport LoopBase
from hoop.net.stream cimport StreamTransport

cdef class AcceptOp(Op):
    cdef LoopBase loop
    cdef object sock                # the listening socket; its Server owns it
    cdef object protocol_factory
    cdef long long born             # when it was made, in nanoseconds
    cdef object local               # the address that it listens on, or None
    cdef readonly object server
    cdef readonly unsigned long accepted, refused   # connections, and those that could not be served
    cdef object context             # copied for each connection
    cdef object on_socket           # if not None, called with each accepted Python socket and its addresses
    cdef unsigned int burst         # how many connections to accept in one turn
    cdef unsigned int backlog
    cdef bint put_off               # the loop is stopping, so connections were left for its next turn
    cdef int failed(self, int error) except -1
    cdef object retry               # the timer that arms it again after the system ran out
    cdef int out_of_resources(self, object exc) except -1
    cdef int connected(self, int fd, hoop_peer *peer) except -1

cdef int stand_by(StreamTransport stream) except -1
