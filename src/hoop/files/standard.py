"""The process's standard streams for `await`: stdin, stdout, stderr, and the same in bytes.

Output goes through sys.stdout and sys.stderr, and so keeps its order with print(). A thread, which a
cancellation stops, reads input from the descriptor itself. Each loop has its own buffer. Data that one loop
or `input()` has read ahead is lost to the others.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from hoop.files import engine
from hoop.files.file import BinaryFile, TextFile
from hoop.files.opening import open

_opened: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


class StandardInput:
    """Standard input. Each loop opens it when your code first reads there."""

    def __init__(self, mode: str) -> None:
        self._mode = mode

    async def _file(self) -> BinaryFile | TextFile:
        files = _opened.setdefault(engine.running_loop(), {})
        if self._mode not in files:
            if self._mode == "r":
                encoding = getattr(sys.__stdin__, "encoding", None) or "utf-8"
                errors = getattr(sys.__stdin__, "errors", None)
                files["r"] = await open(0, "r", -1, encoding, errors, closefd=False)
            else:
                files["rb"] = await open(0, "rb", closefd=False)
        file: BinaryFile | TextFile = files[self._mode]
        return file

    async def read(self, size: int = -1, /) -> Any:
        """Read up to `size` characters or bytes, or everything until the end."""
        return await (await self._file()).read(size)

    async def readline(self, size: int = -1, /) -> Any:
        """Read a line."""
        return await (await self._file()).readline(size)

    async def readlines(self, hint: int = -1, /) -> list[Any]:
        """Read all lines until the end."""
        return await (await self._file()).readlines(hint)

    def fileno(self) -> int:
        """Return the descriptor, 0."""
        return 0

    def __aiter__(self) -> StandardInput:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class StandardOutput:
    """Standard output or error: the stream that sys has under that name when you write."""

    def __init__(self, name: str, binary: bool) -> None:
        self._name = name
        self._binary = binary

    @property
    def _stream(self) -> Any:
        stream = getattr(sys, self._name)
        return stream.buffer if self._binary else stream

    async def write(self, data: Any, /) -> int:
        """Write on a thread, because a pipe or a terminal may not take the data now."""
        n: int = await engine.in_own_thread(self._stream.write, data)
        return n

    async def writelines(self, lines: Any, /) -> None:
        """Write several pieces, one after the other."""
        await engine.in_own_thread(self._stream.writelines, lines)

    async def flush(self) -> None:
        """Hand all written data to the kernel."""
        await engine.in_own_thread(self._stream.flush)

    def fileno(self) -> int:
        """Return the descriptor."""
        number: int = self._stream.fileno()
        return number

    def isatty(self) -> bool:
        """Return True if the stream is a terminal."""
        answer: bool = self._stream.isatty()
        return answer


stdin = StandardInput("r")
stdin_bytes = StandardInput("rb")
stdout = StandardOutput("stdout", False)
stdout_bytes = StandardOutput("stdout", True)
stderr = StandardOutput("stderr", False)
stderr_bytes = StandardOutput("stderr", True)
