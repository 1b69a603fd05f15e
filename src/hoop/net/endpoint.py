"""The base of all transports of sockets: the descriptor, the socket object, and the addresses.

The endpoint owns and closes the descriptor. If a Python socket was given to it, or asked of it, then that
socket owns the descriptor, and the endpoint owns the socket.

A Layer is a protocol written in C, which takes a connection's bytes without a Python call.
"""

from __future__ import annotations

import _socket
import asyncio
import inspect
import socket
from asyncio import trsock

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.hoop._c.linux import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    SO_DOMAIN,
    SO_PROTOCOL,
    SO_TYPE,
    hoop_address_family,
    hoop_address_tuple,
    hoop_close,
    hoop_name,
    hoop_sockopt,
    hoop_tcp_nodelay,
)
from cython.cimports.hoop._c.python import Py_REFCNT, PyCFunction, Ref, hoop_c_method
from cython.cimports.hoop.scheduling.attributes import Attributed

AF_UNIX = cython.declare(cython.int, socket.AF_UNIX)
SOCK_DGRAM = cython.declare(cython.int, socket.SOCK_DGRAM)
Socket = cython.declare(object, socket.socket)
_fileno = cython.declare(PyCFunction, hoop_c_method(_socket.socket.fileno))
_get_extra_info = cython.declare(object, asyncio.BaseTransport.get_extra_info)


@cython.cclass
class Endpoint(Attributed):
    """A non-blocking descriptor and its addresses."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0 and self.owns_fd:
            hoop_close(self.fd)  # no finaliser ran, because the interpreter is exiting

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def own(self, fd: cython.int, sock, extra) -> cython.int:
        """Take over a descriptor; from `sock`, if that is given."""
        self.fd = fd
        self.sock = sock
        self.owns_fd = sock is None
        self.extra = extra
        self.family = hoop_sockopt(fd, SO_DOMAIN)
        self.kind = hoop_sockopt(fd, SO_TYPE)
        self.proto = hoop_sockopt(fd, SO_PROTOCOL)
        if self.family == AF_INET or self.family == AF_INET6:
            hoop_name(fd, False, cython.address(self.local))
            if hoop_address_family(cython.address(self.peer)) == AF_UNSPEC:
                hoop_name(fd, True, cython.address(self.peer))
            hoop_tcp_nodelay(fd)
            return 0
        self.extra = dict(extra or ())
        for name in ("sockname", "peername"):
            if name not in self.extra:
                try:
                    self.extra[name] = getattr(self.python_socket(), f"get{name}")()
                except OSError:
                    self.extra[name] = None
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def disown(self) -> cython.int:
        """Close the descriptor. The caller has cancelled all ops that watched it."""
        fd: cython.int = self.fd
        self.fd = -1
        if fd < 0:
            return 0
        if self.owns_fd:
            hoop_close(fd)
        elif self.sock is not None:
            self.sock.close()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def was_closed(self) -> cython.bint:
        """Whether the owner of a given socket has closed it. Its number may belong to another file by now."""
        fd: cython.int = (
            _fileno(self.sock, None) if type(self.sock) is Socket else self.sock.fileno()
        )
        return fd != self.fd

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_shared(self) -> cython.bint:
        """Whether somebody else holds the socket, and could shut it down before everything was sent."""
        # A cast, because ref() would take a reference of its own, which this would count.
        return self.socket_view is not None and Py_REFCNT(cython.cast(Ref, self.socket_view)) > 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        """Send the bytes now that wait only to leave together with more."""
        return 0

    @cython.cfunc
    def python_socket(self) -> object:
        """Return the socket object, and make it on the first call. It owns the descriptor from then on."""
        if self.sock is None:
            if self.fd >= 0:
                self.sock = socket.socket(self.family, self.kind, self.proto, self.fd)
                self.owns_fd = False
                self.sock.setblocking(False)
            else:
                self.sock = socket.socket.__new__(socket.socket)  # a socket object that is closed
                self.sock._closed = True
                self.sock._io_refs = 0
        return self.sock

    def get_extra_info(self, name, default=None):
        """Return a fact about the connection: "socket", "sockname", "peername".

        See asyncio.BaseTransport.get_extra_info. If a program has replaced that method, its own is called.
        """
        shown = self.__class__
        if shown is not type(self) and shown.get_extra_info is not _get_extra_info:
            return self.ask_replacement(name, default)
        return self.known(name, default)

    @cython.cfunc
    def known(self, name, default) -> object:
        if name == "socket":
            self.send_held()  # the caller may send on the socket, and that has to come later
            if self.socket_view is None:
                self.socket_view = trsock.TransportSocket(self.python_socket())
            return self.socket_view
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        if name == "sockname":
            return hoop_address_tuple(cython.address(self.local))
        if name == "peername":
            return hoop_address_tuple(cython.address(self.peer))
        return default

    @cython.cfunc
    def ask_replacement(self, name, default) -> object:
        """Call what stands in the place of asyncio's get_extra_info: a test's mock, mostly.

        It may call asyncio's own, which looks in `_extra`.
        """
        if name == "socket":
            self._extra["socket"] = self.known(name, None)
        method = inspect.getattr_static(self.__class__, "get_extra_info")
        bind = getattr(type(method), "__get__", None)
        if bind is not None:
            method = bind(method, self, self.__class__)
        return method(name) if default is None else method(name, default)

    def _statistics(self):
        """Return what is known of the connection, for tools that observe it. Runs no code of yours.

        The kind is "tcp", "udp", "unix" or "other". `born` and `active` are the loop's stamps when the
        connection was made, and when it last sent or received. Transports add the bytes that are `buffered`,
        what is paused, and their protocol.
        """
        return {
            "fd": self.fd,
            "kind": kind_of(self.family, self.kind),
            "local": self.known("sockname", None),
            "peer": self.known("peername", None),
            "born": self.born,
            "active": self.active,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }

    @property
    def _kind(self):
        return kind_of(self.family, self.kind)

    def _is_accepted(self):
        """Whether a server accepted this connection."""
        return False

    @property
    def _sock(self):
        return self.python_socket() if self.fd >= 0 else None

    @property
    def _sock_fd(self):
        return self.fd

    @property
    def _extra(self):
        if self.extra is None:
            self.extra = {}
        for name in ("sockname", "peername"):  # asyncio's own get_extra_info looks here
            if name not in self.extra:
                self.extra[name] = self.known(name, None)
        return self.extra


@cython.cfunc
def kind_of(family: cython.int, kind: cython.int) -> str:
    """The kind of a socket, in a word."""
    if family == AF_UNIX:
        return "unix"
    if family != AF_INET and family != AF_INET6:
        return "other"
    return "udp" if kind == SOCK_DGRAM else "tcp"


@cython.cclass
class Layer(Attributed):
    """A protocol written in C. It takes the received bytes in the transport's buffer, without an object."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """Take received bytes, which are overwritten after this call. Fails the connection itself if
        necessary.

        If it returns DECLINED, the transport calls the protocol's data_received with a `bytes`.
        """
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_chunk(self, chunk: bytes) -> cython.int:
        """Take received bytes that are a `bytes` object already: see on_bytes()."""
        return self.on_bytes(PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_early_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """Take received bytes while the driver takes its events, when no user code may run.

        If it returns DECLINED, the op keeps the bytes and offers them again when the loop runs it.
        """
        return DECLINED

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_lost(self) -> cython.int:
        """Called after the connection has failed, and its protocol was told."""
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_waiting(self) -> cython.int:
        """Pass everything that it keeps on to the connection, if it only waits to leave with more."""
        return 0
