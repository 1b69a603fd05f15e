"""A strategy of Hypothesis that draws worlds, so that a property is tested under many orders at once."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, TypeVar

from hoop.sim.driver import Script
from hoop.sim.running import Main, check_outside, simulate
from hoop.sim.settings import LIMIT, STUCK, Settings, check_main
from hoop.sim.stuck import Watcher

_T = TypeVar("_T")

SEED_MAX = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class SeededWorld:
    """A world that worlds() has drawn. Hypothesis shows it if the test fails."""

    seed: int
    settings: Settings = dataclasses.field(repr=False)

    def run(self, main: Main[_T]) -> _T:
        """Run a coroutine function in this world, and return its result."""
        check_outside()
        check_main(main)
        with Watcher(self.settings.stuck) as watcher:
            settings = self.settings.of_seed(self.seed)
            return simulate(main, settings, Script(self.seed), watcher=watcher)


def worlds(
    *,
    order: str = "mix",
    limit: float = LIMIT,
    step_us: tuple[int, int] = (0, 0),
    stuck: float | None = STUCK,
) -> Any:
    """Return a strategy of Hypothesis for worlds: each has a `seed`, and run(main). For arguments see run().

    Raises ImportError if Hypothesis is not installed.

        @given(hoop.sim.worlds(), st.lists(st.integers()))
        def test_queue(world, items):
            assert world.run(lambda: through_queue(items)) == items
    """
    settings = Settings(order=order, limit=limit, step_us=step_us, stuck=stuck)
    try:
        strategies = importlib.import_module("hypothesis.strategies")
    except ImportError:
        raise ImportError("worlds() needs Hypothesis: pip install hypothesis") from None
    seeds = strategies.integers(0, SEED_MAX)
    return seeds.map(lambda seed: SeededWorld(seed, settings))


__all__ = ["SeededWorld", "worlds"]
