# cython: nonecheck=True
"""Wires: each socket of the program is one end of a pair, and the world holds the other, an End.

A connection has two wires. The world takes what the program has sent on one, lets virtual time pass, and
sends it on the other. So transports, `sock_*`, `add_reader` and direct calls use real descriptors.

The pairs are Unix sockets: the kernel has delivered before send() returns. An end belongs to its Network,
which closes all of them when the world ends. The module is compiled, because it runs for each message.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
from collections import deque

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.hoop._c.linux import EPOLLIN, EPOLLOUT, EPOLLRDHUP, hoop_recv, hoop_send
from cython.cimports.hoop._c.swap import hoop_has_hung_up, hoop_unsent
from cython.cimports.hoop.sim.driver import Choices, SimDriver
from cython.cimports.hoop.sim.net.flow import TAKE_BYTES, WatchedWire
from cython.cimports.hoop.sim.net.transports import KEPT_MAX, note_wire, wire_at
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.string import memcpy

from hoop.sim.net.flow import inode
from hoop.sim.net.timeouts import tell_tasks, tell_transport

# The program may put others in the place of these, and so does a simulated disk.
_dup = os.dup

EAGAIN = cython.declare(cython.Py_ssize_t, errno.EAGAIN)
EINTR = cython.declare(cython.Py_ssize_t, errno.EINTR)
INPUT = cython.declare(uint32_t, EPOLLIN | EPOLLRDHUP)
GIVE_UP_NS = 900_000_000_000  # after this long TCP gives a connection up
TRY_AGAIN_NS = 1_000_000_000
LINGER = struct.Struct("@ii")  # of SO_LINGER: whether it is on, and the seconds
CUTS_MAX = 100  # later messages of a connection come whole, or much data would take too long
AT_ONCE = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


@cython.cclass
class End(WatchedWire):
    """The world's end of the wire of one socket."""

    is_wire = True  # the kernel has a Unix socket in its place

    def __init__(self, network, sock, choices: Choices, local, peer):
        self.network = self.flow = network
        self.delays = network.weather
        self.sock = sock
        self.fd = sock.fileno()
        self.choices = choices
        self.local = local
        self.peer = peer
        self.place = self.far = network.home
        self.waiting = deque()
        self.inbound = deque()
        self.serial = self.flow.number()
        self.state = "connecting"
        self.user_fd = -1
        self.open = True
        self.unheard_since = -1
        self.options = {}

    def belongs_to(self, fd: int) -> None:
        """Note the descriptor of the program's socket."""
        self.user_fd = fd
        self.ino = inode(fd)
        self.network.by_inode[self.ino] = self
        note_wire(fd, self)

    def resize(self, size: int) -> None:
        """Note the size of the buffer that the program's socket gets when it is connected."""
        self.size = size
        self.buffer = 2 * size - 128

    # ---- from the program ----

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def take(self, ends: cython.bint = True) -> cython.int:
        """Take what the program has sent, as far as there is room in flight.

        Without `ends` the program has not closed its socket, nor sent its end. Then a short read has it all.
        """
        return self.take_from(ends, True)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_from(self, ends: cython.bint, of_kernel: cython.bint) -> cython.int:
        """Take what was kept and, unless it is all, what the kernel has."""
        n: cython.Py_ssize_t
        most: cython.Py_ssize_t
        first: cython.Py_ssize_t
        total: cython.Py_ssize_t = 0
        kept: bytes
        while self.open and not self.ended:
            most = min(self.delays.window - self.flying, TAKE_BYTES)
            if most <= 0:
                break
            first = 0
            kept = self.kept
            if kept is not None:
                self.kept = None
                first = PyBytes_GET_SIZE(kept)
                if not of_kernel or first == most:
                    total = first
                    self.send(kept)
                    break
                memcpy(self.flow.buffer, PyBytes_AS_STRING(kept), first)
            n = hoop_recv(self.fd, self.flow.buffer + first, most - first)
            if first and n > 0:
                n += first
            elif first:
                total = first
                self.send(kept)
            if n == -EINTR:
                continue
            if n == -EAGAIN:
                break
            if n < 0:  # the program has closed it, with something unread
                self.ended = True
                self.reset_later(self.other)
                break
            if n == 0:
                self.ended = True
                if self.options and self.lingers_not() and self.hung_up():
                    self.reset_later(self.other)
                    break
            total += n
            self.send(self.flow.buffer[:n])
            if n < most and not ends:
                break
        if total >= self.buffer:
            self.network.count("full buffers")
        return self.watch()

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def send(self, data: bytes) -> cython.int:
        """Send a message on its way to the other side."""
        network, other = self.network, self.other
        if other is None or not other.open:
            self.reset_later(self)
            return 0
        if data and rarely(self.choices, self.delays.reset):
            self.tell("resets", "is reset")
            network.at(self.due(), self.reset)
            return 0
        if data and rarely(self.choices, self.delays.epipe):
            self.tell("EPIPE", "finds the other side gone")
            network.at(self.due(), self.break_off)
            return 0
        due: cython.longlong
        piece: bytes
        pieces: list = self.delays.cut(data, self.choices) if self.cuts < CUTS_MAX else [data]
        if len(pieces) > 1:
            self.cuts += 1
            self.tell("short reads", f"{len(data)} bytes in pieces")
        for piece in pieces:
            self.flying += len(piece)
            due = self.due(len(piece))
            self.flow.events.put(due, self.flow.next_number(), other, piece)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, kind: str, what: str) -> cython.int:
        """Count what the last choice has brought about, and say it if somebody wants to know."""
        self.network.count(kind)
        if self.choices.script.said is not None:
            self.choices.script.say(f"{self.words()} {what}")
        return 0

    @cython.cfunc
    def words(self) -> str:
        """The two addresses."""
        if self.name is None:
            self.name = self.network.name_of(self)
        return self.name

    @cython.cfunc
    @cython.exceptval(check=False)
    def keep(self, chunk: bytes) -> cython.bint:
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk)
        if self.kept is not None or n > KEPT_MAX or self.flying + n > self.delays.window:
            return False
        if not self.open or self.ended or self.shut or not self.watched & INPUT:
            return False
        if hoop_unsent(self.user_fd) != 0:
            return False
        self.kept = chunk
        self.flow.kept.append(self)
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spill_kept(self) -> cython.int:
        kept: bytes = self.kept
        if kept is not None:
            self.kept = None
            hoop_send(self.user_fd, PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))
        return 0

    @cython.ccall
    @cython.exceptval(-1, check=True)
    def due(self, n: cython.Py_ssize_t = 0) -> cython.longlong:
        """When a message of n bytes arrives, if it begins its way now: after those before it."""
        network = self.network
        now: cython.longlong = self.flow.driver.clock.ns
        due: cython.longlong
        spike: cython.bint = rarely(self.choices, self.delays.spikes)
        if spike:
            self.tell("spikes", "is slow for a message")
        road = None if self.place is self.far else network.roads.find(self.place, self.far)
        if road is None:
            due = now + self.delays.time_of_way(self.choices, spike)
            self.last_due = max(due, self.last_due) + self.delays.time_on_link(n)
        else:
            by = road.over(network.weather)
            due = now + by.latency(self.choices, spike)
            self.last_due = max(due, self.last_due) + by.transfer(n)
        return self.last_due

    # ---- to the program ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arrive(self, data: bytes) -> cython.int:
        """A message has arrived: the program may receive it."""
        other = self.other
        if other.lost:
            return 0
        if other.waiting or blocks(self.network, other.place, self.place):
            other.wait(data)
            return 0
        return self.take_in(data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_in(self, data: bytes) -> cython.int:
        other = self.other
        if not self.open:
            other.flying -= len(data)
            if self.vanished:
                self.reset_later(other)
            return 0
        if self.flow.driver.trace is not None:
            self.flow.driver.note(f"wire {other.words()} {len(data) if data else 'end'}")
        if other.unheard_since >= 0 or blocks(self.network, self.place, other.place):
            self.acknowledge(0)
        if self.inbound or not self.push_at_once(data):
            self.inbound.append(data)
            self.push()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def give(self, data: bytes) -> cython.Py_ssize_t:
        """Give the program a message. Returns how much of it its socket takes, or -errno."""
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(data)
        if not self.hand(data):
            self.in_kernel = self.flow.driver.clock.stirred = True
            n = hoop_send(self.fd, PyBytes_AS_STRING(data), n)
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def push_at_once(self, data: bytes) -> cython.bint:
        """Give the program a message before which none waits. False if it takes nothing of it now."""
        taken: cython.Py_ssize_t = self.give(data) if data else -EAGAIN
        if taken < 0:
            return False
        self.acknowledge(taken)
        if taken < PyBytes_GET_SIZE(data):
            self.inbound.append(data[taken:])
        self.watch()
        self.other.watch()
        return True

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def push(self) -> cython.int:
        """Give the program what has arrived, as far as its socket takes it."""
        taken: cython.Py_ssize_t
        data: bytes
        other = self.other
        while self.inbound:
            data = self.inbound[0]
            if not data:
                self.inbound.clear()
                self.finish()
                break
            taken = self.give(data)
            if taken == -EINTR:
                continue
            if taken == -EAGAIN:
                break
            if taken < 0:  # the program has closed it, or receives no more
                self.inbound.clear()
                other.flying = 0
                if self.hung_up():
                    self.reset_later(other)
                break
            self.acknowledge(taken)
            if taken == PyBytes_GET_SIZE(data):
                self.inbound.popleft()
            else:
                self.inbound[0] = data[taken:]
        self.watch()
        return other.watch()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hand(self, data: bytes) -> cython.bint:
        """Hand bytes over for an op of the program's, if its driver receives and the kernel has none."""
        driver: SimDriver
        if self.in_kernel or wire_at(self.user_fd) is not self:
            return False
        driver = self.place.driver
        return driver.completions is not None and driver.completions.hand(self, self.user_fd, data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spill_handed(self) -> cython.int:
        handed: bytes = self.handed
        if handed is not None:
            self.handed = None
            self.in_kernel = self.flow.driver.clock.stirred = True
            hoop_send(self.fd, PyBytes_AS_STRING(handed), PyBytes_GET_SIZE(handed))
        return 0

    def finish(self) -> None:
        """The other side has sent its end."""
        self.finished = self.flow.driver.clock.stirred = True
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
            other.take_in(self.waiting.popleft())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def acknowledge(self, n: cython.Py_ssize_t) -> cython.int:
        """Let the other side hear that so many bytes have been received, with those before.

        If the way back is blocked it hears nothing. After 15 minutes its TCP gives up.
        """
        other, network = self.other, self.network
        if not blocks(network, self.place, other.place):
            other.flying -= n
            if other.unheard_since >= 0:
                other.hear()
            return 0
        other.unheard += n
        if other.unheard_since < 0:
            other.unheard_since = network.now
            network.unheard[other.serial] = other
            network.note(f"not acknowledged {network.name_of(other)}")
            network.at(network.now + GIVE_UP_NS, other.give_up_hearing, network.now)
        return 0

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
        self.network.has_errors = self.vanished = True
        fd, loop = self.user_fd, self.place.loop
        is_held: cython.bint = fd >= 0 and inode(fd) == self.ino
        if is_held and tell_transport(loop, fd, errno.ETIMEDOUT):
            self.close()
            return
        self.abort()
        if is_held and tell_tasks(loop, fd, errno.ETIMEDOUT):
            self.network.take_error(fd)

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
        elif self.inbound or self.handed is not None or self._is_unread():
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

    def lingers_not(self) -> bool:
        """Whether a close() resets the connection: SO_LINGER is set, with no time."""
        given = self.options.get((_socket.SOL_SOCKET, _socket.SO_LINGER), (None,))[0]
        return isinstance(given, bytes) and LINGER.unpack(given[: LINGER.size]) == (1, 0)

    def hung_up(self) -> bool:
        """Whether the program has closed its socket."""
        return hoop_has_hung_up(self.fd) != 0

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def watch(self) -> cython.int:
        """Hear of what the program sends if there is room, and of room if something waits for it."""
        wanted: uint32_t = 0
        if self.open and self.state == "connected":
            if not self.ended and self.flying <= self.delays.window // 2:
                wanted |= INPUT
            if self.inbound:
                wanted |= EPOLLOUT
        if wanted != self.watched:
            self.flow.watch(self, wanted)
        return 0

    def widen(self) -> None:
        """Give the program's socket, if it is still there, the buffer that the seed has drawn."""
        if self.user_fd >= 0 and inode(self.user_fd) == self.ino:
            twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, self.user_fd)
            twin.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, self.size)
            twin.detach()

    def drain(self) -> None:
        """Empty the send buffer of the program's socket: it is writable now."""
        try:
            while self.sock.recv(TAKE_BYTES):
                pass
        except OSError:
            pass

    def connected(self) -> None:
        """The connection is made."""
        if self.open and self.state == "connecting":
            self.state = "connected"
            self.network.note(f"connected {self.network.name_of(self)}")
            self.widen()
            self.drain()
            self.watch()

    def fail(self, error: int) -> None:
        """The connection cannot be made."""
        if self.open:
            self.error = error
            self.network.has_errors = True
            self.network.note(f"failed {self.network.name_of(self)} {os.strerror(error)}")
            self.drain()
            self.close()

    def close(self) -> None:
        """Close the world's end."""
        if self.open:
            self.open = False
            if self.watched:
                self.flow.watch(self, 0)
            self.inbound.clear()
            self.network.unheard.pop(self.serial, None)
            self.unheard_since = -1
            self.network.gone(self)
            self.sock.close()


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def rarely(choices: Choices, chance: cython.double) -> cython.bint:
    """Whether something happens that has this chance."""
    return chance > 0 and choices.rarely(chance)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def blocks(network, start, end) -> cython.bint:
    """Whether messages from one place to another have to wait."""
    return start is not end and network.blocks(start, end)
