"""The memory that holds a file's bytes: chunks to read into, and pieces to be written."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_GET_SIZE
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.cpython.number import PyIndex_Check, PyNumber_AsSsize_t
from cython.cimports.hoop._c.linux import hoop_close
from cython.cimports.libc.stdint import int64_t


@cython.final
@cython.cclass
class Chunk:
    """Memory to read into."""

    def __dealloc__(self):
        PyMem_Free(self.data)


@cython.cfunc
def new_chunk(capacity: cython.Py_ssize_t) -> Chunk:
    chunk: Chunk = Chunk.__new__(Chunk)
    chunk.data = cython.cast(cython.p_char, PyMem_Malloc(capacity))
    if chunk.data is cython.NULL:
        raise MemoryError
    chunk.capacity = capacity
    return chunk


@cython.final
@cython.cclass
class Piece:
    """Bytes to be written to one place of a file. A piece shrinks from the front while it is sent."""

    @cython.cfunc
    @cython.exceptval(check=False)
    def size(self) -> cython.Py_ssize_t:
        return 0 if self.data is None else PyBytes_GET_SIZE(self.data) - self.start


@cython.cfunc
def new_piece(data: bytes, offset: int64_t) -> Piece:
    piece: Piece = Piece.__new__(Piece)
    piece.data = data
    piece.offset = offset
    return piece


@cython.cfunc
@cython.exceptval(check=False)
def close_waiting(fd: cython.int) -> cython.int:
    """Close a descriptor without holding the GIL, because a server may be asked. Returns 0 or -errno."""
    result: cython.int
    with cython.nogil:
        result = hoop_close(fd)
    return result


@cython.cfunc
@cython.exceptval(-1, check=True)
def size_of(size: object) -> cython.Py_ssize_t:
    """A size as io takes it: an integer, or None, which means -1."""
    if size is None:
        return -1
    if not PyIndex_Check(size):
        raise TypeError(f"argument should be integer or None, not '{type(size).__name__}'")
    return PyNumber_AsSsize_t(size, OverflowError)
