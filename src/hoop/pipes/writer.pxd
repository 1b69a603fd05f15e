from hoop.pipes.end cimport PipeEnd, PipeOp

cdef class WritePipe(PipeEnd):
    # The queue: `head` from `head_offset` on, then `rest`.
    cdef bytes head
    cdef Py_ssize_t head_offset
    cdef list rest                      # None if only the head is queued
    cdef Py_ssize_t buffered            # bytes in the whole queue
    cdef PipeOp peer                    # watches for the end of the reader; or None
    cdef PipeOp writing                 # watches for room in the pipe; None while nothing is queued
    cdef unsigned int lost              # writes since the peer has closed the pipe, or a write has failed
    cdef bint writing_paused            # the protocol was told to pause
    cdef object high, low               # the water marks, as your code has set them
    cdef double high_water, low_water   # the same as numbers
    cdef int write_now(self, object data, char *start, Py_ssize_t n) except -1
    cdef int write_pieces(self, list pieces) except -1
    cdef int put(self, object data) except -1
    cdef Py_ssize_t send(self, char *start, Py_ssize_t n) noexcept
    cdef Py_ssize_t send_queue(self) except? -1
    cdef int join_chunks(self) except -1
    cdef int consume(self, Py_ssize_t n) except -1
    cdef int drop_queue(self) except -1
    cdef int go_on(self) except -1
    cdef int on_drained(self) except -1
    cdef int on_peer_closed(self) except -1
    cdef int write_failed(self, object exc) except -1
    cdef int stop_writing(self) except -1
    cdef int stop_watching_peer(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int tell(self, str method) except -1
    cdef int end_writing(self) except -1

cdef bint are_few_bytes(object pieces) except -1
