"""Work with files in the page cache, in all the ways there are of not blocking a loop, or of blocking it.

`library` is one of: `hoop`, `aiofiles`, `anyio` (their asynchronous files), `to_thread` (the builtin
ones, each piece of work handed to a thread as a whole), `blocking` (the builtin ones, on the loop).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import workloads

Work = Callable[[int], Awaitable[None]]

MIB = 1024 * 1024
SMALL_BYTES = 4096
SMALL_FILES = 64
LINES = 1000
LARGE_MIB = 64
CHUNK_BYTES = 256 * 1024
PAGE_BYTES = 4096


def prepare(folder: Path) -> None:
    """Write the files that the work reads into a folder."""
    for i in range(SMALL_FILES):
        (folder / f"small-{i}").write_bytes(os.urandom(SMALL_BYTES))
    text = "".join(f"line {i} of a file of text, which ends here\n" for i in range(LINES))
    (folder / "text").write_text(text)
    piece = os.urandom(MIB)
    with open(folder / "large", "wb") as large:
        for _ in range(LARGE_MIB):
            large.write(piece)


async def call_here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


CALLERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "blocking": call_here,
    "to_thread": asyncio.to_thread,
}


def opener(library: str) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Return the library's open(), to be used with `async with`."""
    if library == "anyio":
        open_file = workloads.attribute("anyio", "open_file")

        @asynccontextmanager
        async def open_with_anyio(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
            async with await open_file(*arguments, **options) as file:
                yield file

        return open_with_anyio
    opened: Callable[..., AbstractAsyncContextManager[Any]] = workloads.attribute(library, "open")
    return opened


async def at_a_time(tasks: int, n: int, work: Work) -> None:
    await asyncio.gather(*(work(-(-n // tasks)) for _ in range(tasks)))


# ---- small files: open, read, close ----


def read_file(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@asynccontextmanager
async def small(library: str, folder: str, at_once: int) -> AsyncIterator[Work]:
    paths = [Path(folder, f"small-{i}") for i in range(SMALL_FILES)]

    if library in CALLERS:
        call = CALLERS[library]

        async def read_one(path: Path) -> Any:
            return await call(read_file, path)

    else:
        open_file = opener(library)

        async def read_one(path: Path) -> Any:
            async with open_file(path, "rb") as file:
                return await file.read()

    async def read_some(times: int) -> None:
        for i in range(times):
            if len(await read_one(paths[i % SMALL_FILES])) != SMALL_BYTES:
                raise AssertionError("the file is of another size")

    yield lambda n: at_a_time(at_once, n, read_some)


# ---- lines of text ----


def count_lines(path: Path) -> int:
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in file)


@asynccontextmanager
async def lines(library: str, folder: str) -> AsyncIterator[Work]:
    """Iterate over the lines of a text file; n is a multiple of its lines."""
    text = Path(folder, "text")

    if library in CALLERS:
        call = CALLERS[library]

        async def count() -> Any:
            return await call(count_lines, text)

    else:
        open_file = opener(library)

        async def count() -> Any:
            found = 0
            async with open_file(text, encoding="utf-8") as file:
                async for _ in file:
                    found += 1
            return found

    async def work(n: int) -> None:
        for _ in range(n // LINES):
            if await count() != LINES:
                raise AssertionError("the file has other lines")

    yield work


# ---- a large file: from one end to the other, and here and there ----


@asynccontextmanager
async def sequential(library: str, folder: str) -> AsyncIterator[Work]:
    """Read a file of 64 MiB in chunks; n counts MiB and is a multiple of that."""
    large = Path(folder, "large")

    if library in CALLERS:
        call = CALLERS[library]

        async def read() -> int:
            length = 0
            with open(large, "rb", buffering=0) as file:
                while data := await call(file.read, CHUNK_BYTES):
                    length += len(data)
            return length

    else:
        open_file = opener(library)

        async def read() -> int:
            length = 0
            async with open_file(large, "rb", buffering=0) as file:
                while data := await file.read(CHUNK_BYTES):
                    length += len(data)
            return length

    async def work(n: int) -> None:
        for _ in range(n // LARGE_MIB):
            if await read() != LARGE_MIB * MIB:
                raise AssertionError("the file is of another size")

    yield work


@asynccontextmanager
async def scattered(library: str, folder: str, at_once: int) -> AsyncIterator[Work]:
    """Read pages from anywhere in a large file, so many at a time, each reader with a file of its own."""
    large = Path(folder, "large")

    def offsets(times: int) -> list[int]:
        pick = random.Random(times).randrange
        return [pick(LARGE_MIB * MIB // PAGE_BYTES) * PAGE_BYTES for _ in range(times)]

    if library in CALLERS:
        call = CALLERS[library]

        async def read_some(times: int) -> None:
            with open(large, "rb", buffering=0) as file:
                for offset in offsets(times):
                    await call(os.pread, file.fileno(), PAGE_BYTES, offset)

    else:
        open_file = opener(library)

        async def read_some(times: int) -> None:
            async with open_file(large, "rb", buffering=0) as file:
                for offset in offsets(times):
                    await file.seek(offset)
                    await file.read(PAGE_BYTES)

    yield lambda n: at_a_time(at_once, n, read_some)
