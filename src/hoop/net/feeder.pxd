from hoop.net.endpoint cimport Layer

cdef class Feeder(Layer):
    cdef object reader_ref              # the protocol's weak reference to the reader
    cdef dict reader_attributes         # the reader's; None until the first bytes
    cdef dict protocol_attributes
    cdef Py_ssize_t count, protocol_count   # how many attributes both had then
    cdef object limit_object            # the reader's limit, when it was last looked at
    cdef Py_ssize_t limit               # the same as a number
    cdef bint hopeless                  # the protocol is not asyncio's, so never look again
    cdef int feed(self, char *data, Py_ssize_t n, bint early) except -1
    cdef int pause(self) except -1
    cdef int on_lost(self) except -1
    cdef bint look(self) except -1

cdef Feeder feeder_of(object protocol)
