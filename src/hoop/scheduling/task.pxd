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
    cdef readonly unsigned long _polls  # steps taken
    cdef long long born                 # the loop's stamp when it was made; 0 on another library's loop
    cdef unsigned long serial           # a number that no other task of this process has
    cdef unsigned int site              # the number of the place that made it, or 0: see insight/sites.py
    cdef unsigned int seen              # the last look of an observer that has seen it
    # While the loop measures, the nanoseconds in steps, on the ring, and waiting, and when the last step ended.
    cdef readonly long long _busy_ns
    cdef long long scheduled_ns, waited_ns, left_at

    cdef int start(self, object coro, object name, object context, bint eager) except -1
    cdef int start_eagerly(self) except -1
    cdef int link(self) except -1
    # While the loop measures: a step begins. The time since the last one was spent waiting, then on the ring.
    cdef inline int note_begin(self, long long now) noexcept:
        if self.left_at > self.loop.measured_from:
            self.waited_ns += max(self.since - self.left_at, 0)
            self.scheduled_ns += now - max(self.since, self.left_at)
        else:
            self.scheduled_ns += now - self.since
        return 0
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

cdef unsigned long tasks_linked         # the last serial number
cdef unsigned long tasks_made           # those with a number for their name: see Task.name
cdef Task new_task(LoopBase loop, object coro, object name, object context, bint eager)
