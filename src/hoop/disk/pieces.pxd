from libc.stdint cimport int64_t

# Memory that the kernel reads into: a buffer's, and an op's while it is under way.
cdef class Chunk:
    cdef char *data
    cdef Py_ssize_t capacity

# Bytes that were written and not sent: those of `data` from `start` on, for this offset.
cdef class Piece:
    cdef bytes data
    cdef Py_ssize_t start
    cdef int64_t offset
    cdef Py_ssize_t size(self) noexcept

cdef Chunk new_chunk(Py_ssize_t capacity)
cdef Piece new_piece(bytes data, int64_t offset)
cdef int close_waiting(int fd) noexcept
cdef Py_ssize_t size_of(object size) except? -1
