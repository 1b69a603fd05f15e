"""The transport of loop.connect_write_pipe(), as asyncio's _UnixWritePipeTransport.

A write leaves at once, as far as the pipe takes it. The rest is queued, a `bytes` without a copy. As soon as
the pipe has room, one system call sends the data of several writes.

The pipe is watched for reading as well: so the transport hears that the reader has closed it.

If the protocol writes more in resume_writing() and closes the transport then, that data is sent first.
"""

from __future__ import annotations

import errno
from asyncio import constants, futures, log, unix_events

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.hoop._c.linux import hoop_write, hoop_writev, iovec
from cython.cimports.hoop._c.python import PyList_GET_ITEM, Ref, hoop_forbid_new, hoop_name_type
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import READABLE, WRITABLE
from cython.cimports.hoop.net.outbox import IOV_BATCH, JOIN_BYTES, water_marks
from cython.cimports.hoop.pipes.end import PipeEnd, PipeOp, call_soon
from cython.cimports.hoop.watching.watch import WatchLoop

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EBADF = cython.declare(cython.Py_ssize_t, errno.EBADF)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
LOG_LOST_WRITES_FROM = cython.declare(cython.uint, constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES)
WRITE_FAILED = cython.declare(str, "Fatal write error on pipe transport")

_stock = cython.declare(object, unix_events._UnixWritePipeTransport)
_wake = cython.declare(object, futures._set_result_unless_cancelled)


