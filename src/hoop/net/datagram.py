"""The datagram transport: a UDP or Unix socket and its protocol, many datagrams in one system call.

In:   driver.poll -> ReceiveOp on the ready ring -> on_readable receives a batch -> datagram_received for the
      first, and a turn for each of the others (Delivery), behind the runnables that wait for theirs
Out:  sendto() sends (sender.py)

Answers to a batch may leave together. The loop holds those of datagram_received until the batch is delivered,
unless anything else is to run before, or the protocol is not always quick.

A batch grows while datagrams keep coming, and shrinks when they do not. To ask for a second one that is not
there costs a third of a receive. Behaviour follows asyncio's _SelectorDatagramTransport.
"""

from __future__ import annotations

import asyncio
import errno
import warnings
from asyncio import transports

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.cpython.mem import PyMem_Calloc
from cython.cimports.hoop._c.datagram import (
    HOOP_DATAGRAMS,
    hoop_drop_errors,
    hoop_inbox,
    hoop_receive_batch,
    hoop_received,
    hoop_received_bytes,
)
from cython.cimports.hoop._c.linux import AF_INET, AF_INET6, hoop_tick
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    PyContext_CopyCurrent,
    PyContext_Enter,
    PyContext_Exit,
    Ref,
    call_two_quiet,
    hoop_forbid_new,
    hoop_take_exception,
    ref,
)
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import CANCELLING, READABLE, WRITABLE, Op
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.net.endpoint import Endpoint
from cython.cimports.hoop.net.letters import PEERS, Peer
from cython.cimports.hoop.net.sender import DatagramSender, SendOp, is_armed
from cython.cimports.hoop.scheduling.base import LoopBase

EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EINTR = cython.declare(cython.int, errno.EINTR)
LONGEST = cython.declare(cython.Py_ssize_t, 256 * 1024)  # what asyncio asks a Unix socket for
GROW_AFTER = cython.declare(cython.int, 4)  # full receives in a row, before more are asked for
# A protocol is quick when this many calls in a row took no tick of the coarse clock, which is 1 to 4 ms.
QUICK_CALLS = cython.declare(cython.uint, 16)
# News without anything to receive, before the endpoint rests.
EMPTY_MAX = cython.declare(cython.uint, 4)

# The class that isinstance() sees. As asyncio's own, it is a Transport besides.
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
        transport: DatagramTransport = self.transport  # a callback may set self.transport to None
        return 0 if transport is None else transport.on_readable()

    @cython.cfunc
    def calls(self) -> object:
        return None if self.transport is None else self.transport.datagram_received


@cython.final
@cython.cclass
class Delivery(Runnable):
    """The turn of the next datagram of a batch."""

    def __cinit__(self):
        self.is_delivery = True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        transport: DatagramTransport = self.transport
        self.waits = False
        return 0 if transport is None else transport.deliver()

    @cython.cfunc
    def calls(self) -> object:
        return None if self.transport is None else self.transport.datagram_received


