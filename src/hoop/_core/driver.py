"""The port to the kernel: what the loop asks of a driver. The loop never names one.

`submit(op)`        watch for the op until it is cancelled. Raises OSError if the kernel refuses.
`cancel(op)`        stop watching. Does nothing for an op that is not armed.
`poll(ready, ns)`   wait for at most `ns` nanoseconds (for ever if negative, not at all if 0), then push
                    each op whose turn has come onto `ready`. Runs nothing. The only call that may release
                    the GIL. May return early, with nothing, when a signal arrived.
`wake()`            make a sleeping `poll` return. From any thread.
`close()`           give the kernel back what the driver holds. Ops still armed become idle.
`supports(i)`       whether ops of that interest can be submitted.
`armed(fd, i)`      the op armed for a descriptor, or None.

A driver belongs to one loop. A descriptor must be closed only after its ops were cancelled.
After a fork the child's copy of a driver is *inherited*: it shares kernel objects with the parent, so it
may only close its own descriptors and must not tell the kernel anything else.
"""

from __future__ import annotations

import os

import cython
from cython.cimports.hoop._core.handle import ReadyRing
from cython.cimports.hoop._core.op import Op

forks = cython.declare(cython.ulong, 0)


def _count_fork():
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count_fork)


@cython.cclass
class Driver:
    """The contract; each method raises NotImplementedError."""

    name = "none"

    def __cinit__(self):
        self.generation = forks

    @cython.cfunc
    @cython.exceptval(check=False)
    def inherited(self) -> cython.bint:
        """Whether this is a forked child's copy."""
        return self.generation != forks

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.int:
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def poll(self, ready: ReadyRing, timeout_ns: cython.longlong) -> cython.int:
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake(self) -> cython.int:
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports(self, interest: cython.int) -> cython.bint:
        return False

    @cython.cfunc
    def armed(self, fd: cython.int, interest: cython.int) -> Op:
        raise NotImplementedError
