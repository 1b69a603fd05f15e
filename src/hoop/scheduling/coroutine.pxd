from hoop._c.python cimport Ref

cdef enum Phase:
    ENDED                               # also while it runs: nobody may step it then either
    CREATED
    SUSPENDED

# What a step came to: the coroutine waits for its `future`, or is over and has left its `value`.
cdef enum Progress:
    RAISED = -1
    WAITS
    OVER

# What `queue.get()` gives, for one: a coroutine in C.
cdef class NativeCoroutine:
    cdef Ref method                     # what it does: a Method; not counted, they are for ever
    cdef object owner                   # to what
    cdef object value                   # what is handed in (an item to put), then what comes out
    cdef object extra                   # what is handed in besides, if anything is
    cdef object future                  # what it yielded, while suspended; None is a bare yield
    cdef object inner                   # the iterator that yielded it, if that was another's
    cdef Py_ssize_t count, mark         # for the method to use: of bytes, how far it is
    cdef unsigned char phase
    cdef object __weakref__
    cdef str title(self)
    cdef int advance(self, object error) except -1
    cdef int resume(self, object error) except -1
    cdef int advance_inner(self, object error) except -1
    cdef int advance_foreign(self, object inner, object error) except -1
    # What a step does last: wait for a future, for another coroutine, or for the next turn of the loop.
    cdef int wait_for(self, object future) except -1
    cdef int delegate(self, object awaitable) except -1
    cdef int wait_a_turn(self) noexcept

# The steps of such a coroutine. One object serves all coroutines of its kind.
cdef class Method:
    cdef str name
    cdef type owner                     # whose method it is: of others no coroutine is made
    cdef str title(self, NativeCoroutine c)                             # virtual: what the coroutine is called
    cdef int begin(self, NativeCoroutine c) except -1                   # virtual: the first step
    cdef int woken(self, NativeCoroutine c) except -1                   # virtual: what it waited for is done
    cdef int failed(self, NativeCoroutine c, object error) except -1    # virtual: anything else happened

cdef object new_coroutine(Method method, object owner, object value)
cdef int mark_coroutine_function(object function) except -1
cdef object new_coroutine_of_two(Method method, object owner, object value, object extra)
