"""The functions of os that wait for disks, as coroutines. The names are those of aiofiles.os.

Each takes the arguments and raises the exceptions of its namesake in os. `wrap` makes more of them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hoop.disk import call as calls
from hoop.files import engine
from hoop.files import ospath as path
from hoop.files.engine import wrap

__all__ = [
    "access",
    "getcwd",
    "link",
    "listdir",
    "makedirs",
    "mkdir",
    "path",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "unlink",
    "wrap",
]

_HERE = -100  # AT_FDCWD
_REMOVE_FOLDER = 0x200  # AT_REMOVEDIR
_NO_FOLLOW = 0x100  # AT_SYMLINK_NOFOLLOW


# These functions tell audit hooks (PEP 578) the same as os does: the same arguments, before the call.


def _name(path: Any) -> bytes:
    name = engine.encoded(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    return name


def _told(dir_fd: int | None) -> int:
    """The folder argument, in the form that audit hooks see."""
    return -1 if dir_fd is None else dir_fd


async def stat(
    path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    """Return the status of a file. See os.stat."""
    if isinstance(path, int) or dir_fd is not None or path == "" or path == b"":
        return await _stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    op = calls.statx(_name(path), 0 if follow_symlinks else _NO_FOLLOW)
    await engine.call(op, path)
    return op.stat_result()


async def rename(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename a file. See os.rename."""
    source_fd = _HERE if src_dir_fd is None else src_dir_fd
    target_fd = _HERE if dst_dir_fd is None else dst_dir_fd
    op = calls.renameat(_name(src), _name(dst), source_fd, target_fd)
    sys.audit("os.rename", os.fspath(src), os.fspath(dst), *map(_told, (src_dir_fd, dst_dir_fd)))
    await engine.call(op, src, dst)


async def replace(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename a file; an existing target is replaced. See os.replace."""
    await rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


async def remove(path: Any, *, dir_fd: int | None = None) -> None:
    """Remove a file. See os.remove."""
    op = calls.unlinkat(_name(path), 0, _HERE if dir_fd is None else dir_fd)
    sys.audit("os.remove", os.fspath(path), _told(dir_fd))
    await engine.call(op, path)


async def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    """Remove a file. See os.unlink."""
    await remove(path, dir_fd=dir_fd)


async def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    """Remove an empty folder. See os.rmdir."""
    op = calls.unlinkat(_name(path), _REMOVE_FOLDER, _HERE if dir_fd is None else dir_fd)
    sys.audit("os.rmdir", os.fspath(path), _told(dir_fd))
    await engine.call(op, path)


async def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """Make a folder. See os.mkdir."""
    op = calls.mkdirat(_name(path), mode, _HERE if dir_fd is None else dir_fd)
    sys.audit("os.mkdir", os.fspath(path), mode, _told(dir_fd))
    await engine.call(op, path)


_stat = wrap(os.stat)
access = wrap(os.access)
getcwd = wrap(os.getcwd)
link = wrap(os.link)
listdir = wrap(os.listdir)
makedirs = wrap(os.makedirs)
readlink = wrap(os.readlink)
removedirs = wrap(os.removedirs)
renames = wrap(os.renames)
scandir = wrap(os.scandir)
sendfile = wrap(os.sendfile)
statvfs = wrap(os.statvfs)
symlink = wrap(os.symlink)
