from hoop.scheduling.base cimport LoopBase
from hoop.net.endpoint cimport Layer

cdef enum AppState:
    NOT_MADE                            # connection_made was not called
    MADE
    EOF_TOLD                            # eof_received was called
    LOST                                # connection_lost is scheduled

cdef class Application(Layer):
    cdef LoopBase loop
    cdef object transport               # the application's; None once the connection is lost
    cdef object context                 # the one context of every callback
    cdef Layer layer                    # the same, if it is one that takes bytes
    cdef object receive                 # its data_received; None for a BufferedProtocol
    cdef object get_buffer, buffer_updated
    cdef unsigned char app_state
    cdef bint is_drained                # by a drain() that calls is_closing(): see outbox.pxd

    cdef int bind_protocol(self, object protocol) except -1
    cdef bint enter(self) noexcept
    cdef int tell(self, str method) except -1
    cdef int tell_eof(self) except -1
    cdef int report(self, object exc, str message, object transport, object protocol) except -1
    # virtual, and the layer's
    cdef int fail(self, object exc, str message) except -1
