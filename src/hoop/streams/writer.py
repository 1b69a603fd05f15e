"""The writing half of a stream, and the protocol between a transport and the two halves.

They behave as asyncio.StreamWriter and asyncio.StreamReaderProtocol. Your code gets a writer from
`hoop.open_connection()` or in the callback of `hoop.start_server()`.

The protocol is a layer: the transport (net/receiver.py) calls `on_bytes` in C, and that adds the bytes to
the `StreamReader`, which wakes the task that reads. On io_uring `on_early_bytes` does so even earlier, while
the driver takes its news, if a task waits for them. `write()` hands its data to the transport. `drain()`
waits only while the transport has paused the protocol.
"""

from __future__ import annotations

import asyncio
import collections
import sys
import warnings
from asyncio import coroutines, log

import cython
from cython.cimports.hoop.net.endpoint import DECLINED, TAKEN, Layer
from cython.cimports.hoop.net.stream import StreamTransport
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.scheduling.future import Future
from cython.cimports.hoop.streams.reader import StreamReader
from cython.cimports.hoop.sync.waiting import (
    Primitive,
    finish_class,
    leave,
    wait_in,
    wake,
)

deque = cython.declare(object, collections.deque)
_asyncio_protocol = cython.declare(object, asyncio.StreamReaderProtocol)
_asyncio_reader = cython.declare(object, asyncio.StreamReader)


def _ending_names():
    """The names in the function that this Python's asyncio calls when the task of a server's callback is
    done.
    """
    for constant in _asyncio_protocol.connection_made.__code__.co_consts:
        if hasattr(constant, "co_names"):
            return constant.co_names
    return ("cancelled", "exception") if sys.version_info >= (3, 13) else ()


# The versions of Python differ here. Until 3.12 a protocol keeps the writer of a server until the connection
# is lost. Some do not look at how the callback ended. Some do not close the connection if it was cancelled.
# The oldest do not warn of a writer that is dropped unclosed.
KEEPS_WRITER = cython.declare(cython.bint, hasattr(_asyncio_protocol, "_replace_writer"))
REPORTS = cython.declare(cython.bint, "exception" in _ending_names())
REPORTS_PLAIN = cython.declare(
    cython.bint,
    "Unhandled exception in client_connected_cb"
    in _asyncio_protocol.connection_made.__code__.co_consts,
)
CLOSES_CANCELLED = cython.declare(cython.bint, "cancelled" in _ending_names())
COMPLAINS = cython.declare(cython.bint, hasattr(asyncio.StreamWriter, "__del__"))

# The two things that drain() can wait for first.
A_TURN = cython.declare(cython.Py_ssize_t, 1)
ANOTHER = cython.declare(cython.Py_ssize_t, 2)