@cython.final
@cython.cclass
class WritePipe(PipeEnd):
    """The writing end of a pipe. See asyncio.WriteTransport."""

    @property
    def __class__(self):
        return _stock

    def __repr__(self):
        if self.pipe is None or self.loop.closed:
            return f"<{self.state(WRITABLE)}>"
        return f"<{self.state(WRITABLE)} bufsize={self.buffered}>"

    # ---- writing ----

    def write(self, data):
        """Write the data that the pipe takes now, and the rest when the pipe takes more.

        Raises AssertionError for what is no bytes-like object. After the reader has closed the pipe all data
        is dropped.
        """
        view: Py_buffer
        if type(data) is bytes:
            self.write_now(data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        if not isinstance(data, bytes) and not len(data):
            return
        try:
            PyObject_GetBuffer(data, cython.address(view), PyBUF_SIMPLE)
        except (BufferError, TypeError) as exc:  # as os.write() refuses it
            if self.lost or self.closing:
                self.write_now(data, cython.NULL, 1)
                return
            if self.head is not None:
                queue = bytearray()
                queue += data  # as asyncio refuses it, with its message
            self.lost += 1
            self.write_failed(exc)
            return
        try:
            self.write_now(data, cython.cast(cython.p_char, view.buf), view.len)
        finally:
            PyBuffer_Release(cython.address(view))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write_now(self, data, start: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        sent: cython.Py_ssize_t
        if n == 0:
            return 0
        if self.lost or self.closing:
            if self.lost >= LOG_LOST_WRITES_FROM:
                log.logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self.lost += 1
            return 0
        if self.head is not None:
            self.put(data if type(data) is bytes else PyBytes_FromStringAndSize(start, n))
            return self.maybe_pause()
        sent = -EBADF if self.was_closed() else self.send(start, n)
        if sent == n:
            return 0
        if sent < 0:
            if sent != -EAGAIN and sent != -EINTR:
                self.lost += 1
                return self.write_failed(os_error(sent))
            sent = 0
        self.writing = self.watch(WRITABLE, self._write_ready)
        if type(data) is bytes:
            self.head = data
            self.head_offset = sent
        else:
            self.head = PyBytes_FromStringAndSize(start + sent, n - sent)
        self.buffered = n - sent
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(check=False)
    def send(self, start: cython.p_char, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        fd: cython.int = self.fd
        self.loop.look_at = 0  # the other end may be the loop's, too
        if self.is_device:  # the drivers of some devices wait, though asked not to
            with cython.nogil:
                n = hoop_write(fd, start, n)
        else:
            n = hoop_write(fd, start, n)
        if n > 0:
            self.bytes_out += n
            self.active = self.loop.stamp
        return n

    def writelines(self, list_of_data):
        """Write several pieces of data as one; see write()."""
        idle: cython.bint = self.head is None and not self.lost and not self.closing
        plain: cython.bint = self.attributes is cython.NULL  # your code has not replaced write()
        # A device may take each piece as a message.
        if idle and plain and not self.is_device and are_few_bytes(list_of_data):
            self.write_pieces(list(list_of_data))
        else:
            cython.cast(object, self).write(b"".join(list_of_data))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write_pieces(self, pieces: list) -> cython.int:
        """Write some `bytes` by one system call. The rest of them is queued."""
        self.head = pieces[0]
        self.rest = pieces[1:]
        for piece in pieces:
            self.buffered += PyBytes_GET_SIZE(piece)
        n: cython.Py_ssize_t = -EBADF if self.was_closed() else self.send_queue()
        if n < 0 and n != -EAGAIN and n != -EINTR:
            self.drop_queue()
            self.lost += 1
            return self.write_failed(os_error(n))
        self.consume(max(n, 0))
        if self.head is None:
            return 0
        try:
            self.writing = self.watch(WRITABLE, self._write_ready)
        except BaseException:
            self.drop_queue()
            raise
        return self.maybe_pause()

    def _write_ready(self):
        self.go_on()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self, interest: cython.int) -> cython.int:
        return self.go_on() if interest == WRITABLE else self.on_peer_closed()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self) -> cython.int:
        """Write what is queued, as much as the pipe takes."""
        n: cython.Py_ssize_t
        assert self.head is not None, "Data should not be empty"
        n = -EBADF if self.was_closed() else self.send_queue()
        if n >= 0:
            self.consume(n)
            return self.on_drained() if self.head is None else 0
        if n == -EAGAIN or n == -EINTR:
            return 0
        self.drop_queue()
        self.lost += 1
        self.stop_writing()
        return self.write_failed(os_error(n))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_drained(self) -> cython.int:
        closing: cython.bint = self.closing
        self.stop_writing()
        self.maybe_resume()
        # If the protocol has just written more and then closed, that is sent first.
        if closing:
            self.stop_watching_peer()
            return self.lose(None)
        return 0

    # ---- the queue ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, data) -> cython.int:
        if self.rest is None:
            self.rest = [data]
        else:
            self.rest.append(data)
        self.buffered += PyBytes_GET_SIZE(data)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def send_queue(self) -> cython.Py_ssize_t:
        """Make one system call. Returns the bytes written, or -errno."""
        vec: iovec[IOV_BATCH]
        count: cython.size_t = 1
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t
        chunk: Ref
        if self.rest is not None and len(self.rest) >= IOV_BATCH:
            self.join_chunks()
        start: cython.p_char = PyBytes_AS_STRING(self.head) + self.head_offset
        length: cython.Py_ssize_t = PyBytes_GET_SIZE(self.head) - self.head_offset
        if self.rest is None or self.is_device:
            return self.send(start, length)
        vec[0].iov_base = start
        vec[0].iov_len = length
        for i in range(min(len(self.rest), IOV_BATCH - 1)):
            chunk = PyList_GET_ITEM(self.rest, i)
            vec[count].iov_base = PyBytes_AS_STRING(cython.cast(object, chunk))
            vec[count].iov_len = PyBytes_GET_SIZE(cython.cast(object, chunk))
            count += 1
        self.loop.look_at = 0
        n = hoop_writev(self.fd, vec, count)
        if n > 0:
            self.bytes_out += n
            self.active = self.loop.stamp
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def join_chunks(self) -> cython.int:
        """Join many small chunks, so that one system call writes as much as a pipe holds."""
        taken: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t = PyBytes_GET_SIZE(self.head) - self.head_offset
        if size >= JOIN_BYTES:
            return 0
        parts = [self.head[self.head_offset :]]
        for chunk in self.rest:
            parts.append(chunk)
            taken += 1
            size += PyBytes_GET_SIZE(chunk)
            if size >= JOIN_BYTES:
                break
        self.head = b"".join(parts)
        self.head_offset = 0
        del self.rest[:taken]
        if not self.rest:
            self.rest = None
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def consume(self, n: cython.Py_ssize_t) -> cython.int:
        """Drop the first n bytes of the queue."""
        gone: cython.Py_ssize_t = 0
        left: cython.Py_ssize_t = PyBytes_GET_SIZE(self.head) - self.head_offset
        self.buffered -= n
        if n < left:
            self.head_offset += n
            return 0
        n -= left
        self.head = None
        self.head_offset = 0
        if self.rest is None:
            return 0
        for chunk in self.rest:
            left = PyBytes_GET_SIZE(chunk)
            gone += 1
            if n < left:
                self.head = chunk
                self.head_offset = n
                break
            n -= left
        del self.rest[:gone]
        if not self.rest:
            self.rest = None
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_queue(self) -> cython.int:
        self.head = None
        self.rest = None
        self.head_offset = 0
        self.buffered = 0
        return 0

    # ---- the end ----

    def _watch_peer(self):
        """Watch for the end of the reader: the loop calls this after connection_made."""
        if self.pipe is not None and (not self.closing or self.head is not None):
            self.peer = self.watch(READABLE, self._read_ready)

    def _read_ready(self):
        self.on_peer_closed()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_peer_closed(self) -> cython.int:
        if self.pipe is None:
            return 0
        if self.loop.debug:
            log.logger.info("%r was closed by peer", self)
        return self.close_with(None if self.head is None else BrokenPipeError())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write_failed(self, exc) -> cython.int:
        if isinstance(exc, OSError):
            if self.loop.debug:
                log.logger.debug("%r: %s", self, WRITE_FAILED, exc_info=exc)
        else:
            self.loop.call_exception_handler(
                {
                    "message": WRITE_FAILED,
                    "exception": exc,
                    "transport": self,
                    "protocol": self.protocol,
                }
            )
        return self.close_with(exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop(self) -> cython.int:
        self.stop_writing()
        self.drop_queue()
        return self.stop_watching_peer()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_writing(self) -> cython.int:
        op: PipeOp = self.writing
        self.writing = None
        return self.unwatch(op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_watching_peer(self) -> cython.int:
        op: PipeOp = self.peer
        self.peer = None
        return self.unwatch(op)

    def is_reading(self):
        """Not for a transport that only writes."""
        raise NotImplementedError

    def pause_reading(self):
        """Not for a transport that only writes."""
        raise NotImplementedError

    def resume_reading(self):
        """Not for a transport that only writes."""
        raise NotImplementedError

    def can_write_eof(self):
        """Whether write_eof() is supported: it is."""
        return True

    def write_eof(self):
        """Close the pipe, once everything written was sent."""
        self.end_writing()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_writing(self) -> cython.int:
        if self.closing:
            return 0
        self.closing = True
        if self.head is None:
            self.stop_watching_peer()
            call_soon(self.loop, self._call_connection_lost, (None,))
        return 0

    def close(self):
        """Close the pipe, once everything written was sent."""
        if not self.is_over():
            self.end_writing()

    def abort(self):
        """Close the pipe at once. The data that was not sent is lost."""
        self.close_with(None)

    # ---- flow control ----

    def set_protocol(self, protocol):
        """Give the transport to another protocol."""
        self.protocol = protocol

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        self._set_write_buffer_limits(high, low)
        self.maybe_pause()

    def _set_write_buffer_limits(self, high=None, low=None):
        low, high = water_marks(low, high)
        self.high_water = high
        self.low_water = low
        self.high = high
        self.low = low

    def get_write_buffer_limits(self):
        """Return the (low, high) water marks in bytes."""
        return (self.low, self.high)

    def get_write_buffer_size(self):
        """Return how many bytes wait to be sent."""
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
        try:
            getattr(self.protocol, method)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": exc,
                    "transport": self,
                    "protocol": self.protocol,
                }
            )
        return 0

    # ---- for tools, and for programs that look at asyncio's own attributes ----

    def _statistics(self):
        """See PipeEnd._statistics()."""
        found = PipeEnd._statistics(self)
        found["buffered"] = self.buffered
        found["writing_paused"] = self.writing_paused
        return found

    @property
    def _buffer(self):
        if self.head is None:
            return bytearray()
        return bytearray(b"".join([self.head[self.head_offset :], *(self.rest or ())]))

    @property
    def _conn_lost(self):
        return self.lost

    @property
    def _protocol_paused(self):
        return self.writing_paused

    @property
    def _high_water(self):
        return self.high

    @property
    def _low_water(self):
        return self.low


@cython.cfunc
@cython.exceptval(-1, check=False)
def are_few_bytes(pieces) -> cython.bint:
    """Whether this is a list or tuple of pieces that one system call can write as they are."""
    if (type(pieces) is not list and type(pieces) is not tuple) or not 2 <= len(pieces) < IOV_BATCH:
        return False
    return all([type(piece) is bytes and PyBytes_GET_SIZE(piece) > 0 for piece in pieces])


def open_write_pipe(loop: WatchLoop, pipe, protocol, waiter=None, extra=None):
    """Make the transport of an open file, as asyncio's _make_write_pipe_transport does."""
    end: WritePipe = WritePipe.__new__(WritePipe)
    end._set_write_buffer_limits()
    end.take(
        loop,
        pipe,
        protocol,
        extra,
        "Pipe transport is only for pipes, sockets and character devices",
    )
    call_soon(loop, protocol.connection_made, (end,))
    if end.is_socket or end.is_fifo:
        call_soon(loop, end._watch_peer, ())
    if waiter is not None:
        call_soon(loop, _wake, (waiter, None))
    return end


hoop_forbid_new(WritePipe)
hoop_name_type(WritePipe, b"hoop.pipes.writer._UnixWritePipeTransport")
