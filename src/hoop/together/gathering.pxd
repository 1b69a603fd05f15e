from hoop.loop.turn cimport Loop
from hoop.scheduling.future cimport Future, _GatheringFuture
from hoop.scheduling.notice cimport Watcher

# One call of gather().
cdef class Gathering(Watcher):
    cdef _GatheringFuture outer         # None until all children are known
    cdef bint keeps_errors              # return_exceptions
    cdef Py_ssize_t count, ended        # children without repetitions, and how many of them are done
    cdef object child_of(self, object arg, object home, Loop loop)
    cdef int watch(self, object child, list done) except -1
    cdef int child_done(self, object child) except -1
    cdef int leave(self) except -1
    cdef object results(self)

# One call of shield().
cdef class Shield(Watcher):
    cdef Future inner, outer
    cdef int inner_done(self) except -1

cdef class ShieldEnd(Watcher):
    cdef Shield shield

cdef object awaiter_now()
cdef bint is_native(object child) noexcept
