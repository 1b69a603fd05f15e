from hoop._core.base cimport LoopBase
from hoop._core.c.python cimport Ref
from hoop._core.endpoint cimport Endpoint
from hoop._core.op cimport Op

cdef enum:
    IOV_BATCH = 64                      # chunks that leave in one system call

cdef class RecvOp(Op):
    cdef StreamTransport stream         # None once the connection is lost

cdef class SendOp(Op):
    cdef StreamTransport stream         # None once the connection is lost

cdef class StreamTransport(Endpoint):
    cdef LoopBase loop
    cdef object server                  # told when the connection is lost
    cdef object context                 # the one context of every callback

    cdef object protocol
    # Bound when the protocol is set, so that a received byte costs no look-up by name.
    cdef object data_received           # None for a BufferedProtocol
    cdef object get_buffer, buffer_updated

    cdef RecvOp recv_op
    cdef SendOp send_op
    # What waits to be sent: `head` from `head_offset` on, then `rest`.
    cdef bytes head
    cdef Py_ssize_t head_offset
    cdef list rest                      # None when there is nothing behind the head
    cdef Py_ssize_t buffered            # bytes in all of it
    cdef Py_ssize_t high_water, low_water

    cdef bint connected                 # connection_made was called
    cdef bint closing                   # close() or abort() was called, or the connection failed
    cdef bint reading_paused
    cdef bint writing_paused            # the protocol was told to pause
    cdef bint eof_written               # write_eof() was called
    cdef bint unanswered                # something was received after the last write
    cdef unsigned int activity          # reads and writes so far
    cdef bint is_dirty                  # on the loop's list of what to flush
    cdef unsigned int lost              # connection_lost is scheduled; then counts writes to nobody
    cdef object empty_waiter            # a future of sendfile, done when all was sent
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server) except -1
    cdef int bind_protocol(self, object protocol) except -1
    cdef int begin(self) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int on_readable(self) except -1
    cdef int receive_into_protocol(self) except -1
    cdef int deliver(self, object callback, object argument, str name) except -1
    cdef int on_eof(self) except -1
    cdef int on_writable(self) except -1
    cdef int flush(self) except -1
    cdef int write_to_nobody(self) except -1
    cdef Py_ssize_t send_some(self) noexcept
    cdef int consume(self, Py_ssize_t n) except -1
    cdef int drop_chunks(self) except -1
    cdef int queue(self, bytes chunk) except -1
    cdef int check_writable(self, str method) except -1
    cdef int on_drained(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method) except -1
    cdef int fail(self, object exc, str message) except -1
    cdef int lose(self, object exc) except -1
    cdef int release(self) except -1

cdef StreamTransport new_stream(
    LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server
)
