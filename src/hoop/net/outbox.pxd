from hoop._c.python cimport flag
from hoop.scheduling.base cimport LoopBase
from hoop.net.endpoint cimport Endpoint
from hoop.net.habit cimport Habit
from hoop.drivers.op cimport Op

cdef enum:
    IOV_BATCH = 64                      # the most chunks in one system call
    WAITS_MAX = 16384                   # a larger write never waits
    JOIN_BYTES = 65536                  # chunks are joined up to this size

cdef enum Manner:                       # how often a connection writes in one turn
    ONCE                                # once
    AGAIN                               # more often, but the time between the writes is not known yet
    JOINS                               # twice, and shortly one after the other

cdef enum Wait:
    NO_WAIT
    FOR_NEXT                            # for the next write, or the end of the turn
    FOR_OTHERS                          # for other connections, whose protocols get data in this turn
    AS_REPLY                            # for those, and for tasks that will reply

cdef class Outbox(Endpoint):
    # The queue: `head` from `head_offset` on, then `rest` without its first `gone` chunks.
    cdef bytes head
    cdef Py_ssize_t head_offset
    cdef list rest                      # None if only the head is queued
    cdef Py_ssize_t buffered            # bytes in the whole queue
    cdef Py_ssize_t high_water, low_water
    cdef object empty_waiter            # a future of sendfile, done when the queue is empty
    cdef int gone                       # so many chunks of `rest` are sent
    cdef unsigned int activity          # counts reads and writes
    cdef flag writing_paused            # the protocol was told to pause
    cdef flag unanswered                # data was received after the last write

    # When a write is sent: see the .py file.
    cdef unsigned char manner
    cdef unsigned char waits            # a Wait: what the queue waits for, other than the socket
    cdef flag wrote_again               # it wrote more than once in the turn `wrote_in`
    cdef flag is_drained                # its protocol is asyncio's for streams: drain() asks is_closing()
    cdef unsigned long wrote_in         # the turn of the last write
    cdef long long wrote_at             # the time of the first write in that turn, if it was measured
    cdef Habit habit                    # the habits of its server

    cdef LoopBase loop
    cdef object context                 # the context of every callback
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
    cdef int shorten(self, Py_ssize_t gone) except -1
    cdef int join_chunks(self) except -1
    cdef int drop_chunks(self) except -1
    cdef int flush(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method) except -1

cdef int served(LoopBase loop) except -1
cdef bytes as_bytes(object data, str wanted)
cdef tuple water_marks(object low, object high)
cdef Py_ssize_t whole_mark(object mark, bint up=*) except -1
