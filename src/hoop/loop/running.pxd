from hoop._core.coroutine cimport Method, NativeCoroutine
from hoop._core.future cimport Future
from hoop._core.loop cimport Loop
from hoop._core.timers cimport TimerHandle

cdef class SleepTimer(TimerHandle):
    cdef Future future                  # for which the task waits

cdef class Sleep(Method):
    cdef int wait_on_any(self, NativeCoroutine c) except -1

cdef Loop plain_loop()
