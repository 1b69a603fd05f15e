from hoop.scheduling.base cimport LoopBase
from hoop._c.datagram cimport hoop_letter
from hoop._c.linux cimport hoop_address
from hoop._c.python cimport Ref
from hoop.net.endpoint cimport Endpoint

cdef enum:
    PEERS = 64                          # addresses that a transport remembers; a power of two

ctypedef struct Peer:
    hoop_address address
    Ref text                            # the same as a tuple, owned; NULL in an unused entry

cdef class Letters(Endpoint):
    cdef LoopBase loop
    cdef object context                 # the context of every callback
    cdef object protocol
    cdef bint has_peer                  # the socket is connected
    cdef Peer *peers                    # a table of recent senders, by port
    # Datagrams to send: data, address, data, address, ... The array has the addresses for the kernel.
    cdef list outbox
    cdef hoop_address *addresses
    cdef Py_ssize_t room                # how many addresses the array can hold
    cdef Py_ssize_t buffered            # bytes
    cdef bint moved                     # something has left the queue since it was set to False
    cdef Py_ssize_t high_water, low_water
    cdef bint writing_paused            # the protocol was told to pause

    cdef object sender(self, hoop_address *address)
    cdef Py_ssize_t make_room(self) except -1
    cdef int queue(self, bytes data, object address) except -1
    cdef bint find_address(self, object text, hoop_address *found) noexcept
    cdef int put_back(self, bytes data, object address) except -1
    cdef int gather(self, hoop_letter *letters) noexcept
    cdef int forget(self, Py_ssize_t n) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method, tuple args) except -1
    cdef int report(self, object exc, str method) except -1
