"""The way in through TLS: bytes from the transport below to OpenSSL, and plaintext to the application.

Receiver.on_readable -> on_bytes feeds record after record to OpenSSL -> protocol.data_received, once

While the application reads nothing, the transport below is paused too. The plaintext of a packet is decrypted
into memory that the loop's TLS connections share, or into a BufferedProtocol's own.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.hoop._c.python import exit_context, ref
from cython.cimports.hoop.net.endpoint import DECLINED, TAKEN, Layer
from cython.cimports.hoop.tls.outbox import ENDED, FLUSHING, HANDSHAKE, OPEN, SHUTDOWN, TlsOutbox
from cython.cimports.hoop.tls.records import PLAIN_BYTES, RECORD_BYTES, Records


@cython.cclass
class TlsInbox(TlsOutbox):
    """The half of a TlsLayer that receives. The layer begins and ends the connection."""

    # ---- from the transport below ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        if data == self.records.workspace.plain:
            return DECLINED  # TLS in TLS, which would decrypt into the memory that it reads from
        entered: cython.bint = self.enter()
        try:
            self.take_in(data, n)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            if self.stream is not None:
                self.stream.fail(exc, "Fatal error: protocol.buffer_updated() call failed.")
        finally:
            if entered:
                exit_context(ref(self.context))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_in(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """Feed what was received to OpenSSL, and deliver what it says."""
        done: cython.Py_ssize_t = 0
        total: cython.Py_ssize_t = 0
        records: Records = self.records
        if self.state == ENDED:
            return 0
        if records.workspace.busy:
            raise RuntimeError("TLS data cannot be received within a callback of an SSLContext")
        self.behind = False
        try:
            while done < n and self.state != ENDED:
                done += records.feed_record(data + done, n - done)
                if records.whole and self.get_buffer is None:
                    total = self.decrypt(total)
            if total:
                self.deliver(total)
        except Exception as exc:
            return self.fail(exc, "Fatal error on SSL protocol")
        return self.on_fed()

    @cython.cfunc
    @cython.exceptval(check=False)
    def may_deliver(self) -> cython.bint:
        return (
            (self.state == OPEN or self.catching_up)
            and not self.reading_paused
            and not self.notified
        )

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def decrypt(self, total: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Decrypt records behind the `total` bytes of plaintext there are. Returns the new total.

        When there is no room for another record, deliver the plaintext so far.
        """
        n: cython.Py_ssize_t
        records: Records = self.records
        while self.may_deliver():
            if total > PLAIN_BYTES - RECORD_BYTES:
                self.deliver(total)
                total = 0
                continue
            n = records.decrypt_record(records.workspace.plain + total, RECORD_BYTES)
            if n < 0:
                break
            if n == 0:
                self.notified = True
                break
            total += n
            if records.unread() == 0:
                break
        return total

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self, n: cython.Py_ssize_t) -> cython.int:
        """Give the application the first n bytes of plaintext."""
        plain: cython.p_char = self.records.workspace.plain
        layer: Layer = self.layer  # what it calls may put another in its place
        if self.protocol is None:  # a callback of the context has ended the connection
            return 0
        if layer is not None and layer.on_bytes(plain, n) == TAKEN:
            return 0
        data: bytes = PyBytes_FromStringAndSize(plain, n)
        if self.receive is None:
            raise AttributeError(f"{self.protocol!r} has no data_received()")
        self.receive(data)
        return 0

    # ---- as the application reads ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def decrypt_into_protocol(self) -> cython.bint:
        """Decrypt into a BufferedProtocol's own buffer. Whether that was filled: there may be more."""
        view: Py_buffer
        n: cython.Py_ssize_t = -1
        total: cython.Py_ssize_t = 0
        room: cython.Py_ssize_t
        records: Records = self.records
        protocol = self.protocol
        buffer = self.get_buffer(records.unread())
        if self.protocol is not protocol:  # another has taken its place, and is to be asked
            return self.protocol is not None
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        PyObject_GetBuffer(buffer, cython.address(view), PyBUF_WRITABLE)
        room = view.len
        try:
            if room == 0:  # whatever its len() says
                raise RuntimeError("get_buffer() returned an empty buffer")
            while total < room and self.may_deliver():
                n = records.decrypt_record(
                    cython.cast(cython.p_char, view.buf) + total, room - total
                )
                if n <= 0:
                    break
                total += n
                if total < room and records.unread() == 0:
                    break
        finally:
            PyBuffer_Release(cython.address(view))
        if n == 0:
            self.notified = True
        if total and self.buffer_updated is not None:
            self.buffer_updated(total)
        return total == room

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_on(self) -> cython.bint:
        """Deliver bytes that were received before. Returns whether more may be left for another turn."""
        total: cython.Py_ssize_t
        more: cython.bint = False
        try:
            if self.get_buffer is not None:
                more = self.may_deliver() and self.decrypt_into_protocol()
            else:
                total = self.decrypt(0)
                if total:
                    self.deliver(total)
        except Exception as exc:
            self.fail(exc, "Fatal error on SSL protocol")
            return False
        self.on_read()
        return more and self.may_deliver()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_on_later(self) -> cython.int:
        """Deliver bytes that were received before: what fills a buffer now, and the rest in later turns."""
        if self.read_on():
            self.loop.soon(self._read_on, (), self.context)
        return 0

    def _read_on(self):
        """A turn after resume_reading(), or after a BufferedProtocol's buffer was filled."""
        if self.state != OPEN or self.reading_paused:
            return
        if self.read_on():
            self.loop.soon(self._read_on, (), self.context)
        elif self.eof and self.state == OPEN and not self.reading_paused:
            self.read_to_the_end()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_fed(self) -> cython.int:
        """The BIO got more."""
        if self.catching_up:
            return 0
        if self.state == HANDSHAKE:
            return self.do_handshake()
        if self.state == SHUTDOWN:
            return self.do_shutdown()
        if self.state == FLUSHING:
            return self.flush()
        if self.state == OPEN:
            if self.get_buffer is None:
                return self.on_read()
            return self.read_on_later()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_read(self) -> cython.int:
        """OpenSSL has read what there was: it may have to answer, or be at the end."""
        if self.state != OPEN:
            return 0
        if self.notified:
            self.tell_eof()
            return self.start_shutdown()
        if not self.is_dirty and self.records.has_output():
            self.send_outgoing()
        if self.stuck:
            return self.flush()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_to_the_end(self) -> cython.int:
        """Deliver the rest and end, with no close_notify from the peer."""
        while self.read_on():
            pass
        if self.may_deliver():
            self.tell_eof()
        if self.may_deliver():
            self.closed = True
            self.state = FLUSHING
            self.limit_shutdown()
            return self.flush()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def pause_reading(self) -> cython.int:
        """The application wants no more; the transport below reads no more either."""
        if not self.reading_paused:
            self.reading_paused = True
            if self.lower is not None and self.state <= OPEN:
                self.behind = True
                self.lower.pause_reading()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def resume_reading(self) -> cython.int:
        """Read again. The loop delivers in its next turn the bytes that were received before."""
        if self.reading_paused:
            self.reading_paused = False
            if self.lower is not None and self.state <= OPEN:
                self.loop.soon(self._read_on, (), self.context)
                if not self.eof:
                    self.lower.resume_reading()
        return 0

    # ---- before the end ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def catch_up(self) -> cython.int:
        """Deliver what came before close(), as long as the application reads."""
        self.catching_up = True
        try:
            self.receive_now()
            if self.notified and self.state == FLUSHING:
                self.tell_eof()
        finally:
            self.catching_up = False
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_now(self) -> cython.int:
        """Deliver what there is. While the application did not read, the transport below did not either."""
        if self.behind and self.lower is not None and not self.reading_paused:
            receive = getattr(self.lower, "_receive_now", None)
            if receive is not None and not self.eof:
                receive()
        while self.read_on():
            pass
        return 0

    # ---- what the layer does ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def do_handshake(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_shutdown(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def do_shutdown(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def limit_shutdown(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)
