from hoop._c.python cimport Ref
from hoop.scheduling.base cimport LoopBase

cdef list first_places(LoopBase loop, list movable)
cdef Ref awaited_by(Ref r) noexcept
cdef Ref called_for(Ref r) noexcept
cdef bint wakes_task(Ref r) noexcept
cdef bint steps_task(Ref r) noexcept
cdef bint begins_task(Ref r) except -1
cdef object task_key(Ref r)
cdef int swap_places(LoopBase loop, unsigned long a, unsigned long b) noexcept
