from hoop.drivers.ready cimport Runnable
from hoop.loop.turn cimport Loop
from hoop.scheduling.notice cimport Watcher
from hoop.scheduling.task cimport Task

cdef class Crossing(Runnable):
    cdef Loop loop
    cdef object coro                    # None once it has arrived
    cdef object future                  # the concurrent.futures.Future
    cdef object context                 # of the task
    cdef object __weakref__
    cdef int refuse(self, object exc) except -1

cdef class Chain(Watcher):
    cdef Task task
    cdef object future                  # the concurrent.futures.Future
