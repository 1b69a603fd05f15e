from hoop.scheduling.base cimport LoopBase
from hoop.scheduling.future cimport Future
from hoop.scheduling.notice cimport Notice, Watcher

cdef enum JobState:
    PENDING
    RUNNING
    CANCELLED
    FINISHED

# A call in a thread of an executor.
cdef class Job(Watcher):
    cdef LoopBase loop
    cdef Future future                  # the one that run_in_executor() has returned
    cdef Notice delivery                # on the ring: the job has ended
    cdef object result, error           # of the function, until the future has them
    cdef object shown                   # the callback that Python sees, once somebody looks
    cdef int state
    cdef int check(self, int expected) except -1
    cdef int ended(self) except -1
    cdef int deliver(self) except -1
    cdef int deliver_by_asyncio(self, object result, object error) except -1

cdef Future submit(LoopBase loop, object executor, object function, tuple args)
