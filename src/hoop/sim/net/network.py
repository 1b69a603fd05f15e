"""The network of a world: who listens where, what is under way, and the names of hosts.

Without hosts there is one place, which has all addresses. With them each has its own, and the world's own
program has the others. A connection to an address at which nobody listens is refused.
"""

from __future__ import annotations

import _socket
import errno
import functools
import os
from collections.abc import Sequence
from typing import Any

from hoop.sim.calls import real
from hoop.sim.driver import Choices, Script
from hoop.sim.errors import Unsimulated
from hoop.sim.net import transports
from hoop.sim.net.datagrams import Box, Mail, takes_both
from hoop.sim.net.failures import KINDS, Failures, fail_calls
from hoop.sim.net.flow import Flow, inode
from hoop.sim.net.links import Place, Roads
from hoop.sim.net.weather import LARGE_BUFFER, Faults, Names, Weather, rarely
from hoop.sim.net.wires import End

_dup2 = os.dup2
_get_blocking = os.get_blocking
_get_inheritable = os.get_inheritable

_NOTHING = bytes(2048)  # as much as the smallest buffer of a socket takes
FIRST_PORT = 40001
LAST_PORT = 60999
ANSWER_NS = (
    127_000_000_000  # after this long a connection that gets no answer has failed, as on Linux
)
TRY_AGAIN_NS = 1_000_000_000
LONGEST_RESEND_NS = 120_000_000_000  # between two attempts of TCP, as on Linux
HOME = "10.0.255.1", "fd00::ff:1"  # from these the world's own program connects to hosts
FORGET_AT = (
    256  # look for sockets that are closed when the table is twice as large as after the last time
)
ANY = {_socket.AF_INET: "0.0.0.0", _socket.AF_INET6: "::"}
LOCALHOST = {_socket.AF_INET: "127.0.0.1", _socket.AF_INET6: "::1"}


class Bound:
    """A socket that has an address, and perhaps listens there."""

    def __init__(self, family: int, local: Any, fd: int, place: Place) -> None:
        self.family = family
        self.place = place
        self.local = local
        self.peer = None
        self.error = 0
        self.options: dict[tuple[int, int], Any] = {}
        self.fd = fd
        self.ino = inode(fd)
        self.is_dual = takes_both(fd, family, local)
        self.reuse = False  # others that want the same may have its address, too
        self.has_path = True  # nobody has unlinked the path of a Unix socket
        self.name: Any = None  # the real name at which it listens

    @property
    def is_wire(self) -> bool:
        """Whether the kernel has a Unix socket in its place: it listens."""
        return self.name is not None

    def is_open(self) -> bool:
        """Whether the program has not closed it, or has duplicated it before."""
        return inode(self.fd) == self.ino or self._is_there()

    def _is_there(self) -> bool:
        """Whether its real name is taken still."""
        if self.name is None:
            return False
        probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            probe.bind(self.name)
        except OSError:
            return True
        finally:
            probe.close()
        return False


