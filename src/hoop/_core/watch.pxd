from hoop._core.handle cimport Handle
from hoop._core.op cimport Op

cdef class WatchOp(Op):
    cdef Handle handle

cdef object descriptor(object fileobj)
