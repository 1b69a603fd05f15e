"""The port to the kernel: what the loop asks of a driver. The loop never names one.

`begin(ready)`      the calling thread is about to take turns. Returns 0, or the errno for which this driver
                    cannot: then another takes over, with what `take_armed` gives.
`rest(ready)`       the turns end for now: what the kernel was not told yet it is told. What another thread
                    could not go on with is called back, since that may take the next turn.
`submit(op)`        watch for the op until it is cancelled; a CallOp is done once. Raises OSError if the
                    kernel refuses. An op that was armed for the same number before is evicted: its file was
                    closed, or else nobody else would have the number. A foreign op never keeps a file open.
`cancel(op)`        stop watching. Does nothing for an op that is not armed. On a completion driver the op may
                    be CANCELLING after that: the kernel keeps its descriptor until a later `poll` has seen
                    the end of it. A CallOp has its turn all the same, with what became of the call.
`poll(ready, ns)`   wait for at most `ns` nanoseconds (for ever if negative, not at all if 0), then push
                    each op whose turn has come onto `ready`. Runs nothing. The only call that may release
                    the GIL. May return early, with nothing: when a signal arrived, for instance.
`tell()`            have the kernel do what it was not told yet. What comes of it waits for the next `poll`.
`wake()`            make a sleeping `poll` return. From any thread.
`close()`           give the kernel back what the driver holds. Ops still armed become idle.
`supports(i)`       whether ops of that interest do what it says: RECEIVE can always be submitted, but a
                    readiness driver only tells when to make the system call.
`supports_call(c)`  whether a CallOp of that code can be submitted now.
`armed(fd, i)`      the foreign op that is armed for a descriptor, or None. A driver that treats all ops alike
                    may give another.
`take_armed()`      all ops that are armed and not in the kernel; they are idle then.

A driver may spin: with a `spin_ns`, a `poll` that is to wait looks again and again for so long first, while
waits are on average shorter than that. When it spun in vain it returns with nothing, to sleep the next time.

`announces`, `pending` and `bell` spare the loop a look at the driver while it is busy with callbacks.
A driver belongs to one loop. A descriptor must be closed only after its ops were cancelled, and none of
them is CANCELLING.
After a fork the child's copy of a driver is *inherited*: it shares kernel objects with the parent, so it
may only close its own descriptors and must not tell the kernel anything else.
"""

from __future__ import annotations

import os

import cython
from cython.cimports.hoop._c.linux import hoop_now_ns
from cython.cimports.hoop._c.python import PyErr_CheckSignals
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.drivers.ready import ReadyRing

forks = cython.declare(cython.ulong, 0)

# A long wait counts for no more than so many spins, and each for one part in so many of the mean.
LONG_WAIT = cython.declare(cython.int, 4)
MEAN_OVER = cython.declare(cython.int, 8)


def _count_fork():
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count_fork)


@cython.cclass
class Driver:
    """The contract. What has no sensible default raises NotImplementedError."""

    name = "none"

    def __cinit__(self):
        self.generation = forks
        self.bell = cython.address(silence)

    @cython.cfunc
    @cython.exceptval(check=False)
    def inherited(self) -> cython.bint:
        """Whether this is a forked child's copy."""
        return self.generation != forks

    # ---- spinning ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin_wait(self, timeout_ns: cython.longlong) -> cython.longlong:
        """For how long to spin now, in a driver that may; 0 to sleep."""
        if self.has_spun:
            self.has_spun = False
            return 0
        self.wait_began_ns = hoop_now_ns()
        if not self.may_spin or self.mean_wait_ns >= self.spin_ns:
            return 0
        self.spins += 1
        return self.spin_ns if timeout_ns < 0 or timeout_ns > self.spin_ns else timeout_ns

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_wait(
        self, n: cython.int, spin_ns: cython.longlong, timeout_ns: cython.longlong
    ) -> cython.int:
        """A wait has ended, with n news; or a spin, in vain. Then there may have been a signal that ends no
        sleep."""
        waited: cython.longlong
        if n == 0 and spin_ns != 0 and spin_ns != timeout_ns:
            self.spins_in_vain += 1
            self.has_spun = True
            return PyErr_CheckSignals()
        waited = min(hoop_now_ns() - self.wait_began_ns, LONG_WAIT * self.spin_ns)
        self.mean_wait_ns += (waited - self.mean_wait_ns) // MEAN_OVER
        return 0

    # ---- the contract ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, ready: ReadyRing) -> cython.int:
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def rest(self, ready: ReadyRing) -> cython.int:
        return 0

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
    def tell(self) -> cython.int:
        return 0

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
    @cython.exceptval(check=False)
    def supports_call(self, code: cython.int) -> cython.bint:
        return False

    @cython.cfunc
    def armed(self, fd: cython.int, interest: cython.int) -> Op:
        raise NotImplementedError

    @cython.cfunc
    def take_armed(self) -> list:
        raise NotImplementedError
