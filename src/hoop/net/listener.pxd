from hoop._c.linux cimport hoop_peer
from hoop.drivers.op cimport Op
from hoop.scheduling.base cimport LoopBase
from hoop.net.stream cimport StreamTransport

cdef class AcceptOp(Op):
    cdef LoopBase loop
    cdef object sock                # the listening socket; its Server owns it
    cdef object protocol_factory
    cdef readonly object server
    cdef object context             # copied for each connection
    cdef object on_socket           # takes each accepted Python socket and what is known of it instead, if not None
    cdef unsigned int burst         # how many to accept before the loop goes on
    cdef unsigned int backlog
    cdef bint put_off               # connections were left waiting because the loop was being stopped
    cdef int failed(self, int error) except -1
    cdef object retry               # the timer that arms it again after the system ran out
    cdef int out_of_resources(self, object exc) except -1
    cdef int connected(self, int fd, hoop_peer *peer) except -1

cdef int stand_by(StreamTransport stream) except -1
