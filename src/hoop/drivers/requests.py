"""The requests that the io_uring driver submits to the kernel, and the table of the ops that they are for.

An op has a place in the table from its submission until the last completion of its last request. The kernel
gets the number of the place and its generation, and never a pointer. So no completion can reach a later op.
The op owns the memory that the kernel reads or writes, and the place owns the op. Requests are cancelled by
the same number. To cancel all requests of a descriptor, the kernel would search them all.

Requests are written into the ring just before the driver enters the kernel.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Realloc
from cython.cimports.hoop._c.python import Py_DECREF, PyErr_CheckSignals, Ref, own
from cython.cimports.hoop._c.uring import (
    POOL_GROUP,
    hoop_ask_apart,
    hoop_ask_call,
    hoop_ask_cancel,
    hoop_ask_poll,
    hoop_ask_receive,
    hoop_cqe,
    hoop_ring_enter,
    hoop_ring_next,
    hoop_sqe,
)
from cython.cimports.hoop.drivers.driver import Driver
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import ARMED, CALL, RECEIVE, WRITABLE, CallOp, Op
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memset

EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EBUSY = cython.declare(cython.int, errno.EBUSY)
EINTR = cython.declare(cython.int, errno.EINTR)
ENOMEM = cython.declare(cython.int, errno.ENOMEM)
ENOENT = cython.declare(cython.int, errno.ENOENT)
ETIME = cython.declare(cython.int, errno.ETIME)


@cython.cclass
class Requests(Driver):
    """The half of UringDriver that submits requests. It has the ring, the table of places, and a queue."""

    def __dealloc__(self):
        PyMem_Free(self.places)
        PyMem_Free(self.queue)

    # ---- places ----

    @cython.cfunc
    @cython.exceptval(0, check=False)
    def take_place(self, op: Op) -> uint32_t:
        index: uint32_t
        n: cython.ulonglong
        if self.free_place == 0:
            n = 2 * self.n_places or 64
            places = cython.cast(
                cython.pointer[Place], PyMem_Realloc(self.places, n * cython.sizeof(Place))
            )
            if places is cython.NULL:
                raise MemoryError
            self.places = places
            memset(places + self.n_places, 0, (n - self.n_places) * cython.sizeof(Place))
            for index in range(n - 1, max(self.n_places, 1) - 1, -1):
                places[index].generation = 1
                places[index].next_free = self.free_place
                self.free_place = index
            self.n_places = n
        index = self.free_place
        self.free_place = self.places[index].next_free
        self.places[index].op = own(op)
        self.places[index].only_poll = False
        op.place = index
        return index

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop(self, index: uint32_t) -> cython.int:
        """Drop an op of which the kernel knows nothing."""
        p: Ref = self.places[index].op
        self.places[index].op = cython.NULL
        cython.cast(Op, p).place = 0
        if not self.places[index].queued:
            self.free(index)
        Py_DECREF(p)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def free(self, index: uint32_t) -> cython.int:
        self.places[index].generation += 1
        self.places[index].cancelled = False
        self.places[index].next_free = self.free_place
        self.free_place = index
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enqueue(self, index: uint32_t) -> cython.int:
        """Queue a request for the op, to be written before the kernel is entered next."""
        n: cython.ulonglong
        if self.places[index].queued:
            return 0
        if self.n_queued == self.queue_size:
            n = 2 * self.queue_size or 64
            queue = cython.cast(
                cython.pointer[uint32_t], PyMem_Realloc(self.queue, n * cython.sizeof(uint32_t))
            )
            if queue is cython.NULL:
                raise MemoryError
            self.queue = queue
            self.queue_size = n
        self.places[index].queued = True
        self.queue[self.n_queued] = index
        self.n_queued += 1
        self.pending = True
        return 0

    # ---- writing requests ----

    @cython.cfunc
    def next_entry(self) -> cython.pointer[hoop_sqe]:
        """Return an empty entry of the submission ring."""
        entry: cython.pointer[hoop_sqe] = hoop_ring_next(cython.address(self.ring.raw))
        if entry is cython.NULL:
            self.ring_full += 1
            self.enter_now()  # the kernel takes the entries that were written
            entry = hoop_ring_next(cython.address(self.ring.raw))
            if entry is cython.NULL:
                raise_errno(-EBUSY, "io_uring")
        self.pending = True
        return entry

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ask_for_queued(self) -> cython.int:
        """Write a request for each op in the queue."""
        i: uint32_t = 0
        kept: uint32_t = 0
        index: uint32_t
        op: Op
        if not self.wake_armed:
            hoop_ask_poll(self.next_entry(), self.ring.wake_fd, False, True, WAKE)
            self.wake_armed = True
        while i < self.n_queued:
            index = self.queue[i]
            i += 1
            if self.places[index].op is cython.NULL:
                self.places[index].queued = False
                self.free(index)
                continue
            op = cython.cast(Op, self.places[index].op)
            if self.places[index].in_kernel:
                self.places[index].queued = False
            elif op.phase == ARMED:
                self.places[index].queued = False
                self.ask(index, op)
            else:  # it was not run yet since its last completion
                self.queue[kept] = index
                kept += 1
        self.n_queued = kept
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ask(self, index: uint32_t, op: Op) -> cython.int:
        call: CallOp
        entry: cython.pointer[hoop_sqe] = self.next_entry()
        name: uint64_t = self.name_of(index)
        self.places[index].in_kernel = True
        self.places[index].cancelled = False
        self.in_kernel += 1
        self.sends += is_send(op)
        op.delivers = False
        if op.interest == CALL:
            call = cython.cast(CallOp, op)
            hoop_ask_call(
                entry, call.code, op.fd, call.flags, call.address, call.length, call.offset, name
            )
            if call.apart:
                hoop_ask_apart(entry)
            self.calls_written = True
        elif op.interest == WRITABLE:
            hoop_ask_poll(entry, op.fd, True, False, name)
        elif (
            op.interest == RECEIVE
            and not (op.by_hand or self.places[index].only_poll)
            and self.ring.receives()
        ):
            op.delivers = True
            hoop_ask_receive(entry, op.fd, POOL_GROUP, name)
        else:
            hoop_ask_poll(entry, op.fd, False, False, name)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ask_cancel(self, index: uint32_t) -> cython.int:
        if not self.places[index].cancelled:
            name: uint64_t = self.name_of(index)
            hoop_ask_cancel(self.next_entry(), name, name | CANCEL)
            self.places[index].cancelled = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel_again(self, cqe: cython.pointer[hoop_cqe]) -> cython.int:
        """Handle a cancel request that failed: the kernel does not find a request that it is working on.

        Do nothing if that request ended meanwhile: its place has another generation by now.
        """
        index: uint32_t = cython.cast(uint32_t, cqe.user_data & (CANCEL - 1))
        if cqe.res == -ENOENT and index < self.n_places and self.places[index].in_kernel:
            if self.name_of(index) | CANCEL == cqe.user_data:
                self.places[index].cancelled = False
                self.ask_cancel(index)
        return 0

    # ---- the kernel ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_now(self) -> cython.int:
        """Enter the kernel, so that it takes the entries written. Completions wait for poll()."""
        if self.is_ours():
            self.check(hoop_ring_enter(cython.address(self.ring.raw), 0, 0))
            self.pending = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, result: cython.int) -> cython.int:
        """Check the result of entering the kernel. Raises OSError for an error that waiting cannot mend."""
        if result >= 0 or result == -ETIME:
            return 0
        if result == -EINTR:
            PyErr_CheckSignals()
        elif result == -EAGAIN or result == -EBUSY or result == -ENOMEM:
            self.pending = True  # once this process or others have freed resources
        else:
            raise_errno(result, "io_uring_enter")
        return 0
