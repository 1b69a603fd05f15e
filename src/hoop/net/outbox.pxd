from hoop.scheduling.base cimport LoopBase
from hoop.net.endpoint cimport Endpoint
from hoop.net.habit cimport Habit
from hoop.drivers.op cimport Op

cdef enum:
    IOV_BATCH = 64                      # chunks that leave in one system call
    WAITS_MAX = 16384                   # a write of more bytes waits for no other
    JOIN_BYTES = 65536                  # chunks are joined until there is this much to send

cdef enum Manner:                       # how a connection writes
    ONCE                                # once a turn
    AGAIN                               # more often, but how soon after the first was not seen yet
    JOINS                               # again, right behind the first: which waits for that

cdef enum Wait:
    NO_WAIT
    FOR_NEXT                            # write, or the end of the turn
    FOR_OTHERS                          # that are being handed what came for them
    AS_REPLY                            # for others that tasks are about to answer, too

cdef class Outbox(Endpoint):
    # What waits to be sent: `head` from `head_offset` on, then `rest`.
    cdef bytes head
    cdef Py_ssize_t head_offset
    cdef list rest                      # None when there is nothing behind the head
    cdef Py_ssize_t buffered            # bytes in all of it
    cdef Py_ssize_t high_water, low_water
    cdef bint writing_paused            # the protocol was told to pause
    cdef object empty_waiter            # a future of sendfile, done when all was sent
    cdef bint unanswered                # something was received after the last write
    cdef unsigned int activity          # reads and writes so far

    # When what is written leaves.
    cdef unsigned char manner
    cdef unsigned char waits            # for what, while what is queued waits though it could be sent
    cdef bint wrote_again               # not only once in that turn
    cdef bint is_drained                # its protocol is one for streams: is_closing() is part of a drain()
    cdef unsigned long wrote_in         # the turn of the last write
    cdef long long wrote_at             # the time of the first write in that turn, if it matters
    cdef Habit habit                    # its server's

    cdef LoopBase loop
    cdef object context                 # the one context of every callback
    cdef object protocol
    cdef bint is_to_wait(self, Op op) except -1
    cdef bint is_to_wait_for_others(self, Op op) except -1
    cdef bint is_to_wait_as_reply(self, Op op) except -1
    cdef bint is_to_wait_for_next(self, Op op) except -1
    cdef int join_wait(self, Op op, Wait kind) except -1
    cdef bint ends_reply(self) noexcept
    cdef int note_again(self) except -1
    cdef int end_wait(self, Op op) except -1
    cdef int callback_ended(self) except -1
    cdef Habit own_habit(self)
    cdef int add_chunk(self, bytes chunk) except -1
    cdef Py_ssize_t send_some(self) noexcept
    cdef int consume(self, Py_ssize_t n) except -1
    cdef int join_chunks(self) except -1
    cdef int drop_chunks(self) except -1
    cdef int flush(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method) except -1

cdef int served(LoopBase loop) except -1
cdef bytes as_bytes(object data, str wanted)
