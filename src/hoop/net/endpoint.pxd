from hoop.scheduling.attributes cimport Attributed
from hoop.scheduling.base cimport LoopBase
from hoop._c.linux cimport hoop_address
from hoop._c.python cimport flag

cdef class Endpoint(Attributed):
    cdef int fd                         # -1 once closed
    cdef int proto
    cdef short family, kind
    cdef flag owns_fd                   # the endpoint closes the descriptor; otherwise `sock` does
    cdef flag lent                      # `sock` was given to the loop, and its owner may close it
    cdef hoop_address local, peer       # for AF_INET and AF_INET6; other families keep them in `extra`
    cdef object sock
    cdef object socket_view             # asyncio's TransportSocket on `sock`
    cdef object extra                   # a dict, or None
    # For tools that observe: the loop's stamp when it was made, and when it last sent or received.
    cdef long long born, active
    cdef unsigned long long bytes_in, bytes_out
    cdef inline void count_in(self, LoopBase loop, Py_ssize_t n) noexcept:
        self.bytes_in += n
        self.active = loop.stamp
        loop.bytes_in += n
    cdef inline void count_out(self, LoopBase loop, Py_ssize_t n) noexcept:
        self.bytes_out += n
        self.active = loop.stamp
        loop.bytes_out += n
    cdef int own(self, int fd, object sock, object extra) except -1
    cdef int disown(self) except -1
    cdef object python_socket(self)
    cdef object known(self, object name, object default)
    cdef object ask_replacement(self, object name, object default)
    cdef bint was_closed(self) except -1
    cdef bint is_shared(self) noexcept
    cdef int send_held(self) except -1

cdef enum Taking:
    TAKEN
    DECLINED

cdef class Layer(Attributed):
    cdef object protocol                # the protocol above this one; None if there is none
    cdef int on_bytes(self, char *data, Py_ssize_t n) except -1     # TAKEN or DECLINED
    cdef int on_chunk(self, bytes chunk) except -1
    cdef int on_early_bytes(self, char *data, Py_ssize_t n) except -1
    cdef int on_lost(self) except -1
    cdef int flush_waiting(self) except -1

cdef str kind_of(int family, int kind)
