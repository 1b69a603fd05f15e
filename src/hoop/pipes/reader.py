"""The transport of loop.connect_read_pipe(), as asyncio's _UnixReadPipeTransport.

It reads into the one buffer of the loop, and makes a `bytes` of what came. After a long read the next one
goes straight into a `bytes`, of the size that the pipe has. asyncio asks for 256 KiB each time, though a pipe
usually holds 64. The allocator gets so large a piece from the kernel each time, and gives it back.

The closed end of a pseudo-terminal is an end of file here, and no error.
"""

from __future__ import annotations

import errno
import os
from asyncio import futures, log, unix_events

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.hoop._c.linux import hoop_pipe_size, hoop_read
from cython.cimports.hoop._c.python import PyNumber_AsSsize_t, hoop_forbid_new, hoop_name_type
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import READABLE
from cython.cimports.hoop.net.endpoint import TAKEN, Layer
from cython.cimports.hoop.net.feeder import feeder_of
from cython.cimports.hoop.pipes.end import PipeEnd, PipeOp, call_soon
from cython.cimports.hoop.scheduling.base import SCRATCH_BYTES
from cython.cimports.hoop.watching.watch import WatchLoop

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EBADF = cython.declare(cython.int, errno.EBADF)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
EINVAL = cython.declare(cython.Py_ssize_t, errno.EINVAL)
EIO = cython.declare(cython.Py_ssize_t, errno.EIO)
LONG_BYTES = cython.declare(cython.Py_ssize_t, 32 * 1024)  # from here on a copy costs too much
PTY_MASTER = cython.declare(object, os.makedev(5, 2))
READ_FAILED = cython.declare(str, "Fatal read error on pipe transport")

_stock = cython.declare(object, unix_events._UnixReadPipeTransport)
_wake = cython.declare(object, futures._set_result_unless_cancelled)


@cython.final
@cython.cclass
class ReadPipe(PipeEnd):
    """The reading end of a pipe. See asyncio.ReadTransport."""

    @property
    def __class__(self):
        return _stock

    def __repr__(self):
        return f"<{self.state(READABLE)}>"

    # ---- reading ----

    def _add_reader(self, fd, callback):
        """Begin to read: the loop calls this after connection_made."""
        if not self.paused and not self.closing:
            self.reading = self.watch(READABLE, callback)

    def _read_ready(self):
        self.read()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self, interest: cython.int) -> cython.int:
        return self.read()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read(self) -> cython.int:
        layer: Layer = self.layer
        n: cython.Py_ssize_t
        if self.pipe is None:
            return 0
        scratch: cython.p_char = self.loop.scratch
        if self.was_closed():
            return self.fail(os_error(-EBADF), READ_FAILED)
        self.loop.look_at = 0  # the other end may be the loop's, too
        if (self.floods and layer is None) or self.most_bytes > SCRATCH_BYTES:
            return self.read_whole()
        n = self.receive(scratch, self.most_bytes)
        if n <= 0:
            return self.got_nothing(n)
        self.floods = n >= LONG_BYTES
        if layer is not None and layer.on_bytes(scratch, n) == TAKEN:
            return 0
        return self.deliver(PyBytes_FromStringAndSize(scratch, n))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_whole(self) -> cython.int:
        """Read straight into a `bytes` for the protocol, as much as a pipe holds."""
        size: cython.Py_ssize_t = self.most_bytes
        n: cython.Py_ssize_t
        if self.is_fifo:
            n = hoop_pipe_size(self.fd)
            if n > 0:
                size = min(size, n)
        data = PyBytes_FromStringAndSize(cython.NULL, size)
        n = self.receive(PyBytes_AS_STRING(data), size)
        self.floods = n >= LONG_BYTES
        if n <= 0:
            return self.got_nothing(n)
        if n < size:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), n)
        return self.deliver(data)

    @cython.cfunc
    @cython.exceptval(check=False)
    def receive(self, buffer: cython.p_char, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        fd: cython.int = self.fd
        if n < 0:
            return -EINVAL
        if self.is_device:  # the drivers of some devices wait, though asked not to
            with cython.nogil:
                n = hoop_read(fd, buffer, n)
        else:
            n = hoop_read(fd, buffer, n)
        if n > 0:
            self.bytes_in += n
            self.active = self.loop.stamp
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self, data: bytes) -> cython.int:
        self.protocol.data_received(data)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def got_nothing(self, n: cython.Py_ssize_t) -> cython.int:
        if n == -EAGAIN or n == -EINTR:
            return 0
        # Every process has closed the other side of a pseudo-terminal.
        if n == 0 or (n == -EIO and self.is_device and os.fstat(self.fd).st_rdev == PTY_MASTER):
            return self.on_end()
        return self.fail(os_error(n), READ_FAILED)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_end(self) -> cython.int:
        if self.loop.debug:
            log.logger.info("%r was closed by peer", self)
        self.closing = True
        self.stop()
        call_soon(self.loop, self.protocol.eof_received, ())
        call_soon(self.loop, self._call_connection_lost, (None,))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        if exc.errno == EIO:
            if self.loop.debug:
                log.logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            self.loop.call_exception_handler(
                {
                    "message": message,
                    "exception": exc,
                    "transport": self,
                    "protocol": self.protocol,
                }
            )
        return self.close_with(exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop(self) -> cython.int:
        op: PipeOp = self.reading
        self.reading = None
        return self.unwatch(op)

    # ---- what a protocol asks for ----

    def is_reading(self):
        """Whether the transport reads: it is neither paused nor closing."""
        return not self.paused and not self.closing

    def pause_reading(self):
        """Stop reading, until resume_reading()."""
        if self.paused or self.closing:
            return
        self.paused = True
        self.stop()
        if self.loop.debug:
            log.logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Read again after pause_reading()."""
        if self.closing or not self.paused:
            return
        self.paused = False
        self.reading = self.watch(READABLE, self._read_ready)
        if self.loop.debug:
            log.logger.debug("%r resumes reading", self)

    def set_protocol(self, protocol):
        """Give what is read from now on to another protocol."""
        self.protocol = protocol
        self.layer = feeder_of(protocol)

    def close(self):
        """Close the pipe. Nothing more is read."""
        if not self.closing:
            self.close_with(None)

    @property
    def max_size(self):
        """At most so many bytes are read at once."""
        return self.most

    @max_size.setter
    def max_size(self, n):
        self.most = n
        self.most_bytes = PyNumber_AsSsize_t(n, cython.NULL)

    @property
    def _paused(self):
        return self.paused

    def _statistics(self):
        """See PipeEnd._statistics()."""
        found = PipeEnd._statistics(self)
        found["reading_paused"] = self.paused
        return found


def open_read_pipe(loop: WatchLoop, pipe, protocol, waiter=None, extra=None):
    """Make the transport of an open file, as asyncio's _make_read_pipe_transport does."""
    end: ReadPipe = ReadPipe.__new__(ReadPipe)
    end.take(loop, pipe, protocol, extra, "Pipe transport is for pipes/sockets only.")
    end.layer = feeder_of(protocol)
    end.max_size = _stock.max_size
    loop.scratch_buffer()
    call_soon(loop, protocol.connection_made, (end,))
    call_soon(loop, end._add_reader, (end.fd, end._read_ready))
    if waiter is not None:
        call_soon(loop, _wake, (waiter, None))
    return end


hoop_forbid_new(ReadPipe)
hoop_name_type(ReadPipe, b"hoop.pipes.reader._UnixReadPipeTransport")
