"""The loop's queue: Runnable is anything that the loop can run, and the ReadyRing holds those to run next.

    Runnable            has one virtual method, run()
      Handle            (scheduling/handle.py) call_soon: a callback, its arguments and its context
        TimerHandle     (scheduling/timers.py) call_later, call_at
      Future            (scheduling/future.py) only because Task inherits from it
        Task            (scheduling/task.py) the next step of a task
      Op                (drivers/op.py) an operation of the kernel that is ready
    ReadyRing           the queue; the loop inherits from it

A driver pushes operations onto the ring, so both classes lie beside the drivers. The thread that holds the
GIL may use them.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.python import Py_DECREF, Ref

FIRST_RING_SIZE = cython.declare(cython.ulong, 256)


@cython.cclass
class Runnable:
    """Something that the loop can run."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    def calls(self) -> object:
        """Return the user's function that run() calls, for debug mode's reports; None if it is not known."""
        return None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def expire(self, loop: Ref) -> cython.bint:
        return False

    def failure(self, exc):
        """Return the context for the loop's exception handler when run() raised `exc`."""
        return {"message": f"Exception in {type(self).__name__}", "exception": exc}


@cython.cclass
class ReadyRing:
    """A growing queue of owned references to runnables, first in, first out."""

    def __cinit__(self):
        self.ring = cython.cast(
            cython.pointer[Ref], PyMem_Malloc(FIRST_RING_SIZE * cython.sizeof(Ref))
        )
        if self.ring is cython.NULL:
            raise MemoryError
        self.mask = FIRST_RING_SIZE - 1

    def __dealloc__(self):
        self.drop_ready()
        PyMem_Free(self.ring)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow_ring(self) -> cython.int:
        size: cython.ulong = self.mask + 1
        bigger: cython.pointer[Ref] = cython.cast(
            cython.pointer[Ref], PyMem_Malloc(2 * size * cython.sizeof(Ref))
        )
        if bigger is cython.NULL:
            raise MemoryError
        i: cython.ulong
        for i in range(size):
            bigger[i] = self.ring[(self.head + i) & self.mask]
        PyMem_Free(self.ring)
        self.ring = bigger
        self.woken_from -= self.head
        self.woken_to -= self.head
        self.head = 0
        self.tail = size
        self.mask = 2 * size - 1
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def shrink_ring(self) -> cython.int:
        """Give the memory of a large ring back. It must be empty."""
        small: cython.pointer[Ref] = cython.cast(
            cython.pointer[Ref], PyMem_Malloc(FIRST_RING_SIZE * cython.sizeof(Ref))
        )
        if small is cython.NULL:
            return 0
        PyMem_Free(self.ring)
        self.ring = small
        self.head = self.tail = self.woken_from = self.woken_to = 0
        self.mask = FIRST_RING_SIZE - 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_ready(self) -> cython.int:
        """Forget all runnables without running them."""
        r: Ref
        while self.head != self.tail:
            r = self.ring[self.head & self.mask]
            self.head += 1
            Py_DECREF(r)
        return 0
