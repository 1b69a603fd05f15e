"""Receives and sends for transports, as the driver of io_uring does, but when a simulation wants it.

A RecvOp gets bytes by complete(), and a SendOp is a call. So half of the seeds test that half of hoop's
transports. Ops that only ask for readiness, and all foreign ones, belong to the driver's epoll.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
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
from cython.cimports.hoop.net.receiver import RecvOp
from cython.cimports.hoop.sim.net.transports import KEPT_MAX, Wire, error_of_send, keep, wire_at
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
        self.handed = []
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
            wire: Wire = wire_at(op.fd)
            if wire is not None:
                wire.spill_handed()
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
            n = -error_of_send(call.fd)
            if n == 0:
                n = self.send_one(call)
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
    @cython.exceptval(check=False)
    def send_one(self, call: CallOp | None) -> cython.Py_ssize_t:
        """Make a call, or have the world keep what it sends."""
        n: cython.Py_ssize_t = min(call.length, cython.cast(cython.uint, self.send_max))
        chunk: bytes = None
        if n <= KEPT_MAX:
            chunk = PyBytes_FromStringAndSize(cython.cast(cython.p_char, call.address), n)
        return n if keep(call.fd, chunk) else hoop_send(call.fd, call.address, n)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hand(self, wire: Wire, fd: cython.int, data: bytes) -> cython.bint:
        """Keep bytes for the op that receives from a descriptor. False if none takes all of them at once."""
        op: Op
        entry = self.receiving.get(fd)
        if entry is None:
            return False
        op = entry[1]
        if type(op) is not RecvOp or op.phase != ARMED or op.by_hand:
            return False
        if wire.handed is not None:
            data = wire.handed + data
        if PyBytes_GET_SIZE(data) > self.receive_max:
            wire.spill_handed()
            return False
        if wire.handed is None:
            self.handed.append(entry)
        wire.handed = data
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive(self, ready: ReadyRing, asks: cython.bint) -> cython.bint:
        """Receive for all that can, until each is on the ring or has no more to receive.

        They take turns in the order in which they were submitted. Returns whether there was something.
        Without `asks` the kernel has nothing new.
        """
        i: cython.int
        n: cython.int
        op: Op
        received: cython.bint = False
        found: list = self.handed
        if not found and not asks:
            return False
        self.handed = []
        if asks:
            n = hoop_epoll_wait(self.epfd, self.events, EVENTS_MAX, 0)
            for i in range(n):
                entry = self.receiving.get(self.events[i].data)
                if entry is not None and entry not in found:
                    found.append(entry)
        if len(found) > 1:
            found.sort()
        for entry in found:
            op = entry[1]
            if self.receive_for(op, ready):
                received = True
        return received

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_for(self, op: Op, ready: ReadyRing) -> cython.bint:
        """Receive for an op until it is on the ring. Returns whether there was something.

        A layer may take the bytes at once. Then nothing is put onto the ring, and more may be there.
        """
        n: cython.Py_ssize_t
        received: cython.bint = False
        wire: Wire = wire_at(op.fd)
        if wire is not None and wire.handed is not None:
            if op.phase == ARMED:
                received = True
                self.deliver(op, wire.handed)
                if op.phase == READY:
                    ready.push(op)
                wire.handed = None
            else:
                wire.spill_handed()
        while op.phase == ARMED:
            n = self.receive_once(op)
            if n == -EAGAIN:
                break
            received = True
            if op.phase == READY:
                ready.push(op)
            if op.delivers and 0 < n < self.receive_max and wire is not None:
                wire.in_kernel = False
                if wire.open and not wire.finished:
                    break
        return received

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self, op: Op, data: bytes) -> cython.int:
        """Complete an op with bytes that were handed over."""
        op.delivers = True
        if op.complete(cython.cast(cython.int, PyBytes_GET_SIZE(data)), PyBytes_AS_STRING(data)):
            op.enter_ready()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def receive_once(self, op: Op) -> cython.Py_ssize_t:
        """Receive for an op, or see whether it could. Returns how much there was; -EAGAIN for nothing."""
        n: cython.Py_ssize_t = 0
        op.delivers = not op.by_hand
        if op.delivers:
            n = hoop_recv(op.fd, self.buffer, self.receive_max)
            if n == -EAGAIN or n == -EINTR:
                return -EAGAIN
        elif not hoop_is_readable(op.fd):
            return -EAGAIN
        if op.complete(cython.cast(cython.int, n), self.buffer) and op.phase == ARMED:
            op.enter_ready()
        return n

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
        self.handed.clear()
        self.receiving.clear()
        if self.epfd >= 0:
            hoop_close(self.epfd)
            self.epfd = -1
        return 0
