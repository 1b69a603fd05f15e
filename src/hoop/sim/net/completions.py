"""Receives and sends for transports, as the driver of io_uring does, but when a simulation wants it.

A RecvOp gets bytes by complete(), and a SendOp is a call. So half of the seeds test that half of hoop's
transports. Ops that only ask for readiness, and all foreign ones, belong to the driver's epoll.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.linux import hoop_is_readable, hoop_recv, hoop_send
from cython.cimports.hoop.drivers.op import ARMED, CALL, IDLE, READY, CallOp, Op
from cython.cimports.hoop.drivers.ready import ReadyRing
from cython.cimports.hoop.sim.net import failing

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)


@cython.final
@cython.cclass
class Completions:
    """The ops that are armed. No call receives or sends more bytes than these."""

    def __cinit__(self):
        self.buffer = cython.cast(cython.p_char, PyMem_Malloc(RECEIVE_MAX))
        if self.buffer is cython.NULL:
            raise MemoryError

    def __init__(self, receive_max: cython.int, send_max: cython.int):
        self.receiving = []
        self.calls = []
        self.receive_max = min(receive_max, cython.cast(cython.int, RECEIVE_MAX))
        self.send_max = send_max

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        if op.phase == ARMED or op.phase == READY:
            if op.interest == CALL:
                raise RuntimeError("the call is under way already")
            return 0
        op.enter_armed()
        if op.interest == CALL:
            self.calls.append(op)
        else:
            op.delivers = not op.by_hand
            self.receiving.append(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.bint:
        """Stop with an op. Returns whether it was here."""
        ops: list = self.calls if op.interest == CALL else self.receiving
        if op not in ops:
            return False
        ops.remove(op)
        op.enter_idle()
        return True

    @cython.cfunc
    def receiver(self, fd: cython.int) -> Op:
        """The op that receives from a descriptor, or None."""
        op: Op
        for each in self.receiving:
            op = each
            if op.fd == fd:
                return op
        return None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send(self, ready: ReadyRing) -> cython.bint:
        """Make the calls that can be made. Returns whether something was sent."""
        call: CallOp
        n: cython.Py_ssize_t
        sent: cython.bint = False
        for op in list(self.calls):
            call = op
            n = -failing.error_of_send(call.fd)
            if n == 0:
                n = hoop_send(
                    call.fd, call.address, min(call.length, cython.cast(cython.uint, self.send_max))
                )
            if n == -EAGAIN or n == -EINTR:
                continue
            sent = True
            self.calls.remove(op)
            if call.complete(cython.cast(cython.int, n), cython.NULL):
                call.enter_ready()
                ready.push(call)
            else:
                call.enter_idle()
        return sent

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive(self, ready: ReadyRing) -> cython.int:
        """Receive for all that want to, until each is on the ring or has no more to receive."""
        op: Op
        for each in list(self.receiving):
            op = each
            # A layer may take the bytes at once. Then nothing is put onto the ring, and more may be there.
            while op.phase == ARMED and self.receive_once(op):
                if op.phase == READY:
                    ready.push(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_once(self, op: Op) -> cython.bint:
        """Receive for an op, or see whether it could. Returns whether there was something."""
        n: cython.Py_ssize_t = 0
        op.delivers = not op.by_hand
        if op.delivers:
            n = hoop_recv(op.fd, self.buffer, self.receive_max)
            if n == -EAGAIN or n == -EINTR:
                return False
        elif not hoop_is_readable(op.fd):
            return False
        if op.complete(cython.cast(cython.int, n), self.buffer) and op.phase == ARMED:
            op.enter_ready()
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        """Let go of all ops."""
        op: Op
        for each in [*self.calls, *self.receiving]:
            op = each
            if op.phase != IDLE:
                op.enter_idle()
        self.calls.clear()
        self.receiving.clear()
        return 0
