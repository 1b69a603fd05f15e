from hoop._core.base cimport LoopBase
from hoop._core.c.python cimport Ref
from hoop._core.endpoint cimport Layer
from hoop._core.inbox cimport Inbox
from hoop._core.op cimport CallOp, Op
from hoop._core.outbox cimport Outbox
from cpython.buffer cimport Py_buffer

cdef class RecvOp(Inbox):
    cdef StreamTransport stream         # None once the connection is lost

cdef class SendOp(CallOp):
    cdef StreamTransport stream         # None once the connection is lost

cdef class StreamTransport(Outbox):
    cdef object server                  # told when the connection is lost

    # Bound when the protocol is set, so that a received byte costs no look-up by name.
    cdef object data_received           # None for a BufferedProtocol
    cdef object get_buffer, buffer_updated
    cdef Layer layer                    # the protocol, if it is a layer

    cdef RecvOp recv_op
    cdef SendOp send_op

    cdef bint connected                 # connection_made was called
    cdef bint closing                   # close() or abort() was called, or the connection failed
    cdef bint reading_paused
    cdef bint eof_written               # write_eof() was called
    cdef bint is_dirty                  # on the loop's list of what to flush
    cdef unsigned int lost              # connection_lost is scheduled; then counts writes to nobody
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server) except -1
    cdef int bind_protocol(self, object protocol) except -1
    cdef int begin(self) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int on_readable(self) except -1
    cdef int on_received(self) except -1
    cdef int receive_into_protocol(self) except -1
    cdef int copy_into_protocol(self, bytes chunk) except -1
    cdef bint borrow_buffer(self, Py_buffer *view) except -1
    cdef int deliver(self, object callback, object argument, str name) except -1
    cdef int on_eof(self) except -1
    cdef int on_writable(self) except -1
    cdef int write_to_nobody(self) except -1
    cdef int on_sent(self, long long n) except -1
    cdef int wait_to_send(self) except -1
    cdef int send_as_call(self) except -1
    cdef int send(self, object data) except -1
    cdef int queue(self, bytes chunk) except -1
    cdef int put(self, bytes chunk) except -1
    cdef int check_writable(self, str method) except -1
    cdef int on_drained(self) except -1
    cdef int fail(self, object exc, str message) except -1
    cdef int lose(self, object exc) except -1
    cdef int release(self) except -1

cdef StreamTransport new_stream(
    LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server
)
