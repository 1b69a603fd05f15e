from libc.stdint cimport uint32_t
from hoop._c.linux cimport epoll_event
from hoop.sim.driver cimport Choices, SimDriver
from hoop.sim.net.delays cimport Agenda, Delays
from hoop.sim.net.transports cimport Wire

cdef enum:
    TAKE_BYTES = 65536      # the most that is taken from a socket at once
    FOUND_MAX = 1023        # descriptors that one look finds ready

# The messages and other events of a world, and the descriptors of its ends.
cdef class Flow:
    cdef readonly SimDriver driver      # of the world's own program
    cdef Agenda events                  # calls with arguments, and ends with the bytes that arrive there
    cdef readonly dict ends             # all that are open, by descriptor
    cdef readonly dict outlets          # of UDP sockets that are connected, likewise
    cdef unsigned long serial           # the last number
    cdef list kept                      # ends whose programs have sent something that the kernel does not have
    cdef bint news                      # something is watched otherwise than at the last look
    cdef int epfd                       # an epoll that watches ends and outlets; -1 before the first
    cdef epoll_event *found             # room for FOUND_MAX
    cdef char *buffer                   # of TAKE_BYTES
    cdef int stop(self) noexcept
    cdef unsigned long next_number(self) noexcept
    cdef int look(self) except -1
    cdef list found_ends(self)

# The world's end of the wire of one socket.
cdef class End(Wire):
    cdef public object network, sock
    cdef Flow flow                      # the network
    cdef Delays delays                  # its weather
    cdef readonly Choices choices
    cdef readonly unsigned long serial
    cdef readonly int fd
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
    cdef public object inbound          # a deque of the messages for the program, where b"" is the end
    cdef public object waiting          # a deque of messages of this end at a road that is blocked
    cdef public long long since         # when the first of them began to wait
    cdef Py_ssize_t unheard             # bytes that have arrived, of which the other side could not tell
    cdef readonly long long unheard_since   # the time since when it could not; -1 if it could
    cdef public bint ended              # the program has sent its end
    cdef public bint vanished           # its process has ended
    cdef public bint lost               # and so has its machine: nobody will hear of it
    cdef public int error               # what SO_ERROR says next
    cdef public uint32_t watched        # the events of which the world hears
    cdef public dict options
    cpdef int take(self, bint ends=*) except -1
    cpdef int send(self, bytes data) except -1
    cdef int take_from(self, bint ends, bint of_kernel) except -1
    cdef str words(self)
    cdef int tell(self, str kind, str what) except -1
    cdef bint hand(self, bytes data) except -1
    cpdef long long due(self, Py_ssize_t n=*) except? -1
    cdef int arrive(self, bytes data) except -1
    cdef int take_in(self, bytes data) except -1
    cdef int acknowledge(self, Py_ssize_t n) except -1
    cdef bint push_at_once(self, bytes data) except -1
    cpdef int push(self) except -1
    cpdef int watch(self) except -1
