from hoop.watching.watch cimport WatchLoop

cdef class LoopCalls(WatchLoop):
    cdef object task_factory
    cdef bint own_clock                 # time() is not ours
    cdef object snapshot                # the last copy of a context for timers that share it; or None
    cdef double now(self) except? -1
    cdef object add_timer(self, double deadline, object when_given, object callback, tuple args, object context)
    cdef object call_task_factory(self, object coro, object name, object context, object eager_start)
