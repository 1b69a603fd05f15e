"""The stream transport: a connected socket and its protocol.

A byte in:   driver.poll -> RecvOp on the ready ring -> on_readable (receiver.py) -> protocol.data_received

A byte out:  write() sends it at once. If it is to wait (outbox.py), SendOp is on the loop's dirty list.

Bytes that the kernel does not take wait for the descriptor to become writable.

The transport owns the descriptor until connection_lost was called, and the loop the transport. Every callback
to the protocol runs in the context the connection was made in. As asyncio's _SelectorSocketTransport.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import warnings
from asyncio import constants, log, transports

import cython
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_GET_SIZE,
)
from cython.cimports.hoop._c.linux import (
    MSG_NOSIGNAL,
    SHUT_WR,
    hoop_address,
    hoop_send,
    hoop_shutdown,
)
from cython.cimports.hoop._c.python import (
    PyContext_CopyCurrent,
    hoop_forbid_new,
)
from cython.cimports.hoop._c.uring import OP_SEND
from cython.cimports.hoop.drivers.errors import os_error, raise_errno
from cython.cimports.hoop.drivers.op import (
    ARMED,
    CALL,
    CANCELLING,
    IDLE,
    READY,
    RECEIVE,
    WRITABLE,
    CallOp,
)
from cython.cimports.hoop.net.endpoint import Endpoint, Layer
from cython.cimports.hoop.net.habit import Habit
from cython.cimports.hoop.net.outbox import WAITS_MAX, as_bytes
from cython.cimports.hoop.net.receiver import Receiver, RecvOp
from cython.cimports.hoop.scheduling.base import LoopBase

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EBADF = cython.declare(cython.int, errno.EBADF)
EPIPE = cython.declare(cython.Py_ssize_t, errno.EPIPE)
ECONNRESET = cython.declare(cython.Py_ssize_t, errno.ECONNRESET)
ECANCELED = cython.declare(cython.Py_ssize_t, errno.ECANCELED)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
# No more leaves in one call: the kernel says how much of it was sent in an int.
SEND_BYTES_MAX = cython.declare(cython.Py_ssize_t, 1 << 30)
LOG_LOST_WRITES_FROM = cython.declare(cython.uint, constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES)

# The name of what data should be, in the words of the running Python.
DATA = cython.declare(
    str,
    "bytes-like object" if sys.version_info < (3, 14) else "bytes, bytearray, or memoryview object",
)

# The class that isinstance() sees. asyncio's sendfile fallback insists on its flow control mixin.
_asyncio_transport = cython.declare(
    object, type("StreamTransport", (transports._FlowControlMixin, asyncio.Transport), {})
)


@cython.final
@cython.cclass
class SendOp(CallOp):
    """Sends queued bytes: writes held back, and bytes the kernel refused.

    On epoll the stream calls send() itself; on io_uring the driver may. A stream has at most one such call
    under way.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        if self.interest != CALL:
            return result >= 0
        stream: StreamTransport = self.stream
        self.keep = None
        self.result = result
        if stream is None:
            return False
        if (
            result != cython.cast(cython.longlong, self.length)
            or result != stream.buffered
            or stream.closing
            or stream.writing_paused
            or stream.eof_written
            or stream.empty_waiter is not None
        ):
            return True
        stream.count_out(stream.loop, result)
        stream.drop_chunks()  # all of it was sent, and nobody waits for that
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        stream: StreamTransport = self.stream  # a callback may set self.stream to None
        if stream is None:
            return 0
        return stream.on_sent(self.result) if self.interest == CALL else stream.on_writable()

    @cython.cfunc
    def peer(self) -> object:
        stream: StreamTransport = self.stream
        return None if stream is None else stream.known("peername", None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        stream: StreamTransport = self.stream
        return 0 if stream is None else stream.flush()


@cython.cclass
class StreamTransport(Receiver):
    """A connection. See asyncio.Transport."""

    @property
    def __class__(self):
        return _asyncio_transport

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attach(
        self, loop: LoopBase, fd: cython.int, sock, protocol, context, extra, server
    ) -> cython.int:
        """Take over a connected, non-blocking descriptor; from `sock`, if that is given."""
        self.loop = loop
        self.fd = fd  # from here on a failure closes it
        self.sock = sock
        self.owns_fd = sock is None
        self.recv_op = RecvOp.__new__(RecvOp)
        self.recv_op.fd = fd
        self.recv_op.interest = RECEIVE
        self.recv_op.receiver = self
        self.send_op = SendOp.__new__(SendOp)
        self.send_op.fd = fd
        self.send_op.interest = WRITABLE
        self.send_op.stream = self
        self.context = PyContext_CopyCurrent() if context is None else context
        self.own(fd, sock, extra)
        self.bind_protocol(protocol)
        if server is not None:
            self.habit = habit_of(server)
            self.manner = self.habit.manner
            if ATTACH_TAKES_TRANSPORT:
                server._attach(self)
            else:
                server._attach()
            self.server = server
        loop.transports[fd] = self
        self.born = self.active = loop.stamp
        return 0

    def __del__(self):
        if self.fd >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self.release()

    def _let_go(self):
        """The loop was closed: be freed as soon as nobody else keeps this."""
        self.recv_op.receiver = None
        self.send_op.stream = None
        self.layer = None

    # ---- protocol ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self) -> cython.int:
        """Call connection_made, then read."""
        protocol = self.protocol
        self.connected = True
        try:
            self.context.run(protocol.connection_made, self)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler(
                {
                    "message": "Exception in callback protocol.connection_made()",
                    "exception": exc,
                    "transport": self,
                    "protocol": protocol,
                }
            )
        finally:
            if self.loop.debug:
                self.loop.lap(getattr(protocol, "connection_made", None))
            if not self.closing and not self.reading_paused:
                self.start_reading()
        return 0

    def _begin(self, waiter):
        """Call connection_made, start reading, wake the waiter: asyncio does it in three callbacks."""
        try:
            self.begin()
        finally:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    # ---- the peer's end ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_eof(self) -> cython.int:
        if self.loop.debug:
            log.logger.debug("%r received EOF", self)
        try:
            eof_received = self.protocol.eof_received
            keep_open = self.context.run(eof_received)
            if self.loop.debug:
                self.loop.lap(eof_received)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            return self.fail(exc, "Fatal error: protocol.eof_received() call failed.")
        if keep_open:
            self.stop_reading()  # there is nothing more to read, but the protocol may still write
        else:
            self.close()
        return 0

    # ---- sending ----

    def write(self, data):
        """Send data: at once, as far as the kernel takes it, if nothing is queued before it.

        It may wait for the next write, if there was one the last time, or for what other connections answer
        meanwhile. A mutable buffer is copied. Raises TypeError for what is no buffer of bytes, and
        RuntimeError after write_eof().
        """
        self.send(data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send(self, data) -> cython.int:
        if type(data) is not bytes:
            data = as_bytes(data, DATA)
        if self.eof_written or self.empty_waiter is not None:
            self.check_writable("write")
        return self.queue(data)

    def writelines(self, list_of_data):
        """Send several pieces of data as one; see write(). All of them or, if one is no data, none."""
        self.check_writable("writelines")
        self.queue_all(
            [data if type(data) is bytes else bytes(memoryview(data)) for data in list_of_data]
        )

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_writable(self, method: str) -> cython.int:
        if self.eof_written:
            raise RuntimeError(f"Cannot call {method}() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError(f"unable to {method}; sendfile is in progress")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue(self, chunk: bytes) -> cython.int:
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        if n == 0:
            return 0
        if self.lost:
            return self.write_to_nobody()
        if self.broken:
            return 0
        if self.head is not None:
            self.add_chunk(chunk)
            return self.go_on()
        if n <= WAITS_MAX and n <= self.high_water and self.is_to_wait(self.send_op):
            return self.add_chunk(chunk)
        return self.send_now(chunk)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_now(self, chunk: bytes) -> cython.int:
        """Send a chunk before which nothing is queued; queue what the kernel does not take."""
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        sent: cython.Py_ssize_t
        if self.fd < 0:
            return 0
        if self.lent and self.was_closed():
            return self.fail(os_error(-EBADF), "Fatal write error on socket transport")
        self.unanswered = False
        self.activity += 1
        self.loop.look_at = 0
        sent = hoop_send(self.fd, PyBytes_AS_STRING(chunk), n)
        if sent == n:
            self.count_out(self.loop, n)
            return 0
        if sent < 0:
            if sent != -EAGAIN and sent != -EINTR:
                return self.send_failed(sent)
            sent = 0
        self.count_out(self.loop, sent)
        self.head = chunk
        self.head_offset = sent
        self.buffered = n - sent
        self.wait_to_send()
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue_all(self, chunks: list) -> cython.int:
        """Several chunks of one write."""
        n: cython.Py_ssize_t = 0
        is_first: cython.bint = self.head is None
        for chunk in chunks:
            n += len(chunk)
            if chunk and self.lost:
                self.write_to_nobody()
        if n == 0 or self.lost or self.broken:
            return 0
        waits: cython.bint = (
            is_first and n <= min(WAITS_MAX, self.high_water) and self.is_to_wait(self.send_op)
        )
        for chunk in chunks:
            if chunk:
                self.add_chunk(chunk)
        if waits:
            return 0
        if is_first:
            self.flush()
            return self.maybe_pause()
        return self.go_on()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self) -> cython.int:
        """More was queued behind what waits. Send it, if that only waited for more."""
        if self.loop.closed or (
            self.waits and (self.ends_reply() or self.buffered > self.high_water)
        ):
            self.flush()
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, chunk: bytes) -> cython.int:
        """Queue a chunk of a layer, which calls flush() itself when it has no more."""
        if PyBytes_GET_SIZE(chunk) == 0 or self.broken:
            return 0
        return self.write_to_nobody() if self.lost else self.add_chunk(chunk)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write_to_nobody(self) -> cython.int:
        """The connection is lost: data is dropped, and a program that goes on writing is told."""
        if self.lost >= LOG_LOST_WRITES_FROM:
            log.logger.warning("socket.send() raised exception.")
        self.lost += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        """Send queued bytes, as many as the kernel takes. SendOp sends the rest."""
        n: cython.Py_ssize_t
        if self.waits:
            self.end_wait(self.send_op)
        if self.lost or self.head is None or self.fd < 0 or self.broken:
            return 0
        if self.send_op.phase == ARMED or self.send_op.phase == READY:
            return 0
        if self.lent and self.was_closed():
            return self.fail(os_error(-EBADF), "Fatal write error on socket transport")
        if (
            self.head is None
        ):  # a socket of another class has ended the connection when it was asked
            return 0
        if self.loop.together and not self.send_op.foreign:
            return self.send_as_call()
        n = self.send_some()
        if n < 0:
            return self.send_failed(n)
        self.consume(n)
        if self.head is not None:
            self.wait_to_send()
            return self.maybe_resume()
        return self.on_drained()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        layer: Layer = self.layer
        if self.waits and layer is not None:  # TLS keeps what waits
            layer.flush_waiting()
        return self.flush() if self.waits else 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_to_send(self) -> cython.int:
        """The kernel takes no more now: send the rest as soon as it does.

        Of several chunks a request of the driver would need a copy. A client that does not read may keep that
        for long, and there may be thousands of those. So this sends them itself, when it is told to.
        """
        if self.loop.closed:
            return 0
        if (
            self.rest is None
            and self.loop.driver.supports_call(OP_SEND)
            and not self.send_op.foreign
        ):
            return self.send_as_call()
        self.send_op.interest = WRITABLE
        return self.loop.driver.submit(self.send_op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_as_call(self) -> cython.int:
        """Have the driver send the head of the queue."""
        op: SendOp = self.send_op
        self.join_chunks()
        op.interest = CALL
        op.code = OP_SEND
        op.flags = MSG_NOSIGNAL
        op.keep = self.head
        op.address = PyBytes_AS_STRING(self.head) + self.head_offset
        op.length = min(PyBytes_GET_SIZE(self.head) - self.head_offset, SEND_BYTES_MAX)
        return self.loop.driver.submit(op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_sent(self, n: cython.longlong) -> cython.int:
        """A send that the driver made is done."""
        if self.lost or self.head is None:
            return 0
        if n > 0:
            self.consume(n)
        elif n != -EAGAIN and n != -EINTR and n != -ECANCELED:
            return self.send_failed(n)
        if self.head is not None:
            self.wait_to_send()
            return self.maybe_resume()
        return self.on_drained()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_writable(self) -> cython.int:
        n: cython.Py_ssize_t
        if self.lost or self.head is None:
            return 0
        if self.lent and self.was_closed():
            return self.fail(os_error(-EBADF), "Fatal write error on socket transport")
        if self.head is None:  # as above
            return 0
        n = self.send_some()
        if n < 0:
            return self.send_failed(n)
        self.consume(n)
        if self.head is not None:
            return self.maybe_resume()
        self.loop.driver.cancel(self.send_op)
        return self.on_drained()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_drained(self) -> cython.int:
        """Everything queued was sent."""
        self.maybe_resume()  # may queue more
        if self.head is not None or self.lost:
            return 0
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            return self.lose(None)
        if self.eof_written:
            # Fails only if the peer is gone, which reading will tell.
            self.loop.look_at = 0
            hoop_shutdown(self.fd, SHUT_WR)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_failed(self, n: cython.Py_ssize_t) -> cython.int:
        """The connection is broken; but what the peer sent before may say why, so that comes first."""
        if n == -EPIPE and self.recv_op.error:
            n = self.recv_op.error  # the kernel says what happened once, and has told the driver
        error = os_error(n)
        gone: cython.bint = n == -EPIPE or n == -ECONNRESET
        if not gone or self.closing or self.reading_paused or self.loop.closed:
            return self.fail(error, "Fatal write error on socket transport")
        self.drop_chunks()
        if not self.broken:
            self.broken = True
            self.loop.soon(self._fail_at_last, (error,), self.loop.wake_context)
        return 0

    def _fail_at_last(self, error):
        """Deliver what can still be received, then fail with what sending has met."""
        if self.lost:
            return
        try:
            self.receive_rest()
        finally:
            if not self.lost:
                self.fail(error, "Fatal write error on socket transport")

    def write_eof(self):
        """Close the sending half once everything written was sent."""
        if self.closing or self.broken or self.eof_written:
            return
        if self.waits:
            self.flush()
        self.eof_written = True
        if self.head is None and not self.lost:
            if self.lent and self.was_closed():
                raise_errno(-EBADF)
            self.loop.look_at = 0
            result: cython.int = hoop_shutdown(self.fd, SHUT_WR)
            if result < 0:
                raise_errno(result)

    def can_write_eof(self):
        """True: sockets can be closed by halves."""
        return True

    # ---- closing ----

    def is_closing(self):
        """Whether the transport is closing or closed."""
        if self.is_drained:  # all that the drain() of asyncio's streams calls
            self.wrote_in = 0
            if self.waits:
                self.flush()
        return self.closing or self.broken

    def close(self):
        """Send what was written, then close. connection_lost(None) is called when that is done."""
        if self.closing:
            return
        self.closing = True
        self.stop_reading()
        if self.broken:
            return
        if self.waits:
            self.send_held()
        if self.head is not None and self.send_op.phase == IDLE:
            self.flush()
        if self.head is None and not self.lost:
            self.lose(None)

    def abort(self):
        """Close at once. Bytes that were not sent are dropped."""
        self._force_close(None)

    def _force_close(self, exc):
        if self.waits:  # send held writes: drop only bytes that the kernel does not take
            self.send_held()
        if self.lost:
            return
        self.drop_chunks()
        if not self.loop.closed:
            self.loop.driver.cancel(self.send_op)
        if not self.closing:
            self.closing = True
            self.stop_reading()
        self.lose(exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        """The connection is broken, or its protocol is."""
        if not isinstance(exc, OSError):
            self.loop.call_exception_handler(
                {
                    "message": message,
                    "exception": exc,
                    "transport": self,
                    "protocol": self.protocol,
                }
            )
        elif self.loop.debug:
            log.logger.debug("%r: %s", self, message, exc_info=exc)
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(exc)
        self._force_close(exc)
        return 0

    def _fatal_error(self, exc, message="Fatal error on transport"):
        self.fail(exc, message)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lose(self, exc) -> cython.int:
        """Schedule connection_lost."""
        self.lost += 1
        self.loop.check_open()
        self.loop.soon(self._connection_lost, (exc,), self.context)
        return 0

    def _connection_lost(self, exc):
        protocol = self.protocol
        try:
            if self.connected and protocol is not None:
                layer: Layer = self.layer
                protocol.connection_lost(exc)
                if layer is not None and exc is not None:
                    layer.on_lost()
        finally:
            if self.loop.debug:
                self.loop.lap(getattr(protocol, "connection_lost", None))
            self.release()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def release(self) -> cython.int:
        """Close the descriptor and let go of everything."""
        fd: cython.int = self.fd
        if fd < 0:
            return 0
        if self.send_op is None:  # attach() got no memory for it
            return self.disown()
        if not self.loop.closed:
            self.loop.driver.cancel(self.recv_op)
            self.loop.driver.cancel(self.send_op)
            if self.recv_op.phase == CANCELLING or self.send_op.phase == CANCELLING:
                self.loop.driver.poll(self.loop, 0)
            if self.recv_op.phase == CANCELLING or self.send_op.phase == CANCELLING:
                self.loop.soon(self._release_later, (), self.loop.wake_context)
                return 0
            if self.loop.transports.get(fd) is self:
                del self.loop.transports[fd]
        self.closing = True
        if self.send_op.phase == READY:  # the answer to a call has come, and nobody wants it
            self.send_op.enter_idle()
        self.recv_op.forget_news()
        self.recv_op.enter_dead()
        self.send_op.enter_dead()
        self.recv_op.receiver = None
        self.send_op.stream = None
        self.drop_chunks()
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
        self.protocol = self.layer = None
        self.data_received = self.get_buffer = self.buffer_updated = None
        self.loop.look_at = 0  # the peer may be another transport of this loop
        try:
            self.disown()
        finally:
            server = self.server
            self.server = None
            if server is not None:
                if ATTACH_TAKES_TRANSPORT:
                    server._detach(self)
                else:
                    server._detach()
        return 0

    def _release_later(self):
        self.release()

    def _statistics(self):
        """See Endpoint._statistics(). Adds the numbers and states of a connection."""
        found = Endpoint._statistics(self)
        found["buffered"] = self.buffered
        found["reading_paused"] = self.reading_paused
        found["writing_paused"] = self.writing_paused
        found["closing"] = self.closing
        found["protocol"] = self.protocol
        found["context"] = self.context
        found["server"] = self.server
        return found

    # ---- asking ----

    def __repr__(self):
        info = [type(self).__name__]
        if self.fd < 0:
            info.append("closed")
        else:
            if self.closing:
                info.append("closing")
            info.append(f"fd={self.fd}")
            reading = self.recv_op.phase == ARMED or self.recv_op.phase == READY
            info.append("read=polling" if reading else "read=idle")
            state = "polling" if self.send_op.phase != IDLE else "idle"
            info.append(f"write=<{state}, bufsize={self.buffered}>")
        return f"<{' '.join(info)}>"

    # ---- the names that asyncio's own code (sendfile, start_tls, sslproto) and programs read ----

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def _is_accepted(self):
        return self.server is not None

    @property
    def _eof(self):
        return self.eof_written

    @property
    def _server(self):
        return self.server

    @property
    def _protocol_connected(self):
        return self.protocol is not None


ATTACH_TAKES_TRANSPORT = cython.declare(
    cython.bint, asyncio.base_events.Server._attach.__code__.co_argcount == 2
)


@cython.cfunc
def habit_of(server) -> Habit:
    """The habits of a server's connections, which it keeps."""
    habit = getattr(server, "_hoop_habit", None)
    if type(habit) is not Habit:
        habit = Habit.__new__(Habit)
        try:
            server._hoop_habit = habit
        except AttributeError:
            return habit  # not a server of asyncio's: each of its connections has its own
    return habit


@cython.cfunc
def new_stream(
    loop: LoopBase,
    fd: cython.int,
    sock,
    protocol,
    context,
    extra,
    server,
    peer: cython.pointer[hoop_address],
) -> StreamTransport:
    """A transport on a connected, non-blocking descriptor that it will own. begin() starts it.

    `peer` is its address, or NULL if the kernel is to be asked.
    """
    stream: StreamTransport = StreamTransport.__new__(StreamTransport)
    if peer is not cython.NULL:
        stream.peer = peer[0]
    try:
        stream.attach(loop, fd, sock, protocol, context, extra, server)
    except BaseException:
        stream.release()  # it is the owner of the descriptor already
        raise
    return stream


def open_stream(
    loop: LoopBase,
    sock,
    protocol,
    waiter=None,
    extra=None,
    server=None,
    lent: cython.bint = False,
    context=None,
):
    """Make the transport of a socket, as asyncio's _make_socket_transport does.

    Its protocol's connection_made is called in a later turn. A `lent` socket is one that its owner may close.
    Every callback runs in `context`, or in a copy of the current one.
    """
    stream = new_stream(loop, sock.fileno(), sock, protocol, context, extra, server, cython.NULL)
    stream.lent = stream.recv_op.foreign = stream.send_op.foreign = lent
    try:
        # begin() enters the connection's context itself.
        loop.soon(stream._begin, (waiter,), loop.wake_context)
    except BaseException:
        stream.release()
        raise
    return stream


hoop_forbid_new(StreamTransport)
