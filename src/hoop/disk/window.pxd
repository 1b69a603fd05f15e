from libc.stdint cimport int64_t
from hoop.disk.pieces cimport Chunk

cdef enum:
    # A first read asks for FIRST_BYTES, and each further one for twice as much. The limit is the size that is
    # copied in some 20 µs, because the loop waits while it copies a cached file. An op reads more.
    FIRST_BYTES = 65536
    CACHED_BYTES_MAX = 262144
    FILL_BYTES_MAX = 1048576

cdef enum Need:                     # the need of an operation, if it is not a number of bytes
    TO_END = -1
    LINE = -2

cdef class Window:
    cdef readonly int fd            # -1 when closed
    cdef readonly bint regular      # has offsets, and its reads end by themselves
    cdef public bint asks_cache          # the kernel can tell what is in its cache
    cdef public bint may_wait       # the calls of now are made on a thread of the pool
    cdef public int abort_fd        # readable once such a thread should stop waiting; or -1
    cdef int64_t pos                # where the file stands for its user
    cdef int64_t size               # when the file was opened; -1 if not known, or if it has grown
    cdef Chunk window               # what was read ...
    cdef int64_t window_at          # ... from this offset on ...
    cdef Py_ssize_t window_bytes    # ... and how much
    cdef bint at_end                # the last read said that nothing follows the window
    cdef Py_ssize_t next_bytes      # how much to ask for: grows while the file is read in order
    cdef bint said_end              # ... and that was passed on
    cdef bint cold                  # the last read had to wait for the disk
    cdef bint tired                 # much was read without a turn of the loop in between
    cdef Py_ssize_t streak          # how much so far
    cdef readonly Py_ssize_t pending_bytes
    cdef readonly bint filling      # a read into the window is under way
    cdef readonly bint draining     # a write is under way

    cdef Py_ssize_t available(self) noexcept
    cdef char *front(self) noexcept
    cdef bint has(self, Py_ssize_t need) noexcept
    cdef Py_ssize_t line_bytes(self) noexcept
    cdef char *make_room(self, Py_ssize_t n)
    cdef Py_ssize_t ask_for(self, Py_ssize_t need) noexcept
    cdef bint fill_cached(self, Py_ssize_t need) except -1
    cdef void tire(self, Py_ssize_t n) noexcept
    cdef int fill_waiting(self, Py_ssize_t need) except -1
    cdef int grow(self, Py_ssize_t n, Py_ssize_t most) except -1
    cdef void renew(self) noexcept
    cdef bint has_line(self) except -1
