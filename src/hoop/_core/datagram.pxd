from hoop._core.base cimport LoopBase
from hoop._core.c.datagram cimport hoop_letter
from hoop._core.c.linux cimport hoop_address
from hoop._core.c.python cimport Ref
from hoop._core.endpoint cimport Endpoint
from hoop._core.op cimport Op

cdef enum:
    PEERS = 64                          # addresses that a transport remembers; a power of two

ctypedef struct Peer:
    hoop_address address
    Ref text                            # the same as a tuple, owned; NULL in an unused place

cdef class ReceiveOp(Op):
    cdef DatagramTransport transport    # None once the transport is closed

cdef class SendOp(Op):
    cdef DatagramTransport transport    # None once the transport is closed

cdef class DatagramTransport(Endpoint):
    cdef LoopBase loop
    cdef object context                 # the one context of every callback
    cdef object protocol, datagram_received
    cdef object remote                  # `remote_addr`, the one address that may be given; None for any
    cdef bint has_peer                  # the socket is connected
    cdef Peer *peers                    # by port

    cdef ReceiveOp receive_op
    cdef SendOp send_op
    # Received and not yet delivered, from `delivered` on: data, sender, data, sender, ...
    cdef list inbox
    cdef Py_ssize_t delivered
    cdef int batch                      # datagrams to ask for at once
    cdef int full                       # how many receives in a row brought as many as asked for
    # To be sent: data, address, data, address, ... and the same addresses for the kernel, if they are literal.
    cdef list outbox
    cdef hoop_address *addresses
    cdef Py_ssize_t room                # in `addresses`
    cdef Py_ssize_t buffered            # bytes
    cdef Py_ssize_t high_water, low_water

    cdef bint connected                 # connection_made was called
    cdef bint closing                   # close() or abort() was called, or something failed
    cdef bint reading_paused
    cdef bint writing_paused            # the protocol was told to pause
    cdef bint is_dirty                  # on the loop's list of what to flush
    cdef unsigned int lost              # connection_lost is scheduled; then counts datagrams to nobody
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, object sock, object protocol, object remote, object extra) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int on_readable(self) except -1
    cdef int receive(self) except -1
    cdef int receive_one(self) except -1
    cdef object sender(self, hoop_address *address)
    cdef int deliver(self) except -1
    cdef int queue(self, bytes data, object address) except -1
    cdef bint find_address(self, object text, hoop_address *found) noexcept
    cdef int flush(self) except -1
    cdef int gather(self, hoop_letter *letters) noexcept
    cdef int forget(self, Py_ssize_t n) except -1
    cdef int refused(self, object exc) except -1
    cdef int settle(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method, tuple args) except -1
    cdef int report(self, object exc, str method) except -1
    cdef int fail(self, object exc, str message) except -1
    cdef int lose(self, object exc) except -1
    cdef int release(self) except -1
    cdef bint in_kernel(self) noexcept
