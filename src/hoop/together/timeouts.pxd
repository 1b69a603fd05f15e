from hoop.loop.turn cimport Loop
from hoop.scheduling.attributes cimport Attributed

cdef enum Phase:
    NOT_ENTERED
    ENTERED
    EXPIRING
    EXPIRED
    EXITED

# The context manager that timeout() makes.
cdef class Timeout(Attributed):
    cdef object __weakref__
    cdef bint is_ours                   # not of a subclass
    cdef unsigned char phase
    cdef object deadline                # seconds on the loop's clock, or None
    cdef object timer                   # a handle; None unless the deadline is set and not reached
    cdef object task                    # the task that entered; its requests to be cancelled before that
    cdef object cancels_before
    # Whether its methods are ours, and not replaced by a subclass or an attribute.
    cdef inline bint is_plain(self) noexcept:
        return self.is_ours and self.attributes == NULL
    cdef int enter(self) except -1
    cdef int arm(self) except -1
    cdef int drop_timer(self) except -1
    cdef int leave(self, object exc_type, object exc) except -1
    cdef int leave_expired(self, object exc_type, object exc) except -1

cdef int cancel_timer(object handle) except -1
cdef Timeout new_timeout(object deadline)
cdef object deadline_of(object delay)
cdef object current_task_of(Loop loop)