class Network(Flow):
    """Moves bytes between the sockets of a world."""

    def __init__(self, loop: Any, faults: Faults | None, names: Names | None) -> None:
        super().__init__(loop.sim_driver)
        self.script: Script = loop.script
        self.loop = loop
        self.threads: Any = None  # those of the world
        self.home = Place("", *HOME, loop)  # that of the world's own program
        self.here = self.home  # where the code is that runs now
        self.places: dict[str, Place] = {}  # the others, by address
        self.roads = Roads()
        self.mail = Mail(self)
        self.stuck: dict[int, End] = {}  # ends whose messages wait at a road that is blocked
        self.unheard: dict[
            int, End
        ] = {}  # ends that hear nothing of the messages that have arrived
        self.faults = faults or Faults()
        self.names = {
            name.lower(): [found] if isinstance(found, str) else list(found)
            for name, found in {**_LOCAL, **(names or {})}.items()
        }
        for fault, kind in _PLURALS.items():
            if getattr(self.faults, fault):
                loop.injected.setdefault(kind, 0)  # a fault that never happens is to be seen
        self.failures = Failures(self) if fail_calls(self.faults) else None
        transports.begin(self.failures)
        self.by_inode: dict[int, End | Bound | Box] = {}
        # Options that were set before a socket had an address or was connected, by its inode.
        self._early: dict[int, dict[tuple[int, int], Any]] = {}
        self._forget_at = FORGET_AT
        self._bound: list[Bound] = []
        # The addresses of clients by the real names of their connections, which accept() has told the server.
        self.callers: dict[bytes, Any] = {}
        self._offered: dict[Any, End] = {}  # ends at listening sockets, by the same names
        self._port = FIRST_PORT
        self._links = 0
        self.is_attached = False
        self.has_errors = False  # a connection has failed, and sockets may have to say so

    # ---- time ----

    @functools.cached_property
    def weather(self) -> Weather:
        """The parameters of this seed. A program that connects nothing draws none."""
        return Weather(self.script.stream("network"), self.faults)

    @property
    def paths(self) -> dict[Any, tuple[int, int]]:
        """All Unix sockets that were bound here, by path."""
        return self.here.paths

    def begin(self) -> None:
        """Something is connected: the driver asks from now on."""
        if self.is_attached:
            return
        self.is_attached = True
        self.driver.attach(self.turn)
        self.loop.parameters.update(self.weather.parameters())
        for place in dict.fromkeys((self.home, *self.places.values())):
            self._set_style(place)

    def _set_style(self, place: Place) -> None:
        """Have a driver receive and send, if those of this world do."""
        if self.weather.completes:
            place.driver.complete(self.weather.at_once, 8 * self.weather.at_once)

    def push_mail(self, wanted: bool) -> None:
        """Have each turn begin with datagrams that wait for room, or not."""
        self.driver.attach(self._turn_with_mail if wanted else self.turn)

    def _turn_with_mail(self, now: int, look: bool) -> int:
        self.mail.push()
        self.stir()
        return self.turn(now, look)

    # ---- what a trace says ----

    def happened(self, kind: str, what: str) -> None:
        """Count a fault that the last choice has brought about, for the report."""
        self.count(kind)
        self.script.say(what)

    def count(self, kind: str) -> None:
        """Count something for the report."""
        injected = self.loop.injected
        injected[kind] = injected.get(kind, 0) + 1

    def note(self, what: str) -> None:
        """Write a line into the trace."""
        self.driver.note(what)

    def shown(self, address: Any) -> str:
        """An address in a word."""
        return _shown(address)

    def name_of(self, end: End) -> str:
        """The two addresses of a connection."""
        return f"{_shown(end.local)} -> {_shown(end.peer)}"

    # ---- the sockets of the program ----

    def known(self, fd: int) -> End | Bound | Box | None:
        """Return what the world knows of the program's socket with this descriptor."""
        if fd < 0:  # it is closed
            return None
        found = self.by_inode.get(inode(fd))
        if found is None:
            return self._identify(fd)
        return found

    def _identify(self, fd: int) -> End | None:
        """Find the end of a socket that the program has just accepted, by the name of its peer."""
        if not self._offered:
            return None
        twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        try:
            end = self._offered.pop(twin.getpeername(), None)
        except OSError:
            return None
        finally:
            twin.detach()
        if end is not None:
            self._forget()
            end.belongs_to(fd)
        return end

    def is_listening(self, sock: Any) -> bool:
        """Whether a socket of TCP listens."""
        found = self.known(sock.fileno())
        return isinstance(found, Bound) and found.is_wire and sock.family != _socket.AF_UNIX

    def options_of(self, fd: int, found: End | Bound | Box | None) -> dict[tuple[int, int], Any]:
        """The options that the program has set at a socket. `found` is what the world knows of it."""
        return self._early.setdefault(inode(fd), {}) if found is None else found.options

    def _forget(self) -> None:
        """Forget sockets that the program has closed, if there may be many."""
        if len(self.by_inode) < self._forget_at:
            return
        # A duplicate has another number than the socket that the program has closed.
        in_use = {inode(int(fd)) for fd in real(os.listdir, "/proc/self/fd")}
        self.by_inode = {ino: found for ino, found in self.by_inode.items() if ino in in_use}
        self._early = {ino: found for ino, found in self._early.items() if ino in in_use}
        self._forget_at = FORGET_AT + 2 * len(self.by_inode)

    def replace(self, fd: int, sock: _socket.socket, found: End | Bound | Box) -> None:
        """Put a socket in the place of the program's."""
        former = self.by_inode.pop(inode(fd), None)
        found.options.update(self.options_of(fd, former))
        self._early.pop(inode(fd), None)
        sock.setblocking(_get_blocking(fd))
        exchange = functools.partial(_dup2, sock.fileno(), fd, _get_inheritable(fd))
        self.here.driver.exchange_file(fd, exchange)
        sock.close()
        self._forget()
        if isinstance(found, End):
            found.belongs_to(fd)
        else:
            found.fd, found.ino = fd, inode(fd)
            self.by_inode[found.ino] = found

    def take_error(self, fd: int) -> int:
        """The errno with which a connection has failed, if the program does not know it yet; 0 otherwise."""
        found = self.known(fd) if self.has_errors else None
        if not isinstance(found, End) or not found.error:
            return 0
        error: int = found.error
        found.error = 0
        twin = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        twin.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)  # the kernel has another one
        twin.detach()
        return error

    def choices(self) -> Choices:
        """The numbers that decide the fate of one connection. Each has its own."""
        self._links += 1
        return self.script.stream(f"link {self._links}")

    def answer_time(self) -> float:
        """How many seconds it takes to ask for a name."""
        choices = self.script.stream(f"name {self.number()}")
        ways = (rarely(choices, self.weather.spikes), rarely(choices, self.weather.spikes))
        return sum(self.weather.latency(choices, spike) for spike in ways) * 1e-9

    # ---- listening ----

    def bind(self, family: int, fd: int, address: Any, reuse: bool) -> Bound:
        """Give a socket an address."""
        if family == _socket.AF_UNIX:
            local = address or b"\0%05x" % self.number()  # of those that have no name
        else:
            self.check_owner(family, address)
            local = (address[0], address[1] or self.free_port(family), *address[2:])
        self._bound = [bound for bound in self._bound if bound.is_open()]
        is_dual = takes_both(fd, family, local)
        here = [bound for bound in self._bound if bound.place is self.here]
        others = [bound for bound in here if not (reuse and bound.reuse)]
        if any(_clash(bound, family, local, is_dual) for bound in others):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if family == _socket.AF_UNIX:
            self.paths[local] = (0o755, self.number())
        bound = Bound(family, local, fd, self.here)
        bound.reuse = reuse
        bound.options.update(self._early.pop(bound.ino, {}))
        self._bound.append(bound)
        self.by_inode[bound.ino] = bound
        return bound

    def unlink(self, path: str) -> None:
        """Forget the path of a Unix socket. The socket listens on, and nobody finds it."""
        del self.paths[path]
        for bound in self._bound:
            is_here = bound.family == _socket.AF_UNIX and bound.place is self.here
            if is_here and bound.local == path:
                bound.has_path = False

    def free_port(self, family: int) -> int:
        taken = {bound.local[1] for bound in self._bound if bound.family == family}
        while True:
            port = self._port
            self._port = FIRST_PORT if port >= LAST_PORT else port + 1
            if port not in taken:
                return port

    def listen(self, fd: int, bound: Bound, backlog: int) -> None:
        """Let a socket listen at its address."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        sock.bind("")  # the kernel chooses a name that nobody has
        sock.listen(backlog)
        bound.name = sock.getsockname()
        self.replace(fd, sock, bound)
        self.note(
            f"listening {_shown(bound.local)}{' at ' if self.here.name else ''}{self.here.name}"
        )

    def _listening(self, family: int, address: Any, place: Place) -> Bound | None:
        """The socket of a place that listens at an address."""
        best, rank = None, 0
        for bound in self._bound:
            is_dual = bound.is_dual and family == _socket.AF_INET
            if bound.name is None or not (bound.family == family or is_dual):
                continue
            if bound.place is not place:
                continue
            if family == _socket.AF_UNIX:
                fits = int(bound.local == address and bound.has_path)
            elif bound.local[1] != address[1]:
                fits = 0
            else:
                fits = 3 * (bound.local[0] == address[0]) or 2 * (bound.local[0] == ANY[family])
                fits = fits or is_dual
            if fits and 2 * fits + bound.is_open() > rank:
                best, rank = bound, 2 * fits + bound.is_open()
        return best

    # ---- connecting ----

    def connect(self, family: int, fd: int, address: Any, bound: Bound | None) -> None:
        """Begin to connect a socket. It becomes writable when that is done."""
        if address[0] == ANY[family]:
            address = (LOCALHOST[family], *address[1:])
        if address[0].startswith("::ffff:"):
            raise Unsimulated(f"a connection to {address[0]}", "use the address of IPv4")
        far = self.owner(address)
        local = bound.local if bound is not None else (address[0], 0, *address[2:])
        if far is not self.here and local[0] in (address[0], ANY[family]):
            source = self.here.address if family == _socket.AF_INET else self.here.address6
            local = (source, *local[1:])
        if local[1] == 0:
            local = (local[0], self.free_port(family), *local[2:])
        self.begin()
        theirs, ours = _new_pair()
        choices = self.choices()
        end = End(self, ours, choices, local, address)
        end.place, end.far = self.here, far
        self.ends[end.fd] = end
        end.resize(self.weather.buffer(choices))
        _fill(theirs)
        self.replace(fd, theirs, end)
        self.note(f"connecting {self.name_of(end)}")
        if self._happens("timeout", choices, f"{self.name_of(end)} gets no answer"):
            self.at(self.now + ANSWER_NS, end.fail, errno.ETIMEDOUT)
        else:
            self.at(end.due(), self._reach, end, family, self.now + ANSWER_NS)

    def _happens(self, fault: str, choices: Choices, what: str) -> bool:
        """Whether a fault of this kind happens now."""
        if not rarely(choices, getattr(self.faults, fault)):
            return False
        self.happened(_PLURALS[fault], what)
        return True

    def _reach(self, end: End, family: int, until: int) -> None:
        """A connection reaches the address that it goes to."""
        if not end.open:  # its process has ended
            return
        if end.hung_up():  # the program has given it up
            end.close()
            return
        if self.blocks(end.place, end.far) or self.blocks(end.far, end.place):
            if self.now < until:
                self.at(self.now + TRY_AGAIN_NS, self._reach, end, family, until)
            else:
                end.fail(errno.ETIMEDOUT)
            return
        listening = self._listening(family, end.peer, end.far)
        if listening is None or self._happens(
            "refuse", end.choices, f"{self.name_of(end)} is refused"
        ):
            self.at(end.due(), end.fail, errno.ECONNREFUSED)
            return
        error = self._offer(listening, end)
        if error == errno.EAGAIN and self.now < until:
            self.at(self.now + TRY_AGAIN_NS, self._reach, end, family, until)
        elif error:
            lost = errno.ETIMEDOUT if error == errno.EAGAIN else errno.ECONNREFUSED
            self.at(end.due(), end.fail, lost)
        else:
            assert end.other is not None
            self.at(end.due(), end.connected)
            end.other.last_due = end.last_due

    def _offer(self, listening: Bound, end: End) -> int:
        """Offer a connection to a listening socket. Returns an errno."""
        ours = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, LARGE_BUFFER)
        local, peer = end.peer, end.local
        if listening.is_dual and ":" not in peer[0]:
            local, peer = (("::ffff:" + host, port, 0, 0) for host, port in (local, peer))
        caller = b"%s-%d" % (listening.name, end.serial)  # nobody else has it
        self.callers[caller] = peer
        try:
            ours.bind(caller)
            ours.connect(listening.name)
        except OSError as exc:
            ours.close()
            if exc.errno == errno.ECONNREFUSED:  # the program has closed it
                self._stop(listening)
            return exc.errno or errno.ECONNREFUSED
        other = End(self, ours, self.choices(), local, peer)
        other.place, other.far = listening.place, end.place
        self.ends[other.fd] = other
        other.options.update(listening.options)
        other.told = True
        other.buffer = 2 * LARGE_BUFFER - 128
        other.other, end.other = end, other
        other.state = "connected"
        self._offered[caller] = other
        other.watch()
        return 0

    def _stop(self, listening: Bound) -> None:
        """Forget a listening socket that the program has closed."""
        self.by_inode.pop(listening.ino, None)
        self._bound.remove(listening)

    def connect_unix(self, fd: int, path: Any, bound: Bound | None) -> None:
        """Connect a Unix socket, at once. Raises OSError if nobody listens, or has no room."""
        listening = self._listening(_socket.AF_UNIX, path, self.here)
        if listening is None:
            missing = errno.ECONNREFUSED if path in self.paths else errno.ENOENT
            raise OSError(missing, os.strerror(missing))
        self.begin()
        theirs, ours = _new_pair()
        choices = self.choices()
        end = End(self, ours, choices, bound.local if bound is not None else "", path)
        end.place = end.far = self.here
        error = self._offer(listening, end)
        if error:
            theirs.close()
            ours.close()
            raise OSError(error, os.strerror(error))
        self.ends[end.fd] = end
        end.resize(self.weather.buffer(choices))
        end.told = True
        self.replace(fd, theirs, end)
        end.connected()

    # ---- places ----

    def add(self, place: Place) -> None:
        """A host is there, with its addresses."""
        self.places[place.address] = self.places[place.address6] = place
        if self.is_attached:
            self._set_style(place)

    def owner(self, address: Any, place: Place | None = None) -> Place:
        """The place that an address leads to, seen from a place, or from here."""
        host = address[0]
        if not self.places or host == "::1" or host.startswith("127."):
            return place or self.here
        return self.places.get(host, self.home)

    def check_owner(self, family: int, address: Any) -> None:
        """Raise OSError unless a socket here can have an address."""
        if self.places and address[0] != ANY[family] and self.owner(address) is not self.here:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def blocks(self, start: Place, end: Place) -> bool:
        """Whether messages of connections have to wait."""
        return start is not end and self.roads.block(start, end)

    def resume(self) -> None:
        """Roads may be free again. TCP sends what waits there again, after a while."""
        for end in list(self.stuck.values()):
            if not self.blocks(end.place, end.far):
                waited = min(self.now - end.since, LONGEST_RESEND_NS)
                later = int(end.choices.fraction() * waited)
                self.at(self.now + 1 + later, end.resend)
        for end in list(self.unheard.values()):
            if not self.blocks(end.place, end.far) and not self.blocks(end.far, end.place):
                waited = min(self.now - end.unheard_since, LONGEST_RESEND_NS)
                self.at(self.now + 1 + int(end.choices.fraction() * waited), end.hear)
        self.mail.resume()

    def vacate(self, place: Place) -> None:
        """The process at a place has ended. The kernel closes its sockets, if the place is not down."""
        for bound in [bound for bound in self._bound if bound.place is place]:
            self._stop(bound)
        for end in list(self.ends.values()):
            if end.place is place:
                end.vanish()
        self.mail.vacate(place)

    # ---- the end of the world ----

    def close(self) -> None:
        """Close all that the world holds. The program's sockets stay, and belong to it."""
        transports.begin(None)
        self.driver.attach(None)
        for end in list(self.ends.values()):
            end.close()
        self.mail.close()
        self.clear()
        self.stuck.clear()
        self.unheard.clear()
        self.by_inode.clear()
        self._bound.clear()
        self._offered.clear()

    def gone(self, end: End) -> None:
        """An end is closed."""
        self.ends.pop(end.fd, None)


