from hoop._core.handle cimport Runnable

cdef enum Phase:
    IDLE            # the driver does not know it
    ARMED           # the driver watches for it
    READY           # its turn has come: on the ready ring
    DEAD            # it will never be submitted again

cdef enum Interest:
    READABLE
    WRITABLE

cdef class Op(Runnable):
    cdef int fd                     # the descriptor, owned by the op's owner while the op is armed
    cdef unsigned char interest     # what a readiness driver waits for
    cdef unsigned char phase        # moved only by the enter_* methods
    cdef int enter_armed(self) except -1
    cdef int enter_ready(self) except -1
    cdef int enter_idle(self) except -1
    cdef int enter_dead(self) except -1
    # The kernel is ready: do the system call and deliver.
    cdef int on_ready(self) except -1
    # What must leave before the loop sleeps (only for ops on the loop's dirty list).
    cdef int flush(self) except -1
