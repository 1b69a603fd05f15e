"""The side of a TLS layer that calls the application's protocol, in the connection's context."""

from __future__ import annotations

import asyncio
from asyncio import log

import cython
from cython.cimports.hoop._c.python import PyContext_Enter, PyErr_Clear, exit_context, ref
from cython.cimports.hoop.net.endpoint import Layer
from cython.cimports.hoop.net.feeder import feeder_of

_buffered_protocol = cython.declare(object, asyncio.BufferedProtocol)
_drained_protocol = cython.declare(object, asyncio.streams.FlowControlMixin)


@cython.cclass
class Application(Layer):
    """A layer with another protocol above it. Its subclass decides what a failure means."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def bind_protocol(self, protocol) -> cython.int:
        self.layer = protocol if isinstance(protocol, Layer) else feeder_of(protocol)
        if isinstance(protocol, _buffered_protocol):
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
            self.receive = None
        else:
            self.get_buffer = self.buffer_updated = None
            self.receive = getattr(protocol, "data_received", None)
        self.protocol = protocol
        self.is_drained = isinstance(protocol, _drained_protocol)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def enter(self) -> cython.bint:
        """Enter the connection's context. False if the thread is in it already."""
        if PyContext_Enter(ref(self.context)) == 0:
            return True
        PyErr_Clear()
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, method: str) -> cython.int:
        """Call eof_received, pause_writing or resume_writing."""
        entered: cython.bint = self.enter()
        try:
            if getattr(self.protocol, method)() and method == "eof_received":
                log.logger.warning(
                    "returning true from eof_received() has no effect when using ssl"
                )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            if method == "eof_received":
                self.fail(exc, "Error calling eof_received()")
            else:
                self.report(exc, f"protocol.{method}() failed", self.transport, self.protocol)
        finally:
            if entered:
                exit_context(ref(self.context))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell_eof(self) -> cython.int:
        """Call eof_received, if it was not called yet."""
        if self.app_state == MADE:
            self.app_state = EOF_TOLD
            self.tell("eof_received")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def report(self, exc, message: str, transport, protocol) -> cython.int:
        context = {"message": message, "exception": exc}
        context.update(transport=transport, protocol=protocol)
        self.loop.call_exception_handler(context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        """Called when the connection failed, or its protocol raised."""
        raise NotImplementedError(type(self).__name__)
