"""Receives and sends for transports, as the driver of io_uring does, but when a simulation wants it.

A RecvOp gets bytes by complete(), and a SendOp is a call. So half of the seeds test that half of hoop's
transports. Ops that only ask for readiness, and all foreign ones, belong to the driver's epoll.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    epoll_event,
    hoop_close,
    hoop_epoll_create,
    hoop_epoll_ctl,
    hoop_epoll_wait,
    hoop_is_readable,
    hoop_recv,
    hoop_send,
)
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import ARMED, CALL, IDLE, READY, CallOp, Op
from cython.cimports.hoop.drivers.ready import ReadyRing
from cython.cimports.hoop.sim.net import failing
from cython.cimports.libc.stdint import uint64_t

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
EEXIST = cython.declare(cython.int, errno.EEXIST)


@cython.final
@cython.cclass
class Completions:
    """The ops that are armed. No call receives or sends more bytes than these."""

    def __cinit__(self):
        self.epfd = -1
        self.buffer = cython.cast(cython.p_char, PyMem_Malloc(RECEIVE_MAX))
        self.events = cython.cast(
            cython.pointer[epoll_event], PyMem_Malloc(EVENTS_MAX * cython.sizeof(epoll_event))
        )
        if self.buffer is cython.NULL or self.events is cython.NULL:
            raise MemoryError
        self.epfd = hoop_epoll_create()
        if self.epfd < 0:
            raise_errno(self.epfd, "epoll_create1")

    def __init__(self, receive_max: cython.int, send_max: cython.int):
        self.receiving = {}
        self.calls = []
        self.receive_max = min(receive_max, cython.cast(cython.int, RECEIVE_MAX))
        self.send_max = send_max

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        PyMem_Free(self.events)
        if self.epfd >= 0:
            hoop_close(self.epfd)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        if op.phase == ARMED or op.phase == READY:
            if op.interest == CALL:
                raise RuntimeError("the call is under way already")
            return 0
        if op.interest == CALL:
            op.enter_armed()
            self.calls.append(op)
            return 0
        self.watch(op.fd)
        op.enter_armed()
        op.delivers = not op.by_hand
        self.submitted += 1
        self.receiving[op.fd] = (self.submitted, op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def watch(self, fd: cython.int) -> cython.int:
        """Have the kernel tell when a descriptor is readable."""
        data: uint64_t = cython.cast(uint64_t, fd)
        result: cython.int = hoop_epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, EPOLLIN, data)
        if result == -EEXIST:
            result = hoop_epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, EPOLLIN, data)
        if result < 0:
            raise_errno(result, "epoll_ctl")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.bint:
        """Stop with an op. Returns whether it was here."""
        if op.interest == CALL:
            if op not in self.calls:
                return False
            self.calls.remove(op)
        else:
            if self.receiver(op.fd) is not op:
                return False
            del self.receiving[op.fd]
            hoop_epoll_ctl(self.epfd, EPOLL_CTL_DEL, op.fd, 0, 0)
        op.enter_idle()
        return True

    @cython.cfunc
    def receiver(self, fd: cython.int) -> Op:
        """The op that receives from a descriptor, or None."""
        entry = self.receiving.get(fd)
        return None if entry is None else entry[1]

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send(self, ready: ReadyRing) -> cython.bint:
        """Make the calls that can be made. Returns whether something was sent."""
        call: CallOp
        n: cython.Py_ssize_t
        sent: cython.bint = False
        if not self.calls:
            return False
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
    def receive(self, ready: ReadyRing) -> cython.bint:
        """Receive for all that can, until each is on the ring or has no more to receive.

        They take turns in the order in which they were submitted. Returns whether there was something.
        """
        i: cython.int
        op: Op
        received: cython.bint = False
        n: cython.int = hoop_epoll_wait(self.epfd, self.events, EVENTS_MAX, 0)
        if n <= 0:
            return False
        found: list = []
        for i in range(n):
            entry = self.receiving.get(self.events[i].data)
            if entry is not None:
                found.append(entry)
        if n > 1:
            found.sort()
        for entry in found:
            op = entry[1]
            # A layer may take the bytes at once. Then nothing is put onto the ring, and more may be there.
            while op.phase == ARMED and self.receive_once(op):
                received = True
                if op.phase == READY:
                    ready.push(op)
        return received

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
        for each in [*self.calls, *[entry[1] for entry in self.receiving.values()]]:
            op = each
            if op.phase != IDLE:
                op.enter_idle()
        self.calls.clear()
        self.receiving.clear()
        if self.epfd >= 0:
            hoop_close(self.epfd)
            self.epfd = -1
        return 0
