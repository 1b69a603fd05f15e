from hoop.scheduling.base cimport LoopBase
from hoop.net.endpoint cimport Layer

cdef enum AppState:
    NOT_MADE                            # connection_made was not called yet
    MADE
    EOF_TOLD                            # eof_received was called
    LOST                                # connection_lost is scheduled

cdef class Application(Layer):
    cdef LoopBase loop
    cdef object transport               # the application's; None once the connection is lost
    cdef object context                 # the context of every callback
    cdef Layer layer                    # the protocol, if it is a layer itself
    cdef object receive                 # data_received of the protocol; None for a BufferedProtocol
    cdef object get_buffer, buffer_updated
    cdef unsigned char app_state
    cdef bint is_drained                # the protocol's drain() calls is_closing(): see net/outbox.pxd

    cdef int bind_protocol(self, object protocol) except -1
    cdef bint enter(self) noexcept
    cdef int tell(self, str method) except -1
    cdef int tell_eof(self) except -1
    cdef int report(self, object exc, str message, object transport, object protocol) except -1
    # virtual, defined by the layer
    cdef int fail(self, object exc, str message) except -1
