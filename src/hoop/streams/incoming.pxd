from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from hoop.scheduling.coroutine cimport NativeCoroutine
from hoop.scheduling.future cimport Future
from hoop.sync.waiting cimport Primitive

cdef class Incoming(Primitive):
    # The bytes that were received and not given out, from `start` on. They are in a bytes object of one
    # packet or in a bytearray; without such bytes both are None. If your code has asked for the bytearray, the
    # reader keeps it for good, and `start` stays 0, because your code may change it too.
    cdef bytes chunk
    cdef bytearray store
    cdef Py_ssize_t start
    cdef bint lent
    cdef object limit_                  # as it was given
    cdef Py_ssize_t limit               # `limit_` as a number
    cdef Py_ssize_t high                # above this much the transport is paused
    cdef object waiter                  # a future; None while no task waits
    cdef Future last_waiter             # the future of the last wait, for reuse if only the reader has it
    cdef Py_ssize_t need                # how many bytes must be there before `waiter` is woken
    cdef object error                   # every read raises this ...
    cdef bint bytes_first               # ... unless the bytes before the error answer it
    cdef object transport
    cdef bint eof, paused

    cdef inline Py_ssize_t size(self) noexcept:
        if self.chunk is not None:
            return PyBytes_GET_SIZE(self.chunk) - self.start
        if self.store is not None:
            return PyByteArray_GET_SIZE(self.store) - self.start
        return 0
    cdef inline char *data(self) noexcept:      # NULL if there is nothing
        if self.chunk is not None:
            return PyBytes_AS_STRING(self.chunk) + self.start
        if self.store is not None:
            return PyByteArray_AS_STRING(self.store) + self.start
        return NULL
    # Whether bytes can be put in without an exception and without calling a replaced method.
    cdef inline bint takes_bytes(self) noexcept:
        return self.is_ours and self.attributes == NULL and not self.eof and not self.lent

    cdef inline bint has_failed(self) noexcept:
        return self.error is not None and not (self.bytes_first and self.size() > 0)
    cdef int set_limit(self, object limit) except -1
    cdef int add(self, char *data, Py_ssize_t n) except -1
    cdef int add_chunk(self, bytes chunk) except -1
    cdef int extend(self, char *data, Py_ssize_t n) except -1
    cdef int arrived(self) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    # The last act of a read.
    cdef inline int settle(self) except -1:
        if self.paused:
            return self.maybe_resume()
        return self.maybe_pause() if self.size() > self.high else 0
    cdef bytes take(self, Py_ssize_t n)
    cdef int drop(self, Py_ssize_t n) except -1
    cdef int wake_waiter(self) except -1
    cdef int end(self) except -1
    cdef int fail(self, object error) except -1
    cdef int lose(self, object error) except -1
    cdef int wait(self, NativeCoroutine c, str method, Py_ssize_t need) except -1
    cdef int stop_waiting(self, NativeCoroutine c) except -1
    cdef Py_ssize_t find(self, object separators, Py_ssize_t offset, Py_ssize_t *end) except -2
