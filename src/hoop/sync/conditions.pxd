from hoop.sync.locks cimport Lock
from hoop.sync.waiting cimport Primitive

cdef class Condition(Primitive):
    cdef object __weakref__
    cdef object lock                    # ours, or anything with its methods
    cdef object waiters                 # a deque of futures
    cdef Lock own_lock(self)
    cdef bint is_locked(self) except -1
    cdef object acquiring(self)
    cdef int give_back(self) except -1
    cdef int wake_some(self, object n) except -1

cdef enum BarrierState:
    FILLING
    DRAINING
    RESETTING
    BROKEN

cdef class Barrier(Primitive):
    cdef object __weakref__
    cdef Condition condition            # notified of every change of the state
    cdef object size                    # how many have to come
    cdef Py_ssize_t inside              # how many wait, or are on their way out
    cdef unsigned char state
    cdef int change(self, BarrierState state) except -1
