"""Wires: each socket of the program is one end of a pair, and the world holds the other end.

A connection has two wires. The world takes what the program has sent on one, lets virtual time pass, and
sends it on the other. So transports, `sock_*`, `add_reader` and direct calls use real descriptors.

The pairs are Unix sockets: the kernel has delivered before send() returns. An end belongs to its Network,
which closes all of them when the world ends.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
from collections import deque
from typing import Any

from hoop.sim.driver import Choices
from hoop.sim.net.links import Place
from hoop.sim.net.weather import rarely

# The program may put others in the place of these, and so does a simulated disk.
_fstat = os.fstat
_dup = os.dup
_EPOLLIN, _EPOLLOUT = select.EPOLLIN, select.EPOLLOUT
_poll: Any = select.poll

TAKE_BYTES = 65536
GIVE_UP_NS = 900_000_000_000  # after this long TCP gives a connection up
TRY_AGAIN_NS = 1_000_000_000
CUTS_MAX = 100  # later messages of a connection come whole, or much data would take too long
AT_ONCE = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


def inode(fd: int) -> int:
    """The number of the file behind a descriptor; 0 if it is closed."""
    try:
        return _fstat(fd).st_ino
    except OSError:
        return 0


def new_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two sockets that are connected and do not block: one for the program, one for the world."""
    theirs, ours = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    theirs.setblocking(False)
    ours.setblocking(False)
    return theirs, ours


def fill(sock: _socket.socket) -> None:
    """Fill a socket's send buffer, so that it is not writable."""
    nothing = bytes(TAKE_BYTES)
    try:
        while True:
            sock.send(nothing)
    except BlockingIOError:
        pass


