"""Helpers of the process tests: a program that no child can run yet, and the remains of children."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


class HeldProgram:
    """A copy of a program on whose file we hold a lease: a child that is to run it waits in exec.

    Like one on a network disk that does not answer. Until release(), or until the child is killed.
    """

    def __init__(self, folder: Path, program: str) -> None:
        self.path = str(folder / f"held-{os.path.basename(program)}")
        shutil.copy(program, self.path)
        self.reached = 0  # how many children have come to it
        self._fd = os.open(self.path, os.O_RDONLY)
        self._before = signal.signal(signal.SIGIO, self._on_reached)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as exc:
            self.close()
            pytest.skip(f"there are no leases on files in {folder}: {exc}")

    def _on_reached(self, *_: object) -> None:
        self.reached += 1

    def release(self) -> None:
        """Let every child go on."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        """Let every child go on, and clean up."""
        os.close(self._fd)
        signal.signal(signal.SIGIO, self._before)


@contextlib.contextmanager
def held_program(folder: Path, program: str = "/bin/true") -> Iterator[HeldProgram]:
    """A program that a child reaches, but does not run before it is released."""
    held = HeldProgram(folder, program)
    try:
        yield held
    finally:
        held.close()


def children() -> set[int]:
    """The numbers of this process's children, ended ones too until somebody takes their status."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            text = Path(f"/proc/self/task/{thread}/children").read_text()
            found.update(int(word) for word in text.split())
    return found


def open_descriptors() -> int:
    """How many descriptors are open in this process."""
    return len(os.listdir("/proc/self/fd"))
