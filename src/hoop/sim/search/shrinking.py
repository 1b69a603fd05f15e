"""Finds the few choices of a failing run that matter: the others are made plain, while it still fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

Choice = tuple[str, int, int]

RUNS_MAX = 1000
SECONDS_MAX = 5.0


class Shrunk(NamedTuple):
    """The choices that are left, and what it took to find them."""

    choices: list[Choice]
    runs: int
    complete: bool  # whether each choice that is left has been tried


def that_matter(choices: list[Choice]) -> list[int]:
    """The places of the choices that are not plain."""
    return [i for i, (_, _, value) in enumerate(choices) if value]


def trimmed(choices: list[Choice]) -> list[Choice]:
    """The choices without the plain ones at the end, which a run takes by itself."""
    matter = that_matter(choices)
    return choices[: matter[-1] + 1] if matter else []


def shrink(
    choices: list[Choice],
    fails: Callable[[list[Choice]], list[Choice] | None],
    runs_max: int = RUNS_MAX,
    seconds: float = SECONDS_MAX,
) -> Shrunk:
    """Make choices plain, many at once, then fewer, then one by one.

    `fails` runs the program with choices, and returns those that it came to if it failed in the same way, or
    None. All ends after so many runs, or so many seconds of real time.
    """
    until = time.monotonic() + seconds
    runs = 0
    best = choices
    size = len(that_matter(best))
    while size:
        smaller = False
        end = len(that_matter(best))
        while end > 0:  # from the end: what comes late changes least of the rest
            if runs >= runs_max or time.monotonic() > until:
                return Shrunk(trimmed(best), runs, False)
            matter = that_matter(best)
            end = min(end, len(matter))
            plain = set(matter[max(end - size, 0) : end])
            tried = [(s, n, 0 if i in plain else value) for i, (s, n, value) in enumerate(best)]
            found = fails(trimmed(tried))
            runs += 1
            if found is not None and len(that_matter(found)) < len(matter):
                best, smaller = found, True
            end -= size
        if size == 1 and not smaller:
            break
        size = max(min(size, len(that_matter(best))) // 2, 1) if that_matter(best) else 0
    return Shrunk(trimmed(best), runs, True)


__all__ = ["Choice", "Shrunk", "shrink", "that_matter", "trimmed"]
