"""The transport of a TLS connection, as the application sees it. What it does is done by its layer."""

from __future__ import annotations

import warnings
from asyncio import constants, sslproto

import cython
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.tls.layer import TlsLayer

# What isinstance() sees, and asyncio's sendfile fallback and tests by the name.
_asyncio_transport = cython.declare(object, sslproto._SSLProtocolTransport)


@cython.cclass
class SSLTransport(Attributed):
    """A TLS connection. See asyncio.Transport. Some programs know one by the SSL in its type's name.

    Made with the arguments of a TlsLayer, less the transport.
    """

    @property
    def __class__(self):
        return _asyncio_transport

    def __init__(self, loop: LoopBase, *args):
        self.tls = TlsLayer(loop, self, *args)

    def __del__(self):
        if self.tls is not None and not self.tls.closed:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        return f"<{type(self).__name__} {self.tls.describe()}>"

    def get_extra_info(self, name, default=None):
        """What is known of the connection, as of the transport below, and of its TLS after the handshake.

        "sslcontext", "ssl_object", "peercert", "cipher", "compression". See asyncio.BaseTransport.
        """
        if name in self.tls.extra:
            return self.tls.extra[name]
        if self.tls.lower is not None:
            return self.tls.lower.get_extra_info(name, default)
        return default

    def set_protocol(self, protocol):
        """Give the connection to another protocol."""
        self.tls.bind_protocol(protocol)

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return self.tls.protocol

    # ---- receiving ----

    def is_reading(self):
        """Whether the transport is receiving."""
        return not self.tls.reading_paused

    def pause_reading(self):
        """Stop calling data_received until resume_reading(). The transport below stops reading too."""
        self.tls.pause_reading()

    def resume_reading(self):
        """Undo pause_reading(). What was received before comes in the next turn."""
        self.tls.resume_reading()

    # ---- sending ----

    def write(self, data):
        """Encrypt data and send it: at once, or when it would leave without TLS; see StreamTransport.write().

        A mutable buffer is copied. Raises TypeError for what is no buffer of bytes.
        """
        self.tls.queue(data if type(data) is bytes else _as_bytes(data))

    def writelines(self, list_of_data):
        """Send several pieces of data as one; see write(). All of them or, if one is no data, none."""
        self.tls.queue_all(
            [data if type(data) is bytes else _as_bytes(data) for data in list_of_data]
        )

    def write_eof(self):
        """Raise NotImplementedError: as in asyncio, TLS connections are not closed by halves."""
        raise NotImplementedError

    def can_write_eof(self):
        """False: see write_eof()."""
        return False

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        self.tls.set_limits(high, low)

    def get_write_buffer_limits(self):
        """The (low, high) water marks in bytes."""
        return (self.tls.low_water, self.tls.high_water)

    def get_write_buffer_size(self):
        """How many bytes wait to be encrypted. The transport below may keep some more."""
        self.tls.flush_waiting()
        return self.tls.records.queued

    # ---- closing ----

    def is_closing(self):
        """Whether the transport is closing or closed."""
        if self.tls.is_drained:  # all that the drain() of streams calls
            self.tls.drain()
        return self.tls.closed

    def close(self):
        """Send what was written and close_notify, and close when the peer has answered.

        What came before is delivered now, if the application reads; then nothing but eof_received(). A
        peer that goes on sending ends the connection at once; one that does nothing, after
        ssl_shutdown_timeout. connection_lost gets what went wrong.
        """
        if not self.tls.closed:
            self.tls.closed = True
            self.tls.start_shutdown()

    def abort(self):
        """Close at once. What was not sent is dropped."""
        self.tls.break_off(None)

    # ---- the names that asyncio's own code, its tests and others read ----

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def _force_close(self, exc):
        self.tls.break_off(exc)

    def _receive_now(self):  # for TLS above this
        self.tls.receive_now()

    @property
    def _ssl_protocol(self):
        return self.tls

    @property
    def _loop(self):
        return self.tls.loop

    @property
    def _protocol_paused(self):
        return self.tls.writing_paused

    @property
    def _closed(self):
        return self.tls.closed

    @property
    def _closing(self):
        return self.tls.closed

    @property
    def _conn_lost(self):
        return self.tls.lost

    @property
    def _paused(self):
        return self.tls.reading_paused

    def _test__append_write_backlog(self, data):
        self.tls.records.add(data)


@cython.cfunc
def _as_bytes(data) -> bytes:
    """An immutable copy of any buffer of bytes."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
    return bytes(memoryview(data))  # bytes(data) may give a subclass, and run its code


hoop_forbid_new(SSLTransport)
hoop_forbid_new(TlsLayer)
