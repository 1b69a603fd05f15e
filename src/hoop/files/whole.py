"""Whole files in one call: one trip to a thread at most, and none if the file is cached."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import tempfile
from typing import Any

from hoop._core import call as calls
from hoop._core import file as core
from hoop.files import engine, opening
from hoop.files.engine import StrOrBytesPath


async def read_bytes(path: StrOrBytesPath) -> bytes:
    """Everything in a file. Raises what open() and read() raise."""
    loop = engine.running_loop()
    name = os.fsencode(path)
    device = opening.folders.get(name.rpartition(b"/")[0])
    if device is not None and b"\0" not in name:
        cached = core.read_cached_file(name)
        if isinstance(cached, tuple) and cached[1] == device:
            sys.audit("open", path, None, os.O_RDONLY | os.O_CLOEXEC)
            return cached[0]
    elif not calls.made_by_driver(loop):
        data = await engine.in_thread(_read, path)
        if data is not None:
            return data
    file = await opening.open(path, "rb")
    try:
        everything: bytes = await file.read()
        return everything
    finally:
        await file.close()


def _read(path: StrOrBytesPath) -> bytes | None:
    """On a thread: everything in a regular file; None for one that might make it wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        opening.remember(os.fsencode(path), fd)
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


async def read_text(
    path: StrOrBytesPath,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> str:
    """All the text in a file. Arguments as for open()."""
    encoding = io.text_encoding(encoding)
    data = await read_bytes(path)
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline).read()


async def write_bytes(path: StrOrBytesPath, data: Any, *, atomic: bool = False) -> int:
    """Make bytes the content of a file. Returns how many.

    With `atomic` the path names either the old content or the new at every moment, also after a crash: the
    data goes to a new file beside it, is synced to the disk, and the file is renamed. The permissions
    stay, and the owner where that is allowed.

    Once begun it is carried through, also if this is cancelled.
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
    """Make text the content of a file. Returns the number of characters. `atomic`: see write_bytes()."""
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
    folder, name = os.path.split(os.fsdecode(target))
    try:
        before = os.stat(target)
    except FileNotFoundError:
        mode = 0o666 & ~_umask()
        owner = None
    else:
        mode = stat.S_IMODE(before.st_mode)
        owner = before.st_uid, before.st_gid
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, *owner)
            os.fchmod(fd, mode)
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


def _umask() -> int:
    """The process's mask, read without changing it for the blink of an eye."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
