from hoop.scheduling.base cimport LoopBase
from hoop.drivers.ready cimport Runnable
from hoop.net.letters cimport Letters
from hoop.drivers.op cimport Op

cdef class ReceiveOp(Op):
    cdef DatagramTransport transport    # None once the transport is closed

cdef class Delivery(Runnable):
    cdef DatagramTransport transport    # None once the transport is closed
    cdef bint waits                     # for its turn: on the ready ring

cdef class SendOp(Op):
    cdef DatagramTransport transport    # None once the transport is closed

cdef class DatagramTransport(Letters):
    cdef object datagram_received
    cdef object remote                  # `remote_addr`, the one address that may be given; None for any

    cdef ReceiveOp receive_op
    cdef SendOp send_op
    cdef Delivery delivery
    cdef object read_timer, send_timer  # after which to ask the kernel again; None unless it spoke in vain
    cdef unsigned int empty             # news in a row with nothing to receive
    cdef double send_rest               # the last rest before sending, in seconds
    # Received and not yet delivered, from `delivered` on: data, sender, data, sender, ...
    cdef list inbox
    cdef Py_ssize_t delivered
    cdef bint delivering                # in datagram_received
    cdef unsigned long turn             # of the last delivery
    cdef long long tick                 # the coarse clock after the last delivery
    cdef unsigned int quick_calls       # deliveries in a row that took no tick
    cdef int batch                      # datagrams to ask for at once
    cdef int full                       # how many receives in a row brought as many as asked for

    cdef bint connected                 # connection_made was called
    cdef bint closing                   # close() or abort() was called, or something failed
    cdef bint reading_paused
    cdef unsigned int lost              # connection_lost is scheduled; then counts datagrams to nobody
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, object sock, object protocol, object remote, object extra) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int queue_delivery(self) except -1
    cdef int found_nothing(self) except -1
    cdef object rest(self, double seconds, object then)
    cdef int on_readable(self) except -1
    cdef int receive(self) except -1
    cdef int receive_one(self) except -1
    cdef int deliver(self) except -1
    cdef int go_on(self, bint may_hold) except -1
    cdef bint may_hold(self) noexcept
    cdef bint waits_to_send(self) noexcept
    cdef int send(self, bytes data, object address) except -1
    cdef int audit(self, object address) except -2
    cdef int flush(self) except -1
    cdef int send_by_python(self) except -2
    cdef int end_waiting(self) except -1
    cdef int on_writable(self) except -1
    cdef int refused(self, object exc) except -1
    cdef int settle(self) except -1
    cdef int fail(self, object exc, str message) except -1
    cdef int lose(self, object exc) except -1
    cdef int release(self) except -1
    cdef bint in_kernel(self) noexcept
