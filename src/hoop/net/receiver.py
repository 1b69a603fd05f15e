"""The receiving half of a stream transport: from the driver or the descriptor to the protocol.

    a Protocol          gets a `bytes` object by data_received
    a BufferedProtocol  lends its buffer, and the bytes are received into that
    a Layer             is a protocol in C, and takes the bytes in the transport's buffer

On io_uring the driver hands over what a stream receives, as long as that is little. A stream that receives
much asks for readiness only. Then, as on epoll, it receives into one buffer of the loop, which stays in the
cache. If a receive brings much, the next one goes straight into a new `bytes` for the protocol.
"""

from __future__ import annotations

import asyncio
import errno
from asyncio import log

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.hoop._c.linux import hoop_recv, hoop_unread
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    PyContext_Enter,
    PyContext_Exit,
    Ref,
    call_one_quiet,
    hoop_forbid_new,
    hoop_take_exception,
    ref,
)
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import ARMED, IDLE, READY
from cython.cimports.hoop.net.endpoint import TAKEN, Layer
from cython.cimports.hoop.net.feeder import feeder_of
from cython.cimports.hoop.net.inbox import BULK_BYTES, FLOOD_BYTES, TRICKLE_BYTES, Inbox
from cython.cimports.hoop.net.outbox import Outbox
from cython.cimports.hoop.scheduling.base import SCRATCH_BYTES, LoopBase
from cython.cimports.libc.string import memcpy

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EBADF = cython.declare(cython.int, errno.EBADF)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
# How often to receive from a broken connection whose peer goes on sending.
RECEIVES_MAX = cython.declare(cython.int, 10_000)
_buffered_protocol = cython.declare(object, asyncio.BufferedProtocol)
_drained_protocol = cython.declare(object, asyncio.streams.FlowControlMixin)


