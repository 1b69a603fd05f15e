"""The io_uring driver: completions by one ring, which belongs to the thread that runs the loop.

    submit, cancel      only note what is to be asked for, and what no longer
    poll                writes that into the ring, enters the kernel once, and takes what has completed
    in between          two reads of memory (`pending`, `bell`) tell whether there is anything to enter for

requests.py has the ops meanwhile, and writes what the kernel is asked for.

Where this kernel lacks a request (see capabilities.py), the driver waits for readiness, by a one-shot
POLL_ADD. It asks for that again after each turn of the op, so that it is level-triggered like epoll. A
request keeps its file open. Therefore a descriptor that is not ours (of a foreign op) is in an epoll
descriptor, which the ring watches. While each look at that finds something, the ring is not asked to.

A stream that sends alone makes its own system call, which is fastest. When several streams send in one turn,
their SendOps become requests that enter the kernel together. A stream has one such request under way.

The ring is made when the thread that runs the loop first needs it, and made again for another thread. If the
kernel refuses it, for example because locked memory is limited, epoll takes over with all armed ops.
See io_uring(7), io_uring_enter(2).
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.hoop._c.linux import hoop_eventfd_write, hoop_now_ns
from cython.cimports.hoop._c.observe import AWAKE, IN_KERNEL, WANTS_GIL, hoop_tell
from cython.cimports.hoop._c.python import (
    Py_INCREF,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    ref,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop._c.uring import (
    CQE_BUFFER,
    CQE_MORE,
    OP_SEND,
    hoop_cqe,
    hoop_pool_data,
    hoop_pool_done,
    hoop_ring_enter,
    hoop_ring_spin,
    hoop_ring_take,
    hoop_ring_unsubmitted,
)
from cython.cimports.hoop.drivers.capabilities import CALL_CODES
from cython.cimports.hoop.drivers.driver import SPARES_MAX, silence
from cython.cimports.hoop.drivers.epoll import NestedOp, new_nested
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
from cython.cimports.hoop.drivers.requests import CANCEL, WAKE, Requests, is_send
from cython.cimports.hoop.drivers.ring import Ring
from cython.cimports.libc.stdint import uint32_t

# From Linux 6.13 on, the kernel works off about this much at a time and does not ring for the rest.
FULL_BATCH = cython.declare(cython.int, 16)
# The most turns between two looks at the nested driver that find nothing.
LOOK_PAUSE_MAX = cython.declare(cython.uint, 63)
# How long close() waits for the kernel to end its requests. Then hoop leaves their memory to it for good.
CLOSE_NS = cython.declare(cython.longlong, 1_000_000_000)

EBADF = cython.declare(cython.int, errno.EBADF)
ECANCELED = cython.declare(cython.int, errno.ECANCELED)
EEXIST = cython.declare(cython.int, errno.EEXIST)
EINVAL = cython.declare(cython.int, errno.EINVAL)
EIO = cython.declare(cython.int, errno.EIO)
ENOBUFS = cython.declare(cython.int, errno.ENOBUFS)
ENOTSOCK = cython.declare(cython.int, errno.ENOTSOCK)
EOPNOTSUPP = cython.declare(cython.int, errno.EOPNOTSUPP)
EPERM = cython.declare(cython.int, errno.EPERM)


@cython.final
@cython.cclass
class UringDriver(Requests):
    """A Driver over a Ring. `without` names capabilities to do without, for tests."""

    name = "uring"

    def __cinit__(self):
        self.announces = True
        self.resting = True

    def __init__(self, without=()):
        self.ring = Ring(without)

    def __dealloc__(self):
        self.close()

    def fileno(self):
        """The ring's descriptor, or -1 while there is none."""
        return self.ring.raw.fd

    def statistics(self) -> dict:
        """See Driver.statistics().

        in_kernel       requests that the kernel works on
        ring_full       how often there was no room for another
        buffers_used_up how often the kernel had no buffer
        """
        index: uint32_t
        armed: cython.ulong = 0
        for index in range(1, self.n_places):
            armed += self.places[index].op is not cython.NULL
        if self.nested is not None:
            armed += self.nested.epoll.statistics()["armed"]
        return {
            "armed": armed,
            "in_kernel": self.in_kernel,
            "ring_full": self.ring_full,
            "buffers_used_up": self.buffers_used_up,
        }

    def operations(self) -> list:
        index: uint32_t
        found: list = [] if self.nested is None else self.nested.epoll.operations()
        for index in range(1, self.n_places):
            if self.places[index].op is not cython.NULL:
                found.append(cython.cast(Op, self.places[index].op))
        return found

    def capabilities(self):
        """Whether this driver makes use of each capability, by name."""
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
            return self.has_ring()
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports_call(self, code: cython.int) -> cython.bint:
        if code < 0 or code >= CALL_CODES or not self.has_ring():
            return False
        return self.ring.able.calls[code] and (code != OP_SEND or self.ring.able.send)

    # ---- the ring, and the thread it belongs to ----

    @cython.cfunc
    @cython.exceptval(check=False)
    def lacking(self) -> cython.int:
        """The ring, the descriptor to be woken by, and the nested driver."""
        return (self.ring.raw.fd < 0) + (self.ring.wake_fd < 0) + (self.nested is None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, ready: ReadyRing) -> cython.int:
        if self.inherited():
            return 0
        if self.ring.raw.fd >= 0 and not self.is_ours():
            self.abandon(ready)
        result: cython.int = self.hold(self.lacking())
        if result < 0:
            return -result
        self.ready = ref(ready)
        if self.nested is not None:
            self.nested.ready = self.ready
        self.resting = False
        self.pending = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open_ring(self) -> cython.int:
        """Make the ring, because it is needed. Returns 0 or errno.

        A loop that only runs callbacks, and never sleeps, needs none. Test suites make thousands of those.
        """
        self.release((self.ring.raw.fd < 0) + (self.ring.wake_fd < 0))
        result: cython.int = self.ring.open()
        if result < 0:
            return -result
        self.bell = self.ring.raw.sq_flags
        self.wake_armed = False
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_ring(self) -> cython.bint:
        """Whether there is a ring to call through, now that somebody wants to."""
        if self.ring.raw.fd >= 0:
            return True
        if self.resting or self.inherited():
            return False
        return self.open_ring() == 0  # else poll() fails, too, and another driver takes over

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_ring(self) -> cython.int:
        """Close the ring. No more can be done with a ring of another thread or process."""
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
        """Another thread takes over. The next ring will be asked for all that this one was asked for.

        Completions that are there are taken. A call that was under way is lost: nobody can tell what became
        of it, and its memory is left to the kernel.
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

    # ---- arming and disarming ops ----

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
            self.release(1)
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
            self.ask(index, op)  # a task waits for the result of this call
        op.enter_cancelling()
        self.ask_cancel(index)
        # The owner is about to close the descriptor, and the kernel must have let go by then. If it has not,
        # a connection does not end, or an address stays in use. A stream can wait for the next turn.
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

    # ---- the kernel ----

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
        if self.ring.raw.fd < 0 and not self.inherited():
            if timeout_ns == 0 and self.n_queued == 0:  # nobody wants anything of the kernel yet
                self.pending = False
                return 0
            result = self.open_ring()
            if result:
                return result
        if not self.is_ours():
            if self.inherited():
                return self.nap(timeout_ns)
            raise RuntimeError("the ring belongs to another thread")
        self.pending = False
        if self.nested is not None and self.n_queued and self.look_first(ready):
            timeout_ns = 0
            if self.n_queued == 1 and self.wake_armed and self.bell[0] == 0:
                self.pending = True
                return 0
        if self.n_queued or not self.wake_armed:
            self.ask_for_queued()
        # Some of the calls that are written complete at once: there will be something to do.
        waits = timeout_ns != 0 and not self.calls_written
        if waits and self.spin_ns:
            spin_ns = self.begin_wait(timeout_ns)
        if not waits:
            result = hoop_ring_enter(ring, 0, 0)
        elif spin_ns:
            with cython.nogil:
                hoop_tell(cython.address(ready.in_wait), IN_KERNEL)
                result = hoop_ring_spin(ring, spin_ns)
                hoop_tell(cython.address(ready.in_wait), WANTS_GIL)
        else:
            self.waits += 1
            with cython.nogil:
                hoop_tell(cython.address(ready.in_wait), IN_KERNEL)
                result = hoop_ring_enter(ring, 1, timeout_ns)
                hoop_tell(cython.address(ready.in_wait), WANTS_GIL)
        ready.in_wait = AWAKE
        self.calls_written = False
        self.pending = self.n_queued != 0 or hoop_ring_unsubmitted(ring) != 0
        if result < 0:
            self.check(result)
        n = self.reap(ready)
        if n >= FULL_BATCH:
            self.pending = True
        if waits and self.spin_ns:
            self.end_wait(n, spin_ns, timeout_ns)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def look_first(self, ready: ReadyRing) -> cython.bint:
        """Take what is ready in the nested driver before the ring is asked to watch it. True for something.

        That saves entering the ring. Each time in vain doubles the number of turns until the next look, so
        that those who wait for others lose nothing.
        """
        nested: NestedOp = self.nested
        before: cython.ulong = ready.tail
        if not self.places[nested.place].queued:
            return False
        if nested.paused:
            nested.paused -= 1
            return False
        nested.epoll.poll(ready, 0)
        if ready.tail != before:
            nested.pause = 0
            return True
        nested.paused = nested.pause = min(2 * nested.pause + 1, LOOK_PAUSE_MAX)
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self) -> cython.int:
        if not self.pending or not self.is_ours():
            return 0
        self.ask_for_queued()
        return self.enter_now()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def reap(self, ready: ReadyRing) -> cython.int:
        """Take all completions. Returns how many there were."""
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
            self.buffers_used_up += 1
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
        # Ask the kernel again when the op has run. A failed watch is not repeated: its descriptor was closed.
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
        """Cancel all requests, and wait up to CLOSE_NS for the kernel to end them."""
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
        self.release(SPARES_MAX)
        self.n_queued = 0
        for index in range(1, self.n_places):
            self.places[index].queued = False
            if self.places[index].op is cython.NULL:
                continue
            op = cython.cast(Op, self.places[index].op)
            if self.places[index].in_kernel and op.interest == CALL and not self.inherited():
                Py_INCREF(ref(op))  # never freed: the kernel may still touch its memory
            self.places[index].in_kernel = False
            if op.phase != DEAD:
                op.enter_idle()
            self.drop(index)
        self.pending = False
        if self.nested is not None:
            self.nested.epoll.close()
            self.nested = None
        return 0


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
