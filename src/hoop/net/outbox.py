"""The sending half of a connection: the queue of bytes, when they leave, and flow control.

A write leaves at once. In three cases a short wait saves work, and a small write waits:

    FOR_NEXT    In its last turn with a write, this connection wrote twice within a quarter of a millisecond.
                The first write of a turn now waits for the second, and both leave in one system call.
    FOR_OTHERS  The loop is handing data to several connections in a row. Their answers wait for the last
                one. This needs a server whose callbacks were seen to end soon after they wrote.
    AS_REPLY    Several tasks, woken by received data, answer in a row. Only the first write since the data
                came waits, with a second one if the two look like head and body.

A write that waits for others leaves before anything else runs. One that waits FOR_NEXT leaves when the turn
ends, at the latest. After each step of a task, `served` looks at the clock, and sends what has waited for
half a millisecond. A wait of more than a millisecond teaches the connection's server to let nothing wait for
a while: see habit.py. `drain()`, `get_write_buffer_size()`, `close()` and all else that could show the queue
send it first.

The bytes in the queue are immutable: a mutable buffer is copied by `write()`. The protocol is paused while
the queue is longer than the high-water mark, and resumes at the low-water mark.
"""

from __future__ import annotations

import errno
import math
import sys

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.hoop._c.linux import (
    hoop_effort_now,
    hoop_now_ns,
    hoop_send,
    hoop_sendv,
    hoop_was_preempted,
    iovec,
)
from cython.cimports.hoop._c.python import (
    PyContext_Enter,
    PyErr_Clear,
    PyList_GET_ITEM,
    Ref,
    exit_context,
    ref,
)
from cython.cimports.hoop._c.uring import OP_SEND
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.net.endpoint import Endpoint
from cython.cimports.hoop.net.habit import LONG_NS, NEAR_NS, Habit
from cython.cimports.hoop.scheduling.base import TOGETHER_MAX, LoopBase

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
HIGH_WATER = cython.declare(cython.Py_ssize_t, 64 * 1024)
LOW_WATER = cython.declare(cython.Py_ssize_t, 16 * 1024)
SIZE_MAX = cython.declare(cython.Py_ssize_t, sys.maxsize)


