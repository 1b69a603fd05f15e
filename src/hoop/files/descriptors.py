"""System calls on descriptors, with os's names, arguments and exceptions.

Reading what is cached is done at once. The rest is made by the driver, or on a thread. The descriptor stays
the caller's: it must not be closed before the call has ended, also if the caller was cancelled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from hoop.disk import call as calls
from hoop.files import engine


async def pread(fd: int, n: int, offset: int, /) -> bytes:
    """Read up to n bytes at an offset. See os.pread."""
    engine.running_loop()
    data = calls.read_at_once(fd, n, offset)
    if data is not None:
        return data
    if n < 0 or offset < 0:
        return os.pread(fd, n, offset)  # the exception is os's
    op = calls.pread(fd, n, offset)
    await engine.call(op)
    return op.bytes()


async def pwrite(fd: int, data: Any, offset: int, /) -> int:
    """Write at an offset. Returns how much. See os.pwrite.

    `data` must not change before the end of the call, which is not brought forward by a cancellation.
    """
    if offset < 0:
        return os.pwrite(fd, data, offset)  # the exception is os's
    return await engine.call(calls.pwrite(fd, data, offset))


async def preadv(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """Read at an offset into buffers. Returns how much. See os.preadv."""
    return await engine.in_thread(os.preadv, fd, buffers, offset, flags)


async def pwritev(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """Write buffers at an offset. Returns how much. See os.pwritev."""
    return await engine.in_thread(os.pwritev, fd, buffers, offset, flags)


async def fsync(fd: int) -> None:
    """Wait until the disk has the file. See os.fsync."""
    await engine.call(calls.fsync(fd, False))


async def fdatasync(fd: int) -> None:
    """Wait until the disk has what is needed to read the file. See os.fdatasync."""
    await engine.call(calls.fsync(fd, True))


async def fallocate(fd: int, offset: int, length: int, /, *, mode: int = 0) -> None:
    """Reserve room on the disk. `mode` as fallocate(2) has it. See os.posix_fallocate."""
    await engine.call(calls.fallocate(fd, mode, offset, length))


async def ftruncate(fd: int, length: int, /) -> None:
    """Cut or extend a file. See os.ftruncate."""
    op = calls.ftruncate(fd, length)
    sys.audit("os.truncate", fd, length)
    await engine.call(op)


async def fstat(fd: int) -> os.stat_result:
    """The status of an open file. See os.fstat."""
    op = calls.statx(b"", 0, fd)
    await engine.call(op)
    return op.stat_result()


async def copy_file_range(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    """Copy within the kernel. Returns how much. See os.copy_file_range."""
    return await engine.in_thread(os.copy_file_range, src, dst, count, offset_src, offset_dst)
