"""Accepts connections on a listening socket, and makes a stream transport for each.

Both drivers report that a connection is there, and the op calls accept4 itself. An accept request of
io_uring would not do. It would take connections from other loops or processes that share the socket. It also
keeps to the resource limits of the time when it was made.

A failing accept4 costs more than a successful one, because the kernel allocates a socket first. So the op
accepts one connection per turn, and more only while they keep coming. It accepts at most BURST_MAX in a turn.
So thousands who connect at once do not keep the others waiting. When the process runs out of descriptors, the
op stops, and a timer arms it again.
"""

from __future__ import annotations

import errno
import socket
from asyncio import constants, trsock

import cython
from cython.cimports.hoop._c.linux import (
    hoop_accept,
    hoop_address,
    hoop_address_tuple,
    hoop_close,
    hoop_now_ns,
    hoop_peer,
    hoop_peer_address,
    hoop_peer_name,
)
from cython.cimports.hoop._c.python import PyContext_CopyCurrent, hoop_forbid_new
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import ARMED, DEAD, READABLE, READY, Op
from cython.cimports.hoop.net.stream import StreamTransport, new_stream
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    SUSPENDED,
    Method,
    NativeCoroutine,
    new_coroutine,
)
from cython.cimports.hoop.scheduling.task import Task, new_task
from cython.cimports.hoop.watching.watch import descriptor

# Errors of accept4 for a connection that is gone already.
NO_CONNECTION = cython.declare(
    frozenset, frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})
)
_getsockname = cython.declare(object, socket.socket.getsockname)  # of no subclass
BURST_MAX = cython.declare(cython.uint, 64)
OUT_OF_RESOURCES = cython.declare(
    frozenset, frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
)


@cython.cclass
class AcceptOp(Op):
    """Accepts connections on a listening socket until it is stopped."""

    def __init__(
        self,
        loop: LoopBase,
        sock,
        protocol_factory,
        server=None,
        backlog=100,
        on_socket=None,
        context=None,
    ):
        self.loop = loop
        self.sock = sock
        self.fd = descriptor(sock)
        self.interest = READABLE
        self.foreign = self.yields = True
        self.protocol_factory = protocol_factory
        self.server = server
        self.on_socket = on_socket
        self.context = PyContext_CopyCurrent() if context is None else context
        self.backlog = max(1, backlog)
        self.born = hoop_now_ns()
        if isinstance(sock, socket.socket) and self.fd >= 0:
            self.local = _getsockname(sock)
        self.burst = 1

    def _statistics(self):
        """Return what is known of the socket, for tools that observe it. Runs no code of yours."""
        return {
            "fd": self.fd,
            "local": self.local,
            "server": self.server,
            "factory": self.protocol_factory,
            "born": self.born,
            "accepted": self.accepted,
            "refused": self.refused,
            "backlog": self.backlog,
            "tls": self.on_socket is not None,
        }

    def start(self):
        """Start to accept connections. Raises OSError if the descriptor cannot be watched."""
        self.loop.check_open()
        if self.loop.driver is None:
            raise RuntimeError("EventLoop.__init__() was not called")
        self.loop.driver.submit(self)

    def stop(self):
        """Stop accepting. The socket stays open."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        if (self.phase == ARMED or self.phase == READY) and not self.loop.closed:
            self.loop.driver.cancel(self)
        self.enter_dead()

    @cython.cfunc
    def calls(self) -> object:
        return self.protocol_factory

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        fd: cython.int
        n: cython.uint
        peer: hoop_peer
        if self.sock.fileno() != self.fd:  # the socket was closed, and its number may be another's
            return self.loop.driver.cancel(self)
        if self.loop.stopping and not self.put_off:
            # The program that stopped the loop has perhaps cancelled all tasks, and will close the server
            # next.
            self.put_off = True
            return 0
        self.put_off = False
        for n in range(self.burst):
            fd = hoop_accept(self.fd, cython.address(peer))
            if fd < 0:
                self.burst = 1
                return self.failed(fd)
            self.accepted += 1
            self.loop.accepted += 1
            self.connected(fd, cython.address(peer))
            if self.phase != ARMED:
                return 0  # the protocol has stopped the server
        self.burst = min(self.burst * 2, self.backlog, BURST_MAX)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, error: cython.int) -> cython.int:
        exc = os_error(error)
        if exc.errno in NO_CONNECTION:
            return 0
        self.refused += 1
        self.loop.refused += 1
        if exc.errno in OUT_OF_RESOURCES:
            return self.out_of_resources(exc)
        raise exc

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def connected(self, fd: cython.int, peer: cython.pointer[hoop_peer]) -> cython.int:
        """Make the transport of a new connection, and call connection_made."""
        owned: cython.bint = True  # whether this function has to close the descriptor
        address: hoop_address
        hoop_peer_address(peer, cython.address(address))
        try:
            context = self.context.copy()
            name = hoop_peer_name(peer)
            extra = None if name is None else {"peername": name}
            if self.on_socket is not None:
                sock = socket.socket(self.sock.family, self.sock.type, self.sock.proto, fd)
                owned = False
                sock.setblocking(False)
                if extra is None:
                    extra = {"peername": hoop_address_tuple(cython.address(address))}
                context.run(self.on_socket, sock, extra)
                return 0
            protocol = context.run(self.protocol_factory)
            if self.loop.debug:
                self.loop.lap(self.protocol_factory)
            owned = False
            stream = new_stream(
                self.loop, fd, None, protocol, context, extra, self.server, cython.address(address)
            )
        except (KeyboardInterrupt, SystemExit):
            if owned:
                hoop_close(fd)
            raise
        except BaseException as exc:
            if owned:
                hoop_close(fd)
            self.refused += 1
            self.loop.refused += 1
            self.loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
            )
            return 0
        stream.begin()
        return 0 if stream.closing else stand_by(stream)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def out_of_resources(self, exc) -> cython.int:
        """Stop for a while, because the kernel would report the descriptor as ready again and again."""
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
        """Return the context for the loop's exception handler when accepting failed."""
        return {
            "message": "Exception in accepting a connection",
            "exception": exc,
            "socket": trsock.TransportSocket(self.sock),
        }


# ---- cancelling all tasks while a connection is accepted -------------------------------------------


@cython.final
@cython.cclass
class Accepting(Method):
    """The task of a connection that is being accepted. As on asyncio, cancelling it closes the connection.

    A program may stop a server by cancelling all tasks, and then wait for the server's connections to end.
    asyncio's task exists for two more turns after it has called the protocol factory, and so does this.
    """

    @cython.cfunc
    def title(self, c: NativeCoroutine) -> str:
        return self.name

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.count == 0:
            c.count = 1
            return c.wait_a_turn()
        c.owner = None
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        cython.cast(StreamTransport, c.owner).close()
        c.owner = None
        raise error


ACCEPTING = cython.declare(Accepting, Accepting("accept_connection", StreamTransport))


@cython.cfunc
@cython.exceptval(-1, check=False)
def stand_by(stream: StreamTransport) -> cython.int:
    """Start a task that closes a new connection if it is cancelled in the next two turns."""
    c: NativeCoroutine = new_coroutine(ACCEPTING, stream, None)
    c.count = 0
    c.phase = SUSPENDED  # skip the first step, so that failed() sees a cancellation
    task: Task = new_task(stream.loop, c, None, stream.context, False)
    task.silent = True  # the connection is made, so nobody needs to hear of this task's end
    return 0


hoop_forbid_new(AcceptOp)
