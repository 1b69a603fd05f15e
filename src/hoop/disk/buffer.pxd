from libc.stdint cimport int64_t
from hoop.disk.pieces cimport Piece
from hoop.disk.window cimport Window

cdef class Buffer(Window):
    cdef int left                   # the descriptor that was given up and is still to be closed; or -1
    cdef public object name
    cdef readonly object mode
    cdef readonly bint can_read, can_write, appends
    cdef readonly bint unbuffered
    cdef readonly bint owns         # closes its descriptor
    cdef readonly Py_ssize_t buffer_bytes

    cdef list pending               # written and not sent: pieces, in order
    cdef readonly int64_t accepted_bytes    # how much was ever written into it
    cdef bint in_place              # the kernel only writes where the descriptor stands

    cdef int check_reading(self, str doing) except -1
    cdef int read_ahead(self) except -1         # virtual
    cdef int ensure(self, Py_ssize_t need) except -1
    cdef object take(self, Py_ssize_t n)
    cdef object read_cached(self, Py_ssize_t n)
    cdef int find_end(self) except -1
    cdef Piece next_piece(self)
    cdef int put_back(self, Piece piece) except -1
    cdef int64_t place_of(self, Piece piece) except? -2
    cdef int send_waiting(self, Piece piece) except -1
    cdef int64_t position_of(self, object target) except? -1
    cdef int take_left(self) except? -2
