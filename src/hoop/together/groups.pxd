from hoop.loop.turn cimport Loop
from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.scheduling.notice cimport Watcher

cdef class TaskGroup(Watcher):
    cdef object __weakref__
    cdef bint is_ours                   # not of a subclass
    cdef bint entered, exiting, aborting
    cdef bint parent_cancel_requested
    cdef bint cancel_on_enter
    cdef bint was_cancelled             # by its cancel()
    cdef bint uncancelled               # the request to the parent was taken back
    cdef object loop
    cdef Loop native                    # the same, if it is ours and its methods are its own
    cdef object tasks, errors           # a set and a list; a subclass may have put others there
    cdef object base_error, completed
    # For the end of the block: the cancellation to raise, and the last one that interrupted the wait.
    cdef object propagated, interruption
    # Whether its methods are ours, and not replaced by a subclass or an attribute.
    cdef inline bint is_plain(self) noexcept:
        return self.is_ours and self.attributes == NULL
    cdef int enter(self) except -1
    cdef int check_open(self, object coro) except -1
    cdef object add(self, object coro, object name, object context, dict keywords)
    cdef int child_failed(self, object task, object exc) except -1
    cdef int tell_completed(self) except -1
    cdef bint is_base(self, object exc) except -1
    cdef int abort(self) except -1
    cdef int begin_exit(self, object exc_type, object exc) except -1
    cdef int interrupted(self, object error) except -1
    cdef int uncancel_parent(self) except -1
    cdef object end(self, object exc_type, object exc)
    cdef int let_go(self) except -1

cdef class ExitGroup(Method):
    cdef int go_on(self, NativeCoroutine c) except -1
