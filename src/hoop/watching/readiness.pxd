from libc.stdint cimport uint32_t, uint64_t
from hoop._c.linux cimport epoll_event
from hoop.scheduling.future cimport Future
from hoop.scheduling.base cimport LoopBase
from hoop.drivers.op cimport Op

cdef enum:
    SOCKET_BATCH = 256                  # events taken by one epoll_wait

# The state of one descriptor.
cdef class SocketSlot:
    cdef object owner                   # a weak reference to the socket that is registered; or None
    cdef Future reader, writer          # the futures that wait; or that waited, if they are done
    cdef list more                      # more futures that wait, as tuples (future, mask); or None
    cdef uint32_t mask                  # the events that epoll was told to watch; 0 if nothing is registered
    cdef uint32_t generation            # counts registrations, to ignore events of an earlier one
    cdef bint drained                   # a read found nothing more, and epoll has reported nothing since
    cdef bint failed                    # the last event was an error or a hang-up
    cdef bint ends_short                # a read of less than was asked for means that nothing is left
    cdef bint holds_back                # the socket may have data without an event: SO_RCVLOWAT
    cdef unsigned char unattended       # how many events in a row found no task waiting

cdef class SocketTable(Op):
    cdef list slots                     # indexed by descriptor: a SocketSlot or None
    cdef epoll_event events[SOCKET_BATCH]
    cdef int close(self) except -1
    cdef SocketSlot slot_of(self, int fd, object sock)
    cdef Future wait(
        self, LoopBase loop, object sock, int fd, SocketSlot slot, uint32_t mask, bint again
    )
    cdef int register(self, SocketSlot slot, int fd, uint32_t mask) except -1
    cdef int take_over(self, SocketSlot slot, int fd, object owner) except -1
    cdef int hear_of_reading(self, SocketSlot slot, int fd) except -1
    cdef int end_waiting(self, object sock, uint32_t mask) except -1
    cdef int deregister(self, SocketSlot slot, int fd) except -1
    cdef int take_events(self) except -1
    cdef int tell(self, SocketSlot slot, int fd, uint32_t seen) except -1

cdef uint64_t name_anew(SocketSlot slot, int fd) noexcept
cdef bint is_waited_for(SocketSlot slot) except -1
cdef bint wake_all(SocketSlot slot, uint32_t mask) except -1
cdef bint wake_one(Future future) except -1
