from hoop._c.python cimport Ref, Py_INCREF

# What the ready ring holds: anything with a turn to take.
cdef class Runnable:
    # True for native tasks: the loop leaves the current task before it runs anything else.
    cdef bint is_task
    # True for what hands a protocol the bytes that came for it.
    cdef bint is_receiver
    # True for the turn of a datagram that was received with others.
    cdef bint is_delivery
    cdef int run(self) except -1
    cdef object calls(self)

# The loop's queue of runnables: a power-of-two ring of owned references.
cdef class ReadyRing:
    cdef Ref *ring
    cdef unsigned long head, tail, mask
    # What the receive callbacks of late have pushed, all in a row: from here, to before there.
    cdef unsigned long woken_from, woken_to
    cdef int grow_ring(self) except -1
    cdef int drop_ready(self) except -1
    cdef inline int push(self, Runnable r) except -1:
        if self.tail - self.head > self.mask:
            self.grow_ring()
        Py_INCREF(<Ref>r)
        self.ring[self.tail & self.mask] = <Ref>r
        self.tail += 1
        return 0
