from hoop._core.c.python cimport Ref

cdef class Attributed:
    cdef Ref attributes                 # __dict__, made when first needed; owned
