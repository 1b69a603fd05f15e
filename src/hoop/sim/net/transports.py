"""The transports and servers of a world: small messages need no system call, and some calls fail.

Each message of a connection goes through the kernel twice, which takes most of the time that the network of a
simulation takes. But a small one need not, if the kernel has nothing of that connection:

    kept        a transport has sent it, and the kernel would have taken all of it: the world takes it
    handed      it has arrived for an op for which the driver receives: the driver completes the op

All other messages go through the kernel. If it gets more of a connection, or its end, that comes later.

A transport sends by itself, and a server accepts by itself, with each driver. So they get the C methods of
the classes below. These first ask the world whether the call fails, and whether it keeps a message. The rest
is hoop's own.
"""

from __future__ import annotations

import _socket
import errno

import cython
from cython.cimports.cpython.bytes import PyBytes_GET_SIZE
from cython.cimports.hoop._c.linux import hoop_sockopt
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop._c.swap import hoop_adopt_methods, hoop_has_methods, hoop_inode
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.net.datagram import DatagramTransport, ReceiveOp
from cython.cimports.hoop.net.listener import AcceptOp
from cython.cimports.hoop.net.outbox import Outbox
from cython.cimports.hoop.net.receiver import RecvOp
from cython.cimports.hoop.net.sender import DatagramSender
from cython.cimports.hoop.net.stream import StreamTransport
from cython.cimports.hoop.scheduling.attributes import Attributed

EPIPE = cython.declare(cython.Py_ssize_t, errno.EPIPE)
SO_ERROR = cython.declare(cython.int, _socket.SO_ERROR)

# Wires of the world that runs, by the descriptor of the program's socket.
wires = cython.declare(dict, {})
failures = cython.declare(object, None)  # those of the world that runs


# ---- small messages ----------------------------------------------------------------------------------


@cython.cclass
class Wire:
    """A socket of the program's that is connected in the world."""

    @cython.cfunc
    @cython.exceptval(check=False)
    def keep(self, chunk: bytes) -> cython.bint:
        """Keep what the program sends, if the kernel would take all of it and has nothing before it."""
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spill_kept(self) -> cython.int:
        """Let the kernel have what was kept, because more follows."""
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spill_handed(self) -> cython.int:
        """Let the kernel have what was handed over, because the op does not take it now."""
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def note_wire(fd: cython.int, wire: Wire) -> cython.int:
    """The program has a connected socket with this descriptor."""
    wires[fd] = wire
    return 0


@cython.cfunc
def wire_at(fd: cython.int) -> Wire:
    """The wire that a transport has claimed with this descriptor, or None."""
    wire: Wire = wires.get(fd)
    return wire if wire is not None and wire.claimed else None


@cython.cfunc
@cython.exceptval(-1, check=False)
def claim(fd: cython.int) -> cython.bint:
    """A transport begins to read. Whether the socket is a wire whose transport has not done so before.

    The number of its descriptor may have been that of another file before.
    """
    wire: Wire = wires.get(fd)
    if wire is None:
        return False
    if wire.ino != hoop_inode(fd):
        del wires[fd]
        return False
    if wire.claimed:
        return False
    wire.claimed = True
    return True


@cython.cfunc
@cython.exceptval(check=False)
def keep(fd: cython.int, chunk: bytes) -> cython.bint:
    """Whether the world keeps what a transport sends. If not, the kernel has all that was kept before."""
    wire: Wire = wire_at(fd)
    if wire is None:
        return False
    if chunk is not None and wire.keep(chunk):
        return True
    wire.spill_kept()
    return False


# ---- calls that fail ---------------------------------------------------------------------------------


def begin(these) -> None:
    """A world begins: a Failures decides which calls fail. With None no calls do, or the world has ended."""
    global failures, some_fail
    failures = these
    some_fail = these is not None
    wires.clear()