@cython.cclass
class Outbox(Endpoint):
    """A descriptor, a queue of chunks to send, and a protocol, which is paused when the queue is long."""

    def __cinit__(self):
        self.high_water = HIGH_WATER
        self.low_water = LOW_WATER

    # ---- when a write is sent ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_to_wait(self, op: Op) -> cython.bint:
        """Whether a write to a connection with an empty queue waits. If so, `op` will send it."""
        running: Ref
        if self.wrote_in == self.loop.turns:
            if not self.wrote_again:
                self.note_again()
            return False
        self.wrote_in = self.loop.turns
        self.wrote_again = False
        running = self.loop.running
        if running is cython.NULL:  # called from outside of the loop, where no turn ends
            return False
        if self.is_shared():
            return False
        if cython.cast(Runnable, running).is_receiver:
            return self.is_to_wait_for_others(op)
        if (
            self.unanswered
            and not self.is_drained
            and (self.loop.waiting or self.loop.serves_more())
            and self.loop.steps_for_reply(running, self.loop.head - 1)
        ):
            return self.is_to_wait_as_reply(op)
        return self.manner != ONCE and self.is_to_wait_for_next(op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_to_wait_for_others(self, op: Op) -> cython.bint:
        """Whether a write waits that a protocol makes while the loop hands it received data."""
        habit: Habit
        if self.manner != JOINS and not (
            (self.loop.waiting or self.loop.hands_out_more())
            and self.loop.driver.supports_call(OP_SEND)
        ):
            return self.manner == AGAIN and self.is_to_wait_for_next(op)
        habit = self.own_habit()
        if not habit.ends_soon():
            if self.loop.timed is None:
                self.loop.timed = self
                self.loop.attends = True
                self.wrote_at = hoop_now_ns()
            return self.manner != ONCE and self.is_to_wait_for_next(op)
        if not habit.may_wait():
            return False
        if self.loop.waiting == 0:
            self.loop.waiting_since = hoop_now_ns()
        self.join_wait(op, FOR_OTHERS)
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_to_wait_as_reply(self, op: Op) -> cython.bint:
        """Whether a write waits in the step of a task woken by received data if more such tasks are ready."""
        habit: Habit = self.own_habit()
        self.wrote_at = hoop_now_ns()
        if not habit.ends_soon():
            if self.loop.timed is None:
                self.loop.timed = self
                self.loop.times_another = True
                self.loop.attends = True
            return self.manner != ONCE and self.is_to_wait_for_next(op)
        if not habit.reply_may_wait():
            return self.manner != ONCE and self.is_to_wait_for_next(op)
        if self.loop.waiting == 0:
            self.loop.waiting_since = self.wrote_at
        if not self.loop.replies_wait:
            self.loop.replies_wait = True
            hoop_effort_now(cython.address(self.loop.effort))
        self.join_wait(op, AS_REPLY)
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def join_wait(self, op: Op, kind: Wait) -> cython.int:
        """Wait together with other connections until served() sends."""
        self.loop.waiting += 1
        self.loop.attends = True
        self.loop.mark_dirty(op)
        self.waits = kind
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def ends_reply(self) -> cython.bint:
        """Note another write while one waits. Returns whether to send now, since no more is expected."""
        joins: cython.bint = self.manner == JOINS and not self.wrote_again  # a head and a body
        self.wrote_again = True
        return self.waits == FOR_NEXT or (self.waits == AS_REPLY and not joins)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_to_wait_for_next(self, op: Op) -> cython.bint:
        self.wrote_at = hoop_now_ns()
        if self.manner != JOINS or not self.own_habit().may_wait():
            return False
        self.loop.mark_dirty(op)
        self.waits = FOR_NEXT
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note_again(self) -> cython.int:
        """Note a second write in one turn, when the first did not wait."""
        self.wrote_again = True
        if self.manner == ONCE:
            self.manner = AGAIN  # measure the time the next time
        elif self.manner == AGAIN:
            self.manner = JOINS if hoop_now_ns() - self.wrote_at < NEAR_NS else ONCE
        self.own_habit().manner = self.manner
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_wait(self, op: Op) -> cython.int:
        """Note that the waiting write is sent now, and learn from how long it has waited."""
        habit: Habit = self.own_habit()
        since: cython.longlong = self.wrote_at
        now: cython.longlong = self.loop.flushing_at
        long: cython.bint
        if self.waits == FOR_OTHERS:
            since = self.loop.waiting_since  # or a little later
        long = (now if now else hoop_now_ns()) - since > LONG_NS
        was_reply: cython.bint = self.waits == AS_REPLY
        if long and was_reply:  # not if another process had the processor
            long = not hoop_was_preempted(cython.address(self.loop.effort), LONG_NS)
        self.waits = NO_WAIT
        self.manner = JOINS if self.wrote_again and not long else ONCE
        self.wrote_again = True
        self.loop.unmark_dirty(op)
        habit.manner = self.manner
        if was_reply:
            if long:
                habit.reply_took_long()
            else:
                habit.reply_went_well()
        elif long:
            habit.took_long()
        else:
            habit.went_well()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def callback_ended(self) -> cython.int:
        """Note how soon the callback ended after this connection wrote in it."""
        habit: Habit = self.own_habit()
        if hoop_now_ns() - self.wrote_at < NEAR_NS:
            habit.quick += 1
        else:
            habit.quick = 0
        return 0

    @cython.cfunc
    def own_habit(self) -> Habit:
        if self.habit is None:
            self.habit = Habit.__new__(Habit)
        return self.habit

    # ---- the queue ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add_chunk(self, chunk: bytes) -> cython.int:
        self.unanswered = False
        self.activity += 1
        if self.head is None:
            self.head = chunk
        elif self.rest is None:
            self.rest = [chunk]
        else:
            self.rest.append(chunk)
        self.buffered += PyBytes_GET_SIZE(chunk)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def send_some(self) -> cython.Py_ssize_t:
        """Make one system call. Returns the bytes sent, 0 if the kernel takes none now, or -errno."""
        vec: iovec[IOV_BATCH]
        count: cython.size_t = 1
        i: cython.Py_ssize_t
        chunk: Ref
        n: cython.Py_ssize_t
        start: cython.p_char = PyBytes_AS_STRING(self.head) + self.head_offset
        length: cython.Py_ssize_t = PyBytes_GET_SIZE(self.head) - self.head_offset
        self.loop.look_at = 0
        if self.rest is None:
            n = hoop_send(self.fd, start, length)
        else:
            vec[0].iov_base = start
            vec[0].iov_len = length
            for i in range(self.gone, min(len(self.rest), self.gone + IOV_BATCH - 1)):
                chunk = PyList_GET_ITEM(self.rest, i)
                vec[count].iov_base = PyBytes_AS_STRING(cython.cast(object, chunk))
                vec[count].iov_len = PyBytes_GET_SIZE(cython.cast(object, chunk))
                count += 1
            n = hoop_sendv(self.fd, vec, count)
        if n == -EAGAIN or n == -EINTR:
            return 0
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def consume(self, n: cython.Py_ssize_t) -> cython.int:
        """Drop the first n bytes of the queue."""
        gone: cython.Py_ssize_t = self.gone
        left: cython.Py_ssize_t
        self.buffered -= n
        self.count_out(self.loop, n)
        left = PyBytes_GET_SIZE(self.head) - self.head_offset
        if n < left:
            self.head_offset += n
            return 0
        n -= left
        self.head = None
        self.head_offset = 0
        if self.rest is None:
            return 0
        while gone < len(self.rest):
            chunk: bytes = self.rest[gone]
            left = PyBytes_GET_SIZE(chunk)
            self.rest[gone] = None
            gone += 1
            if n < left:
                self.head = chunk
                self.head_offset = n
                break
            n -= left
        return self.shorten(gone)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def shorten(self, gone: cython.Py_ssize_t) -> cython.int:
        """The first chunks of `rest` are gone. Close the gap only once it is most of the list: a long queue
        would be moved again and again.
        """
        if gone == len(self.rest):
            self.rest = None
            gone = 0
        elif gone >= IOV_BATCH and gone * 2 > len(self.rest):
            del self.rest[:gone]
            gone = 0
        self.gone = gone
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def join_chunks(self) -> cython.int:
        """Join small chunks, so that one request of io_uring sends more."""
        taken: cython.Py_ssize_t = self.gone
        size: cython.Py_ssize_t
        if self.rest is None:
            return 0
        size = PyBytes_GET_SIZE(self.head) - self.head_offset
        if size >= JOIN_BYTES:
            return 0
        parts = [self.head[self.head_offset :]]
        while taken < len(self.rest) and size < JOIN_BYTES:
            chunk: bytes = self.rest[taken]
            parts.append(chunk)
            self.rest[taken] = None
            taken += 1
            size += PyBytes_GET_SIZE(chunk)
        self.head = b"".join(parts)
        self.head_offset = 0
        return self.shorten(taken)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_chunks(self) -> cython.int:
        self.head = None
        self.rest = None
        self.head_offset = self.gone = 0
        self.buffered = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        """Send queued bytes, as many as the kernel takes."""
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        return self.flush() if self.waits else 0

    # ---- flow control ----

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        low, high = water_marks(low, high)
        self.high_water = whole_mark(high)
        self.low_water = whole_mark(low)
        if self.buffered > self.high_water:
            self.flush()
        self.maybe_pause()

    def get_write_buffer_limits(self):
        """Return the (low, high) water marks in bytes."""
        return (self.low_water, self.high_water)

    def get_write_buffer_size(self):
        """Return how many bytes wait to be sent."""
        if self.waits:
            self.flush()
        return self.buffered

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        if self.buffered > self.high_water and not self.writing_paused:
            self.writing_paused = True
            return self.tell("pause_writing")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_resume(self) -> cython.int:
        if self.writing_paused and self.buffered <= self.low_water:
            self.writing_paused = False
            return self.tell("resume_writing")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, method: str) -> cython.int:
        """Call pause_writing or resume_writing in the transport's context, unless the caller is in it
        already.
        """
        context: Ref = ref(self.context)
        protocol = self.protocol
        entered: cython.bint = PyContext_Enter(context) == 0
        if not entered:
            PyErr_Clear()
        try:
            getattr(protocol, method)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": exc,
                    "transport": self,
                    "protocol": protocol,
                }
            )
        finally:
            if entered:
                exit_context(context)
        return 0

    # ---- names that asyncio's own code (sendfile, start_tls, sslproto) reads ----

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _protocol_paused(self):
        return self.writing_paused

    @property
    def _high_water(self):
        return self.high_water

    @property
    def _low_water(self):
        return self.low_water

    @property
    def _empty_waiter(self):
        return self.empty_waiter

    def _make_empty_waiter(self):
        """Return a future that is done when all was sent. Writing is not allowed until it is reset."""
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.empty_waiter = self.loop.create_future()
        if self.waits:
            self.flush()
        if self.head is None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    # ---- for loop.drain() ----

    def _idle_mark(self):
        """Return None while data waits to be sent or answered, else a number that changes with each I/O."""
        return None if self.unanswered or self.head is not None else self.activity


