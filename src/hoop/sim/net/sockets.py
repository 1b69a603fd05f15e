"""The methods of `socket.socket` in a world, and look-ups of names.

Sending, receiving and closing are the kernel's: see wires.py. Only what would show that a socket is a Unix
socket, or would reach the real network, has another method. Other threads keep the real ones.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any

from hoop.sim.errors import Unsimulated
from hoop.sim.net.datagrams import Box
from hoop.sim.net.failures import Failures, os_error
from hoop.sim.net.flow import is_readable
from hoop.sim.net.network import Bound, Network
from hoop.sim.net.wires import End
from hoop.sim.swaps import is_inside

INTERNET = (_socket.AF_INET, _socket.AF_INET6)
SIMULATED = (*INTERNET, _socket.AF_UNIX)
BLOCKING = "set the socket non-blocking, and await loop.sock_connect(), sock_recvfrom() and so on"
NODELAY = _socket.IPPROTO_TCP, _socket.TCP_NODELAY
INFO = _socket.IPPROTO_TCP, _socket.TCP_INFO
ESTABLISHED, CLOSED, LISTENING = 1, 7, 10  # with these TCP_INFO begins
# Options which only the socket itself knows.
OF_SOCKET = {
    (_socket.SOL_SOCKET, option)
    for option in (_socket.SO_ACCEPTCONN, _socket.SO_ERROR, _socket.SO_RCVBUF, _socket.SO_SNDBUF)
}
RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS
STREAMS = "use a stream socket or UDP, or replace the connection in the test"
_real: Any = _socket.socket
_fstat = os.fstat
_python_getaddrinfo = socket.getaddrinfo
_python_init = socket.socket.__init__


class Sockets:
    """The methods that sockets have in one world. `sock` is the program's socket."""

    def __init__(self, network: Network) -> None:
        self.network = network

    # ---- addresses ----

    def bind(self, sock: socket.socket, address: Any) -> None:
        self._check(sock, "bind")
        if self.network.known(sock.fileno()) is not None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        reuse = bool(_real.getsockopt(sock, _socket.SOL_SOCKET, _socket.SO_REUSEPORT))
        if sock.type == _socket.SOCK_DGRAM:
            reuse |= bool(_real.getsockopt(sock, _socket.SOL_SOCKET, _socket.SO_REUSEADDR))
        address = self._address(sock, address)
        if sock.type == _socket.SOCK_DGRAM:
            self.network.mail.open(sock.fileno(), int(sock.family), address, reuse)
        else:
            self.network.bind(int(sock.family), sock.fileno(), address, reuse)

    def listen(self, sock: socket.socket, backlog: int = _socket.SOMAXCONN) -> None:
        self._check(sock, "listen")
        if sock.type == _socket.SOCK_DGRAM:
            raise os_error(errno.EOPNOTSUPP)
        bound = self.network.known(sock.fileno())
        if not isinstance(bound, Bound | None):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if bound is not None and bound.name is not None:
            _real.listen(sock, backlog)
            return
        if bound is None:  # perhaps it was bound before the world began
            address = _real.getsockname(sock)
            bound = self.network.bind(int(sock.family), sock.fileno(), address, True)
        self.network.listen(sock.fileno(), bound, backlog)

    def getsockname(self, sock: socket.socket) -> Any:
        found = self.network.known(sock.fileno())
        return _real.getsockname(sock) if found is None else found.local

    def getpeername(self, sock: socket.socket) -> Any:
        found = self.network.known(sock.fileno())
        if found is None:
            return _real.getpeername(sock)
        if found.peer is None or _is_over(found) or not found.is_wire:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return found.peer

    # ---- connections ----

    def connect(self, sock: socket.socket, address: Any) -> None:
        error = self.connect_ex(sock, address)
        if error:
            raise OSError(error, os.strerror(error))

    def connect_ex(self, sock: socket.socket, address: Any) -> int:
        if sock.fileno() < 0:
            return errno.EBADF
        self._check(sock, "connect")
        if sock.type == _socket.SOCK_DGRAM:
            self.network.mail.connect(self.network.mail.of(sock), self._address(sock, address))
            return 0
        found = self.network.known(sock.fileno())
        assert not isinstance(found, Box)
        if isinstance(found, End):
            if found.error:
                error, found.error = found.error, 0
                return error
            if found.state == "connecting":
                return errno.EALREADY
            told, found.told = found.told, True
            return errno.EISCONN if told else 0
        if found is not None and found.is_wire:  # it listens
            return errno.EINVAL if sock.family == _socket.AF_UNIX else errno.EISCONN
        address = self._address(sock, address)
        if sock.family == _socket.AF_UNIX:
            try:
                self.network.connect_unix(sock.fileno(), address, found)
            except OSError as exc:
                return exc.errno or errno.ECONNREFUSED
            return 0
        self.network.connect(int(sock.family), sock.fileno(), address, found)
        if sock.gettimeout() == 0:
            return errno.EINPROGRESS
        end = self.network.known(sock.fileno())
        assert isinstance(end, End)
        self._wait(sock, lambda: end.state == "connected" or bool(end.error), "connect")
        error, end.error = end.error, 0
        end.told = True
        return error

    def accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        _check_open(sock)
        bound = self.network.known(sock.fileno())
        if bound is None and sock.family in INTERNET:
            raise Unsimulated("accept() on a socket from outside of the simulation", STREAMS)
        self._wait(sock, lambda: is_readable(sock.fileno()), "accept")
        self._may_fail(lambda failures: failures.of_accept(sock.fileno()))
        fd, address = _real._accept(sock)
        accepted = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        found = self.network.known(fd)
        return accepted, address if found is None else found.peer

    # ---- options ----

    def setsockopt(self, sock: socket.socket, level: int, option: int, *value: Any) -> None:
        found = self.network.known(sock.fileno())
        noted = self.network.options_of(sock.fileno(), found)
        if found is not None and found.is_wire:
            _put_option(sock, noted, level, option, *value)
            return
        _real.setsockopt(sock, level, option, *value)
        noted[level, option] = value

    def getsockopt(self, sock: socket.socket, level: int, option: int, *size: int) -> Any:
        found = self.network.known(sock.fileno())
        if found is None or not found.is_wire:
            return _real.getsockopt(sock, level, option, *size)
        if (level, option) == (_socket.SOL_SOCKET, _socket.SO_ERROR) and found.error:
            return self.network.take_error(sock.fileno())
        state = LISTENING
        if isinstance(found, End):
            state = ESTABLISHED if found.open else CLOSED
            if sock.family in INTERNET and self.network.here.loop._transport_of(sock.fileno()):
                found.options.setdefault(NODELAY, (1,))  # each transport sets it
        return _take_option(sock, found.options, state, level, option, *size)

    def sendto(self, sock: socket.socket, *args: Any) -> int:
        if sock.family not in INTERNET:
            sent: int = _real.sendto(sock, *args)
            return sent
        self._check(sock, "sendto")
        if sock.type != _socket.SOCK_DGRAM:  # TCP takes no notice of the address
            return self._send(sock, _real.send, *args[:-1])
        data = bytes(args[0])
        self._may_fail(lambda failures: failures.of_send(sock.fileno()))
        self.network.mail.post(self.network.mail.of(sock), data, self._address(sock, args[-1]))
        return len(data)

    def sendmsg(
        self,
        sock: socket.socket,
        buffers: Any,
        ancdata: Any = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        args: tuple[Any, ...] = (buffers, ancdata, flags)
        if address is not None and sock.family in INTERNET:
            if not isinstance(self.network.known(sock.fileno()), End):
                raise Unsimulated("socket.socket.sendmsg() with an address", STREAMS)
        elif address is not None:
            args = (*args, address)
        if any(tuple(one[:2]) == RIGHTS for one in ancdata) and sock.family == _socket.AF_UNIX:
            if self.network.known(sock.fileno()) is not None:
                raise Unsimulated("the sending of descriptors", "use a socket.socketpair()")
        return self._send(sock, _real.sendmsg, *args)

    def recvfrom(self, sock: socket.socket, *args: Any) -> tuple[bytes, Any]:
        if sock.gettimeout() != 0 and isinstance(self.network.known(sock.fileno()), Box):
            raise Unsimulated("a recvfrom() that blocks", BLOCKING)
        data, address = self._receive(sock, _real.recvfrom, *args)
        return data, self._sender(sock, address)

    def recvfrom_into(self, sock: socket.socket, *args: Any) -> tuple[int, Any]:
        n, address = self._receive(sock, _real.recvfrom_into, *args)
        return n, self._sender(sock, address)

    def recvmsg(self, sock: socket.socket, *args: Any) -> tuple[bytes, Any, int, Any]:
        *found, address = self._receive(sock, _real.recvmsg, *args)
        return (*found, self._sender(sock, address))

    def recvmsg_into(self, sock: socket.socket, *args: Any) -> tuple[int, Any, int, Any]:
        *found, address = self._receive(sock, _real.recvmsg_into, *args)
        return (*found, self._sender(sock, address))

    def recv(self, sock: socket.socket, *args: Any) -> bytes:
        data: bytes = self._receive(sock, _real.recv, *args)
        return data

    def recv_into(self, sock: socket.socket, *args: Any) -> int:
        n: int = self._receive(sock, _real.recv_into, *args)
        return n

    def _receive(self, sock: socket.socket, receive: Any, *args: Any) -> Any:
        """Receive. Datagrams may wait for room in the socket of the kernel.

        A connection that blocks lets time pass.
        """
        if sock.gettimeout() != 0 and isinstance(self.network.known(sock.fileno()), End):
            self._wait(sock, lambda: is_readable(sock.fileno()), receive.__name__)
        try:
            received = receive(sock, *args)
        except BlockingIOError:
            found = self.network.known(sock.fileno())
            if not isinstance(found, Box) or not self.network.mail.push_to(found):
                raise
            return receive(sock, *args)
        except OSError as exc:
            self._raise_error(sock)
            self._raise_of_listening(sock, exc, errno.ENOTCONN)
            raise
        if not (received[0] if isinstance(received, tuple) else received):
            self._raise_error(sock)
        return received

    def _sender(self, sock: socket.socket, address: Any) -> Any:
        """The address that a message shows: none on a connection of TCP."""
        found = self.network.known(sock.fileno())
        if isinstance(found, Box):
            return found.peer or self.network.mail.addresses.get(address, address)
        if not isinstance(found, End):
            return address
        return None if sock.family in INTERNET else found.peer or None

    def send(self, sock: socket.socket, *args: Any) -> int:
        self._may_fail(lambda failures: failures.of_send(sock.fileno()))
        return self._send(sock, _real.send, *args)

    def _send(self, sock: socket.socket, send: Any, *args: Any) -> int:
        """Send without an address. A UDP socket has room at once, and another errno if nobody is there."""
        sent: int
        if any(isinstance(one, int) and one & _socket.MSG_OOB for one in args[1:]):
            if self.network.known(sock.fileno()) is not None:
                raise Unsimulated("the sending of urgent data", "send it as other data")
        try:
            sent = send(sock, *args)
        except OSError as exc:
            found = self.network.known(sock.fileno())
            if not isinstance(found, Box):
                self._raise_error(sock)
                self._raise_of_listening(sock, exc, errno.EPIPE)
                if exc.errno == errno.EPIPE and sock.family in INTERNET:
                    self._raise_reset(sock)
                raise
            if found.outlet is None and exc.errno == errno.ENOTCONN:
                raise os_error(errno.EDESTADDRREQ) from None
            if found.outlet is None or exc.errno != errno.EAGAIN:
                raise
            found.outlet.take()
            sent = send(sock, *args)
        return sent

    def shutdown(self, sock: socket.socket, how: int) -> None:
        _real.shutdown(sock, how)
        found = self.network.known(sock.fileno())
        if isinstance(found, End) and how != _socket.SHUT_RD:
            found.shut = True
        if _is_over(found) or (isinstance(found, Box) and found.outlet is None):
            raise os_error(errno.ENOTCONN)

    # ---- making ----

    def make(
        self,
        sock: socket.socket,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is None and (family == -1 or family in SIMULATED):
            self._may_fail(lambda failures: failures.of_descriptor("socket()"))
        found = None if fileno is None else self.network.known(fileno)
        # The kernel says 0 of the Unix sockets below.
        if found is not None and proto <= 0 and isinstance(found.local, tuple):
            proto = _socket.IPPROTO_UDP if isinstance(found, Box) else _socket.IPPROTO_TCP
        _python_init(sock, family, type, proto, fileno)
        if self.network.here.holdings is not None:
            self.network.here.holdings.add_socket(sock)

    # ---- shared ----

    def _wait(self, sock: socket.socket, is_ready: Callable[[], bool], call: str) -> None:
        """Let time pass until a call of a socket that blocks can go on."""
        timeout = sock.gettimeout()
        if timeout == 0 or let_time_pass(self.network, is_ready, timeout):
            return
        if timeout is None:
            raise Unsimulated(f"{call}() that blocks, and that only a task could end", BLOCKING)
        raise TimeoutError("timed out")

    def _may_fail(self, ask: Callable[[Failures], int]) -> None:
        """Raise OSError if a call is to fail."""
        failures = self.network.failures
        error = 0 if failures is None else ask(failures)
        if error:
            raise os_error(error)

    def _raise_error(self, sock: socket.socket) -> None:
        """Raise the error with which TCP has given a connection up, unless the program was told already."""
        error = self.network.take_error(sock.fileno())
        if error:
            raise os_error(error)

    def _raise_reset(self, sock: socket.socket) -> None:
        """Raise the error of a connection that was reset, if it is news. TCP tells who sends of it, too."""
        error = _real.getsockopt(sock, _socket.SOL_SOCKET, _socket.SO_ERROR)
        if error:
            raise os_error(error) from None

    def _raise_of_listening(self, sock: socket.socket, exc: OSError, error: int) -> None:
        """Raise what TCP says if a listening socket is to send or receive. Unix sockets say otherwise."""
        if self.network.is_listening(sock):
            raise os_error(error) from exc

    def _check(self, sock: socket.socket, name: str) -> None:
        """Refuse what is no stream socket of a simulated family, and no UDP socket."""
        _check_open(sock)
        udp = sock.type == _socket.SOCK_DGRAM and sock.family in INTERNET
        if not udp and (sock.family not in SIMULATED or sock.type != _socket.SOCK_STREAM):
            raise Unsimulated(f"socket.socket.{name}() of this kind of socket", STREAMS)

    def _address(self, sock: socket.socket, address: Any) -> Any:
        """An address in the form that getsockname() returns, with the number of a host."""
        if sock.family == _socket.AF_UNIX:
            if isinstance(address, (bytes, bytearray)) and address[:1] != b"\0":
                return os.fsdecode(bytes(address))
            return address if isinstance(address, bytes) else os.fspath(address)
        if not isinstance(address, tuple):
            raise TypeError(
                f"{sock.family.name} address must be tuple, not {type(address).__name__}"
            )
        host, port, *rest = address
        if isinstance(port, int) and not 0 <= port <= 65535:
            raise OverflowError("port must be 0-65535.")
        if sock.family == _socket.AF_INET and not rest and type(port) is int and _is_literal(host):
            return host, port  # a look-up says the same, and takes long
        flags = _socket.AI_PASSIVE if not host else 0
        found = self.getaddrinfo(host or None, port, sock.family, sock.type, 0, flags)
        literal = found[0][4]
        return (*literal[:2], *rest, *literal[2 + len(rest) :])

    # ---- names ----

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Look a name up in the table of the world."""
        name = host.decode("idna") if isinstance(host, bytes) else host
        try:
            return _python_getaddrinfo(
                name, port, family, type, proto, flags | _socket.AI_NUMERICHOST
            )
        except _socket.gaierror:
            if name is None or flags & _socket.AI_NUMERICHOST:
                raise
        found: list[Any] = []
        for address in self.network.names.get(name.lower().rstrip("."), ()):
            try:
                found += _python_getaddrinfo(
                    address, port, family, type, proto, flags | _socket.AI_NUMERICHOST
                )
            except _socket.gaierror:  # of another family
                continue
        if not found:
            raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
        return found

    def getnameinfo(self, address: Any, flags: int = 0) -> tuple[str, str]:
        """Look an address up in the table of the world."""
        host, port = address[:2]
        if not flags & _socket.NI_NUMERICHOST:
            for name, addresses in self.network.names.items():
                if host in addresses:
                    return name, str(port)
        if flags & _socket.NI_NAMEREQD:
            raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
        return host, str(port)

    def gethostbyname(self, name: str) -> str:
        address: str = self.getaddrinfo(name, None, _socket.AF_INET)[0][4][0]
        return address

    # ---- transports ----

    def get_extra_info(self, transport: Any, name: str, default: Any = None) -> Any:
        """Return a fact about a connection. An accepted one was told the real name of its peer."""
        found = transport._extra.get(name, default)
        if name == "peername" and isinstance(found, bytes):
            return self.network.callers.get(found, found)
        return found

    def family(self, sock: socket.socket) -> socket.AddressFamily:
        """The family that the program sees. The kernel gives an accepted socket that of its wire."""
        real = socket.AddressFamily(_real.family.__get__(sock))
        if real == socket.AF_UNIX and (found := self.network.known(sock.fileno())) is not None:
            address = found.local
            if isinstance(address, tuple):
                return socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return real


def is_simulated(network: Network | None, fd: Any) -> bool:
    """Whether a descriptor is a socket of the world, or one that is not connected, or an end of a pair."""
    try:
        number = fd if isinstance(fd, int) else int(fd.fileno())
        mode = _fstat(number).st_mode
    except (AttributeError, TypeError, ValueError, OSError):
        return True  # the caller has the right exception for it
    if stat.S_ISFIFO(mode):
        return number > 2
    if not stat.S_ISSOCK(mode):
        return False
    if network is not None and network.known(number) is not None:
        return True
    twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, number)
    try:
        if twin.getsockopt(_socket.SOL_SOCKET, _socket.SO_DOMAIN) == _socket.AF_UNIX:
            return True
        if twin.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) or network is None:
            return False
        _real.getpeername(twin)
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    finally:
        twin.detach()
    return False


def is_empty(sock: socket.socket) -> bool:
    """Whether a stream socket has nothing to receive."""
    try:
        return not _real.recv(sock, 1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except OSError:
        return True


def let_time_pass(network: Network, is_ready: Callable[[], Any], timeout: float | None) -> bool:
    """Let time pass, and messages arrive, while a call blocks: no task runs.

    Returns False if the timeout is over, or if there is none and nothing is on its way.
    """
    driver = network.driver
    if network.threads is not None and network.threads.has_others():
        found: bool = network.threads.wait(
            "a socket", None, is_ready, -1.0 if timeout is None else timeout
        )
        return found
    deadline = None if timeout is None else driver.now + int(timeout * 1e9)
    due = network.turn(driver.now, True)
    while not is_ready():
        if deadline is not None and (due < 0 or due > deadline):
            driver.pass_time(max(0, deadline - driver.now))
            return False
        if due < 0:
            return False
        driver.pass_time(max(0, due - driver.now))
        due = network.turn(driver.now, True)
    return True


def _is_over(found: End | Bound | Box | None) -> bool:
    """Whether this is a connection of TCP that was not made yet, was reset, or that both sides have ended."""
    if not isinstance(found, End) or not isinstance(found.local, tuple):
        return False
    return found.state == "connecting" or not found.open


def _check_open(sock: socket.socket) -> None:
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


# A socket that is connected in a world is a Unix socket, which has no options of TCP or IP. So a new socket
# of the right kind gets the value that the program has set, and is asked.


def _put_option(sock: Any, options: dict[Any, Any], level: int, option: int, *value: Any) -> None:
    """Set an option. Raises what the kernel raises for such a socket."""
    with contextlib.closing(_socket.socket(sock.family, sock.type)) as probe:
        _real.setsockopt(probe, level, option, *value)
    options[level, option] = value
    if level == _socket.SOL_SOCKET:
        try:
            _real.setsockopt(sock, level, option, *value)
        except OSError:  # a Unix socket has no such option
            pass


def _take_option(
    sock: Any, options: dict[Any, Any], state: int, level: int, option: int, *size: int
) -> Any:
    """Ask for the value of an option. `state` is that of a TCP connection."""
    key = level, option
    if key not in options and (key in OF_SOCKET or sock.family == _socket.AF_UNIX):
        return _real.getsockopt(sock, level, option, *size)
    with contextlib.closing(_socket.socket(sock.family, sock.type)) as probe:
        if key in options:
            _real.setsockopt(probe, level, option, *options[key])
        value = _real.getsockopt(probe, level, option, *size)
    if key == INFO and value:
        return bytes([state]) + value[1:] if size else state
    return value


METHODS = (
    *("bind", "listen", "getsockname", "getpeername", "connect", "connect_ex", "accept"),
    *("setsockopt", "getsockopt", "send", "sendto", "sendmsg", "shutdown"),
    *("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"),
)


def _is_literal(host: Any) -> bool:
    """Whether this is an IPv4 address in numbers."""
    try:
        _socket.inet_pton(_socket.AF_INET, host)
    except (OSError, TypeError, ValueError):
        return False
    return type(host) is str


def _inside(ours: Callable[..., Any], real: Callable[..., Any]) -> Any:
    """A method that is ours in the thread of the world, and the real one in others."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs) if is_inside() else real(self, *args, **kwargs)

    return method


def changes(network: Network) -> Iterator[tuple[Any, str, Any]]:
    """All that is changed for a network: an object, the name of its attribute, and the new value."""
    sockets = Sockets(network)
    methods = {name: getattr(sockets, name) for name in METHODS}
    methods["__init__"] = sockets.make
    for name, ours in methods.items():
        yield socket.socket, name, _inside(ours, getattr(socket.socket, name))
    real: Any = socket.socket.family
    yield socket.socket, "family", property(_inside(sockets.family, real.fget))
    for name in ("getaddrinfo", "gethostbyname", "getnameinfo"):
        yield socket, name, _inside(getattr(sockets, name), getattr(socket, name))
    extra = _inside(sockets.get_extra_info, asyncio.BaseTransport.get_extra_info)
    yield asyncio.BaseTransport, "get_extra_info", extra


__all__ = ["Sockets", "changes", "is_empty", "is_simulated"]