@cython.cfunc
@cython.exceptval(-1, check=False)
def error_of_send(fd: cython.int) -> cython.int:
    """The errno with which a send on a descriptor fails; 0 if it does not."""
    return failures.of_send(fd) if some_fail else 0


@cython.cclass
class SimStream(StreamTransport):
    """A stream transport, some of whose sends fail. Others need no system call."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_now(self, chunk: bytes) -> cython.int:
        error: cython.int = error_of_send(self.fd)
        if error:
            return self.send_failed(-error)
        if not (self.lent and self.was_closed()) and keep(self.fd, chunk):
            self.loop.look_at = 0
            self.unanswered = False
            self.activity += 1
            self.count_out(self.loop, PyBytes_GET_SIZE(chunk))
            return 0
        return StreamTransport.send_now(self, chunk)

    @cython.cfunc
    @cython.exceptval(check=False)
    def send_some(self) -> cython.Py_ssize_t:
        error: cython.int = error_of_send(self.fd)
        if error:
            return -error
        if keep(self.fd, self.head if self.rest is None and self.head_offset == 0 else None):
            self.loop.look_at = 0
            return PyBytes_GET_SIZE(self.head)
        return Outbox.send_some(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_failed(self, n: cython.Py_ssize_t) -> cython.int:
        """A socket of AF_UNIX, which this is below, tells only who receives that it was reset."""
        error: cython.int = 0
        wire = wires.get(self.fd)
        if n == -EPIPE and wire is not None and isinstance(wire.local, tuple):  # it is TCP
            error = hoop_sockopt(self.fd, SO_ERROR)
        return StreamTransport.send_failed(self, -error if error > 0 else n)


@cython.cclass
class FailingDatagrams(DatagramTransport):
    """A datagram transport, some of whose sends fail. Without a peer the sendto() of its socket fails."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send(self, data: bytes, address) -> cython.int:
        error: cython.int = error_of_send(self.fd) if self.has_peer else 0
        if error:
            self.protocol.error_received(os_error(-error))
            return 0
        return DatagramSender.send(self, data, address)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self) -> cython.int:
        error: cython.int = 0
        if self.has_peer and self.outbox and self.fd >= 0:
            error = error_of_send(self.fd)
        return self.refused(os_error(-error)) if error else DatagramSender.flush(self)


@cython.cclass
class FailingAccept(AcceptOp):
    """Accepts connections, and fails at times."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        error: cython.int = 0
        if some_fail and not self.loop.stopping and self.sock.fileno() == self.fd:
            error = failures.of_accept(self.fd)
        return self.failed(-error) if error else AcceptOp.on_ready(self)


for _cls in (SimStream, FailingDatagrams, FailingAccept):
    hoop_forbid_new(_cls)


@cython.cfunc
@cython.exceptval(-1, check=False)
def adopt_op(op: Op) -> cython.int:
    """Let the calls of an op fail, or those of its transport, and keep what a stream sends."""
    if type(op) is RecvOp:
        stream = cython.cast(RecvOp, op).receiver
        if type(stream) is StreamTransport and (claim(op.fd) or some_fail):
            return give(
                stream,
                StreamTransport.__new__(StreamTransport),
                SimStream.__new__(SimStream),
                Attributed,
            )
        return 0
    if not some_fail:
        return 0
    if type(op) is AcceptOp:
        return give(op, AcceptOp.__new__(AcceptOp), FailingAccept.__new__(FailingAccept), object)
    if type(op) is ReceiveOp:
        datagrams = cython.cast(ReceiveOp, op).transport
        if type(datagrams) is DatagramTransport:
            return give(
                datagrams,
                DatagramTransport.__new__(DatagramTransport),
                FailingDatagrams.__new__(FailingDatagrams),
                Attributed,
            )
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def give(o, plain, failing, before) -> cython.int:
    """Give an object the C methods of the failing one, unless it has them."""
    if hoop_has_methods(o, failing, before):
        return 0
    return hoop_adopt_methods(o, plain, failing, before)
