"""Datagrams: they may be lost, come twice, and overtake each other.

A UDP socket of the program is a Unix datagram socket. sendto() gives the world a datagram, and a socket that
is connected sends it to an outlet of the world's. When it arrives, a socket of the world's sends it, which
stands for the sender: so the kernel says from whom it is.
"""

from __future__ import annotations

import _socket
import errno
import functools
import ipaddress
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any

from hoop.sim.errors import Unsimulated
from hoop.sim.net.flow import inode
from hoop.sim.net.links import Place
from hoop.sim.net.weather import Faults, drawn, rarely

if TYPE_CHECKING:
    from hoop.sim.driver import Choices

_get_blocking = os.get_blocking
LONGEST = 65507  # bytes of a datagram
ROOM = 212_992  # bytes for datagrams that the program has not received, as on Linux
OVERHEAD = 768  # bytes of this that each of them takes
HALF_LONGEST = 32770  # of this size is a send buffer into which no longer one goes
SENDERS_MAX = 64  # sockets that stand for senders and are open
ANY = {_socket.AF_INET: ("0.0.0.0", 0), _socket.AF_INET6: ("::", 0, 0, 0)}
SOCKETS = "send to each host instead"


class Box:
    """A UDP socket of the program."""

    state = "datagrams"
    is_wire = True  # the kernel has a Unix socket in its place

    def __init__(self, place: Place, family: int, local: Any, choices: Choices) -> None:
        self.place = place
        self.family = family
        self.local = local
        self.is_dual = False  # takes datagrams of IPv4, too, though it is one of IPv6
        self.reuse = False  # others that want the same may have its address, too
        self.peer: Any = None
        self.error = 0
        self.options: dict[tuple[int, int], Any] = {}
        self.fd = -1
        self.ino = 0
        self.name: Any = None  # the real name of its Unix socket; it never listens
        self.choices = choices
        self.last_due = 0  # on the way to the host itself, where none overtakes another
        self.outlet: Outlet | None = None  # takes what it sends, once it is connected
        self.waiting: deque[tuple[Any, bytes]] = deque()  # has arrived: the sender, and the data
        self.room = ROOM  # for further ones, in bytes

    def is_open(self) -> bool:
        """Whether the program has not closed it, or has duplicated it before."""
        return inode(self.fd) == self.ino or self._is_there()

    def _is_there(self) -> bool:
        probe = _new_sender()
        try:
            probe.connect(self.name)
        except OSError:
            return False
        finally:
            probe.close()
        return True


class Outlet:
    """The world's end of a UDP socket that is connected. The network polls it as the end of a wire."""

    ended = False
    inbound: deque[bytes] = deque()

    def __init__(self, mail: Mail, box: Box) -> None:
        self.mail = mail
        self.box = box
        self.sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
        self.sock.bind("")
        self.fd = self.sock.fileno()
        self.serial = mail.network.number()
        self.watched = 0

    def take(self, ends: bool = True) -> None:
        """Take what the program has sent, until there is no more."""
        while True:
            try:
                data = self.sock.recv(LONGEST + 1)
            except OSError:  # no more, or the program has closed it
                return
            if len(data) <= LONGEST:
                self.mail.post(self.box, data, self.box.peer)

    def close(self) -> None:
        """Close the world's end."""
        self.mail.network.unwatch(self)
        self.sock.close()


