"""A pytest plugin for tests that run in a simulation. pytest loads it by itself where hoop is installed.

    @pytest.mark.sim(seeds=200)
    async def test_orders(): ...

The test runs once for each seed, each time on a loop of its own. It works beside pytest-asyncio and anyio:
their plugins do not run a test with this mark. Fixtures are made once for all seeds, as for each other test.

    --sim-seed=17       run only this seed
    --sim-seeds=1000    run this many seeds in place of what the marks say
    --sim-order=mix     run them in this order
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from typing import Any

import pytest

WORDS = ("seeds", "order", "limit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("hoop.sim", "simulation (hoop)")
    group.addoption("--sim-seed", type=int, help="run tests marked `sim` with this seed only")
    group.addoption("--sim-seeds", type=int, help="run tests marked `sim` with this many seeds")
    group.addoption("--sim-order", help="the order of tasks in tests marked `sim`")


def pytest_configure(config: pytest.Config) -> None:
    """Add the mark. Register the rest last, so that it comes before the plugins of asyncio and anyio."""
    config.addinivalue_line(
        "markers",
        "sim(seeds=200, order='wakes', limit=3600): run an async test in a simulation, once for each seed",
    )
    config.pluginmanager.register(SimRunner(), "hoop.sim.runner")


class SimRunner:
    """Runs the tests that have the mark."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> object | None:
        """Run an async test with each seed."""
        mark = pyfuncitem.get_closest_marker("sim")
        if mark is None:
            return None
        test = inspect.unwrap(pyfuncitem.obj)  # pytest-asyncio puts a function around it
        if not inspect.iscoroutinefunction(test):
            return None
        bound = getattr(pyfuncitem.obj, "__self__", pyfuncitem.instance)
        names = pyfuncitem._fixtureinfo.argnames
        arguments = {name: pyfuncitem.funcargs[name] for name in names}
        if inspect.ismethod(test) or bound is None:
            main = functools.partial(test, **arguments)
        else:
            main = functools.partial(test, bound, **arguments)
        self.explore(pyfuncitem, mark, main)
        return True

    def explore(self, item: pytest.Function, mark: pytest.Mark, main: Any) -> None:
        """Run all seeds. A failure gets notes that say how to repeat it."""
        from hoop.sim.search.exploring import SEEDS, Exploration
        from hoop.sim.settings import Settings

        options = item.config.option
        unknown = set(mark.kwargs) - set(WORDS)
        if unknown or mark.args:
            pytest.fail(f"the mark `sim` takes {', '.join(WORDS)} only, each by its name", False)
        asked = options.sim_seeds or mark.kwargs.get("seeds", SEEDS)
        seeds = range(asked) if isinstance(asked, int) else asked
        if options.sim_seed is not None:
            seeds = [options.sim_seed]
        order = options.sim_order or mark.kwargs.get("order", "wakes")
        settings = Settings(order=order, limit=mark.kwargs.get("limit", 3600.0))
        exploration = Exploration(main, settings, seeds)
        exploration.again = lambda seed: again(item, seed, options.sim_order)
        try:
            exploration.run()
        except (SystemExit, KeyboardInterrupt) as exc:
            if exploration.failed is not None:
                exc.add_note(f"again: {exploration.again(exploration.failed)}")
            raise


def again(item: pytest.Function, seed: int, order: str | None) -> str:
    """The command that runs a test with one seed again."""
    hashing = os.environ.get("PYTHONHASHSEED", "random")
    words = [f"PYTHONHASHSEED={hashing}"] if hashing != "random" else []
    words += ["pytest", shlex.quote(item.nodeid), f"--sim-seed={seed}"]
    if order:
        words.append(f"--sim-order={order}")
    return " ".join(words)
