from hoop.scheduling.base cimport LoopBase
from hoop.drivers.ready cimport Runnable
from hoop.net.sender cimport DatagramSender
from hoop.drivers.op cimport Op

cdef class ReceiveOp(Op):
    cdef DatagramTransport transport    # None once the transport is closed

cdef class Delivery(Runnable):
    cdef DatagramTransport transport    # None once the transport is closed
    cdef bint waits                     # for its turn: on the ready ring

cdef class DatagramTransport(DatagramSender):
    cdef object datagram_received

    cdef ReceiveOp receive_op
    cdef Delivery delivery
    cdef object read_timer              # after which to ask the kernel again; None unless it spoke in vain
    cdef unsigned int empty             # news in a row with nothing to receive
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
    cdef bint reading_paused
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, object sock, object protocol, object remote, object extra) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int queue_delivery(self) except -1
    cdef int found_nothing(self) except -1
    cdef int on_readable(self) except -1
    cdef int receive(self) except -1
    cdef int receive_one(self) except -1
    cdef int deliver(self) except -1
    cdef int go_on(self, bint may_hold) except -1
    cdef int release(self) except -1
    cdef bint in_kernel(self) noexcept
