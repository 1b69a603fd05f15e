from hoop._c.swap cimport hoop_calls

cdef class Turned:
    cdef object function                # the builtin function that Python calls
    cdef object ours                    # what is called in its place
    cdef hoop_calls former              # how it is called otherwise
    cdef bint straight                  # the next call goes where it goes otherwise
