"""The settings of a simulation, checked."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Sequence
from typing import Any

from hoop.sim.driver import ORDERS, Choices
from hoop.sim.net.weather import Faults, Names, check_names
from hoop.sim.storage.disks import Disk

LIMIT = 3600.0
DEPTH = 3
STUCK = 30.0
ALL_ORDERS = (*ORDERS, "mix")
SEED_VARIABLE = "HOOP_SIM_SEED"
OF_KIND = 5  # the stream of numbers for the order of a mix


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that holds for each run of an exploration. Wrong values raise TypeError or ValueError."""

    order: str = "wakes"
    limit: float = LIMIT  # virtual seconds that a run may take
    depth: int = DEPTH  # of the order `pct`
    step_us: tuple[int, int] = (0, 0)  # virtual microseconds that a turn takes, from and to
    stuck: float | None = STUCK  # real seconds that a turn may take
    disk: Disk | None = None  # None is the real one
    faults: Faults | None = None  # how often the network fails
    names: Names | None = None  # the addresses of hosts

    def __post_init__(self) -> None:
        if self.order not in ALL_ORDERS:
            raise ValueError(f"order must be one of {', '.join(ALL_ORDERS)}, not {self.order!r}")
        check_positive("limit", self.limit)
        if self.stuck is not None:
            check_positive("stuck", self.stuck)
        if type(self.depth) is not int or not 1 <= self.depth <= 1000:
            raise ValueError(f"depth must be a number from 1 to 1000, not {self.depth!r}")
        if self.disk is not None and not isinstance(self.disk, Disk):
            raise TypeError(f"disk must be a hoop.sim.Disk, not {type(self.disk).__name__}")
        if self.faults is not None and not isinstance(self.faults, Faults):
            raise TypeError(f"faults must be hoop.sim.Faults, not {type(self.faults).__name__}")
        if self.names is not None:
            check_names(self.names)
        pair = self.step_us
        if (
            not isinstance(pair, tuple)
            or len(pair) != 2
            or not all(type(us) is int for us in pair)
            or not 0 <= pair[0] <= pair[1] <= 10**9
        ):
            raise ValueError(
                f"step_us must be two numbers (from, to) of microseconds, such as (1, 50), not {pair!r}"
            )

    def with_copy_of_disk(self) -> Settings:
        """These settings for one of several runs, each of which begins with the same disk."""
        return self if self.disk is None else dataclasses.replace(self, disk=self.disk.copy())

    def of_seed(self, seed: int) -> Settings:
        """These settings with the order of a seed: a mix is half `wakes`, the rest `single` and `pct`."""
        if self.order != "mix":
            return self
        order = ("wakes", "wakes", "single", "pct")[Choices(seed, OF_KIND).choose(4)]
        return dataclasses.replace(self, order=order)


def check_positive(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless a value is a time that is greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 < value <= 1e9:
        raise ValueError(f"{name} must be greater than 0, and at most 1e9, not {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless a value is a whole number, 1 or greater."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or greater, not {value}")


def check_seed(seed: Any) -> None:
    """Raise TypeError unless a seed is a whole number."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"a seed must be a whole number, not {type(seed).__name__}")


def check_choices(choices: Any) -> None:
    """Raise TypeError unless choices are (site, n, value), as a report shows them."""
    if not isinstance(choices, Sequence):
        raise TypeError(
            f"choices must be a sequence, or a file with a trace, not {type(choices).__name__}"
        )
    for choice in choices:
        match choice:
            case (str(), int(), int(value)) if value >= 0:
                continue
        raise TypeError(
            f"choices must be (site, n, value), such as ('order', 3, 1), not {choice!r}"
        )


def check_trace(trace: Any) -> None:
    """Raise TypeError unless a trace can be written to the path of a file, or is not wanted."""
    if trace is not None and not isinstance(trace, str | os.PathLike):
        raise TypeError(f"trace must be a path, not {type(trace).__name__}")


def check_main(main: Any) -> None:
    """Raise TypeError unless `main` can be called."""
    if inspect.iscoroutine(main):
        main.close()
        raise TypeError("main must be the coroutine function itself: main, not main()")
    if not callable(main):
        raise TypeError(f"main must be a coroutine function, not {type(main).__name__}")


def seed_of_environment() -> int | None:
    """The seed that HOOP_SIM_SEED names. None if it names none."""
    text = os.environ.get(SEED_VARIABLE, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{SEED_VARIABLE} must be a whole number, not {text!r}") from None
