cdef enum:
    # A write that waits longer than this has waited too long; one that waits shorter was worth it.
    LONG_NS = 1000000
    # Another write, or the end of a callback, that came within this time was near.
    NEAR_NS = 250000

cdef class Habit:
    cdef unsigned char manner           # how a new connection is taken to write: see outbox.pxd
    cdef unsigned int quick             # callbacks in a row that ended soon after they wrote
    cdef unsigned int rest              # so many more writes do not wait, whatever is guessed
    cdef unsigned int next_rest         # how many it will be the next time
    cdef unsigned int reply_rest, next_reply_rest   # the same of answers of tasks, which wait for others' steps
    cdef bint may_wait(self) noexcept
    cdef bint reply_may_wait(self) noexcept
    cdef bint ends_soon(self) noexcept
    cdef void went_well(self) noexcept
    cdef void took_long(self) noexcept
    cdef void reply_went_well(self) noexcept
    cdef void reply_took_long(self) noexcept
