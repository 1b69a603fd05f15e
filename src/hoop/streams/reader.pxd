from hoop.streams.incoming cimport Incoming

cdef class StreamReader(Incoming):
    cdef object __weakref__
    cdef object source_traceback        # where it was made: only in debug mode
