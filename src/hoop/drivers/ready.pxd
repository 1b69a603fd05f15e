from hoop._c.python cimport Py_INCREF, Ref, flag

# Something that the loop can run.
cdef class Runnable:
    # True for native tasks. Before it runs anything else, the loop leaves the current task.
    cdef flag is_task
    # True if it hands received bytes to a protocol.
    cdef flag is_receiver
    # True if it delivers one datagram of several that were received together.
    cdef flag is_delivery
    cdef long long since       # the ring's `stamp` when it was last pushed; of a waiting task, when it began
    cdef int run(self) except -1
    cdef object calls(self)
    # Virtual: a timer of that loop is to set the result None. Returns whether that is done, or need not be.
    cdef bint expire(self, Ref loop) except -1

# The loop's queue of runnables: a ring of owned references, whose size is a power of two.
cdef class ReadyRing:
    cdef Ref *ring
    cdef unsigned long head, tail, mask
    # The stretch of the ring that recent receive callbacks have pushed without a gap: from, and up to.
    cdef unsigned long woken_from, woken_to
    # The time of the last visit to the driver: nanoseconds of CLOCK_MONOTONIC. 0 before the first.
    cdef long long stamp
    cdef bint debug                     # the loop is in debug mode
    cdef int in_wait                    # AWAKE, IN_KERNEL or WANTS_GIL of observe.h, for threads without the GIL
    cdef int grow_ring(self) except -1
    cdef int shrink_ring(self) noexcept
    cdef int drop_ready(self) except -1
    cdef inline int push(self, Runnable r) except -1:
        if self.tail - self.head > self.mask:
            self.grow_ring()
        Py_INCREF(<Ref>r)
        r.since = self.stamp
        self.ring[self.tail & self.mask] = <Ref>r
        self.tail += 1
        return 0
