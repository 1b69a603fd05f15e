from hoop.sync.locks cimport Event
from hoop.sync.waiting cimport Primitive

# How items go in and come out.
cdef enum Order:
    FIFO
    LIFO
    LOWEST
    CUSTOM                              # by the methods of a subclass

cdef class Queue(Primitive):
    cdef object __weakref__
    cdef object items                   # a deque; a list if the order is another
    cdef object getters, putters        # deques of futures; None until needed
    cdef Event finished                 # set while nothing is unfinished; None until a task joins
    cdef object maxsize_                # as it was given
    cdef Py_ssize_t limit               # the same as a number; the largest if there is none
    cdef Py_ssize_t unfinished          # items put, and not yet done with
    cdef unsigned char order
    cdef bint is_shutdown

    # Whether items can be put in and taken out without a call of its methods.
    cdef inline bint is_simple(self) noexcept:
        return self.order != CUSTOM and self.attributes == NULL
    cdef bint is_empty(self) except -1
    cdef bint is_full(self) except -1
    cdef int hold(self, object items) except -1
    cdef int set_maxsize(self, object maxsize) except -1
    cdef object take(self)
    cdef int add(self, object item) except -1
    cdef int count_done(self, Py_ssize_t n) except -1

cdef int wake_next(object waiters) except -1
cdef int give_up(object waiters, object future) except -1
