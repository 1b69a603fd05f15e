"""hoop.open(): from a name and a mode to an open file, without blocking the loop.

On a file system of this machine the loop opens a name at once if the kernel has it in its cache (openat2
with RESOLVE_CACHED). On any other file system, opening may ask a server. A thread finds out which kind a
folder is on, when the first file in it is opened. The driver or a thread opens everything else.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import functools
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from hoop.disk import call as calls
from hoop.disk import source as core
from hoop.files import engine
from hoop.files.file import BinaryFile, Opening, TextFile

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

Opener = Callable[[Any, int], int]
FileBuffer = core.FileBuffer  # a simulation keeps a list of those that are made

# The folders from which a file was opened, and the device (see core.look_at) that it was on. Only local
# devices are in it. On those no server is asked when a cached name is opened, or a file closed after reading.
folders: dict[bytes, int] = {}
_FOLDERS_MAX = 4096
_local_devices = calls.devices()
_DEVICES_MAX = 4096

# Errors of the cached attempt that are final. After any other error a thread tries again, and its error
# counts.
_FINAL = {
    -n
    for n in (
        errno.ENOENT,
        errno.EACCES,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    )
}
_BY_THREAD = os.O_CREAT | os.O_TRUNC


class Mode(NamedTuple):
    """The meaning of a mode string."""

    flags: int
    raw: str  # as io.FileIO takes it: audit hooks see this one
    reading: bool
    writing: bool
    appending: bool
    text: bool
    binary_name: str  # the name that the builtin's binary file gives it


@functools.lru_cache(256)
def parse_mode(mode: str) -> Mode | None:
    """The meaning of a mode; None if the mode is wrong."""
    letters = set(mode)
    if len(letters) != len(mode) or letters - set("rwxabt+") or len(letters & set("rwxa")) != 1:
        return None
    if "t" in letters and "b" in letters:
        return None
    kind = (letters & set("rwxa")).pop()
    plus = "+" in letters
    flags = os.O_CLOEXEC
    flags |= os.O_RDWR if plus else os.O_RDONLY if kind == "r" else os.O_WRONLY
    flags |= {
        "r": 0,
        "w": os.O_CREAT | os.O_TRUNC,
        "x": os.O_CREAT | os.O_EXCL,
        "a": os.O_CREAT | os.O_APPEND,
    }[kind]
    name = "rb+" if plus and kind in "rw" else f"{kind}b{'+' if plus else ''}"
    return Mode(
        flags,
        kind + "+" * plus,
        plus or kind == "r",
        plus or kind != "r",
        kind == "a",
        "b" not in letters,
        name,
    )


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[TextFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[BinaryFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]: ...
def open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]:
    """Open a file as the builtin does, without blocking the loop.

    Arguments, modes and exceptions are those of the builtin open(): OSError, or ValueError for a wrong
    mode. The result is a TextFile or a BinaryFile. A FIFO opened for reading does not wait for a writer:
    the first read does. Raises RuntimeError on a loop that is not hoop's.

        async with hoop.open("log.txt") as file:  # or: file = await hoop.open("log.txt")
            async for line in file:
                print(line)
    """
    meaning = parse_mode(mode) if isinstance(mode, str) else None
    if not isinstance(file, (str, bytes, int)):
        file = os.fspath(file)
    if (
        meaning is None
        or (meaning.text and buffering == 0)
        or not (meaning.text or (encoding is None and errors is None and newline is None))
        or not isinstance(buffering, int)
        or not (encoding is None or isinstance(encoding, str))
        or not (errors is None or isinstance(errors, str))
        or not (newline is None or isinstance(newline, str))
        or (buffering == 1 and not meaning.text)
    ):
        _complain(mode, buffering, encoding, errors, newline)
        assert meaning is not None
    if meaning.text and encoding is None:
        encoding = io.text_encoding(encoding)
    if isinstance(file, int):
        if file < 0:
            raise ValueError("negative file descriptor")
    elif not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    return Opening(
        functools.partial(
            _open, file, mode, meaning, buffering, encoding, errors, newline, closefd, opener
        )
    )


def _complain(mode: Any, buffering: Any, encoding: Any, errors: Any, newline: Any) -> None:
    """Have the builtin open() raise its exception for wrong arguments."""
    builtins.open(os.devnull, mode, buffering, encoding, errors, newline).close()


async def _open(
    file: str | bytes | int,
    mode: str,
    meaning: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    closefd: bool,
    opener: Opener | None,
    audits: bool = True,
) -> BinaryFile | TextFile:
    loop = engine.running_loop()
    status = None
    name = b"" if isinstance(file, int) else engine.encoded(file)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    if audits:
        sys.audit("open", file, meaning.raw, meaning.flags)
    if isinstance(file, int):
        fd = file
    elif opener is not None:
        fd = await _call_opener(opener, file, meaning.flags)
    else:
        opened = open_at_once(name, meaning.flags, file)
        if opened is not None:
            fd, status = opened
        else:
            fd = await _open_path(name, file, meaning.flags)
    try:
        kind, size, device, block = status or core.look_at(fd)
        if stat.S_ISDIR(kind):
            raise engine.os_error(-errno.EISDIR, file)
        regular = stat.S_ISREG(kind) or stat.S_ISBLK(kind)
        sends_lines = buffering == 1
        if buffering < 0:
            sends_lines = stat.S_ISCHR(kind) and os.isatty(fd)
            buffering = _buffer_bytes(block)
        position = 0
        if regular and (meaning.appending or status is None):
            position = os.lseek(fd, 0, os.SEEK_END if meaning.appending else os.SEEK_CUR)
    except BaseException:
        if not isinstance(file, int):
            engine.drop(fd)
        raise
    buffer = FileBuffer(
        loop,
        loop._file_pool,
        fd,
        file,
        mode if meaning.text else meaning.binary_name,
        regular,
        meaning.reading,
        meaning.writing,
        meaning.appending,
        closefd,
        buffering,
        size or -1,
        position,
    )
    buffer.local = stat.S_ISREG(kind) and _local_devices.get(device, False)
    if not meaning.text:
        return BinaryFile(buffer)
    try:
        return TextFile(buffer, encoding, errors, newline, sends_lines)
    except BaseException:
        if not buffer.closed:
            buffer.close()
        raise


async def open_audited(path: str | bytes) -> BinaryFile:
    """Open a file for reading bytes. Audit hooks have been told of it already."""
    meaning = parse_mode("rb")
    assert meaning is not None
    file = await _open(path, "rb", meaning, -1, None, None, None, True, None, audits=False)
    assert isinstance(file, BinaryFile)
    return file


async def open_descriptor(
    fd: int,
    name: Any,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> BinaryFile | TextFile:
    """Make a file of an open descriptor. The file owns the descriptor from then on."""
    file: BinaryFile | TextFile = await open(fd, mode, buffering, encoding, errors, newline)
    file.buffer.name = name
    return file


async def _call_opener(opener: Opener, file: str | bytes, flags: int) -> int:
    fd = await engine.in_thread(opener, file, flags, undo=_close)
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    os.set_inheritable(fd, False)
    return fd


def _close(fd: Any) -> None:
    """Close the result of an opener, whatever its type."""
    if isinstance(fd, int) and fd >= 0:
        os.close(fd)


def _buffer_bytes(block: int) -> int:
    """The buffer size that the builtin's files would use."""
    if sys.version_info >= (3, 14):
        return max(min(block, 8 << 20), io.DEFAULT_BUFFER_SIZE)
    return block if block > 1 else io.DEFAULT_BUFFER_SIZE


