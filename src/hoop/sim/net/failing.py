"""Transports and servers whose system calls fail when a simulation wants it.

A transport sends by itself, and a server accepts by itself, with each driver. In a world with such faults
they get the C methods of the classes below, which first ask the world whether the call fails. The rest is
hoop's own.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop._c.swap import hoop_adopt_methods, hoop_has_methods
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import Op
from cython.cimports.hoop.net.datagram import DatagramTransport, ReceiveOp
from cython.cimports.hoop.net.listener import AcceptOp
from cython.cimports.hoop.net.outbox import Outbox
from cython.cimports.hoop.net.receiver import RecvOp
from cython.cimports.hoop.net.sender import DatagramSender
from cython.cimports.hoop.net.stream import StreamTransport
from cython.cimports.hoop.scheduling.attributes import Attributed

failures = cython.declare(object, None)  # those of the world that runs


def begin(these) -> None:
    """Have a Failures decide from now on which calls fail. None ends that."""
    global failures, some_fail
    failures = these
    some_fail = these is not None


@cython.cfunc
@cython.exceptval(-1, check=False)
def error_of_send(fd: cython.int) -> cython.int:
    """The errno with which a send on a descriptor fails; 0 if it does not."""
    return failures.of_send(fd) if some_fail else 0


@cython.cclass
class FailingStream(StreamTransport):
    """A stream transport, some of whose sends fail."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_now(self, chunk: bytes) -> cython.int:
        error: cython.int = error_of_send(self.fd)
        return self.send_failed(-error) if error else StreamTransport.send_now(self, chunk)

    @cython.cfunc
    @cython.exceptval(check=False)
    def send_some(self) -> cython.Py_ssize_t:
        error: cython.int = error_of_send(self.fd)
        return -error if error else Outbox.send_some(self)


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


for _cls in (FailingStream, FailingDatagrams, FailingAccept):
    hoop_forbid_new(_cls)


@cython.cfunc
@cython.exceptval(-1, check=False)
def adopt(op: Op) -> cython.int:
    """Let the calls of an op fail, or those of its transport."""
    if type(op) is AcceptOp:
        return give(op, AcceptOp.__new__(AcceptOp), FailingAccept.__new__(FailingAccept), object)
    if type(op) is RecvOp:
        stream = cython.cast(RecvOp, op).receiver
        if type(stream) is StreamTransport:
            return give(
                stream,
                StreamTransport.__new__(StreamTransport),
                FailingStream.__new__(FailingStream),
                Attributed,
            )
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
