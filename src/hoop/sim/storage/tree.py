"""The content of a simulated disk: files, folders and links, and the part that is safe from a power loss.

While a world runs, the content of a file that was opened is in a memfd. So its descriptors are real ones, and
all calls by descriptor work. A folder lets the real folder of the same path shine through where the program
has changed nothing. Devices are real, and so is all in /proc, /sys and /dev.

Changes of names go into a journal until the folder is synced. A file knows the writes since its last sync.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import zlib
from collections.abc import Iterator
from typing import Any

from hoop.sim.calls import real
from hoop.sim.driver import Choices
from hoop.sim.swaps import is_inside

SECTOR = 512
DEVICE = 0x5D
EPOCH_NS = 1_735_689_600_000_000_000  # when a world begins
LINKS_MAX = 40
NAME_MAX = 255
REAL = (b"/proc", b"/sys", b"/dev")  # what is below these is real

Write = tuple[
    int, bytes | None
]  # bytes at an offset, or None if the file was cut or extended to there
Name = tuple["Folder", bytes, "Node | None"]  # a name in a folder, and its new node


def refused(number: int) -> OSError:
    """The exception for an error of the kernel's."""
    return OSError(number, os.strerror(number))


def now_ns() -> int:
    """The virtual time of day; outside of a world, that of its beginning."""
    return time.time_ns() if is_inside() else EPOCH_NS