class Mail:
    """All UDP sockets of a world, and what is under way between them."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.boxes: list[Box] = []
        self._senders: dict[Any, _socket.socket] = {}  # for each address one that stands for it
        self._names: dict[Any, bytes] = {}  # the real names of senders, by their addresses
        self._root: _socket.socket | None = None
        self._crowded: dict[Box, None] = {}  # those for which datagrams wait
        self.addresses: dict[Any, Any] = {}  # of senders, by the real names of these
        self._held: list[tuple[Any, ...]] = []  # datagrams that Link.hold() keeps

    @functools.cached_property
    def chances(self) -> tuple[float, float]:
        """The chances that a datagram is lost, or comes twice. A program that sends none draws none."""
        faults: Faults = self.network.faults
        choices = self.network.script.stream("datagrams")
        loss = drawn(choices, faults.loss, (0.0, 0.0, 0.02, 0.2))
        twice = drawn(choices, faults.duplicate, (0.0, 0.0, 0.02, 0.2))
        for name, chance in (("datagrams lost", loss), ("datagrams twice", twice)):
            if chance:
                self.network.loop.parameters[name] = f"{chance:.2g}"
        return loss, twice

    # ---- sockets ----

    def open(self, fd: int, family: int, address: Any, reuse: bool) -> Box:
        """Give a UDP socket an address, and put a Unix socket in its place."""
        network = self.network
        self._prune()
        network.check_owner(family, address)
        local = (address[0], address[1] or network.free_port(family), *address[2:])
        for box in self.boxes:
            alike = box.place is network.here and box.family == family and box.local[1] == local[1]
            if not alike or (reuse and box.reuse):
                continue
            if _is_any(box.local, local) or box.local[0] == local[0]:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        network.begin()
        box = Box(network.here, family, local, network.script.stream(f"box {network.number()}"))
        box.is_dual, box.reuse = takes_both(fd, family, local), reuse
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, HALF_LONGEST)
        sock.bind("")  # the kernel chooses a name that nobody has
        box.name = sock.getsockname()
        self.boxes.append(box)
        network.replace(fd, sock, box)
        network.note(f"open {network.shown(local)} for datagrams")
        return box

    def of(self, sock: Any) -> Box:
        """Return the Box of a UDP socket. It gets an address if it has none."""
        found = self.network.known(sock.fileno())
        if not isinstance(found, Box):
            family = int(sock.family)
            found = self.open(sock.fileno(), family, ANY[family], True)
        return found

    def connect(self, box: Box, address: Any) -> None:
        """Let a UDP socket send to an address, and receive from it only."""
        if box.outlet is None:
            box.outlet = outlet = Outlet(self, box)
            self._on(box, lambda twin: twin.connect(outlet.sock.getsockname()))
            self.network.watch(outlet, select.EPOLLIN)
        box.peer = address
        if _is_any(box.local):
            host = self._source(box, address)
            box.local = (host, *box.local[1:])

    def _on(self, box: Box, call: Any) -> None:
        twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, box.fd)
        try:
            call(twin)
        finally:
            twin.detach()

    def _prune(self) -> None:
        """Forget the sockets that the program has closed."""
        for box in self.boxes:
            if not box.is_open() and box.outlet is not None:
                box.outlet.close()
        self.boxes = [box for box in self.boxes if box.is_open()]

    def vacate(self, place: Place) -> None:
        """The process at a place has ended."""
        for box in self.boxes:
            if box.place is place and box.outlet is not None:
                box.outlet.take()
                box.outlet.close()
        self.boxes = [box for box in self.boxes if box.place is not place]

    # ---- datagrams ----

    def post(self, box: Box, data: bytes, address: Any) -> None:
        """Send a datagram on its way."""
        network = self.network
        if len(data) > LONGEST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if not address[1]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        address = _unmapped(address)
        to = ipaddress.ip_address(address[0])
        if to.is_multicast or address[0] == "255.255.255.255":
            raise Unsimulated("a datagram to several hosts", SOCKETS)
        far = network.owner(address, box.place)
        source = (self._source(box, address), *box.local[1 : len(address)])
        loss, twice = self.chances
        weather, choices = network.weather, box.choices
        way = f"{network.shown(source)} -> {network.shown(address)}"
        if to.is_loopback:
            box.last_due = due = max(network.now + weather.latency(choices, False), box.last_due)
            network.at(due, self._arrive, far, far, source, address, data)
            return
        if rarely(choices, loss):
            network.happened("lost datagrams", f"{way} a datagram is lost")
            return
        copies = 1
        if rarely(choices, twice):
            copies = 2
            network.happened("datagrams twice", f"{way} a datagram comes twice")
        road = network.roads.find(box.place, far)
        for _ in range(copies):
            spike = rarely(choices, weather.spikes)
            by = weather if road is None else road.over(weather)
            due = network.now + by.latency(choices, spike) + by.transfer(len(data))
            network.at(due, self._arrive, box.place, far, source, address, data)

    def _source(self, box: Box, address: Any) -> str:
        """The address of the sender, as the other side sees it."""
        if not _is_any(box.local):
            return str(box.local[0])
        if self.network.owner(address, box.place) is box.place:
            return str(address[0])
        return box.place.address6 if ":" in address[0] else box.place.address

    def _arrive(self, start: Place, far: Place, source: Any, address: Any, data: bytes) -> None:
        """A datagram has come to its host, unless the road is blocked."""
        network = self.network
        if network.blocks(start, far):
            road = network.roads.find(start, far)
            if road is not None and road.held and not (road.cut or start.down or far.down):
                self._held.append((start, far, source, address, data))
            return
        box = self._box_at(far, source, address)
        if box is None:
            return
        if box.family == _socket.AF_INET6 and ":" not in source[0]:
            source = ("::ffff:" + source[0], source[1], 0, 0)
        if box.waiting and box.room < len(data) + OVERHEAD:
            network.count("datagrams without room")
            return
        network.note(f"datagram {network.shown(source)} -> {network.shown(box.local)} {len(data)}")
        box.room -= len(data) + OVERHEAD
        box.waiting.append((source, data))
        self._push(box)

    def push_to(self, box: Box) -> bool:
        """Give a socket what waits for it. Returns whether something did."""
        waited = bool(box.waiting)
        if waited:
            self._push(box)
        return waited

    def push(self) -> None:
        """Give the sockets what waits for room: the queue of a Unix socket has ten datagrams."""
        for box in list(self._crowded):
            self._push(box)

    def _push(self, box: Box) -> None:
        while box.waiting:
            source, data = box.waiting[0]
            sock = self._sender(source) if box.outlet is None else box.outlet.sock
            try:
                sock.sendto(data, box.name)
            except BlockingIOError:
                if not self._crowded:
                    self.network.push_mail(True)
                self._crowded[box] = None
                return
            except OSError:  # it is closed
                box.waiting.clear()
                break
            box.waiting.popleft()
            box.room += len(data) + OVERHEAD
        if box in self._crowded:
            del self._crowded[box]
            if not self._crowded:
                self.network.push_mail(False)

    def _box_at(self, place: Place, source: Any, address: Any) -> Box | None:
        """The socket that receives at an address; first one that is connected to the sender."""
        best = None
        family = _socket.AF_INET6 if ":" in address[0] else _socket.AF_INET
        for box in self.boxes:
            fits = box.place is place and box.local[1] == address[1] and box.is_open()
            if not fits or not (box.family == family or box.is_dual):
                continue
            if not (_unmapped(box.local)[0] == address[0] or _is_any(box.local)):
                continue
            if box.peer is None:
                best = best or box
            elif _unmapped(box.peer)[:2] == source[:2]:
                return box
        return best

    def _sender(self, source: Any) -> _socket.socket:
        """The socket that stands for a sender."""
        sock = self._senders.pop(source, None)
        if sock is None:
            if len(self._senders) == SENDERS_MAX:
                self._senders.pop(next(iter(self._senders))).close()
            sock = _new_sender()
            name = self._names.get(source)
            if name is None:
                name = self._names[source] = b"%s %x" % (self._root_name(), len(self._names))
                self.addresses[name] = source
            sock.bind(name)
        self._senders[source] = sock  # the last is the one that was used last
        return sock

    def _root_name(self) -> bytes:
        """A name that nobody else has. Those of the senders begin with it.

        The program receives 14 bytes of a name, for that is the length of an address of IPv4.
        """
        if self._root is None:
            self._root = _new_sender()
            self._root.bind("")
        name: bytes = self._root.getsockname()
        return name

    def resume(self) -> None:
        """Roads may be free again."""
        held, self._held = self._held, []
        for args in held:
            self.network.at(self.network.now + 1, self._arrive, *args)

    def close(self) -> None:
        """The world has ended."""
        for box in self.boxes:
            if box.outlet is not None:
                box.outlet.sock.close()
        for sock in self._senders.values():
            sock.close()
        if self._root is not None:
            self._root.close()
        self.boxes.clear()
        self._crowded.clear()
        self._senders.clear()


def takes_both(fd: int, family: int, local: Any) -> bool:
    """Whether a socket of this address takes connections to all addresses of IPv4, too."""
    if family != _socket.AF_INET6 or local[0] != ANY[family][0]:
        return False
    twin = _socket.socket(family, _socket.SOCK_STREAM, 0, fd)
    try:
        return not twin.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
    except OSError:
        return False
    finally:
        twin.detach()


def _new_sender() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)


def _unmapped(address: Any) -> Any:
    """An address of IPv4 that was written as one of IPv6, as it is on the way."""
    if not address[0].startswith("::ffff:"):
        return address
    return (address[0].removeprefix("::ffff:"), address[1])


def _is_any(*addresses: Any) -> bool:
    """Whether one of the addresses is all that a host has."""
    return any(address[0] in ("0.0.0.0", "::") for address in addresses)


__all__ = ["Box", "Mail", "Outlet", "takes_both"]
