"""The functions of os, and open(), in a world that has a disk of its own.

Each takes the arguments and raises the exceptions of its namesake. Paths and descriptors that lead to
something real, such as /dev/null or a pipe, get the real function.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, Self

from hoop.sim.calls import real
from hoop.sim.errors import PowerLoss, Unsimulated
from hoop.sim.net.network import Network
from hoop.sim.storage.disks import Disk
from hoop.sim.storage.openings import Openings
from hoop.sim.storage.tree import (
    DEVICE,
    SECTOR,
    File,
    Folder,
    Link,
    Node,
    Place,
    Special,
    now_ns,
    refused,
)

# How calls refuse names that cannot be changed.
DOTS = {
    ("rmdir", b"."): errno.EINVAL,
    ("rmdir", b".."): errno.ENOTEMPTY,
    ("unlink", b"."): errno.EISDIR,
    ("unlink", b".."): errno.EISDIR,
}
FREE = 1 << 40  # bytes of a disk without a capacity
_functions: dict[str, str] = {}  # names of functions of os, and of the methods in their place


def _in_place_of(*names: str) -> Callable[[Any], Any]:
    """Note that a method takes the place of functions of os. Its errors get the first arguments as names."""

    def note(method: Any) -> Any:
        two = names[0] in ("rename", "link", "symlink")

        @functools.wraps(method)
        def named(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except OSError as exc:
                if exc.filename is None and args and not isinstance(args[0], int):
                    about = (args[0], None, args[1]) if two and len(args) > 1 else (args[0],)
                    raise OSError(exc.errno, exc.strerror, *about) from None
                raise

        for name in names:
            _functions[name] = method.__name__
        return named

    return note


def encoded(path: Any) -> bytes:
    """The bytes of a path."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    return name


