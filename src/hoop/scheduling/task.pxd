from hoop.scheduling.base cimport LoopBase
from hoop._c.python cimport PySendResult, Ref
from hoop.scheduling.future cimport Future

cdef class Task(Future):
    cdef object coro
    cdef object context
    cdef object name                    # None until somebody asks: then "Task-<number>"
    cdef unsigned long number
    # The future that this task waits for; NULL while it waits for none. Owned.
    cdef Ref fut_waiter
    cdef object pending_error           # to be thrown into the coroutine at its next step
    cdef bint must_cancel
    cdef bint silent                    # do not complain when dropped while pending
    cdef unsigned int cancel_requests
    # The loop's list of unfinished tasks; see link().
    cdef Ref next_task, previous_task
    cdef bint listed
    # For debuggers and profilers.
    cdef unsigned long polls            # steps taken
    cdef long long born                 # the loop's stamp when it was made; 0 on another library's loop
    cdef unsigned long serial           # a number that no other task of this process has
    cdef long long busy_ns              # time spent in steps while the loop was measuring
    cdef object created_at              # (file, line), if the loop was measuring then

    cdef int start(self, object coro, object name, object context, bint eager) except -1
    cdef int start_eagerly(self) except -1
    cdef int link(self) except -1
    cdef int unlink(self) except -1
    cdef int step_foreign(self) except -1
    cdef int step_again(self) except -1
    cdef int drop_waited(self) except -1
    cdef int throw_next(self, object error) except -1
    cdef PySendResult interrupt(self, Ref waited, Ref *result) noexcept
    cdef object error_to_throw(self, Ref waited)
    cdef int settle(self, PySendResult status, Ref result) except -1
    cdef int returned(self, object result) except -1
    cdef int raised(self) except -1
    cdef int yielded(self, object o) except -1
    cdef int wait_for_foreign(self, object o) except -1

cdef Task new_task(LoopBase loop, object coro, object name, object context, bint eager)
