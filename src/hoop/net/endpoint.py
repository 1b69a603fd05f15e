"""The end of a connection: a descriptor, the socket object for those who ask, and the addresses.

The descriptor's one owner is the endpoint, unless a Python socket was given or asked for: then it is that
socket, and the endpoint owns the socket. A layer is a protocol that takes a connection's bytes in C.
"""

from __future__ import annotations

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
from cython.cimports.hoop._c.python import Py_REFCNT, Ref
from cython.cimports.hoop.scheduling.attributes import Attributed

_get_extra_info = cython.declare(object, asyncio.BaseTransport.get_extra_info)


@cython.cclass
class Endpoint(Attributed):
    """A connected, non-blocking descriptor and what is known of it."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0 and self.owns_fd:
            hoop_close(self.fd)  # no finaliser ran: the interpreter is going down

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
        """Close the descriptor. Whoever watched it has stopped."""
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
        """Whether the owner of a given socket has closed it: its number may be another file's by now."""
        return self.sock.fileno() != self.fd

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_shared(self) -> cython.bint:
        """Whether somebody keeps our socket, by which he may shut down what was not sent yet."""
        # A cast, not ref(): that would be handed a reference of its own, and count it.
        return self.socket_view is not None and Py_REFCNT(cython.cast(Ref, self.socket_view)) > 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_held(self) -> cython.int:
        """Send what the kernel would take, and was to wait."""
        return 0

    @cython.cfunc
    def python_socket(self) -> object:
        """The socket object, made when it is first asked for; from then on it owns the descriptor."""
        if self.sock is None:
            if self.fd >= 0:
                self.sock = socket.socket(self.family, self.kind, self.proto, self.fd)
                self.owns_fd = False
                self.sock.setblocking(False)
            else:
                self.sock = socket.socket.__new__(socket.socket)  # one that is closed
                self.sock._closed = True
                self.sock._io_refs = 0
        return self.sock

    def get_extra_info(self, name, default=None):
        """What is known of the connection: "socket", "sockname", "peername".

        See asyncio.BaseTransport.get_extra_info. Who replaces that one is asked in our place.
        """
        if self.__class__.get_extra_info is not _get_extra_info:
            return self.ask_replacement(name, default)
        return self.known(name, default)

    @cython.cfunc
    def known(self, name, default) -> object:
        if name == "socket":
            self.send_held()  # by the socket somebody might send
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


@cython.cclass
class Layer(Attributed):
    """A protocol in C: it takes the bytes as they are, with no object made of them."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """Bytes came in; they are overwritten after this. Fails the connection itself if it has to.

        What it declines goes to the protocol's data_received, as a `bytes`.
        """
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_chunk(self, chunk: bytes) -> cython.int:
        """The same, where a `bytes` was made of them already."""
        return self.on_bytes(PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_early_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        """The same, while the driver takes its news: nothing of the user's may run.

        What is declined is kept, and offered again when the connection has its turn.
        """
        return DECLINED

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_lost(self) -> cython.int:
        """The connection failed, and the protocol was told."""
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_waiting(self) -> cython.int:
        """Give the connection what this keeps for it, if that only waits for more."""
        return 0
