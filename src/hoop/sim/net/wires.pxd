from hoop.sim.driver cimport Choices
from hoop.sim.net.delays cimport Delays
from hoop.sim.net.flow cimport Flow, WatchedWire

# The world's end of the wire of one socket.
cdef class End(WatchedWire):
    cdef public object network, sock
    cdef Flow flow                      # the network
    cdef Delays delays                  # its weather
    cdef readonly Choices choices
    cdef public object local, peer      # addresses, as the program's socket has them
    cdef public End other               # the end of the socket at the other side
    cdef public object place, far       # where the program is, and the other side
    cdef public str state
    cdef public bint told               # connect() has said that it is connected
    cdef public int user_fd             # the descriptor of the program's socket
    cdef str name                       # the two addresses; None before somebody asks
    cdef int size                       # what SO_SNDBUF is to be
    cdef public Py_ssize_t buffer       # how much the program can send before the world takes it
    cdef unsigned long cuts             # how many of its messages have come in pieces
    cdef public Py_ssize_t flying       # bytes taken here that have not arrived at the other side
    cdef public long long last_due      # when the last of these arrives
    cdef public object waiting          # a deque of messages of this end at a road that is blocked
    cdef public long long since         # when the first of them began to wait
    cdef Py_ssize_t unheard             # bytes that have arrived, of which the other side could not tell
    cdef readonly long long unheard_since   # the time since when it could not; -1 if it could
    cdef public bint vanished           # its process has ended
    cdef public bint lost               # and so has its machine: nobody will hear of it
    cdef public int error               # what SO_ERROR says next
    cdef public dict options
    cpdef int take(self, bint ends=*) except -1
    cpdef int send(self, bytes data) except -1
    cdef str words(self)
    cdef int tell(self, str kind, str what) except -1
    cdef bint hand(self, bytes data) except -1
    cpdef long long due(self, Py_ssize_t n=*) except? -1
    cdef int take_in(self, bytes data) except -1
    cdef int acknowledge(self, Py_ssize_t n) except -1
    cdef Py_ssize_t give(self, bytes data) except? -1
    cdef bint push_at_once(self, bytes data) except -1
    cpdef int watch(self) except -1
