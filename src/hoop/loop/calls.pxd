from hoop.watching.watch cimport WatchLoop

cdef class LoopCalls(WatchLoop):
    cdef object task_factory
    cdef bint own_clock                 # time() is not ours
    cdef bint own_methods               # one that the loop does not call by name is not ours, on this one loop
    cdef bint is_plain(self) except -1
    cdef object snapshot                # the last copy of a context for timers that share it; or None
    cdef double now(self) except? -1
    cdef object add_timer(self, double deadline, object when_given, object callback, tuple args, object context)
    cdef object start_task(self, object coro, object name, object context, object eager_start, dict keywords)
    cdef object call_task_factory(self, object coro, object name, object context, object eager_start, dict keywords)

cdef int refuse_keyword(dict keywords) except -1