@cython.final
@cython.cclass
class StreamProtocol(Layer):
    """The protocol between a transport and a reader; it does the writer's flow control.

    With a `client_connected_cb` it is a server's, and calls that for the connection. See
    asyncio.StreamReaderProtocol.
    """

    @property
    def __class__(self):
        return _asyncio_protocol

    def __init__(self, stream_reader: StreamReader, client_connected_cb=None, loop=None):
        self.reader = stream_reader
        self.client_connected_cb = client_connected_cb
        self.loop = stream_reader.bound_loop if loop is None else loop

    # ---- what the transport calls ----

    def connection_made(self, transport):
        """Begin to read. A server's protocol calls the callback."""
        reader: StreamReader = self.reader
        self.transport = transport
        reader.set_transport(transport)
        self.over_tls = transport.get_extra_info("sslcontext") is not None
        if self.client_connected_cb is None:
            return
        writer = StreamWriter(transport, self, reader, self.loop)
        if KEEPS_WRITER:
            self.writer = writer
        try:
            result = self.client_connected_cb(reader, writer)
        except Exception as exc:
            if not REPORTS_PLAIN:
                raise
            message = "Unhandled exception in client_connected_cb"
            context = {"message": message, "exception": exc, "transport": transport}
            self.loop.call_exception_handler(context)
            transport.close()
            return
        if coroutines.iscoroutine(result):
            self.task = self.loop.create_task(result)
            if REPORTS:
                self.task.add_done_callback(Ending(self.loop, transport))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        if not self.takes_bytes():
            return DECLINED
        self.reader.add(data, n)
        return TAKEN

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_early_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        reader: StreamReader = self.reader
        if not self.takes_bytes() or type(reader.waiter) is not Future:
            return DECLINED
        if reader.size() + n > reader.high:
            return DECLINED
        reader.add(data, n)
        return TAKEN

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_chunk(self, chunk: bytes) -> cython.int:
        if not self.takes_bytes():
            return DECLINED
        self.reader.add_chunk(chunk)
        return TAKEN

    def data_received(self, data):
        """Give received bytes to the reader."""
        if self.reader is not None:
            cython.cast(object, self.reader).feed_data(data)

    def eof_received(self):
        """Tell the reader that the peer sends no more. Without TLS the connection stays open for writing."""
        if self.reader is not None:
            cython.cast(object, self.reader).feed_eof()
        return not self.over_tls

    def connection_lost(self, exc):
        """Tell the reader and all waiting tasks, and drop them."""
        reader: StreamReader = self.reader
        self.lost = True
        self.error = exc
        if reader is not None:
            if exc is None:
                cython.cast(object, reader).feed_eof()
            elif reader.is_plain():
                reader.lose(exc)
            else:
                cython.cast(object, reader).set_exception(exc)
        if self.closed is not None:
            _finish(self.closed, exc)
            self.closed._log_traceback = False
        waiters = list(self.close_waiters or ())
        if self.paused and self.drain_waiters is not None:
            waiters.extend(self.drain_waiters)
        for waiter in waiters:
            _finish(waiter, exc)
        self.reader = None
        self.writer = self.task = self.transport = None

    def pause_writing(self):
        """Make drain() wait from now on."""
        self.paused = True
        if self.loop.get_debug():
            log.logger.debug("%r pauses writing", self)

    def resume_writing(self):
        """Wake all tasks that wait in drain()."""
        self.paused = False
        if self.loop.get_debug():
            log.logger.debug("%r resumes writing", self)
        if self.drain_waiters is not None:
            for waiter in self.drain_waiters:
                wake(waiter, None)

    # ---- what the writer asks ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_not_lost(self) -> cython.int:
        if self.lost:
            raise ConnectionResetError("Connection lost")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_until_writable(self, c: NativeCoroutine) -> cython.int:
        self.check_not_lost()
        if not self.paused:
            return OVER
        if self.drain_waiters is None:
            self.drain_waiters = deque()
        return _wait_among(c, self.drain_waiters, self.loop.create_future())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_until_closed(self, c: NativeCoroutine) -> cython.int:
        if self.lost:
            if self.error is not None:
                raise self.error
            return OVER
        if self.close_waiters is None:
            self.close_waiters = deque()
        return _wait_among(c, self.close_waiters, self.loop.create_future())

    # ---- what asyncio's has ----

    @cython.binding(True)
    def _drain_helper(self):
        return new_coroutine(DRAIN_HELPER, self, None)

    def _get_close_waiter(self, stream):
        return self._closed

    @property
    def _closed(self):
        if self.closed is None:
            self.closed = self.loop.create_future()
            if self.lost:
                _finish(self.closed, self.error)
                self.closed._log_traceback = False
        return self.closed

    def _replace_transport(self, transport):
        """Use the TLS transport from now on: the plain one is below it."""
        self.transport = transport
        self.over_tls = transport.get_extra_info("sslcontext") is not None
        if self.reader is not None:
            self.reader.transport = transport

    def _replace_writer(self, writer):
        if KEEPS_WRITER:
            self.writer = writer
        self._replace_transport(writer.transport)

    @property
    def _loop(self):
        return self.loop

    @property
    def _stream_reader(self):
        return self.reader

    @property
    def _stream_writer(self):
        return self.writer

    @_stream_writer.setter
    def _stream_writer(self, writer):
        self.writer = writer

    @property
    def _task(self):
        return self.task

    @property
    def _transport(self):
        return self.transport

    @_transport.setter
    def _transport(self, transport):
        self.transport = transport

    @property
    def _client_connected_cb(self):
        return self.client_connected_cb

    @property
    def _over_ssl(self):
        return self.over_tls

    @_over_ssl.setter
    def _over_ssl(self, value: cython.bint):
        self.over_tls = value

    @property
    def _paused(self):
        return self.paused

    @property
    def _connection_lost(self):
        return self.lost

    @property
    def _drain_waiters(self):
        if self.drain_waiters is None:
            self.drain_waiters = deque()
        return self.drain_waiters


