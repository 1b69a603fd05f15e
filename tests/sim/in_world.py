"""A plugin of pytest that runs hoop's own tests in simulations.

    HOOP_SIM_SEED=7 HOOP_SIM_SEEDS=100 pytest -p in_world tests/streams

Each test runs with so many seeds, from this one on; without the variables with seed 0. The fixture `run`
begins a world for each coroutine. A test that has the fixture `loop` is in a world as a whole. A test is
skipped if it needs more than is simulated.

In tests of files, the files of the simulated disk are put on the real one after each run, where the test
looks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import left_out
import peers
import pytest
import tls_peers

import hoop.sim
from hoop.sim.driver import ORDERS, Script
from hoop.sim.errors import Unsimulated
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.net.weather import WHOLE
from hoop.sim.running import collecting_nothing, entered, made, ruling
from hoop.sim.settings import Settings
from hoop.sim.storage.tree import File, Folder, Link
from hoop.sim.stuck import Watcher
from hoop.sim.threads.turns import Threads

FIRST = int(os.environ.get("HOOP_SIM_SEED", "0"))
SEEDS = int(os.environ.get("HOOP_SIM_SEEDS", "1"))
STEP_US = (1, 500)  # tests wait for a time by taking turns
STUCK = 10.0
# A connection may have any delay and any pieces. Tests of datagrams want each to arrive once.
FAULTS = hoop.sim.Faults(loss=0.0, duplicate=0.0)
CALM = hoop.sim.Faults(loss=0.0, duplicate=0.0, pieces=0.0, partial=0.0, spikes=0.0)


def settings_of(item: Any, **more: Any) -> Settings:
    """The settings for a test with a seed: each order in turn, unless the test needs one of its own."""
    orders = ORDERS
    if is_listed(item, left_out.IN_ORDER):
        orders = ("fifo",)
    elif is_listed(item, left_out.BY_TURNS):
        orders = ("fifo", "wakes", "starts")
    order = orders[seed_of(item) % len(orders)]
    faults = CALM if is_listed(item, left_out.WHOLE) else FAULTS
    return Settings(order, step_us=STEP_US, stuck=STUCK, faults=faults, **more)


def seed_of(item: Any) -> int:
    """The seed of a test."""
    seed: int = item.callspec.params["sim_seed"]
    return seed


def make_fast(loop: Any) -> None:
    """Let the network of a world take as much as is sent: tests wait for megabytes, and for ten seconds."""
    weather = loop.network.weather
    weather.bandwidth, weather.window = 0.0, WHOLE


# ---- files -----------------------------------------------------------------------------------------


def put(node: object, path: bytes) -> None:
    """Put a node of a simulated disk in a place of the real one."""
    if isinstance(node, Folder):
        if not os.path.isdir(path):
            os.mkdir(path, node.mode)
        for name, child in node.names.items():
            put(child, os.path.join(path, name))
    elif isinstance(node, File) and node.below is not None:
        if node.below != path:
            shutil.copy2(node.below, path)
    elif isinstance(node, File):
        with open(path, "wb") as file:
            file.write(node.content())
        os.chmod(path, node.mode)
    elif isinstance(node, Link):
        if not os.path.islink(path):
            os.symlink(node.target, path)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


# ---- a coroutine in a world ------------------------------------------------------------------------


def run_in_world(item: Any, folder: str | None) -> Callable[..., Any]:
    """The fixture `run`: a function that runs a coroutine in a world, with files if they have a folder."""

    def run(coro: Any, *, debug: bool | None = None, limit: float | None = None) -> Any:
        shorts = 0.0 if is_listed(item, left_out.WHOLE) else 0.1
        disk = None if folder is None else hoop.sim.Disk(short_reads=shorts, short_writes=shorts)

        async def main() -> Any:
            make_fast(asyncio.get_running_loop())
            if debug is not None:
                asyncio.get_running_loop().set_debug(debug)
            return await coro

        settings = settings_of(item, disk=disk)
        try:
            return hoop.sim.run(main, seed=seed_of(item), **vars(settings))
        finally:
            if disk is not None and folder is not None:
                place = disk.find(folder)
                if isinstance(place.node, Folder):
                    put(place.node, os.fsencode(folder))

    return run


# ---- a test in a world -----------------------------------------------------------------------------


class Stage:
    """The world that a test is in as a whole, with one loop."""

    def __init__(self, item: Any) -> None:
        seed = seed_of(item)
        self.settings = settings_of(item)
        self.script = Script(seed)
        self.watcher = Watcher(STUCK)
        self.loops = 0
        self.loop = SimEventLoop(seed, self.settings.order, step_us=STEP_US, script=self.script)
        self.whole = contextlib.ExitStack()  # until the test's end
        self.world = self.whole.enter_context(made(self.loop, self.settings, self.script))
        self.inside: contextlib.ExitStack | None = None
        make_fast(self.loop)

    def new_loop(self) -> SimEventLoop:
        """The loop, once."""
        self.loops += 1
        if self.loops > 1:
            raise Unsimulated("a second loop", "write the test for one")
        return self.loop

    def enter(self) -> None:
        """Have this thread in the world from now on."""
        assert self.inside is None
        with contextlib.ExitStack() as stack:
            stack.enter_context(collecting_nothing())
            stack.enter_context(ruling(self.loop, self.settings, self.script))
            stack.enter_context(entered(self.world, self.settings, self.watcher))
            self.inside = stack.pop_all()

    def leave(self, *exc: Any) -> None:
        """Have this thread outside of the world."""
        assert self.inside is not None
        stack, self.inside = self.inside, None
        stack.__exit__(*(exc or (None, None, None)))

    def close(self) -> None:
        """End the world."""
        with self.whole:
            self.enter()
            try:
                self.loop.close()
                self.world.close()
            finally:
                self.leave()


_stage: Stage | None = None  # of the test that runs


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Leave the world for a while."""
    stage = _stage
    if stage is None or stage.inside is None:
        yield
        return
    stage.leave()
    try:
        yield
    finally:
        stage.enter()


