from hoop._c.python cimport Ref

cdef class Attributed:
    cdef Ref attributes                 # the __dict__, made when first needed; owned
