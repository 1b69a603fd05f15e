"""A pytest plugin for tests that run in a simulation. pytest loads it by itself where hoop is installed.

    @pytest.mark.sim(seeds=200)
    async def test_orders(): ...

A test with the argument `world` gets a hoop.sim.World.

The test runs once for each seed, each time on a loop of its own. It works beside pytest-asyncio and anyio:
their plugins do not run a test with this mark. Fixtures are made once for all seeds, as for each other test.

    --sim-seed=17       run only this seed; HOOP_SIM_SEED=17 does that, too
    --sim-seeds=1000    run this many seeds in place of what the marks say
    --sim-order=mix     run them in this order
    --sim-minutes=5     run further seeds of each test for so long, or until one fails
    --sim-workers=4     run the seeds of each test in so many processes; those of pytest-xdist share them
    --sim-twice         run each seed twice, and compare
    --sim-trace=FILE    write what the shrunk run of the last test that failed has done
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import os
import re
import shlex
import sys
from typing import Any

import pytest

__tracebackhide__ = True  # pytest leaves the frames of this module out

SETTINGS = ("order", "limit", "depth", "faults", "names", "step_us", "stuck", "disk")
WORDS = ("seeds", *SETTINGS, "exhaustive", "max_runs", "shrink_seconds", "isolate")
HASHES = (
    "hoop.sim: PYTHONHASHSEED is random, so a seed may not fail again if the program "
    "iterates over sets of strings; set it to a number"
)


WORLD = object()  # the fixture `world`, until a seed runs


@pytest.fixture
def world() -> object:
    """Return the hoop.sim.World of each seed, for tests marked `sim`."""
    return WORLD


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("hoop.sim", "simulation (hoop)")
    group.addoption("--sim-seed", type=int, help="run tests marked `sim` with this seed only")
    group.addoption("--sim-seeds", type=int, help="run tests marked `sim` with this many seeds")
    group.addoption("--sim-order", help="the order of tasks in tests marked `sim`")
    group.addoption("--sim-minutes", type=float, help="run further seeds of each test for so long")
    group.addoption(
        "--sim-workers", type=int, help="run the seeds of each test in so many processes"
    )
    group.addoption("--sim-twice", action="store_true", help="run each seed twice, and compare")
    group.addoption("--sim-trace", metavar="FILE", help="write the trace of the run that failed")


def pytest_configure(config: pytest.Config) -> None:
    """Add the mark. Register the rest last, so that it comes before the plugins of asyncio and anyio."""
    config.addinivalue_line(
        "markers",
        "sim(seeds=200, order='wakes', limit=3600, ...): run an async test in a simulation, "
        "once for each seed",
    )
    config.pluginmanager.register(SimRunner(), "hoop.sim.runner")
    # Their classes say that they are builtins, where pickle does not find them: see hoop.sim's workers.
    for name in ("fail", "skip"):
        copyreg.pickle(getattr(pytest, name).Exception, functools.partial(_reduced, name))


def _reduced(name: str, outcome: Any) -> tuple[Any, ...]:
    """An exception of pytest's as pickle wants it."""
    return _made_again, (name,), vars(outcome)


def _made_again(name: str) -> Any:
    return getattr(pytest, name).Exception()


