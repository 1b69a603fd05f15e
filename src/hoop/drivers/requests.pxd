from libc.stdint cimport uint32_t, uint64_t
from hoop._c.python cimport Ref
from hoop._c.uring cimport OP_SEND, hoop_cqe, hoop_sqe
from hoop.drivers.driver cimport Driver
from hoop.drivers.op cimport CALL, CallOp, Op
from hoop.drivers.ring cimport Ring

# The `user_data` of requests without an op. No place has the number 0, or a number with this bit.
cdef enum:
    WAKE = 0
    CANCEL = 0x80000000

# The table entry of an op, from its submission until the kernel no longer works on it.
cdef struct Place:
    Ref op                          # owned; NULL if it was cancelled before the kernel knew it
    uint32_t generation             # part of `user_data`, so that no completion reaches a later op
    uint32_t next_free
    bint in_kernel                  # a request was submitted, and its last completion has not come
    bint queued                     # its index is in `queue`
    bint cancelled                  # the kernel was asked to cancel the request
    bint only_poll                  # the kernel cannot receive for this op, so only wait for readiness

cdef class Requests(Driver):
    cdef Ring ring
    cdef bint wake_armed
    cdef Place *places              # index 0 is never used, and means that an op has no place
    cdef uint32_t n_places, free_place
    cdef uint32_t *queue            # places whose requests are to be written
    cdef uint32_t n_queued, queue_size
    cdef unsigned long in_kernel    # how many requests were submitted and have not ended
    cdef unsigned long sends        # how many of those are sends: see is_send()
    cdef unsigned long ring_full, buffers_used_up   # how often: see UringDriver.statistics()
    cdef bint calls_written         # the kernel will complete some of the written requests at once

    # The `user_data` of a place's request.
    cdef inline uint64_t name_of(self, uint32_t index) noexcept:
        return <uint64_t>self.places[index].generation << 32 | index
    # Whether the calling thread may use the ring. Only one thread can.
    cdef inline bint is_ours(self) noexcept:
        return self.ring.belongs_here() and not self.inherited()
    cdef uint32_t take_place(self, Op op) except 0
    cdef int free(self, uint32_t index) except -1
    cdef int drop(self, uint32_t index) except -1
    cdef int enqueue(self, uint32_t index) except -1
    cdef hoop_sqe *next_entry(self)
    cdef int ask_for_queued(self) except -1
    cdef int ask(self, uint32_t index, Op op) except -1
    cdef int ask_cancel(self, uint32_t index) except -1
    cdef int cancel_again(self, hoop_cqe *cqe) except -1
    cdef int enter_now(self) except -1
    cdef int check(self, int result) except -1

# Whether the request is a send. Sends are cancelled when the loop stops, because another thread that runs
# it next could not learn how much was sent.
cdef inline bint is_send(Op op) noexcept:
    return op.interest == CALL and (<CallOp>op).code == OP_SEND
