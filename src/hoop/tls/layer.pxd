from hoop.tls.inbox cimport TlsInbox

cdef class TlsLayer(TlsInbox):
    cdef dict extra                     # what get_extra_info() knows
    cdef object version                 # of TLS, once the handshake is done; for tools that observe
    cdef object waiter                  # a future, done when the handshake is; or None
    cdef object handshake_timeout, shutdown_timeout     # in seconds
    cdef object timer                   # for one or the other
    cdef double began                   # when the handshake did, in debug mode
    cdef object parting                 # what went wrong while closing, for connection_lost

    cdef object __weakref__

    cdef int wake(self, object exc) except -1
    cdef int cancel_timer(self) except -1

    cdef int handshake_done(self, object peercert) except -1
    cdef int handshake_failed(self, object exc) except -1

    cdef int break_off(self, object exc) except -1
    cdef str describe(self)
