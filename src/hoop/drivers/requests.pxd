from libc.stdint cimport uint32_t, uint64_t
from hoop._c.python cimport Ref
from hoop._c.uring cimport OP_SEND, hoop_cqe, hoop_sqe
from hoop.drivers.driver cimport Driver
from hoop.drivers.op cimport CALL, CallOp, Op
from hoop.drivers.ring cimport Ring

# The kernel's names of requests without an op. No place has the number 0, nor one with this bit.
cdef enum:
    WAKE = 0
    CANCEL = 0x80000000

# Where an op is kept from its submission until the kernel has let go of it.
cdef struct Place:
    Ref op                          # owned; NULL once it was cancelled before the kernel knew of it
    uint32_t generation             # part of the name that the kernel knows: no answer reaches a later op
    uint32_t next_free
    bint in_kernel                  # a request is under way, and its last completion has not come
    bint queued                     # on the list of what is to be asked for
    bint cancelled                  # the kernel was asked to end the request
    bint only_poll                  # the kernel does not receive here: wait for readiness

cdef class Requests(Driver):
    cdef Ring ring
    cdef bint wake_armed
    cdef Place *places              # [0] is never used: a place of 0 means none
    cdef uint32_t n_places, free_place
    cdef uint32_t *queue            # places to be asked for before the kernel is entered
    cdef uint32_t n_queued, queue_size
    cdef unsigned long in_kernel    # how many requests are under way
    cdef unsigned long sends        # how many of them are called back when the loop rests: see is_send()
    cdef bint calls_written         # the kernel will answer some of what was written at once

    # The kernel's name of the request of a place.
    cdef inline uint64_t name_of(self, uint32_t index) noexcept:
        return <uint64_t>self.places[index].generation << 32 | index
    cdef bint is_ours(self) noexcept
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

# Whether it is called back when the loop rests: another thread may run it next, and could not learn how
# much was sent.
cdef inline bint is_send(Op op) noexcept:
    return op.interest == CALL and (<CallOp>op).code == OP_SEND
