"""The datagram transport: a UDP or Unix socket and its protocol, many datagrams in one system call.

In:   driver.poll -> ReceiveOp on the ready ring -> on_readable receives a batch -> datagram_received for each
Out:  sendto() only queues -> SendOp on the loop's dirty list -> one sendmmsg before the loop sleeps

A batch grows while datagrams keep coming and shrinks when they do not: asking for a second one that is
not there costs a third of a receive. Addresses that are no literals of the socket's family (host names,
paths) go through the Python socket, one datagram at a time, as in asyncio.
Behaviour follows asyncio's _SelectorDatagramTransport.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import warnings
from asyncio import constants, log, transports

import cython
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.cpython.mem import PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cython.cimports.hoop._core.base import LoopBase
from cython.cimports.hoop._core.c.datagram import (
    HOOP_DATAGRAMS,
    hoop_inbox,
    hoop_letter,
    hoop_parse_address,
    hoop_port,
    hoop_receive_batch,
    hoop_received,
    hoop_received_bytes,
    hoop_same_address,
    hoop_send_batch,
    hoop_tuple_port,
)
from cython.cimports.hoop._core.c.linux import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    hoop_address,
    hoop_address_family,
    hoop_address_tuple,
)
from cython.cimports.hoop._core.c.python import (
    Py_DECREF,
    Py_XDECREF,
    PyContext_CopyCurrent,
    PyContext_Enter,
    PyContext_Exit,
    PyErr_Clear,
    PyList_GET_ITEM,
    Ref,
    call_two_quiet,
    hoop_take_exception,
    own,
    ref,
)
from cython.cimports.hoop._core.errors import os_error
from cython.cimports.hoop._core.op import ARMED, CANCELLING, READABLE, READY, WRITABLE, Op
from cython.cimports.hoop._core.outbox import as_bytes
from cython.cimports.libc.string import memmove, memset

EBADF = cython.declare(cython.int, errno.EBADF)
EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EINTR = cython.declare(cython.int, errno.EINTR)
HIGH_WATER = cython.declare(cython.Py_ssize_t, 64 * 1024)
LOW_WATER = cython.declare(cython.Py_ssize_t, 16 * 1024)
LONGEST = cython.declare(cython.Py_ssize_t, 256 * 1024)  # what asyncio asks a Unix socket for
GROW_AFTER = cython.declare(cython.int, 4)  # full receives in a row, before more are asked for
LOG_LOST_FROM = cython.declare(cython.uint, constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES)
# Python 3.13 sends empty datagrams, and counts a header for each one that waits.
SENDS_EMPTY = cython.declare(cython.bint, sys.version_info >= (3, 13))
HEADER = cython.declare(cython.Py_ssize_t, 8 if sys.version_info >= (3, 13) else 0)

# What isinstance() sees: as asyncio's own, it is a Transport besides.
_asyncio_transport = cython.declare(
    object,
    type(
        "DatagramTransport",
        (transports._FlowControlMixin, asyncio.DatagramTransport, asyncio.Transport),
        {},
    ),
)


@cython.final
@cython.cclass
class ReceiveOp(Op):
    """Receives for a datagram transport for as long as it reads."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        return self.transport.on_readable()


