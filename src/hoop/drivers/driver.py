"""The contract between the loop and a driver. The loop never names a kind of driver.

    reserve(fd)         Hold numbers for all descriptors that the driver will need, so that none is missing in
                        the middle of a run. The loop keeps `fd` open as long as the driver. Returns 0 or an
                        errno.
    begin(ready)        The calling thread is about to run the loop. Returns 0, or an errno if this driver
                        cannot work. Then another driver takes over, with the ops that take_armed() returns.
    rest(ready)         The loop stops running for now, and another thread may run it next. The driver submits
                        what is pending, and cancels what another thread could not go on with.
    submit(op)          Watch for the op until it is cancelled; make the call of a CallOp once. Raises OSError
                        if the kernel refuses. If another op is armed for the same descriptor and interest, it
                        is evicted: its file must have been closed, as the number belongs to a new file now.
                        A foreign op never keeps a file open.
    cancel(op)          Stop watching. Does nothing for an op that is not armed. On io_uring the op may be
                        CANCELLING afterwards: the kernel uses its descriptor until a later poll() has seen
                        the last completion. A CallOp still runs, with the result of the call.
    poll(ready, ns)     Wait for at most `ns` nanoseconds (for ever if negative, not at all if 0). Then push
                        each op that is ready onto `ready`. Runs no callback. The only method that may release
                        the GIL. It may return early without any op, for example when a signal arrived.
                        Returns what begin() returns, since a driver may find out only now.
    tell()              Submit what is pending to the kernel. Its completions wait for the next poll().
    wake()              Make a sleeping poll() return. Any thread may call it.
    close()             Give back what the driver holds of the kernel's. Ops that are armed become idle.
    supports(i)         Whether the driver does all that an interest asks. RECEIVE can always be submitted,
                        but epoll only tells when to make the system call.
    supports_call(c)    Whether a CallOp of that code can be submitted now.
    armed(fd, i)        Return the foreign op that is armed for a descriptor, or None. A driver that treats
                        all ops alike may return one that is not foreign.
    take_armed()        Disarm all ops that the kernel is not working on, and return them.

With a `spin_ns` a driver may spin: poll() first looks for events again and again for that long. It spins
while recent waits were shorter than that on average. After a spin without events poll() returns, and the
next one sleeps.

The fields `announces`, `pending` and `bell` tell the loop whether it has to call poll() while it is busy.

A driver belongs to one loop. Close a descriptor only after its ops were cancelled and none is CANCELLING.

After a fork the child has a copy of the driver, which counts as *inherited*. It shares the kernel's objects
with the parent. So it may close its own descriptors, and must tell the kernel nothing else. The child may
still run callbacks and timers, so that a coroutine which has forked can end there: see nap().
"""

from __future__ import annotations

import errno
import os

import cython
from cython.cimports.hoop._c.linux import hoop_close, hoop_eventfd, hoop_now_ns, hoop_twin, usleep
from cython.cimports.hoop._c.python import PyErr_CheckSignals
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.drivers.ready import ReadyRing

# Limits for the mean: a wait counts as at most LONG_WAIT spins, and weighs one part in MEAN_OVER.
LONG_WAIT = cython.declare(cython.int, 4)
MEAN_OVER = cython.declare(cython.int, 8)
NAP_US = cython.declare(cython.int, 1000)
EBADF = cython.declare(cython.int, errno.EBADF)


def _count_fork():
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count_fork)


@cython.cclass
class Driver:
    """The base class of drivers. Methods without a sensible default raise NotImplementedError."""

    name = "none"

    def __cinit__(self):
        self.generation = forks
        self.model = -1
        self.bell = cython.address(silence)

    def statistics(self) -> dict:
        """Return numbers that tell how the driver is doing. A driver adds its own to these.

        armed       operations that it watches for now
        """
        return {"armed": 0}

    def operations(self) -> list:
        """The ops that it watches for or works on now, for tools that observe."""
        return []

    # ---- descriptors ----

    @cython.cfunc
    @cython.exceptval(check=False)
    def hold(self, n: cython.int) -> cython.int:
        """Hold n numbers. Returns 0 or -errno.

        A duplicate costs the kernel a fifth of what a new file does, and many loops never need theirs.
        """
        fd: cython.int
        while self.n_spares < n:
            fd = hoop_twin(self.model)
            if fd == -EBADF:  # nobody has said of which
                fd = hoop_eventfd()
            if fd < 0:
                return fd
            self.spares[self.n_spares] = fd
            self.n_spares += 1
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def release(self, n: cython.int) -> cython.int:
        """Let go of n numbers, because that many descriptors are made now."""
        while n and self.n_spares:
            n -= 1
            self.n_spares -= 1
            hoop_close(self.spares[self.n_spares])
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def lacking(self) -> cython.int:
        """How many descriptors the driver has still to make."""
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def reserve(self, fd: cython.int) -> cython.int:
        self.model = fd
        return -self.hold(self.lacking())

    # ---- spinning ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin_wait(self, timeout_ns: cython.longlong) -> cython.longlong:
        """Begin a wait. Returns for how many nanoseconds to spin first; 0 means to sleep."""
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
        """End a wait, which found n events.

        After a spin without events run Python's signal handlers, since a signal interrupts no spin.
        """
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
    def nap(self, timeout_ns: cython.longlong) -> cython.int:
        """poll() of an inherited driver: let a moment pass. The kernel's news are the parent's.

        Nothing wakes it, so it is short.
        """
        if timeout_ns:
            with cython.nogil:
                usleep(NAP_US)
        PyErr_CheckSignals()
        return 0

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
