from libc.stdint cimport uint32_t, uint64_t
from hoop._c.linux cimport epoll_event
from hoop.scheduling.future cimport Future
from hoop.scheduling.base cimport LoopBase
from hoop.drivers.op cimport Op

cdef enum:
    SOCKET_BATCH = 256                  # events taken at a time

# What is known of one descriptor.
cdef class SocketSlot:
    cdef object owner                   # a weak reference to the socket that is registered; or None
    cdef Future reader, writer          # who waits; or waited, if it is done
    cdef list more                      # who waits besides: tuples (future, mask); or None
    cdef uint32_t mask                  # what epoll was told; 0 if nothing is registered
    cdef uint32_t generation            # of the registration: no news of an earlier one count
    cdef bint drained                   # there was nothing left to read, and epoll has had no news since
    cdef bint failed                    # the last news were of an error, or of the end
    cdef bint ends_short                # less than was asked for means that nothing is left
    cdef bint holds_back                # what arrives may be no news yet: SO_RCVLOWAT
    cdef unsigned char unattended       # news for which nobody waited, one after the other

cdef class SocketTable(Op):
    cdef list slots                     # indexed by descriptor; a SocketSlot or None
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