class End:
    """The world's end of the wire of one socket."""

    __slots__ = (
        "buffer",
        "choices",
        "cuts",
        "ended",
        "error",
        "far",
        "fd",
        "finished",
        "flying",
        "inbound",
        "ino",
        "last_due",
        "local",
        "lost",
        "network",
        "open",
        "options",
        "other",
        "peer",
        "place",
        "serial",
        "since",
        "sock",
        "state",
        "unheard",
        "unheard_since",
        "user_fd",
        "vanished",
        "waiting",
        "watched",
    )

    def __init__(
        self, network: Any, sock: _socket.socket, choices: Choices, local: Any, peer: Any
    ) -> None:
        self.network = network
        self.sock = sock
        self.fd = sock.fileno()
        self.choices = choices
        self.local = local  # addresses, as the program's socket has them
        self.peer = peer
        self.other: End | None = None  # the end of the socket at the other side
        self.place: Place = network.home  # where the program is, and the other side
        self.far: Place = network.home
        self.waiting: deque[bytes] = deque()  # messages of this end at a road that is blocked
        self.since = 0  # when the first of them began to wait
        self.vanished = False  # its process has ended
        self.lost = False  # and so has its machine: nobody will hear of it
        self.serial = network.number()
        self.state = "connecting"
        self.user_fd = -1  # the descriptor of the program's socket, and its file
        self.ino = 0
        self.buffer = 0  # how much the program can send before the world takes it
        self.cuts = 0  # how many of its messages have come in pieces
        self.flying = 0  # bytes taken here that have not arrived at the other side
        self.last_due = 0  # when the last of these arrives
        self.inbound: deque[bytes] = deque()  # what has arrived for the program; b"" is the end
        self.ended = False  # the program has sent its end
        self.finished = False  # the program was sent the end
        self.open = True
        self.error = 0  # what SO_ERROR says next
        self.watched = 0
        self.unheard = 0  # bytes that have arrived, of which the other side could not tell
        self.unheard_since = -1  # the time since when it could not; -1 if it could
        self.options: dict[tuple[int, int], Any] = {}

    def belongs_to(self, fd: int) -> None:
        """Note the descriptor of the program's socket."""
        self.user_fd = fd
        self.ino = inode(fd)
        self.network.by_inode[self.ino] = self

    def resize(self, sock: _socket.socket, size: int) -> None:
        """Give a socket a buffer of the size that the seed has drawn."""
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, size)
        self.buffer = 2 * size - 128

    # ---- from the program ----

    def take(self) -> None:
        """Take what the program has sent, as far as there is room in flight."""
        total = 0
        while self.open and not self.ended:
            room = self.network.weather.window - self.flying
            if room <= 0:
                break
            try:
                data = self.sock.recv(min(room, TAKE_BYTES))
            except BlockingIOError:
                break
            except OSError:  # the program has closed it, with something unread
                self.ended = True
                self.reset_later(self.other)
                break
            if not data:
                self.ended = True
            total += len(data)
            self.send(data)
        if total >= self.buffer:
            self.network.count("full buffers")
        self.watch()

    def send(self, data: bytes) -> None:
        """Send a message on its way to the other side."""
        network, other = self.network, self.other
        weather = network.weather
        if other is None or not other.open:
            self.reset_later(self)
            return
        if data and rarely(self.choices, weather.faults.reset):
            network.happened("resets", f"{network.name_of(self)} is reset")
            network.at(self.due(), self.reset)
            return
        if data and rarely(self.choices, weather.faults.epipe):
            network.happened("EPIPE", f"{network.name_of(self)} finds the other side gone")
            network.at(self.due(), self.break_off)
            return
        pieces = weather.cut(data, self.choices) if self.cuts < CUTS_MAX else [data]
        if len(pieces) > 1:
            self.cuts += 1
            network.happened("short reads", f"{network.name_of(self)} {len(data)} bytes in pieces")
        for piece in pieces:
            self.flying += len(piece)
            network.at(self.due(len(piece)), other.arrive, piece)

    def due(self, n: int = 0) -> int:
        """When a message of n bytes arrives, if it begins its way now: after those before it."""
        network = self.network
        weather = network.weather
        spike = rarely(self.choices, weather.spikes)
        if spike:
            network.happened("spikes", f"{network.name_of(self)} is slow for a message")
        road = network.roads.find(self.place, self.far)
        by = weather if road is None else road.over(weather)
        due: int = max(network.now + by.latency(self.choices, spike), self.last_due)
        self.last_due = due + by.transfer(n)
        return self.last_due

    # ---- to the program ----

    def arrive(self, data: bytes) -> None:
        """A message has arrived: the program may receive it."""
        other = self.other
        assert other is not None
        if other.lost:
            return
        if other.place is not self.place and (
            other.waiting or self.network.blocks(other.place, self.place)
        ):
            other.wait(data)
            return
        self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        other = self.other
        assert other is not None
        if not self.open:
            other.flying -= len(data)
            if self.vanished:
                self.reset_later(other)
            return
        self.network.note_wire(other, data)
        self.inbound.append(data)
        if other.unheard_since >= 0 or self.network.blocks(self.place, other.place):
            self._acknowledge(0)
        self.push()

    def push(self) -> None:
        """Give the program what has arrived, as far as its socket takes it."""
        other = self.other
        assert other is not None
        while self.inbound:
            data = self.inbound[0]
            if not data:
                self.inbound.clear()
                self.finish()
                break
            try:
                n = self.sock.send(data, AT_ONCE)
            except BlockingIOError:
                break
            except OSError:  # the program has closed it, or receives no more
                self.inbound.clear()
                other.flying = 0
                if self.hung_up():
                    self.reset_later(other)
                break
            self._acknowledge(n)
            if n == len(data):
                self.inbound.popleft()
            else:
                self.inbound[0] = data[n:]
        self.watch()
        other.watch()

    def finish(self) -> None:
        """The other side has sent its end."""
        self.finished = True
        try:
            self.sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the program has closed it
            pass
        if self.ended and self.other is not None and self.other.finished:
            self.close()
            self.other.close()

    # ---- roads that are blocked ----

    def wait(self, data: bytes) -> None:
        """Keep a message that a blocked road has stopped. After 15 minutes TCP gives up."""
        if not self.waiting:
            self.since = self.network.now
            self.network.stuck[self.serial] = self
            self.network.note(f"stopped {self.network.name_of(self)}")
            self.network.at(self.since + GIVE_UP_NS, self.give_up, self.since)
        self.waiting.append(data)

    def resend(self) -> None:
        """Send what has waited, if the road is free."""
        other = self.other
        assert other is not None
        if self.lost or self.network.blocks(self.place, self.far):
            return
        self.network.stuck.pop(self.serial, None)
        while self.waiting:
            other._take_in(self.waiting.popleft())

    def _acknowledge(self, n: int) -> None:
        """Let the other side hear that so many bytes have been received, with those before.

        If the way back is blocked it hears nothing. After 15 minutes its TCP gives up.
        """
        other, network = self.other, self.network
        assert other is not None
        if not network.blocks(self.place, other.place):
            other.flying -= n
            if other.unheard_since >= 0:
                other.hear()
            return
        other.unheard += n
        if other.unheard_since < 0:
            other.unheard_since = network.now
            network.unheard[other.serial] = other
            network.note(f"not acknowledged {network.name_of(other)}")
            network.at(network.now + GIVE_UP_NS, other.give_up_hearing, network.now)

    def hear(self) -> None:
        """The other side says that all has arrived, if it can."""
        network = self.network
        if network.blocks(self.place, self.far) or network.blocks(self.far, self.place):
            return
        network.unheard.pop(self.serial, None)
        self.flying -= self.unheard
        self.unheard, self.unheard_since = 0, -1
        self.watch()

    def give_up_hearing(self, since: int) -> None:
        """Let the program's socket fail with ETIMEDOUT, if nothing was heard since then."""
        if self.unheard_since == since:
            self._time_out()

    def give_up(self, since: int) -> None:
        """Let the program's socket fail with ETIMEDOUT, if what has waited since then still does."""
        if self.waiting and self.since == since:
            self._time_out()

    def _time_out(self) -> None:
        """Let the program's socket fail with ETIMEDOUT."""
        self.waiting.clear()
        self.network.stuck.pop(self.serial, None)
        if not self.open:
            return
        self.network.note(f"failed {self.network.name_of(self)} {os.strerror(errno.ETIMEDOUT)}")
        self.error = errno.ETIMEDOUT
        self.vanished = True
        if self.place.driver.fail_receiving(self.user_fd, errno.ETIMEDOUT):
            self.close()
        else:
            self.abort()

    def vanish(self) -> None:
        """The process of the program's socket has ended, and the kernel closes it.

        The other side sees the end, or a reset if something was unread. It hears nothing if the machine is
        down.
        """
        self.vanished = True
        self.lost = self.place.down
        other = self.other
        if other is None or not other.open or self.lost:
            self.waiting.clear()
            self.network.stuck.pop(self.serial, None)
        elif self.inbound or self._is_unread():
            self.take()
            self.reset_later(other)
        else:
            self.take()
            if not self.ended:
                self.ended = True
                self.send(b"")
        self.close()

    def _is_unread(self) -> bool:
        """Whether the program has not received all that its socket has."""
        if self.user_fd < 0 or inode(self.user_fd) != self.ino:
            return False
        twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, self.user_fd)
        try:
            return bool(twin.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT))
        except OSError:
            return False
        finally:
            twin.detach()

    # ---- the end ----

    def reset_later(self, end: End | None) -> None:
        """Have the kernel of the other machine say that there is no such connection."""
        if end is not None and end.open:
            self.network.at(self.due(), end.hear_reset, self.network.now + GIVE_UP_NS)

    def hear_reset(self, until: int) -> None:
        """The other side says that there is no such connection. It says so again if the road is blocked."""
        network = self.network
        if not self.open or not network.blocks(self.far, self.place):
            self.abort()
        elif network.now < until:
            network.at(network.now + TRY_AGAIN_NS, self.hear_reset, until)

    def reset(self) -> None:
        """Reset the connection on both sides."""
        other = self.other
        if not self.open or other is None:
            return
        self.network.note(f"reset {self.network.name_of(self)}")
        self.abort()
        other.abort()

    def break_off(self) -> None:
        """The other process has ended. Reads see the end, and sends fail with EPIPE."""
        other = self.other
        if not self.open or other is None:
            return
        self.network.note(f"broken {self.network.name_of(self)}")
        other.abort()
        self.ended = True  # nothing that it still sends goes anywhere
        self.inbound.clear()
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:  # the program has closed it
            pass
        self.watch()

    def abort(self) -> None:
        """Let the program's socket fail with ECONNRESET.

        The kernel says so if the other end is closed with something unread. So this sends a byte on the
        program's own socket first, if the number still belongs to it.
        """
        if not self.open:
            return
        if self.user_fd >= 0 and inode(self.user_fd) == self.ino:
            twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, _dup(self.user_fd))
            try:
                twin.send(b"!", AT_ONCE)
            except OSError:  # it is full, or closed for sending
                pass
            finally:
                twin.close()
        self.close()
        other = self.other
        if other is not None and other.ended:  # it has told the program's other socket already
            other.close()

    def hung_up(self) -> bool:
        """Whether the program has closed its socket."""
        poller = _poll()
        poller.register(self.fd, 0)
        return any(events & select.POLLHUP for _, events in poller.poll(0))

    def watch(self) -> None:
        """Hear of what the program sends if there is room, and of room if something waits for it."""
        wanted = 0
        if self.open and self.state == "connected":
            if not self.ended and self.flying <= self.network.weather.window // 2:
                wanted |= _EPOLLIN
            if self.inbound:
                wanted |= _EPOLLOUT
        if wanted != self.watched:
            self.network.watch(self, wanted)

    def drain(self) -> None:
        """Empty the send buffer of the program's socket: it is writable now."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except OSError:
            pass

    def connected(self) -> None:
        """The connection is made."""
        if self.open and self.state == "connecting":
            self.state = "connected"
            self.network.note(f"connected {self.network.name_of(self)}")
            self.drain()
            self.watch()

    def fail(self, error: int) -> None:
        """The connection cannot be made."""
        if self.open:
            self.error = error
            self.network.note(f"failed {self.network.name_of(self)} {os.strerror(error)}")
            self.drain()
            self.close()

    def close(self) -> None:
        """Close the world's end."""
        if self.open:
            self.open = False
            if self.watched:
                self.network.watch(self, 0)
            self.inbound.clear()
            self.network.unheard.pop(self.serial, None)
            self.unheard_since = -1
            self.network.gone(self)
            self.sock.close()
