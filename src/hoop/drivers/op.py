"""One operation that the loop asks of the kernel: to receive, to send, or to watch a descriptor.

    Op                  the phases, and the methods that subclasses define
      Inbox, RecvOp     (net/inbox.py, net/receiver.py) receive
      AcceptOp          (net/listener.py) accepts connections
      WatchOp           (watching/watch.py) add_reader, add_writer, a child process
        PipeOp          (pipes/end.py) pipes and terminals
      NestedOp          (drivers/epoll.py) an epoll descriptor, watched by another driver
      CallOp            one system call, made by the driver
        SendOp          (net/stream.py) sends

driver.submit() arms an op, and driver.cancel() disarms it. While it is armed, the driver pushes it onto the
loop's ready ring each time the descriptor is ready. If it is cancelled while on the ring, its run() does
nothing. A CallOp is submitted for one call, and is idle again when the loop runs it.

On io_uring the kernel may work on a cancelled op until the last completion has come. Until then the driver
owns the op, and the op owns the memory that the kernel may touch.

A *foreign* op watches a descriptor that somebody else may close: one given to add_reader(), a listening
socket, a pipe, or your own socket. It is in an epoll set on either driver. A request of io_uring
would keep the file open, and would take new connections away from others who wait for them.

Each subclass lies beside the object it serves. This module knows nothing of sockets or files.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop.drivers.ready import Runnable

live_ops = cython.declare(cython.long, 0)


def count_live_ops() -> int:
    """Return how many ops exist in this process. For tests: zero when all loops are closed."""
    return live_ops


@cython.cclass
class Op(Runnable):
    """An operation of the kernel, and the phase it is in."""

    def __cinit__(self):
        global live_ops
        live_ops += 1
        self.fd = -1

    def __dealloc__(self):
        global live_ops
        live_ops -= 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_armed(self) -> cython.int:
        if self.phase == DEAD:
            raise RuntimeError(f"{type(self).__name__} was submitted after its end")
        self.phase = ARMED
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def not_armed(self) -> cython.int:
        raise RuntimeError(f"{type(self).__name__} became ready in phase {self.phase}")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_idle(self) -> cython.int:
        if self.phase == DEAD:
            raise RuntimeError(f"{type(self).__name__} was cancelled after its end")
        self.phase = IDLE
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_cancelling(self) -> cython.int:
        if self.phase != ARMED and self.phase != READY:
            raise RuntimeError(f"{type(self).__name__} was cancelled in phase {self.phase}")
        self.phase = CANCELLING
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_dead(self) -> cython.int:
        """Give the op up for good. If the kernel still works on it, the driver keeps it until the last
        completion.
        """
        if self.phase == ARMED or self.phase == READY:
            raise RuntimeError(f"{type(self).__name__} ended while in phase {self.phase}")
        self.phase = DEAD
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        if self.phase != READY:
            return 0  # cancelled while it was on the ready ring
        self.phase = ARMED
        return self.on_ready()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        return result >= 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    def peer(self) -> object:
        return None

    def about(self):
        """Return what this is, its descriptor (-1 if there is none), and the peer's address or None."""
        return type(self).__name__, self.fd, self.peer()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def evicted(self) -> cython.int:
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)


@cython.cclass
class CallOp(Op):
    """One system call that the driver makes: its number, its arguments, and its result."""

    def __cinit__(self):
        self.interest = CALL

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        if self.interest != CALL:
            return Op.run(self)
        if self.phase != READY:
            return 0
        self.phase = IDLE
        return self.on_ready()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        self.result = result
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        """Set the result of the future that waits for this call, or its exception."""
        waiter = self.waiter
        self.waiter = self.keep = None
        if waiter is not None and not waiter.done():
            waiter.set_result(self.result)
        return 0