# ---- descriptors ---------------------------------------------------------------------------------------


async def _open_path(name: bytes, path: str | bytes, flags: int) -> int:
    """Open by name. Raises the exceptions of os.open()."""
    op = calls.openat(name, flags | os.O_NONBLOCK, 0o666)
    try:
        fd = await engine.call(op, path)
    except OSError as exc:
        if exc.errno != errno.ENXIO or not flags & os.O_WRONLY:
            raise
        return await _open_for_reader(path, flags)
    try:
        core.may_wait(fd)
        await _learn(name, fd)
    except BaseException:
        engine.drop(fd)
        raise
    return fd


def open_at_once(
    name: bytes, flags: int, path: str | bytes
) -> tuple[int, tuple[int, int, int, int]] | None:
    """Open a cached name without waiting; None if a thread has to. Raises OSError if the error is final."""
    folder = name.rpartition(b"/")[0]
    device = folders.get(folder)
    if device is None or flags & _BY_THREAD:
        return None
    opened = core.open_cached(name, flags)
    if isinstance(opened, int):
        if opened in _FINAL:
            raise engine.os_error(opened, path)
        return None
    if opened[1][2] != device:
        folders.pop(folder, None)  # a file system was mounted there, or a link leads elsewhere
    return opened


async def _learn(name: bytes, fd: int) -> None:
    """Remember the folder of a file that was opened."""
    device = core.look_at(fd)[2]
    if device in _local_devices:
        remember(name, fd)
    else:
        await engine.in_thread(remember, name, fd)


def remember(name: bytes, fd: int) -> None:
    """Remember the folder of an open file, if it is on this machine. May wait for a device seen first."""
    kind, _, device, _ = core.look_at(fd)
    if not stat.S_ISREG(kind):
        return
    local = _local_devices.get(device)
    if local is None:
        local = calls.is_local(fd)
        if len(_local_devices) >= _DEVICES_MAX:
            _local_devices.clear()
        _local_devices[device] = local
    if local:
        if len(folders) >= _FOLDERS_MAX:
            folders.clear()
        folders[name.rpartition(b"/")[0]] = device


async def _open_for_reader(path: str | bytes, flags: int) -> int:
    """Open a FIFO for writing, and wait for its reader. A cancellation ends the wait by opening the other
    end.
    """
    pool = engine.running_loop()._file_pool
    opened = pool.call_alone(
        os.open, path, flags, 0o666, undo=os.close, stop=functools.partial(_be_a_reader, path)
    )
    try:
        fd: int = await opened
    except asyncio.CancelledError:
        engine.undo_result(opened, os.close)
        if not opened.done() or opened.cancelled():
            pool.call_alone(_be_a_reader, path)
        raise
    except GeneratorExit:
        engine.undo_result(opened, os.close)
        raise
    return fd


def _be_a_reader(path: str | bytes) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return False  # then the wait cannot be ended; the thread is a daemon
    return True
