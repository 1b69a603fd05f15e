from hoop._c.python cimport Ref

cdef enum Phase:
    ENDED                               # also while it runs, so that nobody can step it again
    CREATED
    SUSPENDED

# The result of a step: the coroutine waits for its `future`, or is over and its `value` is the result.
cdef enum Progress:
    RAISED = -1
    WAITS
    OVER

# A coroutine in C, for example `queue.get()`.
cdef class NativeCoroutine:
    cdef Ref method                     # a Method; not counted, because Methods live for ever
    cdef readonly object owner          # the object whose method was called; of sleep() its timer
    cdef readonly object value          # the first argument (an item to put), then the result
    cdef object extra                   # the second argument, if there is one
    cdef object future                  # the future it waits for; None is a bare yield
    cdef object inner                   # the awaitable that it drives, if there is one
    cdef object result                  # of the awaitable that it has driven to its end
    cdef Py_ssize_t count, mark         # for the method to use, for example how many bytes it has
    cdef unsigned char phase
    cdef object __weakref__
    cdef str title(self)
    cdef int advance(self, object error) except -1
    cdef int resume(self, object error) except -1
    cdef int advance_inner(self, object error) except -1
    cdef int advance_foreign(self, object inner, object error) except -1
    # A step ends by one of these: wait for a future, for another coroutine, or for one turn of the loop.
    cdef int wait_for(self, object future) except -1
    cdef int delegate(self, object awaitable) except -1
    cdef int wait_a_turn(self) noexcept

cdef class CoroutineIterator:
    cdef NativeCoroutine coroutine

# The steps of such a coroutine. One object serves all coroutines of its kind.
cdef class Method:
    cdef str name
    cdef type owner                     # the class whose method it is; no other object is accepted
    cdef str title(self, NativeCoroutine c)                             # virtual: the name of the coroutine
    cdef int begin(self, NativeCoroutine c) except -1                   # virtual: the first step
    cdef int woken(self, NativeCoroutine c) except -1                   # virtual: after a wait that ended well
    cdef int failed(self, NativeCoroutine c, object error) except -1    # virtual: after one with an error

cdef object new_coroutine(Method method, object owner, object value)
cdef int mark_coroutine_function(object function) except -1
cdef object new_coroutine_of_two(Method method, object owner, object value, object extra)
