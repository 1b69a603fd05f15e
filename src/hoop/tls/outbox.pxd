from hoop.tls.application cimport Application
from hoop.drivers.op cimport Op
from hoop.tls.records cimport Records
from hoop.net.stream cimport StreamTransport

cdef enum:
    BATCH_BYTES = 65536                 # what is encrypted before the transport below is asked to send

cdef enum State:
    UNCONNECTED                         # before connection_made
    HANDSHAKE
    OPEN
    FLUSHING                            # closing: what was written goes out
    SHUTDOWN                            # close_notify was written; the peer's is awaited
    ENDED

cdef class SealOp(Op):
    cdef TlsOutbox outbox            # None once the connection is lost

cdef class TlsOutbox(Application):
    cdef object lower                   # the transport below; None until connected and once lost
    cdef StreamTransport stream         # the same, if it is one of ours
    cdef Records records
    cdef SealOp seal_op
    cdef bint is_dirty                  # on the loop's list of what to flush
    cdef bint sealing                   # in flush(), which does not nest
    cdef bint stuck                     # OpenSSL must be fed before it can encrypt more
    cdef Py_ssize_t high_water, low_water
    cdef unsigned char state
    cdef bint catching_up               # close() delivers what came before it
    cdef bint writing_paused            # the application was told to pause
    cdef bint lower_paused              # the transport below told us to pause writing
    cdef unsigned int lost              # counts writes to nobody

    cdef int queue(self, bytes chunk) except -1
    cdef int queue_all(self, list chunks) except -1
    cdef bint is_to_wait(self, Py_ssize_t n) except -1
    cdef int go_on(self) except -1
    cdef int drain(self) except -1
    cdef int mark_dirty(self) except -1
    cdef int write_to_nobody(self) except -1
    cdef int flush(self) except -1
    cdef bint can_send(self) noexcept
    cdef int seal_batch(self) except -1
    cdef int send_outgoing(self) except -1
    cdef int put(self, bytes sealed) except -1
    cdef int push(self) except -1
    cdef int set_limits(self, object high, object low) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    # virtual, and the layer's
    cdef int finish_writing(self) except -1
