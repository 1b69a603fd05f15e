from hoop.tls.application cimport Application
from hoop.drivers.op cimport Op
from hoop.tls.records cimport Records
from hoop.net.stream cimport StreamTransport

cdef enum:
    BATCH_BYTES = 65536                 # how much to encrypt before the transport below sends

cdef enum State:
    UNCONNECTED                         # before connection_made
    HANDSHAKE
    OPEN
    FLUSHING                            # closing: the queue is sent first
    SHUTDOWN                            # close_notify was sent, and the peer's is awaited
    ENDED

cdef class SealOp(Op):
    cdef TlsOutbox outbox            # None once the connection is lost

cdef class TlsOutbox(Application):
    cdef object lower                   # the transport below; None until connected, and once lost
    cdef StreamTransport stream         # the same, if it is hoop's
    cdef Records records
    cdef SealOp seal_op
    cdef bint is_dirty                  # it is on the loop's dirty list
    cdef bint sealing                   # inside of flush(), which does not nest
    cdef bint stuck                     # OpenSSL needs data from the peer before it encrypts more
    cdef Py_ssize_t high_water, low_water
    cdef unsigned char state
    cdef bint catching_up               # close() is delivering data that was received before
    cdef bint writing_paused            # the application was told to pause
    cdef bint lower_paused              # the transport below told this layer to pause
    cdef unsigned int lost              # counts writes after the connection was lost

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
    # virtual, defined by the layer
    cdef int finish_writing(self) except -1
