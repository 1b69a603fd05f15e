"""The disk of a simulation: in memory, with faults, and with a power that can go.

The calls of hoop's files (mounting.py), and those of os and open() (posix.py), end in the methods of Disk
that have the names of calls.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from hoop.disk.call import open_waiting as open_by_kernel
from hoop.files.whole import process_umask
from hoop.sim.calls import real
from hoop.sim.driver import Choices, Script
from hoop.sim.errors import PowerLoss
from hoop.sim.net.weather import check_chance
from hoop.sim.storage.tree import File, Folder, Node, Place, Tree, refused

OF_DISK = 40  # the stream of numbers
NEW = os.O_CREAT | os.O_TRUNC
CHANGING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT
# A descriptor is made by opening a memfd again: the name was seen to already.
ABOUT_NAMES = NEW | os.O_EXCL | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_TMPFILE & ~os.O_DIRECTORY

FAULTS = ("capacity", "short_reads", "short_writes", "eio", "power_loss_after")
# Of the errors that a disk makes, those that fail() can ask for.
CALLS = (
    *("open", "read", "write", "fsync", "truncate", "stat", "listdir"),
    *("rename", "unlink", "mkdir", "rmdir", "link", "symlink"),
)


def check_number(name: str, number: Any) -> None:
    """Raise TypeError or ValueError unless it is a whole number, 0 or greater."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, not {type(number).__name__}")
    if number < 0:
        raise ValueError(f"{name} must be 0 or greater, not {number}")