class SimRunner:
    """Runs the tests that have the mark."""

    def __init__(self) -> None:
        self.has_failed = False

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say once that hashes of strings are not those of the seed, if a seed has failed."""
        if self.has_failed and (os.environ.get("PYTHONHASHSEED") or "random") == "random":
            terminalreporter.write_line(HASHES)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note whether a seed has failed, perhaps in another process."""
        if report.failed and re.search(r"sim: seed -?\d+ (failed|ended)", report.longreprtext):
            self.has_failed = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> object | None:
        """Run an async test with each seed."""
        mark = pyfuncitem.get_closest_marker("sim")
        if mark is None:
            return None
        test = inspect.unwrap(pyfuncitem.obj)  # pytest-asyncio puts a function around it
        if not inspect.iscoroutinefunction(test):
            return None
        names = pyfuncitem._fixtureinfo.argnames
        # The world of each seed is an argument of its own: see hoop.sim.hosts.world.takes_world().
        arguments = {
            name: pyfuncitem.funcargs[name]
            for name in names
            if pyfuncitem.funcargs[name] is not WORLD
        }
        main = functools.partial(test, *self_of(pyfuncitem, test), **arguments)
        self.explore(pyfuncitem, mark, main)
        return True

    def explore(self, item: pytest.Function, mark: pytest.Mark, main: Any) -> None:
        """Run all seeds. A failure gets a note that says how to repeat it."""
        from hoop.sim.search.exploring import MAX_RUNS, SEEDS, Exploration
        from hoop.sim.search.shrinking import SECONDS_MAX
        from hoop.sim.settings import Settings, check_count, check_positive, seed_of_environment

        options = item.config.option
        given = mark.kwargs
        if set(given) - set(WORDS) or mark.args:
            pytest.fail(f"the mark `sim` takes {', '.join(WORDS)} only, each by its name", False)
        seeds = given.get("seeds", SEEDS) if options.sim_seeds is None else options.sim_seeds
        seed = seed_of_environment() if options.sim_seed is None else options.sim_seed
        named = {name: given[name] for name in SETTINGS if name in given}
        if options.sim_order:
            named["order"] = options.sim_order
        exhaustive = given.get("exhaustive", False)
        settings = Settings(**{"order": "single" if exhaustive else "wakes"} | named)
        exploration = Exploration(
            main,
            settings,
            seeds if seed is None else [seed],
            given.get("shrink_seconds", SECONDS_MAX),
            options.sim_trace,
            given.get("isolate", False),
        )
        workers = workers_of_one(item.config)
        if workers is not None and len(exploration.seeds) > 1:
            exploration.workers = workers
        exploration.twice = options.sim_twice
        exploration.subject.forget = functools.partial(forget_output, item.config)
        if options.sim_minutes is not None:
            check_positive("--sim-minutes", options.sim_minutes)
            exploration.minutes = options.sim_minutes
        exploration.again = functools.partial(again, item, options.sim_order, exhaustive)
        try:
            if exhaustive:
                max_runs = given.get("max_runs", MAX_RUNS)
                check_count("max_runs", max_runs)
                exploration.run_all_schedules(max_runs)
            else:
                exploration.run()
        except (pytest.skip.Exception, pytest.xfail.Exception) as exc:
            exc.__notes__ = []  # pytest would show them beside the reason
            raise
        except BaseException as exc:
            if exploration.failed is not None:
                self.has_failed = True
                if not exploration.is_reported and not isinstance(exc, Exception):
                    exc.add_note(f"again: {exploration.again(exploration.failed)}")
            raise


def workers_of_one(config: pytest.Config) -> int | None:
    """The number of processes for a test. Those of pytest-xdist share the ones that were asked for."""
    asked: int | None = config.option.sim_workers
    if asked is None or not hasattr(config, "workerinput"):
        return asked
    share = asked // int(config.workerinput["workercount"])
    return share if share > 1 or asked < 1 else None


def forget_output(config: pytest.Config) -> None:
    """Have pytest forget what a test has written and logged, so that it shows that of the last run only."""
    plugins = config.pluginmanager
    capture: Any = plugins.get_plugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        capture.read_global_capture()
    logs: Any = plugins.get_plugin("logging-plugin")
    if logs is not None:
        logs.report_handler.reset()


def self_of(item: pytest.Function, test: Any) -> tuple[Any, ...]:
    """The first argument of a method that has been unwrapped, and so is not bound any more."""
    if inspect.ismethod(test) or item.cls is None:
        return ()
    if isinstance(inspect.getattr_static(item.cls, item.originalname, None), staticmethod):
        return ()
    return (getattr(item.obj, "__self__", item.instance),)


def named_from_here(item: pytest.Function) -> str:
    """The name of a test that pytest takes in the folder in which it was called."""
    path, _, rest = item.nodeid.partition("::")
    config = item.config
    return f"{os.path.relpath(config.rootpath / path, config.invocation_params.dir)}::{rest}"


def again(item: pytest.Function, order: str | None, exhaustive: bool, seed: int) -> str:
    """The command that runs a test with one seed again."""
    hashing = os.environ.get("PYTHONHASHSEED") or "random"
    words = [f"PYTHONHASHSEED={hashing}"] if hashing != "random" else []
    words += ["pytest", shlex.quote(named_from_here(item))]
    if not exhaustive:
        words.append(f"--sim-seed={seed}")
    if order:
        words.append(f"--sim-order={order}")
    return " ".join(words)
