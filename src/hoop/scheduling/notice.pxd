from hoop._c.python cimport Ref
from hoop.drivers.ready cimport Runnable
from hoop.scheduling.attributes cimport Attributed

cdef enum:
    # A notice that is not among so many first callbacks of a future is not searched for: its watcher knows
    # its place. So many callbacks may be gaps, too, before they are closed.
    NEAR = 16

# An object that wants to know when futures are done, for example a TaskGroup.
cdef class Watcher(Attributed):
    cdef object awaiter                 # the task that waits for those futures; None if nobody needs to know
    cdef dict far                       # places of its notices in long lists, by the future's id(); or None
    cdef int notified(self, Notice notice) except -1    # virtual: the notice's future is done
    cdef object callback(self)          # virtual: the function that asyncio would call

# A native future's callback that calls no Python. It is made for one future, and goes onto the ring itself.
cdef class Notice(Runnable):
    cdef Runnable future
    cdef Watcher watcher
    cdef object context                 # for the code of others that the watcher may call; None if there is none
    cdef object __weakref__

cdef Notice new_notice(Runnable future, Watcher watcher, object context)
cdef list uses_of(object fn, list entries)
cdef int note_place(list entries) except -1
cdef Py_ssize_t place_of(list entries, Watcher watcher, object key) except -2
cdef Py_ssize_t leave_gaps(list entries, list gone) except -1
cdef list without_gaps(list entries, object key)
