"""Child processes: runs several shell commands at a time, and prints their output line by line.

    python examples/run_parallel.py 'echo one; sleep 1; echo two' 'ls /' 'exit 3'

The exit status is 1 if a command failed. A command that takes longer than ten seconds is killed.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import hoop

AT_A_TIME = 4
SECONDS = 10.0


async def run(number: int, command: str, turn: hoop.Semaphore) -> int:
    """Run one command once it is its turn. Returns its exit status, negative if a signal ended it."""
    async with turn:
        process = await asyncio.create_subprocess_shell(
            command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(SECONDS):
                async for line in process.stdout:
                    print(f"[{number}] {line.decode(errors='replace').rstrip()}", flush=True)
                return await process.wait()
        except TimeoutError:
            print(f"[{number}] took longer than {SECONDS:g} s", flush=True)
            process.kill()
            return await process.wait()


async def main(commands: list[str]) -> int:
    turn = hoop.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(n, c, turn)) for n, c in enumerate(commands, 1)]
    failed = [n for n, task in enumerate(tasks, 1) if task.result() != 0]
    print("failed:", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(hoop.run(main(sys.argv[1:])))
