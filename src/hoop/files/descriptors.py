"""System calls on descriptors, with the names, arguments and exceptions of the module os.

The loop reads data at once if the kernel has it in memory. The driver or a thread makes every other call.
The descriptor stays yours: do not close it before the call has ended, even if your task was cancelled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from hoop.disk import call as calls
from hoop.files import engine


async def pread(fd: int, n: int, offset: int, /) -> bytes:
    """Read up to `n` bytes at an offset in bytes, without moving the file's position. See os.pread.

    Raises OSError if the kernel refuses.

        header = await hoop.pread(fd, 512, 0)
    """
    engine.running_loop()
    data = calls.read_at_once(fd, n, offset)
    if data is not None:
        return data
    if n < 0 or offset < 0:
        return os.pread(fd, n, offset)  # raises the exception of os
    op = calls.pread(fd, n, offset)
    await engine.call(op)
    return op.bytes()


async def pwrite(fd: int, data: Any, offset: int, /) -> int:
    """Write `data` at an offset in bytes. Returns the number of bytes written. See os.pwrite.

    Do not change `data` before the call has ended. A cancelled task still waits for that. Raises OSError if
    the kernel refuses.

        n = await hoop.pwrite(fd, b"header", 0)
    """
    if offset < 0:
        return os.pwrite(fd, data, offset)  # raises the exception of os
    return await engine.call(calls.pwrite(fd, data, offset))


async def preadv(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """Read at an offset into several buffers, in order. Returns the number of bytes read. See os.preadv.

    Raises OSError if the kernel refuses.

        n = await hoop.preadv(fd, [bytearray(512), bytearray(4096)], 0)
    """
    return await engine.in_thread(os.preadv, fd, buffers, offset, flags)


async def pwritev(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """Write several buffers at an offset, in order. Returns the number of bytes written. See os.pwritev.

    Raises OSError if the kernel refuses.

        n = await hoop.pwritev(fd, [header, body], 0)
    """
    return await engine.in_thread(os.pwritev, fd, buffers, offset, flags)


async def fsync(fd: int) -> None:
    """Wait until the disk has everything written to the file. Raises OSError if that fails. See os.fsync.

    For example:

        await hoop.fsync(fd)
    """
    await engine.call(calls.fsync(fd, False))


async def fdatasync(fd: int) -> None:
    """Wait until the disk has the file's data, and of its status what reading needs. See os.fdatasync.

    Raises OSError if that fails.

        await hoop.fdatasync(fd)
    """
    await engine.call(calls.fsync(fd, True))


async def fallocate(fd: int, offset: int, length: int, /, *, mode: int = 0) -> None:
    """Reserve `length` bytes on the disk for the file, from `offset` on. See os.posix_fallocate.

    `mode` takes the flags of fallocate(2). Raises OSError if the disk is full.

        await hoop.fallocate(fd, 0, 1 << 20)
    """
    await engine.call(calls.fallocate(fd, mode, offset, length))


async def ftruncate(fd: int, length: int, /) -> None:
    """Cut or extend the file to `length` bytes. Raises OSError if the kernel refuses. See os.ftruncate.

    For example:

        await hoop.ftruncate(fd, 0)
    """
    op = calls.ftruncate(fd, length)
    sys.audit("os.truncate", fd, length)
    await engine.call(op)


async def fstat(fd: int) -> os.stat_result:
    """Return the status of an open file, an os.stat_result. See os.fstat.

    For example:

        size = (await hoop.fstat(fd)).st_size
    """
    op = calls.statx(b"", 0, fd)
    await engine.call(op)
    return op.stat_result()


async def copy_file_range(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    """Copy up to `count` bytes from one file to another within the kernel. See os.copy_file_range.

    Returns the number of bytes copied. Without offsets the kernel uses and moves the files' positions.
    Raises OSError if the kernel refuses.

        n = await hoop.copy_file_range(src, dst, 1 << 20)
    """
    return await engine.in_thread(os.copy_file_range, src, dst, count, offset_src, offset_dst)
