from libc.stdint cimport uint32_t, uint64_t
from hoop._c.python cimport Ref
from hoop._c.uring cimport hoop_cqe, hoop_sqe
from hoop.drivers.driver cimport Driver
from hoop.drivers.epoll cimport NestedOp
from hoop.drivers.ready cimport ReadyRing
from hoop.drivers.op cimport Op
from hoop.drivers.ring cimport Ring

# Where an op is kept from its submission until the kernel has let go of it.
cdef struct Place:
    Ref op                          # owned; NULL once it was cancelled before the kernel knew of it
    uint32_t generation             # part of the name that the kernel knows: no answer reaches a later op
    uint32_t next_free
    bint in_kernel                  # a request is under way, and its last completion has not come
    bint queued                     # on the list of what is to be asked for
    bint cancelled                  # the kernel was asked to end the request
    bint only_poll                  # the kernel does not receive here: wait for readiness

cdef class UringDriver(Driver):
    cdef object gc_marker           # an object field, so that the type is garbage-collected
    cdef Ring ring
    cdef NestedOp nested            # watches what is not ours; None until there is something
    cdef bint wake_armed
    cdef Ref ready                  # where the loop queues: borrowed, it owns the driver
    cdef bint reaping
    cdef bint resting               # no turns are being taken: nobody will submit what is written

    cdef Place *places              # [0] is never used: a place of 0 means none
    cdef uint32_t n_places, free_place
    cdef uint32_t *queue            # places to be asked for before the kernel is entered
    cdef uint32_t n_queued, queue_size
    cdef unsigned long in_kernel    # how many requests are under way
    cdef unsigned long sends        # how many of them are called back when the loop rests: see is_send()
    cdef bint calls_written         # the kernel will answer some of what was written at once

    cdef int refuse(self) except -1
    cdef int submit_foreign(self, Op op) except -1
    cdef int close_ring(self) except -1
    cdef int abandon(self, ReadyRing ready) except -1
    cdef bint is_ours(self) noexcept
    cdef uint32_t take_place(self, Op op) except 0
    cdef int free(self, uint32_t index) except -1
    cdef int drop(self, uint32_t index) except -1
    cdef int enqueue(self, uint32_t index) except -1
    cdef uint64_t name_of(self, uint32_t index) noexcept
    cdef hoop_sqe *next_entry(self)
    cdef int ask_for_queued(self) except -1
    cdef int ask(self, uint32_t index, Op op) except -1
    cdef int ask_cancel(self, uint32_t index) except -1
    cdef int cancel_again(self, hoop_cqe *cqe) except -1
    cdef int enter_now(self) except -1
    cdef int check(self, int result) except -1
    cdef int reap(self, ReadyRing ready) except -1
    cdef int settle(self, ReadyRing ready, hoop_cqe *cqe) except -1
    cdef int end(self, ReadyRing ready, uint32_t index, Op op, int result, bint wants_turn) except -1
    cdef int cancel_all(self) except -1
