"""One operation that the kernel is asked for: to receive, to send, to watch a descriptor.

    Op                  phases, and what its subclasses say
      Inbox, RecvOp     (inbox.py, receiver.py)
      AcceptOp          (listener.py)
      WatchOp           (watch.py) add_reader, add_writer
      NestedOp          (epoll.py) an epoll descriptor, watched by another driver
      CallOp            one system call, made by the driver
        SendOp          (stream.py)

An op is armed by `driver.submit` and stays armed until `driver.cancel`: each time the kernel is ready
it takes a turn on the ready ring. A cancelled op may still be on the ring; its turn then does nothing.
A CallOp is submitted for one call, and is idle again when its turn comes.

On a completion driver the kernel may be working on an op until its last completion has come. So the driver
owns a cancelled op until then, and the op owns whatever the kernel may touch.
Ops live beside the object they serve; nothing here knows about sockets or files.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop.drivers.ready import Runnable

live_ops = cython.declare(cython.long, 0)


def count_live_ops() -> int:
    """How many ops exist in this process. For tests: zero when all loops are closed."""
    return live_ops


@cython.cclass
class Op(Runnable):
    """A kernel operation and the phase it is in."""

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
    def enter_ready(self) -> cython.int:
        if self.phase != ARMED:
            raise RuntimeError(f"{type(self).__name__} became ready in phase {self.phase}")
        self.phase = READY
        return 0

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
        """Nobody wants it any more. The kernel may: then the driver still owns it."""
        if self.phase == ARMED or self.phase == READY:
            raise RuntimeError(f"{type(self).__name__} ended while in phase {self.phase}")
        self.phase = DEAD
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        if self.phase != READY:
            return 0  # cancelled while it waited for its turn
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
    @cython.exceptval(-1, check=False)
    def evicted(self) -> cython.int:
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)


@cython.cclass
class CallOp(Op):
    """One system call that a completion driver makes: its number and arguments, and then its result."""

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
        """Give the result to whoever waits for it."""
        waiter = self.waiter
        self.waiter = self.keep = None
        if waiter is not None and not waiter.done():
            waiter.set_result(self.result)
        return 0
