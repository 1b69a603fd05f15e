from hoop._core.base cimport LoopBase
from hoop._core.c.python cimport Ref

# Anything that tasks wait for. Bound to the loop on which that first happens. Weak references belong to the
# class that has the fields: they end before those do.
cdef class Primitive:
    cdef object bound_loop              # None until then
    cdef LoopBase native_loop           # the same, if it is ours and its futures are ordinary ones
    cdef Ref attributes                 # __dict__, made when first asked for; owned
    cdef bint is_ours                   # not of a subclass

    # Whether its methods are ours: nobody has put others in their place.
    cdef inline bint is_plain(self) noexcept:
        return self.is_ours and self.attributes == NULL
    cdef int bind(self, object loop) except -1
    cdef object new_waiter(self)

cdef enum Phase:
    ENDED                               # also while it runs: nobody may step it then either
    CREATED
    SUSPENDED

# What a step came to: the coroutine waits for its `future`, or is over and has left its `value`.
cdef enum Progress:
    RAISED = -1
    WAITS
    OVER

# What `queue.get()` gives: a coroutine in C.
cdef class NativeCoroutine:
    cdef Ref method                     # what it does: a Method; not counted, they are for ever
    cdef Primitive owner                # to what
    cdef object value                   # what is handed in (an item to put), then what comes out
    cdef object future                  # what it yielded, while suspended
    cdef object inner                   # the iterator that yielded it, if that was another's
    cdef unsigned char phase
    cdef object __weakref__
    cdef str title(self)
    cdef int advance(self, object error) except -1
    cdef int resume(self, object error) except -1
    cdef int advance_inner(self, object error) except -1
    cdef int advance_foreign(self, object inner, object error) except -1
    # What a step does last: wait in a deque, or for another coroutine.
    cdef int wait_in(self, object waiters, object future) except -1
    cdef int delegate(self, object awaitable) except -1

# The steps of such a coroutine. One object serves all coroutines of its kind.
cdef class Method:
    cdef str name
    cdef int begin(self, NativeCoroutine c) except -1                   # virtual: the first step
    cdef int woken(self, NativeCoroutine c) except -1                   # virtual: what it waited for is done
    cdef int failed(self, NativeCoroutine c, object error) except -1    # virtual: anything else happened

cdef object new_coroutine(Method method, Primitive owner, object value)
cdef int finish_class(object cls, object passes_for, tuple coroutine_functions) except -1
cdef bint wake(object future, object result) except -1
cdef bint is_cancelled(object future) except -1
cdef bint was_woken(object future) except -1
cdef int append(object deque_, object item) except -1
cdef object popleft(object deque_)
cdef int leave(object waiters, object future) except -1
