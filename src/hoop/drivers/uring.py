"""The io_uring driver: completions by one ring, which belongs to the thread that runs the loop.

    submit, cancel      only note what is to be asked for, and what no longer
    poll                writes that into the ring, enters the kernel once, and takes what has completed
    in between          two reads of memory (`pending`, `bell`) tell whether there is anything to enter for

An op has a place from its submission until the last completion of its last request. The kernel knows the
number of the place and its generation and never a pointer, so that no answer can reach a later op. Whatever
the kernel reads or writes is owned by the op, and the op by its place. Requests are cancelled by that name
too: to cancel those of a descriptor the kernel would look at all there are.

What a request does not do here (see capabilities.py) is done by waiting for readiness: a one-shot POLL_ADD,
asked for again after each turn of the op, so that it is level-triggered like epoll. A request keeps its file
open: what is not ours (a foreign op's descriptor) is in an epoll descriptor, which the ring watches.
See io_uring(7), io_uring_enter(2).
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Realloc
from cython.cimports.hoop._c.linux import hoop_eventfd_write, hoop_now_ns
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    Py_INCREF,
    PyErr_CheckSignals,
    Ref,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    own,
    ref,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop._c.uring import (
    CQE_BUFFER,
    CQE_MORE,
    OP_SEND,
    POOL_GROUP,
    hoop_ask_apart,
    hoop_ask_call,
    hoop_ask_cancel,
    hoop_ask_poll,
    hoop_ask_receive,
    hoop_cqe,
    hoop_pool_data,
    hoop_pool_done,
    hoop_ring_enter,
    hoop_ring_next,
    hoop_ring_spin,
    hoop_ring_take,
    hoop_ring_unsubmitted,
    hoop_sqe,
)
from cython.cimports.hoop.drivers.capabilities import CALL_CODES
from cython.cimports.hoop.drivers.driver import Driver, silence
from cython.cimports.hoop.drivers.epoll import new_nested
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import (
    ARMED,
    CALL,
    CANCELLING,
    DEAD,
    IDLE,
    READY,
    RECEIVE,
    WRITABLE,
    CallOp,
    Op,
)
from cython.cimports.hoop.drivers.ready import ReadyRing
from cython.cimports.hoop.drivers.ring import Ring
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memset

# From Linux 6.13 on, the kernel works off about this much at a time and does not ring for the rest.
FULL_BATCH = cython.declare(cython.int, 16)
# So long close() waits for the kernel to let go of what it has; then the memory is left to it for good.
CLOSE_NS = cython.declare(cython.longlong, 1_000_000_000)

# What the kernel calls requests without an op. No place has the number 0, nor one with this bit.
WAKE = cython.declare(cython.ulonglong, 0)
CANCEL = cython.declare(cython.ulonglong, 1 << 31)

EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EBADF = cython.declare(cython.int, errno.EBADF)
EBUSY = cython.declare(cython.int, errno.EBUSY)
ECANCELED = cython.declare(cython.int, errno.ECANCELED)
EEXIST = cython.declare(cython.int, errno.EEXIST)
EINTR = cython.declare(cython.int, errno.EINTR)
EINVAL = cython.declare(cython.int, errno.EINVAL)
EIO = cython.declare(cython.int, errno.EIO)
ENOBUFS = cython.declare(cython.int, errno.ENOBUFS)
ENOMEM = cython.declare(cython.int, errno.ENOMEM)
ENOTSOCK = cython.declare(cython.int, errno.ENOTSOCK)
ENOENT = cython.declare(cython.int, errno.ENOENT)
EOPNOTSUPP = cython.declare(cython.int, errno.EOPNOTSUPP)
EPERM = cython.declare(cython.int, errno.EPERM)
ETIME = cython.declare(cython.int, errno.ETIME)


@cython.final
@cython.cclass
class UringDriver(Driver):
    """A Driver over a Ring. `without` names capabilities to do without, for tests."""

    name = "uring"

    def __cinit__(self):
        self.announces = True
        self.resting = True

    def __init__(self, without=()):
        self.ring = Ring(without)

    def __dealloc__(self):
        self.close()
        PyMem_Free(self.places)
        PyMem_Free(self.queue)

    def fileno(self):
        """The ring's descriptor, or -1 while there is none."""
        return self.ring.raw.fd

    def capabilities(self):
        """What this driver makes use of, by name."""
        return {
            "receive": self.ring.able.receive,
            "incremental": self.ring.able.incremental,
            "send": self.ring.able.send,
            "no_iowait": self.ring.able.no_iowait,
        }

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports(self, interest: cython.int) -> cython.bint:
        if interest == RECEIVE:
            return self.ring.able.receive
        if interest == CALL:
            return self.ring.raw.fd >= 0
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports_call(self, code: cython.int) -> cython.bint:
        if self.ring.raw.fd < 0 or code < 0 or code >= CALL_CODES:
            return False
        return self.ring.able.calls[code] and (code != OP_SEND or self.ring.able.send)

    # ---- the ring, and the thread it belongs to ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, ready: ReadyRing) -> cython.int:
        result: cython.int
        if self.inherited():
            return 0  # poll() refuses
        if self.ring.raw.fd >= 0 and not self.is_ours():
            self.abandon(ready)
        if self.ring.raw.fd < 0:
            result = self.ring.open()
            if result < 0:
                return -result
            self.bell = self.ring.raw.sq_flags
            self.wake_armed = False
        self.ready = ref(ready)
        if self.nested is not None:
            self.nested.ready = self.ready
        self.resting = False
        self.pending = True
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_ours(self) -> cython.bint:
        """Whether the calling thread may use the ring: no other can."""
        return self.ring.belongs_here() and not self.inherited()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_ring(self) -> cython.int:
        """Also of a ring that belongs to another thread or process: then no more than this can be done."""
        self.ready = cython.NULL
        if self.nested is not None:
            self.nested.ready = cython.NULL
        self.bell = cython.address(silence)
        self.ring.close()
        self.in_kernel = self.sends = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def abandon(self, ready: ReadyRing) -> cython.int:
        """Another thread takes over. What the ring was asked for, its successor will be asked for.

        Whatever was completed is taken. A call that was under way is lost: nobody can tell what became of
        it, and its memory is left to the kernel.
        """
        index: uint32_t
        op: Op
        self.reap(ready)
        self.close_ring()
        for index in range(1, self.n_places):
            if self.places[index].op is cython.NULL or not self.places[index].in_kernel:
                continue
            op = cython.cast(Op, self.places[index].op)
            self.places[index].generation += 1
            self.places[index].in_kernel = self.places[index].cancelled = False
            if op.interest == CALL:
                Py_INCREF(ref(cython.cast(CallOp, op).keep))
                self.end(ready, index, op, -EIO, op.complete(-EIO, cython.NULL))
            else:
                self.end(ready, index, op, 0, False)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def rest(self, ready: ReadyRing) -> cython.int:
        index: uint32_t
        op: Op
        self.resting = True
        if self.ring.raw.fd < 0 or not self.is_ours():
            return 0
        if self.sends:
            for index in range(1, self.n_places):
                if self.places[index].op is cython.NULL or not self.places[index].in_kernel:
                    continue
                op = cython.cast(Op, self.places[index].op)
                if is_send(op):
                    self.ask_cancel(index)
        if self.pending:
            self.ask_for_queued()
            self.enter_now()
            self.reap(ready)
            if hoop_ring_unsubmitted(cython.address(self.ring.raw)):  # see cancel_again()
                self.enter_now()
                self.reap(ready)
        return 0

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
        """Let go of the op: the kernel knows nothing of it."""
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
    @cython.exceptval(check=False)
    def name_of(self, index: uint32_t) -> uint64_t:
        """What the kernel calls the request of a place."""
        return cython.cast(uint64_t, self.places[index].generation) << 32 | index

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enqueue(self, index: uint32_t) -> cython.int:
        """Ask the kernel for the op before it is entered next."""
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

    # ---- what is wanted ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        if self.inherited():
            raise_errno(-EPERM)
        if op.interest != CALL:
            if op.foreign:
                return self.submit_foreign(op)
            if op.fd < 0:
                raise ValueError(f"Invalid file descriptor: {op.fd}")
            if op.phase == ARMED or op.phase == READY:
                return 0
            if self.nested is not None:
                self.nested.epoll.forget(op.fd)
        elif op.phase != IDLE:
            raise RuntimeError("the call is under way already")
        elif self.ring.raw.fd < 0:
            raise_errno(-EBADF, "no ring yet")
        if not op.place:
            op.enter_armed()
            self.enqueue(self.take_place(op))
        else:  # wanted again, before the kernel has let go of it
            op.enter_armed()
            if not self.places[op.place].in_kernel:
                self.enqueue(op.place)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit_foreign(self, op: Op) -> cython.int:
        """Watch a descriptor that is not ours: a request would keep open what its owner closes."""
        if self.nested is None:
            self.nested = new_nested()
            self.nested.ready = self.ready
            self.submit(self.nested)
        return self.nested.epoll.submit(op)

    @cython.cfunc
    def armed(self, fd: cython.int, interest: cython.int) -> Op:
        return None if self.nested is None else self.nested.epoll.armed(fd, interest)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.int:
        index: uint32_t = op.place
        if op.foreign and op.interest != CALL:
            return 0 if self.nested is None else self.nested.epoll.cancel(op)
        if index == 0 or op.phase == CANCELLING or op.phase == DEAD:
            return 0
        if self.inherited() or not self.places[index].in_kernel:
            if op.interest != CALL or is_send(op) or self.inherited():
                op.enter_idle()
                return self.drop(index)
            self.ask(index, op)  # somebody waits for what becomes of it
        op.enter_cancelling()
        self.ask_cancel(index)
        # The descriptor's owner is about to close it, and the kernel must have let go by then: a connection
        # would not end, an address stay in use. A stream can wait for the next turn.
        if self.resting or op.interest <= WRITABLE:
            for _ in range(2):  # the first may come too early: see cancel_again()
                self.enter_now()
                if self.ready is not cython.NULL:
                    self.reap(cython.cast(ReadyRing, self.ready))
                if op.place != index:
                    break
        return 0

    @cython.cfunc
    def take_armed(self) -> list:
        index: uint32_t
        op: Op
        found: list = [] if self.nested is None else self.nested.epoll.take_armed()
        for index in range(1, self.n_places):
            if self.places[index].op is not cython.NULL and not self.places[index].in_kernel:
                op = cython.cast(Op, self.places[index].op)
                op.delivers = False
                if op is not self.nested:
                    found.append(op)
                self.cancel(op)
        return found

    # ---- asking ----

    @cython.cfunc
    def next_entry(self) -> cython.pointer[hoop_sqe]:
        """An empty entry of the submission ring."""
        entry: cython.pointer[hoop_sqe] = hoop_ring_next(cython.address(self.ring.raw))
        if entry is cython.NULL:
            self.enter_now()  # the kernel takes what is written
            entry = hoop_ring_next(cython.address(self.ring.raw))
            if entry is cython.NULL:
                raise_errno(-EBUSY, "io_uring")
        self.pending = True
        return entry

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ask_for_queued(self) -> cython.int:
        """Write a request for each op that is to have one."""
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
            else:  # its turn has not come yet
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
        """A request to cancel has failed: while what it meant is being worked on, the kernel does not see it.

        If it ended meanwhile, its place has another name by now.
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
        """Have the kernel take what is written and do what it can. What completes waits for poll()."""
        if self.is_ours():
            self.check(hoop_ring_enter(cython.address(self.ring.raw), 0, 0))
            self.pending = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, result: cython.int) -> cython.int:
        """What entering the kernel has said: other failures than these are ours."""
        if result >= 0 or result == -ETIME:
            return 0
        if result == -EINTR:
            PyErr_CheckSignals()
        elif result == -EAGAIN or result == -EBUSY or result == -ENOMEM:
            self.pending = True  # once we have made room, or others have
        else:
            raise_errno(result, "io_uring_enter")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def poll(self, ready: ReadyRing, timeout_ns: cython.longlong) -> cython.int:
        result: cython.int
        n: cython.int
        spin_ns: cython.longlong = 0
        waits: cython.bint
        ring = cython.address(self.ring.raw)
        if timeout_ns == 0 and not self.pending and self.bell[0] == 0:
            return 0
        if not self.is_ours():
            self.refuse()
        self.pending = False
        self.ask_for_queued()
        # Some of the calls that are written complete at once: there will be something to do.
        waits = timeout_ns != 0 and not self.calls_written
        if waits and self.spin_ns:
            spin_ns = self.begin_wait(timeout_ns)
        if not waits:
            result = hoop_ring_enter(ring, 0, 0)
        elif spin_ns:
            with cython.nogil:
                result = hoop_ring_spin(ring, spin_ns)
        else:
            self.waits += 1
            with cython.nogil:
                result = hoop_ring_enter(ring, 1, timeout_ns)
        self.calls_written = False
        self.pending = self.n_queued != 0 or hoop_ring_unsubmitted(ring) != 0
        self.check(result)
        n = self.reap(ready)
        if n >= FULL_BATCH:
            self.pending = True
        if waits and self.spin_ns:
            self.end_wait(n, spin_ns, timeout_ns)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self) -> cython.int:
        if not self.pending or not self.is_ours():
            return 0
        self.ask_for_queued()
        return self.enter_now()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def refuse(self) -> cython.int:
        if self.inherited():
            raise RuntimeError("This event loop was made before a fork and cannot run in the child")
        raise RuntimeError("the ring belongs to another thread")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def reap(self, ready: ReadyRing) -> cython.int:
        """Take all that has completed. How much it was."""
        cqe: hoop_cqe
        n: cython.int = 0
        if self.reaping:  # a finaliser cancels something: what came first must be taken first
            return 0
        self.reaping = True
        try:
            while hoop_ring_take(cython.address(self.ring.raw), cython.address(cqe)):
                n += 1
                if cqe.user_data == WAKE:
                    if not cqe.flags & CQE_MORE:
                        self.wake_armed = False
                        self.pending = True
                elif cqe.user_data & CANCEL:
                    self.cancel_again(cython.address(cqe))
                else:
                    self.settle(ready, cython.address(cqe))
        finally:
            self.reaping = False
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def settle(self, ready: ReadyRing, cqe: cython.pointer[hoop_cqe]) -> cython.int:
        """Give a completion to its op."""
        wants_turn: cython.bint
        result: cython.int = cqe.res
        index: uint32_t = cython.cast(uint32_t, cqe.user_data)
        data: cython.p_char = cython.NULL
        if index >= self.n_places or self.name_of(index) != cqe.user_data:
            raise RuntimeError(f"a completion for nobody: {cqe.user_data:#x}")
        op: Op = cython.cast(Op, self.places[index].op)
        if cqe.flags & CQE_BUFFER:
            data = hoop_pool_data(cython.address(self.ring.pool), cqe)
            if data is cython.NULL:
                raise RuntimeError(f"a completion with a buffer of nobody: {cqe.flags:#x}")
        if not cqe.flags & CQE_MORE:
            self.places[index].in_kernel = False
            self.in_kernel -= 1
            self.sends -= is_send(op)
        if result == -ENOBUFS and op.interest == RECEIVE:
            wants_turn = False  # the pool was empty for a moment: it is asked for again
        elif op.delivers and (result == -EINVAL or result == -EOPNOTSUPP or result == -ENOTSOCK):
            self.places[index].only_poll = True
            wants_turn = False
        else:
            try:
                wants_turn = op.complete(result, data)
            finally:
                if data is not cython.NULL:
                    hoop_pool_done(cython.address(self.ring.pool), cqe)
        if self.places[index].op != ref(op) or self.name_of(index) != cqe.user_data:
            return 0  # whatever that ran has cancelled it, and the kernel knows nothing more of it
        if cqe.flags & CQE_MORE:
            if wants_turn and op.phase == ARMED:
                op.enter_ready()
                ready.push(op)
            if op.by_hand:
                self.ask_cancel(index)
            return 0
        return self.end(ready, index, op, result, wants_turn)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(
        self,
        ready: ReadyRing,
        index: uint32_t,
        op: Op,
        result: cython.int,
        wants_turn: cython.bint,
    ) -> cython.int:
        """The last completion of a request has come."""
        if op.interest == CALL:
            if wants_turn and op.phase != DEAD:
                op.phase = ARMED
                op.enter_ready()
                ready.push(op)
            elif op.phase != DEAD:
                op.enter_idle()
            return self.drop(index)
        if op.phase == CANCELLING or op.phase == DEAD:
            if op.phase == CANCELLING:
                op.enter_idle()
            return self.drop(index)
        if wants_turn and op.phase == ARMED:
            op.enter_ready()
            ready.push(op)
        # Asked for again after its turn. Not if the descriptor is somebody's who has closed it.
        if result >= 0 or op.interest > WRITABLE or result == -ECANCELED:
            self.enqueue(index)
        return 0

    # ---- the end ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake(self) -> cython.int:
        if self.ring.wake_fd >= 0 and not self.inherited():
            self.wakes += 1
            hoop_eventfd_write(self.ring.wake_fd)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel_all(self) -> cython.int:
        """Wait for the kernel to let go of all it has; but not for ever."""
        index: uint32_t
        nobody: ReadyRing = ReadyRing()
        deadline: cython.longlong = hoop_now_ns() + CLOSE_NS
        for index in range(1, self.n_places):
            if self.places[index].op is not cython.NULL and self.places[index].in_kernel:
                op: Op = cython.cast(Op, self.places[index].op)
                if op.phase == ARMED or op.phase == READY:
                    op.enter_cancelling()
                self.ask_cancel(index)
        while self.in_kernel and hoop_now_ns() < deadline:
            if hoop_ring_enter(cython.address(self.ring.raw), 1, CLOSE_NS // 10) == -EEXIST:
                break
            self.reap(nobody)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        index: uint32_t
        op: Op
        if self.ring is None:  # the constructor has failed
            return 0
        if self.ring.raw.fd >= 0 and self.in_kernel and self.is_ours():
            self.cancel_all()
        self.close_ring()
        self.n_queued = 0
        for index in range(1, self.n_places):
            self.places[index].queued = False
            if self.places[index].op is cython.NULL:
                continue
            op = cython.cast(Op, self.places[index].op)
            if self.places[index].in_kernel and op.interest == CALL and not self.inherited():
                Py_INCREF(ref(op))  # the kernel may still touch what it owns: never freed
            self.places[index].in_kernel = False
            if op.phase != DEAD:
                op.enter_idle()
            self.drop(index)
        self.pending = False
        if self.nested is not None:
            self.nested.epoll.close()
            self.nested = None
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_send(op: Op | None) -> cython.bint:
    """Whether it is called back when the loop rests: another thread may run it next, and could not learn how
    much was sent."""
    return op.interest == CALL and cython.cast(CallOp, op).code == OP_SEND


_uring_traverse = cython.declare(traverseproc, cython.NULL)
_uring_clear = cython.declare(inquiry, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def uring_traverse(d: UringDriver | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    index: uint32_t
    error: cython.int
    for index in range(1, d.n_places):
        error = hoop_visit(d.places[index].op, visit, arg)
        if error:
            return error
    return _uring_traverse(ref(d), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def uring_clear(d: UringDriver | None) -> cython.int:
    d.close()
    return _uring_clear(ref(d))


_uring_traverse = hoop_swap_traverse(UringDriver, cython.cast(traverseproc, uring_traverse))
_uring_clear = hoop_swap_clear(UringDriver, cython.cast(inquiry, uring_clear))
