from hoop.tls.outbox cimport TlsOutbox

cdef class TlsInbox(TlsOutbox):
    cdef bint closed                    # close() or abort() was called, or the connection was lost
    cdef bint eof                       # the transport below has nothing more to read
    cdef bint notified                  # the peer sent close_notify
    cdef bint reading_paused            # by the application
    cdef bint behind                    # the same was told to the transport below, which has read nothing since

    cdef int take_in(self, char *data, Py_ssize_t n) except -1
    cdef bint may_deliver(self) noexcept
    cdef Py_ssize_t decrypt(self, Py_ssize_t total) except -1
    cdef int deliver(self, Py_ssize_t n) except -1
    cdef bint decrypt_into_protocol(self) except -1
    cdef bint read_on(self) except -1
    cdef int read_on_later(self) except -1
    cdef int on_fed(self) except -1
    cdef int on_read(self) except -1
    cdef int read_to_the_end(self) except -1
    cdef int pause_reading(self) except -1
    cdef int resume_reading(self) except -1
    cdef int catch_up(self) except -1
    cdef int receive_now(self) except -1
    # virtual, and the layer's
    cdef int do_handshake(self) except -1
    cdef int start_shutdown(self) except -1
    cdef int limit_shutdown(self) except -1
    cdef int do_shutdown(self) except -1
