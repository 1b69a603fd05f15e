"""One operation that the kernel is asked for: to receive, to send, to accept, to watch a descriptor.

    Op                  phases, and two virtual methods
      RecvOp, SendOp    (stream.py)
      AcceptOp          (listener.py)
      WatchOp           (watch.py) add_reader, add_writer

An op is armed by `driver.submit` and stays armed until `driver.cancel`: each time the kernel is ready
it takes a turn on the ready ring. A cancelled op may still be on the ring; its turn then does nothing.
Ops live beside the object they serve; nothing here knows about sockets.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop._core.handle import Runnable

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
    def enter_dead(self) -> cython.int:
        if self.phase != IDLE and self.phase != DEAD:
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
    def on_ready(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)