@cython.cfunc
@cython.exceptval(-1, check=False)
def served(loop: LoopBase) -> cython.int:
    """Called when a connection's callback has ended: measure it, and send writes that waited long enough."""
    timed: Outbox
    more: cython.bint = loop.serves_more()
    if loop.timed is not None:
        if loop.times_another and more:  # measure the next one, too: a reply would wait for it
            loop.times_another = False
        else:
            timed = cython.cast(Outbox, loop.timed)
            loop.timed = None
            loop.times_another = False
            timed.callback_ended()
    if loop.waiting and (
        not more
        or loop.waiting >= TOGETHER_MAX
        or (loop.replies_wait and hoop_now_ns() - loop.waiting_since > LONG_NS // 2)
    ):
        loop.flush_waiting()
    loop.attends = loop.waiting != 0 or loop.timed is not None
    return 0


@cython.cfunc
def as_bytes(data, wanted: str) -> bytes:
    """Return an immutable copy of any buffer of bytes. `wanted` names the right types in the TypeError."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a {wanted}, not {type(data).__name__!r}")
    return bytes(memoryview(data))  # bytes(data) could call code of a subclass


@cython.cfunc
def water_marks(low, high) -> tuple:
    """The (low, high) water marks that a transport takes, where None leaves one to it, as asyncio does.

    Raises ValueError if they are in the wrong order or negative.
    """
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return low, high


@cython.cfunc
@cython.exceptval(-1, check=False)
def whole_mark(mark, up: cython.bint = False) -> cython.Py_ssize_t:
    """A water mark as a number of bytes. asyncio takes fractions and infinity, too."""
    if mark >= SIZE_MAX:
        return SIZE_MAX
    return math.ceil(mark) if up else math.floor(mark)
