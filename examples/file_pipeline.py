"""A pipeline over files: counts the words of every text file below a folder, and writes the counts.

    python examples/file_pipeline.py docs counts.txt

One task finds the files, four read them, one adds up. No step blocks the loop: the driver or a thread
waits for the disk. The queues are short, so a slow step slows down those before it.
"""

from __future__ import annotations

import asyncio
import collections
import re
import sys

import hoop

READERS = 4


async def find(folder: str, paths: hoop.Queue[hoop.Path | None]) -> None:
    async for path in hoop.Path(folder).rglob("*"):
        if path.suffix in (".md", ".txt"):
            await paths.put(path)
    for _ in range(READERS):
        await paths.put(None)  # one end for each reader


async def read(paths: hoop.Queue[hoop.Path | None], lines: hoop.Queue[str | None]) -> None:
    while (path := await paths.get()) is not None:
        async with hoop.open(path, encoding="utf-8", errors="replace") as file:
            async for line in file:
                await lines.put(line)
    await lines.put(None)


async def count(lines: hoop.Queue[str | None]) -> collections.Counter[str]:
    words: collections.Counter[str] = collections.Counter()
    for _ in range(READERS):
        while (line := await lines.get()) is not None:
            words.update(re.findall(r"\w+", line.lower()))
    return words


async def main(folder: str, result: str) -> None:
    paths: hoop.Queue[hoop.Path | None] = hoop.Queue(16)
    lines: hoop.Queue[str | None] = hoop.Queue(1000)
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count(lines))
        group.create_task(find(folder, paths))
        for _ in range(READERS):
            group.create_task(read(paths, lines))
    ranked = sorted(counting.result().items(), key=lambda item: (-item[1], item[0]))
    text = "".join(f"{n}\t{word}\n" for word, n in ranked)
    await hoop.write_text(result, text, atomic=True)  # readers see the old file or the new one
    print(f"{counting.result().total()} words, {len(ranked)} different")


if __name__ == "__main__":
    hoop.run(main(sys.argv[1], sys.argv[2]))
