from hoop.scheduling.base cimport LoopBase
from hoop.disk.buffer cimport Buffer
from hoop.disk.call cimport SystemCall
from hoop.scheduling.future cimport Future
from hoop.disk.pieces cimport Piece

cdef class FileBuffer(Buffer):
    cdef LoopBase loop
    cdef readonly object pool
    cdef readonly int in_flight     # ops and threads that use the descriptor
    cdef bint forgotten             # no code holds the file: write and close it when `in_flight` is 0
    cdef public bint local          # a regular file of this machine: closing it asks no server
    cdef public object remove_when_closed   # its path, or None
    cdef int error                  # -errno of the last op, until raise_error() raises it
    cdef Future moved               # done at the next end of an op
    cdef int filled(self, FillCall op) except -1
    cdef int drained(self, DrainCall op) except -1
    cdef int ended(self) except -1
    cdef int finish_forgotten(self) except -1

cdef class OwnedCall(SystemCall):
    cdef FileBuffer owner
    cdef int begin(self) except -1
    cdef int start(self, LoopBase loop, object pool) except -1
    cdef int deliver(self) except -1

cdef class FillCall(OwnedCall):
    cdef int deliver(self) except -1

cdef class DrainCall(OwnedCall):
    cdef Piece piece
    cdef int deliver(self) except -1

cdef class Line:
    cdef object value               # None: there is no further line

cdef class LineSource:
    cdef public FileBuffer buffer
    cdef public object next_line    # reads a line in memory: a function, True for bytes, or None
    cdef public int queued          # operations that wait, or for which others wait
    cdef public bint dirty          # written to since it was last flushed
