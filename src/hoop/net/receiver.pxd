from cpython.buffer cimport Py_buffer
from hoop._c.python cimport flag
from hoop.net.endpoint cimport Layer
from hoop.net.inbox cimport Inbox
from hoop.net.outbox cimport Outbox

cdef class RecvOp(Inbox):
    cdef Receiver receiver              # None once the connection is lost

cdef class Receiver(Outbox):
    # Bound when the protocol is set, so that a received byte costs no look-up by name.
    cdef object data_received           # None for a BufferedProtocol
    cdef object get_buffer, buffer_updated
    cdef Layer layer                    # the protocol, if it is a layer

    cdef RecvOp recv_op
    cdef unsigned int lost              # connection_lost is scheduled; then counts writes to nobody
    cdef flag reading_paused
    cdef flag floods                    # the last receive brought FLOOD_BYTES or more
    cdef flag broken                    # a send has failed: what came before is received, then this fails
    cdef flag at_end                    # then: the last receive brought nothing
    cdef flag closing                   # close() or abort() was called, or the connection failed

    cdef int bind_protocol(self, object protocol) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int on_readable(self) except -1
    cdef int on_received(self) except -1
    cdef bint takes_early(self, char *data, Py_ssize_t n) except -1
    cdef int receive_whole(self, Py_ssize_t room) except -1
    cdef int receive_rest(self) except -1
    cdef int received_nothing(self, Py_ssize_t n) except -1
    cdef int receive_into_protocol(self) except -1
    cdef int copy_into_protocol(self, bytes chunk) except -1
    cdef bint borrow_buffer(self, Py_buffer *view) except -1
    cdef int deliver(self, object callback, object argument, str name) except -1
    # virtual, and the transport's
    cdef int on_eof(self) except -1
    cdef int fail(self, object exc, str message) except -1
