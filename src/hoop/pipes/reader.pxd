from hoop.net.endpoint cimport Layer
from hoop.pipes.end cimport PipeEnd, PipeOp

cdef class ReadPipe(PipeEnd):
    cdef PipeOp reading                 # the op that was armed last; None while nothing is read
    cdef bint paused
    cdef bint floods                    # the last read was long, so read into a `bytes` for the protocol
    cdef object most                    # max_size: as much is read at once
    cdef Py_ssize_t most_bytes          # the same as a number
    cdef Layer layer                    # takes the bytes of asyncio's own protocols; or None
    cdef int read(self) except -1
    cdef int read_whole(self) except -1
    cdef Py_ssize_t receive(self, char *buffer, Py_ssize_t n) noexcept
    cdef int deliver(self, bytes data) except -1
    cdef int got_nothing(self, Py_ssize_t n) except -1
    cdef int on_end(self) except -1
    cdef int fail(self, object exc, str message) except -1