class Disk:
    """A disk in memory. It begins with what the real one has, and never writes there.

    `capacity` is its size in bytes. `short_reads`, `short_writes` and `eio` say which part of the reads and
    writes, from 0 to 1, move less than was asked for, or fail. `power_loss_after` ends a run before the
    operation of this number that would change the disk.

        disk = hoop.sim.Disk(capacity=1 << 20, short_reads=0.1)
        hoop.sim.run(main, seed=7, disk=disk)
    """

    def __init__(
        self,
        *,
        capacity: int | None = None,
        short_reads: float = 0.0,
        short_writes: float = 0.0,
        eio: float = 0.0,
        power_loss_after: int | None = None,
    ) -> None:
        for name, part in (
            ("short_reads", short_reads),
            ("short_writes", short_writes),
            ("eio", eio),
        ):
            check_chance(name, part)
        for name, number in (("capacity", capacity), ("power_loss_after", power_loss_after)):
            if number is not None:
                check_number(name, number)
        self.capacity = capacity
        self.short_reads = short_reads
        self.short_writes = short_writes
        self.eio = eio
        self.power_loss_after = power_loss_after
        self.operations = 0  # changes of the disk so far
        self.injected = {"short reads": 0, "short writes": 0, "errors": 0, "power losses": 0}
        self.without_power = False
        self.last = ""  # the operation before which the power went
        self.tree = Tree()
        self._failures: list[tuple[str, OSError]] = []
        self.choices = Choices(0, OF_DISK)
        self._delays = self._losses = self.choices
        self._script: Script | None = None
        self._latency = 1e-4
        self._salt = 0
        self._reported: dict[str, int] | None = None
        self._nodes: dict[tuple[int, int], Node] = {}  # by device and inode of their descriptors
        self.on_loss: Callable[[], object] | None = None
        self.umask = 0o022
        self.folder: bytes | None = None

    def __repr__(self) -> str:
        faults = {name: getattr(self, name) for name in FAULTS}
        shown = ", ".join(f"{name}={value}" for name, value in faults.items() if value)
        return f"hoop.sim.Disk({shown})"

    # ---- for tests ----

    def copy(self) -> Disk:
        """Return a disk with the same content and faults. Raises RuntimeError while a world uses this one."""
        if self._nodes:
            raise RuntimeError("a simulation uses this disk")
        other = copy.copy(self)
        other.tree = copy.deepcopy(self.tree)
        other.injected = dict(self.injected)
        other._failures = list(self._failures)
        other._nodes = {}
        return other

    def write(self, path: Any, data: bytes) -> None:
        """Put a file on the disk, with its folders, safe from power losses."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        where = os.fsencode(os.path.abspath(path))
        parts = where.strip(b"/").split(b"/")
        for n in range(1, len(parts)):
            place = self.find(b"/" + b"/".join(parts[:n]))
            if place.node is None:
                made = Folder(self.tree.number(), 0o755, place.folder)
                self.tree.change((place.parent(), place.name, made))
        place = self.find(where)
        if isinstance(place.node, Folder):
            raise refused(errno.EISDIR)
        file = File(self.tree.number(), 0o644)
        file.data = file.durable = bytes(data)
        self.tree.change((place.parent(), place.name, file))
        self.tree.sync_all()

    def read(self, path: Any) -> bytes:
        """Return the content of a file as programs see it. Raises FileNotFoundError if there is none."""
        node = self.find(path).found()
        if not isinstance(node, File):
            raise refused(errno.EISDIR)
        return node.content()

    def fail(self, call: str, error: OSError, *, times: int = 1) -> None:
        """Let the next calls of a kind fail: "fsync", "write", "rename" and so on.

        disk.fail("fsync", OSError(errno.EIO, "I/O error"))
        """
        if call not in CALLS:
            raise ValueError(f"call must be one of {', '.join(CALLS)}, not {call!r}")
        if not isinstance(error, OSError) or not error.errno:
            raise TypeError("error must be an OSError with a number")
        check_number("times", times)
        self._failures += [(call, error)] * times

    def power_loss(self) -> None:
        """Lose what no sync has made durable, or parts of it. In a world this ends the run by PowerLoss."""
        inside = bool(self._nodes) or self.on_loss is not None
        if self.without_power:
            raise PowerLoss(self.last)
        self.go_dark("power_loss()")
        if inside:
            raise PowerLoss(self.last)
        self.boot()

    # ---- power ----

    def go_dark(self, operation: str) -> None:
        """The power goes. From now on no call changes anything, until boot()."""
        self.without_power = True
        self._count("power losses")
        self.last = operation
        if self.tree.lose(self._losses):
            self._say("a change of a name is lost")
        files = {node for node in self._nodes.values() if isinstance(node, File)}
        files.update(node for node in self.tree.nodes() if isinstance(node, File))
        for file in sorted(files, key=lambda file: file.number):
            before = file.content()
            file.lose(self._losses)
            if file.content() != before:
                self._say(f"a file of {len(before)} bytes loses some, and has {file.size()} now")
        self._forget()
        if self.on_loss is not None:
            self.on_loss()

    def boot(self) -> None:
        """The power is back."""
        self.without_power = False
        self.power_loss_after = None

    def _forget(self) -> None:
        """No descriptor leads to this disk any more."""
        for node in self._nodes.values():
            if isinstance(node, File | Folder):
                node.close()
        self._nodes.clear()

    def begins(self, call: str, about: object = "") -> None:
        """A call begins. Raises what a test has asked for."""
        for i, (failing, error) in enumerate(self._failures):
            if failing == call:
                del self._failures[i]
                self._count("errors")
                raise OSError(error.errno, error.strerror or os.strerror(error.errno or 0))

    def changes(self, call: str, about: object = "") -> None:
        """A call begins that would change the disk. The power may go before."""
        if not self.without_power and self.operations == self.power_loss_after:
            shown = f" {os.fsdecode(about)!r}" if isinstance(about, bytes) else ""
            self.go_dark(f"operation {self.operations}, {call}{shown}")
        if self.without_power:
            raise PowerLoss(self.last)
        self.begins(call, about)
        self.operations += 1

    def draws(self, part: float, name: str) -> bool:
        """Whether a fault happens that happens to a part of the calls."""
        if not part or not self.choices.rarely(part):
            return False
        self._count(name)
        self._say(f"one of the {name}")
        return True

    def _count(self, name: str) -> None:
        """Count a fault that has happened, also for the report of a run."""
        self.injected[name] += 1
        if self._reported is not None:
            self._reported[name] = self._reported.get(name, 0) + 1

    def _say(self, text: str) -> None:
        """Say what the last choice has done."""
        if self._script is not None:
            self._script.say(text)

    def asked_for(self) -> list[str]:
        """The faults that are to happen by chance."""
        asked = {
            "short reads": self.short_reads,
            "short writes": self.short_writes,
            "errors": self.eio,
        }
        return [name for name, part in asked.items() if part]

    # ---- room ----

    def used(self) -> int:
        """The bytes of all files that the program has written, of open ones too."""
        files = {node for node in self._nodes.values() if isinstance(node, File)}
        files.update(node for node in self.tree.nodes() if isinstance(node, File))
        return sum(file.size() for file in files if file.below is None)

    def room_for(self, file: File, offset: int, length: int) -> int:
        """How many of the bytes find room. Raises OSError if none does."""
        if self.capacity is None or offset + length <= file.size():
            return length
        end = file.size() + max(self.capacity - self.used(), 0)
        if end <= offset and length:
            self._count("errors")
            raise refused(errno.ENOSPC)
        return min(length, end - offset)

    def reserve(self, file: File, offset: int, length: int) -> None:
        """Raise OSError unless all of the bytes find room."""
        if self.room_for(file, offset, length) < length:
            self._count("errors")
            raise refused(errno.ENOSPC)

    # ---- names ----

    def cwd(self) -> bytes:
        """The current folder."""
        return self.folder or real(os.getcwdb)

    def find(self, path: Any, dir_fd: int | None = None, follow: bool = True) -> Place:
        """Where a path leads. See Tree.find."""
        name = path if isinstance(path, bytes) else os.fsencode(path)
        start = self.tree.root
        if name and not name.startswith(b"/"):
            if dir_fd is None or dir_fd == -100:
                name = os.path.join(self.cwd(), name)
            else:
                node = self.of_descriptor(dir_fd)
                if node is None:  # a real folder
                    above = real(os.readlink, f"/proc/self/fd/{dir_fd}")
                    name = os.path.join(os.fsencode(above), name)
                elif isinstance(node, Folder):
                    start = node
                else:
                    raise refused(errno.ENOTDIR)
        return self.tree.find(start, name, follow)

    def of_descriptor(self, fd: int) -> Node | None:
        """The file or folder that a descriptor leads to; None if that is something real."""
        status = real(os.fstat, fd)
        return self._nodes.get((status.st_dev, status.st_ino))

    # ---- calls ----

    def open(self, path: Any, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        """Open or make a file. Returns a real descriptor."""
        exclusive = flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        place = self.find(path, dir_fd, not flags & os.O_NOFOLLOW and not exclusive)
        node = place.node
        if place.slash and flags & os.O_CREAT:
            raise refused(errno.EISDIR)
        if place.slash and isinstance(node, File):
            raise refused(errno.ENOTDIR)
        (self.changes if node is None or flags & os.O_TRUNC else self.begins)("open", place.name)
        mode &= ~self.umask & 0o7777
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            node = File(self.tree.number(), mode)
            node.links = 0
        elif node is None:
            if not flags & os.O_CREAT:
                raise refused(errno.ENOENT)
            if place.folder is None or flags & os.O_DIRECTORY:
                raise refused(errno.EISDIR)
            node = File(self.tree.number(), mode)
            self.tree.change((place.folder, place.name, node))
        elif exclusive:
            raise refused(errno.EEXIST)
        return self._descriptor(node, flags, mode)

    def _descriptor(self, node: Node, flags: int, mode: int) -> int:
        if isinstance(node, Folder):
            if flags & (CHANGING & ~os.O_TRUNC):
                raise refused(errno.EISDIR)
        elif not isinstance(node, File):
            path = getattr(node, "path", None)  # else a link that was not to be followed
            if path is None:
                raise refused(errno.ELOOP)
            return real(os.open, path, flags, mode)
        elif flags & os.O_DIRECTORY and flags & os.O_TMPFILE != os.O_TMPFILE:
            raise refused(errno.ENOTDIR)
        if isinstance(node, File) and flags & CHANGING:
            node.own()
        status = real(os.fstat, node.open())
        self._nodes[status.st_dev, status.st_ino] = node
        if isinstance(node, File) and flags & os.O_TRUNC and node.size():
            real(os.ftruncate, node.fd, 0)
            node.wrote(0, None)
        kept = flags & ~ABOUT_NAMES | os.O_DIRECTORY * isinstance(node, Folder)
        fd: int = open_by_kernel(b"/proc/self/fd/%d" % node.fd, kept)  # no audit hook sees this
        if fd < 0:
            raise refused(-fd)
        return fd

    def write_to(self, fd: int, file: File, offset: int, length: int, how: Any) -> int:
        """Write by `how(length)`, which returns the number of bytes, or less than that many."""
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        self.changes("write")
        if self.draws(self.eio, "errors"):
            raise refused(errno.EIO)
        if flags & os.O_APPEND:
            offset = file.size()
        elif offset < 0:
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        n = self.room_for(file, offset, length)
        if n > 1 and self.draws(self.short_writes, "short writes"):
            n = 1 + self.choices.choose(n - 1)
        done: int = how(n)
        if done > 0 and file.fd >= 0:
            file.wrote(offset, os.pread(file.fd, done, offset))
            if flags & os.O_DSYNC:
                file.sync()
        return done

    def read_length(self, length: int) -> int:
        """How many bytes a read may return at most."""
        self.begins("read")
        if self.draws(self.eio, "errors"):
            raise refused(errno.EIO)
        if length > 1 and self.draws(self.short_reads, "short reads"):
            return 1 + self.choices.choose(length - 1)
        return length

    def fsync(self, fd: int) -> None:
        """Make a file durable, or the names in a folder."""
        node = self.of_descriptor(fd)
        if node is None:
            if self.without_power:
                raise PowerLoss(self.last)
            return real(os.fsync, fd)
        try:
            self.changes("fsync")
            if self.draws(self.eio, "errors"):
                raise refused(errno.EIO)
        except OSError:
            if isinstance(node, File):
                node.fail_to_sync()
            raise
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Folder):
            self.tree.sync(node)
        return None

    def truncate(self, file: File, size: int, how: Callable[[], object]) -> None:
        """Cut or extend a file by `how()`."""
        self.changes("truncate")
        file.own()
        self.reserve(file, 0, size)
        how()
        file.wrote(size, None)

    def change(self, call: str, *names: Any) -> None:
        """Change names, by a call of this name."""
        self.changes(call, names[0][1])
        self.tree.change(*names)

    def names_in(self, folder: Folder) -> list[bytes]:
        """The names in a folder."""
        self.begins("listdir")
        return self.tree.names_in(folder, self._salt)

    # ---- the world ----

    def mount(
        self,
        on_loss: Callable[[], object],
        script: Script,
        injected: dict[str, int],
        host: str = "",
    ) -> None:
        """A world begins to use the disk, for one of its hosts. It counts faults in `injected`, too."""
        if self.on_loss is not None:
            raise RuntimeError("another simulation uses this disk")
        self._script = script
        of_host = f" {host}" if host else ""
        self.choices = script.stream(f"disk{of_host}")
        self._losses = script.stream(f"lost{of_host}")
        self._delays = script.stream(f"disk delay{of_host}")
        scale = script.stream(f"disk scale{of_host}")
        self._salt = scale.choose(1 << 30)
        # Each seed has a disk of another speed: from ten microseconds to ten milliseconds.
        self._latency = 10.0 ** (scale.choose(4) - 5)
        self.umask = real(process_umask)
        self.on_loss = on_loss
        self._reported = injected
        for name in self.asked_for():
            injected.setdefault(name, 0)  # a fault that never happens is to be seen

    def unmount(self) -> None:
        """The world has ended."""
        self.on_loss = self._reported = self._script = None
        self.folder = None
        for node in list(self.tree.nodes()):
            if isinstance(node, File | Folder):
                node.close()
        self._forget()
        self.boot()

    def delay(self, syncs: bool) -> float:
        """How long a call takes. One in fifty is much slower than the others, and so are syncs."""
        slow = (60.0 if self._delays.rarely(0.02) else 1.0) * (20.0 if syncs else 1.0)
        return self._delays.fraction() * self._latency * slow

    def choose_moment(self) -> int:
        """How many changes of the disk there may be until the power goes."""
        moment = self._losses.choose(1 << (2 + self._losses.choose(9)))
        if moment:
            self._say(f"the power goes after {moment - 1} more changes of the disk")
        return moment - 1 if moment else 1 << 60  # 0 is the plain choice: the end
