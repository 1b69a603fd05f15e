from hoop._c.swap cimport hoop_function
from hoop.sim.driver cimport Choices, SimDriver

cdef class Swap:
    cdef object function                # the builtin, or class method, that Python calls
    cdef int flags                      # how it is called
    cdef hoop_function ours             # the code that it gets
    cdef hoop_function *real            # where its own code is kept meanwhile
    cdef int put_ours(self) except -1
    cdef int put_back(self) except -1

cdef SimDriver ruling                   # the driver of the world that runs; None if none does
cdef unsigned long ruled                # the thread that runs it
cdef void rule_in(unsigned long ident) noexcept
