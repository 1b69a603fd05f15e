from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.net.endpoint cimport Layer
from hoop.streams.reader cimport StreamReader
from hoop.net.stream cimport StreamTransport
from hoop.sync.waiting cimport Primitive

cdef class StreamProtocol(Layer):
    cdef object loop
    cdef StreamReader reader            # None once the connection is lost
    cdef object writer                  # on Pythons whose protocols keep a server's
    cdef object task                    # of a server's callback, until the connection is lost
    cdef object transport               # None once the connection is lost
    cdef object client_connected_cb     # None of a client
    cdef bint over_tls
    cdef bint paused                    # the transport has paused writing
    cdef bint lost                      # connection_lost was called ...
    cdef object error                   # ... with this
    cdef object drain_waiters           # a deque of futures; None until needed
    cdef object close_waiters           # the same
    cdef object closed                  # a future; None until a task asks for it
    cdef object __weakref__
    # Whether the reader can be fed, and no method of the reader or this protocol is replaced.
    cdef inline bint takes_bytes(self) noexcept:
        return self.reader is not None and self.attributes == NULL and self.reader.takes_bytes()
    cdef int check_not_lost(self) except -1
    cdef int wait_until_writable(self, NativeCoroutine c) except -1
    cdef int wait_until_closed(self, NativeCoroutine c) except -1

cdef class Ending:
    cdef object loop, transport

cdef class StreamWriter(Primitive):
    cdef object __weakref__
    cdef object target                  # the transport
    cdef StreamTransport stream         # the same, if it is one of ours
    cdef object protocol
    cdef object reader
    cdef int bind_transport(self, object transport) except -1
    cdef bint is_closing_now(self) except -1

cdef class Drain(Method):
    cdef int go_on(self, NativeCoroutine c) except -1
