"""The output of a child: what communicate() has read when it is cancelled is there when it is called again.

asyncio's communicate() reads each stream to its end by a task of its own. If it is cancelled, what a task has
read is lost with it, and so is all of a stream that has ended before the other. The readers of a child's
output therefore keep what they read for communicate(), and give it back.
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
from typing import Any

_READS_FOR_COMMUNICATE = asyncio.subprocess.Process._read_stream.__code__  # type: ignore[attr-defined]


class OutputReader(asyncio.StreamReader):
    """asyncio's reader; a read to the end that is cancelled has read nothing."""

    _output = b""  # what was read for communicate()

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes, or to the end. See asyncio.StreamReader.read."""
        if n >= 0:
            return await super().read(n)
        blocks = []
        try:
            while block := await super().read(self._limit):  # type: ignore[attr-defined]
                blocks.append(block)
        except BaseException:
            self._buffer[:0] = b"".join(blocks)  # type: ignore[attr-defined]
            raise
        return kept(self, b"".join(blocks))


def kept(reader: Any, data: bytes) -> bytes:
    """What a read to the end gives: to communicate() everything that it has read before, too."""
    task = asyncio.current_task()
    coro: Any = None if task is None else task.get_coro()
    if getattr(coro, "cr_code", None) is not _READS_FOR_COMMUNICATE:
        return data
    reader._output += data
    return bytes(reader._output)


# The readers that a child may have, and what each gets instead. hoop/streams adds its own.
KEEPING: dict[type, Any] = {
    asyncio.StreamReader: OutputReader,
}


def keep_output(protocol: Any, transport: asyncio.SubprocessTransport) -> None:
    """Give a child that has just been connected readers that lose nothing, if it has asyncio's or hoop's."""
    if not isinstance(protocol, asyncio.subprocess.SubprocessStreamProtocol):
        return
    for fd, name in ((1, "stdout"), (2, "stderr")):
        keeping = KEEPING.get(type(getattr(protocol, name)))
        if keeping is not None:
            reader = keeping(limit=protocol._limit, loop=protocol._loop)  # type: ignore[attr-defined]
            reader.set_transport(transport.get_pipe_transport(fd))
            setattr(protocol, name, reader)
