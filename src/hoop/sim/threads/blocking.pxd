from hoop._c.python cimport Ref
from hoop._c.threads cimport PyThread_type_lock

cdef enum Place:        # as in PLACES
    LOCK_ACQUIRE
    LOCK_ACQUIRE_LOCK
    LOCK_ENTER
    LOCK_RELEASE
    LOCK_RELEASE_LOCK
    LOCK_EXIT
    RLOCK_ACQUIRE
    RLOCK_ENTER
    RLOCK_RELEASE
    RLOCK_EXIT
    RLOCK_RESTORE
    QUEUE_GET
    QUEUE_PUT
    QUEUE_PUT_NOWAIT
    HANDLE_JOIN

cdef class Gate:
    cdef PyThread_type_lock lock

cdef object acquire(int place, object self, tuple args, Ref kwargs)
cdef object get(object self, tuple args, Ref kwargs)
cdef object join(object self, tuple args)
cdef object go(int place, object self, tuple args, Ref kwargs)
