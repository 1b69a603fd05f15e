from hoop._c.python cimport Ref
from hoop.drivers.ready cimport Runnable
from hoop.scheduling.attributes cimport Attributed

# An object that wants to know when futures are done, for example a TaskGroup.
cdef class Watcher(Attributed):
    cdef object awaiter                 # the task that waits for those futures; None if nobody needs to know
    cdef int notified(self, Notice notice) except -1    # virtual: the notice's future is done
    cdef object callback(self)          # virtual: the function that asyncio would call

# A native future's callback that calls no Python. It is made for one future, and goes onto the ring itself.
cdef class Notice(Runnable):
    cdef Runnable future
    cdef Watcher watcher
    cdef object context                 # for the code of others that the watcher may call; None if there is none
    cdef object __weakref__

cdef Notice new_notice(Runnable future, Watcher watcher, object context)
