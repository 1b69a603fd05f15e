from hoop.sim.driver cimport Choices, SimDriver

cdef SimDriver ruling                   # the driver of the world that runs; None if none does
cdef unsigned long ruled                # the thread that runs it
