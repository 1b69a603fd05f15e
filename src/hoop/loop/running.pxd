from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.scheduling.future cimport Future
from hoop.loop.turn cimport Loop
from hoop.scheduling.timers cimport TimerHandle

cdef class SleepTimer(TimerHandle):
    cdef Future future                  # for which the task waits

cdef class Sleep(Method):
    cdef int wait_on_any(self, NativeCoroutine c) except -1

cdef Loop plain_loop()
