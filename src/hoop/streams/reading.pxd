from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.streams.incoming cimport Incoming

cdef enum:
    THE_READER_S = -1                   # the limit of a call that was given none

# The methods that read. After a wait each looks again.
cdef class Reading(Method):
    cdef int go_on(self, NativeCoroutine c) except -1

cdef class Until(Reading):
    cdef int too_long(self, NativeCoroutine c, str message, Py_ssize_t consumed) except -1
    cdef int incomplete(self, NativeCoroutine c) except -1

cdef int drop_line(Incoming reader, Py_ssize_t consumed) except -1