_LOCAL: dict[str, str | Sequence[str]] = {"localhost": ["127.0.0.1", "::1"]}
_PLURALS = {
    "reset": "resets",
    "refuse": "refusals",
    "timeout": "timeouts",
    "pieces": "short reads",
    "partial": "full buffers",
    "spikes": "spikes",
    "epipe": "EPIPE",
    "cancel": "cancellations",
    **KINDS,
}


def _new_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two sockets that are connected and do not block: one for the program, one for the world."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)


def _fill(sock: _socket.socket) -> None:
    """Make a socket's send buffer the smallest, and fill it, so that it is not writable."""
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 0)
    try:
        while True:
            sock.send(_NOTHING)
    except BlockingIOError:
        pass


def _shown(address: Any) -> str:
    """An address in a word."""
    if not isinstance(address, tuple):
        return repr(address) if address else "unix"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


def _clash(bound: Bound, family: int, local: Any, is_dual: bool) -> bool:
    """Whether no other socket can have an address beside one that is bound."""
    if _socket.AF_UNIX in (bound.family, family):
        return bound.family == family and bound.local == local and bound.has_path
    if bound.family != family:
        return bound.local[1] == local[1] and (bound.is_dual or is_dual)
    (one, port), (other, another) = bound.local[:2], local[:2]
    return port == another and (one == other or ANY[family] in (one, other))
