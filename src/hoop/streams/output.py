"""hoop's reader for the output of a child. See hoop/processes/output.py, which gives it to the child."""

from __future__ import annotations

from hoop.processes.output import kept
from hoop.streams.reader import StreamReader


class NativeOutputReader(StreamReader):
    """hoop's reader, which asyncio's subprocesses use after hoop.install()."""

    _output = b""

    async def read(self, n: int = -1) -> bytes:
        """Read up to n bytes, or to the end. See hoop.StreamReader.read."""
        data = await super().read(n)
        return data if n >= 0 else kept(self, data)