class Entry:
    """A find of scandir(). See os.DirEntry."""

    def __init__(self, functions: Functions, folder: Any, name: Any, node: Node) -> None:
        self.name = name
        self._fd = folder if isinstance(folder, int) else None
        self.path = name if isinstance(folder, int) else os.path.join(folder, name)
        self._functions = functions
        self._node = node

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def _kind(self, follow: bool) -> int:
        if isinstance(self._node, Special) or (follow and isinstance(self._node, Link)):
            try:
                return stat.S_IFMT(self.stat(follow_symlinks=follow).st_mode)
            except FileNotFoundError:
                return 0
        return self._node.kind

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a folder."""
        return self._kind(follow_symlinks) == stat.S_IFDIR

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a regular file."""
        return self._kind(follow_symlinks) == stat.S_IFREG

    def is_symlink(self) -> bool:
        """Return whether it is a symbolic link."""
        return isinstance(self._node, Link)

    def is_junction(self) -> bool:
        """Return False: there are no junctions on Linux."""
        return False

    def inode(self) -> int:
        """Return the number of the node."""
        return self.stat(follow_symlinks=False).st_ino

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the status."""
        found: os.stat_result = self._functions.stat(
            self.path, dir_fd=self._fd, follow_symlinks=follow_symlinks
        )
        return found


class Entries:
    """The iterator of scandir()."""

    def __init__(self, entries: list[Entry]) -> None:
        self._left: Iterator[Entry] = iter(entries)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Entry:
        return next(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._left = iter(())


class Functions(Openings):
    """The functions of os on one disk."""

    def __init__(self, disk: Disk, network: Network) -> None:
        super().__init__(network)
        self.disk = disk

    def may_fail(self, call: str, path: Any) -> None:
        """Raise OSError if a call that opens a file finds no descriptor.

        Python itself opens sources when it imports them, or shows a traceback, but only for the first time.
        """
        failures = self.network.failures
        if failures is None or os.fsencode(path).endswith(b".py"):
            return
        error = failures.of_descriptor(call)
        if error:
            raise refused(error)

    def table(self) -> dict[Any, Callable[..., Any]]:
        """The methods, each by the builtin function in whose place it is called."""
        found = {
            getattr(os, name): getattr(self, method)
            for name, method in _functions.items()
            if hasattr(os, name)
        }
        return {**super().table(), **found}

    # ---- finding ----

    def _find(self, path: Any, dir_fd: int | None = None, follow: bool = True) -> Place:
        """Where a path, or a descriptor, leads."""
        if isinstance(path, int):
            node = self.disk.of_descriptor(path)
            return Place(None, b"", Special(b"") if node is None else node)
        place = self.disk.find(encoded(path), dir_fd, follow)
        if place.slash and isinstance(place.node, File | Link):
            raise refused(errno.ENOTDIR)
        return place

    def _name(self, path: Any, dir_fd: int | None) -> Place:
        """The place of a name that is made or removed: here a link never leads on."""
        name = encoded(path)
        bare = name.rstrip(b"/") or name
        place = self.disk.find(bare, dir_fd, False)
        place.slash = bare != name
        return place

    @staticmethod
    def _real(call: Callable[..., Any], place: Place, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the real function for something real."""
        node = place.node
        assert isinstance(node, Special)
        if not isinstance(path, int):
            path = node.path if isinstance(os.fspath(path), bytes) else os.fsdecode(node.path)
        return real(call, path, *args, **kwargs)

    def fields(self, path: Any, dir_fd: int | None, follow: bool) -> tuple[Any, ...]:
        """The status of a file, with the fields of os.stat_result."""
        self.disk.begins("stat")
        place = self._find(path, dir_fd, follow)
        node = place.found()
        if isinstance(node, Special):
            call = os.stat if follow else os.lstat
            found = self._real(os.stat if isinstance(path, int) else call, place, path)
            times = (found.st_atime, found.st_mtime, found.st_ctime)
            return (
                *found[:7],
                *map(int, times),
                *times,
                *(found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns),
                *(found.st_blksize, found.st_blocks, found.st_rdev),
            )
        if isinstance(node, File):
            node.notice()
        return node.status()

    # ---- asking ----

    @_in_place_of("stat")
    def stat(
        self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        return os.stat_result(self.fields(path, dir_fd, follow_symlinks))

    @_in_place_of("lstat")
    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        return os.stat_result(self.fields(path, dir_fd, False))

    @_in_place_of("fstat")
    def fstat(self, fd: int) -> os.stat_result:
        return os.stat_result(self.fields(fd, None, True))

    @_in_place_of("access")
    def access(
        self,
        path: Any,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        try:
            place = self._find(path, dir_fd, follow_symlinks)
        except OSError:
            return False
        if isinstance(place.node, Special):
            return bool(self._real(os.access, place, path, mode))
        if isinstance(place.node, File) and mode & os.X_OK:
            return bool(place.node.mode & 0o111)
        return place.node is not None

    @_in_place_of("readlink")
    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        place = self._find(path, dir_fd, False)
        node = place.found()
        if isinstance(node, Special):
            return self._real(os.readlink, place, path)
        if not isinstance(node, Link):
            raise refused(errno.EINVAL)
        return node.target if isinstance(os.fspath(path), bytes) else os.fsdecode(node.target)

    def _nodes(self, path: Any) -> list[tuple[Any, Node]] | None:
        """The names in a folder with their nodes; None if the folder is real."""
        place = self._find(path)
        node = place.found()
        if isinstance(node, Special):
            return None
        if not isinstance(node, Folder):
            raise refused(errno.ENOTDIR)
        as_bytes = isinstance(path, bytes)
        found = []
        for name in self.disk.names_in(node):
            child = self.disk.tree.child(node, name)
            if child is not None:
                found.append((name if as_bytes else os.fsdecode(name), child))
        return found

    @_in_place_of("listdir")
    def listdir(self, path: Any = None) -> list[Any]:
        path = "." if path is None else path if isinstance(path, int) else os.fspath(path)
        found = self._nodes(path)
        if found is None:
            names: list[Any] = self._real(os.listdir, self._find(path), path)
            return names
        return [name for name, _ in found]

    @_in_place_of("scandir")
    def scandir(self, path: Any = None) -> Any:
        path = "." if path is None else path if isinstance(path, int) else os.fspath(path)
        found = self._nodes(path)
        if found is None:
            return self._real(os.scandir, self._find(path), path)
        return Entries([Entry(self, path, name, node) for name, node in found])

    @_in_place_of("getcwd")
    def getcwd(self) -> str:
        return os.fsdecode(self.disk.cwd())

    @_in_place_of("getcwdb")
    def getcwdb(self) -> bytes:
        return self.disk.cwd()

    @_in_place_of("chdir")
    def chdir(self, path: Any) -> None:
        node = self._find(path).found()
        if isinstance(node, Special):
            raise Unsimulated("os.chdir() to a real folder", "stay on the simulated disk")
        if not isinstance(node, Folder):
            raise refused(errno.ENOTDIR)
        self.disk.folder = self.disk.tree.path_of(node)

    @_in_place_of("fchdir")
    def fchdir(self, fd: int) -> None:
        self.chdir(fd)

    @_in_place_of("statvfs", "fstatvfs")
    def statvfs(self, path: Any) -> os.statvfs_result:
        place = self._find(path)
        if isinstance(place.found(), Special):
            found: os.statvfs_result = self._real(os.statvfs, place, path)
            return found
        size = (self.disk.capacity or FREE) // SECTOR
        left = max(size - -(-self.disk.used() // SECTOR), 0)
        counts = (1 << 20, 1 << 20, 1 << 20)
        return os.statvfs_result((SECTOR, SECTOR, size, left, left, *counts, 0, 255, DEVICE))

    # ---- opening ----

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        exclusive = flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        place = self.disk.find(encoded(path), dir_fd, not exclusive and not flags & os.O_NOFOLLOW)
        if isinstance(place.node, Special):
            fd: int = self._real(os.open, place, path, flags, mode)
            return fd
        return self.disk.open(path, flags | os.O_CLOEXEC, mode, dir_fd)

    @_in_place_of("open")
    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self.may_fail("os.open()", path)
        return super().open(path, flags, mode, dir_fd=dir_fd)

    def _opener(self, path: Any, flags: int) -> int:
        try:
            self.may_fail("open()", path)
            return self._open(path, flags, 0o666)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, path) from None

    def open_waiting(self, path: bytes, flags: int) -> int:
        """In the place of hoop's own open in a thread, which returns a negative number for an error."""
        try:
            self.may_fail("open()", path)
            return self._open(path, flags, 0o666)
        except OSError as exc:
            return -(exc.errno or errno.EIO)

    # ---- content ----

    @_in_place_of("write")
    def write(self, fd: int, data: Any, /) -> int:
        done: int = self._write(fd, data, -1, lambda part: real(os.write, fd, part))
        return done

    @_in_place_of("pwrite")
    def pwrite(self, fd: int, data: Any, offset: int, /) -> int:
        done: int = self._write(fd, data, offset, lambda part: real(os.pwrite, fd, part, offset))
        return done

    def _write(self, fd: int, data: Any, offset: int, how: Callable[[Any], int]) -> int:
        node = self.disk.of_descriptor(fd)
        if not isinstance(node, File):
            return how(data)
        view = memoryview(data).cast("B")
        done: int = self.disk.write_to(fd, node, offset, len(view), lambda n: how(view[:n]))
        return done

    @_in_place_of("truncate")
    def truncate(self, path: Any, length: int) -> None:
        if isinstance(path, int):
            self.ftruncate(path, length)
            return
        fd = self.open(path, os.O_WRONLY)
        try:
            self.ftruncate(fd, length)
        finally:
            os.close(fd)

    @_in_place_of("ftruncate")
    def ftruncate(self, fd: int, length: int, /) -> None:
        node = self.disk.of_descriptor(fd)
        if isinstance(node, File):
            self.disk.truncate(node, length, lambda: real(os.ftruncate, fd, length))
        else:
            real(os.ftruncate, fd, length)

    @_in_place_of("fsync", "fdatasync")
    def fsync(self, fd: Any) -> None:
        self.disk.fsync(fd if isinstance(fd, int) else fd.fileno())

    @_in_place_of("sync")
    def sync(self) -> None:
        self.disk.changes("fsync")
        self.disk.tree.sync_all()
        for node in self.disk.tree.nodes():
            if isinstance(node, File) and node.below is None:
                node.sync()

    # ---- names ----

    def _change(self, call: str, path: Any, dir_fd: int | None) -> Place:
        """Where the name is that a call removes."""
        place = self._name(path, dir_fd)
        node = place.found()
        if isinstance(node, Special):
            raise refused(errno.EPERM)
        if place.slash and not isinstance(node, Folder):
            raise refused(errno.ENOTDIR)
        if place.folder is None:
            raise refused(DOTS.get((call, place.name), errno.EBUSY))
        return place

    @_in_place_of("unlink", "remove")
    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        place = self._change("unlink", path, dir_fd)
        node = place.found()
        if isinstance(node, Folder):
            raise refused(errno.EISDIR)
        self.disk.change("unlink", (place.parent(), place.name, None))
        node.links -= 1

    @_in_place_of("rmdir")
    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        place = self._change("rmdir", path, dir_fd)
        node = place.found()
        if not isinstance(node, Folder):
            raise refused(errno.ENOTDIR)
        if self.disk.tree.names_in(node):
            raise refused(errno.ENOTEMPTY)
        self.disk.change("rmdir", (place.parent(), place.name, None))

    @_in_place_of("mkdir")
    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._name(path, dir_fd)
        if place.node is not None:
            raise refused(errno.EEXIST)
        mode &= ~self.disk.umask & 0o7777
        made = Folder(self.disk.tree.number(), mode, place.parent())
        self.disk.change("mkdir", (place.parent(), place.name, made))

    @_in_place_of("rename", "replace")
    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        source = self._change("rename", src, src_dir_fd)
        target = self._name(dst, dst_dir_fd)
        old, new = source.found(), target.node
        if target.slash and not isinstance(old, Folder):
            raise refused(errno.ENOTDIR)
        if isinstance(new, Special):
            raise refused(errno.EXDEV)
        if new is old:
            return
        if isinstance(old, Folder):
            if new is not None and not isinstance(new, Folder):
                raise refused(errno.ENOTDIR)
            above = target.parent()
            while above is not above.parent:
                if above is old:
                    raise refused(errno.EINVAL)
                above = above.parent
        if isinstance(new, Folder):
            if not isinstance(old, Folder):
                raise refused(errno.EISDIR)
            if self.disk.tree.names_in(new):
                raise refused(errno.ENOTEMPTY)
        self.disk.change(
            "rename",
            (target.parent(), target.name, old),
            (source.parent(), source.name, None),
        )
        if new is not None:
            new.links -= 1

    @_in_place_of("link")
    def link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        # As with the kernel's own call on Linux, a link at the end is not followed.
        node = self._find(src, src_dir_fd, False).found()
        target = self._name(dst, dst_dir_fd)
        if target.node is not None:
            raise refused(errno.EEXIST)
        if isinstance(node, Folder | Special):
            raise refused(errno.EPERM)
        if target.slash:
            raise refused(errno.ENOENT)
        self.disk.change("link", (target.parent(), target.name, node))
        node.links += 1

    @_in_place_of("symlink")
    def symlink(
        self,
        src: Any,
        dst: Any,
        target_is_directory: bool = False,
        *,
        dir_fd: int | None = None,
    ) -> None:
        place = self._name(dst, dir_fd)
        if place.node is not None:
            raise refused(errno.EEXIST)
        if place.slash:
            raise refused(errno.ENOENT)
        made = Link(self.disk.tree.number(), os.fsencode(src))
        self.disk.change("symlink", (place.parent(), place.name, made))

    @_in_place_of("mkfifo")
    def mkfifo(self, path: Any, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
        raise Unsimulated("os.mkfifo()", "replace the pipe in the test, for example by a queue")

    @_in_place_of("mknod")
    def mknod(self, path: Any, *args: Any, **kwargs: Any) -> None:
        raise Unsimulated("os.mknod()", "open the file with os.O_CREAT")

    # ---- status ----

    def _owned(self, path: Any, dir_fd: int | None, follow: bool) -> Node:
        """The node whose status is changed."""
        if self.disk.without_power:
            raise PowerLoss(self.disk.last)
        node = self._find(path, dir_fd, follow).found()
        if isinstance(node, Special):
            raise refused(errno.EPERM)
        if isinstance(node, File):
            node.own()
        node.changed = now_ns()
        return node

    @_in_place_of("chmod")
    def chmod(
        self, path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        self._owned(path, dir_fd, True).mode = mode & 0o7777

    @_in_place_of("fchmod")
    def fchmod(self, fd: int, mode: int) -> None:
        self._owned(fd, None, True).mode = mode & 0o7777

    @_in_place_of("chown")
    def chown(
        self,
        path: Any,
        uid: int,
        gid: int,
        *,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        node = self._owned(path, dir_fd, follow_symlinks)
        node.uid, node.gid = (
            old if new < 0 else new for old, new in ((node.uid, uid), (node.gid, gid))
        )

    @_in_place_of("fchown")
    def fchown(self, fd: int, uid: int, gid: int) -> None:
        self.chown(fd, uid, gid)

    @_in_place_of("lchown")
    def lchown(self, path: Any, uid: int, gid: int) -> None:
        self.chown(path, uid, gid, follow_symlinks=False)

    @_in_place_of("utime")
    def utime(
        self,
        path: Any,
        times: Any = None,
        *,
        ns: Any = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        node = self._owned(path, dir_fd, follow_symlinks)
        if isinstance(node, File):
            node.notice()
        if ns is None:
            ns = (node.changed,) * 2 if times is None else [int(t * 1_000_000_000) for t in times]
        node.accessed, node.modified = ns

    @_in_place_of("listxattr")
    def listxattr(self, path: Any = None, *, follow_symlinks: bool = True) -> list[str]:
        return []

    @_in_place_of("getxattr", "setxattr", "removexattr")
    def no_xattr(self, *args: Any, **kwargs: Any) -> None:
        raise refused(errno.EOPNOTSUPP)
