"""Accepting connections: a listening socket, and a stream transport for each connection.

A completion driver hands over connections. Told only that there is one, the op accepts it itself: a failed
accept4 costs more than a good one (it allocates first), so it is one connection per turn, and more only while
they keep coming. When the process runs out of descriptors the op rests, and one
timer arms it again.
"""

from __future__ import annotations

import errno
import socket
from asyncio import constants, trsock

import cython
from cython.cimports.hoop._core.base import LoopBase
from cython.cimports.hoop._core.c.linux import hoop_accept, hoop_close
from cython.cimports.hoop._core.c.python import PyContext_CopyCurrent
from cython.cimports.hoop._core.errors import os_error
from cython.cimports.hoop._core.op import ACCEPT, ARMED, DEAD, READY, Op
from cython.cimports.hoop._core.stream import new_stream
from cython.cimports.hoop._core.watch import descriptor

# Nobody there after all, or gone already.
NO_CONNECTION = cython.declare(
    frozenset, frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})
)
ECANCELED = cython.declare(cython.int, errno.ECANCELED)
OUT_OF_RESOURCES = cython.declare(
    frozenset, frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
)


@cython.final
@cython.cclass
class AcceptOp(Op):
    """Accepts connections on a listening socket until it is stopped."""

    def __init__(
        self, loop: LoopBase, sock, protocol_factory, server=None, backlog=100, on_socket=None
    ):
        self.loop = loop
        self.sock = sock
        self.fd = descriptor(sock)
        self.interest = ACCEPT
        self.protocol_factory = protocol_factory
        self.server = server
        self.on_socket = on_socket
        self.context = PyContext_CopyCurrent()
        self.backlog = max(1, backlog)
        self.burst = 1
        self.accepted = []

    def start(self):
        """Accept connections. Raises OSError if the descriptor cannot be watched."""
        self.loop.check_open()
        self.loop.driver.submit(self)

    def stop(self):
        """Accept no more. The socket stays open."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        if (self.phase == ARMED or self.phase == READY) and not self.loop.closed:
            self.loop.driver.cancel(self)
        self.enter_dead()
        self.close_accepted()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        if not self.delivers:
            return True
        if result == -ECANCELED:
            return False
        if result < 0:
            self.error = result
        elif self.phase == ARMED or self.phase == READY:
            self.accepted.append(result)
        else:
            hoop_close(result)  # it came after stop(): nobody will ever hear of it
            return False
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_accepted(self) -> cython.int:
        fd: cython.int
        while self.accepted:
            fd = self.accepted.pop()
            hoop_close(fd)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        if self.delivers:
            return self.on_accepted()
        return self.accept_some()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_accepted(self) -> cython.int:
        """Take the connections that a completion driver has accepted."""
        fd: cython.int
        self.accepted.reverse()
        try:
            while self.accepted and self.phase == ARMED:
                fd = self.accepted.pop()
                self.connected(fd)
        finally:
            self.accepted.reverse()
            if self.accepted and self.phase == ARMED:  # an order to leave: later, then
                self.enter_ready()
                self.loop.push(self)
        if self.error and self.phase == ARMED:
            error: cython.int = self.error
            self.error = 0
            return self.failed(error)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def accept_some(self) -> cython.int:
        fd: cython.int
        n: cython.uint
        for n in range(self.burst):
            fd = hoop_accept(self.fd)
            if fd < 0:
                self.burst = 1
                return self.failed(fd)
            self.connected(fd)
            if self.phase != ARMED:
                return 0  # the protocol stopped the server
        self.burst = min(self.burst * 2, self.backlog)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, error: cython.int) -> cython.int:
        exc = os_error(error)
        if exc.errno in NO_CONNECTION:
            return 0
        if exc.errno in OUT_OF_RESOURCES:
            return self.out_of_resources(exc)
        raise exc

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def connected(self, fd: cython.int) -> cython.int:
        """Make the transport for a new connection and call connection_made."""
        owned: cython.bint = True  # whether the descriptor is still ours to close
        try:
            context = self.context.copy()
            if self.on_socket is not None:
                sock = socket.socket(self.sock.family, self.sock.type, self.sock.proto, fd)
                owned = False
                sock.setblocking(False)
                context.run(self.on_socket, sock)
                return 0
            protocol = context.run(self.protocol_factory)
            owned = False
            stream = new_stream(self.loop, fd, None, protocol, context, None, self.server)
        except (KeyboardInterrupt, SystemExit):
            if owned:
                hoop_close(fd)
            raise
        except BaseException as exc:
            if owned:
                hoop_close(fd)
            self.loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
            )
            return 0
        return stream.begin()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def out_of_resources(self, exc) -> cython.int:
        """Rest: the kernel would report the descriptor as ready again and again."""
        self.loop.driver.cancel(self)
        self.retry = self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self._start_again)
        self.loop.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": exc,
                "socket": trsock.TransportSocket(self.sock),
            }
        )
        return 0

    def _start_again(self):
        self.retry = None
        if self.phase != DEAD and self.sock.fileno() == self.fd:
            self.loop.driver.submit(self)

    def failure(self, exc):
        """The context for the loop's exception handler when accepting failed."""
        return {
            "message": "Exception in accepting a connection",
            "exception": exc,
            "socket": trsock.TransportSocket(self.sock),
        }
