from hoop._core.op cimport Op
from hoop._core.base cimport LoopBase

cdef class AcceptOp(Op):
    cdef LoopBase loop
    cdef object sock                # the listening socket; its Server owns it
    cdef object protocol_factory
    cdef readonly object server
    cdef object context             # copied for each connection
    cdef object on_socket           # takes each accepted Python socket instead, if not None
    cdef unsigned int burst         # how many to accept before the loop goes on
    cdef unsigned int backlog
    cdef list accepted              # descriptors that a completion driver has accepted, and nobody owns yet
    cdef int error                  # with which it stopped accepting: -errno
    cdef int on_accepted(self) except -1
    cdef int accept_some(self) except -1
    cdef int close_accepted(self) except -1
    cdef int failed(self, int error) except -1
    cdef object retry               # the timer that arms it again after the system ran out
    cdef int out_of_resources(self, object exc) except -1
    cdef int connected(self, int fd) except -1
