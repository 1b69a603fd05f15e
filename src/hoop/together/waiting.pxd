from hoop.loop.turn cimport Loop
from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.scheduling.notice cimport Watcher
from hoop.sync.queues cimport Queue

cdef class WaitFor(Method):
    cdef int ended(self, NativeCoroutine c, object value) except -1

# One call of wait_for() on Python 3.11.
cdef class TaskLimit(Watcher):
    cdef Loop loop
    cdef object task                    # or another future
    cdef object waiter                  # woken by the end of the task, or of the time
    cdef object timer
    cdef object error                   # the cancellation, once the task is cancelled for it
    cdef bint is_late                   # the time was over first
    cdef int watch(self) except -1
    cdef int forget(self) except -1

# One call of wait().
cdef class Waiting(Watcher):
    cdef set futures
    cdef object waiter                  # the future for which the task waits
    cdef object timer
    cdef Py_ssize_t count               # how many of the futures are not done
    cdef bint first, first_error        # the first end, or the first error, is enough
    cdef int begin(self) except -1
    cdef int future_done(self, object future) except -1
    cdef int leave(self) except -1
    cdef object outcome(self)

cdef class Wait(Method):
    cdef int check(self, object futures, object return_when) except -1

# The iterator that as_completed() gives.
cdef class _AsCompletedIterator(Watcher):
    cdef object __weakref__
    cdef set todo
    cdef Queue done                     # None in it stands for the end of the time
    cdef object timer
    cdef Py_ssize_t left                # how often it can still be asked
    cdef int begin(self, object awaitables, object timeout) except -1
    cdef int future_done(self, object future) except -1

cdef class NextCompleted(Method):
    cdef bint gives_result
