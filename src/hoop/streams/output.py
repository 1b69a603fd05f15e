"""hoop's StreamReader for the output of a child process. hoop/processes/output.py chooses it."""

from __future__ import annotations

from hoop.processes.output import kept
from hoop.streams.reader import StreamReader


class NativeOutputReader(StreamReader):
    """The reader that asyncio's subprocesses use after hoop.install()."""

    _output = b""

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes, or to the end of the output. See hoop.StreamReader.read."""
        data = await super().read(n)
        return data if n >= 0 else kept(self, data)
