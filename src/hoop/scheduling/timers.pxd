from hoop._c.python cimport Ref
from hoop.drivers.ready cimport Runnable
from hoop.scheduling.handle cimport Handle

cdef class TimerHandle(Handle):
    cdef double deadline            # due when loop.time() reaches this
    cdef object when_given          # the object given to call_at(), if it was not a float
    cdef Timers timers              # the heap that it waits in; None once it has left

cdef struct Entry:
    double deadline                 # minus infinity if NaN was given
    unsigned long number            # orders entries with equal deadlines
    Ref handle                      # owned

cdef class Timers:
    cdef object gc_marker           # an object field, so that the type is garbage-collected
    cdef Entry *heap
    cdef Py_ssize_t count, capacity
    cdef Py_ssize_t cancelled       # how many of the entries are cancelled
    cdef unsigned long next_number
    cdef int add(self, TimerHandle handle) except -1
    cdef int on_cancel(self, TimerHandle handle) except -1
    cdef TimerHandle pop(self)
    cdef int drop_cancelled(self) except -1
    cdef int compact(self) except -1
    cdef int give_back(self) noexcept
    cdef int sift_up(self, Py_ssize_t i, Entry entry) noexcept
    cdef int sift_down(self, Py_ssize_t i, Entry entry) noexcept
    cdef int drop_all(self) noexcept

cdef TimerHandle new_expiry(
    double deadline, object when_given, Runnable future, object context, object loop
)
cdef TimerHandle new_timer(
    double deadline, object when_given, object callback, tuple args, object context, object loop
)
