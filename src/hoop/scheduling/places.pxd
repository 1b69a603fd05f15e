from hoop._c.python cimport Ref
from hoop.scheduling.base cimport LoopBase

cdef list first_places(LoopBase loop, list movable)
cdef Ref called_for(Ref r) noexcept
cdef int swap_places(LoopBase loop, unsigned long a, unsigned long b) noexcept
