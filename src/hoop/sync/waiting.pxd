from hoop.scheduling.attributes cimport Attributed
from hoop.scheduling.base cimport LoopBase
from hoop.scheduling.coroutine cimport NativeCoroutine

# An object that tasks wait for. It belongs to the loop on which a task first waits. Weak references belong to
# the class that has the fields: they end before the fields do.
cdef class Primitive(Attributed):
    cdef object bound_loop              # None until then
    cdef LoopBase native_loop           # the same, if it is ours and its futures are ordinary ones
    cdef bint is_ours                   # not of a subclass

    # Whether its methods are ours, and not replaced by a subclass or an attribute.
    cdef inline bint is_plain(self) noexcept:
        return self.is_ours and self.attributes == NULL
    cdef int bind(self, object loop) except -1
    cdef object new_waiter(self)

cdef object shown_class(object cls)
cdef int finish_class(object cls, object passes_for, tuple coroutine_functions) except -1
cdef bint wake(object future, object result) except -1
cdef bint is_cancelled(object future) except -1
cdef bint was_woken(object future) except -1
cdef int append(object deque_, object item) except -1
cdef object popleft(object deque_)
cdef int leave(object waiters, object future) except -1
cdef int wait_in(NativeCoroutine c, object waiters, object future) except -1
