from hoop.drivers.op cimport ARMED, READY, Op
from hoop.net.letters cimport Letters

cdef class SendOp(Op):
    cdef DatagramSender transport       # None once the transport is closed

cdef class DatagramSender(Letters):
    cdef object remote                  # `remote_addr`, the one address that may be given; None for any
    cdef SendOp send_op
    cdef object send_timer              # after which to ask the kernel again; None unless it spoke in vain
    cdef double send_rest               # the last rest before sending, in shortest ones
    cdef bint closing                   # close() or abort() was called, or something failed
    cdef unsigned int lost              # connection_lost is scheduled; then counts datagrams to nobody

    cdef object rest(self, double times, object then)
    cdef bint waits_to_send(self) noexcept
    cdef int send(self, bytes data, object address) except -1
    cdef int audit(self, object address) except -2
    cdef int flush(self) except -1
    cdef int send_by_python(self) except -2
    cdef int end_waiting(self) except -1
    cdef int on_writable(self) except -1
    cdef int refused(self, object exc) except -1
    cdef int settle(self) except -1
    # virtual, and the transport's
    cdef bint may_hold(self) noexcept
    cdef int fail(self, object exc, str message) except -1
    cdef int lose(self, object exc) except -1

cdef inline bint is_armed(Op op) noexcept:
    return op.phase == ARMED or op.phase == READY