def refuse_thread(*_: Any) -> Any:
    """Tests with threads state what holds of real ones: which loop a thread has, for example."""
    raise Unsimulated("a thread of a test", "see test_simulated_threads.py")


Threads.start = refuse_thread  # type: ignore[method-assign]
real_on_asyncio = peers.on_asyncio


@functools.wraps(real_on_asyncio)
def on_asyncio(script: Any) -> Any:
    """The record of a script on asyncio's loop, which has the real network."""
    with outside():
        return real_on_asyncio(script)


peers.on_asyncio = on_asyncio  # before the tests import it


# ---- the plugin ------------------------------------------------------------------------------------

OURS = ("run", "new_loop")


def pytest_sessionstart(session: Any) -> None:
    """Make what a simulation could not make: openssl is a process."""
    tls_peers.certificate()


@pytest.fixture
def sim_seed(request: Any) -> int:
    """The seed of a test."""
    seed: int = request.param
    return seed


def pytest_generate_tests(metafunc: Any) -> None:
    """Run each test once for each seed."""
    if is_simulated(metafunc.fixturenames):
        metafunc.fixturenames.append("sim_seed")
        seeds = range(FIRST, FIRST + SEEDS)
        metafunc.parametrize("sim_seed", seeds, indirect=True, ids=lambda seed: f"seed {seed}")


def is_simulated(names: Any) -> bool:
    """Whether a test with these fixtures can be in a world."""
    return not set(OURS).isdisjoint(names)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests that can be simulated. They run once, not for each driver."""
    items[:] = [item for item in items if is_simulated(item.fixturenames) and not is_left_out(item)]


def is_left_out(item: Any) -> bool:
    """Whether a test is not to run: it is for another driver, or about what no world has."""
    lists = ["uring", *left_out.REAL.values()]
    if is_of_files(item):
        lists.append(left_out.REAL_FILES)
        if is_world_of_its_own(item):  # no disk is mounted there
            return True
    if not {"tiny_disk", "disk"}.isdisjoint(item.fixturenames):  # they are mounted
        return True
    return any(is_listed(item, names) for names in lists)


def is_of_files(item: Any) -> bool:
    """Whether a test is one of those of files."""
    return "files" in item.path.parts


@functools.cache
def names_in(listed: str) -> tuple[str, ...]:
    """The names in a list, which is a text."""
    return tuple(listed.split())


def is_listed(item: Any, listed: str) -> bool:
    """Whether a list has a test, by a part of its name."""
    return any(name in item.name for name in names_in(listed))


def is_world_of_its_own(item: Any) -> bool:
    """Whether a test is in a world as a whole."""
    names = item.fixturenames
    return "loop" in names or "new_loop" in inspect.signature(item.obj).parameters


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """Put our `run` and our `new_loop` in the place of the fixtures."""
    global _stage
    if fixturedef.argname not in OURS:
        return None
    item = request.node
    if fixturedef.argname == "run":
        folder = str(request.getfixturevalue("tmp_path")) if is_of_files(item) else None
        ours: Any = run_in_world(item, folder)
    elif not is_world_of_its_own(item):
        ours = None  # the fixture `run` asks for it, and ours does not need it
    else:
        stage = _stage = Stage(item)
        fixturedef.addfinalizer(functools.partial(end, stage))
        ours = stage.new_loop
    fixturedef.cached_result = (ours, fixturedef.cache_key(request), None)
    return ours


def end(stage: Stage) -> None:
    """The test is over."""
    global _stage
    _stage = None
    stage.close()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Any:
    """Run a test in its world, if it has one. It is skipped if it needs what is not simulated."""
    try:
        if _stage is None:
            return (yield)
        with _stage.watcher:
            _stage.enter()
            try:
                result = yield
            except BaseException as exc:
                _stage.leave(type(exc), exc, exc.__traceback__)
                raise
            _stage.leave()
            return result
    except Unsimulated as exc:
        skipped(pyfuncitem, exc)


def skipped(item: Any, exc: BaseException) -> None:
    """Skip a test. Its remains are no news."""
    import conftest

    item.stash[conftest.failed_key] = True
    pytest.skip(str(exc).splitlines()[0])