@cython.final
@cython.cclass
class RecvOp(Inbox):
    """Receives for a stream as long as the stream reads."""

    def __cinit__(self):
        self.is_receiver = True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        receiver: Receiver = self.receiver
        if result > 0 and self.delivers and receiver is not None:
            receiver.count_in(receiver.loop, result)
        if result > 0 and self.phase == ARMED and self.delivers and self.first is None:
            if receiver is not None and receiver.takes_early(data, result):
                self.by_hand = result >= BULK_BYTES
                return False
        return Inbox.complete(self, result, data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        receiver: Receiver = self.receiver  # a callback may set self.receiver to None
        if receiver is None:
            return 0
        loop: LoopBase = receiver.loop
        if loop.woken_to != loop.tail:  # something else was pushed in between
            loop.woken_from = loop.woken_to = loop.tail
        if self.delivers or self.has_news():
            try:
                receiver.on_received()
            finally:  # KeyboardInterrupt or SystemExit: deliver the rest in another turn
                if self.phase == ARMED and (self.first is not None or self.eof or self.error):
                    self.enter_ready()
                    loop.push(self)
        elif receiver.lent and receiver.was_closed():
            receiver.fail(os_error(-EBADF), "Fatal read error on socket transport")
        else:
            receiver.on_readable()
        loop.woken_to = loop.tail
        return 0

    @cython.cfunc
    def peer(self) -> object:
        receiver: Receiver = self.receiver
        return None if receiver is None else receiver.known("peername", None)

    @cython.cfunc
    def calls(self) -> object:
        receiver: Receiver = self.receiver
        if receiver is None:
            return None
        return receiver.data_received or receiver.buffer_updated


@cython.cclass
class Receiver(Outbox):
    """A connection that receives. The transport, its subclass, decides what its end or a failure means."""

    # ---- protocol ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def bind_protocol(self, protocol) -> cython.int:
        self.layer = protocol if isinstance(protocol, Layer) else feeder_of(protocol)
        if isinstance(protocol, _buffered_protocol):
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
            self.data_received = None
        else:
            self.get_buffer = self.buffer_updated = None
            self.data_received = getattr(protocol, "data_received", None)
        self.protocol = protocol
        self.is_drained = isinstance(protocol, _drained_protocol)
        return 0

    def set_protocol(self, protocol):
        """Give the connection to another protocol."""
        self.bind_protocol(protocol)

    def get_protocol(self):
        """Return the protocol; None once the connection is lost."""
        return self.protocol

    # ---- receiving ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_reading(self) -> cython.int:
        op: RecvOp = self.recv_op
        if op.phase != ARMED and op.phase != READY and self.fd >= 0 and not self.loop.closed:
            self.loop.driver.submit(op)
            if op.has_news():  # received before reading was stopped
                op.enter_ready()
                self.loop.push(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_reading(self) -> cython.int:
        if self.recv_op.phase != IDLE and not self.loop.closed:
            self.loop.driver.cancel(self.recv_op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_readable(self) -> cython.int:
        n: cython.Py_ssize_t
        scratch: cython.p_char
        layer: Layer = self.layer  # a callback may set another layer
        if self.lost:
            return 0
        if self.data_received is None:
            return self.receive_into_protocol()
        if self.floods and layer is None:
            n = hoop_unread(self.fd)
            if n >= FLOOD_BYTES:
                return self.receive_whole(min(n, SCRATCH_BYTES))
        scratch = self.loop.scratch
        if scratch is cython.NULL:
            scratch = self.loop.scratch_buffer()
        n = hoop_recv(self.fd, scratch, SCRATCH_BYTES)
        if n < TRICKLE_BYTES:
            self.recv_op.by_hand = False
        if n <= 0:
            return self.received_nothing(n)
        self.count_in(self.loop, n)
        self.floods = n >= FLOOD_BYTES
        self.unanswered = True
        if layer is not None and layer.on_bytes(scratch, n) == TAKEN:
            return 0
        data = PyBytes_FromStringAndSize(scratch, n)
        return self.deliver(self.data_received, data, "data_received")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_whole(self, room: cython.Py_ssize_t) -> cython.int:
        """Receive straight into a `bytes` for the protocol, as `room` bytes are there.

        An object with more room would have to shrink. The C library may then take its memory from the kernel
        and give it back each time.
        """
        n: cython.Py_ssize_t
        data = PyBytes_FromStringAndSize(cython.NULL, room)
        n = hoop_recv(self.fd, PyBytes_AS_STRING(data), room)
        if n <= 0:
            return self.received_nothing(n)
        if n < room:  # somebody else has received some of it
            data = data[:n]
        self.count_in(self.loop, n)
        return self.deliver(self.data_received, data, "data_received")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def received_nothing(self, n: cython.Py_ssize_t) -> cython.int:
        if self.broken:  # the error of the send counts: this may look like a regular end
            self.at_end = True
            return 0
        if n == 0:
            return self.on_eof()
        if n == -EAGAIN or n == -EINTR:
            return 0
        return self.fail(os_error(n), "Fatal read error on socket transport")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_rest(self) -> cython.int:
        """Deliver all that can be received of a broken connection."""
        op: RecvOp = self.recv_op
        i: cython.int
        if op.delivers and not self.loop.closed:
            self.loop.driver.poll(self.loop, 0)
        if op.has_news():
            self.on_received()
        self.at_end = op.delivers
        for i in range(RECEIVES_MAX):
            if self.at_end or self.lost or self.closing or self.reading_paused or self.fd < 0:
                break
            self.on_readable()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def takes_early(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.bint:
        """Whether a layer takes the driver's data at once. Then no object is made, and the op is not run."""
        layer: Layer = self.layer
        if layer is None or self.closing or self.reading_paused or self.loop.debug:
            return False
        if layer.on_early_bytes(data, n) != TAKEN:
            return False
        self.unanswered = True
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_received(self) -> cython.int:
        """Deliver what the driver has handed over, as long as the protocol takes it."""
        op: RecvOp = self.recv_op
        layer: Layer
        chunk: bytes
        while op.first is not None:
            if self.closing:
                return op.forget_news()
            if self.reading_paused:
                return 0
            chunk = op.take_chunk()
            self.unanswered = True
            layer = self.layer
            if layer is not None and layer.on_chunk(chunk) == TAKEN:
                continue
            if self.data_received is None:
                self.copy_into_protocol(chunk)
            else:
                self.deliver(self.data_received, chunk, "data_received")
        if self.closing or self.reading_paused:
            return 0
        if op.eof:
            op.eof = False
            return self.received_nothing(0)
        if op.error:
            error: cython.int = op.error
            op.error = 0
            return self.received_nothing(error)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_into_protocol(self) -> cython.int:
        """Receive straight into a BufferedProtocol's own buffer."""
        view: Py_buffer
        n: cython.Py_ssize_t
        if not self.borrow_buffer(cython.address(view)):
            return 0
        n = hoop_recv(self.fd, view.buf, view.len)
        if n < TRICKLE_BYTES and n < view.len:
            self.recv_op.by_hand = False
        PyBuffer_Release(cython.address(view))
        if n > 0:
            self.count_in(self.loop, n)
            return self.deliver(self.buffer_updated, n, "buffer_updated")
        return self.received_nothing(n)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def copy_into_protocol(self, chunk: bytes) -> cython.int:
        """Copy received data into a BufferedProtocol's buffer. Ask for the buffer again until all is
        copied.
        """
        view: Py_buffer
        n: cython.Py_ssize_t
        done: cython.Py_ssize_t = 0
        left: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        try:
            while left and not self.reading_paused and self.data_received is None:
                if not self.borrow_buffer(cython.address(view)):
                    break
                n = min(left, view.len)
                memcpy(view.buf, PyBytes_AS_STRING(chunk) + done, n)
                PyBuffer_Release(cython.address(view))
                done += n
                left -= n
                self.deliver(self.buffer_updated, n, "buffer_updated")
                if self.closing:
                    return 0
        finally:  # it paused, another protocol took its place, or an exception leaves the loop
            if left and not self.closing:
                self.recv_op.put_back(chunk[done:])
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def borrow_buffer(self, view: cython.pointer[Py_buffer]) -> cython.bint:
        """Get the protocol's buffer.

        False if that failed the connection, or another protocol took its place.
        """
        protocol = self.protocol
        if self.get_buffer is None:
            self.fail(
                AttributeError(f"{self.protocol!r} has no data_received()"),
                "Fatal error: protocol.data_received() call failed.",
            )
            return False
        try:
            buffer = self.context.run(self.get_buffer, -1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.fail(exc, "Fatal error: protocol.get_buffer() call failed.")
            return False
        try:
            PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
        except BufferError as exc:
            error = TypeError(f"a read-write bytes-like object is required: {exc}")
            self.fail(error, "Fatal read error on socket transport")
            return False
        except TypeError as exc:
            self.fail(exc, "Fatal read error on socket transport")
            return False
        if self.lost or self.fd < 0 or self.protocol is not protocol:  # get_buffer() did that
            PyBuffer_Release(view)
            return False
        if view.len == 0:  # len() of its object may say something else
            PyBuffer_Release(view)
            empty = RuntimeError("get_buffer() returned an empty buffer")
            self.fail(empty, "Fatal error: protocol.get_buffer() call failed.")
            return False
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self, callback, argument, name: str) -> cython.int:
        """Call the protocol in the connection's context."""
        self.unanswered = True
        self.activity += 1
        context: Ref = ref(self.context)
        if PyContext_Enter(context) < 0:
            return -1
        result: Ref = call_one_quiet(ref(callback), ref(argument))
        left: cython.bint = PyContext_Exit(context) == 0  # otherwise the protocol raised
        if result is not cython.NULL:
            Py_DECREF(result)
            if left:
                return 0
        exc = hoop_take_exception()
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            raise exc
        return self.fail(exc, f"Fatal error: protocol.{name}() call failed.")

    def _receive_now(self):
        """Give the layer all that has arrived, before the loop runs this connection's op."""
        op: RecvOp = self.recv_op
        layer: Layer = self.layer
        n: cython.Py_ssize_t
        if layer is None or self.closing or self.reading_paused or self.fd < 0 or self.loop.closed:
            return
        self.loop.driver.poll(self.loop, 0)
        while op.first is not None and not self.closing and not self.reading_paused:
            chunk: bytes = op.take_chunk()
            if self.layer is not layer or layer.on_chunk(chunk) != TAKEN:
                op.put_back(chunk)
                return
        if op.delivers or op.has_news() or self.closing or self.reading_paused:
            return
        data = PyBytes_FromStringAndSize(cython.NULL, SCRATCH_BYTES)
        n = hoop_recv(self.fd, PyBytes_AS_STRING(data), SCRATCH_BYTES)
        if n > 0:
            self.count_in(self.loop, n)
            self.unanswered = True
            if self.layer is not layer or layer.on_bytes(PyBytes_AS_STRING(data), n) != TAKEN:
                op.put_back(data[:n])
        elif n < 0 and n != -EAGAIN and n != -EINTR:
            op.error = n
        if op.has_news():  # for when the loop runs the op
            self.stop_reading()
            self.start_reading()

    def is_reading(self):
        """Whether the transport is receiving."""
        return not self.closing and not self.reading_paused

    def pause_reading(self):
        """Stop calling data_received until resume_reading()."""
        if self.closing or self.reading_paused:
            return
        self.reading_paused = True
        self.stop_reading()
        if self.loop.debug:
            log.logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Undo pause_reading()."""
        if self.closing or not self.reading_paused:
            return
        self.reading_paused = False
        self.start_reading()
        if self.loop.debug:
            log.logger.debug("%r resumes reading", self)

    # ---- names of asyncio's transports that programs read ----

    max_size = 262144

    @property
    def _closing(self):
        return self.closing or self.broken

    @property
    def _conn_lost(self):
        return self.lost

    @property
    def _paused(self):
        return self.reading_paused

    # ---- methods of the subclass ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_eof(self) -> cython.int:
        """Called when the peer has ended its stream."""
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        """Called when the connection failed, or its protocol raised."""
        raise NotImplementedError(type(self).__name__)


hoop_forbid_new(Receiver)
