"""Read or write a whole file in one call: on a thread at most once, and on none if the file is cached."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from typing import Any

from hoop.disk import call as calls
from hoop.disk import source as core
from hoop.files import engine, opening
from hoop.files.engine import StrOrBytesPath

_PART_BYTES = 1 << 18


async def read_bytes(path: StrOrBytesPath) -> bytes:
    """Return all bytes of a file. Raises the exceptions of open() and read().

    For example:

        data = await hoop.read_bytes("image.png")
    """
    loop = engine.running_loop()
    path = os.fspath(path)
    name = engine.encoded(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    sys.audit("open", path, "r", os.O_RDONLY | os.O_CLOEXEC)
    folder = name.rpartition(b"/")[0]
    device = opening.folders.get(folder)
    if device is not None:
        cached = core.read_cached_file(name, device)
        if isinstance(cached, bytes):
            return cached
        if isinstance(cached, tuple):  # a file system was mounted there, or a link leads elsewhere
            opening.folders.pop(folder, None)
            engine.drop(cached[1])
    elif not calls.made_by_driver(loop):
        data = await engine.in_thread(_read, name, path)
        if data is not None:
            return data
    file = await opening.open_audited(path)
    try:
        everything: bytes = await file.read()
        return everything
    finally:
        await file.close()


def _read(name: bytes, path: str | bytes) -> bytes | None:
    """On a thread: all bytes of a regular file. None for another kind of file, which may wait for ever."""
    fd = calls.open_waiting(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise engine.os_error(fd, path)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        opening.remember(name, fd)
        parts = []
        n = status.st_size + 1  # one more, to notice the end of the file
        while part := os.read(fd, n):
            parts.append(part)
            n = max(n - len(part), _PART_BYTES)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(fd)


async def read_text(
    path: StrOrBytesPath,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> str:
    """Return the whole text of a file. Arguments and exceptions are those of open() and read().

    For example:

        text = await hoop.read_text("notes.txt", encoding="utf-8")
    """
    encoding = io.text_encoding(encoding)
    data = await read_bytes(path)
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline).read()


async def write_bytes(path: StrOrBytesPath, data: Any, *, atomic: bool = False) -> int:
    """Replace the content of a file by bytes. Returns their number.

    With `atomic` the path names either the old content or the new at every moment, also after a crash. For
    that, a new file in the same folder is written, synced to the disk, and renamed. The new file gets the
    old one's owner, group and permissions as far as the kernel allows. It gets no access lists (ACLs) and
    no extended attributes, and hard links keep the old content. Raises OSError, with EINVAL for `atomic` on
    a file that is not regular.

    Once begun the write is carried through, even if your task is cancelled.

        await hoop.write_bytes("state.bin", data, atomic=True)
    """
    view = memoryview(data)  # TypeError for text
    return await engine.in_thread(_write_atomic if atomic else _write, path, bytes(view))


async def write_text(
    path: StrOrBytesPath,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    atomic: bool = False,
) -> int:
    """Replace the content of a file by text. Returns the number of characters.

    Encoding and newlines are those of open(). For `atomic`, cancellation and errors see write_bytes().

        await hoop.write_text("state.json", text, atomic=True)
    """
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    encoding = io.text_encoding(encoding)
    into = io.BytesIO()
    text = io.TextIOWrapper(into, encoding, errors, newline, write_through=True)
    text.write(data)
    await write_bytes(path, into.getvalue(), atomic=atomic)
    return len(data)


def _write(path: StrOrBytesPath, data: bytes) -> int:
    with open(path, "wb") as file:
        return file.write(data)


def _write_atomic(path: StrOrBytesPath, data: bytes) -> int:
    target = os.path.realpath(path)  # a link stays one
    before: os.stat_result | None
    folder, name = os.path.split(os.fsdecode(target))
    try:
        before = os.stat(target)
    except FileNotFoundError:
        before = None
    else:
        if not stat.S_ISREG(before.st_mode) and not stat.S_ISDIR(before.st_mode):
            raise OSError(errno.EINVAL, "Only a regular file can be replaced", path)
    # Not tempfile.mkstemp(): it would make every program that opens a file import five modules more.
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if before is None:
                os.fchmod(fd, 0o666 & ~process_umask())
            else:
                _inherit(fd, before)
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
    return len(data)


def _inherit(fd: int, before: os.stat_result) -> None:
    """Give a new file the owner, the group and the permissions of another, as far as the kernel allows."""
    for owner in before.st_uid, -1:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, owner, before.st_gid)
            break
    after = os.fstat(fd)
    mode = stat.S_IMODE(before.st_mode)
    if after.st_gid != before.st_gid:
        # Another group gets no more permissions than all other users have.
        mode &= ~stat.S_ISGID & (~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3)
    if after.st_uid != before.st_uid:
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    os.fchmod(fd, mode)


def process_umask() -> int:
    """The process's umask. os.umask() could only read it by changing it for a moment."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