@cython.final
@cython.cclass
class SendOp(Op):
    """Sends what a datagram transport has queued: at the end of the turn, or when there is room."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        return self.transport.flush()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        return 0 if self.transport is None else self.transport.flush()


@cython.cclass
class DatagramTransport(Endpoint):
    """A datagram endpoint. See asyncio.DatagramTransport."""

    @property
    def __class__(self):
        return _asyncio_transport

    def __cinit__(self):
        self.high_water = HIGH_WATER
        self.low_water = LOW_WATER
        self.batch = 1
        self.inbox = []
        self.outbox = []

    def __dealloc__(self):
        i: cython.int
        if self.peers is not cython.NULL:
            for i in range(PEERS):
                Py_XDECREF(self.peers[i].text)
        PyMem_Free(self.peers)
        PyMem_Free(self.addresses)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attach(self, loop: LoopBase, sock, protocol, remote, extra) -> cython.int:
        """Take over a non-blocking socket."""
        fd: cython.int = sock.fileno()
        self.loop = loop
        self.fd = fd
        self.sock = sock
        self.receive_op = ReceiveOp.__new__(ReceiveOp)
        self.receive_op.fd = fd
        self.receive_op.interest = READABLE
        self.receive_op.transport = self
        self.send_op = SendOp.__new__(SendOp)
        self.send_op.fd = fd
        self.send_op.interest = WRITABLE
        self.send_op.transport = self
        self.context = PyContext_CopyCurrent()
        self.own(fd, sock, extra)
        self.remote = remote or None
        self.has_peer = bool(self.get_extra_info("peername"))
        self.peers = cython.cast(cython.pointer[Peer], PyMem_Calloc(PEERS, cython.sizeof(Peer)))
        if self.peers is cython.NULL:
            raise MemoryError
        self.set_protocol(protocol)
        loop.transports[fd] = self
        return 0

    def __del__(self):
        if self.fd >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self.release()

    def _let_go(self):
        """The loop was closed: be freed as soon as nobody else keeps this."""
        self.receive_op.transport = None
        self.send_op.transport = None

    def set_protocol(self, protocol):
        """Give the endpoint to another protocol."""
        self.protocol = protocol
        self.datagram_received = getattr(protocol, "datagram_received", None)

    def get_protocol(self):
        """The protocol; None once the transport is closed."""
        return self.protocol

    def _begin(self, waiter):
        """What asyncio does in three callbacks: connection_made, start reading, wake the waiter."""
        self.connected = True
        try:
            self.tell("connection_made", (self,))
            if not self.closing and not self.reading_paused:
                self.start_reading()
        finally:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    # ---- receiving ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_reading(self) -> cython.int:
        if not is_armed(self.receive_op) and self.fd >= 0 and not self.loop.closed:
            self.loop.driver.submit(self.receive_op)
            if self.delivered < len(self.inbox):
                self.loop.soon(self._deliver_rest, (), self.loop.wake_context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_reading(self) -> cython.int:
        if is_armed(self.receive_op) and not self.loop.closed:
            self.loop.driver.cancel(self.receive_op)
        return 0

    def _deliver_rest(self):
        if not self.reading_paused:
            self.deliver()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_readable(self) -> cython.int:
        if self.lost:
            return 0
        if self.delivered == len(
            self.inbox
        ):  # else an interrupt or a pause cut the last batch short
            if self.family == AF_INET or self.family == AF_INET6:
                self.receive()
            else:
                self.receive_one()
        return self.deliver()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive(self) -> cython.int:
        """Receive a batch into the inbox."""
        box: cython.pointer[hoop_inbox] = cython.cast(
            cython.pointer[hoop_inbox], self.loop.datagram_buffer(cython.sizeof(hoop_inbox))
        )
        asked: cython.int = self.batch
        i: cython.int
        n: cython.int = hoop_receive_batch(self.fd, box, asked)
        if n < 0:
            self.batch = 1
            if n != -EAGAIN and n != -EINTR:
                self.tell("error_received", (os_error(n),))
            return 0
        for i in range(n):
            self.inbox.append(
                PyBytes_FromStringAndSize(hoop_received(box, i), hoop_received_bytes(box, i))
            )
            self.inbox.append(self.sender(cython.address(box.senders[i])))
        if n < asked:
            self.batch = n
            self.full = 0
        else:
            self.full += 1
            if asked > 1 or self.full >= GROW_AFTER:
                self.batch = min(asked * 4, HOOP_DATAGRAMS)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def receive_one(self) -> cython.int:
        """Receive a datagram whose sender only the socket module can name."""
        try:
            data, address = self.sock.recvfrom(LONGEST)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            return self.tell("error_received", (exc,))
        self.inbox.append(data)
        self.inbox.append(address)
        return 0

    @cython.cfunc
    def sender(self, address: cython.pointer[hoop_address]) -> object:
        """An address as the socket module has it: the same tuple for the same sender, if it can be had."""
        place: cython.pointer[Peer] = cython.address(self.peers[hoop_port(address) & (PEERS - 1)])
        if place.text is not cython.NULL and hoop_same_address(
            cython.address(place.address), address
        ):
            return cython.cast(object, place.text)
        text = hoop_address_tuple(address)
        if text is not None:
            Py_XDECREF(place.text)
            place.text = own(text)
            place.address = address[0]
        return text

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        """Hand the inbox to the protocol, in the endpoint's context."""
        result: Ref
        context: Ref
        while self.delivered < len(self.inbox) and not self.closing and not self.reading_paused:
            context = ref(self.context)
            if PyContext_Enter(context) < 0:
                return -1
            data = self.inbox[self.delivered]
            address = self.inbox[self.delivered + 1]
            self.delivered += 2
            result = call_two_quiet(ref(self.datagram_received), ref(data), ref(address))
            PyContext_Exit(context)
            if result is cython.NULL:
                self.report(hoop_take_exception(), "datagram_received")
            else:
                Py_DECREF(result)
        if self.delivered == len(self.inbox) or self.closing:
            self.inbox.clear()
            self.delivered = 0
        return 0

    def is_reading(self):
        """Whether the transport is receiving."""
        return not self.closing and not self.reading_paused

    def pause_reading(self):
        """Stop calling datagram_received until resume_reading()."""
        if not self.closing and not self.reading_paused:
            self.reading_paused = True
            self.stop_reading()

    def resume_reading(self):
        """Undo pause_reading()."""
        if not self.closing and self.reading_paused:
            self.reading_paused = False
            self.start_reading()

    # ---- sending ----

    def sendto(self, data, addr=None):
        """Queue a datagram. It leaves at the end of this turn of the loop, if the kernel takes it.

        A mutable buffer is copied. Raises TypeError for what is no buffer of bytes, and ValueError for
        another address than the one that the endpoint was made for. What the kernel says against it is
        told to the protocol's error_received.
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
        self.queue(data, addr)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue(self, data: bytes, address) -> cython.int:
        count: cython.Py_ssize_t = len(self.outbox) // 2
        if count == self.room:
            room: cython.Py_ssize_t = self.room * 2 or 8
            grown = cython.cast(
                cython.pointer[hoop_address],
                PyMem_Realloc(self.addresses, room * cython.sizeof(hoop_address)),
            )
            if grown is cython.NULL:
                raise MemoryError
            self.addresses = grown
            self.room = room
        literal: cython.bint = self.has_peer or self.find_address(
            address, cython.address(self.addresses[count])
        )
        self.outbox.append(data)
        self.outbox.append(address)
        self.buffered += PyBytes_GET_SIZE(data) + HEADER
        if not literal or self.lost or self.loop.closed:
            # What the socket module has to say about the address, it says now.
            if not is_armed(self.send_op):
                self.flush()
            if self.lost:
                self.outbox.clear()
            return self.maybe_pause()
        if not self.is_dirty and not is_armed(self.send_op):
            self.is_dirty = True
            self.loop.mark_dirty(self.send_op)
        if self.buffered > self.high_water:
            if not is_armed(self.send_op):
                self.flush()
            self.maybe_pause()
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def find_address(self, text, found: cython.pointer[hoop_address]) -> cython.bint:
        """The kernel's form of an address. False, and AF_UNSPEC, if only the socket module can tell."""
        place: cython.pointer[Peer] = cython.address(
            self.peers[hoop_tuple_port(text) & (PEERS - 1)]
        )
        if place.text == ref(text):  # the very tuple that came with a datagram
            found[0] = place.address
            return True
        if hoop_parse_address(self.family, text, found):
            return True
        memset(found, 0, cython.sizeof(hoop_address))
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        """Send what is queued, as far as the kernel takes it; wait for the rest."""
        letters: hoop_letter[HOOP_DATAGRAMS]
        n: cython.int
        self.is_dirty = False
        if self.lent and self.was_closed():
            return self.fail(os_error(-EBADF), "Fatal write error on datagram transport")
        self.loop.look_at = 0
        while self.outbox and self.fd >= 0:
            n = self.gather(letters)
            if n > 0:
                n = hoop_send_batch(self.fd, letters, n)
                if n < 0 and n != -EAGAIN and n != -EINTR:
                    return self.refused(os_error(n))
            else:
                try:
                    self.sock.sendto(self.outbox[0], self.outbox[1])
                    n = 1
                except (BlockingIOError, InterruptedError):
                    n = -EAGAIN
                except OSError as exc:
                    return self.refused(exc)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as exc:
                    return self.fail(exc, "Fatal write error on datagram transport")
            if n < 0:
                break
            self.forget(n)
        return self.settle()

    @cython.cfunc
    @cython.exceptval(check=False)
    def gather(self, letters: cython.pointer[hoop_letter]) -> cython.int:
        """The datagrams that can leave together. 0 if the first one has to go by Python."""
        count: cython.Py_ssize_t = min(len(self.outbox) // 2, HOOP_DATAGRAMS)
        i: cython.Py_ssize_t
        data: Ref
        for i in range(count):
            if (
                not self.has_peer
                and hoop_address_family(cython.address(self.addresses[i])) == AF_UNSPEC
            ):
                return i
            data = PyList_GET_ITEM(self.outbox, 2 * i)
            letters[i].data = PyBytes_AS_STRING(cython.cast(object, data))
            letters[i].length = PyBytes_GET_SIZE(cython.cast(object, data))
            letters[i].to = cython.NULL if self.has_peer else cython.address(self.addresses[i])
        return count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget(self, n: cython.Py_ssize_t) -> cython.int:
        """Take the first n datagrams out of the outbox."""
        i: cython.Py_ssize_t
        for i in range(n):
            self.buffered -= len(self.outbox[2 * i]) + HEADER
        del self.outbox[: 2 * n]
        memmove(
            self.addresses,
            self.addresses + n,
            len(self.outbox) // 2 * cython.sizeof(hoop_address),
        )
        return 0

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
            if not is_armed(self.send_op):
                self.loop.driver.submit(self.send_op)
            return self.maybe_resume()
        if is_armed(self.send_op):
            self.loop.driver.cancel(self.send_op)
        self.maybe_resume()  # may queue more
        if self.closing and not self.outbox and not self.lost:
            return self.lose(None)
        return 0

    # ---- flow control ----

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_water = high
        self.low_water = low
        self.maybe_pause()

    def get_write_buffer_limits(self):
        """The (low, high) water marks in bytes."""
        return (self.low_water, self.high_water)

    def get_write_buffer_size(self):
        """How many bytes wait to be sent."""
        return self.buffered

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        if self.buffered > self.high_water and not self.writing_paused:
            self.writing_paused = True
            return self.tell("pause_writing", ())
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_resume(self) -> cython.int:
        if self.writing_paused and self.buffered <= self.low_water:
            self.writing_paused = False
            return self.tell("resume_writing", ())
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, method: str, args: tuple) -> cython.int:
        """Call a method of the protocol: in our context, unless the caller is in it already."""
        context: Ref = ref(self.context)
        entered: cython.bint = PyContext_Enter(context) == 0
        if not entered:
            PyErr_Clear()
        try:
            getattr(self.protocol, method)(*args)
        except BaseException as exc:
            self.report(exc, method)
        finally:
            if entered:
                PyContext_Exit(context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def report(self, exc, method: str) -> cython.int:
        """The protocol raised. The transport lives on, as asyncio's does."""
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            if self.delivered < len(self.inbox):
                self.loop.soon(self._deliver_rest, (), self.loop.wake_context)
            raise exc
        self.loop.call_exception_handler(
            {
                "message": f"Exception in callback protocol.{method}()",
                "exception": exc,
                "transport": self,
                "protocol": self.protocol,
            }
        )
        return 0

    # ---- closing ----

    def is_closing(self):
        """Whether the transport is closing or closed."""
        return self.closing

    def close(self):
        """Send what was queued, then close. connection_lost(None) is called when that is done."""
        if self.closing:
            return
        self.closing = True
        self.stop_reading()
        if self.outbox and not is_armed(self.send_op):
            self.flush()
        elif not self.outbox:
            self.lose(None)

    def abort(self):
        """Close at once. What was not sent is dropped."""
        self._force_close(None)

    def _force_close(self, exc):
        if self.lost:
            return
        self.outbox.clear()
        self.buffered = 0
        if not self.loop.closed:
            self.loop.driver.cancel(self.send_op)
        if not self.closing:
            self.closing = True
            self.stop_reading()
        self.lose(exc)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, exc, message: str) -> cython.int:
        """The endpoint cannot go on."""
        self.loop.call_exception_handler(
            {"message": message, "exception": exc, "transport": self, "protocol": self.protocol}
        )
        self._force_close(exc)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lose(self, exc) -> cython.int:
        """Schedule connection_lost."""
        self.lost += 1
        self.loop.check_open()
        self.loop.soon(self._connection_lost, (exc,), self.context)
        return 0

    def _connection_lost(self, exc):
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(exc)
        finally:
            self.release()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def release(self) -> cython.int:
        """Close the socket and let go of everything."""
        fd: cython.int = self.fd
        if fd < 0:
            return 0
        if not self.loop.closed:
            self.loop.driver.cancel(self.receive_op)
            self.loop.driver.cancel(self.send_op)
            if self.in_kernel():
                self.loop.driver.poll(self.loop, 0)
            if self.in_kernel():
                self.loop.soon(self._release_later, (), self.loop.wake_context)
                return 0
            if self.loop.transports.get(fd) is self:
                del self.loop.transports[fd]
        self.closing = True
        self.receive_op.enter_dead()
        self.send_op.enter_dead()
        self.receive_op.transport = None
        self.send_op.transport = None
        self.inbox.clear()
        self.outbox.clear()
        self.delivered = self.buffered = 0
        self.protocol = self.datagram_received = None
        return self.disown()

    @cython.cfunc
    @cython.exceptval(check=False)
    def in_kernel(self) -> cython.bint:
        """Whether the kernel has not let go of a cancelled op yet."""
        return self.receive_op.phase == CANCELLING or self.send_op.phase == CANCELLING

    def _release_later(self):
        self.release()

    # ---- asking ----

    def __repr__(self):
        info = [type(self).__name__]
        if self.fd < 0:
            info.append("closed")
        else:
            if self.closing:
                info.append("closing")
            info.append(f"fd={self.fd}")
            info.append("read=polling" if is_armed(self.receive_op) else "read=idle")
            state = "polling" if is_armed(self.send_op) else "idle"
            info.append(f"write=<{state}, bufsize={self.buffered}>")
        return f"<{' '.join(info)}>"

    # ---- the names that asyncio's own code and programs read ----

    @property
    def _loop(self):
        return self.loop

    @property
    def _closing(self):
        return self.closing

    @property
    def _conn_lost(self):
        return self.lost

    @property
    def _paused(self):
        return self.reading_paused

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _address(self):
        return self.remote


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_armed(op: Op) -> cython.bint:
    return op.phase == ARMED or op.phase == READY


def open_datagram(
    loop: LoopBase,
    sock,
    protocol,
    address=None,
    waiter=None,
    extra=None,
    lent: cython.bint = False,
):
    """What asyncio's _make_datagram_transport makes: connection_made is called in a later turn.

    `lent`: the socket is somebody's who may close it.
    """
    transport: DatagramTransport = DatagramTransport.__new__(DatagramTransport)
    try:
        transport.attach(loop, sock, protocol, address, extra)
    except BaseException:
        transport.release()  # it is the owner of the socket already
        raise
    transport.lent = transport.receive_op.foreign = transport.send_op.foreign = lent
    # _begin() enters the endpoint's context itself.
    loop.soon(transport._begin, (waiter,), loop.wake_context)
    return transport
