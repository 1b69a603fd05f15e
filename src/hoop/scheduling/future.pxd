from hoop.scheduling.base cimport LoopBase
from hoop._c.python cimport Ref
from hoop.drivers.ready cimport Runnable
from hoop.scheduling.notice cimport Watcher

cdef enum State:
    PENDING
    FINISHED
    CANCELLED

cdef class Future(Runnable):
    cdef unsigned char state
    cdef bint blocking              # asyncio's await protocol: yielded to a task, not yet taken
    cdef bint log_traceback         # an exception that nobody has seen yet
    cdef unsigned int gaps          # how many of the callbacks are None
    cdef LoopBase loop              # set if the loop is ours ...
    cdef object foreign_loop        # ... else this is
    cdef object outcome             # the result; beside an exception, the traceback it was set with
    cdef object error               # the exception; of a cancelled task, the CancelledError to raise
    # The loop calls these when the future is done. `waiter` is the first native task that waits, and is
    # pushed itself. `callbacks` has all that came after it, each a Task or a tuple (callback, context).
    # In place of a Task there may be a Notice, or None where something was taken out.
    cdef Runnable waiter
    cdef list callbacks
    cdef object cancel_message
    cdef object source_traceback    # where it was made: only in debug mode
    cdef Ref attributes             # __dict__, made when first asked for; owned
    cdef object __weakref__

    cdef int attach(self, object loop) except -1
    cdef int complain(self) except -1
    cdef int check_ready(self) except -1
    cdef int check_new(self) except -1
    cdef int finished(self) except -1               # virtual: runs before anybody is told
    cdef int schedule(self) except -1
    cdef int schedule_listed(self) except -1
    cdef int add_listed(self, object entry) except -1
    cdef int tell(self, Watcher watcher, object context) except -1      # once it is done
    cdef int tell_no_more(self, Watcher watcher) except -1
    cdef int close_gaps(self, Py_ssize_t more) except -1
    cdef list waiting(self)
    cdef object get_result(self)
    cdef object take_error(self)
    cdef object cancelled_exception(self)
    cdef int finish(self, object result) except -1
    cdef int fail(self, object exception) except -1
    cdef int cancel_future(self, object message) except -1

# The future that gather() gives. It passes a cancellation on to its children.
cdef class _GatheringFuture(Future):
    cdef list children
    cdef bint cancel_requested

cdef class FutureIterator:
    cdef Future future
    cdef object advance(self)

cdef object loop_of(object future)
cdef Future new_future(LoopBase loop)
cdef bint renew_future(Ref o) noexcept
cdef int report_dropped(object loop, object context) except -1
cdef Ref future_iternext(Future f) noexcept
cdef Ref future_await(Ref f) noexcept
cdef void raise_in_slot(object exc) noexcept
cdef void empty_future(Ref o) noexcept