class Node:
    """Something that has a name."""

    kind = 0

    def __init__(self, number: int, mode: int) -> None:
        self.number = number
        self.mode = mode
        self.links = 1
        self.uid = os.geteuid()
        self.gid = os.getegid()
        self.accessed = self.modified = self.changed = now_ns()

    def touch(self) -> None:
        """It is modified now."""
        self.modified = self.changed = now_ns()

    def size(self) -> int:
        """Its size in bytes."""
        return 0

    def status(self) -> tuple[Any, ...]:
        """The fields of os.stat_result."""
        times = self.accessed, self.modified, self.changed
        seconds = [ns // 1_000_000_000 for ns in times]
        size = self.size()
        return (
            *(self.kind | self.mode, self.number, DEVICE, self.links, self.uid, self.gid, size),
            *seconds,
            *(ns * 1e-9 for ns in times),
            *times,
            *(4096, -(-size // SECTOR), 0),
        )

    def take_status(self, found: os.stat_result) -> None:
        """Take over the status of a real file."""
        self.mode = stat.S_IMODE(found.st_mode)
        self.uid, self.gid = found.st_uid, found.st_gid
        self.accessed, self.modified = found.st_atime_ns, found.st_mtime_ns
        self.changed = found.st_ctime_ns


class Special(Node):
    """A path that leads to something real."""

    def __init__(self, path: bytes) -> None:
        self.path = path


class Link(Node):
    """A symbolic link."""

    kind = stat.S_IFLNK

    def __init__(self, number: int, target: bytes) -> None:
        super().__init__(number, 0o777)
        self.target = target

    def size(self) -> int:
        """The length of the target."""
        return len(self.target)


class File(Node):
    """A file. `durable` is the content that a power loss leaves for sure."""

    kind = stat.S_IFREG

    def __init__(self, number: int, mode: int, below: bytes | None = None) -> None:
        super().__init__(number, mode)
        self.below = below  # the real file whose content it has, until it is changed
        self.fd = -1  # a memfd, while it may be in use
        self.data = b""  # the content while there is no memfd
        self.durable = b""
        self.stale: dict[int, bytes] = {}  # sectors that a failed sync has lost
        self.log: list[Write] = []  # what was written since the last sync, as far as seen
        self._seen = 0  # the memfd's own time of its last change

    def size(self) -> int:
        """The number of bytes."""
        if self.fd >= 0:
            return os.lseek(self.fd, 0, os.SEEK_END)
        return real(os.stat, self.below).st_size if self.below is not None else len(self.data)

    def content(self) -> bytes:
        """All bytes."""
        if self.fd >= 0:
            return os.pread(self.fd, self.size(), 0)
        return real(_read, self.below) if self.below is not None else self.data

    def open(self) -> int:
        """Have a memfd with the content. Returns it."""
        if self.fd < 0:
            data = self.content()
            self.fd = os.memfd_create("hoop-sim-disk")
            fill(self.fd, data)
            self._seen = real(os.fstat, self.fd).st_mtime_ns
        return self.fd

    def close(self) -> None:
        """Keep the content in this object, and no descriptor."""
        if self.fd >= 0:
            if self.below is None:
                self.data = self.content()
            os.close(self.fd)
            self.fd = -1

    def own(self) -> None:
        """It is about to be changed: from now on it has nothing to do with the real file."""
        if self.below is not None:
            self.open()
            self.durable = self.content()
            self.below = None

    def notice(self) -> None:
        """Look whether it was written to by calls that nobody saw."""
        if self.fd >= 0 and (seen := real(os.fstat, self.fd).st_mtime_ns) != self._seen:
            self._seen = seen
            self.touch()

    def wrote(self, offset: int, data: bytes | None) -> None:
        """Note a write, or a change of the size to `offset`."""
        self.log.append((offset, data))
        self.notice()
        self.touch()

    def sync(self) -> None:
        """Make the content durable, but not the sectors that an earlier sync has lost."""
        data = self.content()
        if self.stale:
            lost = {at: old for at, old in self.stale.items() if sector(data, at) == old}
            self.stale = lost
            merged = {at for at in range(-(-len(data) // SECTOR)) if at not in lost}
            data = mixed(self.durable, data, len(data), merged)
        self.durable = data
        self.log.clear()

    def fail_to_sync(self) -> None:
        """Forget what was to be written: the kernel takes it for written after an error of the disk."""
        data = self.content()
        for at in differing(self.durable, data):
            self.stale[at] = sector(data, at)
        self.log.clear()

    def lose(self, choices: Choices) -> None:
        """The power goes: keep what is durable, and some of the rest."""
        if self.below is not None:
            self.close()
            return
        left = self._left(choices)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.data = self.durable = left
        self.log.clear()
        self.stale.clear()

    def _left(self, choices: Choices) -> bytes:
        after = self.content()
        if after == self.durable:
            return after
        if self.stale or choices.choose(2):  # any of the sectors, in no order
            size = (len(after), len(self.durable))[choices.choose(2)]
            changed = differing(self.durable, after)
            kept = {at for at in changed if at not in self.stale and not choices.choose(2)}
            return mixed(self.durable, after, size, kept)
        log = self.log
        told = replay(self.durable, log)
        if told != after:  # some writes were not seen
            log = [*log, (len(after), None), *unseen(told, after)]
        n = len(log) - choices.choose(len(log) + 1)  # a first part of the writes
        before = replay(self.durable, log[:n])
        if n == len(log) or log[n][1] is None:
            return before
        offset, data = log[n]
        assert data is not None
        inner = [at - offset for at in range(offset - offset % SECTOR, offset + len(data), SECTOR)]
        return replay(before, [(offset, data[: max(inner[-1 - choices.choose(len(inner))], 0)])])


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def fill(fd: int, data: bytes) -> None:
    """Write all bytes at the beginning of a memfd."""
    at = 0
    while at < len(data):
        at += os.pwritev(fd, [memoryview(data)[at:]], at)


def sector(data: bytes, at: int) -> bytes:
    """The content of a sector."""
    return data[at * SECTOR : (at + 1) * SECTOR]


def differing(before: bytes, after: bytes) -> list[int]:
    """The sectors of `after` that were others before."""
    return [at for at in range(-(-len(after) // SECTOR)) if sector(before, at) != sector(after, at)]


def mixed(before: bytes, after: bytes, size: int, new: set[int]) -> bytes:
    """`size` bytes with the sectors `new` of `after`. The others are those of `before`, or zeros."""
    made = bytearray(before[:size].ljust(size, b"\0"))
    for at in new:
        part = sector(after, at).ljust(SECTOR, b"\0")[: max(size - at * SECTOR, 0)]
        made[at * SECTOR : at * SECTOR + len(part)] = part
    return bytes(made)


def unseen(before: bytes, after: bytes) -> list[Write]:
    """The sectors that differ, as writes."""
    return [(at * SECTOR, sector(after, at)) for at in differing(before, after)]


def replay(data: bytes, log: list[Write]) -> bytes:
    """The content after some writes."""
    made = bytearray(data)
    for offset, piece in log:
        if piece is None:
            made = made[:offset].ljust(offset, b"\0")
        elif piece:
            if offset > len(made):
                made.extend(bytes(offset - len(made)))
            made[offset : offset + len(piece)] = piece
    return bytes(made)


class Folder(Node):
    """A folder. In `names`, None says that a name of the real folder was removed."""

    kind = stat.S_IFDIR

    def __init__(
        self, number: int, mode: int, parent: Folder | None, below: bytes | None = None
    ) -> None:
        super().__init__(number, mode)
        self.parent = parent or self
        self.below = below  # the real folder that shines through
        self.names: dict[bytes, Node | None] = {}
        self.durable: dict[bytes, Node | None] = {}  # what a power loss leaves for sure
        self.fd = -1  # a real and empty folder without a name, for descriptors

    def size(self) -> int:
        """The size that Linux shows for a small folder."""
        return 4096

    def open(self) -> int:
        """Have a descriptor that stands for the folder. Returns it."""
        if self.fd < 0:
            self.fd = real(_nameless_folder)
        return self.fd

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _nameless_folder() -> int:
    path = f"/dev/shm/hoop-sim-{os.getpid()}"
    os.mkdir(path)
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.rmdir(path)


class Place:
    """Where a path leads: the folder, the name in it, and the node, which is None if there is none."""

    def __init__(self, folder: Folder | None, name: bytes, node: Node | None) -> None:
        self.folder = folder
        self.name = name
        self.node = node
        self.slash = False  # the path ended with one: it can only be a folder

    def found(self) -> Node:
        """The node. FileNotFoundError if there is none."""
        if self.node is None:
            raise refused(errno.ENOENT)
        return self.node

    def parent(self) -> Folder:
        """The folder in which the name can be changed."""
        if self.folder is None:
            raise refused(errno.EBUSY)
        return self.folder


class Tree:
    """All names, from the root on."""

    def __init__(self) -> None:
        self.made = 1
        self.root = Folder(1, 0o755, None, b"/")
        self.journal: list[list[Name]] = []  # changes of names that are not durable, in order

    def number(self) -> int:
        """The number of a new node."""
        self.made += 1
        return self.made

    # ---- finding ----

    def child(self, folder: Folder, name: bytes) -> Node | None:
        """The node of a name in a folder."""
        if name in folder.names:
            return folder.names[name]
        if folder.below is None:
            return None
        path = os.path.join(folder.below, name)
        try:
            status = real(os.lstat, path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        node: Node
        if path in REAL:
            return Special(path)
        if stat.S_ISDIR(status.st_mode):
            node = Folder(self.number(), 0, folder, path)
        elif stat.S_ISLNK(status.st_mode):
            node = Link(self.number(), real(os.readlink, path))
        elif stat.S_ISREG(status.st_mode):
            node = File(self.number(), 0, path)
        else:
            return Special(path)
        node.take_status(status)
        folder.names[name] = folder.durable[name] = node
        return node

    def find(self, start: Folder, path: bytes, follow: bool = True) -> Place:
        """Where a path leads, seen from a folder. Without `follow`, a link at the end stays one."""
        if not path:
            raise refused(errno.ENOENT)
        parts = path.split(b"/")
        folder = self.root if path.startswith(b"/") else start
        place = Place(None, b"", folder)
        links = 0
        while parts:
            name = parts.pop(0)
            node = place.node
            if isinstance(node, Special):
                return Place(None, b"", Special(os.path.join(node.path, name, *parts)))
            if name in (b"", b"."):
                if name:
                    place = Place(None, name, self._folder_of(place))
                elif any(parts):
                    self._folder_of(place)
                continue
            folder = self._folder_of(place)
            if name == b"..":
                place = Place(None, name, folder.parent)
                continue
            if len(name) > NAME_MAX:
                raise refused(errno.ENAMETOOLONG)
            node = self.child(folder, name)
            if isinstance(node, Link) and (follow or parts):
                links += 1
                if links > LINKS_MAX:
                    raise refused(errno.ELOOP)
                parts = node.target.split(b"/") + parts
                place = Place(None, b"", self.root if node.target.startswith(b"/") else folder)
                continue
            place = Place(folder, name, node)
            if node is None:
                if any(parts):
                    raise refused(errno.ENOENT)
                break
        place.slash = path.endswith(b"/")
        return place

    def _folder_of(self, place: Place) -> Folder:
        if not isinstance(place.node, Folder):
            raise refused(errno.ENOENT if place.node is None else errno.ENOTDIR)
        return place.node

    def names_in(self, folder: Folder, salt: int = 0) -> list[bytes]:
        """The names in a folder, in an order of their own as on real disks."""
        below = real(os.listdir, folder.below) if folder.below is not None else []
        names = {name for name in below if name not in folder.names}
        names.update(name for name, node in folder.names.items() if node is not None)
        return sorted(names, key=lambda name: (zlib.crc32(name, salt), name))

    def path_of(self, folder: Folder) -> bytes:
        """The path of a folder."""
        parts: list[bytes] = []
        while folder is not self.root:
            above = folder.parent
            name = next((name for name, node in above.names.items() if node is folder), None)
            if name is None:
                raise refused(errno.ENOENT)
            parts.insert(0, name)
            folder = above
        return b"/" + b"/".join(parts)

    def nodes(self) -> Iterator[Node]:
        """All nodes that have been looked at and have names, each as often as it has names."""
        folders = [self.root]
        yield self.root
        while folders:
            for node in folders.pop().names.values():
                if node is not None:
                    yield node
                if isinstance(node, Folder):
                    folders.append(node)

    # ---- changing ----

    def change(self, *names: Name) -> None:
        """Change names. Several at once are lost or kept together."""
        for folder, name, node in names:
            folder.names[name] = node
            folder.touch()
            if isinstance(node, Folder):
                node.parent = folder
        self.journal.append(list(names))

    def sync(self, folder: Folder) -> None:
        """Make the names in a folder durable, and what belongs to the same changes."""
        wanted = {(id(folder), name) for name in folder.names}
        kept: list[list[Name]] = []
        left: list[list[Name]] = []
        for names in reversed(self.journal):
            keys = {(id(where), name) for where, name, _ in names}
            if keys & wanted:
                wanted |= keys
                kept.append(names)
            else:
                left.append(names)
        self.journal = left[::-1]
        self._keep(kept[::-1])

    def sync_all(self) -> None:
        """Make all names durable."""
        self._keep(self.journal)
        self.journal = []

    def _keep(self, changes: list[list[Name]]) -> None:
        for names in changes:
            for folder, name, node in names:
                folder.durable[name] = node

    def lose(self, choices: Choices) -> bool:
        """The power goes: keep the durable names, and some of the others. Returns whether one was lost."""
        changes, self.journal = self.journal, []
        if not choices.choose(2):  # a first part of them, as file systems with a journal do
            kept = changes[: len(changes) - choices.choose(len(changes) + 1)]
        else:
            kept = [names for names in changes if not choices.choose(2)]
        self._keep(kept)
        folders = [self.root]
        while folders:
            folder = folders.pop()
            folder.names = dict(folder.durable)
            for node in folder.names.values():
                if isinstance(node, Folder):
                    node.parent = folder
                    folders.append(node)
        for node in self.nodes():
            if isinstance(node, File):
                node.links = 0
        for node in self.nodes():
            if isinstance(node, File):
                node.links += 1
        return len(kept) < len(changes)
