from hoop._core.application cimport Application
from hoop._core.op cimport Op
from hoop._core.records cimport Records
from hoop._core.stream cimport StreamTransport

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
    cdef TlsLayer tls               # None once the connection is lost

cdef class TlsLayer(Application):
    cdef object lower                   # the transport below; None until connected and once lost
    cdef StreamTransport stream         # the same, if it is one of ours


    cdef Records records
    cdef dict extra                     # what get_extra_info() knows
    cdef object waiter                  # a future, done when the handshake is; or None
    cdef object handshake_timeout, shutdown_timeout     # in seconds
    cdef object timer                   # for one or the other
    cdef double began                   # when the handshake did, in debug mode
    cdef object parting                 # what went wrong while closing, for connection_lost

    cdef SealOp seal_op
    cdef bint is_dirty                  # on the loop's list of what to flush
    cdef bint sealing                   # in flush(), which does not nest
    cdef bint stuck                     # OpenSSL must be fed before it can encrypt more
    cdef Py_ssize_t high_water, low_water

    cdef unsigned char state
    cdef bint closed                    # close() or abort() was called, or the connection was lost
    cdef bint eof                       # the transport below has nothing more to read
    cdef bint notified                  # the peer sent close_notify
    cdef bint reading_paused            # by the application
    cdef bint behind                    # the same was told to the transport below, which has read nothing since
    cdef bint catching_up               # close() delivers what came before it
    cdef bint writing_paused            # the application was told to pause
    cdef bint lower_paused              # the transport below told us to pause writing
    cdef unsigned int lost              # counts writes to nobody
    cdef object __weakref__

    cdef int wake(self, object exc) except -1
    cdef int cancel_timer(self) except -1

    cdef int do_handshake(self) except -1
    cdef int handshake_done(self, object peercert) except -1
    cdef int handshake_failed(self, object exc) except -1

    cdef int take_in(self, char *data, Py_ssize_t n) except -1
    cdef bint may_deliver(self) noexcept
    cdef Py_ssize_t decrypt(self, Py_ssize_t total) except -1
    cdef int deliver(self, Py_ssize_t n) except -1
    cdef bint decrypt_into_protocol(self) except -1
    cdef bint read_on(self) except -1
    cdef int on_fed(self) except -1
    cdef int on_read(self) except -1
    cdef int read_to_the_end(self) except -1
    cdef int pause_reading(self) except -1
    cdef int resume_reading(self) except -1

    cdef int queue(self, bytes chunk) except -1
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

    cdef int start_shutdown(self) except -1
    cdef int catch_up(self) except -1
    cdef int receive_now(self) except -1
    cdef int finish_writing(self) except -1
    cdef int do_shutdown(self) except -1
    cdef int break_off(self, object exc) except -1
    cdef str describe(self)
