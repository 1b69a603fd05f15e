"""Keeps a child's output if communicate() is cancelled, so that the next communicate() returns it.

asyncio's communicate() reads each stream to its end in a task. Cancelling it loses the data that a task has
read, and also a whole stream that ended before the other. The readers here keep that data for the next
call.
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
from typing import Any

_Reader: Any = asyncio.StreamReader
_READ, _FEED_DATA = _Reader.read, _Reader.feed_data  # in whose place a program may put others
_READS_FOR_COMMUNICATE = asyncio.subprocess.Process._read_stream.__code__  # type: ignore[attr-defined]


class OutputReader(asyncio.StreamReader):
    """asyncio's reader, but a cancelled read to the end puts its data back.

    Data that comes while nothing else waits to be read stays the one `bytes` that the pipe's transport has
    made. A read that wants no less gets that very object. All else goes through asyncio's bytearray.
    """

    _output = b""  # data that a cancelled communicate() has read
    _chunk = b""  # received, and not in the bytearray yet; the bytearray is empty meanwhile
    _bytes: bytearray

    @property
    def _buffer(self) -> bytearray:
        if self._chunk:
            self._bytes += self._chunk
            self._chunk = b""
        return self._bytes

    @_buffer.setter
    def _buffer(self, data: bytearray) -> None:
        self._bytes = data
        self._chunk = b""

    def feed_data(self, data: Any) -> None:
        """Take data. See asyncio.StreamReader.feed_data."""
        if (
            type(data) is bytes
            and data
            and not (self._chunk or self._bytes or self._eof)  # type: ignore[attr-defined]
            and len(data) <= 2 * self._limit  # type: ignore[attr-defined]
            and _Reader.feed_data is _FEED_DATA
        ):
            self._chunk = data
            self._wakeup_waiter()  # type: ignore[attr-defined]
        else:
            super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes, or to the end. See asyncio.StreamReader.read."""
        if n > 0 and _Reader.read is _READ:
            if self._exception is not None:  # type: ignore[attr-defined]
                raise self._exception  # type: ignore[attr-defined]
            if not (self._chunk or self._bytes or self._eof):  # type: ignore[attr-defined]
                await self._wait_for_data("read")  # type: ignore[attr-defined]
            data = self._chunk
            if data and len(data) <= n:
                self._chunk = b""
            else:
                buffer = self._buffer
                data = bytes(memoryview(buffer)[:n])
                del buffer[:n]
            self._maybe_resume_transport()  # type: ignore[attr-defined]
            return data
        if n >= 0:
            return await super().read(n)
        blocks = []
        try:
            while block := await self.read(self._limit):  # type: ignore[attr-defined]
                blocks.append(block)
        except BaseException:
            self._buffer[:0] = b"".join(blocks)
            raise
        return kept(self, b"".join(blocks))


def kept(reader: Any, data: bytes) -> bytes:
    """Return the result of a read to the end: for communicate(), all data that it has read before, too."""
    task = asyncio.current_task()
    coro: Any = None if task is None else task.get_coro()
    if getattr(coro, "cr_code", None) is not _READS_FOR_COMMUNICATE:
        return data
    reader._output += data
    return bytes(reader._output)


# The reader classes that a child may have, and the class to use instead. hoop/streams adds its own.
KEEPING: dict[type, Any] = {
    asyncio.StreamReader: OutputReader,
}


def keep_output(protocol: Any, transport: asyncio.SubprocessTransport) -> None:
    """Change the readers of a new child into ones that lose nothing, if they are asyncio's or hoop's."""
    if not isinstance(protocol, asyncio.subprocess.SubprocessStreamProtocol):
        return
    for fd, name in ((1, "stdout"), (2, "stderr")):
        keeping = KEEPING.get(type(getattr(protocol, name)))
        if keeping is not None:
            reader = keeping(limit=protocol._limit, loop=protocol._loop)  # type: ignore[attr-defined]
            reader.set_transport(transport.get_pipe_transport(fd))
            setattr(protocol, name, reader)
