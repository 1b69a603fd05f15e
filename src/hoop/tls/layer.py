"""The layer between a transport and an application: the protocol of the one, the caller of the other.

`inbox.py` is the way in, `outbox.py` the way out, and this module begins and ends the connection. Below it
`records.py` makes and reads the records, and `application.py` calls the application's protocol. The
application sees the transport of `transport.py`.

The transport below may be any that loop.start_tls() takes. If it is a stream, the bytes that come in are
never an object, and its queue is filled without a Python call.

It behaves as asyncio's sslproto does, but for three things. Data that was written before close() goes out
even if the peer sends on. A protocol that was told connection_made is always told connection_lost. A call
that waits for a handshake always hears of its end.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import log

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.hoop._c.python import PyContext_CopyCurrent
from cython.cimports.hoop.net.endpoint import Layer
from cython.cimports.hoop.net.stream import StreamTransport
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.tls.application import EOF_TOLD, LOST, MADE, NOT_MADE
from cython.cimports.hoop.tls.inbox import TlsInbox
from cython.cimports.hoop.tls.outbox import ENDED, FLUSHING, HANDSHAKE, OPEN, SHUTDOWN, SealOp
from cython.cimports.hoop.tls.records import Records, Workspace


def _after_loss(layer: Layer):
    """connection_lost was called, right before this."""
    layer.on_lost()


@cython.final
@cython.cclass
class TlsLayer(TlsInbox):
    """The protocol of the transport below, and the one caller of the application's protocol.

    `sslobj` was made on the two BIOs and has not begun. After the handshake the application's protocol is
    told of the connection, as in create_connection. If it is `connected` already, as in start_tls, it is not
    told. In both cases `waiter` (a future, or None) is then done. Timeouts are in seconds.
    """

    @property
    def __class__(self):
        return asyncio.Protocol

    def __init__(
        self,
        loop: LoopBase,
        transport,
        protocol,
        sslcontext,
        sslobj,
        incoming,
        outgoing,
        waiter,
        connected,
        handshake_timeout,
        shutdown_timeout,
    ):
        if self.records is not None:  # one of their methods may be running
            raise RuntimeError("TlsLayer object is initialized already.")
        if loop.tls_workspace is None:
            loop.tls_workspace = Workspace()
        self.loop = loop
        self.transport = transport
        self.records = Records(sslobj, incoming, outgoing, loop.tls_workspace)
        self.seal_op = SealOp.__new__(SealOp)
        self.seal_op.outbox = self
        self.waiter = waiter
        self.app_state = MADE if connected else NOT_MADE
        self.handshake_timeout = handshake_timeout
        self.shutdown_timeout = shutdown_timeout
        self.extra = {"sslcontext": sslcontext}
        self.set_limits(None, None)
        self.bind_protocol(protocol)

    # ---- what the transport below calls ----

    def connection_made(self, transport):
        """Start the handshake on a connected transport."""
        self.lower = transport
        if isinstance(transport, StreamTransport):
            self.stream = transport
            self.context = self.stream.context
        else:
            self.context = PyContext_CopyCurrent()
        if self.closed:  # before it was connected
            self.break_off(None)
            return
        if self.loop.debug:
            log.logger.debug("%r starts SSL handshake", self)
            self.began = self.loop.time()
        self.state = HANDSHAKE
        self.timer = self.loop.call_later(self.handshake_timeout, self._on_handshake_timeout)
        self.do_handshake()

    def data_received(self, data):
        """Take bytes from a transport that is not ours."""
        view: Py_buffer
        PyObject_GetBuffer(data, cython.address(view), PyBUF_SIMPLE)
        try:
            self.take_in(cython.cast(cython.p_char, view.buf), view.len)
        finally:
            PyBuffer_Release(cython.address(view))

    def eof_received(self):
        """The transport below has nothing more to read; a peer that means well says close_notify before.

        True while the rest of what was written has to go out, or the application does not read.
        """
        self.eof = True
        if self.loop.debug:
            log.logger.debug("%r received EOF", self)
        try:
            if self.state == HANDSHAKE:
                self.handshake_failed(ConnectionResetError())
            elif self.state == OPEN:
                if self.reading_paused:
                    return True
                self.read_to_the_end()
            elif self.state == SHUTDOWN:
                self.do_shutdown()
        except Exception:
            if self.lower is not None:
                self.lower.close()
            raise
        return self.state == FLUSHING

    def connection_lost(self, exc):
        """Tell the application, and let go of everything but what get_extra_info() may be asked for."""
        if self.seal_op is None:
            return
        if exc is None:
            exc = self.parting
        self.parting = None
        self.cancel_timer()
        self.lost += 1
        self.closed = True
        self.writing_paused = False
        self.state = ENDED
        if self.app_state == MADE or self.app_state == EOF_TOLD:
            self.app_state = LOST
            self.loop.soon(self.protocol.connection_lost, (exc,), self.context)
            if self.layer is not None and exc is not None:
                self.loop.soon(_after_loss, (self.layer,), self.context)
        if self.stream is not None:  # whose connection it was can be asked still, as without TLS
            for name in ("sockname", "peername"):
                self.extra.setdefault(name, self.stream.get_extra_info(name))
        self.lower = self.stream = self.transport = None
        self.protocol = self.layer = self.receive = self.get_buffer = self.buffer_updated = None
        self.records.close()
        if "ssl_object" not in self.extra:
            self.records.sslobj = None
        self.seal_op.outbox = None
        self.seal_op = None
        if self.waiter is not None:
            self.wake(
                ConnectionResetError("Connection lost before the SSL handshake was complete")
                if exc is None
                else exc
            )

    def pause_writing(self):
        """Keep written bytes here: the queue of the transport below is above its high-water mark."""
        self.lower_paused = True

    def resume_writing(self):
        """Send the bytes kept here: the queue of the transport below is at its low-water mark."""
        self.lower_paused = False
        self.flush()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake(self, exc) -> cython.int:
        """Wake the task that waits for the handshake."""
        waiter = self.waiter
        self.waiter = None
        if waiter is not None and not waiter.done():
            if exc is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(exc)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel_timer(self) -> cython.int:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return 0

    def _statistics(self):
        """Return what Endpoint._statistics() does not know, for tools that observe the connection."""
        return {
            "version": self.version,
            "cipher": self.extra.get("cipher"),
            "queued": self.records.queued,
            "reading_paused": self.reading_paused,
            "writing_paused": self.writing_paused,
            "protocol": self.protocol,
        }

    # ---- the handshake ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def do_handshake(self) -> cython.int:
        failure = None
        try:
            done: cython.bint = self.records.handshake()
            if self.state != HANDSHAKE:  # a callback of the context has ended it
                return 0
            if not done:
                return self.send_outgoing()
            peercert = self.records.sslobj.getpeercert()
        except Exception as exc:
            failure = exc.with_traceback(None)  # it would keep the SSLObject
        if self.state != HANDSHAKE:
            return 0
        if failure is not None:
            return self.handshake_failed(failure)
        return self.handshake_done(peercert)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def handshake_done(self, peercert) -> cython.int:
        self.cancel_timer()
        self.state = OPEN
        if self.loop.debug:
            milliseconds = (self.loop.time() - self.began) * 1e3
            log.logger.debug("%r: SSL handshake took %.1f ms", self, milliseconds)
        sslobj = self.records.sslobj
        if self.records.is_known:
            self.version = sslobj.version()
        self.extra.update(
            peercert=peercert,
            cipher=sslobj.cipher(),
            compression=sslobj.compression(),
            ssl_object=sslobj,
        )
        self.mark_dirty()  # the last flight leaves with what the application writes now
        if self.app_state == NOT_MADE:
            self.app_state = MADE
            self.protocol.connection_made(self.transport)
        self.wake(None)
        return self.read_on_later()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def handshake_failed(self, exc) -> cython.int:
        self.cancel_timer()
        self.state = ENDED
        if isinstance(exc, ssl.CertificateError):
            self.fail(exc, "SSL handshake failed on verifying the certificate")
        else:
            self.fail(exc, "SSL handshake failed")
        return self.wake(exc)

    def _on_handshake_timeout(self):
        if self.state == HANDSHAKE:
            exc = ConnectionAbortedError(
                f"SSL handshake is taking longer than {self.handshake_timeout} seconds: "
                "aborting the connection"
            )
            self.fail(exc, "Fatal error on transport")
            self.wake(exc)

    # ---- closing ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def break_off(self, exc) -> cython.int:
        """Close the transport below at once; the rest happens when it is lost."""
        self.flush_waiting()
        self.closed = True
        if self.lower is None:
            return 0
        self.state = ENDED
        force_close = getattr(self.lower, "_force_close", None)
        if force_close is None:
            self.lower.abort()
        else:
            force_close(exc)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        """The connection is broken, or its protocol is."""
        lower = self.lower
        if lower is not None:
            self.break_off(exc)
        if isinstance(exc, OSError):
            if self.loop.debug:
                log.logger.debug("%r: %s", self, message, exc_info=exc)
        elif not isinstance(exc, asyncio.CancelledError):
            self.report(exc, message, lower, self)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_shutdown(self) -> cython.int:
        if self.state == HANDSHAKE:
            return self.break_off(None)
        if self.state != OPEN:
            return 0
        self.closed = True
        if self.records.workspace.busy:  # within a callback of an SSLContext
            self.loop.soon(self._start_shutdown, (), self.context)
            return 0
        self.state = FLUSHING
        self.limit_shutdown()
        if not self.reading_paused:
            self.catch_up()
        return self.flush()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def limit_shutdown(self) -> cython.int:
        """Give the peer so much time to read the rest and to answer."""
        self.timer = self.loop.call_later(self.shutdown_timeout, self._on_shutdown_timeout)
        return 0

    def _start_shutdown(self):
        self.start_shutdown()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finish_writing(self) -> cython.int:
        """Go on with the shutdown once everything written was encrypted and handed on."""
        if self.records.queued:
            if self.lower_paused:
                self.lower.pause_reading()  # there is nobody for what comes meanwhile
            return 0
        self.state = SHUTDOWN
        if not self.notified:
            self.records.skip()
        self.do_shutdown()
        if self.state == SHUTDOWN and not self.eof:
            self.lower.resume_reading()  # the application may have paused it
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def do_shutdown(self) -> cython.int:
        """Send close_notify, or look for the peer's."""
        failure = None
        if not self.eof:
            try:
                if not self.records.shutdown():
                    return self.send_outgoing()
            except ssl.SSLError as exc:
                failure = exc
        self.send_outgoing()
        if failure is None:
            self.tell_eof()
        elif self.loop.debug:
            log.logger.debug("%r: %s", self, "Fatal error on transport", exc_info=failure)
        if self.state == SHUTDOWN:
            self.state = ENDED
            self.parting = failure
            self.lower.close()  # it sends written bytes first
        return 0

    def _on_shutdown_timeout(self):
        if self.lower is not None:
            self.break_off(TimeoutError("SSL shutdown timed out"))

    # ---- asking ----

    @cython.cfunc
    def describe(self) -> str:
        if self.lower is None:
            return "closed" if self.closed else "unconnected"
        closing = "closing " if self.closed else ""
        return f"{closing}bufsize={self.records.queued} over {self.lower!r}"

    def __repr__(self):
        return f"<{type(self).__name__} {self.describe()}>"

    # The names of asyncio's SSLProtocol that others read.
    @property
    def _app_transport(self):
        return self.transport

    @property
    def _transport(self):
        return self.lower

    @property
    def _extra(self):
        return self.extra

    @property
    def _app_reading_paused(self):
        return self.reading_paused

    @property
    def _sslcontext(self):
        return self.extra["sslcontext"]

    @property
    def _sslobj(self):
        return self.records.sslobj
