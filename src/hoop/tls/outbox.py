"""The sending half of a TLS connection: it encrypts the application's data and gives it to the stream.

The stream below decides when data is sent, as for a connection without TLS: see net/outbox.py. Data that
waits is not encrypted yet, so that it needs as few records as possible.
"""

from __future__ import annotations

from asyncio import constants, log, sslproto

import cython
from cython.cimports.cpython.bytes import PyBytes_GET_SIZE
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.net.outbox import NO_WAIT, WAITS_MAX, whole_mark
from cython.cimports.hoop.net.stream import StreamTransport
from cython.cimports.hoop.tls.application import Application
from cython.cimports.hoop.tls.records import Records

LOG_LOST_WRITES_FROM = cython.declare(cython.uint, constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES)


@cython.final
@cython.cclass
class SealOp(Op):
    """Encrypts the data of a connection whose writes waited."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        outbox: TlsOutbox = self.outbox  # a callback may set self.outbox to None
        if outbox is None:
            return 0
        outbox.is_dirty = False
        return outbox.flush()


@cython.cclass
class TlsOutbox(Application):
    """Encrypts and sends. The layer, its subclass, decides what happens to the connection."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue(self, chunk: bytes) -> cython.int:
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        if n == 0:
            return 0
        if self.state != OPEN and self.state != HANDSHAKE:
            return self.write_to_nobody()
        if self.state == OPEN and not (self.records.queued == 0 and self.is_to_wait(n)):
            self.records.add(chunk)
            return self.go_on()
        self.records.add(chunk)
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue_all(self, chunks: list) -> cython.int:
        """Queue several chunks of one write."""
        n: cython.Py_ssize_t = 0
        for chunk in chunks:
            n += len(chunk)
        if n == 0:
            return 0
        if self.state != OPEN and self.state != HANDSHAKE:
            return self.write_to_nobody()
        waits: cython.bint = self.records.queued == 0 and self.is_to_wait(n)
        for chunk in chunks:
            if chunk:
                self.records.add(chunk)
        return self.maybe_pause() if waits or self.state != OPEN else self.go_on()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_to_wait(self, n: cython.Py_ssize_t) -> cython.bint:
        """Whether n bytes wait, with nothing queued before them. The stream below knows how we write."""
        if self.state != OPEN or self.stream is None or n > WAITS_MAX or n >= self.high_water:
            return False
        return self.stream.is_to_wait(self.seal_op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self) -> cython.int:
        """Encrypt queued bytes, unless the stream lets them wait for other connections."""
        n: cython.Py_ssize_t = self.records.queued
        if (
            self.stream is None
            or self.stream.waits == NO_WAIT
            or self.stream.ends_reply()
            or n >= BATCH_BYTES
            or n >= self.high_water
            or self.loop.closed
        ):
            self.flush()
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_waiting(self) -> cython.int:
        """Send what waits, because the caller would notice that it does."""
        if self.stream is not None and self.stream.waits:
            return self.flush()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drain(self) -> cython.int:
        """Called by drain(): send what waits, and treat the next write as the first of its turn."""
        if self.stream is not None:
            self.stream.wrote_in = 0
        return self.flush_waiting()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def mark_dirty(self) -> cython.int:
        """Have the loop call flush() at the end of the turn."""
        if not self.is_dirty and self.seal_op is not None:
            self.is_dirty = True
            self.loop.mark_dirty(self.seal_op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write_to_nobody(self) -> cython.int:
        """Drop data that is written to a closed connection. After some times, warn in the log."""
        if self.lost >= LOG_LOST_WRITES_FROM:
            log.logger.warning("SSL connection is closed")
        self.lost += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        """Encrypt queued bytes and send them, as long as the transport below takes them."""
        if self.sealing or (self.state != OPEN and self.state != FLUSHING):
            return 0
        if self.records.workspace.busy or self.catching_up:
            # Called from a callback of an SSLContext, or while close() delivers data.
            return self.mark_dirty()
        if self.stream is not None and self.stream.waits:
            self.stream.end_wait(self.seal_op)
        self.sealing = True
        self.stuck = False
        try:
            if self.records.queued == 0:
                self.send_outgoing()
            while self.records.queued and self.can_send():
                self.seal_batch()
        except Exception as exc:
            return self.fail(exc, "Fatal error on SSL protocol")
        finally:
            self.sealing = False
        if self.state == FLUSHING:
            return self.finish_writing()
        return self.maybe_resume()

    @cython.cfunc
    @cython.exceptval(check=False)
    def can_send(self) -> cython.bint:
        if self.stream is not None:
            return not (self.lower_paused or self.stuck or self.stream.lost)
        return not (self.lower_paused or self.stuck or self.lower is None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def seal_batch(self) -> cython.int:
        """Encrypt several records, and send them with one system call."""
        done: cython.Py_ssize_t = 0
        n: cython.Py_ssize_t
        records: Records = self.records
        while records.queued and done < BATCH_BYTES:
            n = records.encrypt_record()
            if n == 0:
                self.stuck = True
                break
            done += n
            self.put(records.take())
        return self.push()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_outgoing(self) -> cython.int:
        """Send OpenSSL's own messages."""
        if self.lower is None:
            return 0
        self.put(self.records.take())
        return self.push()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, sealed: bytes) -> cython.int:
        """Give encrypted data to the transport below. If that is not a stream, its write() may be the
        user's.
        """
        stream: StreamTransport = self.stream  # a call may set self.stream to None
        if stream is not None and stream.attributes is cython.NULL:
            return stream.put(sealed)
        if sealed and self.lower is not None:
            self.lower.write(sealed)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def push(self) -> cython.int:
        """Have the stream below send the records it was given."""
        stream: StreamTransport = self.stream
        if stream is not None:
            stream.flush()
            return stream.maybe_pause()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def set_limits(self, high, low) -> cython.int:
        high, low = sslproto.add_flowcontrol_defaults(
            high, low, constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE
        )
        self.high_water = whole_mark(high, True)  # a queue of just that size is too long
        self.low_water = whole_mark(low)
        self.flush()
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        n: cython.Py_ssize_t = self.records.queued
        if n >= self.high_water and n and not self.writing_paused:
            self.writing_paused = True
            return self.tell("pause_writing")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_resume(self) -> cython.int:
        if self.writing_paused and self.records.queued <= self.low_water:
            self.writing_paused = False
            return self.tell("resume_writing")
        return 0

    # ---- methods of the layer ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finish_writing(self) -> cython.int:
        """Called when everything was encrypted that OpenSSL takes before the shutdown."""
        raise NotImplementedError(type(self).__name__)
