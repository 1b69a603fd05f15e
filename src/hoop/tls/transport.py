"""The transport of a TLS connection, as the application sees it. It passes each call on to its TlsLayer."""

from __future__ import annotations

import warnings
from asyncio import constants, sslproto

import cython
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.tls.layer import TlsLayer

# The class that isinstance() sees, and whose name asyncio's sendfile fallback and tests look for.
_asyncio_transport = cython.declare(object, sslproto._SSLProtocolTransport)


@cython.cclass
class SSLTransport(Attributed):
    """A TLS connection. See asyncio.Transport. Some programs look for "SSL" in the name of its type.

    Its arguments are those of a TlsLayer, without the transport.
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
        """Return a fact about the connection, as the transport below does. See asyncio.BaseTransport.

        TLS adds "sslcontext" and "ssl_object", and after the handshake "peercert", "cipher", "compression".
        """
        if name in self.tls.extra:
            return self.tls.extra[name]
        if self.tls.lower is not None:
            return self.tls.lower.get_extra_info(name, default)
        return default

    def _statistics(self):
        """Return what the connection below tells tools that observe; None if there is none of hoop's."""
        return None if self.tls.stream is None else self.tls.stream._statistics()

    def set_protocol(self, protocol):
        """Give the connection to another protocol."""
        self.tls.bind_protocol(protocol)

    def get_protocol(self):
        """Return the protocol; None once the connection is lost."""
        return self.tls.protocol

    # ---- receiving ----

    def is_reading(self):
        """Whether the transport is receiving."""
        return not self.tls.reading_paused

    def pause_reading(self):
        """Stop calling data_received until resume_reading(). The transport below stops reading, too."""
        self.tls.pause_reading()

    def resume_reading(self):
        """Undo pause_reading(). The loop delivers in its next turn the bytes that were received before."""
        self.tls.resume_reading()

    # ---- sending ----

    def write(self, data):
        """Encrypt data and send it, at once or when it would be sent without TLS. See
        StreamTransport.write().

        A mutable buffer is copied. Raises TypeError for anything but a buffer of bytes.
        """
        self.tls.queue(data if type(data) is bytes else _as_bytes(data))

    def writelines(self, list_of_data):
        """Send several pieces of data as one; see write(). If one of them is no data, nothing is sent."""
        self.tls.queue_all(
            [data if type(data) is bytes else _as_bytes(data) for data in list_of_data]
        )

    def write_eof(self):
        """Raise NotImplementedError. As in asyncio, a TLS connection cannot be closed in one direction
        only.
        """
        raise NotImplementedError

    def can_write_eof(self):
        """Return False: see write_eof()."""
        return False

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        self.tls.set_limits(high, low)

    def get_write_buffer_limits(self):
        """Return the (low, high) water marks in bytes."""
        return (self.tls.low_water, self.tls.high_water)

    def get_write_buffer_size(self):
        """Return how many bytes wait to be encrypted. The transport below may hold some more."""
        self.tls.flush_waiting()
        return self.tls.records.queued

    # ---- closing ----

    def is_closing(self):
        """Whether the transport is closing or closed."""
        if self.tls.is_drained:  # the drain() of streams calls only this
            self.tls.drain()
        return self.tls.closed

    def close(self):
        """Send all data and close_notify, and close when the peer has answered.

        Data that was received before is delivered now, if the application reads. After that it gets only
        eof_received(). A peer that goes on sending ends the connection at once. A peer that does not answer
        ends it after ssl_shutdown_timeout. connection_lost() gets the error, if there was one.
        """
        if not self.tls.closed:
            self.tls.closed = True
            self.tls.start_shutdown()

    def abort(self):
        """Close at once. Data that was not sent is lost."""
        self.tls.break_off(None)

    # ---- names that asyncio's own code, its tests and other programs read ----

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def _force_close(self, exc):
        self.tls.break_off(exc)

    def _receive_now(self):  # for a TLS layer above this one
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
    """Return an immutable copy of any buffer of bytes."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
    return bytes(memoryview(data))  # bytes(data) could call code of a subclass


hoop_forbid_new(SSLTransport)
hoop_forbid_new(TlsLayer)
