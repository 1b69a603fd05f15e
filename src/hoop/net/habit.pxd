cdef enum:
    # A write that waits longer than this has waited too long. A shorter wait was worth it.
    LONG_NS = 1000000
    # If a callback ends, or writes again, within this time, it did so soon.
    NEAR_NS = 250000

cdef class Habit:
    cdef unsigned char manner           # how a new connection is expected to write: see outbox.pxd
    cdef unsigned int quick             # how many callbacks in a row ended soon after they wrote
    cdef unsigned int rest              # how many more writes must not wait
    cdef unsigned int next_rest         # the value of `rest` after the next long wait
    cdef unsigned int reply_rest, next_reply_rest   # `rest` and `next_rest` of tasks' replies
    cdef bint may_wait(self) noexcept
    cdef bint reply_may_wait(self) noexcept
    cdef bint ends_soon(self) noexcept
    cdef void went_well(self) noexcept
    cdef void took_long(self) noexcept
    cdef void reply_went_well(self) noexcept
    cdef void reply_took_long(self) noexcept