@cython.final
@cython.cclass
class Ending:
    """Called when the task of a server's callback is done. It reports a failure, and closes the connection
    then.
    """

    def __init__(self, loop, transport):
        self.loop = loop
        self.transport = transport

    @property
    def _transport(self):
        return self.transport

    def __call__(self, task):
        if CLOSES_CANCELLED and task.cancelled():
            self.transport.close()
            return
        exc = task.exception()
        if exc is not None:
            self.loop.call_exception_handler(
                {
                    "message": "Unhandled exception in client_connected_cb",
                    "exception": exc,
                    "transport": self.transport,
                }
            )
            self.transport.close()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _finish(future, exc) -> cython.int:
    if not future.done():
        if exc is None:
            future.set_result(None)
        else:
            future.set_exception(exc)
    return 0


# ---- writing -----------------------------------------------------------------------------------------


@cython.cclass
class StreamWriter(Primitive):
    """The writing half of a connection: write(), then `await drain()`. See asyncio.StreamWriter.

    open_connection() and start_server() make writers; your code does not.

        writer.write(b"hello")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    """

    def __init__(self, transport, protocol, reader, loop):
        # A class that derives from hoop's shows itself to isinstance(), not asyncio's.
        if reader is not None and not isinstance(reader, (StreamReader, _asyncio_reader)):
            raise AssertionError(f"a StreamReader is expected, not {reader!r}")
        self.bind_transport(transport)
        self.protocol = protocol
        self.reader = reader
        self.bind(loop)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def bind_transport(self, transport) -> cython.int:
        self.target = transport
        self.stream = transport if type(transport) is StreamTransport else None
        return 0

    def __repr__(self):
        parts = [self.__class__.__name__, f"transport={self.target!r}"]
        if self.reader is not None:
            parts.append(f"reader={self.reader!r}")
        return f"<{' '.join(parts)}>"

    def __del__(self):
        if not COMPLAINS or self.target is None or self.target.is_closing():
            return
        if self.bound_loop.is_closed():
            warnings.warn("loop is closed", ResourceWarning, stacklevel=1)
        else:
            self.close()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)

    @property
    def transport(self):
        """The connection's transport. After start_tls() it is another one."""
        return self.target

    def write(self, data):
        """Send bytes, without waiting: the transport keeps what the kernel does not take yet.

        Call `await drain()` after it, so that a slow peer cannot fill your memory.

            writer.write(b"hello")
            await writer.drain()
        """
        if self.stream is not None and self.stream.attributes is cython.NULL:
            self.stream.send(data)
        else:
            self.target.write(data)

    def writelines(self, data):
        """Send several pieces of data, in their order. See write()."""
        self.target.writelines(data)

    def write_eof(self):
        """Close the sending half once everything written was sent. The peer then reads the end of the
        stream.
        """
        return self.target.write_eof()

    def can_write_eof(self):
        """Return True if write_eof() works on this transport: it does not over TLS."""
        return self.target.can_write_eof()

    def close(self):
        """Send everything that was written, then close the connection. Await wait_closed() after it."""
        return self.target.close()

    def is_closing(self):
        """Return True if the connection is closing or closed."""
        return self.target.is_closing()

    def get_extra_info(self, name, default=None):
        """Return a fact about the connection, such as "peername" or "socket"; `default` if it is not known.

        See asyncio.BaseTransport.get_extra_info.

            host, port, *_ = writer.get_extra_info("peername")
        """
        return self.target.get_extra_info(name, default)

    @cython.binding(True)
    def drain(self):
        """Wait until the transport's buffer is no longer too full. Often it does not wait at all.

        Any number of tasks may drain at once. Raises the exception that the reader has been given, or
        ConnectionResetError if the connection is lost.

            writer.write(block)
            await writer.drain()
        """
        return new_coroutine(DRAIN, self, None)

    @cython.binding(True)
    def wait_closed(self):
        """Wait until the connection is closed. Raises the exception with which it was lost, if there was
        one.
        """
        return new_coroutine(WAIT_CLOSED, self, None)

    @cython.binding(True)
    def start_tls(
        self,
        sslcontext,
        *,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        """Upgrade the connection to TLS. Data that the reader holds already counts as the first TLS
        records.

        `sslcontext` is an ssl.SSLContext; the times are in seconds. Raises ssl.SSLError or OSError if the
        handshake fails.

            await writer.start_tls(ssl.create_default_context(), server_hostname="example.org")
        """
        options = {
            "server_hostname": server_hostname,
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
        }
        return _start_tls(self, sslcontext, options)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_closing_now(self) -> cython.bint:
        """Whether the transport is closing. For drain(), which need not wait for data that the kernel
        takes.
        """
        if self.stream is not None:
            self.stream.wrote_in = 0
            if self.stream.waits:
                self.stream.flush()
            return self.stream.closing or self.stream.broken
        return bool(self.target.is_closing())

    # ---- what asyncio's has ----

    @property
    def _transport(self):
        return self.target

    @_transport.setter
    def _transport(self, transport):
        self.bind_transport(transport)

    @property
    def _protocol(self):
        return self.protocol

    @_protocol.setter
    def _protocol(self, protocol):
        self.protocol = protocol

    @property
    def _reader(self):
        return self.reader

    @_reader.setter
    def _reader(self, reader):
        self.reader = reader


async def _start_tls(writer, sslcontext, options):
    protocol = writer._protocol
    await writer.drain()
    writer._transport = await writer._loop.start_tls(
        writer._transport,
        protocol,
        sslcontext,
        server_side=protocol._client_connected_cb is not None,
        **options,
    )
    if hasattr(protocol, "_replace_writer"):
        protocol._replace_writer(writer)
    else:
        protocol._replace_transport(writer._transport)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_plain(protocol) -> cython.bint:
    """Whether a protocol's methods are ours, and not replaced on a subclass or an object."""
    return (
        type(protocol) is StreamProtocol
        and cython.cast(StreamProtocol, protocol).attributes is cython.NULL
    )


@cython.final
@cython.cclass
class Drain(Method):
    """writer.drain()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        writer: StreamWriter = cython.cast(StreamWriter, c.owner)
        reader = writer.reader
        if reader is not None:
            if type(reader) is StreamReader and cython.cast(StreamReader, reader).is_plain():
                error = cython.cast(StreamReader, reader).error
            else:
                error = reader.exception()
            if error is not None:
                raise error
        if writer.is_closing_now():  # then connection_lost() is called first
            c.mark = A_TURN
            return c.wait_a_turn()
        c.mark = ANOTHER
        return self.go_on(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine) -> cython.int:
        protocol = cython.cast(StreamWriter, c.owner).protocol
        if _is_plain(protocol):
            return cython.cast(StreamProtocol, protocol).wait_until_writable(c)
        return c.delegate(protocol._drain_helper())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.mark == A_TURN:
            c.mark = ANOTHER
            return self.go_on(c)
        _stop_waiting(c)
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        _stop_waiting(c)
        raise error


@cython.final
@cython.cclass
class DrainHelper(Method):
    """protocol._drain_helper()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        return cython.cast(StreamProtocol, c.owner).wait_until_writable(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        _stop_waiting(c)
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        _stop_waiting(c)
        raise error


@cython.final
@cython.cclass
class WaitClosed(Method):
    """writer.wait_closed()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        writer: StreamWriter = cython.cast(StreamWriter, c.owner)
        if _is_plain(writer.protocol):
            return cython.cast(StreamProtocol, writer.protocol).wait_until_closed(c)
        return c.delegate(writer.protocol._get_close_waiter(writer))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        _stop_waiting(c)
        raise error


@cython.cfunc
@cython.exceptval(-1, check=False)
def _wait_among(c: NativeCoroutine, waiters, future) -> cython.int:
    """Wait in a deque. Remember the deque, because the writer may have another protocol after the wait."""
    c.extra = waiters
    return wait_in(c, waiters, future)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _stop_waiting(c: NativeCoroutine) -> cython.int:
    waiters = c.extra
    c.extra = None
    return 0 if waiters is None else leave(waiters, c.future)


DRAIN = cython.declare(Drain, Drain("drain", StreamWriter))
DRAIN_HELPER = cython.declare(DrainHelper, DrainHelper("_drain_helper", StreamProtocol))
WAIT_CLOSED = cython.declare(WaitClosed, WaitClosed("wait_closed", StreamWriter))

finish_class(StreamWriter, asyncio.StreamWriter, ("drain", "wait_closed", "start_tls"))
