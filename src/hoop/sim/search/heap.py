"""Keeps what is older than the runs of a program from the collector, which looks at all the rest often."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from hoop.sim import swaps

# A program that has called gc.freeze() has more frozen objects. CPython 3.12 freezes 375 of its own.
FROZEN_MIN = 1000


def is_frozen() -> bool:
    """Whether the program has called gc.freeze() itself, as test suites do."""
    return gc.get_freeze_count() >= FROZEN_MIN


def all_objects() -> list[object]:
    """All objects that the collector knows. Those that the program has frozen stay frozen."""
    frozen = is_frozen()
    if frozen:
        gc.unfreeze()
    found = gc.get_objects()
    if frozen:
        gc.freeze()
    return found


def hash_classes() -> None:
    """Have classes hash by number, if none does yet. Call this before something is frozen."""
    swaps.hash_classes(all_objects)


@contextmanager
def set_apart() -> Iterator[None]:
    """Freeze all objects while the block runs. They stay as they are if the program has frozen its own.

    gc.unfreeze() knows only all objects. So the program's own would be collected again from then on.
    """
    hash_classes()
    if is_frozen():
        yield
        return
    gc.collect(1)  # a whole one takes as long as a hundred runs
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def freezing() -> Iterator[None]:
    """Let the block call gc.freeze(). Afterwards all is frozen that was before, or nothing."""
    hash_classes()
    frozen = is_frozen()
    try:
        yield
    finally:
        gc.unfreeze()
        if frozen:
            gc.collect()
            gc.freeze()