@cython.cclass
class DatagramTransport(DatagramSender):
    """A datagram endpoint. See asyncio.DatagramTransport."""

    @property
    def __class__(self):
        return _asyncio_transport

    def __cinit__(self):
        self.batch = 1
        self.inbox = []

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
        self.delivery = Delivery.__new__(Delivery)
        self.delivery.transport = self
        self.context = PyContext_CopyCurrent()
        self.own(fd, sock, extra)
        self.remote = remote or None
        self.has_peer = bool(self.known("peername", None))
        self.peers = cython.cast(cython.pointer[Peer], PyMem_Calloc(PEERS, cython.sizeof(Peer)))
        if self.peers is cython.NULL:
            raise MemoryError
        self.set_protocol(protocol)
        loop.transports[fd] = self
        self.born = self.active = loop.stamp
        return 0

    def _statistics(self):
        """See Endpoint._statistics()."""
        found = Endpoint._statistics(self)
        found["buffered"] = self.buffered
        found["reading_paused"] = self.reading_paused
        found["writing_paused"] = self.writing_paused
        found["closing"] = self.closing
        found["protocol"] = self.protocol
        found["context"] = self.context
        found["server"] = None
        return found

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
        self.delivery.transport = None

    def set_protocol(self, protocol):
        """Give the endpoint to another protocol."""
        self.protocol = protocol
        self.datagram_received = getattr(protocol, "datagram_received", None)

    def get_protocol(self):
        """The protocol; None once the transport is closed."""
        return self.protocol

    def _begin(self, waiter):
        """Call connection_made, start reading, wake the waiter: asyncio does it in three callbacks."""
        self.connected = True
        try:
            self.tell("connection_made", (self,))
            if self.loop.debug:
                self.loop.lap(getattr(self.protocol, "connection_made", None))
            if not self.closing and not self.reading_paused:
                self.start_reading()
        finally:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    # ---- receiving ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_reading(self) -> cython.int:
        if self.fd < 0 or self.loop.closed:
            return 0
        if self.delivered < len(self.inbox):
            return self.queue_delivery()
        if not is_armed(self.receive_op) and self.read_timer is None:
            self.loop.driver.submit(self.receive_op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_reading(self) -> cython.int:
        if self.read_timer is not None:
            self.read_timer.cancel()
            self.read_timer = None
        if is_armed(self.receive_op) and not self.loop.closed:
            self.loop.driver.cancel(self.receive_op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue_delivery(self) -> cython.int:
        """Give the next datagram of the batch a turn."""
        if self.delivery.waits:
            return 0
        if self.loop.driver.announces and is_armed(self.receive_op):
            self.loop.driver.cancel(self.receive_op)  # it would ask the kernel again in each turn
        self.delivery.waits = True
        return self.loop.push(self.delivery)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_readable(self) -> cython.int:
        if self.lost or self.delivered < len(self.inbox):
            return 0
        if self.family == AF_INET or self.family == AF_INET6:
            self.receive()
        else:
            self.receive_one()
        if not self.inbox:
            return 0
        self.empty = 0
        if self.turn == self.loop.turns:  # the last of the batch before was in this very turn
            return self.queue_delivery()
        return self.deliver()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def found_nothing(self) -> cython.int:
        """The kernel told of something, and there is nothing to receive: then it will tell again.

        It may be the socket's queue of errors (IP_RECVERR). If it is not, look less often.
        """
        if self.family == AF_INET or self.family == AF_INET6:
            hoop_drop_errors(self.fd)
        self.empty += 1
        if self.empty > EMPTY_MAX and is_armed(self.receive_op):
            self.loop.driver.cancel(self.receive_op)
            self.read_timer = self.rest(1 << min(self.empty - EMPTY_MAX, 8), self._read_again)
        return 0

    def _read_again(self):
        self.read_timer = None
        if not self.closing and not self.reading_paused:
            self.start_reading()

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
            if n == -EAGAIN:
                return self.found_nothing()
            if n != -EINTR:
                self.tell("error_received", (os_error(n),))
            return 0
        for i in range(n):
            self.count_in(self.loop, hoop_received_bytes(box, i))
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
        except BlockingIOError:
            return self.found_nothing()
        except InterruptedError:
            return 0
        except OSError as exc:
            return self.tell("error_received", (exc,))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            return self.fail(exc, "Fatal read error on datagram transport")
        if not self.lost:  # a socket of another class may have called abort()
            self.count_in(self.loop, len(data))
            self.inbox.append(data)
            self.inbox.append(address)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        """Hand the next datagram to the protocol, in the endpoint's context."""
        result: Ref
        context: Ref = ref(self.context)
        if self.delivered >= len(self.inbox) or self.closing or self.reading_paused:
            return 0
        if PyContext_Enter(context) < 0:
            return -1
        data = self.inbox[self.delivered]
        address = self.inbox[self.delivered + 1]
        callback = self.datagram_received
        self.delivered += 2
        self.turn = self.loop.turns
        self.delivering = True
        result = call_two_quiet(ref(callback), ref(data), ref(address))
        self.delivering = False
        failed = None
        if result is cython.NULL:
            failed = hoop_take_exception()
        else:
            Py_DECREF(result)
        if PyContext_Exit(context) < 0:
            failed = hoop_take_exception()
        self.go_on(failed is None)
        return 0 if failed is None else self.report(failed, "datagram_received")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, may_hold: cython.bint) -> cython.int:
        """Called after a delivery: queue the next one, and send the answers before other code runs."""
        tick: cython.longlong = hoop_tick()
        loop: LoopBase = self.loop
        next_is_ours: cython.bint = False
        if tick == self.tick:
            self.quick_calls += 1
        else:
            self.tick = tick
            self.quick_calls = 0
        if self.closing or self.delivered >= len(self.inbox):
            del self.inbox[:]
            self.delivered = 0
            if not self.closing and not self.reading_paused:
                self.start_reading()
        elif not self.reading_paused:
            self.queue_delivery()
            next_is_ours = loop.tail - loop.head == 1 and loop.thread != 0 and not loop.stopping
        if may_hold and next_is_ours and self.quick_calls != 0:
            return 0
        return self.send_held()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        return self.flush() if self.outbox and not self.waits_to_send() else 0

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

    @cython.cfunc
    @cython.exceptval(check=False)
    def may_hold(self) -> cython.bint:
        """Whether an answer may wait for others: the rest of the batch comes next, and always came soon."""
        return (
            self.delivering
            and not self.is_shared()
            and self.quick_calls >= QUICK_CALLS
            and self.delivered < len(self.inbox)
            and len(self.outbox) < 2 * HOOP_DATAGRAMS
        )

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def report(self, exc, method: str) -> cython.int:
        """The protocol raised. The transport lives on, as asyncio's does."""
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
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
        if not self.outbox:
            self.lose(None)
        self.send_held()

    def abort(self):
        """Close at once. Datagrams that were not sent are dropped."""
        self._force_close(None)

    def _force_close(self, exc):
        if exc is None:
            self.send_held()
        if self.lost:
            return
        self.outbox.clear()
        self.buffered = 0
        self.end_waiting()
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
        protocol = self.protocol
        try:
            if protocol is not None:
                protocol.connection_lost(exc)
        finally:
            if self.loop.debug:
                self.loop.lap(getattr(protocol, "connection_lost", None))
            self.release()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def release(self) -> cython.int:
        """Close the socket and let go of everything."""
        fd: cython.int = self.fd
        if fd < 0:
            return 0
        if self.delivery is None:  # attach() got no memory for it
            return self.disown()
        self.stop_reading()
        self.end_waiting()
        if not self.loop.closed:
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
        self.delivery.transport = None
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
            reads = is_armed(self.receive_op) or self.delivery.waits or self.read_timer is not None
            info.append("read=polling" if reads else "read=idle")
            state = "polling" if self.waits_to_send() else "idle"
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


def open_datagram(
    loop: LoopBase, sock, protocol, address=None, waiter=None, extra=None, lent: cython.bint = False
):
    """Make the transport of a socket, as asyncio's _make_datagram_transport does.

    Its protocol's connection_made is called in a later turn. A `lent` socket is one that its owner may close.
    """
    transport: DatagramTransport = DatagramTransport.__new__(DatagramTransport)
    try:
        transport.attach(loop, sock, protocol, address, extra)
        transport.lent = transport.receive_op.foreign = transport.send_op.foreign = lent
        # _begin() enters the endpoint's context itself.
        loop.soon(transport._begin, (waiter,), loop.wake_context)
    except BaseException:
        transport.release()  # it is the owner of the socket already
        raise
    return transport


hoop_forbid_new(DatagramTransport)
