"""The sending of datagrams: sendto() sends one at once, or the queue of letters.py leaves in batches.

The kernel gets a datagram when sendto() is called, unless others wait before it or it may wait for others. If
the kernel takes no more, the rest waits for the socket to be writable. Addresses that are no literals of the
socket's family (host names, paths) go through the Python socket, one datagram at a time, as in asyncio.
"""

from __future__ import annotations

import errno
import sys
from asyncio import constants, log

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.hoop._c.datagram import (
    HOOP_DATAGRAMS,
    hoop_audit_sendto,
    hoop_letter,
    hoop_send_batch,
)
from cython.cimports.hoop._c.linux import hoop_address
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.net.letters import Letters
from cython.cimports.hoop.net.outbox import as_bytes

EBADF = cython.declare(cython.int, errno.EBADF)
EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EINTR = cython.declare(cython.int, errno.EINTR)
# The shortest and the longest rest of an endpoint, in seconds: see rest().
SHORTEST_REST = cython.declare(cython.double, 0.001)
LONGEST_REST = cython.declare(cython.double, 0.1)
LOG_LOST_FROM = cython.declare(cython.uint, constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES)
SENDS_EMPTY = cython.declare(cython.bint, sys.version_info >= (3, 13))


@cython.final
@cython.cclass
class SendOp(Op):
    """Sends what the kernel did not take at once, when there is room."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        transport: DatagramSender = self.transport
        return 0 if transport is None else transport.on_writable()


@cython.cclass
class DatagramSender(Letters):
    """The half of a DatagramTransport that sends. The transport receives, and ends the endpoint."""

    def sendto(self, data, addr=None):
        """Send a datagram; if the kernel does not take it now, queue it.

        A mutable buffer is copied. Raises TypeError for what is no buffer of bytes, and ValueError for
        another address than the one that the endpoint was made for. An error of
        the kernel is told to the protocol's error_received.
        """
        if type(data) is not bytes:
            data = as_bytes(data, "bytes-like object")
        if not SENDS_EMPTY and not data:
            return
        if self.remote is not None:
            if addr is not None and addr != self.remote:
                raise ValueError(f"Invalid address: must be None or {self.remote}")
            addr = self.remote
        if self.lost and (self.remote is not None or self.fd < 0):
            if self.lost >= LOG_LOST_FROM:
                log.logger.warning("socket.send() raised exception.")
            self.lost += 1
            return
        if self.peers is cython.NULL:
            raise RuntimeError("the endpoint was not opened")
        if not self.outbox and not self.may_hold() and not self.waits_to_send():
            self.send(data, addr)
            return
        self.queue(data, addr)
        if not self.waits_to_send() and (not self.may_hold() or self.buffered > self.high_water):
            self.flush()
        self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send(self, data: bytes, address) -> cython.int:
        """Send the one datagram, with none before it."""
        letter: hoop_letter
        to: hoop_address
        n: cython.int
        if not self.has_peer and not self.find_address(address, cython.address(to)):
            self.queue(data, address)
            self.flush()
            return self.maybe_pause()
        if not self.has_peer and self.audit(address) < 0:
            return 0
        letter.data = PyBytes_AS_STRING(data)
        letter.length = PyBytes_GET_SIZE(data)
        letter.to = cython.NULL if self.has_peer else cython.address(to)
        self.loop.look_at = 0  # the receiver may be another transport of this loop
        n = -EBADF
        if not self.lent or not self.was_closed():
            n = hoop_send_batch(self.fd, cython.address(letter), 1)
        if n > 0:
            self.count_out(self.loop, letter.length)
            return 0
        if n != -EAGAIN and n != -EINTR:
            self.protocol.error_received(os_error(n))
            return 0
        self.queue(data, address)
        self.settle()
        return self.maybe_pause()

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def audit(self, address) -> cython.int:
        """Tell audit hooks what the socket module would. -1 if one of them objects, as it does to asyncio."""
        try:
            hoop_audit_sendto(self.sock, address)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.fail(exc, "Fatal write error on datagram transport")
            return -1
        return -1 if self.fd < 0 else 0

    # ---- the datagrams that wait ----

    @cython.cfunc
    @cython.exceptval(check=False)
    def waits_to_send(self) -> cython.bint:
        """Whether the kernel took no more the last time."""
        return is_armed(self.send_op) or self.send_timer is not None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        """Send what is queued, as far as the kernel takes it; wait for the rest."""
        letters: hoop_letter[HOOP_DATAGRAMS]
        i: cython.int
        n: cython.int
        if self.lent and self.was_closed():  # asyncio's socket says so to each
            while self.outbox:
                self.forget(1)
                self.tell("error_received", (os_error(-EBADF),))
            return self.settle()
        self.loop.look_at = 0
        while self.outbox and self.fd >= 0:
            n = self.gather(letters)
            if n > 0:
                n = hoop_send_batch(self.fd, letters, n)
                if n < 0 and n != -EAGAIN and n != -EINTR:
                    return self.refused(os_error(n))
                for i in range(n):
                    self.count_out(self.loop, letters[i].length)
                if n > 0:
                    self.forget(n)
            else:
                n = self.send_by_python()
            if n <= 0:
                break
        return self.settle()

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def send_by_python(self) -> cython.int:
        """Have the socket send the first datagram. Returns 1, or 0 if that cannot be sent, or -1 if it waits.

        The socket, the address and audit hooks may run anything: meanwhile the outbox is without it.
        """
        data: bytes = self.outbox[0]
        address = self.outbox[1]
        moved: cython.bint = self.moved
        self.forget(1)
        try:
            self.sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            if not self.lost:
                self.put_back(data, address)
            self.moved = moved
            return -1
        except OSError as exc:
            self.tell("error_received", (exc,))
            return 0
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.fail(exc, "Fatal write error on datagram transport")
            return 0
        self.count_out(self.loop, PyBytes_GET_SIZE(data))
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def refused(self, exc) -> cython.int:
        """The first datagram of the outbox cannot be sent: tell the protocol, and go on without it."""
        self.forget(1)
        try:
            return self.tell("error_received", (exc,))
        finally:
            self.settle()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def settle(self) -> cython.int:
        """After sending: wait until the kernel takes more, or be done."""
        if self.fd < 0 or self.loop.closed:
            return 0
        if self.outbox and not self.lost:
            if not self.waits_to_send():
                self.loop.driver.submit(self.send_op)
            return self.maybe_resume()
        self.end_waiting()
        self.maybe_resume()  # may queue more
        if self.closing and not self.outbox and not self.lost:
            return self.lose(None)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_waiting(self) -> cython.int:
        if self.send_timer is not None:
            self.send_timer.cancel()
            self.send_timer = None
        if is_armed(self.send_op) and not self.loop.closed:
            self.loop.driver.cancel(self.send_op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_writable(self) -> cython.int:
        """Send what waits. If the kernel says that it would take some and does not, ask it less often.

        A Unix socket that is not connected is writable, however full the receivers' queues are.
        """
        self.moved = False
        self.flush()
        if self.moved:
            self.send_rest = 0
        elif is_armed(self.send_op):
            self.loop.driver.cancel(self.send_op)
            self.send_rest = max(2 * self.send_rest, 1)
            self.send_timer = self.rest(self.send_rest, self._send_again)
        return 0

    def _send_again(self):
        self.send_timer = None
        if self.outbox and self.fd >= 0:
            self.on_writable()

    @cython.cfunc
    def rest(self, times: cython.double, then) -> object:
        """Call `then` after so many of the shortest rest, or after the longest."""
        seconds = min(times * SHORTEST_REST, LONGEST_REST)
        return self.loop.call_later(seconds, then, context=self.loop.wake_context)

    # ---- what the transport does ----

    @cython.cfunc
    @cython.exceptval(check=False)
    def may_hold(self) -> cython.bint:
        """Whether a datagram may wait for others."""
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lose(self, exc) -> cython.int:
        raise NotImplementedError(type(self).__name__)
