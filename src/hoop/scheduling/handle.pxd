from hoop._c.python cimport Ref, flag
from hoop.drivers.ready cimport Runnable

cdef class Handle(Runnable):
    cdef object callback            # None once cancelled
    cdef tuple args
    cdef object context
    cdef object loop
    cdef object source_traceback    # where it was made: only in debug mode
    cdef object saved_repr          # kept by cancel() in debug mode
    cdef bint is_cancelled
    cdef flag packed                # the fields do not say yet what it calls: unpack() makes them
    cdef object __weakref__
    cdef int unpack(self) except -1 # virtual
    cdef str source(self)
    cdef list info(self)

cdef bint in_debug(object loop) except -1
cdef Handle new_handle(object callback, tuple args, object context, object loop)
cdef void empty_handle(Ref o) noexcept
