from hoop._core.base cimport LoopBase
from hoop._core.endpoint cimport Endpoint

cdef enum:
    IOV_BATCH = 64                      # chunks that leave in one system call
    JOIN_BYTES = 65536                  # chunks are joined until there is this much to send

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

    cdef LoopBase loop
    cdef object context                 # the one context of every callback
    cdef object protocol
    cdef int add_chunk(self, bytes chunk) except -1
    cdef Py_ssize_t send_some(self) noexcept
    cdef int consume(self, Py_ssize_t n) except -1
    cdef int join_chunks(self) except -1
    cdef int drop_chunks(self) except -1
    cdef int flush(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method) except -1

cdef bytes as_bytes(object data, str wanted)
