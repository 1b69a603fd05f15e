from hoop.sync.waiting cimport Primitive

cdef extern from "<pthread.h>":
    void *pthread_self() noexcept       # a number in glibc, a pointer in musl

# Base of Lock and Semaphore: taken with `await acquire()` or `async with`, given back with release().
cdef class Acquirable(Primitive):
    cdef object __weakref__
    cdef object waiters                 # a deque of futures; None until a task waits

    cdef bint is_waited_for(self) except -1
    cdef bint take(self) except -1                  # virtual: take it at once, or not
    cdef int taken(self) except -1                  # virtual: a waiter was woken, and takes it
    cdef int missed(self, object future, object error) except -1    # virtual: a waiter gave up
    cdef int give_back(self) except -1              # virtual

cdef class Lock(Acquirable):
    cdef bint is_locked
    cdef unsigned long taker            # the serial number of the task that took it last; 0 if it was no task of hoop's
    cdef int wake_first(self) except -1

cdef class Semaphore(Acquirable):
    cdef object value                   # any number, math.inf too
    cdef bint wake_next(self) except -1
    cdef int wake_all_due(self) except -1

cdef class BoundedSemaphore(Semaphore):
    cdef object bound

cdef class Event(Primitive):
    cdef object __weakref__
    cdef object waiters                 # as above
    cdef bint flag
    cdef int raise_flag(self) except -1

cdef str described(object primitive, str state, object waiters)
cdef object acquiring(Acquirable lock)
cdef object entering(Primitive lock)
cdef object exiting(Primitive lock)
